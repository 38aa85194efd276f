//! The writer of installs: the admin service. Every change is a compare-and-set on the record's revision, so two operators never undo
//! each other's work unseen.

mod change;

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use longshore_proto::install::Install;
use longshore_proto::{ContentHash, ExtensionId, TenantId};
use longshore_service::nats::Watcher;
use longshore_service::nats::buckets::{Ensured, KeyValue, KvError, Rights, Written};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::bucket::installs_settings;
use crate::nats::{InstallPage, NatsRegistry};
use crate::record::{self, RecordError, install_key};
use crate::seam::{Lookup, RegistryError};

pub use change::Refused;

/// Installs that a tenant may have.
pub const MAX_INSTALLS: usize = 1_000;
/// Bytes of one record.
pub const MAX_RECORD_BYTES: usize = 256 * 1024;
/// Bytes of an install's configuration and sealed secrets together: half of what a call may carry beside its body.
pub const MAX_CONFIG_BYTES: usize = 128 * 1024;
/// Host names of one install.
pub const MAX_HOSTS: usize = 16;

/// How long the mark of a removal stays. Who watches sees it at once, who was away reads the whole bucket anew.
const REMOVAL_MARK: Duration = Duration::from_secs(600);
/// How often a change is tried again when somebody else has changed the record in between.
const ATTEMPTS: usize = 8;
/// How long a write waits to be seen by this process' own registry, so that a list after it has it.
const SEEN: Duration = Duration::from_secs(2);

/// Why an install was not changed.
#[derive(Debug, thiserror::Error)]
pub enum InstallsError {
    /// The tenant has no such install.
    #[error("tenant {tenant} has no install of extension {extension}")]
    NotFound {
        /// Whose.
        tenant: TenantId,
        /// Which.
        extension: ExtensionId,
    },
    /// Others change it all the time.
    #[error("the install was changed by others {ATTEMPTS} times in a row; try again")]
    Conflict,
    /// A part is too large.
    #[error("{what} of the install: {bytes} bytes, of which {limit} are allowed")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The tenant has as many as it may have.
    #[error("the tenant has {MAX_INSTALLS} installs, and more are not allowed")]
    TooMany,
    /// Another install has this host. Not said whose: that is the other tenant's.
    #[error("the host {0} belongs to another install")]
    HostTaken(String),
    /// There is no earlier version, or not this one.
    #[error("the install has no such earlier version")]
    NoSuchVersion,
    /// A field is outside its limits.
    #[error("{0}")]
    Refused(Refused),
    /// The stored record cannot be read: removing it and installing again heals.
    #[error("the stored install cannot be read; remove it or install it again")]
    Damaged(#[source] RecordError),
    /// Installs are not known yet.
    #[error("installs cannot be looked at now")]
    Registry(#[source] RegistryError),
    /// NATS does not answer or refuses; the change may or may not have been made.
    #[error("the install cannot be stored or read now")]
    Nats(#[source] KvError),
    /// The record cannot be written.
    #[error("the install cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
}

impl From<Refused> for InstallsError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There was none before.
    Created,
    /// It is another than before.
    Updated,
    /// It was like this already; nothing was written.
    Unchanged,
}

/// An install after a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// As it is now.
    pub install: Arc<Install>,
    /// As it was before; for the audit.
    pub before: Option<Arc<Install>>,
    /// What the change did.
    pub outcome: Outcome,
    /// The record's revision.
    pub revision: u64,
}

/// What is to become of a record.
enum Next {
    Keep,
    Put(Box<Install>),
}

/// Makes, changes and removes installs.
pub struct Installs {
    kv: KeyValue,
    registry: NatsRegistry,
}

impl Installs {
    /// A writer on a connection of the user `control`, whose client makes its inboxes where that user may listen. `registry` watches the same
    /// bucket; `replicas` (1 to 5) counts when the bucket is made.
    pub fn new(client: Client, link: Watcher, registry: NatsRegistry, replicas: usize) -> Self {
        let kv = KeyValue::new(client, link, installs_settings(replicas), Rights::MayUpdate);
        Self { kv, registry }
    }

    /// Makes or updates the bucket, without which no gateway becomes ready. To be called at the start, until it succeeds.
    ///
    /// # Errors
    /// [`InstallsError::Nats`].
    pub async fn prepare(&self) -> Result<Ensured, InstallsError> {
        self.kv.prepare().await.map_err(InstallsError::Nats)
    }

