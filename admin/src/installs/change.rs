//! Installs are made and changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longshore_bundle::BundleKey;
use longshore_proto::call::CaptureLevel;
use longshore_proto::extension_ids::ExtensionIds;
use longshore_proto::install::{Install, InstalledVersion};
use longshore_proto::{CapabilitySet, ContentHash, ExtensionId, PoolName, TenantId};
use longshore_registry::{AuditKind, InstallsError, Outcome as Stored, RegistryError, Stored as Change};
use serde_json::json;

use super::{bundle_of, options, registry_failed, view, wait};
use crate::api::{ApiCode, InstallPatch, InstallRequest, InstallResponse, Outcome, RollbackRequest};
use crate::app::Parts;
use crate::bundles::{Fetched, absent, allowed};
use crate::http::{Actor, Failure};
use crate::ledger::event;

impl Parts {
    /// Installs a bundle that is in the store.
    ///
    /// # Errors
    /// Whatever is wrong with the bundle or with what is asked for.
    pub async fn install(
        &self,
        tenant: &TenantId,
        request: InstallRequest,
        actor: &Actor,
    ) -> Result<InstallResponse, Failure> {
        let (hash, extension, from, options) = request.into_parts();
        let wait = wait(options.wait_ms)?;
        let fetched = self.source(tenant, hash, extension, from.as_ref()).await?;
        let (signed_by, unsigned) = allowed(&self.bundles, &fetched, hash)?;
        let key = BundleKey { tenant: tenant.clone(), ..fetched.key.clone() };
        let mut version = InstalledVersion::of(&fetched.looked.manifest, hash);
        version.signed_by = signed_by;
        let install_id = ExtensionIds::of(&fetched.looked.manifest).install(tenant.as_str()).to_string();

        let changing = self.changing.lock().await;
        let before = self.current(tenant, &key.extension).await?;
        self.check_identity(tenant, &key.extension, &install_id, before.as_ref(), &version)?;
        let mut wanted = before.clone().unwrap_or_else(|| blank(&key, install_id, version.clone()));
        // The same bundle keeps the time since when it is in force.
        let installed_at = std::mem::take(&mut wanted.version.installed_at);
        wanted.version = InstalledVersion { installed_at, ..version };
        options::apply(
            &mut wanted,
            before.as_ref().map(|install| &install.version),
            &options,
            self.ring.as_ref(),
        )?;
        // Removed since it was looked at: by a purge, or a collection.
        if fetched.key != key || !self.bundles.exists(&key).await? {
            self.bundles.copy(&fetched, &key).await?;
        }
        let change = self.put(before, wanted, actor).await?;
        drop(changing);
        let mut warnings = fetched.looked.warnings.clone();
        warnings.extend(unsigned);
        self.answer(change, None, wait, warnings).await
    }

    /// Changes an install.
    ///
    /// # Errors
    /// There is none, or a value is outside its range.
    pub async fn patch(
        &self,
        tenant: &TenantId,
        reference: &str,
        options: InstallPatch,
        actor: &Actor,
    ) -> Result<InstallResponse, Failure> {
        let wait = wait(options.wait_ms)?;
        let extension = self.find(tenant, reference)?.extension.clone();
        let changing = self.changing.lock().await;
        let before = self.installs.get(tenant, &extension).await.map_err(|e| registry_failed(&e))?;
        let mut wanted = before.clone();
        options::apply(&mut wanted, Some(&before.version), &options, self.ring.as_ref())?;
        // The bundle is where it was; only other workers, or the same ones after a pause, have to be told.
        let told = wanted.pool != before.pool || (wanted.enabled && !before.enabled);
        let change = self.put(Some(before), wanted, actor).await?;
        drop(changing);
        let wait = if told { wait } else { Duration::ZERO };
        self.answer(change, None, wait, Vec::new()).await
    }

