//! The way every host call goes.

use std::sync::Arc;
use std::time::Instant;

use longshore_proto::Capability;
use longshore_proto::event::{Kind, Level, Stream};
use serde_json::json;

use super::RunState;
use super::bindings::alga::extension::types::{
    ClientReadError, HttpError, ProxyError, SchedulerError, SecretError, ServiceReadError, StorageError,
    UserError,
};
use super::record::RunRecord;
use crate::engine::meter::Stop;

/// `host_call!(self, "interface.function", Capability, denied: value, body)`: runs `body` (which may await) if the
/// install grants the capability, and gives `denied` otherwise. Without a body the answer is always `denied`.
macro_rules! host_call {
    ($state:ident, $name:literal, $capability:ident, denied: $denied:expr) => {{
        let call = $crate::host::call::HostCall::begin($state, $name, None)?;
        Ok(call.end($denied))
    }};
    ($state:ident, $name:literal, $capability:ident, denied: $denied:expr, $body:expr) => {{
        let capability = longshore_proto::Capability::$capability;
        let call = $crate::host::call::HostCall::begin($state, $name, Some(capability))?;
        let span = call.span();
        let value = if call.is_granted() {
            // `move`: the state is not `Sync`, so a future may hold it exclusively, not shared.
            tracing::Instrument::instrument(async move { $body }, span).await
        } else {
            $denied
        };
        Ok(call.end(value))
    }};
}
pub(crate) use host_call;

/// A host call under way.
pub struct HostCall {
    name: &'static str,
    granted: bool,
    began: Instant,
    record: Arc<RunRecord>,
}

impl HostCall {
    /// Charges the budget. The error ends the run: a guest that calls in a loop must not be able to go on. Lines of
    /// the log have a budget of their own, in bytes, which costs lines and not the run.
    pub fn begin(state: &RunState, name: &'static str, needs: Option<Capability>) -> Result<Self, Stop> {
        let record = Arc::clone(&state.record);
        if !record.charge_host_call() && needs != Some(Capability::LogEmit) {
            return Err(Stop::HostCalls);
        }
        let granted = needs.is_some_and(|capability| state.run.capabilities.has(capability));
        Ok(Self { name, granted, began: Instant::now(), record })
    }

    /// Whether the install grants what the call needs.
    pub fn is_granted(&self) -> bool {
        self.granted
    }

    /// The span of the call.
    pub fn span(&self) -> tracing::Span {
        tracing::info_span!("host_call", name = self.name)
    }

    /// Publishes what came of it.
    pub fn end<T: CallOutcome>(self, value: T) -> T {
        let outcome = if self.granted { value.outcome() } else { "denied" };
        if self.name.starts_with("logging.") && self.record.is_log_full() {
            return value;
        }
        let took = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.record.emit(
            Kind::HostCall,
            Level::Debug,
            Stream::Log,
            format!("{} {outcome}", self.name),
            Some(json!({ "name": self.name, "duration_us": took, "outcome": outcome })),
        );
        value
    }
}

/// A word for what a host call gave.
pub trait CallOutcome {
    /// `ok`, or the error's name in the WIT.
    fn outcome(&self) -> &'static str;
}

/// An error enum of the WIT.
pub trait WitError {
    /// Its case, as the WIT spells it.
    fn case(&self) -> &'static str;
}

macro_rules! wit_errors {
    ($($error:ty),*) => { $(impl WitError for $error {
        fn case(&self) -> &'static str {
            self.name()
        }
    })* };
}
wit_errors!(
    ClientReadError,
    HttpError,
    ProxyError,
    SchedulerError,
    SecretError,
    ServiceReadError,
    StorageError,
    UserError
);

impl<T, E: WitError> CallOutcome for Result<T, E> {
    fn outcome(&self) -> &'static str {
        self.as_ref().map_or_else(WitError::case, |_| "ok")
    }
}

macro_rules! always_ok {
    ($($value:ty),*) => { $(impl CallOutcome for $value {
        fn outcome(&self) -> &'static str {
            "ok"
        }
    })* };
}
always_ok!((), Vec<String>, super::bindings::alga::extension::types::ContextData);

macro_rules! by_success {
    ($($value:ident),*) => { $(impl CallOutcome for super::bindings::alga::extension::types::$value {
        fn outcome(&self) -> &'static str {
            if self.success { "ok" } else { "failed" }
        }
    })* };
}
by_success!(CreateScheduleResult, UpdateScheduleResult, DeleteScheduleResult, CreateManualInvoiceResult);