    /// Installs, or replaces what is installed. Of `wanted` everything counts but `previous` and the times. Another bundle than before goes
    /// in force, and the one before becomes the first of `previous`.
    ///
    /// # Errors
    /// Limits, a host of another install, NATS.
    pub async fn create_or_update(&self, wanted: Install) -> Result<Stored, InstallsError> {
        let wanted = change::checked(wanted)?;
        let (tenant, extension) = (wanted.tenant.clone(), wanted.extension.clone());
        self.change(&tenant, &extension, |current, now| match current {
            Some(Ok(current)) => Ok(change::replace(&current, &wanted, now)),
            // A record that cannot be read is replaced: that is how it is healed.
            Some(Err(_)) | None => {
                if current.is_none()
                    && self.registry.count_of(&tenant).map_err(InstallsError::Registry)? >= MAX_INSTALLS
                {
                    return Err(InstallsError::TooMany);
                }
                Ok(Next::Put(Box::new(change::create(&wanted, now))))
            }
        })
        .await
    }

    /// Changes an install; `edit` may be called several times, each time with the install as it then is.
    ///
    /// # Errors
    /// As [`Self::create_or_update`]; [`InstallsError::NotFound`]; what `edit` says.
    pub async fn update(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        edit: impl Fn(&mut Install) -> Result<(), InstallsError> + Send + Sync,
    ) -> Result<Stored, InstallsError> {
        self.change(tenant, extension, |current, now| {
            let current = present(current, tenant, extension)?;
            let mut wanted = current.clone();
            edit(&mut wanted)?;
            (wanted.tenant, wanted.extension) = (tenant.clone(), extension.clone());
            Ok(change::replace(&current, &change::checked(wanted)?, now))
        })
        .await
    }

    /// Lets it be called, or not any more.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub async fn set_enabled(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        enabled: bool,
    ) -> Result<Stored, InstallsError> {
        self.update(tenant, extension, move |install| {
            install.enabled = enabled;
            Ok(())
        })
        .await
    }

    /// Puts an earlier version back in force: the newest, or the one of `to`. The version in force goes to the end of `previous`, so that
    /// further calls go further back, and nothing gets lost. Capabilities that the version does not ask for are taken away.
    ///
    /// # Errors
    /// As [`Self::update`]; [`InstallsError::NoSuchVersion`].
    pub async fn rollback(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        to: Option<ContentHash>,
    ) -> Result<Stored, InstallsError> {
        self.change(tenant, extension, |current, now| {
            let current = present(current, tenant, extension)?;
            change::rollback(current, to, now).ok_or(InstallsError::NoSuchVersion)
        })
        .await
    }

    /// Removes an install; what it was, or `None` if that could not be read. Schedules, storage and bundles are others'.
    ///
    /// # Errors
    /// [`InstallsError::NotFound`]; NATS.
    pub async fn remove(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
    ) -> Result<Option<Install>, InstallsError> {
        let key = install_key(tenant, extension);
        for _ in 0..ATTEMPTS {
            let Some((value, revision)) = self.read(&key).await? else {
                return Err(InstallsError::NotFound { tenant: tenant.clone(), extension: extension.clone() });
            };
            let removed = self.kv.remove(&key, revision, REMOVAL_MARK).await.map_err(InstallsError::Nats)?;
            if let Written::Done(revision) = removed {
                self.registry.seen(revision, SEEN).await;
                return Ok(value.ok());
            }
        }
        Err(InstallsError::Conflict)
    }

    /// Takes a change back, its history too, unless somebody has changed the install since. Another change would not do: what
    /// is taken back must not be an earlier version to roll back to.
    ///
    /// # Errors
    /// Somebody else has changed it; NATS.
    pub async fn undo(&self, change: &Stored) -> Result<(), InstallsError> {
        if change.outcome == Outcome::Unchanged {
            return Ok(());
        }
        let key = install_key(&change.install.tenant, &change.install.extension);
        let written = match &change.before {
            Some(before) => {
                let bytes = record::encode(before).map_err(InstallsError::Encode)?;
                self.kv.put(&key, bytes.into(), change.revision).await
            }
            None => self.kv.remove(&key, change.revision, REMOVAL_MARK).await,
        };
        match written.map_err(InstallsError::Nats)? {
            Written::Done(revision) => {
                self.registry.seen(revision, SEEN).await;
                Ok(())
            }
            Written::Conflict => Err(InstallsError::Conflict),
        }
    }

