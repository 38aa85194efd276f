//! Where a request goes out, or does not because it is in the trace.

use std::sync::{Arc, OnceLock};

use serde::Serialize;
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler;
use wasmtime_wasi_http::p2::bindings::http::types::{self as wit, ErrorCode};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpView as _};

use super::super::{Call, Fields, Note, Step, fields, step};
use super::{Done, HANDLE, unusable};
use crate::engine::meter::Stop;
use crate::host::RunState;
use crate::host::scope::RunScope;

/// A request that was sent.
#[derive(Clone, Default)]
pub(in crate::host) struct Sent {
    /// `GET https://example.com/x`.
    pub(super) request: String,
    /// Why it failed, for the operator.
    pub(super) failed: Arc<OnceLock<String>>,
}

impl Sent {
    /// The words for the operator. The first count.
    pub(in crate::host) fn fail(&self, words: &str) {
        let _ = self.failed.set(words.to_owned());
    }
}

/// Between the function that the guest calls and [`crate::host::http::Outgoing`], which wasmtime calls in its middle.
#[derive(Default)]
pub(in crate::host) struct Door {
    /// A taped 0.2 guest stands in it. Others (0.3) send beside their other calls.
    open: bool,
    sent: Sent,
    /// The trace says that nothing was sent.
    refused: Option<ErrorCode>,
    /// The run ends.
    over: Option<wasmtime::Error>,
}

/// What the tape does with a request.
pub(in crate::host) enum Sending {
    /// It goes out; how it fails is told to the first, its end to the second.
    Live(Sent, Beside),
    /// Nothing goes out.
    Played,
}

/// The rest of a recorded request that runs beside its guest.
pub(in crate::host) struct Beside(Call);

impl Beside {
    /// What came of it.
    pub(in crate::host) fn end(self, outcome: &'static str, status: Option<u16>) {
        self.0.end(outcome, &Answered { status });
    }
}

#[derive(Serialize)]
struct Answered {
    status: Option<u16>,
}

/// The arguments of [`HANDLE`]. The body is in its stream.
#[derive(Serialize)]
struct Head {
    method: String,
    url: String,
    headers: Fields,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    between_bytes_timeout: Option<u64>,
}

impl Head {
    fn new(request: &::http::Request<WasiBody>, options: &RequestOptions) -> Self {
        let ns = |time: Option<std::time::Duration>| {
            time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        Self {
            method: request.method().to_string(),
            url: request.uri().to_string(),
            headers: fields(request.headers()),
            connect_timeout: ns(options.connect_timeout),
            first_byte_timeout: ns(options.first_byte_timeout),
            between_bytes_timeout: ns(options.between_bytes_timeout),
        }
    }
}

impl Door {
    /// Called for every request that goes through, once it is paid for. `begun`: whether the install grants it, or the
    /// budget that it broke.
    pub(in crate::host) fn send(
        &mut self,
        scope: &RunScope,
        begun: Result<bool, Stop>,
        request: &::http::Request<WasiBody>,
        options: &RequestOptions,
    ) -> Sending {
        let is_granted = match begun {
            Ok(is_granted) => is_granted,
            // Of a taped guest the run ends in this very call; of others, when it waits.
            Err(stop) => {
                if self.open {
                    self.over = Some(stop.into());
                }
                return Sending::Live(Sent::default(), Beside(Call(None)));
            }
        };
        if !scope.tape.is_on() {
            return Sending::Live(Sent::default(), Beside(Call(None)));
        }
        let head = Head::new(request, options);
        self.sent.request = format!("{} {}", head.method, head.url);
        match step(scope, HANDLE, &head) {
            Ok(Step::Live(call)) if self.open => {
                call.end(if is_granted { "ok" } else { "denied" }, &Done::Ok(()));
                Sending::Live(self.sent.clone(), Beside(Call(None)))
            }
            Ok(Step::Live(call)) => Sending::Live(Sent::default(), Beside(call)),
            Ok(Step::Played(Done::Ok(()))) => Sending::Played,
            Ok(Step::Played(Done::Err(code))) => {
                match code.error() {
                    Some(code) => self.refused = Some(code),
                    None => self.over = Some(unusable(scope, &format!("the error code {}", code.code))),
                }
                Sending::Played
            }
            Err(over) => {
                self.over = Some(over);
                Sending::Played
            }
        }
    }
}

impl RunState {
    pub(super) fn handle(
        &mut self,
        request: Resource<HostOutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> wasmtime::Result<Result<Resource<HostFutureIncomingResponse>, ErrorCode>> {
        *self.wasi_http_hooks.door() = Door { open: true, ..Door::default() };
        let sent = outgoing_handler::Host::handle(&mut self.http(), request, options);
        let door = std::mem::take(self.wasi_http_hooks.door());
        if let Some(over) = door.over {
            return Err(over);
        }
        match (sent, door.refused) {
            (Ok(future), None) => {
                self.taped.put(future.rep(), Some(Note::Sent(door.sent)));
                Ok(Ok(future))
            }
            (Ok(future), Some(code)) => {
                self.table.delete(future)?;
                Ok(Err(code))
            }
            (Err(error), _) => Ok(Err(wit::Host::convert_error_code(&mut self.http(), error)?)),
        }
    }
}
