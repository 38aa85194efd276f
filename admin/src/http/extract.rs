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
use serde_json::Value;

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
        // serde takes a list for a struct, its fields in order: no caller means that.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(Failure::invalid("the body is not as this route takes it: it must be a JSON object"));
        }
        // serde's words repeat a wrong value. They go to the one who sent it and to nobody else: the log has the code alone.
        let read = serde_json::from_slice(&bytes).or_else(|error| whole_numbers(&bytes).ok_or(error));
        read.map(Self)
            .map_err(|error| Failure::invalid(format!("the body is not as this route takes it: {error}")))
    }
}

/// The body once more with `5.0` read as `5`: to JSON they are the same number, to serde they are not.
fn whole_numbers<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    let mut changed = false;
    to_whole(&mut value, &mut changed);
    if changed { serde_json::from_value(value).ok() } else { None }
}

/// No deeper than serde_json reads: 128 levels.
fn to_whole(value: &mut Value, changed: &mut bool) {
    /// Above it, not every whole number is a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|n| n.fract() == 0.0 && (0.0..=EXACT).contains(n));
            if let Some(whole) = whole.and_then(|n| format!("{n:.0}").parse::<u64>().ok()) {
                *value = Value::from(whole);
                *changed = true;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| to_whole(item, changed)),
        Value::Object(fields) => fields.values_mut().for_each(|field| to_whole(field, changed)),
        _ => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_one_however_it_is_written_and_nothing_else_becomes_one() {
        assert_eq!(whole_numbers::<Vec<u64>>(b"[5.0, 1e3, 7]"), Some(vec![5, 1000, 7]));
        for not in ["[5.5]", "[-1.0]", "[1e300]", "[true]", "[5", "[\"5.0\"]"] {
            assert_eq!(whole_numbers::<Vec<u64>>(not.as_bytes()), None, "{not}");
        }
    }
}
