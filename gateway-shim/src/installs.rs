//! The installs and the callers that this gateway knows: where they come from, by its settings.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use longshore_access::{AccessMetrics, Authenticator, Jwts, Tokens};
use longshore_registry::{NatsRegistry, PlatformConfig, PlatformRegistry, Registry, installs_settings};
use longshore_service::lifecycle::Tasks;
use longshore_service::metrics::Metrics;
use longshore_service::nats::Watcher;
use longshore_service::nats::buckets::{self, Rights};
use longshore_service::readiness::Condition;
use longshore_service::upstream::Upstream;
use tokio_util::sync::CancellationToken;

use crate::config::{RegistryBackend, ShimConfig};
use crate::dev_host::Menu;
use crate::dispatch::Dispatcher;
use crate::gateway::InstallGate;

/// How long a gateway that could serve waits for installs that are there but not read yet.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is known.
pub struct Installs {
    /// Installs.
    pub registry: Arc<dyn Registry>,
    /// Refuses calls by `/v1/execute` of disabled installs. None beside a platform, which does so itself.
    pub gate: Option<Arc<InstallGate>>,
    /// Callers.
    pub access: Arc<Authenticator>,
    kept: Option<NatsRegistry>,
    tokens: Tokens,
}

impl Installs {
    /// Begins to watch them over `client`, whose inboxes are `_R.shim.js`.
    ///
    /// # Errors
    /// Settings that cannot be used, keys of JWTs that cannot be read.
    pub async fn start(
        config: &ShimConfig,
        (client, link): (&async_nats::Client, &Watcher),
        tasks: &Tasks,
        metrics: &Metrics,
    ) -> Result<Self, Box<dyn Error>> {
        let (registry, kept): (Arc<dyn Registry>, _) = match config.registry.backend {
            RegistryBackend::Nats => {
                let kept = NatsRegistry::start(client.clone(), link.clone(), tasks, metrics, None);
                (Arc::new(kept.clone()), Some(kept))
            }
            RegistryBackend::Platform => (Arc::new(platform(config)?), None),
        };
        let gate = kept.as_ref().map(|_| InstallGate::new(Arc::clone(&registry)));
        if let Some(gate) = &gate {
            tasks.spawn_background("removed-installs", Arc::clone(gate).follow());
        }
        let tokens = Tokens::new(client.clone(), link.clone(), AccessMetrics::register(metrics));
        let watching = tokens.clone();
        // For as long as calls are taken, the drain included: the process ends it.
        tasks.spawn_background("tokens", async move { watching.run(CancellationToken::new()).await });
        let jwts = Jwts::open(&config.access).await?;
        let access = Arc::new(Authenticator::new(tokens.clone(), jwts));
        Ok(Self { registry, gate, access, kept, tokens })
    }

    /// The installs as the development host page lists them; None beside a platform, which lists its own.
    pub fn menu(&self) -> Option<Arc<dyn Menu>> {
        self.kept.clone().map(|kept| Arc::new(kept) as Arc<dyn Menu>)
    }

    /// Keeps a gateway from being ready until its installs and tokens are read, if there are any: a fleet that takes calls by
    /// `/v1/execute` alone has no admin service that makes their buckets, nor needs JetStream.
    pub fn known(
        &self,
        client: async_nats::Client,
        dispatcher: Dispatcher,
        condition: Condition,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (kept, tokens) = (self.kept.clone(), self.tokens.clone());
        async move {
            condition.set(false, "reading installs and tokens");
            let all = async {
                if let Some(kept) = &kept {
                    kept.ready().await;
                }
                tokens.ready().await;
            };
            let none_to_come = async {
                dispatcher.has_listened().await;
                let context = jetstream::new(client);
                if buckets::ensure(&context, &installs_settings(1), Rights::ReadOnly).await.is_ok() {
                    tokio::time::sleep(PATIENCE).await;
                }
            };
            tokio::select! {
                () = all => {}
                () = none_to_come => tracing::warn!(
                    "installs and tokens are not known: /api/ext answers 503 until the admin service has run and JetStream answers; /v1/execute is served"
                ),
            }
            condition.set(true, "");
        }
    }
}

fn platform(config: &ShimConfig) -> Result<PlatformRegistry, Box<dyn Error>> {
    let settings = &config.registry;
    // Both are checked when the settings are read.
    let base = settings.base_url.clone().ok_or("LONGSHORE_REGISTRY=platform needs REGISTRY_BASE_URL")?;
    let key = settings.auth_key.clone().ok_or("LONGSHORE_REGISTRY=platform needs ALGA_AUTH_KEY")?;
    let tokens = [&settings.config_token, &settings.storage_token, &config.http.token];
    let token = tokens.into_iter().flatten().next().cloned();
    let platform = PlatformConfig {
        install_cache: settings.install_cache.get(),
        ..PlatformConfig::new(base, key, token)
    };
    Ok(PlatformRegistry::new(platform, Upstream::new()?)?)
}
