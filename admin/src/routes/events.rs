//! Debug events.

use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use longshore_proto::TenantId;

use super::responses::Failures;
use crate::api::EventsQuery;
use crate::app::App;
use crate::events::{LEVELS, Want};
use crate::http::{Actor, Failure, Path, Query};

/// The longest id of a request that workers keep.
const MAX_REQUEST: usize = 256;

/// Gives debug events of a tenant's runs, a JSON object a line: those since `since_ms`, and with `follow` those that come, with a
/// `{"heartbeat":true}` every 15 s. `{"lost":n}`: so many events were too fast for this reader. A token of the tenant that was made with
/// `traces` may read them too.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/events", operation_id = "read_events", tag = "traces",
    params(("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128), EventsQuery),
    responses((status = 200, description = "Events, a line each", body = String, content_type = "application/x-ndjson"), Failures),
    security(("admin_token" = [])),
)]
pub async fn read_events(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path(tenant): Path<TenantId>,
    Query(query): Query<EventsQuery>,
) -> Result<Response, Failure> {
    let level = query.level.as_deref().map(|level| {
        let known = LEVELS.iter().position(|known| *known == level);
        known.ok_or_else(|| Failure::invalid(format!("level is none of {}", LEVELS.join(", "))))
    });
    if query.request.as_ref().is_some_and(|request| request.len() > MAX_REQUEST) {
        return Err(Failure::invalid(format!("request is over {MAX_REQUEST} bytes")));
    }
    let want = Want {
        tenant,
        extension: query.extension,
        request: query.request,
        level: level.transpose()?,
        since_ms: crate::traces::moment("since_ms", query.since_ms)?,
        follow: query.follow,
    };
    let body = crate::events::open(&app, want, &actor).await?;
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}
