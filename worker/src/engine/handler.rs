//! What a component answers calls with, and how each kind is called.
//!
//! Which kind is decided when a component is linked. One that exports several is an `alga:extension` first, then
//! `wasi:http` 0.2, then 0.3: the first is what the platform's own tools made it for, and 0.2 is the one that is not
//! going to change.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use http_body_util::Full;
use longshore_proto::CallError;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode as ErrorCode2, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};
use wasmtime_wasi_http::{WasiBody, WasiHttpView, p3};

use super::response;
use crate::host::bindings::alga::extension::types::{ExecuteRequest, HttpHeader, HttpRequest};
use crate::host::bindings::{Runner, RunnerPre};
use crate::host::{RunState, wasi_http};
use crate::job::{GuestResponse, Job};

/// The root export of an `alga:extension`.
const EXTENSION: &str = "handler";
/// Interfaces whose export makes a component a `wasi:http` one; any version of theirs that wasmtime takes for
/// compatible is called.
const HTTP: &str = "wasi:http/incoming-handler@0.2.";
const HTTP_ASYNC: &str = "wasi:http/handler@0.3.";

/// Kinds of components that answer calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Exports the function `handler` (interop 1.1).
    Extension,
    /// Exports `wasi:http/incoming-handler@0.2.x`.
    Http,
    /// Exports `wasi:http/handler@0.3.x`.
    HttpAsync,
}

impl Kind {
    /// The component's kind, if it has one.
    pub fn of(component: &Component) -> Option<Self> {
        let ty = component.component_type();
        let root = ty.get_export(component.engine(), EXTENSION).map(|export| export.ty);
        if matches!(root, Some(ComponentItem::ComponentFunc(_))) {
            return Some(Self::Extension);
        }
        let exports = |prefix: &str| ty.exports(component.engine()).any(|(name, _)| name.starts_with(prefix));
        if exports(HTTP) { Some(Self::Http) } else { exports(HTTP_ASYNC).then_some(Self::HttpAsync) }
    }
}

/// A handler whose place in the component is known.
pub enum Handler {
    /// See [`Kind::Extension`].
    Extension(RunnerPre<RunState>),
    /// See [`Kind::Http`].
    Http(ProxyPre<RunState>),
    /// See [`Kind::HttpAsync`].
    HttpAsync(ServicePre<RunState>),
}

impl Handler {
    /// Finds the handler and checks its type.
    pub fn new(kind: Kind, pre: InstancePre<RunState>) -> wasmtime::Result<Self> {
        Ok(match kind {
            Kind::Extension => Self::Extension(RunnerPre::new(pre)?),
            Kind::Http => Self::Http(ProxyPre::new(pre)?),
            Kind::HttpAsync => Self::HttpAsync(ServicePre::new(pre)?),
        })
    }

    /// What is asked of it. Fails with `invalid_request` before anything is instantiated.
    pub fn prepare(&self, job: &Job, state: &RunState) -> Result<Prepared<'_>, CallError> {
        let http = || wasi_http::request(&job.run.http, job.body.as_ref());
        Ok(match self {
            Self::Extension(pre) => Prepared::Extension(pre, Box::new(extension_request(job, state))),
            Self::Http(pre) => Prepared::Http(pre, Box::new(http()?)),
            Self::HttpAsync(pre) => Prepared::HttpAsync(pre, Box::new(http()?)),
        })
    }
}

fn extension_request(job: &Job, state: &RunState) -> ExecuteRequest {
    let http = &job.run.http;
    let headers =
        http.headers.iter().map(|(name, value)| HttpHeader { name: name.clone(), value: value.clone() });
    ExecuteRequest {
        context: state.scope().context_data(),
        http: HttpRequest {
            method: http.method.clone(),
            url: http.url.clone(),
            headers: headers.collect(),
            body: job.body.as_ref().map(|bytes| bytes.to_vec()),
        },
    }
}

