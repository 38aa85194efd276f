//! Endpoints from the bundle itself, where the registry does not say them (the platform's).

use async_trait::async_trait;
use longshore_bundle::{BundleCache, BundleError, BundleKey};
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
            Err(error) => Err(CallError::new(error.code(), for_caller(&error))),
        }
    }
}

/// What a stranger is told: never where the store is. The cache has logged the rest.
fn for_caller(error: &BundleError) -> String {
    match error {
        BundleError::NotFound { .. } => "the installed bundle is not in the store".to_owned(),
        BundleError::StoreUnreachable { .. } => "the bundle store did not deliver the bundle".to_owned(),
        BundleError::Refused { .. }
        | BundleError::HashMismatch { .. }
        | BundleError::SignatureRefused { .. }
        | BundleError::Cache { .. } => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use longshore_bundle::StoreError;

    use super::*;

    #[test]
    fn a_caller_is_not_told_where_the_store_is() {
        let url = || "http://minio.internal:9000/bucket/tenants/t/x".to_owned();
        let silent = BundleError::StoreUnreachable { url: url(), source: StoreError::NotFound };
        for error in [BundleError::NotFound { url: url() }, silent] {
            let text = for_caller(&error);
            assert!(!text.contains("minio") && !text.contains("tenants/"), "{text}");
        }
    }
}
