//! Who may see a bundle's pages, and the bundle.

use std::sync::Arc;

use longshore_bundle::{Bundle, BundleError, BundleKey};
use longshore_proto::{ContentHash, ExtensionId, TenantId};
use longshore_registry::Lookup;
use uuid::Uuid;

use super::UiState;
use super::answers::Refusal;

impl UiState {
    /// Confirms that the tenant has this bundle of what the path calls the extension, and says the extension's registry id. Without
    /// strict validation nobody is asked: the tenant's own copy in the store is the proof, see [`Self::bundle`].
    pub(super) async fn confirm(
        &self,
        tenant: &TenantId,
        called: &ExtensionId,
        hash: ContentHash,
    ) -> Result<ExtensionId, Refusal> {
        if !self.config.strict {
            return Ok(called.clone());
        }
        let valid = |extension: ExtensionId| async move {
            match self.registry.validate(tenant, &extension, hash).await {
                Ok(true) => Ok(extension),
                Ok(false) => Err(Refusal::NOT_FOUND),
                Err(error) => Err(Refusal::registry(&error)),
            }
        };
        match valid(called.clone()).await {
            Err(Refusal::NOT_FOUND) => {}
            other => return other,
        }
        // The registry has said no to it as a registry id; it may be another name of one.
        match self.alias(tenant, called).await {
            Some(extension) => valid(extension).await,
            None => Err(Refusal::NOT_FOUND),
        }
    }

    /// The registry id behind an install id, name or slug, if it is another text than that.
    async fn alias(&self, tenant: &TenantId, called: &ExtensionId) -> Option<ExtensionId> {
        match self.registry.find(tenant, called.as_str()).await {
            Ok(Lookup::Found(install)) if install.extension != *called => Some(install.extension.clone()),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(error = %longshore_service::errors::chain(&error), "a name cannot be looked up");
                None
            }
        }
    }

    /// Confirms the claim and gets the bundle. The hint is kept only after both.
    pub(super) async fn bundle(
        &self,
        tenant: &TenantId,
        called: &ExtensionId,
        hash: ContentHash,
    ) -> Result<(BundleKey, Arc<Bundle>), Refusal> {
        let bundles = self.bundles.as_ref().ok_or_else(Refusal::no_store)?;
        let mut extension = self.confirm(tenant, called, hash).await?;
        // Asked of the store as it stands only where it looks like a registry id, or each file of a page would ask for nothing first.
        let is_id = Uuid::try_parse(called.as_str()).is_ok();
        if !self.config.strict && !is_id {
            extension = self.alias(tenant, called).await.unwrap_or(extension);
        }
        let mut key = BundleKey { tenant: tenant.clone(), extension, hash };
        let mut found = bundles.get(&key).await;
        if !self.config.strict
            && is_id
            && matches!(&found, Err(error) if matches!(**error, BundleError::NotFound { .. }))
            && let Some(extension) = self.alias(tenant, called).await
        {
            key.extension = extension;
            found = bundles.get(&key).await;
        }
        let bundle = found.map_err(|error| Refusal::bundle(&error))?;
        self.hints.confirmed(called, hash, tenant).await;
        Ok((key, bundle))
    }
}
