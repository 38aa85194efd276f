//! `wasi:http` 0.2: requests to the outside and what came back. A request is a host call where it is sent
//! (`wasi:http.handle`); what came of it is another where the guest takes it, since what happens between the two
//! happens beside the guest.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use http_body_util::{BodyExt as _, Full};
use longshore_proto::trace::StreamKind;
use serde::{Deserialize, Serialize};
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler;
use wasmtime_wasi_http::p2::bindings::http::types::{self as wit, ErrorCode};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest,
    HostOutgoingResponse, HostResponseOutparam,
};
use wasmtime_wasi_http::{FieldMap, RequestOptions, WasiBody, WasiHttpView as _};

use super::codes::Code;
use super::{Call, FieldValue, Fields, Note, Step, Wait, ended, fields, header_map, step};
use crate::engine::meter::Stop;
use crate::host::RunState;
use crate::host::scope::RunScope;

const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";
const TYPES: &str = "wasi:http/types@0.2.12";
/// What sends a request, on the tape; the capability's own name for it.
const HANDLE: &str = "wasi:http.handle";

/// A request that was sent.
#[derive(Clone, Default)]
pub(in crate::host) struct Sent {
    /// `GET https://example.com/x`.
    request: String,
    /// Why it failed, for the operator.
    failed: Arc<OnceLock<String>>,
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
    pub(in crate::host) fn end(self, outcome: &str, status: Option<u16>) {
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

/// The result of [`HANDLE`] and of `outgoing-body.finish`.
type Done = Result<(), Code>;

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

/// What `future-incoming-response.get` and `future-trailers.get` gave.
#[derive(Serialize, Deserialize)]
enum Got<T> {
    /// Nothing yet.
    #[serde(rename = "pending")]
    Pending,
    /// It was taken before.
    #[serde(rename = "taken")]
    Taken,
    Ok(T),
    Err(Code),
    /// It ended the run: there was no room for another resource.
    Trap(String),
}

impl<T: Serialize> Got<T> {
    /// Ends a call that gave nothing but the run's end.
    fn trapped<L>(call: Call, live: wasmtime::Result<L>) -> wasmtime::Result<(Call, L)> {
        match live {
            Ok(live) => Ok((call, live)),
            Err(error) => {
                call.end("trap", &Self::Trap(error.root_cause().to_string()));
                Err(error)
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Response {
    status: u16,
    #[serde(default)]
    headers: Fields,
    /// Where its body is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream: Option<u32>,
    /// Its body, of an answer that never was: somebody asks what the guest would have done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<FieldValue>,
}

#[derive(Serialize)]
struct OfRequest<'a> {
    request: &'a str,
}

#[derive(Serialize)]
struct OfStream {
    stream: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    trailers: Option<Fields>,
}

type Answer = Option<Result<Result<Resource<HostIncomingResponse>, ErrorCode>, ()>>;
type End = Option<Result<Result<Option<Resource<FieldMap>>, ErrorCode>, ()>>;

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
    bodies(linker)
}

/// Functions that hand a body on: they do what they always do, and its note goes along.
fn bodies(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    let mut types = linker.instance(TYPES)?;
    types.func_wrap(
        "[method]incoming-request.consume",
        |mut store, (request,): (Resource<HostIncomingRequest>,)| {
            let run = store.data_mut();
            let body = wit::HostIncomingRequest::consume(&mut run.http(), request)?;
            Ok((run.noted(body, None),))
        },
    )?;
    types.func_wrap(
        "[method]incoming-response.consume",
        |mut store, (response,): (Resource<HostIncomingResponse>,)| {
            let run = store.data_mut();
            let note = run.taped.answer(response.rep()).map(Note::Answer);
            let body = wit::HostIncomingResponse::consume(&mut run.http(), response)?;
            Ok((run.noted(body, note),))
        },
    )?;
    types.func_wrap(
        "[method]incoming-body.stream",
        |mut store, (body,): (Resource<HostIncomingBody>,)| {
            let run = store.data_mut();
            let note = run.taped.answer(body.rep()).map(Note::Answer);
            let stream: Result<Resource<DynInputStream>, ()> =
                wit::HostIncomingBody::stream(&mut run.http(), body)?;
            Ok((run.noted(stream, note),))
        },
    )?;
    types.func_wrap(
        "[static]incoming-body.finish",
        |mut store, (body,): (Resource<HostIncomingBody>,)| {
            let run = store.data_mut();
            let note = run.taped.answer(body.rep()).map(Note::Answer);
            let trailers = wit::HostIncomingBody::finish(&mut run.http(), body)?;
            run.taped.put(trailers.rep(), note);
            Ok((trailers,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.body",
        |mut store, (request,): (Resource<HostOutgoingRequest>,)| {
            let run = store.data_mut();
            let body: Result<Resource<HostOutgoingBody>, ()> =
                wit::HostOutgoingRequest::body(&mut run.http(), request)?;
            let note = body.is_ok().then(|| Note::Request(run.new_stream(StreamKind::Output)));
            Ok((run.noted(body, note),))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-response.body",
        |mut store, (response,): (Resource<HostOutgoingResponse>,)| {
            let run = store.data_mut();
            let rep = response.rep();
            let body: Result<Resource<HostOutgoingBody>, ()> =
                wit::HostOutgoingResponse::body(&mut run.http(), response)?;
            let note = body.is_ok().then(|| Note::Response(Arc::new(AtomicBool::new(false))));
            if note.is_some() {
                run.taped.put(rep, note.clone());
            }
            Ok((run.noted(body, note),))
        },
    )?;
    types.func_wrap("[method]outgoing-body.write", |mut store, (body,): (Resource<HostOutgoingBody>,)| {
        let run = store.data_mut();
        let note = run.taped.get(body.rep()).cloned();
        let stream: Result<Resource<DynOutputStream>, ()> =
            wit::HostOutgoingBody::write(&mut run.http(), body)?;
        Ok((run.noted(stream, note),))
    })?;
    types.func_wrap(
        "[static]outgoing-body.finish",
        |mut store, (body, trailers): (Resource<HostOutgoingBody>, Option<Resource<FieldMap>>)| {
            Ok((store.data_mut().finish(body, trailers)?,))
        },
    )?;
    type Set = Result<Resource<HostOutgoingResponse>, ErrorCode>;
    types.func_wrap(
        "[static]response-outparam.set",
        |mut store, (out, response): (Resource<HostResponseOutparam>, Set)| {
            let run = store.data_mut();
            if let Ok(response) = &response
                && let Some(is_read) = run.taped.response(response.rep())
            {
                // From now on the host reads it.
                is_read.store(true, Relaxed);
            }
            wit::HostResponseOutparam::set(&mut run.http(), out, response)
        },
    )
}

impl RunState {
    /// A resource with its note.
    fn noted<T>(&mut self, made: Result<Resource<T>, ()>, note: Option<Note>) -> Result<Resource<T>, ()>
    where
        T: 'static,
    {
        if let Ok(resource) = &made {
            self.taped.put(resource.rep(), note);
        }
        made
    }

    fn handle(
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

    fn answer(&mut self, future: Resource<HostFutureIncomingResponse>) -> wasmtime::Result<Answer> {
        let sent = match self.taped.get(future.rep()) {
            Some(Note::Sent(sent)) => sent.clone(),
            _ => Sent::default(),
        };
        let of = OfRequest { request: &sent.request };
        match self.step("wasi:http/types.future-incoming-response.get", &of)? {
            Step::Live(call) => {
                let answer = wit::HostFutureIncomingResponse::get(&mut self.http(), future);
                let (call, answer): (_, Answer) = Got::<Response>::trapped(call, answer)?;
                let (outcome, got) = match &answer {
                    None => ("pending", Got::Pending),
                    Some(Err(())) => ("taken", Got::Taken),
                    Some(Ok(Err(code))) => ("failed", Got::Err(Code::from(code))),
                    Some(Ok(Ok(response))) => {
                        let stream = self.new_input();
                        self.taped.put(response.rep(), Some(Note::Answer(stream)));
                        let response = self.table.get(response)?;
                        let (status, headers) = (response.status, fields(&response.headers));
                        ("ok", Got::Ok(Response { status, headers, stream: Some(stream), body: None }))
                    }
                };
                let note = sent.failed.get().filter(|_| outcome == "failed").cloned();
                call.end_with(outcome, &got, note);
                Ok(answer)
            }
            Step::Played(Got::Pending) => Ok(None),
            Step::Played(Got::Taken) => Ok(Some(Err(()))),
            Step::Played(Got::Err(code)) => match code.error() {
                Some(code) => Ok(Some(Ok(Err(code)))),
                None => Err(unusable(&self.scope, &format!("the error code {}", code.code))),
            },
            Step::Played(Got::Trap(words)) => Err(wasmtime::Error::msg(words)),
            Step::Played(Got::Ok(response)) => Ok(Some(Ok(Ok(self.played_answer(response)?)))),
        }
    }

    /// A response as it was. Its body is empty where its stream is in the trace: nobody asks it anything.
    fn played_answer(&mut self, response: Response) -> wasmtime::Result<Resource<HostIncomingResponse>> {
        let Response { status, headers, stream, body } = response;
        let headers = header_map(&headers).ok_or_else(|| unusable(&self.scope, "a header"))?;
        let bytes_at_hand = body.is_some();
        let bytes = body.as_ref().map(|body| bytes::Bytes::copy_from_slice(body.as_bytes()));
        let body = Full::new(bytes.unwrap_or_default()).map_err(|never| match never {}).boxed_unsync();
        let view = self.http();
        let headers = FieldMap::new_immutable(view.hooks, headers);
        let body = Some(HostIncomingBody::new(body));
        let made = view.table.push(HostIncomingResponse { status, headers, body })?;
        if let Some(stream) = stream {
            self.taped.seen(stream);
        }
        let note = if bytes_at_hand { None } else { stream.map(Note::Answer) };
        self.taped.put(made.rep(), note);
        Ok(made)
    }

    fn trailers(&mut self, future: Resource<HostFutureTrailers>) -> wasmtime::Result<End> {
        let Some(stream) = self.taped.answer(future.rep()) else {
            return wit::HostFutureTrailers::get(&mut self.http(), future);
        };
        let of = OfStream { stream, trailers: None };
        match self.step("wasi:http/types.future-trailers.get", &of)? {
            Step::Live(call) => {
                let end = wit::HostFutureTrailers::get(&mut self.http(), future);
                let (call, end): (_, End) = Got::<Option<Fields>>::trapped(call, end)?;
                let (outcome, got) = match &end {
                    None => ("pending", Got::Pending),
                    Some(Err(())) => ("taken", Got::Taken),
                    Some(Ok(Err(code))) => ("failed", Got::Err(Code::from(code))),
                    Some(Ok(Ok(None))) => ("ok", Got::Ok(None)),
                    Some(Ok(Ok(Some(trailers)))) => ("ok", Got::Ok(Some(fields(self.table.get(trailers)?)))),
                };
                call.end(outcome, &got);
                Ok(end)
            }
            Step::Played(Got::Pending) => Ok(None),
            Step::Played(Got::Taken) => Ok(Some(Err(()))),
            Step::Played(Got::Ok(None)) => Ok(Some(Ok(Ok(None)))),
            Step::Played(Got::Err(code)) => match code.error() {
                Some(code) => Ok(Some(Ok(Err(code)))),
                None => Err(unusable(&self.scope, &format!("the error code {}", code.code))),
            },
            Step::Played(Got::Trap(words)) => Err(wasmtime::Error::msg(words)),
            Step::Played(Got::Ok(Some(trailers))) => {
                let map = header_map(&trailers).ok_or_else(|| unusable(&self.scope, "a trailer"))?;
                let view = self.http();
                let map = FieldMap::new_immutable(view.hooks, map);
                Ok(Some(Ok(Ok(Some(view.table.push(map)?)))))
            }
        }
    }

    fn finish(
        &mut self,
        body: Resource<HostOutgoingBody>,
        trailers: Option<Resource<FieldMap>>,
    ) -> wasmtime::Result<Result<(), ErrorCode>> {
        let request = self.taped.request(body.rep());
        let call = match request {
            None => Call(None),
            Some(stream) => {
                let shown = trailers.as_ref().map(|trailers| self.table.get(trailers)).transpose()?;
                let of = OfStream { stream, trailers: shown.map(|trailers| fields(trailers)) };
                match self.step("wasi:http/types.outgoing-body.finish", &of)? {
                    Step::Live(call) => call,
                    Step::Played::<Done>(finished) => {
                        self.table.delete(body)?;
                        trailers.map(|trailers| self.table.delete(trailers)).transpose()?;
                        return match finished {
                            Ok(()) => Ok(Ok(())),
                            Err(code) => match Code::error(&code) {
                                Some(code) => Ok(Err(code)),
                                None => Err(unusable(&self.scope, &format!("the error code {}", code.code))),
                            },
                        };
                    }
                }
            }
        };
        let finished = wit::HostOutgoingBody::finish(&mut self.http(), body, trailers);
        match finished {
            Ok(()) => {
                call.end("ok", &Done::Ok(()));
                Ok(Ok(()))
            }
            Err(error) => {
                let code = wit::Host::convert_error_code(&mut self.http(), error)?;
                call.end("failed", &Done::Err(Code::from(&code)));
                Ok(Err(code))
            }
        }
    }
}

fn unusable(scope: &RunScope, what: &str) -> wasmtime::Error {
    ended(scope, format!("the trace has {what} that is none"))
}
