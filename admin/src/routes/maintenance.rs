//! The fleet, its calls, purge, collection and audit.

use axum::extract::{Extension, State};
use longshore_proto::TenantId;
use longshore_proto::fleet::CallFilter;
use longshore_registry::AuditKind;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::responses::Failures;
use crate::api::{
    ApiCode, AuditList, AuditQuery, CallList, CallsCancelled, CallsQuery, CancelRequest, Fleet, GcRequest,
    GcResponse, NoQuery, PurgeRequest, PurgeResponse,
};
use crate::app::App;
use crate::bundles::limit;
use crate::http::{Actor, Failure, Json, Path, Query};
use crate::ledger::event;

/// Events of an answer when nobody says how many.
const AUDIT_EVENTS: u32 = 100;

/// Shows workers by pool, and gateways.
#[utoipa::path(
    get, path = "/v1/pools", operation_id = "pools", tag = "fleet",
    responses((status = 200, description = "Who was heard in the last 3 s", body = Fleet), Failures),
    security(("admin_token" = [])),
)]
pub async fn pools(
    State(app): State<App>,
    Query(NoQuery {}): Query<NoQuery>,
) -> Result<Json<Fleet>, Failure> {
    if !app.asker.is_connected() {
        return Err(Failure::no_nats());
    }
    Ok(Json(app.heard.view()))
}

/// Lists calls that wait or run, in all gateways.
#[utoipa::path(
    get, path = "/v1/calls", operation_id = "list_calls", tag = "fleet",
    params(CallsQuery),
    responses((status = 200, description = "The calls, the oldest first", body = CallList), Failures),
    security(("admin_token" = [])),
)]
pub async fn list_calls(
    State(app): State<App>,
    Query(query): Query<CallsQuery>,
) -> Result<Json<CallList>, Failure> {
    Ok(Json(app.asker.calls(&app.heard, query.tenant).await?))
}

/// Stops calls: waiting ones are refused, running ones stopped.
#[utoipa::path(
    post, path = "/v1/calls/cancel", operation_id = "cancel_calls", tag = "fleet",
    request_body = CancelRequest,
    responses((status = 200, description = "How many were stopped", body = CallsCancelled), Failures),
    security(("admin_token" = [])),
)]
pub async fn cancel_calls(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Query(NoQuery {}): Query<NoQuery>,
    Json(request): Json<CancelRequest>,
) -> Result<Json<CallsCancelled>, Failure> {
    let CancelRequest { execution, tenant, extension } = request;
    if execution.is_none() && tenant.is_none() && extension.is_none() {
        let message =
            "name a call (`execution`), a `tenant` or an `extension`: all calls of all are never meant";
        return Err(Failure::new(ApiCode::NotConfirmed, message));
    }
    let mut cancelled = event(AuditKind::CallsCancelled, &actor);
    if let Some(tenant) = &tenant {
        cancelled = cancelled.tenant(tenant);
    }
    if let Some(extension) = &extension {
        cancelled = cancelled.extension(extension);
    }
    app.ledger.record(cancelled.details(json!({ "execution": execution }))).await?;
    Ok(Json(app.asker.cancel(&app.heard, CallFilter { execution, tenant, extension }).await?))
}

/// Removes everything of a tenant: bundles, installs, secrets, tokens, schedules, storage, debug events, recordings. May be repeated.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/purge", operation_id = "purge_tenant", tag = "maintenance",
    params(("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)),
    request_body = PurgeRequest,
    responses((status = 200, description = "What was removed, and what is left", body = PurgeResponse), Failures),
    security(("admin_token" = [])),
)]
pub async fn purge_tenant(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path(tenant): Path<TenantId>,
    Query(NoQuery {}): Query<NoQuery>,
    Json(request): Json<PurgeRequest>,
) -> Result<Json<PurgeResponse>, Failure> {
    let done = tokio::spawn(async move { app.purge(&tenant, &request, &actor).await });
    done.await.map_err(|error| Failure::internal(&error))?.map(Json)
}

/// Removes what nobody can use any more and is older than the retention.
#[utoipa::path(
    post, path = "/v1/gc", operation_id = "collect_garbage", tag = "maintenance",
    request_body = GcRequest,
    responses((status = 200, description = "What was removed, or would be", body = GcResponse), Failures),
    security(("admin_token" = [])),
)]
pub async fn collect_garbage(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Query(NoQuery {}): Query<NoQuery>,
    Json(request): Json<GcRequest>,
) -> Result<Json<GcResponse>, Failure> {
    let done = tokio::spawn(async move { app.collect(request.dry_run, &actor).await });
    done.await.map_err(|error| Failure::internal(&error))?.map(Json)
}

/// Shows who changed what.
#[utoipa::path(
    get, path = "/v1/audit", operation_id = "audit", tag = "maintenance",
    params(AuditQuery),
    responses((status = 200, description = "The newest events, the oldest of them first", body = AuditList), Failures),
    security(("admin_token" = [])),
)]
pub async fn audit(
    State(app): State<App>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditList>, Failure> {
    let since = query.since.as_deref().map(|text| OffsetDateTime::parse(text, &Rfc3339)).transpose();
    let since =
        since.map_err(|_| Failure::invalid("since is no RFC 3339 time such as 2026-11-22T18:00:00Z"))?;
    let kind = query.kind.as_deref().map(str::parse).transpose();
    let kind =
        kind.map_err(|_| Failure::invalid("kind is none: such as install.created; the document lists them"))?;
    let limit = limit(Some(query.limit.unwrap_or(AUDIT_EVENTS)))?;
    let asked = longshore_registry::AuditQuery { since, kind, tenant: query.tenant, limit };
    app.ledger.list(&asked).await.map(Json)
}
