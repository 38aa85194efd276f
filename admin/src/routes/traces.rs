//! Recording, and recorded runs.

use axum::extract::{Extension, Request, State};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use longshore_proto::{ContentHash, ExecutionId, TenantId};
use longshore_trace::file::MAX_FILE_BYTES;

use super::responses::Failures;
use crate::api::{
    ApiCode, AttemptQuery, InstallView, NoQuery, RecordingRequest, TraceImported, TraceList, TracesQuery,
};
use crate::app::App;
use crate::http::{Actor, Failure, Json, Path, Query};

/// How long a file may take: others wait for it.
const IMPORT: std::time::Duration = std::time::Duration::from_secs(300);

/// Bytes as they are.
type Binary = ([(http::HeaderName, &'static str); 1], Bytes);

fn binary(bytes: Bytes) -> Binary {
    ([(CONTENT_TYPE, "application/octet-stream")], bytes)
}

/// Records an install's runs for a while; in force on every gateway within a second.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/installs/{reference}/recording", operation_id = "record_on", tag = "traces",
    params(
        ("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128),
        ("reference" = String, Path, description = "Install id, registry id, name, or `publisher.name`", min_length = 1, max_length = 512),
    ),
    request_body = RecordingRequest,
    responses((status = 200, description = "The install as it is now", body = InstallView), Failures),
    security(("admin_token" = [])),
)]
pub async fn record_on(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path((tenant, reference)): Path<(TenantId, String)>,
    Query(NoQuery {}): Query<NoQuery>,
    Json(request): Json<RecordingRequest>,
) -> Result<Json<InstallView>, Failure> {
    let done = tokio::spawn(async move { app.record(&tenant, &reference, Some(&request), &actor).await });
    done.await.map_err(|error| Failure::internal(&error))?.map(Json)
}

/// Ends the recording of an install's runs.
#[utoipa::path(
    delete, path = "/v1/tenants/{tenant}/installs/{reference}/recording", operation_id = "record_off", tag = "traces",
    params(
        ("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128),
        ("reference" = String, Path, description = "Install id, registry id, name, or `publisher.name`", min_length = 1, max_length = 512),
    ),
    responses((status = 200, description = "The install as it is now", body = InstallView), Failures),
    security(("admin_token" = [])),
)]
pub async fn record_off(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path((tenant, reference)): Path<(TenantId, String)>,
    Query(NoQuery {}): Query<NoQuery>,
) -> Result<Json<InstallView>, Failure> {
    let done = tokio::spawn(async move { app.record(&tenant, &reference, None, &actor).await });
    done.await.map_err(|error| Failure::internal(&error))?.map(Json)
}

/// Lists recorded runs, the newest first.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/traces", operation_id = "list_traces", tag = "traces",
    params(("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128), TracesQuery),
    responses((status = 200, description = "A page of recorded runs", body = TraceList), Failures),
    security(("admin_token" = [])),
)]
pub async fn list_traces(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path(tenant): Path<TenantId>,
    Query(query): Query<TracesQuery>,
) -> Result<Json<TraceList>, Failure> {
    app.list_traces(&tenant, query, &actor).await.map(Json)
}

/// Gives a recorded run, packed as `longshore-trace` does it.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/traces/{execution}", operation_id = "read_trace", tag = "traces",
    params(
        ("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128),
        ("execution" = String, Path, description = "The run", pattern = "^[0-9a-f]{32}$"),
        AttemptQuery,
    ),
    responses((status = 200, description = "The trace", body = Vec<u8>, content_type = "application/octet-stream"), Failures),
    security(("admin_token" = [])),
)]
pub async fn read_trace(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path((tenant, execution)): Path<(TenantId, ExecutionId)>,
    Query(query): Query<AttemptQuery>,
) -> Result<Binary, Failure> {
    app.trace(&tenant, execution, query.attempt, &actor).await.map(binary)
}

/// Gives a large payload that a recorded run names.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/traces/{execution}/payloads/{sha256}", operation_id = "read_trace_payload", tag = "traces",
    params(
        ("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128),
        ("execution" = String, Path, description = "The run", pattern = "^[0-9a-f]{32}$"),
        ("sha256" = String, Path, description = "The payload's digest", pattern = "^(sha256:)?[0-9a-f]{64}$"),
        AttemptQuery,
    ),
    responses((status = 200, description = "The payload", body = Vec<u8>, content_type = "application/octet-stream"), Failures),
    security(("admin_token" = [])),
)]
pub async fn read_trace_payload(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path((tenant, execution, sha256)): Path<(TenantId, ExecutionId, ContentHash)>,
    Query(query): Query<AttemptQuery>,
) -> Result<Binary, Failure> {
    app.trace_payload(&tenant, execution, sha256, query.attempt, &actor).await.map(binary)
}

/// Gives the bundle that a recorded run ran.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/traces/{execution}/bundle", operation_id = "read_trace_bundle", tag = "traces",
    params(
        ("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128),
        ("execution" = String, Path, description = "The run", pattern = "^[0-9a-f]{32}$"),
        AttemptQuery,
    ),
    responses((status = 200, description = "The archive", body = Vec<u8>, content_type = "application/octet-stream"), Failures),
    security(("admin_token" = [])),
)]
pub async fn read_trace_bundle(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path((tenant, execution)): Path<(TenantId, ExecutionId)>,
    Query(query): Query<AttemptQuery>,
) -> Result<Binary, Failure> {
    app.trace_bundle(&tenant, execution, query.attempt, &actor).await.map(binary)
}

/// Puts an exported run back, with its payloads and its bundle.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/traces", operation_id = "import_trace", tag = "traces",
    params(("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "What `longshore export` has written"),
    responses(
        (status = 200, description = "It was there already", body = TraceImported),
        (status = 201, description = "It is new", body = TraceImported),
        Failures,
    ),
    security(("admin_token" = [])),
)]
pub async fn import_trace(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path(tenant): Path<TenantId>,
    Query(NoQuery {}): Query<NoQuery>,
    request: Request,
) -> Result<(StatusCode, Json<TraceImported>), Failure> {
    super::bundles::check_type(&request, &["application/octet-stream"])?;
    // One at a time: each is in memory.
    let _turn = app.importing.lock().await;
    let most = usize::try_from(MAX_FILE_BYTES).unwrap_or(usize::MAX);
    let sent = tokio::time::timeout(IMPORT, axum::body::to_bytes(request.into_body(), most)).await;
    let sent = sent.map_err(|_| Failure::new(ApiCode::Timeout, "the file was not sent in time"))?;
    let file = sent.map_err(|_| {
        Failure::new(
            ApiCode::TooLarge,
            format!("the file is over {} MiB, or did not arrive whole", MAX_FILE_BYTES >> 20),
        )
    })?;
    let task = app.clone();
    let done = tokio::spawn(async move { task.import_trace(&tenant, file, &actor).await });
    let imported = done.await.map_err(|error| Failure::internal(&error))??;
    let status = if imported.stored { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(imported)))
}
