//! Signed paths: how a strict gateway knows the tenant of what a page loads.
//!
//! A page is asked for with `?tenant=`, which its scripts, styles and fonts do not repeat. After the registry has confirmed the
//! claim, a navigation is redirected to `…/{hash}/~{signature}/index.html`; every relative address of the page then carries the
//! signature. Not a cookie: extensions run in frames with `sandbox="allow-scripts"`, whose origin is opaque, and browsers send no
//! cookie along with what such a page loads. The redirect is a relative one, so that it holds below whatever prefix a gateway in front
//! adds.
//!
//! A signature says "this tenant was named to us for this extension and hash", no more: the registry is asked again for each file, so
//! that an uninstall is seen at once. It is the same text for a week, or browsers would fetch everything anew after each navigation.
//!
//! ```text
//! base64url( expiry: u32 days since 1970 || BLAKE3-keyed(expiry, extension, hash, tenant)[..16] || tenant )
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use longshore_proto::{ContentHash, ExtensionId, TenantId};
use longshore_secrets::KeyRing;
use subtle::ConstantTimeEq as _;

/// The derived key's purpose: see [`KeyRing::derive`].
const PURPOSE: &str = "longshore 2026 ui signed path v1";
/// Bytes of the authenticator: 128 bits.
const MAC: usize = 16;
/// Signatures change with the week and hold for one to two more.
const PERIOD_DAYS: u32 = 7;

/// Signs and verifies paths.
pub struct Signer {
    /// The first signs, all verify.
    keys: Vec<[u8; 32]>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("keys", &self.keys.len()).finish()
    }
}

fn today() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs() / 86_400).unwrap_or(u32::MAX)
}

impl Signer {
    /// With keys derived from those that seal secrets (`LONGSHORE_SECRETS_KEY_FILE`), which all gateways of a fleet share. Without a
    /// file, with a key of this process's own: signed paths then hold at this gateway and until its end.
    pub fn new(ring: Option<&KeyRing>) -> Self {
        let keys = match ring {
            Some(ring) => ring.derive(PURPOSE).iter().map(|key| **key).collect(),
            None => vec![rand::random()],
        };
        Self { keys }
    }

    /// The signature for a path.
    pub(super) fn sign(&self, tenant: &TenantId, extension: &ExtensionId, hash: ContentHash) -> String {
        self.sign_on(today(), tenant, extension, hash)
    }

    fn sign_on(&self, day: u32, tenant: &TenantId, extension: &ExtensionId, hash: ContentHash) -> String {
        let expiry = (day / PERIOD_DAYS).saturating_add(2).saturating_mul(PERIOD_DAYS);
        let Some(key) = self.keys.first() else { return String::new() };
        let mut text = expiry.to_be_bytes().to_vec();
        text.extend_from_slice(&mac(key, expiry, tenant, extension, hash));
        text.extend_from_slice(tenant.as_str().as_bytes());
        BASE64.encode(text)
    }

    /// Whose path it is, if the signature is ours, for this extension and hash, and still holds.
    pub(super) fn verify(&self, text: &str, extension: &ExtensionId, hash: ContentHash) -> Option<TenantId> {
        self.verify_on(today(), text, extension, hash)
    }

    fn verify_on(
        &self,
        day: u32,
        text: &str,
        extension: &ExtensionId,
        hash: ContentHash,
    ) -> Option<TenantId> {
        let bytes = BASE64.decode(text).ok()?;
        let (expiry, rest) = bytes.split_first_chunk::<4>()?;
        let (given, tenant) = rest.split_first_chunk::<MAC>()?;
        let expiry = u32::from_be_bytes(*expiry);
        let tenant: TenantId = std::str::from_utf8(tenant).ok()?.parse().ok()?;
        let ours = self.keys.iter().any(|key| mac(key, expiry, &tenant, extension, hash).ct_eq(given).into());
        (ours && day < expiry).then_some(tenant)
    }
}

fn mac(
    key: &[u8; 32],
    expiry: u32,
    tenant: &TenantId,
    extension: &ExtensionId,
    hash: ContentHash,
) -> [u8; MAC] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&expiry.to_be_bytes()).update(hash.as_bytes());
    // Ids are at most 128 bytes; their lengths in front, so that nothing can move from one to the other.
    for id in [extension.as_str(), tenant.as_str()] {
        hasher.update(&(id.len() as u64).to_be_bytes()).update(id.as_bytes());
    }
    let mut mac = [0; MAC];
    hasher.finalize_xof().fill(&mut mac);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> (TenantId, ExtensionId, ContentHash) {
        ("t-1".parse().unwrap(), "e-1".parse().unwrap(), ContentHash::from_bytes([7; 32]))
    }

    #[test]
    fn a_signature_holds_for_its_tenant_extension_and_hash_alone() {
        let (tenant, extension, hash) = ids();
        let signer = Signer::new(None);
        let text = signer.sign(&tenant, &extension, hash);
        assert_eq!(signer.verify(&text, &extension, hash), Some(tenant));
        assert_eq!(signer.verify(&text, &"e-2".parse().unwrap(), hash), None);
        assert_eq!(signer.verify(&text, &extension, ContentHash::from_bytes([8; 32])), None);
        assert_eq!(Signer::new(None).verify(&text, &extension, hash), None, "another gateway's key");
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(signer.verify(&forged, &extension, hash), None, "{forged}");
        }
        for cut in 0..text.len() {
            assert_eq!(signer.verify(&text[..cut], &extension, hash), None);
        }
    }

    #[test]
    fn a_signature_is_the_same_for_a_week_and_ends_within_two() {
        let (tenant, extension, hash) = ids();
        let signer = Signer::new(None);
        let sign = |day| signer.sign_on(day, &tenant, &extension, hash);
        assert_eq!(sign(700), sign(706));
        assert_ne!(sign(706), sign(707));
        let holds = |day| signer.verify_on(day, &sign(706), &extension, hash).is_some();
        assert!(holds(706) && holds(713) && !holds(714) && !holds(100_000));
    }

    #[test]
    fn gateways_with_the_same_key_file_know_each_others_signatures_also_in_a_rotation() {
        let (tenant, extension, hash) = ids();
        let old = KeyRing::generate();
        let text = Signer::new(Some(&old)).sign(&tenant, &extension, hash);
        let rotated = Signer::new(Some(&old.rotated()));
        assert!(rotated.verify(&text, &extension, hash).is_some());
        assert_ne!(rotated.sign(&tenant, &extension, hash), text);
    }
}
