//! `cap:http.fetch`, by two doors: `http.fetch` and `wasi:http/outgoing-handler`. Both are charged as host calls and as
//! outbound requests, and go through one egress policy (`longshore-egress`), which has the limits of size and time.
//! Records URL, headers and body of request and answer, without credentials, and why a request was refused.
//!
//! `{{secret:name}}` in a header or in the body of `http.fetch` is replaced on the way out, for hosts that the secret
//! names (`longshore-secrets`) and for guests that may have secrets (`cap:secrets.get`).

use std::sync::Arc;

use ::http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, PROXY_AUTHORIZATION, SET_COOKIE};
use ::http::uri::Scheme;
use ::http::{Method, Request, Response, Uri};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use longshore_egress::{EgressError, HttpErrorKind, RequestBody, SendOptions, Who};
use longshore_proto::Capability;
use longshore_secrets::HandleError;
use wasmtime_wasi_http::{Error, RequestOptions, Result as HttpResult, WasiBody, WasiHttpCtx, WasiHttpHooks};

use super::bindings::alga::extension::http::Host;
use super::bindings::alga::extension::types::{HttpError, HttpHeader, HttpRequest, HttpResponse};
use super::call::{HostCall, wit_error};
use super::recorded::{Fields, Hidden, Recorded, Room, recorded};
use super::scope::RunScope;
use super::taped::http::{Door, Sending};
use super::{RunState, host_call};
use crate::engine::meter::Stop;

wit_error!(HttpError);
recorded!(
    HttpRequest { method, url, headers, body }
    HttpResponse { status, headers, body }
);

impl Recorded for HttpHeader {
    fn record(&self, room: &mut Room<'_>) {
        header_shown(&self.name, &self.value, room);
    }
}

/// Headers whose value is a credential, whoever made it.
fn header_shown(name: &str, value: &str, room: &mut Room<'_>) {
    let secret = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE];
    let secret = secret.iter().map(HeaderName::as_str).chain(["x-api-key", "x-auth-token"]);
    match secret.into_iter().any(|n| n.eq_ignore_ascii_case(name)) {
        true => (name, Hidden).record(room),
        false => (name, value).record(room),
    }
}

/// Why `http.fetch` has no answer.
enum FetchError {
    Egress(EgressError),
    Method,
    Header,
    Handle(HandleError),
    /// A handle, and the install grants no secrets.
    NoSecrets,
    /// A handle in a request that is not encrypted.
    Cleartext,
}

impl From<EgressError> for FetchError {
    fn from(error: EgressError) -> Self {
        Self::Egress(error)
    }
}

impl FetchError {
    fn http_error(&self) -> HttpError {
        match self {
            Self::Method => HttpError::InvalidUrl,
            Self::Header => HttpError::Transport,
            Self::Handle(_) | Self::NoSecrets | Self::Cleartext => HttpError::NotAllowed,
            Self::Egress(error) => match error.http_error() {
                HttpErrorKind::InvalidUrl => HttpError::InvalidUrl,
                HttpErrorKind::NotAllowed => HttpError::NotAllowed,
                HttpErrorKind::Transport => HttpError::Transport,
                HttpErrorKind::Internal => HttpError::Internal,
            },
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Method => "the method is no HTTP method".to_owned(),
            Self::Header => "a header is none, or is none with its secret".to_owned(),
            Self::Handle(error) => error.to_string(),
            Self::Cleartext => "a secret leaves over https only".to_owned(),
            Self::NoSecrets => "a secret's handle needs cap:secrets.get".to_owned(),
            // Without its sources: they may name addresses of the operator's network.
            Self::Egress(error) => error.to_string(),
        }
    }
}

