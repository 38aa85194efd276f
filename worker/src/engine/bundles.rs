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
        let bundle = self.get(&key).await.map_err(|e| shown(&e))?;
        Ok(bundle.component().map(|component| SourceComponent {
            path: component.path.clone(),
            sha256: *component.digest.as_bytes(),
            lease: Arc::clone(&bundle) as _,
        }))
    }
}

/// What the caller may read: both hashes, or which rule its own archive breaks; never an address of the store.
fn shown(error: &BundleError) -> CallError {
    let message = match error {
        BundleError::HashMismatch { expected, computed } => {
            format!("expected {expected}, computed {computed}")
        }
        BundleError::Refused { reason } => chain(reason),
        BundleError::NotFound { .. } | BundleError::StoreUnreachable { .. } | BundleError::Cache { .. } => {
            String::new()
        }
    };
    CallError::new(error.code(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_shows_both_hashes_and_a_missing_object_no_address() {
        let (expected, computed) = (ContentHash::from_bytes([1; 32]), ContentHash::from_bytes([2; 32]));
        let text = shown(&BundleError::HashMismatch { expected, computed }).to_string();
        assert!(text.starts_with("bundle_fetch_failed: archive_hash_mismatch: expected "), "{text}");
        assert!(text.contains(&"01".repeat(32)) && text.contains(&"02".repeat(32)));
        let missing = BundleError::NotFound { url: "http://store.internal/b/k".to_owned() };
        assert_eq!(shown(&missing).to_string(), "bundle_fetch_failed: not_found");
    }
}
