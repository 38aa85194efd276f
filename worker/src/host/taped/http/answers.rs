//! What came of a request: its head and its trailers, where the guest takes them.

use http_body_util::{BodyExt as _, Full};
use serde::{Deserialize, Serialize};
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::types::{self as wit, ErrorCode};
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostIncomingResponse};
use wasmtime_wasi_http::{FieldMap, WasiHttpView as _};

use super::super::codes::Code;
use super::super::{Call, FieldValue, Fields, Note, Step, fields, header_map};
use super::{OfStream, Sent, unusable};
use crate::host::RunState;

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

type Answer = Option<Result<Result<Resource<HostIncomingResponse>, ErrorCode>, ()>>;
type End = Option<Result<Result<Option<Resource<FieldMap>>, ErrorCode>, ()>>;

impl RunState {
    pub(super) fn answer(
        &mut self,
        future: Resource<HostFutureIncomingResponse>,
    ) -> wasmtime::Result<Answer> {
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

    pub(super) fn trailers(&mut self, future: Resource<HostFutureTrailers>) -> wasmtime::Result<End> {
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
}
