//! Bundles that this process holds open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use longshore_proto::ContentHash;
use moka::future::Cache;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Bundle;

/// A use is written to disk at most this often: eviction among bundles needs no finer order.
const TOUCH: Duration = Duration::from_secs(60);

/// Why not the bundle itself: moka frees what it drops at some later moment of its own, and the file lock in a bundle
/// must go at a moment of ours.
#[derive(Debug)]
struct Slot {
    bundle: Mutex<Option<Arc<Bundle>>>,
    /// Milliseconds since the start of the cache.
    used: AtomicU64,
    touched: AtomicU64,
}

impl Slot {
    fn release_if(&self, idle: impl FnOnce() -> bool) {
        let mut held = self.bundle.lock();
        if held.as_ref().is_some_and(|bundle| Arc::strong_count(bundle) == 1) && idle() {
            *held = None;
        }
    }
}

/// Open bundles, bounded by the bytes of their metadata.
#[derive(Debug)]
pub(super) struct Hot {
    slots: Cache<ContentHash, Arc<Slot>>,
    start: Instant,
    idle: Duration,
}

impl Hot {
    pub fn new(max_bytes: u64, idle: Duration) -> Self {
        let slots = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, slot: &Arc<Slot>| slot.bundle.lock().as_ref().map_or(2048, |b| b.weight()))
            .eviction_listener(|_, slot: Arc<Slot>, _| *slot.bundle.lock() = None)
            .build();
        Self { slots, start: Instant::now(), idle }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub async fn get(&self, hash: ContentHash) -> Option<Arc<Bundle>> {
        let slot = self.slots.get(&hash).await?;
        let bundle = slot.bundle.lock().clone()?;
        let now = self.now();
        slot.used.store(now, Relaxed);
        let touched = slot.touched.load(Relaxed);
        if now.saturating_sub(touched) > TOUCH.as_millis() as u64
            && slot.touched.compare_exchange(touched, now, Relaxed, Relaxed).is_ok()
        {
            bundle.touch();
        }
        Some(bundle)
    }

    pub async fn put(&self, bundle: Arc<Bundle>) {
        let now = self.now();
        let hash = bundle.hash();
        let slot = Slot { bundle: Mutex::new(Some(bundle)), used: now.into(), touched: now.into() };
        self.slots.insert(hash, Arc::new(slot)).await;
    }

    /// Lets go of one bundle if nobody else in this process holds it.
    pub async fn release(&self, hash: ContentHash) {
        if let Some(slot) = self.slots.get(&hash).await {
            slot.release_if(|| true);
        }
    }

    /// Lets go of every bundle that nobody has used for a while.
    pub async fn release_idle(&self) {
        let now = self.now();
        let idle = u64::try_from(self.idle.as_millis()).unwrap_or(u64::MAX);
        let mut empty = Vec::new();
        for (hash, slot) in &self.slots {
            slot.release_if(|| now.saturating_sub(slot.used.load(Relaxed)) >= idle);
            if slot.bundle.lock().is_none() {
                empty.push(hash);
            }
        }
        for hash in empty {
            // A get may have put a new slot in its place, which is then opened from disk once more.
            self.slots.invalidate(&*hash).await;
        }
        self.slots.run_pending_tasks().await;
    }
}
