//! The bundle cache as a source of components.

use std::sync::Arc;

use longshore_bundle::{BundleCache, BundleKey};
use longshore_proto::{CallError, ContentHash, ExtensionId, TenantId};

use crate::engine::source::{ComponentSource, SourceComponent};

/// Fetches bundles from the store, through the cache on disk.
pub struct BundleSource(pub Arc<BundleCache>);

#[async_trait::async_trait]
impl ComponentSource for BundleSource {
    async fn component(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        bundle: &ContentHash,
    ) -> Result<Option<SourceComponent>, CallError> {
        let key = BundleKey { tenant: tenant.clone(), extension: extension.clone(), hash: *bundle };
        // The cache has logged the cause chain of a failure, with address and key.
        let bundle = self.0.get(&key).await.map_err(|e| CallError::new(e.code(), e.to_string()))?;
        Ok(bundle.component().map(|component| SourceComponent {
            path: component.path.clone(),
            sha256: *component.digest.as_bytes(),
            lease: Arc::clone(&bundle) as _,
        }))
    }
}
