//! `GET|HEAD /ext-ui/{extension}/{hash}/{path...}` (interop 4.1): from a request to bytes.

use std::fmt::Write as _;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{
    ACCEPT, ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, LOCATION, RANGE,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body::Body as _;

use super::UiState;
use super::answers::{Refusal, no_store};
use super::config::SubResources;
use super::files::{Asset, FileError};
use super::media::{self, Media};
use super::negotiate::{self, Encoding};
use super::path::{self, PathError, Tail, Target};
use super::range::{self, Wanted};
use super::tenant;

const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A file whose name is its content's hash never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// The same where the registry decides who may have it: a cache that many share would answer in its place.
const FOR_EVER_PRIVATE: &str = "private, max-age=31536000, immutable";
/// Kept, but asked for each time: pages under strict validation, so that an uninstall is seen by the next navigation, and the answer to
/// an address that names no file.
const ASK_PUBLIC: &str = "no-cache";
const ASK_PRIVATE: &str = "private, no-cache";

/// Answers one request.
pub(super) async fn serve(State(state): State<UiState>, request: Request<Body>) -> Response {
    let (head, _) = request.into_parts();
    let mut answer = match handle(&state, &head).await {
        Ok(answer) => answer,
        Err(refusal) => refusal.into_response(),
    };
    if head.method == Method::HEAD {
        // What GET would say of its length; a body would be sent over HTTP/2.
        let len = answer.body().size_hint().exact();
        if let Some(len) = len.filter(|len| *len > 0 && !answer.headers().contains_key(CONTENT_LENGTH)) {
            answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(len));
        }
        *answer.body_mut() = Body::empty();
    }
    state.metrics.answered(answer.status());
    answer
}

async fn handle(state: &UiState, head: &Parts) -> Result<Response, Refusal> {
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Err(Refusal::Method);
    }
    let whole = head.uri.path();
    let raw = state.base.as_deref().and_then(|base| whole.strip_prefix(base)).unwrap_or(whole);
    let raw = raw.strip_prefix("/ext-ui/").ok_or(Refusal::NOT_FOUND)?;
    let target = path::parse(raw).map_err(|error| match error {
        PathError::Hash => Refusal::text(StatusCode::BAD_REQUEST, "invalid content hash"),
        PathError::Path => Refusal::text(StatusCode::BAD_REQUEST, "invalid path"),
        PathError::Nothing => Refusal::NOT_FOUND,
    })?;
    if target.tail == Tail::Bare {
        // `./`, because a segment with a colon in it would read as a scheme.
        let last = whole.rsplit('/').next().unwrap_or_default();
        return redirect(format!("./{last}/"), head);
    }
    if state.bundles.is_none() {
        return Err(Refusal::no_store());
    }
    let claim = tenant::claim(state, head, &target).await?.ok_or(Refusal::NOT_FOUND)?;
    if state.config.strict
        && state.config.sub_resources == SubResources::Signed
        && !claim.signed
        && is_page(&target)
        && wants_redirect(&head.headers)
    {
        state.confirm(&claim.tenant, &target.extension, target.hash).await?;
        return redirect(signed_path(state, &claim.tenant, &target, raw), head);
    }
    let (_, bundle) = state.bundle(&claim.tenant, &target.extension, target.hash).await?;
    let pages = bundle.pages().ok_or(Refusal::NOT_FOUND)?;
    let max = state.config.max_file_bytes.map(|max| max.bytes());
    let path = match &target.tail {
        Tail::File(path) => path.as_str(),
        Tail::Entry | Tail::Bare => pages.entry.as_str(),
    };
    let found = state.files.open(bundle.hash(), &pages.root, path, max).await;
    let (asset, path, fallback) = match found {
        Err(FileError::Missing) if is_route(path) && wants_page(&head.headers) => {
            let asset = state.files.open(bundle.hash(), &pages.root, "index.html", max).await;
            (asset.map_err(refused)?, "index.html", true)
        }
        found => (found.map_err(refused)?, path, false),
    };
    let media = media::of(path.rsplit('/').next().unwrap_or(path)).ok_or(Refusal::NOT_FOUND)?;
    answer(state, head, &asset, media, fallback).await
}

/// A path without an extension in its last segment: a route of the page's own, perhaps.
fn is_route(path: &str) -> bool {
    !path.rsplit('/').next().unwrap_or(path).contains('.')
}

fn is_page(target: &Target) -> bool {
    match &target.tail {
        Tail::Entry | Tail::Bare => true,
        Tail::File(path) => is_route(path) || path.to_ascii_lowercase().ends_with(".html"),
    }
}

fn text(headers: &HeaderMap, name: impl http::header::AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn accepts_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("text/html"))
}

/// Somebody who would show a page. A script's `import` or `fetch` says neither.
fn wants_page(headers: &HeaderMap) -> bool {
    text(headers, "sec-fetch-mode") == Some("navigate") || accepts_html(headers)
}

/// Somebody whose address changes with a redirect: a browser that navigates. A program that fetches on behalf of one follows it
/// unseen, which would help nobody.
fn wants_redirect(headers: &HeaderMap) -> bool {
    match text(headers, "sec-fetch-mode") {
        Some(mode) => mode == "navigate",
        None => accepts_html(headers),
    }
}

/// Node's `fetch` announces a mode but, unlike browsers, no destination. The existing platform's `/runner` proxy passes the browser's
/// `accept-encoding` on through it, and then the unpacked body under the header of the packed one, which no browser can read.
fn is_node_fetch(headers: &HeaderMap) -> bool {
    headers.contains_key("sec-fetch-mode") && !headers.contains_key("sec-fetch-dest")
}

