//! `longshore call`: one call through the gateway, as any caller makes it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use longshore_service::errors::chain;
use longshore_service::upstream::Upstream;
use serde::Serialize;

use super::place::Variables;
use super::{FleetArgs, Place, TenantArgs, block_on, sensitive};
use crate::author::run::{self, InProcessArgs, InProcessCall};
use crate::dev::DEFAULT_TENANT;
use crate::exit::{Exit, Failure};
use crate::output::{Output, printable};

/// What a gateway answers at most, and a little: bodies are 10 MiB.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// The same for what is sent.
const MAX_BODY_BYTES: u64 = 64 << 20;
/// The longest call (300 s), and a little.
const TIMEOUT: Duration = Duration::from_secs(310);

/// Arguments of `longshore call`.
#[derive(clap::Args, Clone, Debug)]
pub struct CallArgs {
    /// The install's id, the extension's registry id or name, or `publisher.name`
    #[arg(value_name = "EXTENSION", required_unless_present = "bundle")]
    pub reference: Option<String>,
    /// Runs the handler of this project or bundle in this process instead, without any server
    #[arg(long, value_name = "DIR|BUNDLE", conflicts_with = "reference")]
    pub bundle: Option<PathBuf>,
    /// The method; unset: GET, or POST with a body
    #[arg(long, short = 'X', value_name = "METHOD")]
    pub method: Option<String>,
    /// The path below the extension, with its query
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub path: String,
    /// The body: @FILE, @- (standard input) or the text itself
    #[arg(long, short = 'd', value_name = "@FILE|TEXT")]
    pub body: Option<String>,
    /// A header; may be given several times
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// The caller's token: @FILE, - or env:NAME; unset: LONGSHORE_TOKEN, if it is set
    #[arg(long, value_name = "SOURCE")]
    pub token: Option<String>,
    #[command(flatten)]
    /// What an install would say.
    pub in_process: InProcessArgs,
    #[command(flatten)]
    /// Whose, with --bundle; through the gateway the token says it.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// What came back, for `--json`.
#[derive(Serialize)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    took_ms: u64,
}

/// Runs `longshore call`.
///
/// # Errors
/// The request is none, or there is no answer. An answer is no failure; its status decides the exit code.
pub fn run(args: &CallArgs, output: &Output) -> Result<ExitCode, Failure> {
    if let Some(bundle) = &args.bundle {
        return run_in_process(args, bundle.clone(), output);
    }
    let reference = args.reference.as_deref().unwrap_or_default();
    let place = Place::find(&args.fleet)?;
    let request = request(args, reference, &place.gateway_url)?;
    block_on(async {
        let http = Upstream::new()
            .map_err(|error| Failure::new(Exit::Failed, "failed", chain(&error).to_string()))?;
        let started = Instant::now();
        let answer = http.send(request, TIMEOUT, MAX_ANSWER_BYTES).await.map_err(|error| {
            let message = format!("the gateway on {} does not answer: {}", place.gateway_url, chain(&error));
            Failure::new(Exit::Unreachable, "unreachable", message)
                .hint("start it (`longshore dev`), or name it by LONGSHORE_GATEWAY_URL")
        })?;
        let took = started.elapsed();
        print(&answer, took, output);
        Ok(exit_of(answer.status()).into())
    })
}

/// `longshore call --bundle`: no server, no token.
fn run_in_process(args: &CallArgs, bundle: PathBuf, output: &Output) -> Result<ExitCode, Failure> {
    let variables = Variables::of_process();
    let named = Place::find_in(&FleetArgs::default(), &variables, Path::new("."))?
        .tenant_or(&args.tenant, &variables)?;
    let body = args.body.as_deref().map(read_body).transpose()?;
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers =
        headers(&args.header)?.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let tenant = match named {
        Some(tenant) => tenant,
        None => {
            DEFAULT_TENANT.parse().map_err(|error| Failure::usage(format!("{DEFAULT_TENANT}: {error}")))?
        }
    };
    let call = InProcessCall {
        bundle,
        tenant,
        method: method(args, body.is_some())?.to_string(),
        path: if args.path.starts_with('/') { args.path.clone() } else { format!("/{}", args.path) },
        headers,
        body,
        secrets: run::secrets(&args.in_process.secret, sensitive::read)?,
    };
    Ok(exit_of(run::run(call, &args.in_process, output)?).into())
}

fn method(args: &CallArgs, has_body: bool) -> Result<Method, Failure> {
    match &args.method {
        Some(method) => Method::from_bytes(method.to_ascii_uppercase().as_bytes())
            .map_err(|_| Failure::usage(format!("{method:?} is no method"))),
        None if has_body => Ok(Method::POST),
        None => Ok(Method::GET),
    }
}

