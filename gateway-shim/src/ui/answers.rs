//! Answers that are no asset. None may be kept by a cache: all of them can be different a moment later.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use longshore_bundle::BundleError;
use longshore_registry::RegistryError;
use serde_json::json;

/// Why there is no asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A status without words: existing callers expect 404 so.
    Empty(StatusCode),
    /// A status with words.
    Text(StatusCode, String),
    /// A status with a code (interop 4.1).
    Code(StatusCode, &'static str),
    /// 503: come back.
    Later(String),
    /// 405.
    Method,
}

impl Refusal {
    pub(super) const NOT_FOUND: Self = Self::Empty(StatusCode::NOT_FOUND);

    pub(super) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::Text(status, text.into())
    }

    /// This gateway has nothing to serve from.
    pub(super) fn no_store() -> Self {
        Self::Later("this gateway has no bundle store: set BUNDLE_STORE_BASE".to_owned())
    }

    /// No bundle. The log has the cause; the caller sees the codes of the existing platform.
    pub(super) fn bundle(error: &BundleError) -> Self {
        match error {
            BundleError::HashMismatch { .. } => Self::Code(StatusCode::BAD_GATEWAY, "archive_hash_mismatch"),
            BundleError::SignatureRefused { .. } => {
                Self::Code(StatusCode::INTERNAL_SERVER_ERROR, "signature_refused")
            }
            BundleError::NotFound { .. }
            | BundleError::StoreUnreachable { .. }
            | BundleError::Refused { .. }
            | BundleError::Cache { .. } => Self::Code(StatusCode::INTERNAL_SERVER_ERROR, "extract_failed"),
        }
    }

    /// The registry gave no answer, which is neither yes nor no.
    pub(super) fn registry(error: &RegistryError) -> Self {
        tracing::warn!(error = %longshore_service::errors::chain(error), "the registry gave no answer");
        Self::Later("installs cannot be looked up at the moment".to_owned())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let response = match self {
            Self::Empty(status) => status.into_response(),
            Self::Text(status, text) => (status, text).into_response(),
            Self::Code(status, code) => (status, Json(json!({ "code": code }))).into_response(),
            Self::Later(text) => {
                (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text).into_response()
            }
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")]).into_response(),
        };
        no_store(response)
    }
}

/// With the headers of everything that is no asset.
pub(super) fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if response.status() == StatusCode::METHOD_NOT_ALLOWED || response.status() == StatusCode::NOT_FOUND {
        response.headers_mut().remove(CONTENT_TYPE);
    }
    response
}
