//! The wasmtime engine of the process: one, because its pool reserves address space once. The predecessor made one
//! per call and ran out of address space after 63.

use std::hash::{Hash, Hasher};

use longshore_proto::limits::MAX_MEMORY_MB;
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy,
    WasmBacktraceDetails,
};

use super::config::{Compiler, ConfigError, EngineConfig};
use super::ticker::Ticker;

/// Stack for wasm frames. SpiderMonkey compiled to wasm needs more than wasmtime's 512 KiB for deeply nested
/// JavaScript; its own limit strikes before this one.
pub const WASM_STACK: usize = 1 << 20;
/// The fiber's whole stack. What is left above `WASM_STACK` is for host functions, which run on the same fiber: too
/// little would turn a guest's deep recursion that ends in a host call into an abort of the process.
const FIBER_STACK: usize = 2 << 20;
/// Linear memories of one component. JavaScript and Rust components have one; adapters have none of their own.
pub const MEMORIES_PER_COMPONENT: u32 = 4;
/// Tables of one component: one of the program, one of each shim.
pub const TABLES_PER_COMPONENT: u32 = 16;
/// Core instances of one component: program, adapters, shims. componentize-js makes about ten.
pub const CORE_INSTANCES_PER_COMPONENT: u32 = 64;
/// Elements of one table. The reference's pool allowed 20,000; a JavaScript component uses about 12,000.
pub const TABLE_ELEMENTS: usize = 100_000;
/// Metadata of one instance (function references and globals), on the heap and only as large as needed.
const INSTANCE_METADATA: usize = 4 << 20;
/// Frames kept of a trap's backtrace.
const BACKTRACE_FRAMES: usize = 32;
/// Raised when the same component must be compiled anew although wasmtime would take the old artifact.
const ARTIFACT_FORMAT: u32 = 1;

/// An engine with its ticker.
pub struct Runtime {
    engine: wasmtime::Engine,
    fingerprint: String,
    // Dropped after the engine handle; it holds only a weak reference.
    _ticker: Ticker,
}

/// The engine cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// wasmtime refused, usually because address space is limited (`ulimit -v`).
    #[error("the wasm engine cannot be made: {0:#}")]
    Engine(wasmtime::Error),
    /// No thread for the ticker.
    #[error("the epoch ticker cannot be started")]
    Ticker(#[source] std::io::Error),
}

impl Runtime {
    /// Reserves the pool and starts the ticker.
    pub fn new(config: &EngineConfig) -> Result<Self, RuntimeError> {
        let instances = config.pool_instances()?;
        let mut settings = settings(instances, config.wasi_p3, config.compiler);
        settings.consume_fuel(config.fuel);
        let engine = wasmtime::Engine::new(&settings).map_err(RuntimeError::Engine)?;
        let ticker = Ticker::start(&engine).map_err(RuntimeError::Ticker)?;
        Ok(Self { fingerprint: fingerprint(&engine, config), engine, _ticker: ticker })
    }

    /// wasmtime's handle.
    pub fn engine(&self) -> &wasmtime::Engine {
        &self.engine
    }

    /// Names everything that decides whether a compiled artifact fits: wasmtime's version, compiler settings, CPU
    /// features. 32 hex digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn settings(instances: u32, wasi_p3: bool, compiler: Compiler) -> Config {
    let mut config = Config::new();
    config.strategy(match compiler {
        Compiler::Cranelift => Strategy::Cranelift,
        Compiler::Winch => Strategy::Winch,
    });
    if compiler == Compiler::Winch {
        // Cranelift still makes the trampolines and adapters; optimised, those take a third of the time for a component of 12 MB.
        config.cranelift_opt_level(OptLevel::None);
    }
    // Without it the async functions and streams of WASI 0.3 do not even compile, and calls skip its bookkeeping.
    config.concurrency_support(wasi_p3);

    // Replay: the same inputs must give the same bits on every machine.
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    // What no extension toolchain emits and no replay could hold.
    config.wasm_memory64(false).wasm_custom_page_sizes(false).gc_support(false);

