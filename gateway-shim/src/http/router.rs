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
use crate::gateway::InstallGate;

/// What the handlers of calls answer from.
pub struct App<D> {
    pub(crate) dispatch: Arc<D>,
    pub(crate) config: HttpConfig,
    pub(crate) tokens: Option<ServiceTokens>,
    pub(crate) metrics: Arc<HttpMetrics>,
    pub(crate) budget: Arc<BodyBudget>,
    pub(crate) sealer: Sealer,
    pub(crate) gate: Option<Arc<InstallGate>>,
}

impl<D: Dispatch> App<D> {
    /// Calls go to `dispatch`, their secrets sealed.
    pub fn new(dispatch: Arc<D>, config: HttpConfig, metrics: HttpMetrics, sealer: Sealer) -> Arc<Self> {
        Self::with_gate(dispatch, config, metrics, sealer, None)
    }

    /// As [`Self::new`]; `gate` refuses calls by `/v1/execute` of installs that may not be called.
    pub fn with_gate(
        dispatch: Arc<D>,
        config: HttpConfig,
        metrics: HttpMetrics,
        sealer: Sealer,
        gate: Option<Arc<InstallGate>>,
    ) -> Arc<Self> {
        let budget = BodyBudget::new(config.body_bytes.as_usize(), metrics.body_bytes.clone());
        let tokens = config.tokens();
        Arc::new(Self { dispatch, config, tokens, metrics: Arc::new(metrics), budget, sealer, gate })
    }
}

impl<D: Dispatch> App<D> {
    /// Whether a request has the service token, as `/v1/execute` checks it: for other routes of services.
    pub fn token_check(self: &Arc<Self>) -> Arc<dyn Fn(&http::HeaderMap) -> bool + Send + Sync> {
        let app = Arc::clone(self);
        Arc::new(move |headers| super::execute::token_is_valid(&app, headers))
    }
}

/// All routes; `others` are [`longshore_service::admin_http::Admin::router`] with [`super::health`], [`crate::gateway::router`] and
/// [`crate::ui::router`].
pub fn router<D: Dispatch>(app: Arc<App<D>>, others: Router) -> Router {
    Router::new()
        .route("/v1/execute", post(call::<D>))
        .with_state(app)
        .merge(others)
        .fallback(|| async { no_store(StatusCode::NOT_FOUND) })
        .method_not_allowed_fallback(|| async { no_store(StatusCode::METHOD_NOT_ALLOWED) })
}

async fn call<D: Dispatch>(State(app): State<Arc<App<D>>>, request: Request) -> Response {
    execute(app, request).await.map(axum::body::Body::new)
}

fn no_store(response: impl IntoResponse) -> Response {
    ([(CACHE_CONTROL, "no-store")], response).into_response()
}
