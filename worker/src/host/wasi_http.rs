//! Serving a `wasi:http` guest: the request as it gets it, its answer as it streams out.

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use longshore_proto::call::RunHttp;
use longshore_proto::event::truncate;
use longshore_proto::{CallError, ErrorCode};

/// How much of a guest's own words about its error the caller sees.
const MESSAGE_BYTES: usize = 200;
/// Headers that speak of one connection (RFC 9110, 7.6.1), and `host`, which `wasi:http` gives as the authority.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HOST,
    http::header::PROXY_AUTHENTICATE,
    http::header::PROXY_AUTHORIZATION,
    http::header::TE,
    http::header::TRAILER,
    http::header::TRANSFER_ENCODING,
    http::header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The request that the guest gets: absolute, with one `content-length` when there is a body. Headers keep their
/// values and the order of a name's values; HTTP knows no case in names, and neither does `wasi:http`.
pub fn request(http: &RunHttp, body: Option<&Bytes>) -> Result<Request<Full<Bytes>>, CallError> {
    let mut headers = headers(&http.headers)?;
    let authority = authority(http, &headers)?;
    let scheme = scheme(http, &headers);
    remove_hop_by_hop(&mut headers);
    headers.remove(CONTENT_LENGTH);
    if let Some(body) = body {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path(&http.url)?);
    let mut request = Request::new(Full::new(body.cloned().unwrap_or_default()));
    *request.uri_mut() = uri.build().map_err(|_| invalid("http.url is no path and query"))?;
    *request.method_mut() =
        Method::from_bytes(http.method.as_bytes()).map_err(|_| invalid("http.method is no HTTP method"))?;
    *request.headers_mut() = headers;
    Ok(request)
}

fn headers(pairs: &[(String, String)]) -> Result<HeaderMap, CallError> {
    let mut headers = HeaderMap::with_capacity(pairs.len().min(64));
    for (index, (name, value)) in pairs.iter().enumerate() {
        let refused = || invalid(&format!("header {index} of the request is no HTTP header"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refused())?;
        // A map holds 32,768 names; the limit on header bytes lets through fewer, but it is not this function's.
        headers.try_append(name, value).map_err(|_| refused())?;
    }
    Ok(headers)
}

/// The path as the caller wrote it; an empty one is `/`, because HTTP has no empty path.
fn path(url: &str) -> Result<PathAndQuery, CallError> {
    let refused = || invalid("http.url is no path and query");
    // What comes after `#` is the browser's own.
    let url = url.split('#').next().unwrap_or_default();
    let absolute = match url.as_bytes().first() {
        Some(b'/') => PathAndQuery::try_from(url),
        None | Some(b'?') => PathAndQuery::try_from(format!("/{url}")),
        Some(_) => return Err(refused()),
    };
    absolute.map_err(|_| refused())
}

/// As the shim says, else the `host` header, else `localhost`. User names in it are refused: no HTTP request has them,
/// and code that looks at the end of the text only is deceived by them.
fn authority(http: &RunHttp, headers: &HeaderMap) -> Result<Authority, CallError> {
    let refused = || invalid("the request's authority (or its host header) is no host and port");
    let text = match (&http.authority, headers.get(HOST)) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host.to_str().map_err(|_| refused())?,
        (None, None) => "localhost",
    };
    let authority = Authority::try_from(text).map_err(|_| refused())?;
    if authority.host().is_empty() || text.contains('@') {
        return Err(refused());
    }
    // `port()` is none for a port that is no number up to 65,535.
    let after_host = text.get(authority.host().len()..).unwrap_or_default();
    if !after_host.is_empty() && authority.port_u16().is_none() {
        return Err(refused());
    }
    Ok(authority)
}

