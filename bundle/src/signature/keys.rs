//! Keys, and the files they are kept in.

use std::fmt;

use chrono::{DateTime, Utc};
use ed25519_dalek::pkcs8::spki::EncodePublicKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, KeypairBytes,
};
use ed25519_dalek::{Signer as _, VerifyingKey};
use longshore_proto::ContentHash;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::file::stamp;
use super::{Identity, SignatureFile, statement};

/// The name of a key, chosen by whoever made it or taken from the key itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

impl std::str::FromStr for KeyId {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        if fits { Ok(Self(text.to_owned())) } else { Err(KeyError::Id) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a key cannot be used. Never repeats a byte of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a key id.
    #[error("a key id is 1 to 64 characters of A-Z a-z 0-9 . _ -")]
    Id,
    /// Not a public key file of the kind.
    #[error("this is no Ed25519 public key in PEM (BEGIN PUBLIC KEY)")]
    Public,
    /// Not a private key file of the kind.
    #[error("this is no Ed25519 private key in PEM (PKCS#8, BEGIN PRIVATE KEY, not encrypted)")]
    Private,
    /// A key under which anybody can make signatures.
    #[error("this public key is weak (of small order): anybody could sign with it")]
    Weak,
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    Random,
}

/// A key that checks signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// From PEM (SubjectPublicKeyInfo), as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// Another kind of key, a weak one, or no key.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_public_key_pem(pem).map_err(|_| KeyError::Public)?;
        if key.is_weak() { Err(KeyError::Weak) } else { Ok(Self(key)) }
    }

    /// As PEM.
    pub fn to_pem(&self) -> String {
        // 44 bytes of a fixed shape: it cannot fail.
        self.0.to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }

    /// The name that the key has by itself: `ed25519-` and 16 digits of the SHA-256 of its SubjectPublicKeyInfo.
    pub fn fingerprint(&self) -> KeyId {
        let der = self.0.to_public_key_der().map(|der| der.as_bytes().to_vec()).unwrap_or_default();
        let digits = hex::encode(Sha256::digest(der));
        KeyId(format!("ed25519-{}", digits.get(..16).unwrap_or_default()))
    }

    /// Strict: one key and statement have one encoding of a signature, whatever library looks.
    pub(super) fn verifies(&self, file: &SignatureFile) -> bool {
        let message = statement(file.content_hash, &file.identity, &file.signed_at);
        self.0.verify_strict(&message, &file.signature).is_ok()
    }

    pub(super) fn bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

/// A key that signs. Wiped from memory when dropped.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().fingerprint())
    }
}

impl SigningKey {
    /// A new one, straight from the operating system's random bytes.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        use rand::TryRng as _;
        let mut seed = Zeroizing::new([0; 32]);
        rand::rngs::SysRng.try_fill_bytes(&mut *seed).map_err(|_| KeyError::Random)?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&seed)))
    }

    /// From PEM (PKCS#8), as [`Self::to_pem`] and `openssl genpkey -algorithm ed25519` write it.
    ///
    /// # Errors
    /// Another kind of key, an encrypted one, or no key.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        ed25519_dalek::SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|_| KeyError::Private)
    }

    /// As PEM. Without the public half in it, which OpenSSL before 3.0 cannot read.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let bytes = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        // 48 bytes of a fixed shape: it cannot fail.
        bytes.to_pkcs8_pem(LineEnding::LF).unwrap_or_default()
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a bundle. `key_id` is the name under which the trust bundle holds the key.
    pub fn sign(
        &self,
        key_id: KeyId,
        hash: ContentHash,
        identity: Identity,
        at: DateTime<Utc>,
    ) -> SignatureFile {
        let signed_at = stamp(at);
        let signature = self.0.sign(&statement(hash, &identity, &signed_at));
        SignatureFile { key_id, content_hash: hash, identity, signed_at, signature }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 8410, section 10; `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write the same form.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn keys_are_read_and_written_as_openssl_does() {
        let key = SigningKey::from_pem(PRIVATE).unwrap();
        assert_eq!(key.to_pem().as_str(), PRIVATE);
        assert_eq!(key.public().to_pem(), PUBLIC);
        assert_eq!(PublicKey::from_pem(PUBLIC).unwrap(), key.public());
    }

    #[test]
    fn a_key_has_the_same_name_everywhere() {
        let id = PublicKey::from_pem(PUBLIC).unwrap().fingerprint();
        assert_eq!(id, SigningKey::from_pem(PRIVATE).unwrap().public().fingerprint());
        assert_eq!(id.to_string().len(), "ed25519-".len() + 16);
    }

    #[test]
    fn two_new_keys_differ_and_neither_shows_itself() {
        let (one, two) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        assert_ne!(one.public(), two.public());
        let pem = one.to_pem();
        let secret = pem.lines().nth(1).unwrap();
        assert!(!format!("{one:?}").contains(secret));
    }

    #[test]
    fn anything_else_is_no_key_and_is_not_repeated() {
        let p256 =
            "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n";
        for bad in ["", "hunter2", PRIVATE, p256] {
            assert_eq!(PublicKey::from_pem(bad), Err(KeyError::Public), "{bad}");
        }
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMC4CAQ==\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for bad in ["", "hunter2", PUBLIC, encrypted] {
            let error = SigningKey::from_pem(bad).unwrap_err();
            assert_eq!(error, KeyError::Private);
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_key_with_which_anybody_could_sign_is_refused() {
        // The neutral element: `R = s*B` is then a signature of every message.
        let mut point = [0; 32];
        point[0] = 1;
        let weak = VerifyingKey::from_bytes(&point).unwrap().to_public_key_pem(LineEnding::LF).unwrap();
        assert_eq!(PublicKey::from_pem(&weak), Err(KeyError::Weak));
    }

    #[test]
    fn key_ids_are_plain_words() {
        for good in ["a", "release-2026.1_b", &"x".repeat(64)] {
            assert!(good.parse::<KeyId>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "a\n", "ä", "../a", &"x".repeat(65)] {
            assert!(bad.parse::<KeyId>().is_err(), "{bad:?}");
        }
    }
}
