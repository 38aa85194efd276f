//! The cache as its users see it, and the way of one get.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use longshore_proto::TenantId;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::disk::Disk;
use super::evict;
use super::fetch::{Fetcher, UNPACKING, blocking, store_failed};
use super::memory::Hot;
use super::rights::{Known, Rights};
use super::signed::Gate;
use super::{Bundle, CacheConfig, CacheError};
use crate::error::{BundleError, chain};
use crate::key::BundleKey;
use crate::signature::Verifier;
use crate::stats::CacheStats;
use crate::store::{BundleStore, StoreError};

/// Gets that are on their way at once in one process. They outlive their callers, so slots do not bound them.
const IN_FLIGHT: usize = 1024;
/// Downloads at once in one process.
const FETCHING: usize = 16;
/// Of these, one tenant's: a tenant with a slow or huge bundle leaves room for others.
const FETCHING_TENANT: usize = 4;
/// How often idle bundles are let go of.
const HOUSEKEEPING: Duration = Duration::from_secs(15);
/// Failures remembered, each for seconds.
const FAILURES: u64 = 10_000;

type Outcome = Result<Arc<Bundle>, Arc<BundleError>>;

struct Inner {
    fetcher: Fetcher,
    hot: Hot,
    gate: Option<Arc<Gate>>,
    failures: moka::future::Cache<BundleKey, (Arc<BundleError>, Instant)>,
    in_flight: Mutex<HashMap<BundleKey, Shared<BoxFuture<'static, Outcome>>>>,
    fetching: Arc<Semaphore>,
    fetching_tenant: Mutex<HashMap<TenantId, Weak<Semaphore>>>,
    runtime: tokio::runtime::Handle,
}

/// Verified, unpacked bundles on this machine. Cheap to clone.
#[derive(Clone)]
pub struct BundleCache(Arc<Inner>);

impl std::fmt::Debug for BundleCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BundleCache")
            .field("root", &self.0.fetcher.config.root)
            .field("store", &self.0.fetcher.store.describe())
            .finish_non_exhaustive()
    }
}

impl BundleCache {
    /// Opens the folder, cleans what crashed processes left in it, and starts the cache's own housekeeping task, which
    /// ends with the cache. Call it on the runtime that shall do the fetching. The store is not asked anything.
    ///
    /// # Errors
    /// The folder cannot be made, read or written, or belongs to somebody else.
    pub async fn open(config: CacheConfig, store: Arc<dyn BundleStore>) -> Result<Self, CacheError> {
        Self::open_verified(config, store, None).await
    }

