//! One request of `/api/ext`, from its header to its answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Body;
use longshore_proto::install::Install;
use longshore_proto::limits::MAX_HEADER_BYTES;
use longshore_proto::manifest::Endpoint;
use longshore_proto::{CallError, ErrorCode, ExecutionId, RunHttp, TenantId};
use longshore_registry::{Lookup, RegistryError};
use longshore_service::errors::chain;
use longshore_service::telemetry;
use tokio::time::Instant;
use tracing::Instrument as _;
use uuid::Builder;

use super::endpoints::{self, METHODS, Match};
use super::reply::{REQUEST_ID, ReplyBody, Replying};
use super::target::{BadTarget, Target};
use super::{Gateway, caller, runs};
use crate::dispatch::{Answer, Call};
use crate::http::Dispatch;
use crate::http::budget::{Held, REQUEST_COST};
use crate::http::execute::{margin, overloaded, text, trace};
use crate::http::ingest::{self, Bounds, IngestError, Rest};
use crate::http::record::Record;

/// The longest id that a caller may give its request.
const MAX_REQUEST_ID: usize = 128;

/// What comes out of a request that is answered.
enum Outcome {
    /// By the extension; the flag: the call may run twice.
    Answer(Answer, Held, bool),
    /// Here: these are the path's methods.
    Options(Vec<&'static str>),
}

/// Why there is no answer.
struct Refused<B> {
    error: CallError,
    /// What is left of the request's body.
    rest: Rest<B>,
    /// The call may run twice.
    safe: bool,
}

/// What a request has become before its body is read.
struct Admitted<'r> {
    install: Arc<Install>,
    found: Match<'r>,
    target: Target,
}

