//! Installing: the bundle is looked at, what is asked for is checked, the registry has it, the audit has it, and the workers have it.

mod change;
mod failure;
mod options;
mod remove;
mod view;

pub(crate) use change::now_ms;
pub(crate) use failure::registry_failed;
pub use view::view;

use std::sync::Arc;
use std::time::Duration;

use longshore_bundle::BundleKey;
use longshore_proto::TenantId;
use longshore_proto::fleet::Warm;
use longshore_proto::install::Install;
use longshore_proto::wire::PROTOCOL_VERSION;

use crate::api::{ApiCode, DEFAULT_WAIT_MS, InstallList, InstallQuery, MAX_WAIT_MS, WarmReport};
use crate::app::Parts;
use crate::bundles::limit;
use crate::http::Failure;

impl Parts {
    /// An install by whatever callers call it.
    ///
    /// # Errors
    /// There is none; the registry is not known.
    pub fn find(&self, tenant: &TenantId, reference: &str) -> Result<Arc<Install>, Failure> {
        let found = self.installs.find(tenant, reference).map_err(|error| registry_failed(&error))?;
        found.ok_or_else(|| not_found(tenant, reference))
    }

    /// A page of installs.
    ///
    /// # Errors
    /// The registry is not known, or the cursor is none.
    pub fn list_installs(&self, query: &InstallQuery) -> Result<InstallList, Failure> {
        let none = || Failure::invalid("cursor is not what `next` of a page of this list said");
        let after = match &query.cursor {
            None => None,
            Some(cursor) => {
                let (tenant, extension) = cursor.split_once(':').ok_or_else(none)?;
                Some((tenant.parse().map_err(|_| none())?, extension.parse().map_err(|_| none())?))
            }
        };
        let limit = limit(query.limit)?;
        let page = self.installs.list(query.tenant.as_ref(), after.as_ref(), limit);
        let page = page.map_err(|error| registry_failed(&error))?;
        Ok(InstallList {
            installs: page.installs.iter().map(|install| view(install)).collect(),
            // An id holds no colon.
            next: page.next.map(|(tenant, extension)| format!("{tenant}:{extension}")),
        })
    }

    /// Has the workers fetch and compile what an install runs. None: nobody was asked.
    pub(crate) async fn warm(&self, install: &Install, wait: Duration) -> Option<WarmReport> {
        if wait.is_zero() || !install.enabled {
            return None;
        }
        let warm = to_warm(bundle_of(install));
        match self.asker.warm(&self.heard, &install.pool, warm, wait).await {
            Ok(report) => Some(report),
            // The install is in force; that is what counts.
            Err(error) => {
                tracing::warn!(%error, install = install.install_id, "workers could not be told of an install");
                None
            }
        }
    }

    /// Another bundle of what a tenant has installed and enabled was uploaded: it is nearly always installed next, so workers compile it
    /// while that is asked and decided. Two uploads that nobody installs cost a compilation each, in turn with others.
    pub(crate) async fn warm_ahead(&self, key: BundleKey) {
        let Ok(Some(install)) = self.installs.find(&key.tenant, key.extension.as_str()) else { return };
        if !install.enabled || install.version.content_hash == key.hash {
            return;
        }
        if let Err(error) = self.asker.warm_ahead(&install.pool, to_warm(key)).await {
            tracing::debug!(%error, install = install.install_id, "workers could not be told of an upload");
        }
    }
}

fn to_warm(key: BundleKey) -> Warm {
    let BundleKey { tenant, extension, hash } = key;
    Warm { v: PROTOCOL_VERSION, tenant, extension, content_hash: hash }
}

fn not_found(tenant: &TenantId, reference: &str) -> Failure {
    let shown: String = reference.chars().take(128).collect();
    let message = format!(
        "tenant {tenant} has no install {shown:?}: `longshore list --tenant {tenant}` shows what it has"
    );
    Failure::new(ApiCode::InstallNotFound, message)
}

/// How long to wait for workers.
pub(crate) fn wait(asked: Option<u64>) -> Result<Duration, Failure> {
    match asked.unwrap_or(DEFAULT_WAIT_MS) {
        ms @ 0..=MAX_WAIT_MS => Ok(Duration::from_millis(ms)),
        ms => Err(Failure::invalid(format!("wait_ms is {ms}; it must be 0 to {MAX_WAIT_MS}"))),
    }
}

/// Where an install's bundle is.
pub(crate) fn bundle_of(install: &Install) -> BundleKey {
    BundleKey {
        tenant: install.tenant.clone(),
        extension: install.extension.clone(),
        hash: install.version.content_hash,
    }
}
