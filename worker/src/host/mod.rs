//! What a guest can call. One file per capability; each function goes through [`host_call!`], which checks the
//! capability, charges the run's budget, makes a span, counts, and publishes an event with arguments and result.
//!
//! Host functions are plain async functions (`func_wrap_async`): guests are lowered synchronously, and wasmtime
//! refuses to link a function registered as concurrent with "type mismatch with async".
//!
use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use self::scope::RunScope;
use crate::engine::limits::MemoryLimits;

pub mod backends;
mod call;
pub mod compat;
mod output;
pub mod record;
pub(crate) mod recorded;
pub mod recorder;
pub mod scope;
mod stdio;
pub mod tape;
pub mod taped;
pub(crate) mod wasi;
pub(crate) mod wasi_http;

/// The capabilities: a new one is a file and a line here.
mod clients;
mod context;
mod http;
mod invoicing;
mod logging;
mod scheduler;
mod secrets;
mod services;
mod storage;
mod ui_proxy;
mod user;

pub(crate) use call::host_call;

/// Types and traits made from the guest WIT.
pub mod bindings {
    #![expect(missing_docs, reason = "generated from proto/wit/extension-runner.wit, which documents them")]
    wasmtime::component::bindgen!({
        path: "../proto/wit",
        world: "runner",
        imports: { default: async | trappable },
        exports: { default: async },
        additional_derives: [serde::Serialize, serde::Deserialize],
    });
}

/// What one instance has: the data of its wasmtime store.
pub struct RunState {
    scope: Arc<RunScope>,
    limits: MemoryLimits,
    table: ResourceTable,
    wasi: WasiCtx,
    wasi_http: WasiHttpCtx,
    wasi_http_hooks: http::Outgoing,
    config: wasi::ConfigStore,
    taped: taped::Notes,
}

impl RunState {
    /// For one run.
    pub fn new(scope: Arc<RunScope>) -> Self {
        let memory = scope.limits.memory_mb.value.saturating_mul(1 << 20);
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        Self {
            limits: MemoryLimits::new(memory, Arc::clone(&scope.record)),
            table: wasi::table(),
            wasi: wasi::context(&scope),
            wasi_http: http::context(),
            wasi_http_hooks: http::Outgoing::new(&scope),
            config: wasi::ConfigStore::default(),
            taped: taped::Notes::default(),
            scope,
        }
    }

    /// Who runs, with which rights.
    pub fn scope(&self) -> &Arc<RunScope> {
        &self.scope
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
        WasiHttpCtxView { ctx: &mut self.wasi_http, table: &mut self.table, hooks: &mut self.wasi_http_hooks }
    }
}

/// Only types: nothing to call.
impl bindings::alga::extension::types::Host for RunState {}

/// Everything that a component may import: the twelve interfaces under their names of all times, WASI 0.2 with
/// `wasi:http` and `wasi:config`, and WASI 0.3 where the engine has it. A component links when its imports are among
/// them; what it does not import costs it nothing.
pub fn linker(engine: &wasmtime::Engine, wasi_p3: bool) -> wasmtime::Result<Linker<RunState>> {
    let mut linker = Linker::new(engine);
    bindings::Runner::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut RunState| {
        state.config.view(&state.scope.run)
    })?;
    if wasi_p3 {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    compat::add_aliases(&mut linker)?;
    Ok(linker)
}