/// Before the body is read a request is a call or answered here.
enum Admission<'r> {
    Call(Admitted<'r>),
    Options(Vec<&'static str>),
}

/// Answers one request.
pub(crate) async fn handle<D, B>(gateway: Arc<Gateway<D>>, request: Request<B>) -> Response<ReplyBody>
where
    D: Dispatch,
    B: Body<Data = Bytes> + Unpin,
{
    let arrived = Instant::now();
    let execution = ExecutionId::random();
    let (head, body) = request.into_parts();
    let span = tracing::info_span!("api_ext", otel.kind = "server", %execution);
    telemetry::set_parent(&span, |name| text(&head.headers, name).map(str::to_owned));
    // On the heap, as for `/v1/execute`.
    Box::pin(reply(&gateway, &head, body, arrived, execution).instrument(span)).await
}

async fn reply<D, B>(
    gateway: &Gateway<D>,
    head: &Parts,
    body: B,
    arrived: Instant,
    execution: ExecutionId,
) -> Response<ReplyBody>
where
    D: Dispatch,
    B: Body<Data = Bytes> + Unpin,
{
    let request_id = request_id(&head.headers);
    let mut record = Record::open(gateway.metrics.0.clone(), arrived, execution);
    record.request(&request_id);
    let head_only = head.method == http::Method::HEAD;
    let mut replying = Replying { execution, request_id, record, head_only };
    if let Some(permission) = gateway.cors.preflight(&head.method, &head.headers) {
        let mut response = replying.empty(None);
        response.headers_mut().extend(permission);
        return response;
    }
    let mut response = match serve(gateway, head, body, arrived, &mut replying).await {
        Ok(Outcome::Answer(answer, held, safe)) => {
            replying.answered(answer, &gateway.answer_headers, held, safe)
        }
        Ok(Outcome::Options(methods)) => replying.empty(Some(&methods)),
        Err(Refused { error, rest, safe }) => {
            let finished = rest.finish(&head.headers, 2 * gateway.max_body).await;
            let mut response = replying.failed(&error, safe);
            if !finished && head.version <= Version::HTTP_11 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    };
    gateway.cors.decorate(&head.headers, response.headers_mut());
    response
}

/// The caller's id for its request, if it is one that can stand in a log line and a header, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let good =
        |id: &&str| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    match text(headers, REQUEST_ID).filter(good) {
        Some(id) => id.to_owned(),
        None => Builder::from_random_bytes(rand::random()).into_uuid().to_string(),
    }
}

async fn serve<D, B>(
    gateway: &Gateway<D>,
    head: &Parts,
    body: B,
    arrived: Instant,
    replying: &mut Replying,
) -> Result<Outcome, Refused<B>>
where
    D: Dispatch,
    B: Body<Data = Bytes> + Unpin,
{
    let admitted = match admit(gateway, head, &mut replying.record).await {
        Ok(Admission::Call(admitted)) => admitted,
        Ok(Admission::Options(methods)) => return Ok(Outcome::Options(methods)),
        Err(error) => return Err(Refused { error, rest: Rest::Unread(body), safe: false }),
    };
    let Admitted { install, found, target } = admitted;
    let http = RunHttp {
        method: found.method.to_owned(),
        url: target.url(head.uri.query()),
        headers: guest_headers(gateway, head, &install, &replying.request_id),
        scheme: None,
        authority: None,
    };
    let safe = found.idempotent || http.is_safe_method();
    let refused = |error, rest| Refused { error, rest, safe };
    let mut run =
        runs::run_of(&install, replying.execution, http, replying.request_id.clone(), gateway.timeout);
    if let Err(error) = gateway.app.sealer.seal(&mut run) {
        return Err(refused(error, Rest::Unread(body)));
    }
    let bytes = run.header_bytes();
    if bytes > MAX_HEADER_BYTES {
        let words = format!(
            "the request's header and the install's settings are {bytes} bytes together; {MAX_HEADER_BYTES} are allowed"
        );
        return Err(refused(CallError::new(ErrorCode::HeadersTooLarge, words), Rest::Unread(body)));
    }
    let timeout = Duration::from_millis(run.limits.timeout_ms);
    let margin = margin(timeout);
    let answer_by = arrived + (timeout - margin);
    let mut held = gateway.app.budget.open(install.tenant.as_str());
    if let Err(full) = held.grow(REQUEST_COST, Duration::ZERO).await {
        return Err(refused(overloaded(full), Rest::Unread(body)));
    }
    let body = match take_body(gateway, &run.http.method, body, answer_by, &mut held).await {
        Ok(body) => body,
        Err((error, rest)) => {
            held.set(0);
            return Err(refused(error, rest));
        }
    };
    // A body may be as slow as its sender likes: what was disabled or removed meanwhile must not run any more.
    if body.is_some()
        && let Err(error) = still_there(gateway, &install).await
    {
        held.set(0);
        return Err(refused(error, Rest::Nothing));
    }
    if answer_by <= Instant::now() {
        let message = format!("the request took {} ms to arrive", arrived.elapsed().as_millis());
        return Err(refused(CallError::new(ErrorCode::Overloaded, message), Rest::Nothing));
    }
    held.set(REQUEST_COST + body.as_ref().map_or(0, Bytes::len));
    let call = Call {
        execution: replying.execution,
        pool: install.pool.clone(),
        run,
        body,
        idempotent: found.idempotent,
        answer_by: answer_by.into_std(),
        weight: install.weight,
        trace: trace(&head.headers),
    };
    // The dispatcher answers in time by itself; see `/v1/execute`.
    let outcome = match tokio::time::timeout_at(answer_by + margin / 2, gateway.app.dispatch.call(call)).await
    {
        Ok(outcome) => outcome,
        Err(_) => Err(CallError::from(ErrorCode::Timeout)),
    };
    match outcome {
        Ok(answer) => Ok(Outcome::Answer(answer, held, safe)),
        Err(error) => Err(refused(error, Rest::Nothing)),
    }
}

/// Who calls what, and whether it may: everything that the header decides.
async fn admit<'r, D: Dispatch>(
    gateway: &Gateway<D>,
    head: &'r Parts,
    record: &mut Record,
) -> Result<Admission<'r>, CallError> {
    let principal = caller::authenticate(&*gateway.access, gateway.dev_tenant.as_ref(), head).await?;
    let tenant = &principal.tenant;
    record.name(tenant.as_str(), "");
    caller::check_claims(head, tenant)?;
    caller::check_method(&principal, &head.method)?;
    let target = Target::parse(head.uri.path()).map_err(|bad| match bad {
        BadTarget::Reference => not_found(),
        BadTarget::TooLong | BadTarget::Segment | BadTarget::Text => {
            CallError::new(ErrorCode::InvalidRequest, bad.to_string())
        }
    })?;
    let install = find(gateway, tenant, &target.reference).await?;
    record.name(tenant.as_str(), install.extension.as_str());
    caller::check_extension(&principal, &install)?;
    if !install.enabled {
        return Err(CallError::new(ErrorCode::ExtensionNotAvailable, "the install is disabled"));
    }
    gateway.rate.take(tenant, Some(&install.extension)).map_err(rate_limited)?;
    let method = head.method.as_str();
    let declared = declared(gateway, &install).await?;
    let found =
        METHODS.contains(&method).then(|| endpoints::find(&declared, method, &target.segments)).flatten();
    match found {
        Some(found) => Ok(Admission::Call(Admitted { install, found, target })),
        None if method == "OPTIONS" => match endpoints::methods(&declared, &target.segments) {
            none if none.is_empty() && gateway.enforce => Err(no_endpoint(method, &target)),
            none if none.is_empty() => Ok(Admission::Options(METHODS.to_vec())),
            methods => Ok(Admission::Options(methods)),
        },
        None if !gateway.enforce && METHODS.contains(&method) => {
            let found = Match { method, idempotent: false };
            Ok(Admission::Call(Admitted { install, found, target }))
        }
        None => Err(no_endpoint(method, &target)),
    }
}

fn not_found() -> CallError {
    CallError::new(ErrorCode::ExtensionNotFound, "the tenant has no such extension installed")
}

fn no_endpoint(method: &str, target: &Target) -> CallError {
    let words = format!("the extension's manifest declares no endpoint {method} {}", target.path);
    CallError::new(ErrorCode::EndpointNotFound, words)
}

