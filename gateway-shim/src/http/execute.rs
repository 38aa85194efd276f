//! `POST /v1/execute`: from a request to a [`Call`] and from its result to the envelope.
//!
//! Until the JSON has been parsed a refusal is a transport status (400, 401, 413, 415, 422) with words; from then on
//! the transport status is 200 and the envelope says what happened, because existing callers turn any other status
//! into a bare 502.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body;
use longshore_proto::execute::{ExecuteRequest, RoutingHeaders};
use longshore_proto::limits::{MAX_BODY_BYTES, MAX_TIMEOUT_MS};
use longshore_proto::{CallError, ErrorCode, ExecutionId, ExtensionId, PoolName, Run, TenantId};
use longshore_service::telemetry;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::Dispatch;
use super::budget::{Held, REQUEST_COST};
use super::config::ExecuteAuth;
use super::envelope::{ReplyBody, answered, failed, refused};
use super::ingest::{self, Bounds, IngestError, Rest};
use super::record::Record;
use super::router::App;
use crate::dispatch::Call;

/// All of the JSON but the body: 256 KiB of headers, config and secrets, each byte of which may be written as six
/// (`\u0000`), and the keys around them.
const MAX_JSON_REST: usize = 2 * 1024 * 1024;

/// The largest request: 16 MiB of body are 22.4 MB of base64, and the rest.
pub const MAX_JSON_BYTES: usize = (MAX_BODY_BYTES as usize).div_ceil(3) * 4 + MAX_JSON_REST;

/// JSON above this is parsed on a blocking thread: it takes milliseconds, in which this thread would serve nobody.
const PARSE_ELSEWHERE: usize = 256 * 1024;

/// The header that carries the service token.
const TOKEN_HEADER: &str = "x-runner-service-token";

/// An answer with a transport status.
struct Refusal(StatusCode, String);

/// What comes out of everything before the dispatcher.
enum NoCall {
    Refused(Refusal),
    Failed(CallError),
}

