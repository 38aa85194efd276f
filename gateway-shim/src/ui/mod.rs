//! Pages of extensions in browsers: `GET|HEAD /ext-ui/{extension}/{hash}/{path...}` (also below `RUNNER_PUBLIC_BASE`), `GET /` by host
//! name, and `POST /warmup` (interop 4).
//!
//! ```text
//! path.rs    what is asked for: extension, hash, signature, file     everything here is a stranger's text
//! tenant.rs  whose: query, header, signed path, hint, host           a claim
//! confirm.rs the registry's word (strict), the tenant's own copy      confirmed; only now a hint is kept
//! files.rs   the unpacked file, its hash (once), its bytes (streamed) encoded.rs: compressed copies
//! serve.rs   304, 206, 416, encodings, headers
//! ```
//!
//! # Strict and not
//! With `EXT_STATIC_STRICT_VALIDATION` (the default) the registry confirms tenant, extension and hash of every request, `no` is 404, and
//! an answer that does not come is 503. What a page loads has no `?tenant=`; a navigation is therefore redirected to a signed path
//! ([`sign`], which says why not a cookie). Without it a hint suffices ([`hints`]), plain paths work, and the tenant's own copy in the
//! bundle store is the proof.
//!
//! # What is kept where
//! Files of a hash never change, so they are `immutable` for a year, for everybody where no registry decides and for one browser where
//! one does. Pages under strict validation and the fallback of single-page applications are asked for each time (304 as a rule).
//! Nothing else is kept by anybody. The headers of a page are kept with it: a changed policy (CSP) reaches a browser with the next hash
//! or a reload.
//!
//! # Never half a bundle
//! Files come from [`longshore_bundle::BundleCache`], which shows a folder when all of it is there and verified.

mod answers;
mod config;
mod confirm;
mod csp;
mod encoded;
mod files;
pub mod hints;
mod host;
mod kv;
mod media;
mod metrics;
mod negotiate;
mod path;
mod range;
mod serve;
mod sign;
mod tenant;
mod warm;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::routing::{any, post};
use http::{HeaderMap, HeaderValue};
use longshore_bundle::BundleCache;
use longshore_registry::Registry;

use encoded::Encoded;
use files::Files;
use hints::{Hints, SharedHints};

pub use config::{AssetSettings, SubResources};
pub use kv::KvHints;
pub use metrics::UiMetrics;
pub use sign::Signer;
pub use warm::Warmer;

/// Whether a request may ask for what only other services may: the check of `x-runner-service-token` on `/v1/execute`.
pub type TokenCheck = Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>;

/// What the UI side is made of.
pub struct UiParts {
    /// How assets are served.
    pub settings: AssetSettings,
    /// Who has what installed.
    pub registry: Arc<dyn Registry>,
    /// Unpacked bundles; None without a bundle store: then there are no assets.
    pub bundles: Option<BundleCache>,
    /// Hints of all gateways; None: this one's alone.
    pub hints: Option<Arc<dyn SharedHints>>,
    /// Signs paths.
    pub signer: Signer,
    /// Reaches the workers.
    pub warmer: Arc<dyn Warmer>,
    /// Who may ask for a warm-up.
    pub token_is_valid: TokenCheck,
    /// Counters.
    pub metrics: UiMetrics,
}

/// What requests are answered from. Cheap to clone.
#[derive(Clone)]
pub struct UiState(Arc<Inner>);

/// What a [`UiState`] shares; nothing of it can be named outside.
pub struct Inner {
    config: AssetSettings,
    /// Of `config`.
    base: Option<String>,
    csp: HeaderValue,
    registry: Arc<dyn Registry>,
    bundles: Option<BundleCache>,
    hints: Hints,
    signer: Signer,
    warmer: Arc<dyn Warmer>,
    token_is_valid: TokenCheck,
    files: Files,
    encoded: Option<Encoded>,
    metrics: UiMetrics,
}

impl Deref for UiState {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl UiState {
    /// Opens the folder of compressed copies; one that cannot be used costs compression, not pages.
    pub async fn open(parts: UiParts) -> Self {
        let settings = parts.settings;
        let (root, max) = (&settings.cache_root, settings.encoded_max_bytes.bytes());
        let encoded = match &parts.bundles {
            None => None,
            Some(_) => match Encoded::open(root, max, parts.metrics.clone()).await {
                Ok(encoded) => Some(encoded),
                Err(error) => {
                    tracing::warn!(%error, root = %root.display(), "UI assets are not compressed");
                    None
                }
            },
        };
        let csp =
            csp::policy(settings.content_security_policy.as_deref(), settings.frame_ancestors.as_deref());
        Self(Arc::new(Inner {
            base: settings.base(),
            csp,
            registry: parts.registry,
            bundles: parts.bundles,
            hints: Hints::new(parts.hints, parts.metrics.clone()),
            signer: parts.signer,
            warmer: parts.warmer,
            token_is_valid: parts.token_is_valid,
            files: Files::new(parts.metrics.clone()),
            encoded,
            metrics: parts.metrics,
            config: settings,
        }))
    }
}

/// The routes, to be merged with the gateway's others.
pub fn router(state: UiState) -> Router {
    let mut router = Router::new()
        .route("/ext-ui/{*rest}", any(serve::serve))
        .route("/", any(host::dispatch))
        .route("/warmup", post(warm::warmup));
    if let Some(base) = &state.base {
        router = router.route(&format!("{base}/ext-ui/{{*rest}}"), any(serve::serve));
    }
    router.with_state(state)
}