    /// [`Self::open`] with a signature policy: every get checks the bundle's signature ([`crate::signature`]). The
    /// verifier's file is watched as long as the cache lives.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_verified(
        config: CacheConfig,
        store: Arc<dyn BundleStore>,
        verifier: Option<Arc<Verifier>>,
    ) -> Result<Self, CacheError> {
        let stats = Arc::new(CacheStats::default());
        let (root, counters) = (config.root.clone(), stats.clone());
        let disk = match tokio::task::spawn_blocking(move || Disk::open(&root, counters)).await {
            Ok(disk) => Arc::new(disk?),
            Err(error) => {
                return Err(CacheError::Folder { path: config.root, source: io::Error::other(error) });
            }
        };
        let rights = Rights::new(config.memory, store.clone(), stats.clone());
        let hot = Hot::new(config.memory_bytes, config.idle_release);
        let longest = config.memory.refused.max(config.memory.not_found).max(config.memory.unreachable);
        let unpacking = Arc::new(Semaphore::new(UNPACKING));
        let gate = verifier.map(|verifier| {
            verifier.watch();
            Gate::new(verifier, config.memory, store.clone(), disk.clone(), stats.clone())
        });
        let inner = Arc::new(Inner {
            gate,
            fetcher: Fetcher { config, disk, store, rights, stats, unpacking },
            hot,
            failures: moka::future::Cache::builder().max_capacity(FAILURES).time_to_live(longest).build(),
            in_flight: Mutex::default(),
            fetching: Arc::new(Semaphore::new(FETCHING)),
            fetching_tenant: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
        });
        tokio::spawn(housekeeping(Arc::downgrade(&inner)));
        Ok(Self(inner))
    }

    /// The bundle at the tenant's own key. Dropping this future stops nothing: the fetch goes on, and the next get
    /// finds its result. With a signature policy, its signature is looked at each time: a key that is revoked while the
    /// bundle is in memory counts no more for the next get.
    ///
    /// # Errors
    /// Shared by all callers that waited, and remembered for a moment ([`super::Memory`]).
    pub async fn get(&self, key: &BundleKey) -> Outcome {
        let bundle = self.unchecked(key).await?;
        if let Some(gate) = &self.0.gate {
            gate.check(key, &bundle).await?;
        }
        Ok(bundle)
    }

    async fn unchecked(&self, key: &BundleKey) -> Outcome {
        let inner = &self.0;
        let stats = &inner.fetcher.stats;
        let known = inner.fetcher.rights.known(key).await;
        if known == Known::Aging {
            self.ask_beside(key);
        }
        if known != Known::No
            && let Some(bundle) = inner.hot.get(key.hash).await
        {
            CacheStats::add(&stats.hits, 1);
            return Ok(bundle);
        }
        if let Some((error, until)) = inner.failures.get(key).await
            && until > Instant::now()
        {
            CacheStats::add(&stats.remembered_failures, 1);
            return Err(error);
        }
        self.start(key).await
    }

    /// Whether the bundle is unpacked on this machine and this process has it open: for a worker that tells the fleet
    /// which bundles it knows. Makes no system call.
    pub async fn is_hot(&self, hash: longshore_proto::ContentHash) -> bool {
        self.0.hot.get(hash).await.is_some()
    }

    /// The counters, for metrics.
    pub fn stats(&self) -> &CacheStats {
        &self.0.fetcher.stats
    }

    /// The store behind it.
    pub fn store(&self) -> &Arc<dyn BundleStore> {
        &self.0.fetcher.store
    }

    /// Lets go of idle bundles and evicts if the folder is over its limit. Runs by itself after every fetch and every
    /// 15 s.
    pub async fn tidy(&self) {
        self.0.hot.release_idle().await;
        if let Err(error) = self.0.make_room().await {
            tracing::warn!(error = chain(&error), "eviction from the bundle cache failed");
        }
    }

    fn ask_beside(&self, key: &BundleKey) {
        let (inner, key) = (self.0.clone(), key.clone());
        self.0.runtime.spawn(async move {
            // A "no" is stored by being asked; the next get finds no right and answers it.
            let _ = inner.fetcher.rights.ask(&key).await;
        });
    }

    /// Joins the task of this key, or starts it.
    fn start(&self, key: &BundleKey) -> Shared<BoxFuture<'static, Outcome>> {
        let mut in_flight = self.0.in_flight.lock();
        if let Some(task) = in_flight.get(key) {
            return task.clone();
        }
        if in_flight.len() >= IN_FLIGHT {
            let source = io::Error::other("too many bundles are being fetched");
            let error = BundleError::Cache { doing: "take on a fetch", source };
            return futures::future::ready(Err(Arc::new(error))).boxed().shared();
        }
        let (done, outcome) = oneshot::channel();
        let outcome = outcome.map(|outcome: Result<Outcome, _>| {
            outcome.unwrap_or_else(|_| {
                let source = io::Error::other("the fetching task ended early");
                Err(Arc::new(BundleError::Cache { doing: "fetch", source }))
            })
        });
        let outcome = outcome.boxed().shared();
        in_flight.insert(key.clone(), outcome.clone());
        let leave = Leave { inner: self.0.clone(), key: key.clone() };
        self.0.runtime.spawn(async move {
            let outcome = Box::pin(leave.inner.settle(&leave.key)).await;
            // Left before answering: a get that comes from now on finds memory, not a finished task.
            drop(leave);
            let _ = done.send(outcome);
        });
        outcome
    }
}

/// Removes the task from the table however it ends.
struct Leave {
    inner: Arc<Inner>,
    key: BundleKey,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.inner.in_flight.lock().remove(&self.key);
    }
}

async fn housekeeping(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        let Some(inner) = inner.upgrade() else { return };
        BundleCache(inner).tidy().await;
    }
}

impl Inner {
    /// One get with its log line and its memory of failure.
    async fn settle(&self, key: &BundleKey) -> Outcome {
        let timeout = self.fetcher.config.fetch_timeout;
        let error = match tokio::time::timeout(timeout, self.find(key)).await {
            Ok(Ok(bundle)) => return Ok(bundle),
            Ok(Err(error)) => error,
            Err(elapsed) => {
                BundleError::StoreUnreachable { url: self.url(key), source: StoreError::unreachable(elapsed) }
            }
        };
        CacheStats::add(&self.fetcher.stats.failures, 1);
        let (expected, computed) = match &error {
            BundleError::HashMismatch { expected, computed } => (*expected, Some(computed.to_string())),
            _ => (key.hash, None),
        };
        tracing::warn!(
            cause = error.cause(),
            url = self.url(key),
            key = %key,
            %expected,
            computed,
            error = chain(&error),
            "bundle fetch failed"
        );
        let memory = self.fetcher.config.memory;
        let remembered = match &error {
            BundleError::NotFound { .. } | BundleError::HashMismatch { .. } => memory.not_found,
            BundleError::StoreUnreachable { .. } | BundleError::Cache { .. } => memory.unreachable,
            BundleError::Refused { .. } => memory.refused,
            // Not made here: the gate has a memory of its own.
            BundleError::SignatureRefused { .. } => memory.unsigned,
        };
        let error = Arc::new(error);
        self.failures.insert(key.clone(), (error.clone(), Instant::now() + remembered)).await;
        Err(error)
    }

