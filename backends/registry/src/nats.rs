//! The installs of the bucket, watched: what a gateway looks calls up in.
//!
//! What was read stays in force while NATS is away: calls need NATS anyway, and pages need not suffer from its absence. After a reconnect the
//! bucket is read anew ([`BucketWatch`]).

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_trait::async_trait;
use longshore_proto::install::Install;
use longshore_proto::{ContentHash, ExtensionId, TenantId};
use longshore_service::lifecycle::Tasks;
use longshore_service::metrics::Metrics;
use longshore_service::metrics::prometheus_client::metrics::counter::Counter;
use longshore_service::metrics::prometheus_client::metrics::gauge::Gauge;
use longshore_service::nats::Watcher;
use longshore_service::nats::buckets::{BucketEvent, BucketWatch};
use longshore_service::readiness::Condition;
use parking_lot::RwLock;
use tokio::sync::{broadcast, watch};

use crate::bucket::INSTALLS;
use crate::index::{Damaged, Index};
use crate::record;
use crate::seam::{Change, HostTarget, Lookup, Registry, RegistryError};

/// Changes that a slow receiver may be behind; then it is told that it has missed some.
const CHANGES: usize = 1024;

/// All installs, kept up to date. Cheap to clone.
#[derive(Clone)]
pub struct NatsRegistry(Arc<Shared>);

struct Shared {
    index: RwLock<Index>,
    state: watch::Sender<State>,
    changes: broadcast::Sender<Change>,
    metrics: RegistryMetrics,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Whether the whole bucket was read once.
    complete: bool,
    /// The last revision heard of.
    seen: u64,
    /// Why the watch does not hold now.
    trouble: Option<String>,
    /// Whether that is because there is no bucket.
    absent: bool,
}

/// What a process that watches installs counts.
#[derive(Clone)]
pub struct RegistryMetrics {
    installs: Gauge,
    watching: Gauge,
    unreadable: Counter,
}

impl RegistryMetrics {
    /// Registers them; [`NatsRegistry::start`] does it for its process.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            installs: metrics.register(
                "registry_installs",
                "Installs known to this process",
                Gauge::default(),
            ),
            watching: metrics.register(
                "registry_watching",
                "1 while changes of installs are heard of",
                Gauge::default(),
            ),
            unreadable: metrics.register(
                "registry_unreadable_records",
                "Records of installs that could not be read",
                Counter::default(),
            ),
        }
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct InstallPage {
    /// In the order of tenant and extension id.
    pub installs: Vec<Arc<Install>>,
    /// Where the next part begins; `None`: this was the last.
    pub next: Option<(TenantId, ExtensionId)>,
}

impl NatsRegistry {
    /// Begins to watch, on a connection whose user may (`shim`, `control`) and whose client makes its inboxes where that user may listen.
    /// `condition`, if given, holds from when the whole bucket has been read: `registry` among the conditions of readiness.
    pub fn start(
        client: Client,
        link: Watcher,
        tasks: &Tasks,
        metrics: &Metrics,
        condition: Option<Condition>,
    ) -> Self {
        let metrics = RegistryMetrics::register(metrics);
        let shared = Shared {
            index: RwLock::default(),
            state: watch::Sender::new(State::default()),
            changes: broadcast::Sender::new(CHANGES),
            metrics,
        };
        let registry = Self(Arc::new(shared));
        let watch = BucketWatch::new(client, link, INSTALLS);
        tasks.spawn_background("registry", registry.clone().watch(watch, condition));
        registry
    }

    async fn watch(self, mut watch: BucketWatch, condition: Option<Condition>) {
        let mut logged: Option<String> = None;
        while let Some(event) = watch.next().await {
            match event {
                BucketEvent::Put { key, value, .. } => self.put(&key, &value),
                BucketEvent::Removed { key } => self.removed(&key),
                BucketEvent::Seen(revision) => self.0.state.send_modify(|state| state.seen = revision),
                BucketEvent::Complete => {
                    let installs = self.0.index.read().len();
                    if logged.take().is_some() || !self.0.state.borrow().complete {
                        tracing::info!(installs, "the installs are known and watched");
                    }
                    self.0.metrics.watching.set(1);
                    self.0.state.send_modify(|state| {
                        (state.complete, state.trouble, state.absent) = (true, None, false)
                    });
                    if let Some(condition) = &condition {
                        condition.set(true, "");
                    }
                }
                BucketEvent::Trouble(ref why) | BucketEvent::Absent(ref why) => {
                    let why = why.clone();
                    let absent = matches!(event, BucketEvent::Absent(_));
                    self.0.metrics.watching.set(0);
                    if logged.as_ref() != Some(&why) {
                        tracing::warn!(%why, "installs are not watched now; what is known of them stays in force");
                    }
                    let known = self.0.state.borrow().complete;
                    if let (Some(condition), false) = (&condition, known) {
                        condition.set(false, why.clone());
                    }
                    self.0
                        .state
                        .send_modify(|state| (state.trouble, state.absent) = (Some(why.clone()), absent));
                    logged = Some(why);
                }
            }
        }
    }

    fn put(&self, key: &str, value: &[u8]) {
        let shared = &self.0;
        let Some((tenant, extension)) = record::owner(key) else {
            shared.metrics.unreadable.inc();
            tracing::warn!(key, "the bucket of installs holds a key that is none; it is skipped");
            return;
        };
        let install = match record::decode(key, value) {
            Ok(install) => Arc::new(install),
            Err(error) => {
                shared.metrics.unreadable.inc();
                tracing::error!(%tenant, %extension, key, %error, "an install's record cannot be read; it is skipped. Install it again");
                shared.index.write().damage(&tenant, &extension);
                self.count();
                return;
            }
        };
        let before = shared.index.write().put(install.clone());
        self.count();
        if before.as_ref() != Some(&install) {
            self.tell(Change { tenant, extension, now: Some(install) });
        }
    }

