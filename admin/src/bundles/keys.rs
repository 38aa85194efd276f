//! What an object of a store is, by its key (interop 5.1).

use longshore_bundle::{BundleKey, ObjectKey};
use longshore_proto::{ContentHash, ExtensionId, TenantId};

use crate::http::Failure;

/// The copy of the manifest beside an archive.
pub const MANIFEST: &str = "manifest.json";
const ARCHIVE: &str = "bundle.tar.zst";
const SIGNATURE: &str = "bundle.sig";

/// An object beside a bundle.
pub fn beside(key: &BundleKey, name: &str) -> Result<ObjectKey, Failure> {
    let archive = key.object_key();
    let folder = archive.as_str().strip_suffix(ARCHIVE).unwrap_or_default();
    ObjectKey::new(format!("{folder}{name}")).map_err(|error| Failure::internal(&error))
}

/// What an object of a bundle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The archive.
    Archive,
    /// The manifest's copy.
    Manifest,
    /// The signature.
    Signature,
    /// Something else in the bundle's folder.
    Other,
}

/// An object that belongs to a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundBundle {
    /// Which bundle.
    pub key: BundleKey,
    /// Which part of it.
    pub kind: Kind,
}

/// Which bundle an object belongs to, if it belongs to one.
pub fn found(object: &ObjectKey) -> Option<FoundBundle> {
    let rest = object.as_str().strip_prefix("tenants/")?;
    let (tenant, rest) = rest.split_once("/extensions/")?;
    let (extension, rest) = rest.split_once("/sha256/")?;
    let (hash, name) = rest.split_once('/')?;
    // Staging below `sha256/` has another word where the hash is.
    if hash.len() != 64 || hash.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let key = BundleKey {
        tenant: tenant.parse::<TenantId>().ok()?,
        extension: extension.parse::<ExtensionId>().ok()?,
        hash: hash.parse::<ContentHash>().ok()?,
    };
    let kind = match name {
        ARCHIVE => Kind::Archive,
        MANIFEST => Kind::Manifest,
        SIGNATURE => Kind::Signature,
        _ => Kind::Other,
    };
    Some(FoundBundle { key, kind })
}

/// What every bundle of a tenant begins with.
pub fn of_tenant(tenant: &TenantId) -> String {
    format!("tenants/{tenant}/extensions/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: String) -> Option<FoundBundle> {
        found(&ObjectKey::new(text).unwrap())
    }

    #[test]
    fn every_part_of_a_bundle_is_recognised() {
        let key = BundleKey {
            tenant: "t.1".parse().unwrap(),
            extension: "e".parse().unwrap(),
            hash: ContentHash::from_bytes([0xab; 32]),
        };
        let parts = [
            (key.object_key(), Kind::Archive),
            (beside(&key, MANIFEST).unwrap(), Kind::Manifest),
            (key.signature_key(), Kind::Signature),
            (beside(&key, "x").unwrap(), Kind::Other),
        ];
        for (object, kind) in parts {
            assert!(object.as_str().starts_with(&of_tenant(&key.tenant)));
            assert_eq!(found(&object), Some(FoundBundle { key: key.clone(), kind }), "{object}");
        }
    }

    #[test]
    fn what_only_looks_like_a_bundle_is_none() {
        let hex = "ab".repeat(32);
        for bad in [
            format!("tenants/t/extensions/e/sha256/{}/bundle.tar.zst", hex.to_uppercase()),
            format!("tenants/t/extensions/e/sha256/_staging/{hex}"),
            "tenants/t/_staging/1/bundle.tar.zst".to_owned(),
            format!("sha256/{hex}/bundle.tar.zst"),
            format!("x/tenants/t/extensions/e/sha256/{hex}/bundle.tar.zst"),
            format!("tenants/t/u/extensions/e/sha256/{hex}/bundle.tar.zst"),
            format!("tenants/t/extensions/e/sha256/{hex}"),
        ] {
            assert_eq!(at(bad.clone()), None, "{bad}");
        }
    }
}