    /// Removes all of a tenant's installs; what they were.
    ///
    /// # Errors
    /// NATS; some may have been removed by then.
    pub async fn remove_tenant(&self, tenant: &TenantId) -> Result<Vec<Install>, InstallsError> {
        let mut removed = Vec::new();
        // Somebody may install while this goes on; not for ever.
        for _ in 0..ATTEMPTS {
            let extensions = self.registry.extensions_of(tenant).map_err(InstallsError::Registry)?;
            if extensions.is_empty() {
                return Ok(removed);
            }
            for extension in extensions {
                match self.remove(tenant, &extension).await {
                    Ok(install) => removed.extend(install),
                    // Somebody else has removed it.
                    Err(InstallsError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Err(InstallsError::Conflict)
    }

    /// An install, from where it is kept.
    ///
    /// # Errors
    /// [`InstallsError::NotFound`], [`InstallsError::Damaged`]; NATS.
    pub async fn get(&self, tenant: &TenantId, extension: &ExtensionId) -> Result<Install, InstallsError> {
        let current = self.read(&install_key(tenant, extension)).await?;
        present(current.map(|(value, _)| value), tenant, extension)
    }

    /// An install by whatever callers call it.
    ///
    /// # Errors
    /// [`InstallsError::Registry`].
    pub fn find(&self, tenant: &TenantId, reference: &str) -> Result<Option<Arc<Install>>, InstallsError> {
        match self.registry.look_up(tenant, reference).map_err(InstallsError::Registry)? {
            Lookup::Found(install) => Ok(Some(install)),
            Lookup::Absent => Ok(None),
        }
    }

    /// A part of the installs of a tenant or of all, from `after` on.
    ///
    /// # Errors
    /// [`InstallsError::Registry`].
    pub fn list(
        &self,
        tenant: Option<&TenantId>,
        after: Option<&(TenantId, ExtensionId)>,
        limit: usize,
    ) -> Result<InstallPage, InstallsError> {
        self.registry.list(tenant, after, limit).map_err(InstallsError::Registry)
    }

    async fn read(&self, key: &str) -> Result<Option<(Result<Install, RecordError>, u64)>, InstallsError> {
        let entry = self.kv.get(key).await.map_err(InstallsError::Nats)?;
        Ok(entry.and_then(|entry| Some((record::decode(key, &entry.value?), entry.revision))))
    }

    async fn change(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        next: impl Fn(Option<Result<Install, RecordError>>, &str) -> Result<Next, InstallsError> + Send + Sync,
    ) -> Result<Stored, InstallsError> {
        let key = install_key(tenant, extension);
        for _ in 0..ATTEMPTS {
            let entry = self.kv.get(&key).await.map_err(InstallsError::Nats)?;
            let revision = entry.as_ref().map_or(0, |entry| entry.revision);
            let current = entry.and_then(|entry| entry.value).map(|value| record::decode(&key, &value));
            let before = match &current {
                Some(Ok(install)) => Some(Arc::new(install.clone())),
                _ => None,
            };
            let install = match (next(current, &now())?, &before) {
                (Next::Put(install), _) => install,
                (Next::Keep, Some(before)) => {
                    let (install, before) = (before.clone(), Some(before.clone()));
                    return Ok(Stored { install, before, outcome: Outcome::Unchanged, revision });
                }
                (Next::Keep, None) => {
                    return Err(InstallsError::NotFound {
                        tenant: tenant.clone(),
                        extension: extension.clone(),
                    });
                }
            };
            self.check_hosts(&install)?;
            let (install, bytes) = change::fitted(*install)?;
            let written = self.kv.put(&key, bytes.into(), revision).await.map_err(InstallsError::Nats)?;
            if let Written::Done(revision) = written {
                self.registry.seen(revision, SEEN).await;
                let outcome = if before.is_some() { Outcome::Updated } else { Outcome::Created };
                return Ok(Stored { install: Arc::new(install), before, outcome, revision });
            }
        }
        Err(InstallsError::Conflict)
    }

    /// Two that ask at the same moment may both get a host; then the older install has it ([`crate::Registry::by_host`]).
    fn check_hosts(&self, install: &Install) -> Result<(), InstallsError> {
        for host in &install.hosts {
            let holder = self.registry.holder(host).map_err(InstallsError::Registry)?;
            let is_other = |other: &Arc<Install>| {
                (&other.tenant, &other.extension) != (&install.tenant, &install.extension)
            };
            if holder.as_ref().is_some_and(is_other) {
                return Err(InstallsError::HostTaken(host.clone()));
            }
        }
        Ok(())
    }
}

fn present(
    current: Option<Result<Install, RecordError>>,
    tenant: &TenantId,
    extension: &ExtensionId,
) -> Result<Install, InstallsError> {
    let absent = || InstallsError::NotFound { tenant: tenant.clone(), extension: extension.clone() };
    current.ok_or_else(absent)?.map_err(InstallsError::Damaged)
}

/// Whole seconds, so that times sort as text.
fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    // A year of four digits always can be written.
    now.format(&Rfc3339).unwrap_or_default()
}
