//! The registry of an existing platform, over its HTTP API (interop 6.1, 6.2).
//!
//! Answers are remembered for a short while, refusals for a shorter one, and errors never: an outage of the platform must not become a
//! refusal (interop 10). Equal questions at the same time are one. Of the configured address only the origin counts.

mod answer;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use longshore_proto::{ContentHash, ExtensionId, TenantId};
use longshore_service::config::Secret;
use longshore_service::upstream::{Upstream, UpstreamError};
use moka::Expiry;
use moka::future::Cache;
use tokio::sync::broadcast;
use url::Url;

use crate::seam::{Change, HostTarget, Lookup, Registry, RegistryError};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const RUNNER_AUTH: HeaderName = HeaderName::from_static("x-runner-auth");

/// Answers remembered of each kind.
const MAX_ENTRIES: u64 = 10_000;
/// Bytes of installs remembered.
const MAX_INSTALL_BYTES: u32 = 64 * 1024 * 1024;
/// Bytes of the answer to a question for an install.
const MAX_INSTALL_ANSWER: usize = 512 * 1024;
/// Bytes of the other answers.
const MAX_ANSWER: usize = 16 * 1024;
/// The longest text that a caller's name for an install may be.
const MAX_REFERENCE: usize = 256;

/// How the platform is asked.
#[derive(Debug, Clone)]
pub struct PlatformConfig {
    /// Its address; only the origin counts. `REGISTRY_BASE_URL`.
    pub base: Url,
    /// Sent as `x-api-key`. `ALGA_AUTH_KEY`.
    pub api_key: Secret,
    /// Sent as `x-runner-auth`: the first that is set of `RUNNER_CONFIG_API_TOKEN`, `RUNNER_STORAGE_API_TOKEN`, `RUNNER_SERVICE_TOKEN`.
    /// Without it, no install can be found.
    pub runner_token: Option<Secret>,
    /// The time for one question: 750 ms in the existing runner.
    pub budget: Duration,
    /// How long a confirmation is remembered: 45 s in the existing runner.
    pub validity: Duration,
    /// How long an install and a host are remembered. `EXT_INSTALL_CONFIG_CACHE_MS`, 5 s.
    pub install_cache: Duration,
    /// How long a refusal is remembered.
    pub refusal: Duration,
}

impl PlatformConfig {
    /// With the times of the existing platform.
    pub fn new(base: Url, api_key: Secret, runner_token: Option<Secret>) -> Self {
        Self {
            base,
            api_key,
            runner_token,
            budget: Duration::from_millis(750),
            validity: Duration::from_secs(45),
            install_cache: Duration::from_secs(5),
            refusal: Duration::from_secs(2),
        }
    }
}

/// Why a configuration is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlatformConfigError {
    /// Neither `http` nor `https`, or without a host.
    #[error("REGISTRY_BASE_URL must be an http:// or https:// address")]
    Address,
    /// A byte that no header can have.
    #[error("ALGA_AUTH_KEY has characters that no header can have")]
    ApiKey,
    /// A byte that no header can have.
    #[error(
        "RUNNER_CONFIG_API_TOKEN (or RUNNER_STORAGE_API_TOKEN, RUNNER_SERVICE_TOKEN) has characters that no header can have"
    )]
    RunnerToken,
}

