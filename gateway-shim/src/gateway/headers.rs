//! Which headers pass, in both directions. Lists of what may pass, never of what may not: a header that nobody thought
//! of stays outside.

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};
use longshore_proto::{CallError, ErrorCode};

/// What extensions get: the lists of the existing gateways (interop 3.2), and what an answer's `etag` is good for.
/// `x-request-id`, `x-alga-tenant` and `x-alga-extension` are set here, whatever the caller sent.
pub(crate) static REQUEST: [HeaderName; 10] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_UNMODIFIED_SINCE,
    header::USER_AGENT,
    HeaderName::from_static("x-idempotency-key"),
];

/// What callers get, besides `cache-control` (see [`cache_control`]), `etag` (see [`etag`]) and `x-ext-*`. Without
/// `content-encoding` a body that the extension compressed could not be read.
pub(crate) static RESPONSE: [HeaderName; 2] = [header::CONTENT_TYPE, header::CONTENT_ENCODING];

/// Bytes of names and values that an answer's header may bring. Proxies and browsers refuse a header of more than 16 KiB or so
/// altogether, which would look like a broken gateway.
const MAX_RESPONSE_BYTES: usize = 12 * 1024;

/// The prefix of headers that extensions choose themselves.
const FREE: &str = "x-ext-";

/// A list of names.
#[derive(Debug, Clone)]
pub(crate) struct Allowed(Vec<HeaderName>);

impl Allowed {
    pub(crate) fn new(usual: &[HeaderName], more: &[HeaderName]) -> Self {
        Self(usual.iter().chain(more).cloned().collect())
    }

    pub(crate) fn names(&self) -> &[HeaderName] {
        &self.0
    }

    /// What the extension gets of a request's header. A value that is no text is left out, as JSON could not carry it.
    pub(crate) fn of_request(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let values = |name: &HeaderName| headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
        self.0
            .iter()
            .flat_map(|name| values(name).map(|value| (name.as_str().to_owned(), value.to_owned())))
            .collect()
    }

    /// What the caller gets of an answer's header. Of a header that may stand once, the first counts.
    ///
    /// # Errors
    /// `execute_failed: response_too_large`.
    pub(crate) fn of_answer(&self, answered: &[(String, String)]) -> Result<HeaderMap, CallError> {
        let mut headers = HeaderMap::new();
        let mut bytes = 0;
        for (name, value) in answered {
            // Guests spell names as they like.
            let Ok(name) = HeaderName::try_from(name.as_str()) else { continue };
            let value = match &name {
                name if *name == header::CACHE_CONTROL => Some(cache_control(value)),
                name if *name == header::ETAG => etag(value),
                name if self.0.contains(name) || name.as_str().starts_with(FREE) => {
                    HeaderValue::try_from(value.as_str()).ok()
                }
                _ => None,
            };
            let Some(value) = value else { continue };
            bytes += name.as_str().len() + value.len();
            if bytes > MAX_RESPONSE_BYTES {
                let message =
                    format!("the headers of the extension's answer are over {MAX_RESPONSE_BYTES} bytes");
                return Err(CallError::new(ErrorCode::ResponseTooLarge, message));
            }
            if name.as_str().starts_with(FREE) {
                headers.append(name, value);
            } else {
                headers.entry(name).or_insert(value);
            }
        }
        Ok(headers)
    }
}

/// The part of an extension's `cache-control` that is safe: answers depend on a credential, so a shared cache never keeps
/// one (`private` is added, `public` and `s-maxage` are dropped), and what is left says how long the caller's own cache
/// may. `immutable` is for hash-addressed files, which these are not.
pub(crate) fn cache_control(value: &str) -> HeaderValue {
    let none = HeaderValue::from_static("no-store");
    let mut kept = vec!["private".to_owned()];
    for directive in value.split(',').map(|d| d.trim().to_ascii_lowercase()) {
        match directive.split_once('=') {
            None if directive == "no-store" => return none,
            None if matches!(directive.as_str(), "no-cache" | "must-revalidate" | "no-transform") => {
                kept.push(directive)
            }
            Some((name @ ("max-age" | "stale-while-revalidate" | "stale-if-error"), seconds)) => {
                if let Ok(seconds) = seconds.trim_matches('"').parse::<u32>() {
                    kept.push(format!("{name}={}", seconds.min(YEAR_S)));
                }
            }
            _ => {}
        }
    }
    if kept.len() == 1 {
        return none;
    }
    kept.truncate(8);
    HeaderValue::try_from(kept.join(", ")).unwrap_or(none)
}

const YEAR_S: u32 = 31_536_000;

/// An entity tag as RFC 9110 writes one; anything else would be read differently by everyone.
fn etag(value: &str) -> Option<HeaderValue> {
    let value = value.trim();
    let opaque = value.strip_prefix("W/").unwrap_or(value).strip_prefix('"')?.strip_suffix('"')?;
    let plain = opaque.bytes().all(|b| b == 0x21 || (0x23..=0x7e).contains(&b));
    if plain && opaque.len() <= 256 { HeaderValue::try_from(value).ok() } else { None }
}

