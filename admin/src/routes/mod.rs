//! The routes: each takes a request apart, has the work done, and puts an answer together.

mod bundles;
mod events;
mod installs;
mod maintenance;
mod responses;
mod tokens;
mod traces;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse as _;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{ApiCode, ApiError};
use crate::app::App;
use crate::http::{Failure, Gate, Watch, admit, watch};

/// What no route names itself: failures are the same everywhere.
#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(ApiError, ApiCode)))]
struct Failures;

/// All routes behind the token, and what the document says of them.
pub(crate) fn documented() -> (Router<App>, OpenApi) {
    OpenApiRouter::with_openapi(Failures::openapi())
        .routes(routes!(installs::list_installs))
        .routes(routes!(installs::install))
        .routes(routes!(installs::show_install, installs::change_install, installs::uninstall))
        .routes(routes!(installs::rollback))
        .routes(routes!(bundles::upload, bundles::list_bundles))
        .routes(routes!(bundles::remove_bundle))
        .routes(routes!(bundles::sign_bundle))
        .routes(routes!(tokens::create_token, tokens::list_tokens))
        .routes(routes!(tokens::revoke_token))
        .routes(routes!(traces::record_on, traces::record_off))
        .routes(routes!(traces::list_traces, traces::import_trace))
        .routes(routes!(traces::read_trace))
        .routes(routes!(traces::read_trace_payload))
        .routes(routes!(traces::read_trace_bundle))
        .routes(routes!(events::read_events))
        .routes(routes!(maintenance::pools))
        .routes(routes!(maintenance::list_calls))
        .routes(routes!(maintenance::cancel_calls))
        .routes(routes!(maintenance::purge_tenant))
        .routes(routes!(maintenance::collect_garbage))
        .routes(routes!(maintenance::audit))
        .split_for_parts()
}

/// The whole service: the routes behind the token, the document, health and metrics.
pub(crate) fn router(app: App, gate: Gate, watcher: Watch, health: Router) -> Router {
    let (routes, _) = documented();
    let behind_the_token = routes
        .with_state(app.clone())
        .fallback(|| async {
            Failure::new(ApiCode::NotFound, "there is no such route: GET /v1/openapi.json lists them")
        })
        .method_not_allowed_fallback(|| async {
            Failure::new(
                ApiCode::MethodNotAllowed,
                "the route does not take this method: `allow` says which it takes",
            )
        })
        // An unknown path needs the token too: who has none learns nothing of what there is.
        .layer(from_fn_with_state((gate, app), admit));
    let open = Router::new().route(
        "/v1/openapi.json",
        get(document).fallback(|| async {
            let failure = Failure::new(ApiCode::MethodNotAllowed, "the document can only be read");
            ([(http::header::ALLOW, "GET,HEAD")], failure)
        }),
    );
    behind_the_token.merge(open).merge(health).layer(from_fn_with_state(watcher, watch))
}

async fn document() -> axum::response::Response {
    ([(CONTENT_TYPE, "application/json")], crate::openapi::text()).into_response()
}