impl RunScope {
    fn who(&self) -> Who<'_> {
        Who { tenant: &self.run.context.tenant, install_rules: self.egress.as_ref() }
    }

    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, FetchError> {
        let request = self.outgoing(request)?;
        let options = SendOptions {
            deadline: self.request_deadline(),
            connect_timeout: None,
            first_byte_timeout: None,
            between_bytes_timeout: None,
        };
        let (parts, body) = self.backends.egress.send(&self.who(), request, options).await?.into_parts();
        let headers = parts.headers.iter().map(|(name, value)| HttpHeader {
            name: name.as_str().to_owned(),
            // As the existing platform: a value that is no text is empty (interop 1.3).
            value: value.to_str().unwrap_or_default().to_owned(),
        });
        let headers = headers.collect();
        let body = body.collect().await?;
        Ok(HttpResponse { status: parts.status.as_u16(), headers, body: Some(body.into()) })
    }

    /// The request with the values of its handles. What is wrong is told before anything is sent.
    fn outgoing(&self, request: HttpRequest) -> Result<Request<RequestBody>, FetchError> {
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| FetchError::Method)?;
        let uri = longshore_egress::parse_url(&request.url)?;
        let mut outgoing = Request::builder().method(method).uri(uri.clone());
        for header in request.headers {
            let value = self.with_secrets(header.value.into_bytes(), &uri)?;
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| FetchError::Header)?;
            let mut value = HeaderValue::from_maybe_shared(value).map_err(|_| FetchError::Header)?;
            value.set_sensitive(true);
            outgoing = outgoing.header(name, value);
        }
        let body = self.with_secrets(request.body.unwrap_or_default(), &uri)?;
        outgoing.body(longshore_egress::full(body)).map_err(|_| FetchError::Header)
    }

    fn with_secrets(&self, text: Vec<u8>, uri: &Uri) -> Result<Bytes, FetchError> {
        let encrypted = uri.scheme() == Some(&Scheme::HTTPS);
        let default = if encrypted { 443 } else { 80 };
        let host = format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(default));
        match self.secrets.expand(&text, &host) {
            Ok(None) => Ok(text.into()),
            // Whether there is such a secret is not said to a guest that may have none.
            _ if !self.run.capabilities.has(Capability::SecretsGet) => Err(FetchError::NoSecrets),
            // The setting that lets guests reach the developer's own machine, which has no certificate.
            Ok(Some(_)) if !encrypted && !self.backends.egress.allows_private() => Err(FetchError::Cleartext),
            Ok(Some(expanded)) => Ok(Bytes::copy_from_slice(&expanded)),
            Err(error) => Err(FetchError::Handle(error)),
        }
    }
}

impl Host for RunState {
    async fn fetch(&mut self, request: HttpRequest) -> wasmtime::Result<Result<HttpResponse, HttpError>> {
        self.scope.charge_outbound()?;
        host_call!(
            self, "http.fetch", HttpFetch, args: { request }, denied: Err(HttpError::NotAllowed),
            |run| run.fetch(request).await.map_err(|error| {
                run.record.note(error.words());
                if let FetchError::Egress(error) = &error {
                    run.egress_failed(error);
                }
                error.http_error()
            })
        )
    }
}

impl RunScope {
    /// For the operator: a guest that asks for what nobody has is nothing to warn of.
    fn egress_failed(&self, error: &EgressError) {
        let cause = longshore_service::errors::chain(error).to_string();
        tracing::debug!(error = %self.record.redact(&cause), "an outbound request failed");
    }

    /// Charges a request, if the run may send any: a denied one costs a host call only.
    fn charge_outbound(&self) -> Result<(), Stop> {
        let granted = self.run.capabilities.has(Capability::HttpFetch);
        if granted && !self.record.charge_outbound_request() { Err(Stop::OutboundRequests) } else { Ok(()) }
    }
}

/// `wasi:http/outgoing-handler` of one run.
pub(super) struct Outgoing {
    scope: Arc<RunScope>,
    door: Door,
}

impl Outgoing {
    pub(super) fn new(scope: &Arc<RunScope>) -> Self {
        Self { scope: Arc::clone(scope), door: Door::default() }
    }

    /// What the run's tape has to do with a request.
    pub(super) fn door(&mut self) -> &mut Door {
        &mut self.door
    }
}

type Answer = (Response<WasiBody>, Box<dyn Future<Output = HttpResult<()>> + Send>);

