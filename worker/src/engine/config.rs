//! What the engine may use, with the reason for each default.

use std::path::PathBuf;
use std::time::Duration;

longshore_service::setting_enum! {
    /// What turns components into machine code.
    pub enum Compiler {
        /// Optimises: for everything that serves.
        Cranelift = "cranelift",
        /// One pass over the code, an eighth of the time (1.1 instead of 9 s for a JavaScript component of 12 MB), and code that is slower and whose
        /// NaN bits are the machine's: for development. x86-64 with AVX, and no tail calls, exceptions or relaxed SIMD in guests.
        Winch = "winch",
    }
}

/// Settings of the engine and of the compile cache. Times and sizes that a guest can feel are in
/// [`crate::execute::ExecutorConfig`].
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Runs at once in this process; the pool has room for at least as many instances. Default 8.
    pub slots: u32,
    /// `WASM_POOL_TOTAL_COMPONENTS`: the most instances that the pool reserves address space for. Fewer than
    /// `slots` is an error. Default: four times the slots, so that a slot last used by the same component, whose
    /// memory image is still mapped, is usually free.
    pub pool_total_components: Option<u32>,
    /// Root of the cache folder (`EXT_CACHE_ROOT`), which several processes may share; artifacts lie in `artifacts/`.
    pub cache_root: PathBuf,
    /// Bytes of compiled artifacts on disk, those of other engine versions included; the least recently used go
    /// first. A 12 MB JavaScript component makes about 40 MB. Default 8 GiB.
    pub artifact_bytes: u64,
    /// Artifact bytes of the components kept ready in this process. They are mapped files, shared between
    /// processes. Default 1 GiB.
    pub ready_bytes: u64,
    /// The largest component that is compiled. Default 64 MiB.
    pub component_bytes: u64,
    /// Components compiled at once in this process. One, so that a burst of new bundles takes its turn instead of
    /// the machine's memory (compiling 12 MB takes about 1 GB). Default 1.
    pub compile_jobs: usize,
    /// Threads of one compilation, at low priority, so that guests go first. Default: one per core.
    pub compile_threads: usize,
    /// How long a component that cannot be used (does not compile, does not link, has no handler) is refused
    /// without another try. Default 60 s.
    pub failure_memory: Duration,
    /// WASI 0.3: components that export `wasi:http/handler@0.3`. wasmtime 48 runs them, and says of its implementation
    /// that it is experimental and gets no security releases; it also makes every call of every component dearer
    /// (docs/architecture.md). Default off.
    pub wasi_p3: bool,
    /// What compiles. Default [`Compiler::Cranelift`].
    pub compiler: Compiler,
    /// Counts what guests compute, in wasmtime's units of fuel (about one for each instruction), without ever ending a run
    /// for it: for replays, where CPU time says more about the machine. It makes code slower and larger. Default off.
    pub fuel: bool,
}

impl EngineConfig {
    /// The defaults under a cache root.
    pub fn new(cache_root: impl Into<PathBuf>) -> Self {
        Self {
            slots: 8,
            pool_total_components: None,
            cache_root: cache_root.into(),
            artifact_bytes: 8 << 30,
            ready_bytes: 1 << 30,
            component_bytes: 64 << 20,
            compile_jobs: 1,
            compile_threads: std::thread::available_parallelism().map_or(1, usize::from),
            failure_memory: Duration::from_secs(60),
            wasi_p3: false,
            compiler: Compiler::Cranelift,
            fuel: false,
        }
    }

    /// Instances that the pool has room for, or what is wrong with the numbers.
    pub fn pool_instances(&self) -> Result<u32, ConfigError> {
        if self.slots == 0 {
            return Err(ConfigError::NoSlots);
        }
        let wanted = self.slots.saturating_mul(4);
        match self.pool_total_components {
            Some(total) if total < self.slots => {
                Err(ConfigError::PoolBelowSlots { total, slots: self.slots })
            }
            Some(total) => Ok(wanted.min(total)),
            None => Ok(wanted),
        }
    }
}

/// Numbers that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A worker without slots can run nothing.
    #[error("the number of slots is 0; it must be at least 1")]
    NoSlots,
    /// Admitted runs would find no room.
    #[error(
        "WASM_POOL_TOTAL_COMPONENTS is {total}, fewer than the {slots} slots; raise it or lower the slots"
    )]
    PoolBelowSlots {
        /// As configured.
        total: u32,
        /// As configured.
        slots: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_four_times_the_slots_unless_capped_and_never_below_them() {
        let with = |slots, pool_total_components| {
            EngineConfig { slots, pool_total_components, ..EngineConfig::new("/x") }.pool_instances()
        };
        assert_eq!(with(8, None), Ok(32));
        assert_eq!(with(8, Some(256)), Ok(32));
        assert_eq!(with(8, Some(8)), Ok(8));
        assert_eq!(with(8, Some(7)), Err(ConfigError::PoolBelowSlots { total: 7, slots: 8 }));
        assert_eq!(with(0, None), Err(ConfigError::NoSlots));
    }
}
