//! `wasi:http` 0.2: requests to the outside and what came back. A request is a host call where it is sent
//! (`wasi:http.handle`, [`door`]); what came of it is another where the guest takes it ([`answers`]), since what happens
//! between the two happens beside the guest. Bodies ([`bodies`]) carry the number of their stream from resource to resource.

mod answers;
mod bodies;
mod door;

use serde::Serialize;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::types as wit;
use wasmtime_wasi_http::p2::body::HostFutureTrailers;
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{RequestOptions, WasiHttpView as _};

use super::codes::Code;
use super::{Fields, Note, Wait, ended};
use crate::host::RunState;
use crate::host::scope::RunScope;

pub(in crate::host) use door::{Door, Sending, Sent};

const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";
const TYPES: &str = "wasi:http/types@0.2.12";
/// What sends a request, on the tape; the capability's own name for it.
const HANDLE: &str = "wasi:http.handle";

/// The result of [`HANDLE`] and of `outgoing-body.finish`.
type Done = Result<(), Code>;

#[derive(Serialize)]
struct OfStream {
    stream: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    trailers: Option<Fields>,
}

pub(super) fn shadow(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    type Options = Option<Resource<RequestOptions>>;
    linker.instance(HANDLER)?.func_wrap(
        "handle",
        |mut store, (request, options): (Resource<HostOutgoingRequest>, Options)| {
            Ok((store.data_mut().handle(request, options)?,))
        },
    )?;
    let mut types = linker.instance(TYPES)?;
    types.func_wrap(
        "[method]future-incoming-response.get",
        |mut store, (future,): (Resource<HostFutureIncomingResponse>,)| {
            Ok((store.data_mut().answer(future)?,))
        },
    )?;
    types.func_wrap(
        "[method]future-incoming-response.subscribe",
        |mut store, (future,): (Resource<HostFutureIncomingResponse>,)| {
            let run = store.data_mut();
            let pollable = wit::HostFutureIncomingResponse::subscribe(&mut run.http(), future)?;
            run.taped.put(pollable.rep(), Some(Note::Waits(Wait::Outside("answer".to_owned()))));
            Ok((pollable,))
        },
    )?;
    types.func_wrap(
        "[method]future-trailers.get",
        |mut store, (future,): (Resource<HostFutureTrailers>,)| Ok((store.data_mut().trailers(future)?,)),
    )?;
    types.func_wrap(
        "[method]future-trailers.subscribe",
        |mut store, (future,): (Resource<HostFutureTrailers>,)| {
            let run = store.data_mut();
            let wait = match run.taped.answer(future.rep()) {
                Some(stream) => Wait::Outside(format!("trailers of stream {stream}")),
                None => Wait::Never,
            };
            let pollable = wit::HostFutureTrailers::subscribe(&mut run.http(), future)?;
            run.taped.put(pollable.rep(), Some(Note::Waits(wait)));
            Ok((pollable,))
        },
    )?;
    bodies::shadow(linker)
}

fn unusable(scope: &RunScope, what: &str) -> wasmtime::Error {
    ended(scope, format!("the trace has {what} that is none"))
}