impl WasiHttpHooks for Outgoing {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        super::wasi::BODY_WRITE_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        super::wasi::BODY_WRITE_BYTES
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = HttpResult<()>> + Send>,
    ) -> Box<dyn Future<Output = HttpResult<Answer>> + Send> {
        let scope = Arc::clone(&self.scope);
        let options = options.unwrap_or_default();
        let begun = scope.charge_outbound().and_then(|()| {
            HostCall::begin(Arc::clone(&scope), "wasi:http.handle", Capability::HttpFetch, |object| {
                head_shown(&request, object);
            })
        });
        let paid = begun.as_ref().map(HostCall::is_granted).map_err(|stop| *stop);
        let (answer_to, beside) = match self.door.send(&scope, paid, &request, &options) {
            Sending::Live(answer_to, beside) => (answer_to, beside),
            // What came of it is asked of the trace, not of this.
            Sending::Played => return Box::new(std::future::pending()),
        };
        Box::new(async move {
            let mut call = begun.map_err(|stop| {
                // This interface has no way to end the run; the meter has.
                scope.meter.stop(stop);
                Error::HttpRequestDenied
            })?;
            if !call.is_granted() {
                call.publish("denied", |room| room.null());
                beside.end("denied", None);
                return Err(Error::HttpRequestDenied);
            }
            let options = SendOptions {
                deadline: scope.request_deadline(),
                connect_timeout: options.connect_timeout,
                first_byte_timeout: options.first_byte_timeout,
                between_bytes_timeout: options.between_bytes_timeout,
            };
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            let span = call.span();
            let who = scope.who();
            let sent = scope.backends.egress.send(&who, request, options);
            match tracing::Instrument::instrument(sent, span).await {
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    call.publish("ok", |room| room.object(|object| object.number("status", status.into())));
                    beside.end("ok", Some(status));
                    let done: Box<dyn Future<Output = HttpResult<()>> + Send> = Box::new(async { Ok(()) });
                    Ok((answer.map(|body| body.map_err(wasi_error).boxed_unsync()), done))
                }
                Err(error) => {
                    answer_to.fail(&error.to_string());
                    call.note(error.to_string());
                    beside.end("failed", None);
                    scope.egress_failed(&error);
                    let error = wasi_error(error);
                    call.publish("failed", |room| {
                        room.object(|object| object.text("error", &error.to_string()))
                    });
                    Err(error)
                }
            }
        })
    }
}

fn head_shown(request: &Request<WasiBody>, object: &mut Fields<'_, '_>) {
    object.text("method", request.method().as_str());
    object.text("url", &request.uri().to_string());
    object.field("headers", |room| {
        let headers: Vec<_> = request.headers().iter().collect();
        room.list(headers.into_iter(), |(name, value), room| {
            header_shown(name.as_str(), &String::from_utf8_lossy(value.as_bytes()), room);
        });
    });
}

/// The same refusals in the words of `wasi:http`.
fn wasi_error(error: EgressError) -> Error {
    use longshore_egress::{Part, Refusal, Stage, Wait};
    match error {
        EgressError::InvalidUrl(_) => Error::HttpRequestUriInvalid,
        EgressError::InvalidHeader(_) => Error::HttpProtocolError,
        EgressError::NotAllowed(Refusal::Method) => Error::HttpRequestMethodInvalid,
        EgressError::NotAllowed(Refusal::PrivateAddress) => Error::DestinationIpProhibited,
        EgressError::NotAllowed(_) => Error::HttpRequestDenied,
        EgressError::TooLarge { what, limit } => {
            let (bytes, short) = (u64::try_from(limit).ok(), u32::try_from(limit).ok());
            match what {
                Part::RequestHeaders => Error::HttpRequestHeaderSectionSize(short),
                Part::RequestBody => Error::HttpRequestBodySize(bytes),
                Part::ResponseHeaders => Error::HttpResponseHeaderSectionSize(short),
                Part::ResponseBody => Error::HttpResponseBodySize(bytes),
            }
        }
        EgressError::Connect { stage: Stage::Resolve, .. } => {
            Error::DnsError { rcode: None, info_code: None }
        }
        EgressError::Connect { stage: Stage::Tcp, .. } => Error::ConnectionRefused,
        EgressError::Connect { stage: Stage::Tls, .. } => Error::TlsProtocolError,
        EgressError::Timeout { what: Wait::Slot, .. } => Error::ConnectionLimitReached,
        EgressError::Timeout { what: Wait::Connect, .. } => Error::ConnectionTimeout,
        EgressError::Timeout { what: Wait::FirstByte | Wait::Total, .. } => Error::HttpResponseTimeout,
        EgressError::Timeout { what: Wait::BetweenBytes, .. } => Error::ConnectionReadTimeout,
        EgressError::Transport(_) => Error::ConnectionTerminated,
        EgressError::RequestBody(_) => Error::HttpProtocolError,
        EgressError::Body(_) => Error::HttpResponseIncomplete,
    }
}

/// A guest's own limits of `wasi:http`.
pub(super) fn context() -> WasiHttpCtx {
    let mut context = WasiHttpCtx::new();
    context.set_field_size_limit(super::wasi::FIELDS_BYTES);
    context
}
