//! Who may have a bundle: a tenant whose own key exists in the store.
//!
//! The cache is keyed by hash, so without this a tenant that learns a hash would get another's code and UI. The
//! answer is remembered ten minutes; asked again by a hot bundle's gets from eight minutes on, beside the call, so
//! that no warm call waits for the store. When the store is silent, what it said last holds for as long as it is
//! silent: its outage stops new bundles only. Its "no" counts at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use moka::future::Cache;
use tokio::time::Instant;

use super::Memory;
use crate::key::BundleKey;
use crate::stats::CacheStats;
use crate::store::{BundleStore, StoreError};

/// Rights remembered. About 400 bytes each; one more asks the store again.
const REMEMBERED: u64 = 100_000;

#[derive(Debug)]
struct Right {
    until: Instant,
    /// From then on a get asks again, beside the call.
    ask_from: Instant,
    asking: AtomicBool,
}

impl Right {
    fn holds(&self) -> bool {
        Instant::now() < self.until
    }
}

/// What is remembered of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Holds.
    Yes,
    /// Holds, but is old: somebody should ask again beside.
    Aging,
    /// Must be asked for first.
    No,
}

/// The rights of this process's callers.
pub(super) struct Rights {
    held: Cache<BundleKey, Arc<Right>>,
    memory: Memory,
    store: Arc<dyn BundleStore>,
    stats: Arc<CacheStats>,
}

impl Rights {
    pub fn new(memory: Memory, store: Arc<dyn BundleStore>, stats: Arc<CacheStats>) -> Self {
        Self { held: Cache::new(REMEMBERED), memory, store, stats }
    }

    /// What is known without asking. Exactly one caller is told `Aging` at a time.
    pub async fn known(&self, key: &BundleKey) -> Known {
        let Some(right) = self.held.get(key).await else { return Known::No };
        if !right.holds() {
            Known::No
        } else if Instant::now() >= right.ask_from && !right.asking.swap(true, Relaxed) {
            Known::Aging
        } else {
            Known::Yes
        }
    }

    /// The store has just delivered the key.
    pub async fn grant(&self, key: &BundleKey) {
        let now = Instant::now();
        let how_long = self.memory.right;
        self.remember(key, now + how_long, now + how_long / 5 * 4).await;
    }

    async fn remember(&self, key: &BundleKey, until: Instant, ask_from: Instant) {
        let right = Right { until, ask_from, asking: AtomicBool::new(false) };
        self.held.insert(key.clone(), Arc::new(right)).await;
    }

    /// Asks unless it is known. `Err(NotFound)` is the definite no.
    pub async fn ensure(&self, key: &BundleKey) -> Result<(), StoreError> {
        if self.held.get(key).await.is_some_and(|right| right.holds()) {
            return Ok(());
        }
        self.ask(key).await
    }

    /// Asks the store.
    pub async fn ask(&self, key: &BundleKey) -> Result<(), StoreError> {
        let had = self.held.get(key).await;
        let answer = if had.is_some() {
            let asked = tokio::time::timeout(self.memory.right_patience, self.store.exists(key)).await;
            asked.unwrap_or_else(|elapsed| Err(StoreError::unreachable(elapsed)))
        } else {
            self.store.exists(key).await
        };
        match answer {
            Ok(true) => {
                self.grant(key).await;
                Ok(())
            }
            Ok(false) | Err(StoreError::NotFound) => {
                self.held.invalidate(key).await;
                Err(StoreError::NotFound)
            }
            Err(error) => {
                let Some(had) = had else { return Err(error) };
                CacheStats::add(&self.stats.rights_on_trust, 1);
                tracing::debug!(key = %key, error = crate::chain(&error), "store silent, remembered right holds");
                let (now, trust) = (Instant::now(), self.memory.right_on_trust);
                // Not asked again by every get: a dead store answers each within a millisecond.
                self.remember(key, had.until.max(now + trust), now + trust / 2).await;
                Ok(())
            }
        }
    }
}
