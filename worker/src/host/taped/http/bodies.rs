//! Bodies of requests and answers: which stream each is.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use longshore_proto::trace::StreamKind;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi_http::p2::bindings::http::types::{self as wit, ErrorCode};
use wasmtime_wasi_http::p2::body::{HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
    HostResponseOutparam,
};
use wasmtime_wasi_http::{FieldMap, WasiHttpView as _};

use super::super::codes::Code;
use super::super::{Call, Note, Step, fields};
use super::{Done, OfStream, TYPES, unusable};
use crate::host::RunState;

/// Functions that hand a body on: they do what they always do, and its note goes along.
pub(super) fn shadow(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
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
