//! Uninstalling. The install is disabled first, so that nothing runs any more, and its record goes last: whatever fails in between, the
//! same command again goes on from there.

use longshore_access::TokenStore;
use longshore_proto::TenantId;
use longshore_proto::fleet::CallFilter;
use longshore_proto::install::Install;
use longshore_registry::{AuditKind, InstallsError};
use serde_json::json;

use super::change::facts;
use super::registry_failed;
use crate::api::{Removed, UninstallResponse};
use crate::app::Parts;
use crate::http::{Actor, Failure};
use crate::ledger::event;
use crate::maintenance::{token_failed, traces};

impl Parts {
    /// Uninstalls. With `purge`, what the install has stored, its bundles and its traces go too.
    ///
    /// # Errors
    /// There is none, or a part could not be removed: the install is then disabled and still there.
    pub async fn uninstall(
        &self,
        tenant: &TenantId,
        reference: &str,
        purge: bool,
        actor: &Actor,
    ) -> Result<UninstallResponse, Failure> {
        let _changing = self.changing.lock().await;
        let install = self.find(tenant, reference)?;
        let details = json!({ "before": facts(&install), "purge": purge });
        let removal = event(AuditKind::InstallRemoved, actor).tenant(tenant).extension(&install.extension);
        self.ledger.record(removal.details(details)).await?;
        match self.installs.set_enabled(tenant, &install.extension, false).await {
            // One that cannot be read cannot be called either.
            Ok(_) | Err(InstallsError::Damaged(_)) => {}
            Err(error) => return Err(registry_failed(&error)),
        }
        let mut warnings = Vec::new();
        let running = CallFilter {
            execution: None,
            tenant: Some(tenant.clone()),
            extension: Some(install.extension.clone()),
        };
        // Gateways do so by themselves when they hear of the change; this waits until they have.
        if let Err(error) = self.asker.cancel(&self.heard, running).await {
            warnings.push(format!("running calls could not be stopped at once: {error}"));
        }
        let mut removed =
            Removed { installs: 1, secrets: install.secret_names.len() as u64, ..Removed::default() };
        removed.schedules = self.data.remove_schedules(tenant, Some(&install.install_id)).await?;
        removed.tokens = self.revoke_those_for(&install, actor).await?;
        removed.ui_hints = self.data.remove_hints(&install).await?;
        if purge {
            removed.storage_entries = self.data.remove_storage(tenant, Some(&install.install_id)).await?;
            let prefix = format!("tenants/{tenant}/extensions/{}/", install.extension);
            self.remove_objects(&prefix, &mut removed).await?;
            match traces::remove(&self.events, tenant, Some(&install.extension)).await {
                Ok(streams) => removed.debug_streams = streams,
                Err(error) => warnings.push(format!("debug events are left in Redis: {error}")),
            }
            if let Some(store) = &self.traces {
                match store.remove_extension(tenant, &install.extension).await {
                    Ok(runs) => removed.recorded_runs = runs,
                    Err(error) => warnings.push(format!("recorded runs are left in Redis: {error}")),
                }
            }
        }
        match self.installs.remove(tenant, &install.extension).await {
            Ok(_) | Err(InstallsError::NotFound { .. }) => {}
            Err(error) => return Err(registry_failed(&error)),
        }
        Ok(UninstallResponse {
            install_id: install.install_id.clone(),
            extension: install.extension.to_string(),
            name: install.version.name.clone(),
            removed,
            warnings,
        })
    }

    /// Tokens that are good for this install and nothing else.
    async fn revoke_those_for(&self, install: &Install, actor: &Actor) -> Result<u64, Failure> {
        let tokens: &TokenStore = &self.tokens;
        let mut revoked = 0;
        for token in tokens.list(&install.tenant).await.map_err(|error| token_failed(&error))? {
            let only = token
                .extensions
                .as_ref()
                .is_some_and(|names| !names.is_empty() && names.iter().all(|name| is_named(install, name)));
            if only {
                let revocation = event(AuditKind::TokenRevoked, actor).tenant(&install.tenant);
                let details = json!({ "token": token.id, "because": "its install was removed" });
                self.ledger.record(revocation.details(details)).await?;
                let gone = tokens.revoke(&install.tenant, token.id).await.map_err(|e| token_failed(&e))?;
                revoked += u64::from(gone.is_some());
            }
        }
        Ok(revoked)
    }
}

/// Whether callers may call an install so.
fn is_named(install: &Install, name: &str) -> bool {
    name == install.extension.as_str()
        || name == install.install_id
        || name.eq_ignore_ascii_case(&install.version.name)
        || name.to_lowercase() == install.version.slug()
}