/// Why a setting may not let this request header through.
pub(crate) fn refused_request(name: &str) -> Option<&'static str> {
    const CREDENTIAL: &str = "a header that holds no credential";
    const OURS: &str = "a header that neither the gateway nor a proxy sets";
    let name = match name.parse::<HeaderName>() {
        Ok(name) => name,
        Err(_) => return Some("the name of a header"),
    };
    match name.as_str() {
        "authorization" | "cookie" | "cookie2" | "x-api-key" | "x-auth-token" | "x-csrf-token" => {
            Some(CREDENTIAL)
        }
        name if name.starts_with("proxy-") || name.starts_with("x-runner-") => Some(CREDENTIAL),
        "forwarded" | "via" | "host" | "x-real-ip" | "x-tenant-id" | "x-request-id" | "traceparent"
        | "tracestate" => Some(OURS),
        name if ["x-forwarded-", "x-alga-", "x-longshore-", "sec-"].iter().any(|p| name.starts_with(p)) => {
            Some(OURS)
        }
        name if of_connection(name) => Some("a header of the request, not of the connection"),
        _ => None,
    }
}

/// Why a setting may not let this response header through.
pub(crate) fn refused_response(name: &str) -> Option<&'static str> {
    const OURS: &str = "a header that does not decide for the whole origin, nor about credentials or caches";
    let name = match name.parse::<HeaderName>() {
        Ok(name) => name,
        Err(_) => return Some("the name of a header"),
    };
    match name.as_str() {
        "set-cookie"
        | "set-cookie2"
        | "location"
        | "refresh"
        | "www-authenticate"
        | "authentication-info"
        | "clear-site-data"
        | "strict-transport-security"
        | "content-security-policy"
        | "service-worker-allowed"
        | "alt-svc"
        | "vary"
        | "x-content-type-options"
        | "x-request-id"
        | "cache-control"
        | "date"
        | "server"
        | "age"
        | "expires" => Some(OURS),
        name if ["access-control-", "proxy-", "cross-origin-", "x-longshore-", "sec-"]
            .iter()
            .any(|p| name.starts_with(p)) =>
        {
            Some(OURS)
        }
        name if of_connection(name) => Some("a header of the answer, not of the connection"),
        _ => None,
    }
}

fn of_connection(name: &str) -> bool {
    let names = [
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "expect",
    ];
    names.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn credentials_and_what_proxies_add_never_reach_an_extension() {
        let mut headers = HeaderMap::new();
        for name in [
            "authorization",
            "cookie",
            "x-api-key",
            "x-runner-auth",
            "forwarded",
            "x-forwarded-for",
            "x-alga-tenant",
        ] {
            headers.insert(name, HeaderValue::from_static("canary"));
        }
        headers.append("accept", HeaderValue::from_static("a"));
        headers.append("accept", HeaderValue::from_static("b"));
        headers.insert("user-agent", HeaderValue::from_bytes(b"\xff").unwrap());
        headers.insert("x-mine", HeaderValue::from_static("1"));
        let usual = Allowed::new(&REQUEST, &[]).of_request(&headers);
        assert_eq!(usual, pairs(&[("accept", "a"), ("accept", "b")]));
        let more = Allowed::new(&REQUEST, &[HeaderName::from_static("x-mine")]).of_request(&headers);
        assert_eq!(more.len(), 3);
    }

    #[test]
    fn of_an_answer_only_harmless_headers_pass() {
        let answered = pairs(&[
            ("Content-Type", "text/plain"),
            ("content-type", "text/html"),
            ("Set-Cookie", "a=b"),
            ("Location", "https://evil.example"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "7"),
            ("Access-Control-Allow-Origin", "*"),
            ("X-Longshore-Execution-Id", "forged"),
            ("X-Ext-Warning", "1"),
            ("x-ext-warning", "2"),
            ("x-ext-bad", "a\r\nset-cookie: b"),
            ("no name", "x"),
        ]);
        let headers = Allowed::new(&RESPONSE, &[]).of_answer(&answered).unwrap();
        assert_eq!(headers.len(), 3);
        assert_eq!(headers["content-type"], "text/plain");
        assert_eq!(headers.get_all("x-ext-warning").iter().count(), 2);
    }

    #[test]
    fn a_header_that_no_client_would_take_is_an_error() {
        let answered = pairs(&[("x-ext-a", &"v".repeat(MAX_RESPONSE_BYTES))]);
        let error = Allowed::new(&RESPONSE, &[]).of_answer(&answered).unwrap_err();
        assert_eq!(error.code, ErrorCode::ResponseTooLarge);
    }

    #[test]
    fn no_shared_cache_ever_keeps_an_answer() {
        for (given, kept) in [
            ("public, max-age=60", "private, max-age=60"),
            ("max-age=60, s-maxage=600, immutable", "private, max-age=60"),
            ("private", "no-store"),
            ("public", "no-store"),
            ("No-Cache", "private, no-cache"),
            ("max-age=60, no-store", "no-store"),
            ("max-age=99999999999", "no-store"),
            ("max-age=4000000000", "private, max-age=31536000"),
            ("max-age=-1", "no-store"),
            ("", "no-store"),
        ] {
            assert_eq!(cache_control(given), kept, "{given}");
        }
    }

    #[test]
    fn an_entity_tag_is_quoted_and_short() {
        for good in ["\"a\"", "W/\"a-b\"", "\"\""] {
            assert_eq!(etag(good).unwrap(), good);
        }
        let long = format!("\"{}\"", "a".repeat(300));
        for bad in ["a", "\"a", "\"a\"b\"", "w/\"a\"", "\"a b\"", &long] {
            assert!(etag(bad).is_none(), "{bad}");
        }
    }
}