/// A handler with its request.
pub enum Prepared<'a> {
    /// See [`Kind::Extension`].
    Extension(&'a RunnerPre<RunState>, Box<ExecuteRequest>),
    /// See [`Kind::Http`].
    Http(&'a ProxyPre<RunState>, Box<http::Request<Full<Bytes>>>),
    /// See [`Kind::HttpAsync`].
    HttpAsync(&'a ServicePre<RunState>, Box<http::Request<Full<Bytes>>>),
}

impl Prepared<'_> {
    /// An instance to put the request to.
    pub async fn instantiate(self, store: &mut Store<RunState>) -> wasmtime::Result<Ready> {
        Ok(match self {
            Self::Extension(pre, request) => Ready::Extension(pre.instantiate_async(store).await?, request),
            Self::Http(pre, request) => Ready::Http(pre.instantiate_async(store).await?, request),
            Self::HttpAsync(pre, request) => Ready::HttpAsync(pre.instantiate_async(store).await?, request),
        })
    }
}

/// An instance with its request.
pub enum Ready {
    /// See [`Kind::Extension`].
    Extension(Runner, Box<ExecuteRequest>),
    /// See [`Kind::Http`].
    Http(Proxy, Box<http::Request<Full<Bytes>>>),
    /// See [`Kind::HttpAsync`].
    HttpAsync(Service, Box<http::Request<Full<Bytes>>>),
}

/// A guest gave no answer.
#[derive(Debug)]
pub enum HandlerError {
    /// It trapped, or a host function ended it.
    Wasm(wasmtime::Error),
    /// What it answered is none.
    Answer(CallError),
}

impl From<wasmtime::Error> for HandlerError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Wasm(error)
    }
}

impl From<CallError> for HandlerError {
    fn from(error: CallError) -> Self {
        Self::Answer(error)
    }
}

impl Ready {
    /// The guest's answer, checked, of at most `max_bytes` of body. It is there when the body has ended and the
    /// guest has returned: what a guest does after its answer belongs to the run, and a trap there fails it.
    pub async fn call(
        self,
        store: &mut Store<RunState>,
        max_bytes: usize,
    ) -> Result<GuestResponse, HandlerError> {
        match self {
            Self::Extension(runner, request) => {
                let answer = runner.call_handler(store, &request).await?;
                Ok(response::checked(answer, max_bytes)?)
            }
            Self::Http(proxy, request) => call_http(&proxy, store, *request, max_bytes).await,
            Self::HttpAsync(service, request) => call_http_async(&service, store, *request, max_bytes).await,
        }
    }
}

type Answer2 = Result<http::Response<WasiBody>, ErrorCode2>;

/// The body is read while the guest runs, so that it may write more than the host holds; its stream takes one write
/// of at most 64 KiB at a time.
async fn call_http(
    proxy: &Proxy,
    store: &mut Store<RunState>,
    request: http::Request<Full<Bytes>>,
    max_bytes: usize,
) -> Result<GuestResponse, HandlerError> {
    let scheme = match request.uri().scheme_str() {
        Some("https") => Scheme::Https,
        _ => Scheme::Http,
    };
    let (sender, receiver) = oneshot::channel::<Answer2>();
    // Taken by whoever comes first: the guest that sets a response, or its return without one. A guest may keep the
    // out-parameter for ever, so its end alone says nothing.
    let sender = Arc::new(Mutex::new(Some(sender)));
    let taken = Arc::clone(&sender);
    let mut view = store.data_mut().http();
    let request = view.new_incoming_request(scheme, request)?;
    let out = view.new_response_outparam_from_callback(move |answer| {
        if let Some(sender) = taken.lock().take() {
            let _ = sender.send(answer);
        }
    })?;

    let record = Arc::clone(&store.data().scope().record);
    let redact = |words: &str| record.redact(words).into_owned();
    let answer = async {
        let answer = receiver.await.map_err(|_| wasi_http::no_response())?;
        let answer = answer.map_err(|code| wasi_http::error_code(&format!("{code:?}"), redact))?;
        read(answer, max_bytes).await
    };
    // Without tokio's budget: the last look below must find everything that is there.
    let mut answer = std::pin::pin!(tokio::task::unconstrained(answer));
    let mut guest = std::pin::pin!(proxy.wasi_http_incoming_handler().call_handle(store, request, out));
    let early = tokio::select! {
        biased;
        returned = &mut guest => {
            returned?;
            None
        }
        answer = &mut answer => Some(answer?),
    };
    if let Some(answer) = early {
        guest.await?;
        return Ok(answer);
    }
    // It has returned: nothing can set or write any more.
    drop(sender.lock().take());
    Ok(answer.now_or_never().unwrap_or_else(|| Err(wasi_http::unfinished()))?)
}