/// As the shim says, else what a proxy said, else `http`; only these two exist here.
fn scheme(http: &RunHttp, headers: &HeaderMap) -> Scheme {
    let forwarded = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    match http.scheme.as_deref().or(forwarded) {
        Some("https") => Scheme::HTTPS,
        _ => Scheme::HTTP,
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Reads a body to its end, or to its limit: at most one write (64 KiB) more than that is ever held.
pub async fn collect<B>(mut body: B, max_bytes: usize) -> Result<(Option<Bytes>, HeaderMap), CallError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        let so_far = first.len() + rest.len();
        let frame = frame.map_err(|e| broken_off(so_far, &e.to_string()))?;
        match frame.into_data() {
            Ok(data) if so_far.saturating_add(data.len()) > max_bytes => {
                return Err(CallError::new(
                    ErrorCode::ResponseTooLarge,
                    format!("the body is over {max_bytes} bytes"),
                ));
            }
            // One write is the common answer, and is not copied.
            Ok(data) if so_far == 0 => first = data,
            Ok(data) => rest.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    let bytes = match (first.is_empty(), rest.is_empty()) {
        (true, _) => None,
        (false, true) => Some(first),
        (false, false) => {
            let mut whole = BytesMut::with_capacity(first.len() + rest.len());
            whole.extend_from_slice(&first);
            whole.extend_from_slice(&rest);
            Some(whole.freeze())
        }
    };
    Ok((bytes, trailers))
}

/// The guest dropped its body, or wrote another length than it had said.
fn broken_off(bytes: usize, why: &str) -> CallError {
    let mut why = why.replace(char::is_control, " ");
    truncate(&mut why, MESSAGE_BYTES);
    CallError::new(ErrorCode::InvalidResponse, format!("the body broke off after {bytes} bytes: {why}"))
}

/// The guest returned and nobody is left to write the rest of the body.
pub fn unfinished() -> CallError {
    CallError::new(ErrorCode::InvalidResponse, "the guest returned without finishing the body")
}

/// It returned and there is nothing.
pub fn no_response() -> CallError {
    CallError::new(ErrorCode::InvalidResponse, "the guest never set a response")
}

/// It answered an error instead of a response: ends the run as a trap does. `debug` is the code as Rust prints it.
/// `redact` takes secrets out of the guest's words: before anything else is done to them, because it would not know
/// a secret whose control characters have been replaced or whose end has been cut off.
pub fn error_code(debug: &str, redact: impl Fn(&str) -> String) -> CallError {
    let debug = debug.strip_prefix("ErrorCode::").unwrap_or(debug);
    let (name, payload) =
        debug.split_once('(').map_or((debug, None), |(name, payload)| (name, Some(payload)));
    let mut message = format!("the guest answered with the error {}", wit_name(name));
    // The only case with words of the guest's own.
    let words = payload.filter(|_| name == "InternalError").and_then(|p| p.strip_prefix("Some(\""));
    if let Some(words) = words.and_then(|w| w.strip_suffix("\"))")) {
        let mut words = redact(&unescaped(words)).replace(char::is_control, " ");
        truncate(&mut words, MESSAGE_BYTES);
        message = format!("{message}: {words}");
    }
    CallError::new(ErrorCode::Trap, message)
}

/// What `{:?}` made of a text, back.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let escaped = if letter == '\\' { letters.next() } else { None };
        match escaped {
            None => out.push(letter),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('0') => out.push('\0'),
            Some('u') => {
                let digits: String = letters.by_ref().skip(1).take_while(|l| *l != '}').collect();
                out.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
            }
            Some(other) => out.push(other),
        }
    }
    out
}

/// `HttpRequestDenied` is `HTTP-request-denied` in the WIT.
fn wit_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
    }
    for acronym in ["http", "dns", "tls", "ip", "uri"] {
        let spelled = acronym.to_ascii_uppercase();
        out = out
            .split('-')
            .map(|part| if part == acronym { spelled.as_str() } else { part })
            .collect::<Vec<_>>()
            .join("-");
    }
    out
}

