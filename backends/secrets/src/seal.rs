//! Sealed envelopes: XChaCha20-Poly1305 with a key of the ring.
//!
//! The nonce is random (24 bytes: no counter has to be kept over restarts and processes). Everything that decides
//! whose secrets these are and how long they hold is authenticated, so that an envelope cannot be moved to another
//! tenant, extension or install, nor have its version or expiry changed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use longshore_proto::call::SecretEnvelope;
use zeroize::Zeroizing;

use crate::keyring::{Key, KeyRing};
use crate::scope::Scope;
use crate::texts::{SecretTexts, TextsError};
use crate::{MAX_ENVELOPE_BYTES, MAX_PLAIN_BYTES};

/// `algorithm` of a sealed envelope.
pub const ALGORITHM: &str = "longshore-sealed:v1";
const NONCE_BYTES: usize = 24;

/// How an envelope is closed, by its `algorithm` (interop 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything that is not said below, or nothing: base64 of the JSON.
    Inline,
    /// By Vault's transit engine.
    Vault,
    /// By this module.
    Sealed,
    /// By a later version of this module.
    SealedOtherwise,
}

impl Kind {
    pub(crate) fn of(envelope: &SecretEnvelope) -> Self {
        let algorithm = envelope.algorithm.as_deref().unwrap_or_default().trim().to_ascii_lowercase();
        if algorithm == ALGORITHM {
            Self::Sealed
        } else if algorithm.starts_with("longshore-sealed") {
            Self::SealedOtherwise
        } else if algorithm.starts_with("vault-transit") {
            Self::Vault
        } else {
            Self::Inline
        }
    }
}

/// Why secrets cannot be sealed. Nothing of them is repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The inline envelope is no base64.
    #[error("the inline envelope is no base64")]
    Base64,
    /// The inline envelope's content is no set of secrets.
    #[error("the inline envelope holds {0}")]
    Texts(TextsError),
    /// Too large.
    #[error("the secrets are over {MAX_PLAIN_BYTES} bytes")]
    TooLarge,
    /// The cipher refused.
    #[error("the secrets cannot be sealed")]
    Cipher,
}

/// What is authenticated beside the secrets: each part with its length, so that no two scopes give the same bytes.
fn bound(key_id: &str, scope: &Scope<'_>, version: Option<&str>, expires_at: Option<&str>) -> Vec<u8> {
    let mut bytes = ALGORITHM.as_bytes().to_vec();
    let required = [key_id, scope.tenant.as_str(), scope.extension.as_str()].map(Some);
    for part in required.into_iter().chain([scope.install, version, expires_at]) {
        bytes.push(u8::from(part.is_some()));
        let part = part.unwrap_or_default();
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&(*key.bytes).into())
}

impl KeyRing {
    /// Seals secrets that do not expire, as `scope.version`.
    ///
    /// # Errors
    /// They are over [`MAX_PLAIN_BYTES`].
    pub fn seal(&self, scope: &Scope<'_>, plain: &SecretTexts) -> Result<SecretEnvelope, SealError> {
        self.seal_until(scope, plain, None)
    }

    /// Seals secrets, as `scope.version`, until `expires_at` (RFC 3339; checked when it is opened).
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub fn seal_until(
        &self,
        scope: &Scope<'_>,
        plain: &SecretTexts,
        expires_at: Option<&str>,
    ) -> Result<SecretEnvelope, SealError> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        self.seal_json(scope, &plain.to_json(), owned(scope.version), owned(expires_at))
    }

    /// Seals an inline envelope, which keeps its version and expiry. One that is blank, sealed already or Vault's
    /// passes as it is.
    ///
    /// # Errors
    /// The inline envelope is malformed or too large.
    pub fn seal_inline(
        &self,
        scope: &Scope<'_>,
        envelope: SecretEnvelope,
    ) -> Result<SecretEnvelope, SealError> {
        if !is_plain(&envelope) {
            return Ok(envelope);
        }
        let json = decode_inline(&envelope)?;
        // What no worker could open is refused here already.
        SecretTexts::parse(&json).map_err(SealError::Texts)?;
        let SecretEnvelope { ciphertext_b64, version, expires_at, .. } = envelope;
        drop(Zeroizing::new(ciphertext_b64));
        self.seal_json(scope, &json, version, expires_at)
    }

    fn seal_json(
        &self,
        scope: &Scope<'_>,
        json: &[u8],
        version: Option<String>,
        expires_at: Option<String>,
    ) -> Result<SecretEnvelope, SealError> {
        if json.len() > MAX_PLAIN_BYTES {
            return Err(SealError::TooLarge);
        }
        let key = self.sealing().ok_or(SealError::Cipher)?;
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let aad = bound(&key.id, scope, version.as_deref(), expires_at.as_deref());
        let payload = Payload { msg: json, aad: &aad };
        let sealed = cipher(key).encrypt(&nonce.into(), payload).map_err(|_| SealError::Cipher)?;
        Ok(SecretEnvelope {
            ciphertext_b64: BASE64.encode([nonce.as_slice(), &sealed].concat()),
            algorithm: Some(ALGORITHM.to_owned()),
            version,
            expires_at,
            key_path: Some(key.id.clone()),
            mount: None,
        })
    }

    /// The JSON inside a sealed envelope; none when it was sealed with another key or for another scope, or changed.
    pub(crate) fn open(
        key: &Key,
        scope: &Scope<'_>,
        envelope: &SecretEnvelope,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = BASE64.decode(envelope.ciphertext_b64.trim()).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let aad = bound(&key.id, scope, envelope.version.as_deref(), envelope.expires_at.as_deref());
        let payload = Payload { msg: sealed, aad: &aad };
        cipher(key).decrypt(&(*nonce).into(), payload).ok().map(Zeroizing::new)
    }
}

