//! Counters of the engine, for metrics and tests.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the process started.
        #[derive(Debug, Default)]
        pub(super) struct Counters { $(pub(super) $name: AtomicU64,)* }

        /// A reading of the engine's counters since the process started.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct EngineStats { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub(super) fn read(&self) -> EngineStats {
                EngineStats { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Components compiled in this process.
    compiles,
    /// Time spent compiling, in milliseconds of wall time.
    compile_ms,
    /// Artifacts taken from disk instead of compiling.
    artifact_hits,
    /// Artifacts on disk that were refused: truncated, tampered with or of another build.
    artifacts_refused,
    /// Artifacts that could not be written.
    artifact_write_failures,
    /// Artifacts removed to stay within the limit.
    artifacts_evicted,
    /// Components that could not be used.
    failures,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
