//! Tokens of callers.

use std::time::Duration;

use axum::extract::{Extension, State};
use http::StatusCode;
use longshore_access::{NewToken, TokenId, TokenRecord};
use longshore_proto::TenantId;
use longshore_registry::AuditKind;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::responses::Failures;
use crate::api::{ApiCode, NoQuery, TokenCreated, TokenList, TokenRequest, TokenRevoked, TokenView};
use crate::app::App;
use crate::http::{Actor, Failure, Json, Path, Query};
use crate::ledger::event;
use crate::maintenance::token_failed;

/// Makes a token for callers of the gateway. Its text is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/tokens", operation_id = "create_token", tag = "tokens",
    params(("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)),
    request_body = TokenRequest,
    responses((status = 201, description = "The token", body = TokenCreated), Failures),
    security(("admin_token" = [])),
)]
pub async fn create_token(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path(tenant): Path<TenantId>,
    Query(NoQuery {}): Query<NoQuery>,
    Json(request): Json<TokenRequest>,
) -> Result<(StatusCode, Json<TokenCreated>), Failure> {
    let named = |name: &String| (1..=256).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
    if !request.extensions.iter().flatten().all(named) {
        return Err(Failure::invalid(
            "an extension is named by 1 to 256 visible ASCII characters: its registry id or name",
        ));
    }
    let new = NewToken {
        tenant: tenant.clone(),
        access: request.access,
        extensions: request.extensions,
        traces: request.traces,
        label: request.label.unwrap_or_default(),
        lifetime: request.expires_in_s.map(Duration::from_secs),
        created_by: actor.0.chars().take(longshore_access::MAX_LABEL_CHARS).collect(),
    };
    let done = tokio::spawn(async move {
        let (secret, record) = app.tokens.create(new).await.map_err(|error| token_failed(&error))?;
        let token = view(&record);
        let creation = event(AuditKind::TokenCreated, &actor).tenant(&tenant).details(json!(token));
        if let Err(failure) = app.ledger.record(creation).await {
            // Nobody has its text yet, so nothing is lost but an entry of the list, if this fails too.
            if let Err(error) = app.tokens.revoke(&tenant, record.id).await {
                tracing::warn!(token = %record.id, %error, "a token that was not recorded could not be revoked");
            }
            return Err(failure);
        }
        Ok(TokenCreated { secret: secret.expose().to_owned(), token })
    });
    let created = done.await.map_err(|error| Failure::internal(&error))??;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Lists a tenant's tokens, without their texts.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/tokens", operation_id = "list_tokens", tag = "tokens",
    params(("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)),
    responses((status = 200, description = "The tokens, the newest first", body = TokenList), Failures),
    security(("admin_token" = [])),
)]
pub async fn list_tokens(
    State(app): State<App>,
    Path(tenant): Path<TenantId>,
    Query(NoQuery {}): Query<NoQuery>,
) -> Result<Json<TokenList>, Failure> {
    let records = app.tokens.list(&tenant).await.map_err(|error| token_failed(&error))?;
    Ok(Json(TokenList { tokens: records.iter().rev().map(view).collect() }))
}

/// Revokes a token: gateways refuse it within a second.
#[utoipa::path(
    delete, path = "/v1/tenants/{tenant}/tokens/{id}", operation_id = "revoke_token", tag = "tokens",
    params(
        ("tenant" = String, Path, description = "Whose", pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128),
        ("id" = String, Path, description = "The token's id", pattern = "^[0-9a-f]{32}$"),
    ),
    responses((status = 200, description = "It is revoked", body = TokenRevoked), Failures),
    security(("admin_token" = [])),
)]
pub async fn revoke_token(
    State(app): State<App>,
    Extension(actor): Extension<Actor>,
    Path((tenant, id)): Path<(TenantId, TokenId)>,
    Query(NoQuery {}): Query<NoQuery>,
) -> Result<Json<TokenRevoked>, Failure> {
    let done = tokio::spawn(async move {
        let known = app.tokens.list(&tenant).await.map_err(|error| token_failed(&error))?;
        let Some(record) = known.iter().find(|record| record.id == id) else {
            let message = format!(
                "tenant {tenant} has no token {id}: `longshore token list --tenant {tenant}` shows those it has"
            );
            return Err(Failure::new(ApiCode::TokenNotFound, message));
        };
        let revocation = event(AuditKind::TokenRevoked, &actor).tenant(&tenant).details(json!(view(record)));
        app.ledger.record(revocation).await?;
        app.tokens.revoke(&tenant, id).await.map_err(|error| token_failed(&error))?;
        Ok(TokenRevoked { id: id.to_string() })
    });
    done.await.map_err(|error| Failure::internal(&error))?.map(Json)
}

fn view(record: &TokenRecord) -> TokenView {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    // A year of four digits always can be written.
    let shown = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
    TokenView {
        id: record.id.to_string(),
        tenant: record.tenant.to_string(),
        access: record.access,
        extensions: record.extensions.clone(),
        traces: record.traces,
        label: some(&record.label),
        created_at: shown(record.created_at),
        expires_at: shown(record.expires_at),
        expired: record.has_expired(OffsetDateTime::now_utc()),
        created_by: some(&record.created_by),
    }
}