/// From the page's address to the same page below the signature, relative: nobody but the browser knows what a gateway in front has
/// put before the path.
fn signed_path(state: &UiState, tenant: &longshore_proto::TenantId, target: &Target, raw: &str) -> String {
    let mut location = "../".repeat(target.depth);
    let signature = state.signer.sign(tenant, &target.extension, target.hash);
    let _ = write!(location, "~{signature}/");
    let tail = raw.splitn(3, '/').nth(2).unwrap_or_default();
    let tail = match &target.signature {
        Some(old) => tail.get(old.len() + 2..).unwrap_or_default(),
        None => tail,
    };
    location.push_str(tail);
    location
}

fn redirect(mut location: String, head: &Parts) -> Result<Response, Refusal> {
    if let Some(query) = head.uri.query() {
        location.push('?');
        location.push_str(query);
    }
    // Made of parts of a URI, which a header can hold.
    let location = HeaderValue::from_str(&location).map_err(|_| Refusal::NOT_FOUND)?;
    Ok(no_store((StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response()))
}

fn refused(error: FileError) -> Refusal {
    match error {
        FileError::Missing => Refusal::NOT_FOUND,
        FileError::TooLarge => Refusal::text(StatusCode::PAYLOAD_TOO_LARGE, "asset too large"),
        FileError::Busy => Refusal::Later("too many assets are being sent".to_owned()),
        FileError::Io(error) => {
            tracing::warn!(%error, "an unpacked UI file cannot be read");
            Refusal::Code(StatusCode::INTERNAL_SERVER_ERROR, "extract_failed")
        }
    }
}

/// The strong ETag of one representation.
fn etag(asset: &Asset, encoding: Option<Encoding>) -> String {
    let hex = hex::encode(asset.digest);
    match encoding {
        None => format!("\"sha256-{hex}\""),
        Some(encoding) => format!("\"sha256-{hex}-{}\"", encoding.as_str()),
    }
}

/// Whether `if-none-match` has this ETag; weak comparison, as it must be here.
fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let lines = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

async fn answer(
    state: &UiState,
    head: &Parts,
    asset: &Asset,
    media: Media,
    fallback: bool,
) -> Result<Response, Refusal> {
    let wanted = part(head, asset);
    let mut encoding = None;
    let mut copy = None;
    // A part is one of the plain bytes.
    if wanted == Wanted::All
        && media.compressible
        && !is_node_fetch(&head.headers)
        && let (Some(encoded), Some(choice)) = (&state.encoded, negotiate::choose(&head.headers))
    {
        copy = encoded.get(asset, choice).await;
        encoding = copy.is_some().then_some(choice);
    }
    let etag = etag(asset, encoding);
    let mut headers = common(state, media, fallback);
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    if is_known(&head.headers, &etag) {
        headers.remove(CONTENT_TYPE);
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let (file, len) = copy.unwrap_or_else(|| (asset.file.clone(), asset.len));
    let (status, start, len) = match wanted {
        Wanted::All => (StatusCode::OK, 0, len),
        Wanted::Part(range) => {
            let last = range.end.saturating_sub(1);
            insert(&mut headers, CONTENT_RANGE, format!("bytes {}-{last}/{}", range.start, asset.len));
            (StatusCode::PARTIAL_CONTENT, range.start, range.end.saturating_sub(range.start))
        }
        Wanted::Outside => {
            let mut refusal = no_store(StatusCode::RANGE_NOT_SATISFIABLE.into_response());
            insert(refusal.headers_mut(), CONTENT_RANGE, format!("bytes */{}", asset.len));
            return Ok(refusal);
        }
    };
    match encoding {
        Some(encoding) => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.as_str()));
        }
        None => {
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    let body = match head.method {
        Method::HEAD => Body::empty(),
        _ => state.files.body(file, start, len).await.map_err(refused)?,
    };
    Ok((status, headers, body).into_response())
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// Which bytes are asked for. `range` is defined for GET alone; `if-range` must be the ETag of the plain bytes, for only these are
/// sent in parts (a date never is: no answer says `last-modified`).
fn part(head: &Parts, asset: &Asset) -> Wanted {
    let header = match text(&head.headers, RANGE) {
        Some(header) if head.method == Method::GET => header,
        _ => return Wanted::All,
    };
    let same = head.headers.get(IF_RANGE).is_none_or(|tag| tag.as_bytes() == etag(asset, None).as_bytes());
    if same { range::wanted(header, asset.len) } else { Wanted::All }
}

/// What 200, 206 and 304 have in common.
fn common(state: &UiState, media: Media, fallback: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let is_html = media.content_type == media::HTML;
    let cache = match (state.config.strict, fallback, is_html) {
        (false, false, _) => FOR_EVER,
        (false, true, _) => ASK_PUBLIC,
        (true, false, false) => FOR_EVER_PRIVATE,
        (true, _, _) => ASK_PRIVATE,
    };
    let fixed = [
        (CONTENT_TYPE, media.content_type),
        (CACHE_CONTROL, cache),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // A sandboxed page has no origin, so that its module scripts, fonts and fetches are somebody else's to the browser. Nothing
        // here is answered by cookie, so there is nothing that another page could steal by asking.
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (CORP, "cross-origin"),
        // The path may hold a signature, the query a tenant.
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if media.compressible {
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    // An SVG that is opened by itself is a page that may hold scripts.
    if is_html || media.content_type == "image/svg+xml" {
        headers.insert(CONTENT_SECURITY_POLICY, state.csp.clone());
    }
    headers
}
