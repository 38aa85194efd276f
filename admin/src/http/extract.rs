//! What a request says, or a failure that says what is wrong with it.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Failure;
use crate::api::{ApiCode, MAX_JSON_BYTES};

/// How long a JSON body may take: a megabyte in this time is a bad line, not a bad caller.
const BODY: std::time::Duration = std::time::Duration::from_secs(20);

/// JSON, in both directions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Failure> {
        if !is_json(&request) {
            let message = "send the body with content-type: application/json";
            return Err(Failure::new(ApiCode::UnsupportedMediaType, message));
        }
        let bytes = body(request, MAX_JSON_BYTES).await?;
        // serde's words repeat a wrong value. They go to the one who sent it and to nobody else: the log has the code alone.
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| Failure::invalid(format!("the body is not as this route takes it: {error}")))
    }
}

fn is_json(request: &Request) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| {
        let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "application/json"
    })
}

/// A whole body, bounded in bytes and time.
pub(crate) async fn body(request: Request, limit: usize) -> Result<Bytes, Failure> {
    let collected = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(BODY, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Failure::new(ApiCode::TooLarge, format!("the body is over {limit} bytes")))
        }
        Ok(Err(_)) => Err(Failure::invalid("the body ended early")),
        Err(_) => Err(Failure::new(ApiCode::Timeout, "the body was not sent in time")),
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => Failure::internal(&error).into_response(),
        }
    }
}

/// The query, strictly: an unknown parameter is refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri).map(|query| Self(query.0)).map_err(|error| {
            Failure::invalid(format!("the query is not as this route takes it: {}", error.body_text()))
        })
    }
}

/// Parts of the path, checked by their types.
#[derive(Debug, Clone, Copy, Default)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(path) => Ok(Self(path.0)),
            Err(error) if error.status() == StatusCode::BAD_REQUEST => Err(Failure::invalid(format!(
                "the path is not as this route takes it: {}",
                error.body_text()
            ))),
            Err(error) => Err(Failure::internal(&error)),
        }
    }
}
