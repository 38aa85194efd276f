//! `cap:log.emit`: a line into the tenant's debug stream; one that is a JSON object becomes fields. Costs bytes and
//! lines of the run's log budget; what is over is dropped and counted. Without the capability lines are dropped in
//! silence, as on the existing platform. The line is the event of the call, which has none of its own unless it was denied.

use longshore_proto::event::{Kind, Level, Stream};

use super::bindings::alga::extension::logging::Host;
use super::scope::RunScope;
use super::{RunState, host_call};

impl RunScope {
    fn log(&self, level: Level, message: &str) {
        self.record.line(Kind::Log, level, Stream::Log, message.as_bytes(), false);
    }
}

impl Host for RunState {
    async fn log_info(&mut self, message: String) -> wasmtime::Result<()> {
        host_call!(self, "logging.log-info", LogEmit, args: {}, unseen: { message }, denied: (), |run| run.log(Level::Info, &message))
    }
    async fn log_warn(&mut self, message: String) -> wasmtime::Result<()> {
        host_call!(self, "logging.log-warn", LogEmit, args: {}, unseen: { message }, denied: (), |run| run.log(Level::Warn, &message))
    }
    async fn log_error(&mut self, message: String) -> wasmtime::Result<()> {
        host_call!(self, "logging.log-error", LogEmit, args: {}, unseen: { message }, denied: (), |run| run.log(Level::Error, &message))
    }
}
