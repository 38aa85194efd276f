//! What surrounds every request: its id, its line in the log, its metrics, and the words of a failure.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use longshore_service::metrics::prometheus_client::metrics::counter::Counter;
use longshore_service::metrics::prometheus_client::metrics::family::Family;
use longshore_service::metrics::prometheus_client::metrics::histogram::Histogram;
use longshore_service::metrics::{LATENCY_BUCKETS, Metrics};

use super::Failure;
use crate::api::{ApiCode, ApiError};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request's id: the caller's, if it can stand in a log line, or a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(pub String);

impl Id {
    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        let plain = |id: &&str| {
            (1..=128).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':'))
        };
        Self(given.filter(plain).map_or_else(|| longshore_proto::Token::random().to_string(), str::to_owned))
    }
}

/// How many requests, how they ended and how long they took.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: Family<Vec<(&'static str, String)>, Counter>,
    seconds: Histogram,
}

impl HttpMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let requests = metrics.register(
            "admin_requests",
            "Requests to the admin API by route, method and status",
            Family::default(),
        );
        let seconds = metrics.register(
            "admin_request_seconds",
            "Time of a request to the admin API",
            Histogram::new(LATENCY_BUCKETS),
        );
        Self { requests, seconds }
    }
}

/// What [`watch`] needs.
#[derive(Clone)]
pub struct Watch {
    /// Where it is counted.
    pub metrics: HttpMetrics,
}

/// Methods that stand in metrics and log as they are; a caller can make up others without end.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// Gives the request an id, and the answer; writes a failure's words; logs and counts.
pub async fn watch(State(watch): State<Watch>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = Id::of(request.headers());
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    let failure = response.extensions_mut().remove::<Failure>();
    if let Some(failure) = &failure {
        response = worded(response, failure, &id);
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let status = response.status().as_u16();
    let took = began.elapsed();
    watch.metrics.seconds.observe(took.as_secs_f64());
    let labels =
        vec![("route", route.clone()), ("method", method.to_owned()), ("status", status.to_string())];
    watch.metrics.requests.get_or_create(&labels).inc();
    let code = failure.as_ref().map_or("ok", |failure| failure.code.as_str());
    let cause = failure.as_ref().and_then(|failure| failure.cause.as_deref()).unwrap_or_default();
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    // Health says by itself what is wrong, and is asked all the time.
    if !route.starts_with("/v1/") || route == "/v1/openapi.json" {
        tracing::debug!(method, route, status, ms, request = id.0, "request");
    } else if status >= 500 {
        tracing::error!(method, route, status, code, cause, ms, request = id.0, "admin request failed");
    } else {
        tracing::info!(method, route, status, code, cause, ms, request = id.0, "admin request");
    }
    response
}

fn worded(response: Response, failure: &Failure, id: &Id) -> Response {
    let error = ApiError {
        code: failure.code.as_str().to_owned(),
        message: failure.message.clone(),
        request_id: id.0.clone(),
    };
    let body = serde_json::to_vec(&error).unwrap_or_default();
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(http::header::CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = failure.retry_after {
        parts.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    // The rest of a body that nobody reads would hold the connection.
    if matches!(failure.code, ApiCode::TooLarge | ApiCode::Timeout) {
        parts.headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    Response::from_parts(parts, body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_would_forge_a_log_line_is_replaced() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(text.as_bytes()).unwrap());
            Id::of(&headers).0
        };
        assert_eq!(of("req-1.a:b_c"), "req-1.a:b_c");
        for bad in ["", "a b", "a\tb", "a\"b", "ü", &"x".repeat(129)] {
            let id = of(bad);
            assert!(id.len() == 32 && id != bad, "{bad}");
        }
    }

    #[test]
    fn a_made_up_method_has_no_label_of_its_own() {
        assert_eq!(known(&Method::PATCH), "PATCH");
        assert_eq!(known(&Method::from_bytes(b"BREW").unwrap()), "other");
    }
}
