//! Which request goes where.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::StatusCode;
use http::header::CACHE_CONTROL;
use longshore_service::config::ServiceTokens;

use super::Dispatch;
use super::budget::BodyBudget;
use super::config::HttpConfig;
use super::execute::execute;
use super::metrics::HttpMetrics;
use super::sealing::Sealer;

/// What the handlers of calls answer from.
pub struct App<D> {
    pub(super) dispatch: Arc<D>,
    pub(super) config: HttpConfig,
    pub(super) tokens: Option<ServiceTokens>,
    pub(super) metrics: Arc<HttpMetrics>,
    pub(super) budget: Arc<BodyBudget>,
    pub(super) sealer: Sealer,
}

impl<D: Dispatch> App<D> {
    /// Calls go to `dispatch`, their secrets sealed.
    pub fn new(dispatch: Arc<D>, config: HttpConfig, metrics: HttpMetrics, sealer: Sealer) -> Arc<Self> {
        let budget = BodyBudget::new(config.body_bytes.as_usize(), metrics.body_bytes.clone());
        let tokens = config.tokens();
        Arc::new(Self { dispatch, config, tokens, metrics: Arc::new(metrics), budget, sealer })
    }
}

/// All routes; `admin` is [`longshore_service::admin_http::Admin::router`] with [`super::health`].
pub fn router<D: Dispatch>(app: Arc<App<D>>, admin: Router) -> Router {
    Router::new()
        .route("/v1/execute", post(call::<D>))
        .with_state(app)
        .route("/warmup", post(warmup))
        .merge(admin)
        .fallback(|| async { no_store(StatusCode::NOT_FOUND) })
        .method_not_allowed_fallback(|| async { no_store(StatusCode::METHOD_NOT_ALLOWED) })
}

async fn call<D: Dispatch>(State(app): State<Arc<App<D>>>, request: Request) -> Response {
    execute(app, request).await.map(axum::body::Body::new)
}

/// As the reference answers (interop 4.3): a warm-up needs what the route does not carry.
async fn warmup() -> Response {
    no_store((StatusCode::BAD_REQUEST, "warmup unsupported without tenant + extension context"))
}

fn no_store(response: impl IntoResponse) -> Response {
    ([(CACHE_CONTROL, "no-store")], response).into_response()
}
