//! Calls from pages of other origins.
//!
//! The reference echoes any origin and allows credentials with it. Here an origin is named in the settings or gets no
//! permission, and credentials of the browser are never allowed: a page sends a bearer token, which is none of them. So
//! `*` is harmless: it gives a page nothing that any other program does not have.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN,
    VARY,
};
use http::{HeaderMap, HeaderValue, Method};
use url::Url;

use super::endpoints::METHODS;

/// How long a browser may remember a permission, in seconds.
const MAX_AGE: &str = "600";

/// Who may call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cors {
    any: bool,
    origins: Vec<HeaderValue>,
    request_headers: Option<HeaderValue>,
}

impl Cors {
    /// From the setting; the error says which entry is no origin.
    pub(crate) fn parse(origins: &[String], request_headers: &[HeaderName]) -> Result<Self, String> {
        let any = origins.iter().any(|origin| origin == "*");
        let listed = origins.iter().filter(|origin| *origin != "*");
        let origins = listed.map(|origin| parse_origin(origin)).collect::<Result<_, _>>()?;
        let mut names = vec!["authorization", "x-request-id"];
        names.extend(request_headers.iter().map(HeaderName::as_str));
        Ok(Self { any, origins, request_headers: HeaderValue::try_from(names.join(", ")).ok() })
    }

    fn permits(&self, origin: &HeaderValue) -> bool {
        self.any || self.origins.contains(origin)
    }

    /// The headers that tell a page it may read the answer.
    pub(crate) fn decorate(&self, asked: &HeaderMap, answer: &mut HeaderMap) {
        if !self.any && self.origins.is_empty() {
            return;
        }
        answer.append(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = asked.get(ORIGIN).filter(|origin| self.permits(origin)) else { return };
        let allowed = if self.any { HeaderValue::from_static("*") } else { origin.clone() };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        // Without credentials of the browser the asterisk means all.
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    }

    /// The answer to a question of the browser's own, which carries no token: which calls a page may make. None: the
    /// request is none.
    pub(crate) fn preflight(&self, method: &Method, asked: &HeaderMap) -> Option<HeaderMap> {
        if method != Method::OPTIONS || !asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        let origin = asked.get(ORIGIN)?;
        let mut answer = HeaderMap::new();
        self.decorate(asked, &mut answer);
        if self.permits(origin) {
            if let Ok(methods) = HeaderValue::try_from(METHODS.join(", ")) {
                answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            }
            if let Some(names) = &self.request_headers {
                answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
            }
            answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
        }
        Some(answer)
    }
}

/// As browsers spell an origin: scheme, host in lower case, port unless it is the scheme's own.
fn parse_origin(text: &str) -> Result<HeaderValue, String> {
    let wrong =
        || format!("{text:?} is no origin: expected scheme and host such as https://app.example.com, or *");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let plain = matches!(url.scheme(), "http" | "https")
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !plain {
        return Err(wrong());
    }
    HeaderValue::try_from(url.origin().ascii_serialization()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Cors {
        let origins: Vec<String> = origins.iter().map(|o| (*o).to_owned()).collect();
        Cors::parse(&origins, &[HeaderName::from_static("accept")]).unwrap()
    }

    fn from(origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static(origin));
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        headers
    }

    #[test]
    fn only_named_origins_are_permitted_and_never_with_credentials() {
        let cors = cors(&["https://App.example.com:443/"]);
        for (origin, good) in [
            ("https://app.example.com", true),
            ("http://app.example.com", false),
            ("https://app.example.com.evil.example", false),
            ("https://evil.example", false),
            ("null", false),
        ] {
            let answer = cors.preflight(&Method::OPTIONS, &from(origin)).unwrap();
            assert_eq!(answer.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), good, "{origin}");
            assert_eq!(answer.contains_key(ACCESS_CONTROL_ALLOW_METHODS), good, "{origin}");
            assert_eq!(answer[VARY], "origin");
            assert!(!answer.contains_key("access-control-allow-credentials"));
        }
    }

    #[test]
    fn an_asterisk_is_answered_with_an_asterisk_and_not_with_the_origin() {
        let mut answer = HeaderMap::new();
        cors(&["*"]).decorate(&from("null"), &mut answer);
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    }

    #[test]
    fn without_the_setting_no_header_speaks_of_origins() {
        let mut answer = HeaderMap::new();
        cors(&[]).decorate(&from("https://a.example"), &mut answer);
        assert!(answer.is_empty());
        assert!(cors(&[]).preflight(&Method::OPTIONS, &from("https://a.example")).unwrap().is_empty());
    }

    #[test]
    fn an_options_request_that_no_browser_asks_is_no_preflight() {
        assert!(cors(&["*"]).preflight(&Method::OPTIONS, &HeaderMap::new()).is_none());
        assert!(cors(&["*"]).preflight(&Method::POST, &from("https://a.example")).is_none());
    }
}
