//! The key under which equal secrets have equal tokens.

use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::keyring::{KeyError, KeyRing};

/// What the id of a key is derived for.
const ID_CONTEXT: &str = "longshore 2026-11 id of a token key";
/// What a token key is derived from a key of a key file for: the same file may also seal envelopes.
const FILE_CONTEXT: &str = "longshore 2026-11 tokens from a key file";
/// Hex digits of an id.
const ID_DIGITS: usize = 16;

/// The key of tokens. Under one key, equal secrets have equal tokens, in every trace; without it, a token tells nothing
/// of its secret but what `derive` documents: no guess can be checked.
#[derive(Clone)]
pub struct TokenKey {
    bytes: Zeroizing<[u8; 32]>,
    id: String,
}

impl TokenKey {
    /// Of 32 random bytes that somebody keeps.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let id = blake3::Hasher::new_derive_key(ID_CONTEXT).update(&bytes).finalize();
        let id = hex::encode(id.as_bytes()).chars().take(ID_DIGITS).collect();
        Self { bytes: Zeroizing::new(bytes), id }
    }

    /// A new one, of this process alone: its tokens equal those of no other.
    pub fn random() -> Self {
        Self::from_bytes(rand::random())
    }

    /// The first key of a key file, in the format of the keys that seal envelopes and with the same demands on the file
    /// (nobody but its owner may read it).
    ///
    /// # Errors
    /// The file is missing, open to others, or not as it must be.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        Ok(Self::of(&KeyRing::load(path)?))
    }

    /// The one that belongs to the ring's sealing key; it tells nothing of that key.
    pub fn of(ring: &KeyRing) -> Self {
        // A ring has at least one key.
        let derived = ring.derive(FILE_CONTEXT).into_iter().next();
        derived.map_or_else(Self::random, |bytes| Self::from_bytes(*bytes))
    }

    /// Names the key and tells nothing of it: 16 hex digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_has_an_id_and_shows_nothing_else() {
        let (a, b) = (TokenKey::from_bytes([7; 32]), TokenKey::from_bytes([8; 32]));
        assert_eq!(a.id().len(), ID_DIGITS);
        assert_ne!(a.id(), b.id());
        assert_eq!(format!("{a:?}"), format!("TokenKey({})", a.id()));
        assert_ne!(TokenKey::random().id(), TokenKey::random().id());
    }

    #[test]
    fn a_key_file_gives_the_same_key_everywhere_and_not_the_sealing_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let ring = KeyRing::generate();
        ring.write_new(&path).unwrap();
        let (a, b) = (TokenKey::load(&path).unwrap(), TokenKey::of(&ring));
        assert_eq!(a.bytes(), b.bytes());
        assert_ne!(a.bytes(), &*ring.sealing().unwrap().bytes);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(TokenKey::load(&path), Err(KeyError::Open { .. })));
        assert!(matches!(TokenKey::load(&dir.path().join("none")), Err(KeyError::Read(_))));
    }
}
