//! `GET /` (interop 4.2): a host name of an install's own leads to its pages.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{HOST, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode};
use longshore_registry::RegistryError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::UiState;
use super::answers::{Refusal, no_store};

/// What a path segment or a query value may hold as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) async fn dispatch(State(state): State<UiState>, request: Request<axum::body::Body>) -> Response {
    let (head, _) = request.into_parts();
    let answer = match handle(&state, &head).await {
        Ok(answer) => answer,
        Err(refusal) => refusal.into_response(),
    };
    state.metrics.answered(answer.status());
    answer
}

async fn handle(state: &UiState, head: &Parts) -> Result<Response, Refusal> {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(Refusal::Method);
    }
    let host = named(head).map_err(|()| Refusal::Empty(StatusCode::BAD_REQUEST))?;
    let found = state.registry.by_host(&host).await.map_err(|error| match error {
        RegistryError::NotReady(_) | RegistryError::NotKept(_) => Refusal::registry(&error),
        RegistryError::Upstream(_) | RegistryError::Damaged(_) => {
            tracing::warn!(error = %longshore_service::errors::chain(&error), "a host cannot be looked up");
            Refusal::Empty(StatusCode::BAD_GATEWAY)
        }
    })?;
    let found = found.ok_or(Refusal::NOT_FOUND)?;
    let encoded = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
    let (tenant, extension) = (encoded(found.tenant.as_str()), encoded(found.extension.as_str()));
    let hash = encoded(&found.content_hash.to_string());
    let location = format!("/ext-ui/{extension}/{hash}/index.html?tenant={tenant}&extensionId={extension}");
    let location = HeaderValue::from_str(&location).map_err(|_| Refusal::NOT_FOUND)?;
    Ok(no_store((StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response()))
}

/// The one host that a request names: lower-cased, without port and without the dot that ends a name.
pub(super) fn named(head: &Parts) -> Result<String, ()> {
    let mut lines = head.headers.get_all(HOST).iter();
    let line = match (lines.next(), lines.next(), head.uri.authority()) {
        (Some(line), None, None) => line.to_str().map_err(drop)?,
        // HTTP/2, or a request in a proxy's form: two that differ are an attempt.
        (None, None, Some(authority)) => authority.as_str(),
        (Some(line), None, Some(authority)) if line.as_bytes() == authority.as_str().as_bytes() => {
            authority.as_str()
        }
        _ => return Err(()),
    };
    parse(line).ok_or(())
}

/// `name[:port]`, `1.2.3.4[:port]` or `[v6][:port]`.
fn parse(line: &str) -> Option<String> {
    let (name, port) = match line.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (
                line.get(..address.len() + 2)?,
                port.strip_prefix(':').or_else(|| port.is_empty().then_some(""))?,
            )
        }
        None => line.split_once(':').unwrap_or((line, "")),
    };
    // `host:` is allowed by the grammar.
    if !port.is_empty() && port.parse::<u16>().is_err() {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.starts_with('[') {
        return Some(name.to_ascii_lowercase());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    (name.len() <= 253 && name.split('.').all(label)).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for (line, host) in [
            ("T1--E1.Ext.example", "t1--e1.ext.example"),
            ("a.example:8443", "a.example"),
            ("a.example.", "a.example"),
            ("a.example.:80", "a.example"),
            ("a.example:", "a.example"),
            ("localhost", "localhost"),
            ("127.0.0.1:8085", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
        ] {
            assert_eq!(parse(line).as_deref(), Some(host), "{line}");
        }
        let long = format!("{}.example", "a".repeat(64));
        for bad in [
            "",
            ".",
            "a..b",
            "a b",
            "a/b",
            "user@a",
            "a:b",
            "a:99999",
            "a:1:2",
            "-a.b",
            "a-.b",
            "ä.example",
            "[::1",
            "[x]",
            "[::1]x",
            "a,b",
            "a%00",
            "*",
            long.as_str(),
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let named = |uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().uri(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            named(&request.body(()).unwrap().into_parts().0)
        };
        assert_eq!(named("/", &["a.example"]), Ok("a.example".to_owned()));
        assert_eq!(named("http://a.example/", &[]), Ok("a.example".to_owned()));
        assert_eq!(named("http://a.example/", &["a.example"]), Ok("a.example".to_owned()));
        assert_eq!(named("/", &[]), Err(()));
        assert_eq!(named("/", &["a.example", "b.example"]), Err(()));
        assert_eq!(named("/", &["a.example", "a.example"]), Err(()));
        assert_eq!(named("http://a.example/", &["b.example"]), Err(()));
    }
}
