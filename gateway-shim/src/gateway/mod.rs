//! `ANY /api/ext/{extension}/{path}`: extensions called by browsers and API clients.
//!
//! ```text
//! header -> who (token, JWT) -> which install (registry) -> may it, how often, is it declared -> body -> Dispatch -> answer
//! ```
//! Tenant, bundle, rights and secrets come from the credential and the registry; of the request an extension gets
//! method, path, query, body and a list of harmless headers. Where the existing platform's gateway does the same job
//! (interop 3.2 to 3.4) names and statuses are its own.
//!
//! Every answer has a real status, `x-request-id` and `x-longshore-execution-id`; what is not the extension's answer is
//! JSON `{code, message, request_id, retryable}` (docs/errors.md).

mod caller;
mod config;
mod cors;
pub(crate) mod endpoints;
mod gate;
mod handle;
mod headers;
pub mod loopback;
mod manifests;
mod metrics;
mod rate;
mod reply;
pub(crate) mod runs;
mod status;
mod target;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use longshore_access::Authenticate;
use longshore_proto::TenantId;
use longshore_registry::Registry;

use crate::http::{App, Dispatch};
use cors::Cors;
use headers::Allowed;
use rate::RateLimit;

pub use config::GatewayConfig;
pub use endpoints::Manifests;
pub use gate::InstallGate;
pub use metrics::GatewayMetrics;
pub use status::gateway_status;

/// What the route stands on.
pub struct Backends {
    /// Installs.
    pub registry: Arc<dyn Registry>,
    /// Callers.
    pub access: Arc<dyn Authenticate>,
    /// Endpoints of bundles whose installs do not say them. None: such installs cannot be called while endpoints are enforced.
    pub manifests: Option<Arc<dyn Manifests>>,
}

/// What the handler answers from.
pub struct Gateway<D> {
    app: Arc<App<D>>,
    registry: Arc<dyn Registry>,
    access: Arc<dyn Authenticate>,
    manifests: Option<Arc<dyn Manifests>>,
    metrics: GatewayMetrics,
    rate: RateLimit,
    cors: Cors,
    request_headers: Allowed,
    answer_headers: Allowed,
    dev_tenant: Option<TenantId>,
    timeout: Duration,
    max_body: usize,
    enforce: bool,
}

impl<D: Dispatch> Gateway<D> {
    /// Calls go to the dispatcher of `app` and share its budget of body bytes.
    pub fn new(
        app: Arc<App<D>>,
        config: &GatewayConfig,
        backends: Backends,
        metrics: GatewayMetrics,
    ) -> Arc<Self> {
        let Backends { registry, access, manifests } = backends;
        Arc::new(Self {
            app,
            registry,
            access,
            manifests,
            metrics,
            rate: RateLimit::new(config.rate, config.burst),
            cors: config.cors(),
            request_headers: config.allowed_request(),
            answer_headers: config.allowed_response(),
            dev_tenant: config.dev_tenant(),
            timeout: config.timeout.get(),
            max_body: config.max_body.as_usize(),
            enforce: config.enforce_endpoints,
        })
    }
}

/// The route. The path is taken apart in [`target`], from the text that was sent.
pub fn router<D: Dispatch>(gateway: Arc<Gateway<D>>) -> Router {
    Router::new()
        .route("/api/ext/{extension}", any(call::<D>))
        .route("/api/ext/{extension}/", any(call::<D>))
        .route("/api/ext/{extension}/{*path}", any(call::<D>))
        .with_state(gateway)
}

async fn call<D: Dispatch>(State(gateway): State<Arc<Gateway<D>>>, request: Request) -> Response {
    handle::handle(gateway, request).await.map(axum::body::Body::new)
}
