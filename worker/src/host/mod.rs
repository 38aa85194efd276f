//! What a guest can call. One file per capability; each function goes through [`host_call!`], which checks the
//! capability, charges the run's budget, makes a span and publishes a debug event.
//!
//! Host functions are plain async functions (`func_wrap_async`): guests are lowered synchronously, and wasmtime
//! refuses to link a function registered as concurrent with "type mismatch with async".
//!
//! Capabilities whose backend is not there yet answer what they answer without the capability: the typed denial of
//! the existing platform. A guest cannot tell the two apart, and neither pretends to have done anything.

use std::sync::Arc;

use longshore_proto::Run;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::engine::limits::MemoryLimits;

mod call;
mod clients;
mod context;
mod http;
mod invoicing;
mod logging;
mod output;
pub mod record;
mod scheduler;
mod secrets;
mod services;
mod stdio;
mod storage;
mod ui_proxy;
mod user;
mod wasi;

pub(crate) use call::host_call;

/// Types and traits made from the guest WIT.
pub mod bindings {
    #![expect(missing_docs, reason = "generated from proto/wit/extension-runner.wit, which documents them")]
    wasmtime::component::bindgen!({
        path: "../proto/wit",
        world: "runner",
        imports: { default: async | trappable },
        exports: { default: async },
    });
}

/// What one instance has: the data of its wasmtime store.
pub struct RunState {
    run: Arc<Run>,
    record: Arc<record::RunRecord>,
    limits: MemoryLimits,
    table: ResourceTable,
    wasi: WasiCtx,
    wasi_http: WasiHttpCtx,
    wasi_http_denied: http::Denied,
}

impl RunState {
    /// For one run of at most `memory_bytes`.
    pub fn new(run: Arc<Run>, record: Arc<record::RunRecord>, memory_bytes: usize) -> Self {
        Self {
            limits: MemoryLimits::new(memory_bytes, Arc::clone(&record)),
            table: wasi::table(),
            wasi: wasi::context(&record),
            wasi_http: http::context(),
            wasi_http_denied: http::Denied,
            run,
            record,
        }
    }

    /// For `Store::limiter`.
    pub fn limits(&mut self) -> &mut MemoryLimits {
        &mut self.limits
    }
}

impl WasiView for RunState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for RunState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.wasi_http,
            table: &mut self.table,
            hooks: &mut self.wasi_http_denied,
        }
    }
}

/// Only types: nothing to call.
impl bindings::alga::extension::types::Host for RunState {}

/// Everything that a component may import: the twelve interfaces, WASI 0.2 and `wasi:http`. A component links when
/// its imports are among them; what it does not import costs it nothing.
pub fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<RunState>> {
    let mut linker = Linker::new(engine);
    bindings::Runner::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}
