//! Calls of the platform's own routes on behalf of a guest (interop 6.4).

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use longshore_service::upstream::{Upstream, UpstreamError};
use url::Url;

use crate::api::{MAX_ANSWER_BYTES, MAX_REQUEST_BYTES};
use crate::base::{self, BaseError};
use crate::route;
use crate::segment::segment;
use crate::{PlatformError, Problem};

/// Longest header value that is sent, in bytes.
const MAX_HEADER_BYTES: usize = 4 * 1024;

/// The proxy. Clones share its connections.
#[derive(Clone)]
pub struct UiProxy {
    base: String,
    timeout: Duration,
    upstream: Upstream,
}

/// One call. The ids say on whose behalf; they are the call's own and not the guest's to choose.
#[derive(Clone, Copy, Default)]
pub struct UiProxyCall<'a> {
    /// The tenant's id.
    pub tenant: &'a str,
    /// The extension's id.
    pub extension: &'a str,
    /// The install's id.
    pub install: Option<&'a str>,
    /// The installed version's id.
    pub version: Option<&'a str>,
    /// The caller's request id.
    pub request_id: Option<&'a str>,
    /// The user's id, when a user called.
    pub user_id: Option<&'a str>,
    /// The user's address.
    pub user_email: Option<&'a str>,
    /// The install's secret named `api_key`.
    pub api_key: Option<&'a str>,
    /// What the guest asked for: a path, with a query or without.
    pub route: &'a str,
    /// What the guest sends: POST; GET without.
    pub payload: Option<&'a [u8]>,
}

impl std::fmt::Debug for UiProxyCall<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UiProxyCall")
            .field("tenant", &self.tenant)
            .field("extension", &self.extension)
            .field("route", &self.route)
            .finish_non_exhaustive()
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum UiProxyError {
    /// Nothing was sent: the route is refused.
    #[error("the route {0}")]
    Route(&'static str),
    /// Nothing was sent: the payload is over 1 MiB.
    #[error("the payload is over {MAX_REQUEST_BYTES} bytes")]
    Payload,
    /// Nothing was sent: a value, named by its header, does not fit into one, or the extension's id into a path.
    #[error("the value for {0} cannot be sent")]
    Value(&'static str),
    /// What became of it.
    #[error(transparent)]
    Platform(#[from] PlatformError),
}

/// `proxy-error` of the guest interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyFault {
    /// 404.
    RouteNotFound,
    /// 401, 403 or 429.
    Denied,
    /// Any other 4xx, and routes that are refused here.
    BadRequest,
    /// Everything else.
    Internal,
}

impl From<&UiProxyError> for ProxyFault {
    fn from(error: &UiProxyError) -> Self {
        match error {
            UiProxyError::Route(_) | UiProxyError::Payload => Self::BadRequest,
            UiProxyError::Value(_) => Self::Internal,
            UiProxyError::Platform(error) => match error.status() {
                Some(401 | 403 | 429) => Self::Denied,
                Some(404) => Self::RouteNotFound,
                Some(400..=499) => Self::BadRequest,
                _ => Self::Internal,
            },
        }
    }
}

impl From<UpstreamError> for UiProxyError {
    fn from(error: UpstreamError) -> Self {
        Self::Platform(error.into())
    }
}

impl std::fmt::Debug for UiProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UiProxy")
            .field("base", &self.base)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl UiProxy {
    /// A proxy to `base` (`UI_PROXY_BASE_URL`), whose calls may take `timeout` (`UI_PROXY_TIMEOUT_MS`).
    ///
    /// # Errors
    /// The address is none that a path can be appended to.
    pub fn new(base: &Url, timeout: Duration, upstream: Upstream) -> Result<Self, BaseError> {
        Ok(Self { base: base::base(base)?, timeout, upstream })
    }

    /// Calls a route. The body of a 2xx, as it is.
    ///
    /// # Errors
    /// Everything else; [`ProxyFault`] is what the guest gets of it. A redirect is not followed: it would take the API key along.
    pub async fn call(&self, call: &UiProxyCall<'_>) -> Result<Bytes, UiProxyError> {
        let answer = self.upstream.send(self.request(call)?, self.timeout, MAX_ANSWER_BYTES).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer.into_body());
        }
        let problem = Problem::parse(answer.body(), call.api_key);
        Err(PlatformError::of_status(status.as_u16(), problem).into())
    }

    fn request(&self, call: &UiProxyCall<'_>) -> Result<Request<Bytes>, UiProxyError> {
        let route = route::parse(call.route).map_err(UiProxyError::Route)?;
        if call.payload.is_some_and(|p| p.len() > MAX_REQUEST_BYTES) {
            return Err(UiProxyError::Payload);
        }
        let below = if route.api {
            String::new()
        } else {
            format!("/{}", segment(call.extension).map_err(|_| UiProxyError::Value("x-alga-extension"))?)
        };
        let uri: Uri = format!("{}{below}{}", self.base, route.target)
            .parse()
            .map_err(|_| UiProxyError::Route("is no part of an address"))?;
        let mut request = Request::builder().uri(uri);
        request = match call.payload {
            Some(_) => request.method(Method::POST).header(CONTENT_TYPE, "application/json"),
            None => request.method(Method::GET),
        };
        // The request id is only for correlation; one that cannot be sent is replaced rather than failing the call.
        let id = call.request_id.filter(|id| header("x-request-id", id).is_ok()).unwrap_or("ui-proxy-call");
        for (name, value) in [
            ("x-request-id", Some(id)),
            ("x-alga-tenant", Some(call.tenant)),
            ("x-alga-extension", Some(call.extension)),
            ("x-ext-install-id", given(call.install)),
            ("x-ext-version-id", given(call.version)),
            ("x-user-id", given(call.user_id)),
            ("x-user-email", given(call.user_email)),
            ("x-api-key", given(call.api_key)),
        ] {
            if let Some(value) = value {
                let mut value = header(name, value)?;
                value.set_sensitive(name == "x-api-key");
                request = request.header(HeaderName::from_static(name), value);
            }
        }
        let body = call.payload.map_or_else(Bytes::new, Bytes::copy_from_slice);
        request.body(body).map_err(|_| UiProxyError::Route("is no part of an address"))
    }
}

/// Callers send the empty string for what they do not know.
fn given(value: Option<&str>) -> Option<&str> {
    value.filter(|v| !v.is_empty())
}

/// A header's value. UTF-8 passes (names in addresses have it); control characters do not.
fn header(name: &'static str, value: &str) -> Result<HeaderValue, UiProxyError> {
    if value.is_empty() || value.len() > MAX_HEADER_BYTES {
        return Err(UiProxyError::Value(name));
    }
    HeaderValue::from_bytes(value.as_bytes()).map_err(|_| UiProxyError::Value(name))
}
