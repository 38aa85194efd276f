//! Who may have a bundle: a tenant whose own key exists in the store.
//!
//! The cache is keyed by hash, so without this a tenant that learns a hash would get another's code and UI. The
//! answer is remembered ten minutes; asked again by a hot bundle's gets from eight minutes on, beside the call, so
//! that no warm call waits for the store. When the store is silent, what it said last holds for as long as it is
//! silent: its outage stops new bundles only. Its "no" counts at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use moka::future::Cache;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Memory;
use crate::key::BundleKey;
use crate::stats::CacheStats;
use crate::store::{BundleStore, StoreError};

/// Rights remembered. About 400 bytes each; one more asks the store again.
const REMEMBERED: u64 = 100_000;

#[derive(Debug)]
struct Right {
    until: Mutex<Instant>,
    asking: AtomicBool,
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
        let left = right.until.lock().saturating_duration_since(Instant::now());
        if left.is_zero() {
            Known::No
        } else if left < self.memory.right / 5 && !right.asking.swap(true, Relaxed) {
            Known::Aging
        } else {
            Known::Yes
        }
    }

    /// The store has just delivered the key.
    pub async fn grant(&self, key: &BundleKey) {
        self.remember(key, self.memory.right).await;
    }

    async fn remember(&self, key: &BundleKey, how_long: Duration) {
        let until = Mutex::new(Instant::now() + how_long);
        self.held.insert(key.clone(), Arc::new(Right { until, asking: AtomicBool::new(false) })).await;
    }

    /// Asks unless it is known. `Err(NotFound)` is the definite no.
    pub async fn ensure(&self, key: &BundleKey) -> Result<(), StoreError> {
        if self.known(key).await != Known::No {
            return Ok(());
        }
        self.ask(key).await
    }

    /// Asks the store.
    pub async fn ask(&self, key: &BundleKey) -> Result<(), StoreError> {
        let had = self.held.contains_key(key);
        let answer = if had {
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
            Err(error) if had => {
                CacheStats::add(&self.stats.rights_on_trust, 1);
                tracing::debug!(key = %key, error = crate::chain(&error), "store silent, remembered right holds");
                self.remember(key, self.memory.right_on_trust).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