/// Whether whoever reads the envelope reads the secrets: it is neither blank nor sealed nor Vault's.
pub fn is_plain(envelope: &SecretEnvelope) -> bool {
    Kind::of(envelope) == Kind::Inline && !envelope.ciphertext_b64.trim().is_empty()
}

fn decode_inline(envelope: &SecretEnvelope) -> Result<Zeroizing<Vec<u8>>, SealError> {
    if envelope.ciphertext_b64.len() > MAX_ENVELOPE_BYTES {
        return Err(SealError::TooLarge);
    }
    BASE64.decode(envelope.ciphertext_b64.trim()).map(Zeroizing::new).map_err(|_| SealError::Base64)
}

#[cfg(test)]
mod tests {
    use longshore_proto::{ExtensionId, TenantId};

    use super::*;

    fn inline(json: &str) -> SecretEnvelope {
        SecretEnvelope {
            ciphertext_b64: BASE64.encode(json),
            algorithm: Some("inline/base64".to_owned()),
            version: Some("7".to_owned()),
            expires_at: Some("2999-01-01T00:00:00Z".to_owned()),
            key_path: None,
            mount: None,
        }
    }

    fn ids() -> (TenantId, ExtensionId) {
        ("t".parse().unwrap(), "e".parse().unwrap())
    }

    #[test]
    fn sealing_keeps_version_and_expiry_and_shows_nothing() {
        let (tenant, extension) = ids();
        let scope = Scope { tenant: &tenant, extension: &extension, install: None, version: None };
        let ring = KeyRing::generate();
        let plain = inline(r#"{"k":"canary-1"}"#);
        let sealed = ring.seal_inline(&scope, plain.clone()).unwrap();
        assert_eq!((&sealed.version, &sealed.expires_at), (&plain.version, &plain.expires_at));
        assert_eq!(sealed.algorithm.as_deref(), Some(ALGORITHM));
        assert_eq!(sealed.key_path.as_deref(), Some(ring.sealing_id()));
        let bytes = BASE64.decode(&sealed.ciphertext_b64).unwrap();
        assert!(!bytes.windows(6).any(|w| w == b"canary"));
        let opened = KeyRing::open(ring.sealing().unwrap(), &scope, &sealed).unwrap();
        assert_eq!(opened.as_slice(), br#"{"k":"canary-1"}"#);
        // A new nonce each time.
        assert_ne!(ring.seal_inline(&scope, plain).unwrap().ciphertext_b64, sealed.ciphertext_b64);
    }

    #[test]
    fn blank_sealed_and_vault_envelopes_pass_unchanged() {
        let (tenant, extension) = ids();
        let scope = Scope { tenant: &tenant, extension: &extension, install: None, version: None };
        let ring = KeyRing::generate();
        let sealed = ring.seal_inline(&scope, inline("{}")).unwrap();
        let vault = SecretEnvelope { algorithm: Some(" Vault-Transit:v1".to_owned()), ..inline("{}") };
        let blank = SecretEnvelope { ciphertext_b64: " \n".to_owned(), ..inline("{}") };
        let later = SecretEnvelope { algorithm: Some("longshore-sealed:v2".to_owned()), ..inline("{}") };
        for envelope in [sealed, vault, blank, later] {
            assert!(!is_plain(&envelope));
            assert_eq!(ring.seal_inline(&scope, envelope.clone()).unwrap(), envelope);
        }
    }

    #[test]
    fn what_no_worker_could_open_is_not_sealed_and_not_shown() {
        let (tenant, extension) = ids();
        let scope = Scope { tenant: &tenant, extension: &extension, install: None, version: None };
        let ring = KeyRing::generate();
        for json in ["canary", r#"["canary"]"#, r#"{"k":{"canary":1}}"#] {
            let error = ring.seal_inline(&scope, inline(json)).unwrap_err();
            assert!(matches!(error, SealError::Texts(_)) && !error.to_string().contains("canary"), "{error}");
        }
        let broken = SecretEnvelope { ciphertext_b64: "%%canary%%".to_owned(), ..inline("") };
        assert_eq!(ring.seal_inline(&scope, broken).unwrap_err(), SealError::Base64);
        let huge = SecretEnvelope { ciphertext_b64: "A".repeat(MAX_ENVELOPE_BYTES + 1), ..inline("") };
        assert_eq!(ring.seal_inline(&scope, huge).unwrap_err(), SealError::TooLarge);
    }

    #[test]
    fn the_largest_secrets_fit_into_an_envelope_when_sealed() {
        let (tenant, extension) = ids();
        let scope = Scope { tenant: &tenant, extension: &extension, install: None, version: None };
        let json = format!(r#"{{"k":"{}"}}"#, "v".repeat(MAX_PLAIN_BYTES - 8));
        assert_eq!(json.len(), MAX_PLAIN_BYTES);
        let sealed = KeyRing::generate().seal_inline(&scope, inline(&json)).unwrap();
        assert!(sealed.ciphertext_b64.len() <= MAX_ENVELOPE_BYTES);
    }
}