impl From<CallError> for NoCall {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

fn refuse(status: StatusCode, text: impl Into<String>) -> NoCall {
    NoCall::Refused(Refusal(status, text.into()))
}

/// Answers one request.
pub(super) async fn execute<D, B>(app: Arc<App<D>>, request: Request<B>) -> Response<ReplyBody>
where
    D: Dispatch,
    B: Body<Data = Bytes> + Unpin,
{
    let arrived = Instant::now();
    let execution = ExecutionId::random();
    let (head, body) = request.into_parts();
    let span = tracing::info_span!("execute", otel.kind = "server", %execution);
    telemetry::set_parent(&span, |name| text(&head.headers, name).map(str::to_owned));
    let handle = async {
        let record = Record::open(app.metrics.execute.clone(), arrived, execution);
        handle(&app, &head.headers, head.version, body, arrived, execution, record).await
    };
    // The future holds a whole call: on the heap, so that it is not copied with the connection's.
    Box::pin(handle.instrument(span)).await
}

async fn handle<D, B>(
    app: &App<D>,
    headers: &HeaderMap,
    version: Version,
    body: B,
    arrived: Instant,
    execution: ExecutionId,
    mut record: Record,
) -> Response<ReplyBody>
where
    D: Dispatch,
    B: Body<Data = Bytes> + Unpin,
{
    let tenant = text(headers, "x-alga-tenant").unwrap_or_default().trim();
    let extension = text(headers, "x-alga-extension").unwrap_or_default().trim();
    // What is no id is nobody's name: such requests share one part of the budget and are refused after the JSON.
    let tenant = if tenant.parse::<TenantId>().is_ok() { tenant } else { "" };
    record.name(tenant, if extension.parse::<ExtensionId>().is_ok() { extension } else { "" });
    if let Some(id) = text(headers, "x-request-id") {
        record.request(id);
    }
    let mut held = app.budget.open(tenant);
    let taken = match admit(app, headers, body, arrived, &mut held).await {
        Ok(taken) => taken,
        Err((why, rest)) => {
            held.set(0);
            let finished = rest.finish(headers, 2 * MAX_JSON_BYTES).await;
            let mut response = match why {
                NoCall::Refused(Refusal(status, text)) => refused(status, text, execution, record),
                NoCall::Failed(error) => failed(&error, execution, record),
            };
            if !finished && version <= Version::HTTP_11 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            return response;
        }
    };
    let (mut run, body) = taken;
    if let Some(id) = &run.context.request_id {
        record.request(id);
    }
    if let Some(gate) = &app.gate {
        if let Err(error) = gate.check(&run.context).await {
            return failed(&error, execution, record);
        }
        run.capture = gate.capture(&run.context, execution).await;
    }
    if let Err(error) = app.sealer.seal(&mut run) {
        return failed(&error, execution, record);
    }
    let timeout = Duration::from_millis(run.limits.timeout_ms);
    let margin = margin(timeout);
    let answer_by = arrived + (timeout - margin);
    if answer_by <= Instant::now() {
        let message = format!("the request took {} ms to arrive", arrived.elapsed().as_millis());
        return failed(&CallError::new(ErrorCode::Overloaded, message), execution, record);
    }
    held.set(REQUEST_COST + body.as_ref().map_or(0, Bytes::len));
    let call = Call {
        execution,
        pool: PoolName::default(),
        run,
        body,
        answer_by: answer_by.into_std(),
        weight: 1,
        idempotent: false,
        trace: trace(headers),
    };
    // The dispatcher answers in time by itself. Should it not, the caller still hears from us before its own timeout;
    // dropping the future cancels the run, which may have happened.
    let outcome = match tokio::time::timeout_at(answer_by + margin / 2, app.dispatch.call(call)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(CallError::from(ErrorCode::Timeout)),
    };
    match outcome {
        Ok(answer) => answered(answer, execution, record, held),
        Err(error) => failed(&error, execution, record),
    }
}

/// Everything before the dispatcher.
async fn admit<D, B>(
    app: &App<D>,
    headers: &HeaderMap,
    body: B,
    arrived: Instant,
    held: &mut Held,
) -> Result<(Run, Option<Bytes>), (NoCall, Rest<B>)>
where
    D: Dispatch,
    B: Body<Data = Bytes> + Unpin,
{
    if let Err(why) = authorize(app, headers).and_then(|()| check_content_type(headers)) {
        return Err((why, Rest::Unread(body)));
    }
    if let Err(full) = held.grow(REQUEST_COST, Duration::ZERO).await {
        return Err((overloaded(full).into(), Rest::Unread(body)));
    }
    let bounds = Bounds {
        max: MAX_JSON_BYTES,
        idle: app.config.body_idle_timeout.get(),
        // Whatever `timeout_ms` the JSON will say, it is no later than this.
        until: arrived + Duration::from_millis(MAX_TIMEOUT_MS),
    };
    let json = match ingest::read(body, held, bounds).await {
        Ok(json) => json,
        Err((error, body)) => {
            let why = match &error {
                IngestError::TooLarge(_) => refuse(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("{error}: at most {MAX_BODY_BYTES} bytes of body (before base64) are taken"),
                ),
                IngestError::Full(full) => overloaded(*full).into(),
                // 408 would fit better, but existing callers know no other than these five.
                _ => refuse(StatusCode::BAD_REQUEST, error.to_string()),
            };
            let rest = match error {
                IngestError::TooLarge(_) | IngestError::Full(_) => Rest::Unread(body),
                IngestError::Idle(_) | IngestError::TooSlow | IngestError::Broken => Rest::Stalled,
            };
            return Err((why, rest));
        }
    };
    let routing = [text(headers, "x-alga-tenant"), text(headers, "x-alga-extension")];
    if json.len() <= PARSE_ELSEWHERE {
        return parse(&json, routing).map_err(|why| (why, Rest::Nothing));
    }
    let routing = routing.map(|header| header.map(str::to_owned));
    let parsed = tokio::task::spawn_blocking(move || {
        let [tenant, extension] = &routing;
        parse(&json, [tenant.as_deref(), extension.as_deref()])
    });
    match parsed.await {
        Ok(parsed) => parsed.map_err(|why| (why, Rest::Nothing)),
        Err(_) => Err((CallError::from(ErrorCode::Internal).into(), Rest::Nothing)),
    }
}

pub(crate) fn overloaded(full: super::budget::Full) -> CallError {
    CallError::new(ErrorCode::Overloaded, full.to_string())
}

fn authorize<D: Dispatch>(app: &App<D>, headers: &HeaderMap) -> Result<(), NoCall> {
    if token_is_valid(app, headers) {
        return Ok(());
    }
    let text = format!("the header {TOKEN_HEADER} must hold the value of RUNNER_SERVICE_TOKEN");
    Err(refuse(StatusCode::UNAUTHORIZED, text))
}

/// Whether a request may ask for what only other services may.
pub(crate) fn token_is_valid<D>(app: &App<D>, headers: &HeaderMap) -> bool {
    let Some(tokens) = &app.tokens else { return true };
    let mut sent = headers.get_all(TOKEN_HEADER).iter().peekable();
    match app.config.auth {
        ExecuteAuth::Off => true,
        ExecuteAuth::IfSent if sent.peek().is_none() => true,
        // Each of several must match: which one another program looked at is anybody's guess.
        _ => sent.peek().is_some() && sent.all(|value| tokens.matches(value.as_bytes())),
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), NoCall> {
    let essence = text(headers, CONTENT_TYPE.as_str())
        .and_then(|value| value.split(';').next())
        .map(|essence| essence.trim().to_ascii_lowercase());
    match essence.as_deref() {
        Some("application/json") => Ok(()),
        Some(other) if other.starts_with("application/") && other.ends_with("+json") => Ok(()),
        _ => Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send content-type: application/json")),
    }
}

fn parse(json: &[u8], [tenant, extension]: [Option<&str>; 2]) -> Result<(Run, Option<Bytes>), NoCall> {
    // Parsed JSON of many small values takes ten times its bytes. Only the body may be large, and it is one string.
    if json.len() > MAX_JSON_REST && json.len() - longest_string(json) > MAX_JSON_REST {
        let text = format!("all of the JSON but http.body_b64 is over {MAX_JSON_REST} bytes");
        return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let request: ExecuteRequest = serde_json::from_slice(json).map_err(|error| {
        let status = if error.is_data() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
        refuse(status, format!("the request is not as it must be: {}", without_value(&error.to_string())))
    })?;
    Ok(request.into_run(RoutingHeaders { tenant, extension })?)
}

/// serde_json quotes a string of the wrong type; it may be a secret that stands in the wrong place.
fn without_value(message: &str) -> String {
    match (message.find(" \""), message.rfind("\", expected")) {
        (Some(from), Some(to)) if from < to => {
            format!(
                "{}{}",
                message.get(..from).unwrap_or_default(),
                message.get(to + 1..).unwrap_or_default()
            )
        }
        _ => message.to_owned(),
    }
}

/// The length of the longest string in a JSON text; of something that is no JSON, some number.
fn longest_string(json: &[u8]) -> usize {
    let (mut longest, mut start, mut escaped) = (0, None, false);
    for (at, byte) in json.iter().enumerate() {
        match (byte, start) {
            (b'"', None) => start = Some(at),
            (b'"', Some(from)) if !escaped => {
                longest = longest.max(at - from);
                start = None;
            }
            _ => {}
        }
        escaped = start.is_some() && *byte == b'\\' && !escaped;
    }
    longest
}

/// How much earlier than the caller's timeout the answer leaves: the larger of 50 ms and 2 %. Half of a timeout that
/// leaves no room for that: such a call still gets the other half.
pub(crate) fn margin(timeout: Duration) -> Duration {
    Duration::from_millis(50).max(timeout / 50).min(timeout / 2)
}

/// The context for the worker: this span's, or, where nothing is exported here, the caller's as it came.
pub(crate) fn trace(headers: &HeaderMap) -> Vec<(String, String)> {
    let own = telemetry::inject(&tracing::Span::current());
    if !own.is_empty() {
        return own;
    }
    // The standard asks for 512 characters of tracestate to be passed on; what is longer is somebody's mistake.
    ["traceparent", "tracestate"]
        .into_iter()
        .filter_map(|name| {
            Some((name.to_owned(), text(headers, name).filter(|v| v.len() <= 512)?.to_owned()))
        })
        .collect()
}

/// A header as text; one that is no visible ASCII counts as absent.
pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::super::sealing::Sealer;
    use super::*;

    #[test]
    fn the_answer_leaves_before_the_callers_timeout() {
        for (timeout, before) in [(30_000, 600), (1_000, 50), (300_000, 6_000), (60, 30), (1, 0)] {
            let ms = margin(Duration::from_millis(timeout)).as_millis();
            assert_eq!(ms, before, "timeout of {timeout} ms");
        }
    }

    #[test]
    fn the_longest_string_is_found_past_escapes() {
        assert_eq!(longest_string(br#"{"a":"xyz","b\"c":["\\","12345678"]}"#), 9);
        assert_eq!(longest_string(br#"{"a":"#), 2);
        assert_eq!(longest_string(b""), 0);
    }

    #[test]
    fn json_of_many_small_values_is_refused_before_it_is_parsed() {
        let many = format!("{{\"providers\":[{}\"\"]}}", "\"\",".repeat(1_000_000));
        let Err(NoCall::Refused(Refusal(status, _))) = parse(many.as_bytes(), [None, None]) else { panic!() };
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_not_repeated() {
        let error = serde_json::from_str::<u64>(r#""hunter2 \", expected""#).unwrap_err().to_string();
        let shown = without_value(&error);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.starts_with("invalid type: string, expected u64"), "{shown}");
        assert_eq!(without_value("missing field `http` at line 1"), "missing field `http` at line 1");
    }

    struct Silent;

    impl Dispatch for Silent {
        fn call(&self, _call: Call) -> impl Future<Output = crate::dispatch::CallResult> + Send {
            std::future::pending()
        }
        fn fleet(&self) -> crate::http::Fleet {
            crate::http::Fleet { nats_connected: true, workers: 1 }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dispatcher_that_does_not_answer_cannot_keep_the_caller_waiting() {
        use http_body_util::{BodyExt as _, Full};
        use longshore_service::metrics::Metrics;

        let env = std::collections::BTreeMap::<String, String>::new();
        let config = crate::http::HttpConfig::load(&env, ["shim".to_owned()]).unwrap();
        let metrics = crate::http::HttpMetrics::register(&Metrics::new("shim"));
        let app = App::new(Arc::new(Silent), config, metrics, Sealer::default());
        let json = serde_json::json!({
            "context": {"tenant_id": "t", "extension_id": "e", "content_hash": "ab".repeat(32)},
            "http": {"method": "GET", "path": "/"}, "limits": {"timeout_ms": 300},
        });
        let request = Request::post("/v1/execute")
            .header("content-type", "application/json")
            .header("x-alga-tenant", "t")
            .header("x-alga-extension", "e")
            .body(Full::new(Bytes::from(json.to_string())))
            .unwrap();
        let started = Instant::now();
        let response = execute(app, request).await;
        assert_eq!(started.elapsed().as_millis(), 275, "half of the margin before the caller's timeout");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let envelope: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(envelope["error"], "execute_failed: timeout");
    }
}
