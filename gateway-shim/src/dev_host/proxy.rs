//! `ANY /api/ext-proxy/{id}/{path}`: what the existing platform's application offers to its own pages, here in front of the gateway's
//! `/api/ext`.
//!
//! A page's bridge sends POST unless told otherwise; for pages whose bridge knows no methods, a POST may carry the real one as
//! `__method`, in the query or as a member of a JSON body. It is taken out before the extension sees the call.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use tower::ServiceExt as _;
use url::form_urlencoded;

use super::{Host, words};

/// What [`super::super::gateway`] takes at most.
const MAX_BODY: usize = 16 << 20;
/// A larger body is not looked through for a method.
const MAX_LOOKED_AT: usize = 1 << 20;
const OVERRIDE: &str = "__method";

pub(super) async fn call(State(host): Host, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let Some(rest) = head.uri.path().strip_prefix("/api/ext-proxy/") else {
        return words(StatusCode::NOT_FOUND, "");
    };
    let mut body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return words(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large or incomplete"),
    };
    let mut query = head.uri.query().map(str::to_owned);
    if head.method == Method::POST {
        let from_query = take_from_query(&mut query);
        let from_body = take_from_body(&mut body);
        if let Some(name) = from_query.or(from_body) {
            match allowed(&name) {
                Some(method) => head.method = method,
                None => {
                    return words(
                        StatusCode::BAD_REQUEST,
                        "__method is none of GET, POST, PUT, PATCH, DELETE",
                    );
                }
            }
        }
    }
    if head.method == Method::GET {
        body = Bytes::new();
    }
    let query = query.filter(|query| !query.is_empty()).map(|query| format!("?{query}")).unwrap_or_default();
    match format!("/api/ext/{rest}{query}").parse::<Uri>() {
        Ok(uri) => head.uri = uri,
        Err(_) => return words(StatusCode::BAD_REQUEST, "the path is no path"),
    }
    head.headers.remove(TRANSFER_ENCODING);
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    // What the router has noted of this path is not that of the other.
    let mut inner =
        Request::builder().method(head.method).uri(head.uri).version(head.version).body(Body::from(body));
    if let Ok(inner) = &mut inner {
        *inner.headers_mut() = head.headers;
        if let Some(peer) = head.extensions.get::<crate::http::Peer>() {
            inner.extensions_mut().insert(*peer);
        }
    }
    match inner {
        Ok(inner) => match host.api.clone().oneshot(inner).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        },
        Err(_) => words(StatusCode::BAD_REQUEST, "the request cannot be passed on"),
    }
}

fn allowed(name: &str) -> Option<Method> {
    let known = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    known.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(name.trim()))
}

/// The method in the query, which loses it and stays otherwise as it was spelled.
fn take_from_query(query: &mut Option<String>) -> Option<String> {
    let text = query.as_ref()?;
    let is_override = |pair: &&str| {
        form_urlencoded::parse(pair.as_bytes()).next().is_some_and(|(name, _)| name == OVERRIDE)
    };
    let found = text.split('&').find(is_override)?;
    let method = form_urlencoded::parse(found.as_bytes()).next().map(|(_, value)| value.into_owned());
    let rest: Vec<&str> = text.split('&').filter(|pair| !is_override(pair)).collect();
    *query = Some(rest.join("&"));
    method
}

/// The method in a JSON object, which loses it.
fn take_from_body(body: &mut Bytes) -> Option<String> {
    if body.len() > MAX_LOOKED_AT || !body.windows(OVERRIDE.len()).any(|part| part == OVERRIDE.as_bytes()) {
        return None;
    }
    let Ok(Value::Object(mut object)) = serde_json::from_slice(body) else { return None };
    let method = object.remove(OVERRIDE)?.as_str()?.to_owned();
    *body = Bytes::from(Value::Object(object).to_string());
    Some(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_method_in_the_query_is_taken_out_and_the_rest_stays_as_it_was() {
        let take = |text: &str| {
            let mut query = Some(text.to_owned());
            (take_from_query(&mut query), query.unwrap())
        };
        assert_eq!(take("a=%20b&__method=DELETE&c"), (Some("DELETE".to_owned()), "a=%20b&c".to_owned()));
        assert_eq!(take("__method=put"), (Some("put".to_owned()), String::new()));
        assert_eq!(take("%5F_method=PUT&x=1"), (Some("PUT".to_owned()), "x=1".to_owned()));
        assert_eq!(take("x__method=PUT"), (None, "x__method=PUT".to_owned()));
        assert_eq!(take_from_query(&mut None), None);
    }

    #[test]
    fn the_method_in_a_json_object_is_taken_out() {
        let take = |text: &str| {
            let mut body = Bytes::copy_from_slice(text.as_bytes());
            (take_from_body(&mut body), String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(
            take(r#"{"__method":"DELETE","reason":"x"}"#),
            (Some("DELETE".to_owned()), r#"{"reason":"x"}"#.to_owned())
        );
        for kept in [
            r#"["__method"]"#,
            r#"{"a":{"__method":"PUT"}}"#,
            r#"{"__method":"PUT""#,
            "__method",
            r#"{"__method":1}"#,
        ] {
            assert_eq!(take(kept), (None, kept.to_owned()), "{kept}");
        }
    }

    #[test]
    fn only_methods_of_pages_are_known() {
        assert_eq!(allowed(" delete "), Some(Method::DELETE));
        for bad in ["", "CONNECT", "TRACE", "HEAD", "G ET", "x"] {
            assert_eq!(allowed(bad), None, "{bad}");
        }
    }
}