    fn url(&self, key: &BundleKey) -> String {
        self.fetcher.store.url(&key.object_key())
    }

    async fn find(&self, key: &BundleKey) -> Result<Arc<Bundle>, BundleError> {
        if let Some(bundle) = self.held(key).await? {
            return Ok(bundle);
        }
        let _turn = self.turn(&key.tenant).await?;
        let lock = self.fetcher.lock(key.hash).await?;
        // Somebody else may have fetched it while we waited.
        if let Some(bundle) = self.held(key).await? {
            return Ok(bundle);
        }
        self.fetcher.fetch(key, lock).await?;
        let bundle = self.fetcher.lookup(key.hash).await?.map(Arc::new);
        let bundle = bundle.ok_or_else(|| BundleError::Cache {
            doing: "find what it has just unpacked",
            source: io::ErrorKind::NotFound.into(),
        })?;
        self.hot.put(bundle.clone()).await;
        if let Err(error) = self.make_room().await {
            tracing::warn!(error = chain(&error), "eviction from the bundle cache failed");
        }
        Ok(bundle)
    }

    /// The bundle, if this machine has it and the tenant may.
    async fn held(&self, key: &BundleKey) -> Result<Option<Arc<Bundle>>, BundleError> {
        let hot = self.hot.get(key.hash).await;
        let found = match &hot {
            Some(bundle) => Some(bundle.clone()),
            None => self.fetcher.lookup(key.hash).await?.map(Arc::new),
        };
        let Some(bundle) = found else { return Ok(None) };
        self.fetcher.rights.ensure(key).await.map_err(|source| store_failed(self.url(key), source))?;
        if hot.is_some() {
            CacheStats::add(&self.fetcher.stats.hits, 1);
        } else {
            CacheStats::add(&self.fetcher.stats.disk_hits, 1);
            self.hot.put(bundle.clone()).await;
        }
        Ok(Some(bundle))
    }

    /// Waits for one of the tenant's and one of the process's places.
    async fn turn(
        &self,
        tenant: &TenantId,
    ) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), BundleError> {
        let own = {
            let mut tenants = self.fetching_tenant.lock();
            let own = tenants.get(tenant).and_then(Weak::upgrade);
            own.unwrap_or_else(|| {
                // At most as many are alive as gets are in flight.
                tenants.retain(|_, places| places.strong_count() > 0);
                let own = Arc::new(Semaphore::new(FETCHING_TENANT));
                tenants.insert(tenant.clone(), Arc::downgrade(&own));
                own
            })
        };
        let closed = |error| BundleError::Cache { doing: "wait for a turn", source: io::Error::other(error) };
        let own = own.acquire_owned().await.map_err(closed)?;
        let common = self.fetching.clone().acquire_owned().await.map_err(closed)?;
        Ok((own, common))
    }

    /// Looks at the folder and evicts if it is over its limit.
    async fn make_room(&self) -> Result<(), BundleError> {
        let failed = || BundleError::cache("evict");
        let (disk, stats) = (self.fetcher.disk.clone(), self.fetcher.stats.clone());
        let kept = blocking("evict", move || disk.kept().map_err(failed())).await?;
        let mut total = kept.iter().map(|kept| kept.bytes).fold(0, u64::saturating_add);
        let mut count = kept.len() as u64;
        if let Some(mut excess) = evict::over(&kept, self.fetcher.config.max_bytes) {
            let disk = self.fetcher.disk.clone();
            let right = blocking("evict", move || disk.evictor().map_err(failed())).await?.map(Arc::new);
            for kept in kept {
                // Without the right another process is at it.
                let Some(right) = right.clone().filter(|_| excess > 0) else { break };
                // Memory's own hold is no use.
                self.hot.release(kept.hash).await;
                let disk = self.fetcher.disk.clone();
                let gone = blocking("evict", move || disk.evict(kept.hash, &right).map_err(failed()));
                if gone.await? {
                    tracing::info!(hash = %kept.hash, bytes = kept.bytes, "evicted from the bundle cache");
                    CacheStats::add(&stats.evictions, 1);
                    excess = excess.saturating_sub(kept.bytes);
                    total = total.saturating_sub(kept.bytes);
                    count = count.saturating_sub(1);
                }
            }
        }
        CacheStats::set(&stats.disk_bytes, total);
        CacheStats::set(&stats.disk_bundles, count);
        Ok(())
    }
}
