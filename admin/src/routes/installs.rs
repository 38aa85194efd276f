//! Installs.

use axum::extract::{Extension, State};
use http::StatusCode;
use longshore_proto::TenantId;

use super::responses::Failures;
use crate::api::{
    InstallList, InstallPatch, InstallQuery, InstallRequest, InstallResponse, InstallView, NoQuery, Outcome,
    RollbackRequest, UninstallQuery, UninstallResponse,
};
use crate::app::App;
use crate::http::{Actor, Failure, Json, Path, Query};
use crate::installs::view;

/// Lists installs, of one tenant or of all.
#[utoipa::path(
    get, path = "/v1/installs", operation_id = "list_installs", tag = "installs",
    params(InstallQuery),
    responses((status = 200, description = "A page of installs", body = InstallList), Failures),
    security(("admin_token" = [])),
)]
pub async fn list_installs(
    State(app): State<App>,
    Query(query): Query<InstallQuery>,
) -> Result<Json<InstallList>, Failure> {
    app.list_installs(&query).map(Json)
}

/// Installs a bundle that is in the store, or puts another version in force; answers when the workers have compiled it, or `wait_ms` is over.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/installs", operation_id = "install", tag = "installs",
    params(("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)),
    request_body = InstallRequest,
    responses(
        (status = 200, description = "It was installed before", body = InstallResponse),
        (status = 201, description = "It is new", body = InstallResponse),
        Failures,
    ),
    security(("admin_token" = [])),
)]
pub async fn install(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path(tenant): Path<TenantId>,
    Query(NoQuery {}): Query<NoQuery>,
    Json(request): Json<InstallRequest>,
) -> Result<(StatusCode, Json<InstallResponse>), Failure> {
    // What was begun is finished, also when the caller goes away: an install without its audit must not be.
    let done = tokio::spawn(async move { app.install(&tenant, request, &actor).await });
    let answer = done.await.map_err(|error| Failure::internal(&error))??;
    let status = if answer.outcome == Outcome::Created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(answer)))
}

/// Shows an install.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/installs/{reference}", operation_id = "show_install", tag = "installs",
    params(
        ("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128),
        ("reference" = String, Path, description = "Install id, registry id, name, or `publisher.name`", min_length = 1, max_length = 512),
    ),
    responses((status = 200, description = "The install", body = InstallView), Failures),
    security(("admin_token" = [])),
)]
pub async fn show_install(
    State(app): State<App>,
    Path((tenant, reference)): Path<(TenantId, String)>,
    Query(NoQuery {}): Query<NoQuery>,
) -> Result<Json<InstallView>, Failure> {
    Ok(Json(view(&*app.find(&tenant, &reference)?)))
}

/// Changes an install.
#[utoipa::path(
    patch, path = "/v1/tenants/{tenant}/installs/{reference}", operation_id = "change_install", tag = "installs",
    params(
        ("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128),
        ("reference" = String, Path, description = "Install id, registry id, name, or `publisher.name`", min_length = 1, max_length = 512),
    ),
    request_body = InstallPatch,
    responses((status = 200, description = "The install as it is now", body = InstallResponse), Failures),
    security(("admin_token" = [])),
)]
pub async fn change_install(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path((tenant, reference)): Path<(TenantId, String)>,
    Query(NoQuery {}): Query<NoQuery>,
    Json(patch): Json<InstallPatch>,
) -> Result<Json<InstallResponse>, Failure> {
    let done = tokio::spawn(async move { app.patch(&tenant, &reference, patch, &actor).await });
    done.await.map_err(|error| Failure::internal(&error))?.map(Json)
}

/// Puts the version before in force again.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/installs/{reference}/rollback", operation_id = "rollback", tag = "installs",
    params(
        ("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128),
        ("reference" = String, Path, description = "Install id, registry id, name, or `publisher.name`", min_length = 1, max_length = 512),
    ),
    request_body = RollbackRequest,
    responses((status = 200, description = "The install as it is now", body = InstallResponse), Failures),
    security(("admin_token" = [])),
)]
pub async fn rollback(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path((tenant, reference)): Path<(TenantId, String)>,
    Query(NoQuery {}): Query<NoQuery>,
    Json(request): Json<RollbackRequest>,
) -> Result<Json<InstallResponse>, Failure> {
    let done = tokio::spawn(async move { app.rollback(&tenant, &reference, request, &actor).await });
    done.await.map_err(|error| Failure::internal(&error))?.map(Json)
}

/// Uninstalls: stops its calls and schedules, deletes its secrets, grants and access; with `purge` also storage, bundles and traces.
#[utoipa::path(
    delete, path = "/v1/tenants/{tenant}/installs/{reference}", operation_id = "uninstall", tag = "installs",
    params(
        ("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128),
        ("reference" = String, Path, description = "Install id, registry id, name, or `publisher.name`", min_length = 1, max_length = 512),
        UninstallQuery,
    ),
    responses((status = 200, description = "What was removed", body = UninstallResponse), Failures),
    security(("admin_token" = [])),
)]
pub async fn uninstall(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path((tenant, reference)): Path<(TenantId, String)>,
    Query(query): Query<UninstallQuery>,
) -> Result<Json<UninstallResponse>, Failure> {
    let done = tokio::spawn(async move { app.uninstall(&tenant, &reference, query.purge, &actor).await });
    done.await.map_err(|error| Failure::internal(&error))?.map(Json)
}