fn invalid(message: &str) -> CallError {
    CallError::new(ErrorCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    fn http(url: &str, headers: &[(&str, &str)]) -> RunHttp {
        RunHttp {
            method: "GET".into(),
            url: url.into(),
            headers: headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            scheme: None,
            authority: None,
        }
    }

    fn uri(http: &RunHttp) -> Result<String, ErrorCode> {
        request(http, None).map(|r| r.uri().to_string()).map_err(|e| e.code)
    }

    #[test]
    fn the_path_and_its_query_come_as_the_caller_wrote_them() {
        for (url, expected) in [
            ("/a/b?x=1&x=2&y", "/a/b?x=1&x=2&y"),
            ("/a%20b/../c//d?q=%2F+", "/a%20b/../c//d?q=%2F+"),
            ("", "/"),
            ("?x=1", "/?x=1"),
            ("/a#fragment", "/a"),
            ("/gr\u{fc}n", "/gr\u{fc}n"),
            ("//host/path", "//host/path"),
        ] {
            assert_eq!(uri(&http(url, &[])), Ok(format!("http://localhost{expected}")), "{url}");
        }
    }

    #[test]
    fn what_is_no_path_no_authority_and_no_method_is_refused_and_nothing_panics() {
        for url in ["a/b", "http://evil/", "*", "/a b", "/a\nb", "/a\0"] {
            assert_eq!(uri(&http(url, &[])), Err(ErrorCode::InvalidRequest), "{url:?}");
        }
        for host in [
            "",
            "a b",
            "user@host",
            "user:pw@host",
            "host:port",
            "host:",
            "host:99999",
            "ho\u{fc}st",
            "a/b",
            "[::1",
        ] {
            assert_eq!(uri(&http("/", &[("Host", host)])), Err(ErrorCode::InvalidRequest), "{host:?}");
        }
        let method = RunHttp { method: "G ET".into(), ..http("/", &[]) };
        assert_eq!(uri(&method), Err(ErrorCode::InvalidRequest));
        for header in [("a b", "v"), ("", "v"), ("a", "v\r\nx: y")] {
            assert_eq!(uri(&http("/", &[header])), Err(ErrorCode::InvalidRequest), "{header:?}");
        }
    }

    #[test]
    fn the_authority_is_the_shims_then_the_host_header_then_localhost() {
        let mut given = http("/", &[("hOsT", "tenant.example:8443")]);
        assert_eq!(uri(&given).unwrap(), "http://tenant.example:8443/");
        given.authority = Some("[::1]:80".into());
        assert_eq!(uri(&given).unwrap(), "http://[::1]:80/");
    }

    #[test]
    fn the_scheme_is_the_shims_then_a_proxys_word_and_never_anything_else() {
        let forwarded = |proto| http("/", &[("X-Forwarded-Proto", proto)]);
        assert_eq!(uri(&forwarded("https")).unwrap(), "https://localhost/");
        for odd in ["HTTPS", "https, http", "ftp", ""] {
            assert_eq!(uri(&forwarded(odd)).unwrap(), "http://localhost/", "{odd}");
        }
        let given = RunHttp { scheme: Some("http".into()), ..forwarded("https") };
        assert_eq!(uri(&given).unwrap(), "http://localhost/");
    }

    #[test]
    fn repeated_headers_stay_and_those_of_the_connection_go() {
        let given = http(
            "/",
            &[
                ("Accept", "a/b"),
                ("accept", "c/d"),
                ("Connection", "close, X-Hop"),
                ("x-hop", "1"),
                ("Keep-Alive", "timeout=5"),
                ("TE", "trailers"),
                ("Transfer-Encoding", "chunked"),
                ("Upgrade", "h2c"),
                ("Proxy-Authorization", "Basic x"),
                ("Host", "h"),
                ("Content-Length", "999"),
                ("X-Text", "gr\u{fc}n"),
            ],
        );
        let made = request(&given, Some(&Bytes::from_static(b"hello"))).unwrap();
        let headers: Vec<_> = made
            .headers()
            .iter()
            .map(|(n, v)| (n.as_str(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
            .collect();
        let mut expected = vec![
            ("accept", "a/b".to_owned()),
            ("accept", "c/d".to_owned()),
            ("content-length", "5".to_owned()),
            ("x-text", "gr\u{fc}n".to_owned()),
        ];
        let mut found = headers;
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        assert!(!request(&given, None).unwrap().headers().contains_key(CONTENT_LENGTH));
    }

    fn frames(
        frames: Vec<Result<Frame<Bytes>, &'static str>>,
    ) -> impl Body<Data = Bytes, Error = &'static str> + Unpin {
        StreamBody::new(futures::stream::iter(frames))
    }

    fn data(text: &'static str) -> Result<Frame<Bytes>, &'static str> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    #[tokio::test]
    async fn a_body_is_put_together_with_its_trailers() {
        let mut trailers = HeaderMap::new();
        trailers.append("x-a", HeaderValue::from_static("1"));
        let body =
            frames(vec![data("ab"), data(""), data("cd"), data("e"), Ok(Frame::trailers(trailers.clone()))]);
        assert_eq!(collect(body, 5).await.unwrap(), (Some(Bytes::from_static(b"abcde")), trailers));
        assert_eq!(collect(Full::<Bytes>::default().map_err(|e: Infallible| e), 0).await.unwrap().0, None);
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_stopped_at_its_limit() {
        let endless = StreamBody::new(futures::stream::repeat_with(|| data("0123456789")));
        let error = collect(endless, 1_000_000).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::ResponseTooLarge);
        assert!(error.message.contains("1000000"), "{error}");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_answer() {
        let error = collect(frames(vec![data("half"), Err("gone\u{1b}[2J")]), 100).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidResponse);
        assert_eq!(error.message, "the body broke off after 4 bytes: gone [2J");
    }

    #[test]
    fn words_are_redacted_as_the_guest_wrote_them() {
        let said = "a\u{1}b\u{fc}\u{7f}\"\\\n\r\t\0'\u{1f980}\u{200b}";
        assert_eq!(unescaped(format!("{said:?}").trim_matches('"')), said);
        let debug = format!("ErrorCode::InternalError(Some({said:?}))");
        let message = error_code(&debug, |words| words.replace(said, "[redacted]")).message;
        assert_eq!(message, "the guest answered with the error internal-error: [redacted]");
    }

    #[test]
    fn the_guests_error_is_named_as_in_the_wit_and_its_words_are_harmless() {
        let message = |debug| error_code(debug, str::to_owned).message;
        assert_eq!(
            message("ErrorCode::HttpRequestDenied"),
            "the guest answered with the error HTTP-request-denied"
        );
        assert_eq!(
            message("ErrorCode::DestinationIpProhibited"),
            "the guest answered with the error destination-IP-prohibited"
        );
        assert_eq!(
            message("ErrorCode::InternalError(Some(\"out of cheese\"))"),
            "the guest answered with the error internal-error: out of cheese"
        );
        assert_eq!(
            message("ErrorCode::InternalError(None)"),
            "the guest answered with the error internal-error"
        );
        assert_eq!(
            message("ErrorCode::HttpRequestHeaderSize(Some(FieldSizePayload { .. }))"),
            "the guest answered with the error HTTP-request-header-size"
        );
        let long = format!("ErrorCode::InternalError(Some(\"{}\"))", "x".repeat(1_000));
        assert!(message(&long).len() < 300);
    }
}
