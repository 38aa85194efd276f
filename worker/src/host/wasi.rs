//! WASI 0.2: clocks, random, poll and stdio are real; there are no arguments, no environment, no preopened folders,
//! and sockets and name lookup are refused.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use super::record::RunRecord;
use super::stdio::GuestOutput;

/// Resources (pollables, streams, header fields) of one run alive at once. An entry takes some hundred bytes of the
/// host's memory; a guest that leaks them traps.
const RESOURCES: usize = 4_096;
/// Random bytes in one call: more traps.
const RANDOM_BYTES: u64 = 1 << 20;

/// An empty table with its limit.
pub(super) fn table() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(RESOURCES);
    table
}

/// What one run may do.
pub(super) fn context(record: &Arc<RunRecord>) -> WasiCtx {
    let mut builder = WasiCtxBuilder::new();
    builder
        .stdout(GuestOutput::stdout(record))
        .stderr(GuestOutput::stderr(record))
        .max_random_size(RANDOM_BYTES)
        // The defaults of wasmtime 48, but not something to depend on.
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .socket_addr_check(|_, _| Box::pin(async { false }))
        .allow_blocking_current_thread(false);
    builder.build()
}
