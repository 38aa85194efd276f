//! How a request fails.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use longshore_service::errors::chain;

use crate::api::ApiCode;

/// A failure on its way to the caller. The request's id is not known here: whoever writes the answer adds it
/// ([`super::watch`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind.
    pub code: ApiCode,
    /// What happened, to whom, and what to do: for the caller.
    pub message: String,
    /// Why, for the log alone; never with a secret in it.
    pub cause: Option<String>,
    /// When to come again, in seconds.
    pub retry_after: Option<u64>,
}

impl Failure {
    /// Of this kind, in these words.
    pub fn new(code: ApiCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), cause: None, retry_after: None }
    }

    /// The request was wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ApiCode::InvalidRequest, message)
    }

    /// Something that this service needs does not answer.
    pub fn unavailable(what: &str, cause: &(dyn std::error::Error + 'static)) -> Self {
        let message =
            format!("{what} does not answer now: try again, and see `longshore doctor` if it goes on");
        Self {
            cause: Some(chain(cause).to_string()),
            retry_after: Some(1),
            ..Self::new(ApiCode::Unavailable, message)
        }
    }

    /// No connection to NATS.
    pub fn no_nats() -> Self {
        let message =
            "NATS is not connected, so nothing can be looked up or changed: is it running at NATS_URL?";
        Self { retry_after: Some(1), ..Self::new(ApiCode::Unavailable, message) }
    }

    /// A failure of ours.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        let message = "the admin service failed; its log has the cause under this request's id";
        Self { cause: Some(chain(cause).to_string()), ..Self::new(ApiCode::Internal, message) }
    }

    /// With a cause for the log.
    pub fn because(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        self.cause = Some(chain(cause).to_string());
        self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
