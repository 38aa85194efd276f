//! From a request to its answer.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State as FromState};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::answer::{Answer, Outcome};
use crate::fault::{Fault, Faults};
use crate::record::{Recorded, Records};
use crate::state::State;
use crate::{Options, invoicing, read, registry, rest, scheduler, storage};

/// Largest body that is read.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// Bytes of [`Fault::HugeBody`]: over what any client of these APIs takes.
const HUGE: usize = 9 * 1024 * 1024;

/// What all requests share.
pub(crate) struct Shared {
    token: Option<String>,
    api_key: Option<String>,
    state: Mutex<State>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) records: Mutex<Records>,
    stopped: watch::Receiver<bool>,
}

impl Shared {
    pub(crate) fn new(options: Options, stopped: watch::Receiver<bool>) -> Self {
        Self {
            token: options.token,
            api_key: options.api_key,
            state: Mutex::new(State::new(options.seed)),
            faults: Mutex::new(Faults::default()),
            records: Mutex::new(Records::new(options.remember)),
            stopped,
        }
    }
}

/// Serves until the sender of `stopped` is gone.
pub(crate) async fn run(listener: TcpListener, shared: Arc<Shared>, stopped: watch::Receiver<bool>) {
    let router = Router::new().fallback(handle).with_state(shared);
    // An error of one connection is that connection's; the listener's own are retried by axum.
    let _ = axum::serve(listener, router).with_graceful_shutdown(gone(stopped)).await;
}

/// Waits until the stub is dropped.
async fn gone(mut stopped: watch::Receiver<bool>) {
    while stopped.changed().await.is_ok() {}
}

async fn handle(FromState(shared): FromState<Arc<Shared>>, request: Request) -> Result<Response, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return Ok(StatusCode::PAYLOAD_TOO_LARGE.into_response());
    };
    shared.records.lock().push(Recorded::of(&parts, &body));
    let path = parts.uri.path();
    let json = serde_json::from_slice::<Value>(&body);
    let route = internal(path);
    let registry = registry::operation(path);
    let (api, operation) = match &route {
        _ if registry.is_some() => ("registry", registry.unwrap_or_default()),
        Some((api, _)) => {
            (*api, json.as_ref().ok().and_then(|j| j.get("operation")?.as_str()).unwrap_or_default())
        }
        None => ("rest", path),
    };
    let fault = shared.faults.lock().take(api, operation);
    if let Some(fault) = fault {
        return Ok(fail(fault, &shared).await);
    }
    let outcome = match route {
        _ if registry.is_some() => shared.registry(operation, &parts, json.as_ref().ok()),
        Some((api, install)) => shared.answer(api, &install, &parts.headers, json.ok()),
        None => rest::answer(&mut shared.state.lock(), &parts, shared.api_key.as_deref(), json.ok()),
    };
    let Answer { status, body } = match outcome {
        Ok(answer) | Err(answer) => answer,
    };
    Ok(response(status, body.to_string().into()))
}

/// The API and install of an internal route.
fn internal(path: &str) -> Option<(&'static str, String)> {
    let rest = path.strip_prefix("/api/internal/ext-")?;
    let (api, rest) = rest.split_once("/install/")?;
    let api = ["storage", "scheduler", "invoicing", "clients", "services"].into_iter().find(|a| *a == api)?;
    // One segment, decoded as a router does.
    let install = (!rest.contains('/')).then(|| percent_decode_str(rest).decode_utf8_lossy().into_owned())?;
    Some((api, install))
}

impl Shared {
    fn registry(&self, operation: &str, parts: &Parts, body: Option<&Value>) -> Outcome {
        let keys = (self.token.as_deref(), self.api_key.as_deref());
        registry::answer(&self.state.lock().seed, operation, parts, keys, body)
    }

    fn answer(&self, api: &str, install: &str, headers: &HeaderMap, body: Option<Value>) -> Outcome {
        let given = headers.get("x-runner-auth").map(HeaderValue::as_bytes);
        if self.token.as_ref().is_some_and(|token| given != Some(token.as_bytes())) {
            return Err(Answer::error(401, "UNAUTHORIZED", "Invalid runner token"));
        }
        let body = body.ok_or_else(|| Answer::error(400, "VALIDATION_FAILED", "Invalid JSON body"))?;
        let state = &mut *self.state.lock();
        match api {
            "storage" => storage::answer(state, install, &body),
            "scheduler" => scheduler::answer(state, install, &body),
            "invoicing" => invoicing::answer(state, install, &body),
            "clients" => read::clients(state, install, &body),
            _ => read::services(state, install, &body),
        }
    }
}

async fn fail(fault: Fault, shared: &Shared) -> Response {
    match fault {
        Fault::Status(status, body) => response(status, body.into()),
        Fault::Malformed => response(200, r#"{"items": [{"#.into()),
        Fault::Empty => response(200, Bytes::new()),
        Fault::Hang => {
            gone(shared.stopped.clone()).await;
            response(503, Bytes::new())
        }
        Fault::Redirect(to) => {
            let location = HeaderValue::from_str(&to).unwrap_or_else(|_| HeaderValue::from_static("/"));
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()
        }
        Fault::HugeBody => response(200, json!({ "filler": "x".repeat(HUGE) }).to_string().into()),
        Fault::DropConnection => {
            let broken =
                futures::stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("dropped"))]);
            (StatusCode::OK, Body::from_stream(broken)).into_response()
        }
    }
}

fn response(status: u16, body: Bytes) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