    /// Puts the version before in force.
    ///
    /// # Errors
    /// There is none, or its bundle is not in the store any more, or its signature does not count any more.
    pub async fn rollback(
        &self,
        tenant: &TenantId,
        reference: &str,
        request: RollbackRequest,
        actor: &Actor,
    ) -> Result<InstallResponse, Failure> {
        let wait = wait(request.wait_ms)?;
        let extension = self.find(tenant, reference)?.extension.clone();
        let changing = self.changing.lock().await;
        let before = self.installs.get(tenant, &extension).await.map_err(|e| registry_failed(&e))?;
        let Some(earlier) = before.previous.first() else {
            return Err(registry_failed(&InstallsError::NoSuchVersion));
        };
        let key = BundleKey { hash: earlier.content_hash, ..bundle_of(&before) };
        let fetched = self.bundles.fetch(key).await?;
        let (_, unsigned) = allowed(&self.bundles, &fetched, earlier.content_hash)?;
        let to = Some(earlier.content_hash);
        let change = self.installs.rollback(tenant, &extension, to).await.map_err(|e| registry_failed(&e))?;
        let recorded = self.record_change(AuditKind::InstallRolledBack, &change, actor).await;
        self.or_undo(recorded, &change).await?;
        drop(changing);
        self.answer(change, Some(Outcome::RolledBack), wait, unsigned.into_iter().collect()).await
    }

    /// The bundle that is to be installed, from wherever it is.
    async fn source(
        &self,
        tenant: &TenantId,
        hash: ContentHash,
        extension: Option<ExtensionId>,
        from: Option<&TenantId>,
    ) -> Result<Fetched, Failure> {
        let owner = from.unwrap_or(tenant);
        let key = match extension {
            Some(extension) => BundleKey { tenant: owner.clone(), extension, hash },
            None => self.bundles.search(owner, hash).await?,
        };
        if !self.bundles.exists(&key).await? {
            return Err(absent(&key));
        }
        self.bundles.fetch(key).await
    }

    /// The install as it is kept now. One that cannot be read is replaced, which heals it.
    async fn current(&self, tenant: &TenantId, extension: &ExtensionId) -> Result<Option<Install>, Failure> {
        match self.installs.get(tenant, extension).await {
            Ok(install) => Ok(Some(install)),
            Err(InstallsError::NotFound { .. }) => Ok(None),
            Err(error @ InstallsError::Damaged(_)) => {
                tracing::warn!(%tenant, %extension, error = %longshore_service::errors::chain(&error), "a damaged install is replaced");
                Ok(None)
            }
            Err(error) => Err(registry_failed(&error)),
        }
    }

    /// An extension id stays with one publisher and name, and one of those has one extension id: what was sealed, granted and stored for an
    /// extension is never handed to another.
    fn check_identity(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        install_id: &str,
        before: Option<&Install>,
        version: &InstalledVersion,
    ) -> Result<(), Failure> {
        let refused = |other: &Install, id: &ExtensionId| {
            let message = format!(
                "{}/{} cannot be installed as extension {id}: tenant {tenant} has {}/{} as extension {}; uninstall that one first, or name another extension id",
                version.publisher, version.name, other.version.publisher, other.version.name, other.extension
            );
            Err(Failure::new(ApiCode::Conflict, message))
        };
        if let Some(other) = before.filter(|install| install.install_id != install_id) {
            return refused(other, extension);
        }
        match self.installs.find(tenant, install_id) {
            Ok(Some(other)) if other.extension != *extension => refused(&other, extension),
            // A record that cannot be read is healed by being written anew.
            Ok(_) | Err(InstallsError::Registry(RegistryError::Damaged(_))) => Ok(()),
            Err(error) => Err(registry_failed(&error)),
        }
    }

    /// Writes an install and records it; undoes it if that fails. The caller holds `changing`.
    pub(crate) async fn put(
        &self,
        before: Option<Install>,
        wanted: Install,
        actor: &Actor,
    ) -> Result<Change, Failure> {
        let mut wanted = wanted;
        // One that has ended is nothing any more.
        wanted.recording.take_if(|recording| recording.until_ms <= now_ms());
        let mut change =
            self.installs.create_or_update(wanted).await.map_err(|error| registry_failed(&error))?;
        // What was read under the lock; the registry's own may be damaged.
        if change.before.is_none() {
            change.before = before.map(Arc::new);
        }
        let recorded = self.record_changes(&change, actor).await;
        self.or_undo(recorded, &change).await?;
        Ok(change)
    }

    async fn or_undo(&self, recorded: Result<(), Failure>, change: &Change) -> Result<(), Failure> {
        let Err(failure) = recorded else { return Ok(()) };
        let now = &change.install;
        if let Err(error) = self.installs.undo(change).await {
            tracing::error!(
                install = now.install_id,
                tenant = %now.tenant,
                error = %longshore_service::errors::chain(&error),
                "a change of an install could neither be recorded nor undone"
            );
        }
        Err(failure)
    }