/// Why the platform gave no answer that can be used. Bodies are not quoted: they are a tenant's data.
#[derive(Debug, thiserror::Error)]
pub enum PlatformFault {
    /// No whole answer within the budget and the size.
    #[error("the platform cannot be asked")]
    Upstream(#[source] UpstreamError),
    /// A status that is no answer to the question.
    #[error("the platform answered {0}")]
    Status(StatusCode),
    /// It does not accept the key or the token.
    #[error("the platform answered {0}: it does not accept {1}")]
    NotAccepted(StatusCode, &'static str),
    /// The body is not what it must be.
    #[error("the platform's answer is malformed: {0}")]
    Malformed(&'static str),
    /// The answer is about somebody else.
    #[error("the platform's answer is about another {0} than was asked for")]
    Another(&'static str),
    /// An install without what is needed to call it (502 in the existing gateway).
    #[error("the install has no {0}")]
    Incomplete(&'static str),
    /// There is no token to ask with.
    #[error(
        "installs cannot be asked for without RUNNER_CONFIG_API_TOKEN, RUNNER_STORAGE_API_TOKEN or RUNNER_SERVICE_TOKEN"
    )]
    NoToken,
    /// The question cannot be sent.
    #[error("the question cannot be sent")]
    Request(#[source] http::Error),
}

/// An answer that is remembered for as long as it says.
#[derive(Clone)]
struct Kept<T> {
    value: T,
    age: Duration,
    bytes: u32,
}

struct ByAge;

impl<K, T> Expiry<K, Kept<T>> for ByAge {
    fn expire_after_create(&self, _: &K, kept: &Kept<T>, _: Instant) -> Option<Duration> {
        Some(kept.age)
    }
}

/// Asks the platform.
pub struct PlatformRegistry {
    upstream: Upstream,
    origin: String,
    api_key: HeaderValue,
    runner_token: Option<HeaderValue>,
    config: PlatformConfig,
    installs: Cache<(TenantId, String), Kept<Lookup>>,
    valid: Cache<(TenantId, ExtensionId, ContentHash), Kept<bool>>,
    hosts: Cache<String, Kept<Option<HostTarget>>>,
    changes: broadcast::Sender<Change>,
}

impl PlatformRegistry {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// An address or a token that cannot be used.
    pub fn new(config: PlatformConfig, upstream: Upstream) -> Result<Self, PlatformConfigError> {
        if !matches!(config.base.scheme(), "http" | "https") || !config.base.has_host() {
            return Err(PlatformConfigError::Address);
        }
        let header = |secret: &Secret, error| {
            let mut value = HeaderValue::from_str(secret.expose().trim()).map_err(|_| error)?;
            value.set_sensitive(true);
            Ok(value)
        };
        let api_key = header(&config.api_key, PlatformConfigError::ApiKey)?;
        let token = config.runner_token.as_ref();
        let runner_token = token.map(|token| header(token, PlatformConfigError::RunnerToken)).transpose()?;
        let installs = Cache::builder()
            // What is small still takes a place.
            .weigher(|_, kept: &Kept<Lookup>| kept.bytes.max(MAX_INSTALL_BYTES / 10_000))
            .max_capacity(u64::from(MAX_INSTALL_BYTES))
            .expire_after(ByAge)
            .build();
        Ok(Self {
            upstream,
            origin: config.base.origin().ascii_serialization(),
            api_key,
            runner_token,
            installs,
            valid: Cache::builder().max_capacity(MAX_ENTRIES).expire_after(ByAge).build(),
            hosts: Cache::builder().max_capacity(MAX_ENTRIES).expire_after(ByAge).build(),
            changes: broadcast::Sender::new(1),
            config,
        })
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Response<Bytes>, PlatformFault> {
        // Not to be answered by a cache on the way.
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis()).to_string();
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .append_pair("ts", &now)
            .finish();
        let request = Request::get(format!("{}{path}?{query}", self.origin))
            .header(API_KEY, self.api_key.clone())
            .body(Bytes::new())
            .map_err(PlatformFault::Request)?;
        self.send(request, MAX_ANSWER).await
    }

    async fn send(
        &self,
        request: Request<Bytes>,
        max_bytes: usize,
    ) -> Result<Response<Bytes>, PlatformFault> {
        self.upstream.send(request, self.config.budget, max_bytes).await.map_err(PlatformFault::Upstream)
    }

    async fn ask_install(&self, tenant: &TenantId, reference: &str) -> Result<Kept<Lookup>, PlatformFault> {
        let token = self.runner_token.clone().ok_or(PlatformFault::NoToken)?;
        let body = serde_json::json!({ "tenantId": tenant, "extensionId": reference }).to_string();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/api/internal/ext-runner/install-config", self.origin))
            .header(CONTENT_TYPE, "application/json")
            .header(RUNNER_AUTH, token)
            .body(Bytes::from(body))
            .map_err(PlatformFault::Request)?;
        let answer = self.send(request, MAX_INSTALL_ANSWER).await?;
        match answer::install(&answer, tenant, reference)? {
            Some(install) => Ok(Kept {
                value: Lookup::Found(Arc::new(install)),
                age: self.config.install_cache,
                bytes: u32::try_from(answer.body().len()).unwrap_or(u32::MAX),
            }),
            None => Ok(Kept { value: Lookup::Absent, age: self.config.refusal, bytes: 0 }),
        }
    }

    async fn ask_valid(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        hash: ContentHash,
    ) -> Result<Kept<bool>, PlatformFault> {
        let hash = hash.to_string();
        let query = [("tenant", tenant.as_str()), ("extension", extension.as_str()), ("hash", &hash)];
        let value = answer::valid(&self.get("/api/installs/validate", &query).await?)?;
        let age = if value { self.config.validity } else { self.config.refusal };
        Ok(Kept { value, age, bytes: 0 })
    }

    async fn ask_host(&self, host: &str) -> Result<Kept<Option<HostTarget>>, PlatformFault> {
        let value = answer::host(&self.get("/api/installs/lookup-by-host", &[("host", host)]).await?)?;
        let age = if value.is_some() { self.config.install_cache } else { self.config.refusal };
        Ok(Kept { value, age, bytes: 0 })
    }
}

/// The same error for everybody who asked at the same time.
fn shared(fault: Arc<PlatformFault>) -> RegistryError {
    match &*fault {
        PlatformFault::Incomplete(_) => RegistryError::Damaged(fault.to_string()),
        _ => RegistryError::Upstream(fault.into()),
    }
}

/// Whether a caller's name for an install can be one. What cannot is not asked for.
fn is_reference(text: &str) -> bool {
    (1..=MAX_REFERENCE).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@' | b'/'))
}

#[async_trait]
impl Registry for PlatformRegistry {
    async fn find(&self, tenant: &TenantId, reference: &str) -> Result<Lookup, RegistryError> {
        if !is_reference(reference) {
            return Ok(Lookup::Absent);
        }
        // UUIDs and slugs are in lower case there (interop 3.4).
        let reference = reference.to_ascii_lowercase();
        let key = (tenant.clone(), reference.clone());
        let kept = self.installs.try_get_with(key, self.ask_install(tenant, &reference)).await;
        kept.map(|kept| kept.value).map_err(shared)
    }

    async fn validate(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        hash: ContentHash,
    ) -> Result<bool, RegistryError> {
        let key = (tenant.clone(), extension.clone(), hash);
        let kept = self.valid.try_get_with(key, self.ask_valid(tenant, extension, hash)).await;
        kept.map(|kept| kept.value).map_err(shared)
    }

    async fn by_host(&self, host: &str) -> Result<Option<HostTarget>, RegistryError> {
        if host.is_empty() || host.len() > 253 {
            return Ok(None);
        }
        let kept = self.hosts.try_get_with(host.to_owned(), self.ask_host(host)).await;
        kept.map(|kept| kept.value).map_err(shared)
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}
