//! Payloads that are too large for a trace: objects of the bundle store, named by their digest.

use std::time::SystemTime;

use bytes::Bytes;
use longshore_bundle::{BundleStore, Content, ObjectKey, StoreError};
use longshore_proto::{ContentHash, TenantId};
use tokio::io::AsyncReadExt as _;

use crate::damage::Damage;
use crate::trace::{check_payload, digest};

/// The largest payload: more than any body or stream that a run may have.
pub const MAX_PAYLOAD_BYTES: u64 = 64 << 20;

/// Why a payload could not be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It is not there, or is another one.
    #[error("the recorded run is damaged")]
    Damaged(#[source] Damage),
    /// The store failed.
    #[error("the bundle store failed")]
    Store(#[source] StoreError),
    /// The store broke off.
    #[error("the bundle store broke off")]
    Read(#[source] std::io::Error),
}

/// `traces/TENANT/payloads/`: where a tenant's payloads are.
pub fn prefix(tenant: &TenantId) -> String {
    format!("traces/{tenant}/payloads/")
}

/// Where a payload is.
///
/// # Errors
/// Never for ids as they are checked today.
pub fn key(tenant: &TenantId, sha256: ContentHash) -> Result<ObjectKey, PayloadError> {
    ObjectKey::new(format!("{}{}", prefix(tenant), sha256.hex()))
        .map_err(|error| PayloadError::Store(StoreError::Unreachable { source: Box::new(error) }))
}

/// Keeps a payload; gives its name. One that is there is written anew, so that its age is that of its last use
/// ([`expire`]).
///
/// # Errors
/// The store fails, or it is over [`MAX_PAYLOAD_BYTES`].
pub async fn put(
    store: &dyn BundleStore,
    tenant: &TenantId,
    bytes: Bytes,
) -> Result<ContentHash, PayloadError> {
    if bytes.len() as u64 > MAX_PAYLOAD_BYTES {
        return Err(PayloadError::Damaged(too_large()));
    }
    let sha256 = digest(&bytes);
    let key = key(tenant, sha256)?;
    store.put_object(&key, Content::Bytes(bytes)).await.map_err(PayloadError::Store)?;
    Ok(sha256)
}

/// A payload, after its length (where `expected` is known) and its digest were checked.
///
/// # Errors
/// It is missing, is another one, or the store fails.
pub async fn get(
    store: &dyn BundleStore,
    tenant: &TenantId,
    sha256: ContentHash,
    expected: Option<u64>,
) -> Result<Bytes, PayloadError> {
    let opened = match store.open_object(&key(tenant, sha256)?).await {
        Ok(opened) => opened,
        Err(StoreError::NotFound) => return Err(PayloadError::Damaged(Damage::PayloadMissing { sha256 })),
        Err(error) => return Err(PayloadError::Store(error)),
    };
    // One byte more than may be tells that it is too long, whatever the store said of its length.
    let limit = expected.unwrap_or(MAX_PAYLOAD_BYTES).min(MAX_PAYLOAD_BYTES);
    let mut bytes = Vec::new();
    opened.body.take(limit + 1).read_to_end(&mut bytes).await.map_err(PayloadError::Read)?;
    if expected.is_none() && bytes.len() as u64 > limit {
        return Err(PayloadError::Damaged(too_large()));
    }
    check_payload(sha256, expected.unwrap_or(bytes.len() as u64), &bytes).map_err(PayloadError::Damaged)?;
    Ok(Bytes::from(bytes))
}

/// Removes a tenant's payloads; how many there were.
///
/// # Errors
/// The store fails.
pub async fn remove_tenant(store: &dyn BundleStore, tenant: &TenantId) -> Result<u64, PayloadError> {
    sweep(store, &prefix(tenant), None).await
}

/// Removes the payloads of all tenants that were last written before `before`: their traces have expired. Those of
/// which the store does not say when stay.
///
/// # Errors
/// The store fails.
pub async fn expire(store: &dyn BundleStore, before: SystemTime) -> Result<u64, PayloadError> {
    sweep(store, "traces/", Some(before)).await
}

async fn sweep(
    store: &dyn BundleStore,
    prefix: &str,
    before: Option<SystemTime>,
) -> Result<u64, PayloadError> {
    let (mut removed, mut after): (u64, Option<String>) = (0, None);
    loop {
        let page = store.list_objects(prefix, after.as_deref()).await.map_err(PayloadError::Store)?;
        for object in page.objects {
            let old = match before {
                None => true,
                Some(before) => object.modified.is_some_and(|modified| modified < before),
            };
            // Below `traces/` there may one day be something else.
            if old && object.key.as_str().split('/').nth(2) == Some("payloads") {
                store.delete_object(&object.key).await.map_err(PayloadError::Store)?;
                removed += 1;
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(removed),
        }
    }
}

const fn too_large() -> Damage {
    Damage::TooLarge { what: "bytes of a payload", limit: MAX_PAYLOAD_BYTES }
}

#[cfg(test)]
mod tests {
    use longshore_bundle::store::DirStore;

    use super::*;

    fn store() -> (tempfile::TempDir, DirStore, TenantId) {
        let folder = tempfile::tempdir().unwrap();
        let store = DirStore::new(folder.path());
        (folder, store, "tenant-1".parse().unwrap())
    }

    fn damage(result: Result<Bytes, PayloadError>) -> Damage {
        match result.unwrap_err() {
            PayloadError::Damaged(damage) => damage,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_payload_comes_back_as_it_was_put_and_to_its_tenant_only() {
        let (_folder, store, tenant) = store();
        let bytes = Bytes::from(vec![7; 100_000]);
        let sha256 = put(&store, &tenant, bytes.clone()).await.unwrap();
        assert_eq!(put(&store, &tenant, bytes.clone()).await.unwrap(), sha256, "again is fine");
        assert_eq!(get(&store, &tenant, sha256, Some(100_000)).await.unwrap(), bytes);
        assert_eq!(get(&store, &tenant, sha256, None).await.unwrap(), bytes);
        let other = "tenant-2".parse().unwrap();
        assert_eq!(damage(get(&store, &other, sha256, None).await), Damage::PayloadMissing { sha256 });
    }

    #[tokio::test]
    async fn a_payload_that_was_changed_cut_or_lengthened_is_refused() {
        let (_folder, store, tenant) = store();
        let sha256 = put(&store, &tenant, Bytes::from_static(b"payload")).await.unwrap();
        for (now, expected) in [
            (&b"pAyload"[..], Damage::PayloadDigest { sha256 }),
            (b"payloa", Damage::PayloadLength { sha256, expected: 7, found: 6 }),
            (b"", Damage::PayloadLength { sha256, expected: 7, found: 0 }),
            (b"payload and more", Damage::PayloadLength { sha256, expected: 7, found: 8 }),
        ] {
            let content = Content::Bytes(Bytes::from_static(now));
            store.put_object(&key(&tenant, sha256).unwrap(), content).await.unwrap();
            assert_eq!(damage(get(&store, &tenant, sha256, Some(7)).await), expected);
        }
    }

    #[tokio::test]
    async fn a_tenants_payloads_are_removed_and_old_ones_expire() {
        let (_folder, store, tenant) = store();
        let other: TenantId = "tenant-10".parse().unwrap();
        let mine = put(&store, &tenant, Bytes::from_static(b"mine")).await.unwrap();
        let theirs = put(&store, &other, Bytes::from_static(b"theirs")).await.unwrap();
        assert_eq!(remove_tenant(&store, &tenant).await.unwrap(), 1);
        assert!(matches!(damage(get(&store, &tenant, mine, None).await), Damage::PayloadMissing { .. }));
        let hour = std::time::Duration::from_secs(3_600);
        assert_eq!(expire(&store, SystemTime::now() - hour).await.unwrap(), 0);
        assert!(get(&store, &other, theirs, None).await.is_ok());
        assert_eq!(expire(&store, SystemTime::now() + hour).await.unwrap(), 1);
    }
}
