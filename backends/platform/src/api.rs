//! The shape that all internal APIs share (interop 6.3): one route an API and install, the operation in the body.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use longshore_service::config::Secret;
use longshore_service::upstream::Upstream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::base::{self, BaseError};
use crate::segment::segment;
use crate::{PlatformError, Problem};

/// How long an operation may take: what the platform's runner waits.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer: a page of 100 records of 64 KiB with 4 KiB of metadata each fits.
pub const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a request: a schedule's payload of 100,000 characters fits, whatever its characters.
pub const MAX_REQUEST_BYTES: usize = 1024 * 1024;
/// Bytes of a request id that is passed on.
const MAX_REQUEST_ID_BYTES: usize = 256;

/// Where the platform is.
#[derive(Debug, Clone)]
pub struct PlatformConfig {
    /// Its address, with or without a trailing `/` or `/api` (`STORAGE_API_BASE_URL`).
    pub base: Url,
    /// Sent as `x-runner-auth` (`RUNNER_STORAGE_API_TOKEN`). Absent: nothing is sent, which a real platform answers with 401.
    pub token: Option<Secret>,
}

/// A client of the platform. Clones share its connections.
#[derive(Clone)]
pub struct Platform {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    base: String,
    token: Option<Secret>,
    upstream: Upstream,
    timeout: Duration,
}

/// For whom an operation is. No tenant: the platform derives it from the install.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The install's id, 1 to 128 bytes.
    pub install: &'a str,
    /// Passed on as `x-request-id`.
    pub request_id: Option<&'a str>,
}

/// The internal APIs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Api {
    Storage,
    Scheduler,
    Invoicing,
    Clients,
    Services,
}

impl Api {
    fn path(self) -> &'static str {
        match self {
            Self::Storage => "ext-storage",
            Self::Scheduler => "ext-scheduler",
            Self::Invoicing => "ext-invoicing",
            Self::Clients => "ext-clients",
            Self::Services => "ext-services",
        }
    }
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Platform").field("base", &self.inner.base).finish_non_exhaustive()
    }
}

impl Platform {
    /// A client of the platform at `config.base`.
    ///
    /// # Errors
    /// The address is none that a path can be appended to.
    pub fn new(config: &PlatformConfig, upstream: Upstream) -> Result<Self, BaseError> {
        let base = base::api_base(&config.base)?;
        let token = config.token.clone();
        Ok(Self { inner: Arc::new(Inner { base, token, upstream, timeout: TIMEOUT }) })
    }

    /// The same client with another limit than [`TIMEOUT`] for each operation: a run's deadline, or a test's impatience.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { inner: Arc::new(Inner { timeout, ..Inner::clone(&self.inner) }) }
    }

    /// Sends an operation and parses the answer of a success. An empty body counts as `null`.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        api: Api,
        caller: &Caller<'_>,
        body: &impl Serialize,
    ) -> Result<T, PlatformError> {
        let request = self.request(api, caller, body)?;
        let answer = self.inner.upstream.send(request, self.inner.timeout, MAX_ANSWER_BYTES).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(PlatformError::of_status(
                status.as_u16(),
                Problem::parse(answer.body(), self.token()),
            ));
        }
        let body = answer.body().trim_ascii();
        let body = if body.is_empty() { b"null" } else { body };
        // serde_json's words for what is wrong quote the answer.
        serde_json::from_slice(body).map_err(|e| {
            PlatformError::Malformed(if e.is_data() {
                "a field is missing or of the wrong type"
            } else {
                "no JSON"
            })
        })
    }

    /// What must not appear in a text.
    pub(crate) fn token(&self) -> Option<&str> {
        self.inner.token.as_ref().map(Secret::expose)
    }

    fn request(
        &self,
        api: Api,
        caller: &Caller<'_>,
        body: &impl Serialize,
    ) -> Result<Request<Bytes>, PlatformError> {
        let install = segment(caller.install).map_err(PlatformError::InstallId)?;
        let invalid = |field, rule| PlatformError::Invalid { field, rule };
        let body = serde_json::to_vec(body).map_err(|_| invalid("request", "must be expressible in JSON"))?;
        if body.len() > MAX_REQUEST_BYTES {
            return Err(invalid("request", "must have at most 1 MiB"));
        }
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/api/internal/{}/install/{install}", self.inner.base, api.path()))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json");
        if let Some(token) = self.token() {
            let mut token =
                HeaderValue::from_str(token).map_err(|_| invalid("token", "must fit into a header"))?;
            token.set_sensitive(true);
            request = request.header("x-runner-auth", token);
        }
        // Only for correlation: one that a header cannot carry is left out rather than failing the operation.
        if let Some(id) = caller.request_id.filter(|id| !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES)
            && let Ok(id) = HeaderValue::from_str(id)
        {
            request = request.header("x-request-id", id);
        }
        request.body(Bytes::from(body)).map_err(|_| invalid("base", "must be an address"))
    }
}