/// The guest's tasks go on after `handle` has returned: they write the body. They run in the store's event loop, and so
/// does the reading of what they write.
async fn call_http_async(
    service: &Service,
    store: &mut Store<RunState>,
    request: http::Request<Full<Bytes>>,
    max_bytes: usize,
) -> Result<GuestResponse, HandlerError> {
    let (request, sent) = p3::Request::from_http(store.data_mut().http().hooks, request);
    let record = Arc::clone(&store.data().scope().record);
    let redact = |words: &str| record.redact(words).into_owned();
    store
        .run_concurrent(async |accessor| {
            let answer = service.handle(accessor, request).await?;
            let answer = answer.map_err(|code| wasi_http::error_code(&format!("{code:?}"), redact))?;
            let answer = accessor.with(|store| answer.into_http(store, sent))?;
            let answer = read(answer, max_bytes).await?;
            std::future::poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            Ok(answer)
        })
        .await?
}

async fn read(answer: http::Response<WasiBody>, max_bytes: usize) -> Result<GuestResponse, CallError> {
    let (head, body) = answer.into_parts();
    // Before the body, which may take long.
    let (status, headers) = response::head(head.status.as_u16(), &head.headers)?;
    let (body, trailers) = wasi_http::collect(body, max_bytes).await?;
    response::http(status, headers, body, &trailers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(exports: &str) -> Option<Kind> {
        let text = format!(
            r#"(component
                (core module $m (func (export "f")))
                (core instance $i (instantiate $m))
                (func $f (canon lift (core func $i "f")))
                (instance $none)
                {exports})"#
        );
        let engine = wasmtime::Engine::default();
        Kind::of(&Component::new(&engine, wat::parse_str(text).unwrap()).unwrap())
    }

    #[test]
    fn a_component_is_known_by_what_it_exports() {
        let http = r#"(export "wasi:http/incoming-handler@0.2.3" (instance $none))"#;
        let http_async = r#"(export "wasi:http/handler@0.3.0" (instance $none))"#;
        let extension = r#"(export "handler" (func $f))"#;
        assert_eq!(kind(extension), Some(Kind::Extension));
        assert_eq!(kind(http), Some(Kind::Http));
        assert_eq!(kind(http_async), Some(Kind::HttpAsync));
        assert_eq!(kind(&format!("{http_async}{http}{extension}")), Some(Kind::Extension));
        assert_eq!(kind(&format!("{http_async}{http}")), Some(Kind::Http));
    }

    #[test]
    fn neither_other_exports_nor_other_versions_make_a_handler() {
        assert_eq!(kind(""), None);
        assert_eq!(kind(r#"(export "ready" (func $f))"#), None);
        assert_eq!(kind(r#"(export "handler" (instance $none))"#), None);
        assert_eq!(kind(r#"(export "wasi:http/incoming-handler@0.3.0" (instance $none))"#), None);
        assert_eq!(kind(r#"(export "wasi:http/handler@0.4.0" (instance $none))"#), None);
    }
}