fn request(args: &CallArgs, reference: &str, gateway: &str) -> Result<Request<Bytes>, Failure> {
    let body = args.body.as_deref().map(read_body).transpose()?;
    let method = method(args, body.is_some())?;
    let mut headers = headers(&args.header)?;
    if let Some(token) = token(args)? {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Failure::usage("the token has characters that no token has"))?;
        value.set_sensitive(true);
        headers.insert(http::header::AUTHORIZATION, value);
    }
    if body.is_some() && !headers.contains_key(http::header::CONTENT_TYPE) {
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let url = url(gateway, reference, &args.path)?;
    let mut request = Request::builder()
        .method(method)
        .uri(&url)
        .body(body.unwrap_or_default())
        .map_err(|error| Failure::usage(format!("{url:?} is no address: {error}")))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The path goes as it was typed: an address that a library made pretty would be another request.
fn url(gateway: &str, reference: &str, path: &str) -> Result<String, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if reference.is_empty() || !reference.chars().all(plain) {
        return Err(Failure::usage(format!("{reference:?} names no extension: expected A-Z a-z 0-9 . _ -")));
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(format!("{gateway}/api/ext/{reference}{slash}{path}"))
}

fn headers(given: &[String]) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for header in given {
        // The value may be a credential: it is not repeated.
        let parsed = header.split_once(':').and_then(|(name, value)| {
            Some((name.trim().parse::<HeaderName>().ok()?, value.trim().parse::<HeaderValue>().ok()?))
        });
        let (name, value) = parsed.ok_or_else(|| Failure::usage("--header expects NAME: VALUE"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn token(args: &CallArgs) -> Result<Option<String>, Failure> {
    match &args.token {
        Some(source) => sensitive::read("--token", source).map(Some),
        None => Ok(std::env::var("LONGSHORE_TOKEN").ok().filter(|token| !token.is_empty())),
    }
}

fn read_body(text: &str) -> Result<Bytes, Failure> {
    use std::io::Read as _;
    let Some(path) = text.strip_prefix('@') else { return Ok(text.to_owned().into()) };
    let failed = |error: std::io::Error| Failure::usage(format!("--body: {path} cannot be read: {error}"));
    let reader: Box<dyn std::io::Read> = match path {
        "-" => Box::new(std::io::stdin().lock()),
        path => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    let mut bytes = Vec::new();
    reader.take(MAX_BODY_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BODY_BYTES {
        return Err(Failure::usage(format!("--body: {path} is over {} MiB", MAX_BODY_BYTES >> 20)));
    }
    Ok(bytes.into())
}

fn print(answer: &Response<Bytes>, took: Duration, output: &Output) {
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    if output.json {
        let body = std::str::from_utf8(answer.body()).ok().map(str::to_owned);
        let body_base64 = body.is_none().then(|| BASE64.encode(answer.body()));
        let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let document = Answer { status: answer.status().as_u16(), headers, body, body_base64, took_ms };
        output.result(&document, String::new);
        return;
    }
    let id = answer.headers().get("x-request-id").map(text).unwrap_or_default();
    output.note(format!("HTTP {} in {took_ms} ms (request {})", answer.status(), printable(id)));
    output.bytes(answer.body());
    if output.is_terminal() && !answer.body().ends_with(b"\n") {
        output.bytes(b"\n");
    }
}

/// The exit code of an answer: what a script wants to know without reading it.
fn exit_of(status: StatusCode) -> Exit {
    match status.as_u16() {
        0..400 => Exit::Ok,
        401 | 403 => Exit::NotPermitted,
        404 => Exit::NotFound,
        400 | 413 | 415 | 422 => Exit::Invalid,
        503 => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        call: CallArgs,
    }

    fn made(line: &[&str]) -> Result<Request<Bytes>, Failure> {
        let args = Line::try_parse_from(["call", "com.a.b"].iter().chain(line)).unwrap().call;
        request(&args, "com.a.b", "http://127.0.0.1:8085")
    }

    #[test]
    fn a_call_is_a_get_and_one_with_a_body_is_a_post_of_json() {
        let get = made(&["--path", "x?y=%2F"]).unwrap();
        assert_eq!(
            (get.method(), get.uri().to_string().as_str()),
            (&Method::GET, "http://127.0.0.1:8085/api/ext/com.a.b/x?y=%2F")
        );
        let post = made(&["--body", "{}", "--header", "x-a: 1", "-H", "X-A: 2"]).unwrap();
        assert_eq!(
            (post.method(), post.headers()["content-type"].to_str().unwrap()),
            (&Method::POST, "application/json")
        );
        assert_eq!(post.headers().get_all("x-a").iter().count(), 2);
        let put = made(&["-X", "put", "-d", "x", "-H", "content-type: text/plain"]).unwrap();
        assert_eq!(
            (put.method(), put.headers()["content-type"].to_str().unwrap()),
            (&Method::PUT, "text/plain")
        );
    }

    #[test]
    fn a_token_comes_from_a_file_and_is_marked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "lst_a_b\n").unwrap();
        let request = made(&["--token", &format!("@{}", path.display())]).unwrap();
        let value = &request.headers()["authorization"];
        assert!(value == "Bearer lst_a_b" && value.is_sensitive());
        assert!(made(&["--token", "lst_a_b"]).unwrap_err().message.contains("everybody"));
    }

    #[test]
    fn what_is_no_request_is_refused_without_repeating_credentials() {
        for (line, word) in [
            (["-X", "GE T"], "no method"),
            (["--header", "authorization"], "NAME: VALUE"),
            (["--header", "x y: Bearer secret"], "NAME: VALUE"),
            (["--body", "@/no/such"], "/no/such"),
            (["--path", "/a b"], "no address"),
        ] {
            let failure = made(&line).unwrap_err();
            assert!(
                failure.message.contains(word) && !failure.message.contains("secret"),
                "{line:?}: {failure}"
            );
        }
        for bad in ["", "a/b", "a?b", "ä"] {
            assert!(url("http://x", bad, "/").is_err(), "{bad}");
        }
    }

    #[test]
    fn the_exit_code_follows_the_status() {
        let exit = |status: u16| exit_of(StatusCode::from_u16(status).unwrap());
        assert_eq!(
            [200, 204, 302, 404, 403, 503, 502, 422].map(exit),
            [
                Exit::Ok,
                Exit::Ok,
                Exit::Ok,
                Exit::NotFound,
                Exit::NotPermitted,
                Exit::Unreachable,
                Exit::Failed,
                Exit::Invalid,
            ]
        );
    }
}
