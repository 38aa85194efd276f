//! A tenant leaves.

use longshore_proto::TenantId;
use longshore_proto::fleet::CallFilter;
use longshore_registry::AuditKind;
use serde_json::json;

use super::{token_failed, traces};
use crate::api::{ApiCode, PurgeRequest, PurgeResponse, Removed};
use crate::app::Parts;
use crate::http::{Actor, Failure};
use crate::installs::registry_failed;
use crate::ledger::event;

/// Where a tenant's objects are: bundles and uploads on their way, recorded bodies, traces.
const PREFIXES: [&str; 3] = ["tenants", "payloads", "traces"];

/// Installs of one page while they are counted.
const PAGE: usize = 1000;

impl Parts {
    /// Removes everything of a tenant. Whatever breaks off is done by the next purge: each step looks at what is there, not at what was
    /// done.
    ///
    /// # Errors
    /// `confirm` is another word, or NATS does not answer. What the store and Redis keep is named in the answer.
    pub async fn purge(
        &self,
        tenant: &TenantId,
        request: &PurgeRequest,
        actor: &Actor,
    ) -> Result<PurgeResponse, Failure> {
        if request.confirm != tenant.as_str() {
            let message = format!(
                "confirm is not {tenant}: send the tenant's id once more to remove everything it has"
            );
            return Err(Failure::new(ApiCode::NotConfirmed, message));
        }
        let _changing = self.changing.lock().await;
        let installs = self.all_of(tenant)?;
        let ids: Vec<&str> = installs.iter().map(|install| install.install_id.as_str()).take(100).collect();
        let details = json!({ "installs": installs.len(), "install_ids": ids });
        self.ledger.record(event(AuditKind::TenantPurged, actor).tenant(tenant).details(details)).await?;

        let mut left = Vec::new();
        let mut removed = Removed {
            secrets: installs.iter().map(|install| install.secret_names.len() as u64).sum(),
            ..Removed::default()
        };
        // Nobody can call from here on.
        removed.tokens =
            self.tokens.remove_tenant(tenant).await.map_err(|error| token_failed(&error))? as u64;
        let gone = self.installs.remove_tenant(tenant).await.map_err(|error| registry_failed(&error))?;
        removed.installs = gone.len() as u64;
        // What still runs would write again behind us.
        let running = CallFilter { tenant: Some(tenant.clone()), ..CallFilter::default() };
        match self.asker.cancel(&self.heard, running).await {
            Ok(stopped) if stopped.silent_shims.is_empty() => {}
            Ok(stopped) => left.push(format!(
                "calls of the gateways {} may still run and write: purge again when they have ended",
                stopped.silent_shims.join(", ")
            )),
            Err(error) => left.push(format!("running calls could not be stopped: {error}")),
        }
        removed.schedules = self.data.remove_schedules(tenant, None).await?;
        removed.storage_entries = self.data.remove_storage(tenant, None).await?;
        for install in &installs {
            removed.ui_hints += self.data.remove_hints(install).await?;
        }
        for prefix in PREFIXES {
            let prefix = format!("{prefix}/{tenant}/");
            if let Err(failure) = self.remove_objects(&prefix, &mut removed).await {
                tracing::warn!(
                    prefix,
                    cause = failure.cause.as_deref(),
                    "a purge could not remove all objects"
                );
                left.push(format!("objects below {prefix} in the store: {}", failure.message));
            }
        }
        match traces::remove(&self.events, tenant, None).await {
            Ok(streams) => removed.debug_streams = streams,
            Err(error) => left.push(format!("debug events: {error}")),
        }
        if let Some(store) = &self.traces {
            match store.remove_tenant(tenant).await {
                Ok(runs) => removed.recorded_runs = runs,
                Err(error) => left.push(format!("recorded runs: {error}")),
            }
        }
        tracing::info!(%tenant, ?removed, left = left.len(), "tenant purged");
        Ok(PurgeResponse { tenant: tenant.to_string(), removed, left })
    }

    fn all_of(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<std::sync::Arc<longshore_proto::install::Install>>, Failure> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page =
                self.installs.list(Some(tenant), after.as_ref(), PAGE).map_err(|e| registry_failed(&e))?;
            all.extend(page.installs);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }
}