    fn removed(&self, key: &str) {
        let Some((tenant, extension)) = record::owner(key) else { return };
        let before = self.0.index.write().remove(&tenant, &extension);
        self.count();
        if before.is_some() {
            self.tell(Change { tenant, extension, now: None });
        }
    }

    fn count(&self) {
        let installs = self.0.index.read().len();
        self.0.metrics.installs.set(i64::try_from(installs).unwrap_or(i64::MAX));
    }

    fn tell(&self, change: Change) {
        // What is read at the start is no change: nobody can have used it before.
        if self.0.state.borrow().complete {
            // No receiver is no failure.
            let _ = self.0.changes.send(change);
        }
    }

    /// Waits until the whole bucket has been read.
    pub async fn ready(&self) {
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.0.state.subscribe().wait_for(|state| state.complete).await;
    }

    /// Whether the whole bucket has been read.
    pub fn is_ready(&self) -> bool {
        self.0.state.borrow().complete
    }

    /// Waits until a write of this revision is seen here, at most `limit`; whether it was.
    pub async fn seen(&self, revision: u64, limit: Duration) -> bool {
        let mut state = self.0.state.subscribe();
        let seen = state.wait_for(|state| state.seen >= revision);
        tokio::time::timeout(limit, seen).await.is_ok_and(|seen| seen.is_ok())
    }

    fn known(&self) -> Result<(), RegistryError> {
        let state = self.0.state.borrow();
        if state.complete {
            return Ok(());
        }
        let why = state.trouble.clone().unwrap_or_else(|| "the bucket is being read".to_owned());
        Err(if state.absent { RegistryError::NotKept(why) } else { RegistryError::NotReady(why) })
    }

    /// A tenant's install of an extension.
    ///
    /// # Errors
    /// [`RegistryError::NotReady`] before the bucket has been read.
    pub fn get(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
    ) -> Result<Option<Arc<Install>>, RegistryError> {
        self.known()?;
        Ok(self.0.index.read().get(tenant, extension).cloned())
    }

    /// As [`Registry::find`], without a task switch: a look into memory.
    ///
    /// # Errors
    /// [`RegistryError::NotReady`] before the bucket has been read; [`RegistryError::Damaged`].
    pub fn look_up(&self, tenant: &TenantId, reference: &str) -> Result<Lookup, RegistryError> {
        self.known()?;
        let found = self.0.index.read().find(tenant, reference);
        found.map_err(|Damaged| {
            RegistryError::Damaged(format!("tenant {tenant}, extension {}", shown(reference)))
        })
    }

    /// Installs of a tenant or of all, `limit` at most, from `after` on (exclusive).
    ///
    /// # Errors
    /// [`RegistryError::NotReady`] before the bucket has been read.
    pub fn list(
        &self,
        tenant: Option<&TenantId>,
        after: Option<&(TenantId, ExtensionId)>,
        limit: usize,
    ) -> Result<InstallPage, RegistryError> {
        self.known()?;
        let index = self.0.index.read();
        let tenants = match tenant {
            Some(tenant) => std::iter::once(tenant).collect(),
            None => index.tenants(),
        };
        let from = |install: &&Arc<Install>| {
            after
                .is_none_or(|(tenant, extension)| (&install.tenant, &install.extension) > (tenant, extension))
        };
        let past = |tenant: &&TenantId| after.is_none_or(|(after, _)| *tenant >= after);
        let mut all =
            tenants.into_iter().filter(past).flat_map(|tenant| index.of_tenant(tenant)).filter(from);
        let installs: Vec<_> = all.by_ref().take(limit).cloned().collect();
        let more = all.next().is_some();
        let next = installs.last().filter(|_| more).map(|last| (last.tenant.clone(), last.extension.clone()));
        Ok(InstallPage { installs, next })
    }

    /// The extensions of a tenant, those whose records cannot be read included.
    pub(crate) fn extensions_of(&self, tenant: &TenantId) -> Result<Vec<ExtensionId>, RegistryError> {
        self.known()?;
        Ok(self.0.index.read().extensions_of(tenant))
    }

    /// How many installs a tenant has.
    pub(crate) fn count_of(&self, tenant: &TenantId) -> Result<usize, RegistryError> {
        self.known()?;
        Ok(self.0.index.read().count_of(tenant))
    }

    /// Who has a host.
    pub(crate) fn holder(&self, host: &str) -> Result<Option<Arc<Install>>, RegistryError> {
        self.known()?;
        Ok(self.0.index.read().holder(host).cloned())
    }
}

/// A caller's text in a message: its first 64 characters.
fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

#[async_trait]
impl Registry for NatsRegistry {
    async fn find(&self, tenant: &TenantId, reference: &str) -> Result<Lookup, RegistryError> {
        self.look_up(tenant, reference)
    }

    async fn validate(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        hash: ContentHash,
    ) -> Result<bool, RegistryError> {
        self.known()?;
        let valid = self.0.index.read().validate(tenant, extension, hash);
        valid.map_err(|Damaged| RegistryError::Damaged(format!("tenant {tenant}, extension {extension}")))
    }

    async fn by_host(&self, host: &str) -> Result<Option<HostTarget>, RegistryError> {
        self.known()?;
        Ok(self.0.index.read().by_host(host))
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }
}
