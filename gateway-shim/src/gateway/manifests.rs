//! Endpoints from the bundle itself, where the registry does not say them (the platform's).

use async_trait::async_trait;
use longshore_bundle::{BundleCache, BundleKey};
use longshore_proto::manifest::Endpoint;
use longshore_proto::{CallError, ContentHash, ExtensionId, TenantId};

use super::Manifests;

#[async_trait]
impl Manifests for BundleCache {
    async fn endpoints(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        hash: ContentHash,
    ) -> Result<Vec<Endpoint>, CallError> {
        let key = BundleKey { tenant: tenant.clone(), extension: extension.clone(), hash };
        match self.get(&key).await {
            Ok(bundle) => {
                let api = bundle.manifest().and_then(|manifest| manifest.api.as_ref());
                Ok(api.map(|api| api.endpoints.clone()).unwrap_or_default())
            }
            Err(error) => Err(CallError::new(error.code(), error.to_string())),
        }
    }
}
