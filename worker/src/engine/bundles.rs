//! The bundle cache as a source of components.

use std::sync::Arc;

use longshore_bundle::{BundleCache, BundleError, BundleKey, chain};
use longshore_proto::{CallError, ContentHash, ExtensionId, TenantId};

use super::source::{ComponentSource, SourceComponent};

#[async_trait::async_trait]
impl ComponentSource for BundleCache {
    async fn component(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        bundle: &ContentHash,
    ) -> Result<Option<SourceComponent>, CallError> {
        let key = BundleKey { tenant: tenant.clone(), extension: extension.clone(), hash: *bundle };
        // The cache has logged the cause chain of a failure, with address and key.
        let bundle = self.get(&key).await.map_err(|e| CallError::new(e.code(), for_caller(&e, &key)))?;
        Ok(bundle.component().map(|component| SourceComponent {
            path: component.path.clone(),
            sha256: *component.digest.as_bytes(),
            manifest: bundle.manifest().cloned(),
            lease: Arc::clone(&bundle) as _,
        }))
    }
}

/// What the caller is told after the code: what was wrong with the tenant's own bytes, and never where the store is.
fn for_caller(error: &BundleError, key: &BundleKey) -> String {
    match error {
        BundleError::NotFound { .. } => format!("no object at {key}"),
        BundleError::StoreUnreachable { .. } => format!("the bundle store did not deliver {key}"),
        BundleError::HashMismatch { expected, computed } => {
            format!("expected {expected}, computed {computed}")
        }
        BundleError::Refused { reason } => chain(reason),
        BundleError::SignatureRefused { reason } => reason.to_string(),
        BundleError::Cache { .. } => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use longshore_bundle::StoreError;
    use longshore_bundle::archive::ArchiveError;
    use longshore_bundle::signature::SignatureError;

    use super::*;

    #[test]
    fn a_caller_learns_what_is_wrong_with_its_bundle_and_not_where_the_store_is() {
        let hash = ContentHash::from_bytes([1; 32]);
        let key = BundleKey { tenant: "t".parse().unwrap(), extension: "e".parse().unwrap(), hash };
        let url = "http://store.internal:9000/extensions/x".to_owned();
        let reason = ArchiveError::Ratio { limit: 200 };
        assert!(for_caller(&BundleError::Refused { reason }, &key).contains("200 times its size"));
        let reason = SignatureError::Unsigned;
        assert!(for_caller(&BundleError::SignatureRefused { reason }, &key).contains("sign it"));
        let computed = ContentHash::from_bytes([2; 32]);
        let text = for_caller(&BundleError::HashMismatch { expected: hash, computed }, &key);
        assert!(text.contains(&hash.hex()) && text.contains(&computed.hex()), "{text}");
        let silent = BundleError::StoreUnreachable { url: url.clone(), source: StoreError::NotFound };
        for error in [BundleError::NotFound { url }, silent] {
            let text = for_caller(&error, &key);
            assert!(text.contains("tenants/t/extensions/e/") && !text.contains("internal"), "{text}");
        }
    }
}
