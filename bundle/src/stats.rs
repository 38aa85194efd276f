//! Counters of the cache, read by the process's metrics endpoint.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one cache. Relaxed atomics: they are read for metrics only.
        #[derive(Debug, Default)]
        pub struct CacheStats { $(pub(crate) $name: AtomicU64,)* }

        /// The counters at one moment.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct StatsSnapshot { $($(#[$doc])* pub $name: u64,)* }

        impl CacheStats {
            /// The counters now.
            pub fn snapshot(&self) -> StatsSnapshot {
                StatsSnapshot { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

stats! {
    /// Gets answered from memory.
    hits,
    /// Gets answered from a bundle that was already unpacked on disk.
    disk_hits,
    /// Downloads started.
    fetches,
    /// Gets that failed, remembered failures not included.
    failures,
    /// Gets answered with a failure remembered from a moment before.
    remembered_failures,
    /// Gets for which a right remembered from before had to do, because the store was silent.
    rights_on_trust,
    /// Gets refused because the bundle's signature does not count.
    signatures_refused,
    /// Bundles handed out although their signature does not count, each once for each state of the trust bundle.
    signatures_warned,
    /// Bundles removed from disk to make room.
    evictions,
    /// Bytes of archives downloaded.
    fetched_bytes,
    /// Bytes of unpacked bundles in the cache folder when it was last looked at. A gauge.
    disk_bytes,
    /// Bundles in the cache folder when it was last looked at. A gauge.
    disk_bundles,
    /// Bundles that this process holds open. A gauge.
    open_bundles,
}

impl CacheStats {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }
    pub(crate) fn set(gauge: &AtomicU64, n: u64) {
        gauge.store(n, Relaxed);
    }
}