fn rate_limited(wait: Duration) -> CallError {
    let seconds = u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1);
    let mut error =
        CallError::new(ErrorCode::RateLimited, format!("too many calls: come back in {seconds} s"));
    error.retry_after_s = Some(seconds);
    error
}

async fn find<D: Dispatch>(
    gateway: &Gateway<D>,
    tenant: &TenantId,
    reference: &str,
) -> Result<Arc<Install>, CallError> {
    // Who asks for names at random must not ask a platform each time.
    gateway.rate.look(tenant, None).map_err(rate_limited)?;
    match gateway.registry.find(tenant, reference).await {
        // The question named the tenant; should an answer be about another's, it is none.
        Ok(Lookup::Found(install)) if install.tenant == *tenant => Ok(install),
        Ok(Lookup::Found(_) | Lookup::Absent) => {
            gateway.rate.take(tenant, None).map_err(rate_limited)?;
            Err(not_found())
        }
        Err(error) => {
            tracing::warn!(%tenant, error = %chain(&error), "an install cannot be looked up");
            Err(match error {
                RegistryError::NotReady(_) | RegistryError::NotKept(_) | RegistryError::Upstream(_) => {
                    CallError::new(
                        ErrorCode::RegistryUnavailable,
                        "installs cannot be looked up now: try again",
                    )
                }
                RegistryError::Damaged(_) => {
                    CallError::new(ErrorCode::Internal, "the install cannot be read")
                }
            })
        }
    }
}

/// Whether an install that was found at the beginning of a request may still be called. A registry that does not answer now has not said no.
async fn still_there<D: Dispatch>(gateway: &Gateway<D>, install: &Install) -> Result<(), CallError> {
    match gateway.registry.find(&install.tenant, &install.install_id).await {
        Ok(Lookup::Absent) => Err(not_found()),
        Ok(Lookup::Found(now)) if now.extension == install.extension && !now.enabled => {
            Err(CallError::new(ErrorCode::ExtensionNotAvailable, "the install is disabled"))
        }
        Ok(Lookup::Found(_)) | Err(_) => Ok(()),
    }
}

/// What the bundle declares, as far as it matters.
async fn declared<'i, D: Dispatch>(
    gateway: &Gateway<D>,
    install: &'i Install,
) -> Result<Cow<'i, [Endpoint]>, CallError> {
    match (&install.version.endpoints, &gateway.manifests) {
        (Some(endpoints), _) => Ok(Cow::Borrowed(endpoints)),
        (None, _) if !gateway.enforce => Ok(Cow::Borrowed(&[])),
        (None, Some(manifests)) => {
            let hash = install.version.content_hash;
            Ok(Cow::Owned(manifests.endpoints(&install.tenant, &install.extension, hash).await?))
        }
        (None, None) => {
            let words = "this gateway cannot read the bundle's endpoints: it needs BUNDLE_STORE_BASE, or LONGSHORE_GATEWAY_ENFORCE_ENDPOINTS=false";
            Err(CallError::new(ErrorCode::RegistryUnavailable, words))
        }
    }
}

/// The header as the extension gets it.
fn guest_headers<D: Dispatch>(
    gateway: &Gateway<D>,
    head: &Parts,
    install: &Install,
    request_id: &str,
) -> Vec<(String, String)> {
    let mut headers = gateway.request_headers.of_request(&head.headers);
    for (name, value) in [
        (REQUEST_ID, request_id),
        ("x-alga-tenant", install.tenant.as_str()),
        ("x-alga-extension", install.extension.as_str()),
    ] {
        headers.push((name.to_owned(), value.to_owned()));
    }
    headers
}

/// The request's body: none where there is none, and none for GET and HEAD, whose bodies mean nothing and which the existing gateways
/// do not pass on.
async fn take_body<D, B>(
    gateway: &Gateway<D>,
    method: &str,
    body: B,
    until: Instant,
    held: &mut Held,
) -> Result<Option<Bytes>, (CallError, Rest<B>)>
where
    D: Dispatch,
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() || matches!(method, "GET" | "HEAD") {
        return Ok(None);
    }
    let bounds = Bounds { max: gateway.max_body, idle: gateway.app.config.body_idle_timeout.get(), until };
    ingest::read(body, held, bounds).await.map(Some).map_err(|(error, body)| {
        let code = match &error {
            IngestError::TooLarge(_) => ErrorCode::PayloadTooLarge,
            IngestError::Full(_) => ErrorCode::Overloaded,
            IngestError::Idle(_) | IngestError::TooSlow | IngestError::Broken => ErrorCode::InvalidRequest,
        };
        let rest = match error {
            IngestError::TooLarge(_) | IngestError::Full(_) => Rest::Unread(body),
            IngestError::Idle(_) | IngestError::TooSlow | IngestError::Broken => Rest::Stalled,
        };
        (CallError::new(code, error.to_string()), rest)
    })
}
