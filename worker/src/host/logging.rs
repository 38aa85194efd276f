//! `cap:log.emit`: a line into the tenant's debug stream. Costs bytes of the run's log budget; lines over it are
//! dropped and counted. Without the capability lines are dropped in silence, as on the existing platform.

use longshore_proto::event::{Kind, Level, Stream};

use super::bindings::alga::extension::logging::Host;
use super::{RunState, host_call};

impl RunState {
    fn log(&self, level: Level, message: &str) {
        self.record.line(Kind::Log, level, Stream::Log, message.as_bytes(), false);
    }
}

impl Host for RunState {
    async fn log_info(&mut self, message: String) -> wasmtime::Result<()> {
        host_call!(self, "logging.log-info", LogEmit, denied: (), self.log(Level::Info, &message))
    }
    async fn log_warn(&mut self, message: String) -> wasmtime::Result<()> {
        host_call!(self, "logging.log-warn", LogEmit, denied: (), self.log(Level::Warn, &message))
    }
    async fn log_error(&mut self, message: String) -> wasmtime::Result<()> {
        host_call!(self, "logging.log-error", LogEmit, denied: (), self.log(Level::Error, &message))
    }
}
