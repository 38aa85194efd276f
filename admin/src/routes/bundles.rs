//! Bundles.

use axum::extract::{Extension, Request, State};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use longshore_bundle::BundleKey;
use longshore_bundle::signature::SIGNATURE_BYTES;
use longshore_proto::{ContentHash, ExtensionId, TenantId};
use longshore_registry::AuditKind;
use serde_json::json;

use super::responses::Failures;
use crate::api::{
    ApiCode, BundleList, BundleQuery, BundleRemoved, BundleUploaded, NoQuery, SignatureStored, UploadQuery,
};
use crate::app::App;
use crate::bundles::absent;
use crate::http::{Actor, Failure, Json, Path, Query, body};
use crate::ledger::event;

/// What an archive may be sent as.
const ARCHIVE_TYPES: [&str; 3] = ["application/octet-stream", "application/zstd", "application/x-zstd"];

pub(super) fn check_type(request: &Request, types: &[&str]) -> Result<(), Failure> {
    let sent = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = sent.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if types.contains(&kind.as_str()) {
        return Ok(());
    }
    let message = format!("send the body with content-type: {}", types.first().copied().unwrap_or_default());
    Err(Failure::new(ApiCode::UnsupportedMediaType, message))
}

/// Uploads a bundle (`bundle.tar.zst`, at most 200 MiB). It is checked as `longshore pack` checks it, and kept under its hash.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/bundles", operation_id = "upload_bundle", tag = "bundles",
    params(("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128), UploadQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The archive"),
    responses(
        (status = 200, description = "The store had it already", body = BundleUploaded),
        (status = 201, description = "It is new", body = BundleUploaded),
        Failures,
    ),
    security(("admin_token" = [])),
)]
pub async fn upload(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path(tenant): Path<TenantId>,
    Query(query): Query<UploadQuery>,
    request: Request,
) -> Result<(StatusCode, Json<BundleUploaded>), Failure> {
    check_type(&request, &ARCHIVE_TYPES)?;
    let body = request.into_body().into_data_stream();
    let received = app.bundles.receive(&tenant, &query, body).await?;
    let done = tokio::spawn(async move {
        let details = json!({
            "content_hash": received.key.hash.to_string(),
            "name": received.looked.manifest.name,
            "version": received.looked.manifest.version,
            "bytes": received.size(),
        });
        let upload =
            event(AuditKind::BundleUploaded, &actor).tenant(&tenant).extension(&received.key.extension);
        app.ledger.record(upload.details(details)).await?;
        let key = received.key.clone();
        let uploaded = app.bundles.keep(received).await?;
        if uploaded.has_component {
            app.warm_ahead(key).await;
        }
        Ok::<_, Failure>(uploaded)
    });
    let uploaded = done.await.map_err(|error| Failure::internal(&error))??;
    let status = if uploaded.stored { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(uploaded)))
}

/// Lists a tenant's bundles.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/bundles", operation_id = "list_bundles", tag = "bundles",
    params(("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128), BundleQuery),
    responses((status = 200, description = "A page of bundles", body = BundleList), Failures),
    security(("admin_token" = [])),
)]
pub async fn list_bundles(
    State(app): State<App>,
    Path(tenant): Path<TenantId>,
    Query(query): Query<BundleQuery>,
) -> Result<Json<BundleList>, Failure> {
    let used = |key: &BundleKey| {
        let install = app.installs.find(&key.tenant, key.extension.as_str()).ok().flatten();
        install.map_or((false, false), |install| {
            let earlier = install.previous.iter().any(|version| version.content_hash == key.hash);
            (install.version.content_hash == key.hash, earlier)
        })
    };
    app.bundles.list(&tenant, &query, used).await.map(Json)
}

/// Removes a bundle that no install uses.
#[utoipa::path(
    delete, path = "/v1/tenants/{tenant}/extensions/{extension}/bundles/{hash}", operation_id = "remove_bundle", tag = "bundles",
    params(
        ("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128),
        ("extension" = String, Path, description = "The registry id", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128),
        ("hash" = String, Path, description = "The content hash", pattern = "^(sha256:)?[0-9a-fA-F]{64}$"),
    ),
    responses((status = 200, description = "What was removed", body = BundleRemoved), Failures),
    security(("admin_token" = [])),
)]
pub async fn remove_bundle(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path((tenant, extension, hash)): Path<(TenantId, ExtensionId, ContentHash)>,
    Query(NoQuery {}): Query<NoQuery>,
) -> Result<Json<BundleRemoved>, Failure> {
    let key = BundleKey { tenant, extension, hash };
    let done = tokio::spawn(async move {
        let _changing = app.changing.lock().await;
        if !app.bundles.exists(&key).await? {
            return Err(absent(&key));
        }
        if app.is_used(&key).await? {
            let message =
                format!("tenant {} runs {} or may roll back to it: uninstall it first", key.tenant, key.hash);
            return Err(Failure::new(ApiCode::BundleInUse, message));
        }
        let removal = event(AuditKind::BundleRemoved, &actor).tenant(&key.tenant).extension(&key.extension);
        app.ledger.record(removal.details(json!({ "content_hash": key.hash.to_string() }))).await?;
        app.bundles.remove(&key).await
    });
    let objects = done.await.map_err(|error| Failure::internal(&error))??;
    Ok(Json(BundleRemoved { objects }))
}

/// Stores a signature (`longshore sign`) beside a bundle.
#[utoipa::path(
    put, path = "/v1/tenants/{tenant}/extensions/{extension}/bundles/{hash}/signature", operation_id = "sign_bundle", tag = "bundles",
    params(
        ("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128),
        ("extension" = String, Path, description = "The registry id", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128),
        ("hash" = String, Path, description = "The content hash", pattern = "^(sha256:)?[0-9a-fA-F]{64}$"),
    ),
    request_body(content = Object, content_type = "application/json", description = "The signature file, at most 4 KiB"),
    responses((status = 200, description = "It is stored", body = SignatureStored), Failures),
    security(("admin_token" = [])),
)]
pub async fn sign_bundle(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path((tenant, extension, hash)): Path<(TenantId, ExtensionId, ContentHash)>,
    Query(NoQuery {}): Query<NoQuery>,
    request: Request,
) -> Result<Json<SignatureStored>, Failure> {
    check_type(&request, &["application/json", "application/octet-stream"])?;
    let signature = body(request, SIGNATURE_BYTES).await?.to_vec();
    let key = BundleKey { tenant, extension, hash };
    let done = tokio::spawn(async move {
        let checked = app.bundles.check_signature(&key, signature).await?;
        let added = event(AuditKind::SignatureAdded, &actor).tenant(&key.tenant).extension(&key.extension);
        let details = json!({ "content_hash": key.hash.to_string(), "key_id": checked.key_id() });
        app.ledger.record(added.details(details)).await?;
        app.bundles.sign(&key, checked).await
    });
    done.await.map_err(|error| Failure::internal(&error))?.map(Json)
}
