//! Names of objects in the bundle store.

use std::fmt;

use longshore_proto::{ContentHash, ExtensionId, TenantId};

/// The key of one object in a store. Only made from checked parts, so that a store may join it to a folder or a URL
/// by plain formatting.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ObjectKey(String);

/// Why a text is no object key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an object key is 1 to 1024 bytes of segments made of A-Z a-z 0-9 . _ - and joined by `/`, none of them dots alone"
)]
pub struct ObjectKeyError;

impl ObjectKey {
    /// Checks a key. 1,024 bytes is the limit of S3.
    ///
    /// # Errors
    /// An empty segment, one of dots alone, a character that a URL or a path would read differently.
    pub fn new(key: impl Into<String>) -> Result<Self, ObjectKeyError> {
        let key = key.into();
        let plain = |segment: &str| {
            !segment.bytes().all(|b| b == b'.')
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if key.len() <= 1024 && key.split('/').all(plain) { Ok(Self(key)) } else { Err(ObjectKeyError) }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One tenant's copy of one bundle.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BundleKey {
    /// Whose.
    pub tenant: TenantId,
    /// The extension's registry id (interop 0.6).
    pub extension: ExtensionId,
    /// SHA-256 of the compressed archive.
    pub hash: ContentHash,
}

impl BundleKey {
    /// `tenants/{tenant}/extensions/{extension}/sha256/{hex}/bundle.tar.zst` (interop 5.1). The ids are checked where
    /// they are made, so this cannot fail and cannot leave its folder.
    pub fn object_key(&self) -> ObjectKey {
        self.object("bundle.tar.zst")
    }

    /// `.../sha256/{hex}/bundle.sig`, beside the bundle: its detached signature ([`crate::signature`]).
    pub fn signature_key(&self) -> ObjectKey {
        self.object("bundle.sig")
    }

    fn object(&self, name: &str) -> ObjectKey {
        ObjectKey(format!(
            "tenants/{}/extensions/{}/sha256/{}/{name}",
            self.tenant,
            self.extension,
            self.hash.hex()
        ))
    }
}

impl fmt::Display for BundleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object_key().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_key_is_spelled_as_existing_stores_hold_it() {
        let key = BundleKey {
            tenant: "t-1".parse().unwrap(),
            extension: "e.2".parse().unwrap(),
            hash: ContentHash::from_bytes([0xab; 32]),
        };
        let expected = format!("tenants/t-1/extensions/e.2/sha256/{}/bundle.tar.zst", "ab".repeat(32));
        assert_eq!(key.object_key().as_str(), expected);
        assert_eq!(ObjectKey::new(expected).unwrap(), key.object_key());
        let folder = key.object_key().as_str().strip_suffix("bundle.tar.zst").unwrap().to_owned();
        assert_eq!(key.signature_key().as_str(), format!("{folder}bundle.sig"), "beside it");
    }

    #[test]
    fn a_key_that_a_path_or_url_would_read_differently_is_refused() {
        for bad in ["", "/a", "a/", "a//b", "a/../b", "./a", "a b", "a?b", "a%2e", "a#", "ä", "a\0", "a\\b"]
        {
            assert!(ObjectKey::new(bad).is_err(), "{bad:?}");
        }
        assert!(ObjectKey::new("a".repeat(1025)).is_err());
        assert!(ObjectKey::new("artifacts/1_x/..a").is_ok());
    }
}
