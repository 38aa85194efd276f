//! Storage of an existing platform (interop 6.3).

use async_trait::async_trait;
use bytes::Bytes;
use longshore_platform::{Caller, MAX_VALUE_BYTES, Platform, PlatformError, StoredValue};

use crate::StorageError;
use crate::error::{Invalid, Refusal};
use crate::types::{Entry, PAGE, PutEntry, Scope, Storage};

pub(crate) struct OnPlatform(pub Platform);

fn caller<'a>(scope: &Scope<'a>) -> Caller<'a> {
    Caller { install: scope.install, request_id: scope.request_id }
}

impl From<PlatformError> for StorageError {
    fn from(error: PlatformError) -> Self {
        match error {
            PlatformError::NotFound(_) => Self::Missing,
            PlatformError::Conflict(_) => Self::Conflict,
            PlatformError::InstallId(_) => Self::Denied(Refusal::InstallId(error.to_string())),
            PlatformError::Unauthorized(_) | PlatformError::Forbidden(_) | PlatformError::RateLimited(_) => {
                Self::Denied(Refusal::Platform(error.to_string()))
            }
            PlatformError::Invalid { field, rule } => Self::Invalid(Invalid::Platform { field, rule }),
            PlatformError::BadRequest(_)
            | PlatformError::Status { .. }
            | PlatformError::Redirect(_)
            | PlatformError::Timeout(_)
            | PlatformError::Transport(_)
            | PlatformError::Malformed(_)
            | PlatformError::TooLarge { .. } => Self::unavailable(error),
        }
    }
}

impl From<StoredValue> for Entry {
    fn from(stored: StoredValue) -> Self {
        let StoredValue { namespace, key, value, revision } = stored;
        Self { namespace, key, value: value.into(), revision }
    }
}

#[async_trait]
impl Storage for OnPlatform {
    async fn get(&self, scope: &Scope<'_>, namespace: &str, key: &str) -> Result<Entry, StorageError> {
        Ok(self.0.storage_get(&caller(scope), namespace, key).await?.into())
    }

    async fn put(&self, scope: &Scope<'_>, put: &PutEntry) -> Result<Entry, StorageError> {
        if put.ttl.is_some() {
            return Err(StorageError::Invalid(Invalid::NoTtl));
        }
        if put.value.len() > MAX_VALUE_BYTES {
            return Err(StorageError::TooLarge { bytes: put.value.len(), limit: MAX_VALUE_BYTES });
        }
        let PutEntry { namespace, key, value, revision, .. } = put;
        let revision = self.0.storage_put(&caller(scope), namespace, key, value, *revision).await?;
        let (namespace, key, value) = (namespace.clone(), key.clone(), Bytes::clone(value));
        Ok(Entry { namespace, key, value, revision })
    }

    async fn delete(&self, scope: &Scope<'_>, namespace: &str, key: &str) -> Result<(), StorageError> {
        Ok(self.0.storage_delete(&caller(scope), namespace, key).await?)
    }

    async fn list(
        &self,
        scope: &Scope<'_>,
        namespace: &str,
        cursor: Option<&str>,
    ) -> Result<Vec<Entry>, StorageError> {
        let page = self.0.storage_list(&caller(scope), namespace, cursor).await?;
        Ok(page.items.into_iter().take(PAGE).map(Entry::from).collect())
    }
}
