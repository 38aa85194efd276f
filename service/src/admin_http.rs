//! The small HTTP side of every process: health, readiness, metrics.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::metrics::{self, Metrics};
use crate::readiness::Readiness;

/// Probes and scrapers; more connections than these are somebody's mistake.
const MAX_CONNECTIONS: usize = 64;

/// Limit for a request's header, and for a connection that has nothing to say.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Limit for a whole connection: probes and scrapes take milliseconds.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);

/// A request to these paths has no body and few headers.
const MAX_HEADER_BYTES: usize = 16 * 1024;

type HealthFuture = Pin<Box<dyn Future<Output = (bool, Value)> + Send>>;

/// What the handlers answer from. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    readiness: Readiness,
    metrics: Metrics,
    health: Arc<dyn Fn() -> HealthFuture + Send + Sync>,
}

impl Admin {
    /// Without [`Admin::with_health`], `/healthz` answers as `/readyz`.
    pub fn new(readiness: Readiness, metrics: Metrics) -> Self {
        let for_health = readiness.clone();
        let health = move || -> HealthFuture { Box::pin(std::future::ready(ready_report(&for_health))) };
        Self { readiness, metrics, health: Arc::new(health) }
    }

    /// What `/healthz`, `/health` and `/api/health` answer: whether it is 200 (or 503), and the JSON. The future must
    /// be bounded in time by itself.
    pub fn with_health<F, Fut>(mut self, health: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = (bool, Value)> + Send + 'static,
    {
        self.health = Arc::new(move || Box::pin(health()));
        self
    }

    /// `/livez`, `/readyz`, `/healthz`, `/health`, `/api/health`, `/metrics`; every answer is `cache-control: no-store`. To be served alone or merged
    /// into another router.
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/healthz", get(healthz))
            .route("/health", get(healthz))
            .route("/api/health", get(healthz))
            .route("/metrics", get(render_metrics))
            .with_state(self)
    }
}

/// Answers as long as this process's runtime does anything; looks at nothing else, or an outage elsewhere would restart every process.
async fn livez() -> Response {
    no_store((StatusCode::OK, "ok\n"))
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let (ready, report) = ready_report(&admin.readiness);
    json_report(ready, &report)
}

async fn healthz(State(admin): State<Admin>) -> Response {
    let (healthy, report) = (admin.health)().await;
    json_report(healthy, &report)
}

async fn render_metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.render() {
        Ok(page) => no_store(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page)),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            no_store(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn ready_report(readiness: &Readiness) -> (bool, Value) {
    let missing = readiness.missing();
    let reasons: serde_json::Map<String, Value> =
        missing.iter().map(|(name, why)| ((*name).to_owned(), Value::from(why.as_str()))).collect();
    (missing.is_empty(), json!({ "ready": missing.is_empty(), "missing": reasons }))
}

fn json_report(good: bool, report: &Value) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    no_store((status, [(CONTENT_TYPE, "application/json")], format!("{report}\n")))
}

fn no_store(response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Serves `router` until it is dropped, with few connections and short ones: for the admin port, not for calls.
/// Run it with [`Tasks::spawn_background`](crate::lifecycle::Tasks::spawn_background), so that it answers during the drain.
pub async fn serve(listener: TcpListener, router: Router) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Connections end with the server.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely; the next accept would fail at once.
                tracing::warn!(%error, "the admin port cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MAX_HEADER_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            // Errors here are the peer's: a reset or a timeout.
            let _ = tokio::time::timeout(CONNECTION_LIMIT, connection).await;
            drop(slot);
        });
    }
}

/// A port cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has it.
    #[error(
        "{address} is in use by another program: stop that program, or set {setting} to a free address or port"
    )]
    InUse {
        /// The address wanted.
        address: SocketAddr,
        /// The variable that says so.
        setting: &'static str,
    },
    /// Any other reason, such as a port below 1024 without the right to it.
    #[error("{address} (from {setting}) cannot be listened on")]
    Other {
        /// The address wanted.
        address: SocketAddr,
        /// The variable that says so.
        setting: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Listens on `address`; `setting` is the variable it comes from, named in the error.
pub async fn bind_listener(address: SocketAddr, setting: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address, setting },
        _ => BindError::Other { address, setting, source },
    })
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    fn admin() -> (Admin, Readiness) {
        let readiness = Readiness::new();
        (Admin::new(readiness.clone(), Metrics::new("worker")), readiness)
    }

    async fn ask(admin: &Admin, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = admin.clone().router().oneshot(request).await.unwrap();
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store", "{path}");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readyz_lists_what_is_missing_while_livez_does_not_care() {
        let (admin, readiness) = admin();
        let nats = readiness.condition("nats");
        nats.set(false, "cannot be reached: IO error");
        let (status, body) = ask(&admin, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body, "{\"missing\":{\"nats\":\"cannot be reached: IO error\"},\"ready\":false}\n");
        assert_eq!(ask(&admin, "/livez").await.0, StatusCode::OK);
        nats.set(true, "");
        assert_eq!(
            ask(&admin, "/readyz").await,
            (StatusCode::OK, "{\"missing\":{},\"ready\":true}\n".to_owned())
        );
    }

    #[tokio::test]
    async fn the_three_health_paths_answer_alike() {
        let (admin, _) = admin();
        let sick = admin.clone().with_health(|| async { (false, json!({ "cache_writable": false })) });
        for path in ["/healthz", "/health", "/api/health"] {
            assert_eq!(ask(&admin, path).await.0, StatusCode::OK, "{path}");
            let answer = (StatusCode::SERVICE_UNAVAILABLE, "{\"cache_writable\":false}\n".to_owned());
            assert_eq!(ask(&sick, path).await, answer, "{path}");
        }
    }

    #[tokio::test]
    async fn metrics_come_as_openmetrics() {
        let (admin, _) = admin();
        let request = Request::get("/metrics").body(Body::empty()).unwrap();
        let response = admin.router().oneshot(request).await.unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], metrics::CONTENT_TYPE);
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        assert!(body.ends_with(b"# EOF\n"));
    }

    #[tokio::test]
    async fn the_server_answers_its_own_healthcheck() {
        let (admin, _) = admin();
        let listener = bind_listener("127.0.0.1:0".parse().unwrap(), "PORT").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, admin.router()));
        let code =
            tokio::task::spawn_blocking(move || crate::healthcheck::healthcheck(address)).await.unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
        server.abort();
    }

    #[tokio::test]
    async fn a_port_in_use_names_the_address_and_the_variable_that_changes_it() {
        let first = bind_listener("127.0.0.1:0".parse().unwrap(), "PORT").await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind_listener(address, "PORT").await.unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }));
        let text = error.to_string();
        assert!(text.contains(&address.to_string()) && text.contains("set PORT to"), "{text}");
    }
}