    config.epoch_interruption(true);
    config.max_wasm_stack(WASM_STACK).async_stack_size(FIBER_STACK);
    config.memory_init_cow(true);
    // Compilation runs inside the compile pool's rayon threads and uses only those.
    config.parallel_compilation(true);

    // Names come from the name section; the tenant's DWARF is neither kept nor parsed.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES));

    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances, wasi_p3)));
    config
}

/// Address space, not memory: each linear memory reserves 4 GiB (so that 32-bit accesses need no bounds check) and a
/// guard of 32 MiB, each table 800 KB, each stack 2 MiB. With 8 slots, that is 32 instances, 128 memories: 516 GiB of
/// the 128 TiB that a process has, so even eight processes of 64 slots fit. `ulimit -v` must be unlimited.
fn pool(instances: u32, wasi_p3: bool) -> PoolingAllocationConfig {
    // A call of WASI 0.3 holds a stack for each of its tasks that waits in a synchronous call.
    let stacks = if wasi_p3 { instances.saturating_mul(8) } else { instances };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(stacks)
        .total_memories(instances.saturating_mul(MEMORIES_PER_COMPONENT))
        .total_tables(instances.saturating_mul(TABLES_PER_COMPONENT))
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_module(MEMORIES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(MAX_MEMORY_MB << 20).unwrap_or(usize::MAX))
        .max_core_instance_size(INSTANCE_METADATA)
        .max_component_instance_size(INSTANCE_METADATA);
    keep_resident(&mut pool);
    pool
}

/// Keeps the pages that the last run of a slot has written, and clears just those: without it a run costs nine page
/// faults and an `madvise` that interrupts every core of the process. Measured: 194 instead of 241 us of the worker's CPU for
/// a call at 64 connections, 316 instead of 409 at one (docs/benchmarks.md). Only where the kernel says which pages
/// were written (Linux 6.7): elsewhere the same settings would clear 1 MiB by hand for every call. It holds at most
/// that much for each memory of the pool that was used.
fn keep_resident(pool: &mut PoolingAllocationConfig) {
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Auto).linear_memory_keep_resident(1 << 20).table_keep_resident(64 << 10);
    }
}

fn fingerprint(engine: &wasmtime::Engine, config: &EngineConfig) -> String {
    struct Blake(blake3::Hasher);
    impl Hasher for Blake {
        fn finish(&self) -> u64 {
            0 // Only `write` is used: the digest is taken from the hasher itself.
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Blake(blake3::Hasher::new());
    ARTIFACT_FORMAT.hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    // Both compilers say much the same of themselves, and their code does not mix.
    if config.compiler == Compiler::Winch {
        "winch".hash(&mut hasher);
    }
    // wasmtime would refuse the other's code; it should not even be found.
    if config.fuel {
        "fuel".hash(&mut hasher);
    }
    hasher.0.finalize().to_hex().chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_engines_with_one_configuration_share_artifacts() {
        let make = || Runtime::new(&EngineConfig { slots: 1, ..EngineConfig::new("/x") }).unwrap();
        let (one, two) = (make(), make());
        assert_eq!(one.fingerprint(), two.fingerprint());
        assert_eq!(one.fingerprint().len(), 32);
    }

    #[test]
    fn code_that_counts_fuel_has_a_folder_of_its_own() {
        let make = |fuel| Runtime::new(&EngineConfig { slots: 1, fuel, ..EngineConfig::new("/x") }).unwrap();
        assert_ne!(make(false).fingerprint(), make(true).fingerprint());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn what_one_compiler_made_is_not_taken_for_the_other_s() {
        let make =
            |compiler| Runtime::new(&EngineConfig { slots: 1, compiler, ..EngineConfig::new("/x") }).unwrap();
        let (cranelift, winch) = (make(Compiler::Cranelift), make(Compiler::Winch));
        assert_ne!(cranelift.fingerprint(), winch.fingerprint());
        let component = winch.engine().precompile_component(&wat::parse_str("(component)").unwrap()).unwrap();
        assert!(!component.is_empty());
    }
}