    async fn record_changes(&self, change: &Change, actor: &Actor) -> Result<(), Failure> {
        let now = &change.install;
        match (change.outcome, &change.before) {
            (Stored::Unchanged, _) => return Ok(()),
            (Stored::Created, _) => {
                return self.record_change(AuditKind::InstallCreated, change, actor).await;
            }
            (Stored::Updated, None) => {
                return self.record_change(AuditKind::InstallUpdated, change, actor).await;
            }
            (Stored::Updated, Some(before)) => {
                let mut quiet = Install::clone(before);
                (quiet.enabled, quiet.capabilities) = (now.enabled, now.capabilities);
                quiet.recording.clone_from(&now.recording);
                quiet.updated_at.clone_from(&now.updated_at);
                if quiet != **now {
                    self.record_change(AuditKind::InstallUpdated, change, actor).await?;
                }
                if before.capabilities != now.capabilities {
                    self.record_change(AuditKind::GrantChanged, change, actor).await?;
                }
                let recorded = before.recording.as_ref().filter(|recording| recording.until_ms > now_ms());
                if recorded != now.recording.as_ref() {
                    let on = now.recording.is_some();
                    let kind = if on { AuditKind::RecordingOn } else { AuditKind::RecordingOff };
                    self.record_change(kind, change, actor).await?;
                }
                if before.enabled != now.enabled {
                    let kind =
                        if now.enabled { AuditKind::InstallEnabled } else { AuditKind::InstallDisabled };
                    self.record_change(kind, change, actor).await?;
                }
            }
        }
        Ok(())
    }

    async fn record_change(&self, kind: AuditKind, change: &Change, actor: &Actor) -> Result<(), Failure> {
        let now = &change.install;
        let details = json!({ "before": change.before.as_deref().map(facts), "after": facts(now) });
        let event = event(kind, actor).tenant(&now.tenant).extension(&now.extension).details(details);
        self.ledger.record(event).await
    }

    async fn answer(
        &self,
        change: Change,
        outcome: Option<Outcome>,
        wait: Duration,
        warnings: Vec<String>,
    ) -> Result<InstallResponse, Failure> {
        let outcome = match (outcome, change.outcome) {
            (Some(outcome), Stored::Created | Stored::Updated) => outcome,
            (None, Stored::Created) => Outcome::Created,
            (None, Stored::Updated) => Outcome::Updated,
            (_, Stored::Unchanged) => Outcome::Unchanged,
        };
        let warm = self.warm(&change.install, wait).await;
        Ok(InstallResponse { outcome, install: view(&change.install), warm, warnings })
    }
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// What the audit says of an install: names and hashes. Values of the configuration may be anything, so only their names are kept.
pub(super) fn facts(install: &Install) -> serde_json::Value {
    json!({
        "install_id": install.install_id,
        "name": install.version.name,
        "publisher": install.version.publisher,
        "version": install.version.version,
        "content_hash": install.version.content_hash.to_string(),
        "signed_by": install.version.signed_by,
        "enabled": install.enabled,
        "granted": install.capabilities.iter().map(|capability| capability.as_str()).collect::<Vec<_>>(),
        "config_names": install.config.keys().collect::<Vec<_>>(),
        "secret_names": install.secret_names,
        "secrets_version": install.secrets.as_ref().and_then(|sealed| sealed.version.clone()),
        "limits": install.limits,
        "egress": install.egress,
        "pool": install.pool.as_str(),
        "weight": install.weight,
        "capture": install.capture.as_str(),
        "recording": install.recording,
        "hosts": install.hosts,
    })
}

fn blank(key: &BundleKey, install_id: String, version: InstalledVersion) -> Install {
    Install {
        install_id,
        tenant: key.tenant.clone(),
        extension: key.extension.clone(),
        enabled: true,
        version,
        previous: Vec::new(),
        config: BTreeMap::new(),
        capabilities: CapabilitySet::default(),
        secrets: None,
        secret_names: Vec::new(),
        limits: longshore_proto::limits::LimitSet::default(),
        egress: None,
        pool: PoolName::default(),
        weight: 1,
        capture: CaptureLevel::default(),
        recording: None,
        hosts: Vec::new(),
        created_at: String::new(),
        updated_at: String::new(),
    }
}
