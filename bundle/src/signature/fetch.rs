//! A signature from the store.

use tokio::io::AsyncReadExt as _;

use super::SIGNATURE_BYTES;
use crate::key::BundleKey;
use crate::store::{BundleStore, StoreError};

/// The signature beside a tenant's bundle; None if there is none. At most a byte over [`SIGNATURE_BYTES`] is read, which
/// [`super::SignatureFile::parse`] then refuses. The caller bounds the time.
///
/// # Errors
/// The store's, but not that there is no such object.
pub async fn fetch(store: &dyn BundleStore, key: &BundleKey) -> Result<Option<Vec<u8>>, StoreError> {
    let opened = match store.open_object(&key.signature_key()).await {
        Ok(opened) => opened,
        Err(StoreError::NotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let limit = SIGNATURE_BYTES as u64 + 1;
    opened.body.take(limit).read_to_end(&mut bytes).await.map_err(StoreError::unreachable)?;
    Ok(Some(bytes))
}
