//! `POST /warmup` (interop 4.3): fetches a bundle here and has the workers fetch and compile it, ahead of its first call.

use std::time::Duration;

use async_trait::async_trait;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use longshore_proto::fleet::{Warm, Warmed};
use longshore_proto::wire::PROTOCOL_VERSION;
use longshore_proto::{ContentHash, ExtensionId, PoolName, TenantId};
use longshore_registry::Lookup;
use serde::Deserialize;
use serde_json::json;

use super::UiState;
use super::answers::{Refusal, no_store};

/// Bytes of the request; three ids are far below.
const MAX_REQUEST: usize = 16 * 1024;
/// How long the request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(5);
/// How long workers are waited for: a component of 12 MB compiles in 10 s on a quiet core.
const BUDGET: Duration = Duration::from_secs(60);

/// Has workers make a bundle ready.
#[async_trait]
pub trait Warmer: Send + Sync + 'static {
    /// Tells all workers of a pool and collects their answers, as many as come within `budget`.
    async fn warm(&self, pool: &PoolName, warm: Warm, budget: Duration) -> Vec<Warmed>;
}

#[async_trait]
impl Warmer for crate::dispatch::Dispatcher {
    async fn warm(&self, pool: &PoolName, warm: Warm, budget: Duration) -> Vec<Warmed> {
        Self::warm(self, pool, warm, budget).await
    }
}

/// The request, as the reference spells it and as the platform spells ids.
#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(alias = "tenant")]
    tenant_id: Option<String>,
    #[serde(alias = "extension")]
    extension_id: Option<String>,
    content_hash: Option<String>,
}

pub(super) async fn warmup(State(state): State<UiState>, request: Request<Body>) -> Response {
    match handle(&state, request).await {
        Ok(answer) => answer,
        Err(refusal) => refusal.into_response(),
    }
}

async fn handle(state: &UiState, request: Request<Body>) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    if !(state.token_is_valid)(&head.headers) {
        let text = "the header x-runner-service-token must hold the value of RUNNER_SERVICE_TOKEN";
        return Err(Refusal::text(StatusCode::UNAUTHORIZED, text));
    }
    let read = tokio::time::timeout(ARRIVAL, Limited::new(body, MAX_REQUEST).collect()).await;
    let Ok(Ok(body)) = read else {
        return Err(Refusal::text(StatusCode::BAD_REQUEST, "the request is too large or incomplete"));
    };
    // The reference's words, which is all that it ever answers.
    let lacking =
        || Refusal::text(StatusCode::BAD_REQUEST, "warmup unsupported without tenant + extension context");
    let wanted: Wanted = serde_json::from_slice(&body.to_bytes()).map_err(|_| lacking())?;
    let tenant = wanted.tenant_id.as_deref().ok_or_else(lacking)?;
    let extension = wanted.extension_id.as_deref().ok_or_else(lacking)?;
    let bad = |what: &str| Refusal::text(StatusCode::BAD_REQUEST, format!("invalid {what}"));
    let tenant: TenantId = tenant.parse().map_err(|_| bad("tenant"))?;
    let extension: ExtensionId = extension.parse().map_err(|_| bad("extension"))?;
    let hash: ContentHash = wanted
        .content_hash
        .as_deref()
        .and_then(|hash| hash.parse().ok())
        .ok_or_else(|| bad("content hash"))?;
    let (key, _) = state.bundle(&tenant, &extension, hash).await?;
    // The install names its pool; without one (a registry that knows none of that, validation off) it is the default.
    let pool = match state.registry.find(&tenant, key.extension.as_str()).await {
        Ok(Lookup::Found(install)) => install.pool.clone(),
        _ => PoolName::default(),
    };
    let warm = Warm { v: PROTOCOL_VERSION, tenant: key.tenant, extension: key.extension, content_hash: hash };
    let warmed = state.warmer.warm(&pool, warm, BUDGET).await;
    let workers: Vec<_> = warmed
        .iter()
        .map(|worker| {
            json!({
                "worker": worker.worker,
                "ok": worker.error.is_none(),
                "took_ms": worker.took_ms,
                "error": worker.error.as_ref().map(ToString::to_string),
            })
        })
        .collect();
    let answer = json!({"content_hash": hash, "pool": pool, "workers": workers});
    Ok(no_store((StatusCode::OK, Json(answer)).into_response()))
}
