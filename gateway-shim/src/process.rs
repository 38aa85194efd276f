//! A gateway's life: what is built in which order, and how it ends.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use longshore_bundle::{BundleCache, BundleStore};
use longshore_secrets::KeyRing;
use longshore_service::admin_http::{self, Admin};
use longshore_service::config::{ConfigErrors, Environment, TelemetryConfig};
use longshore_service::errors::chain;
use longshore_service::lifecycle::{Signals, Tasks, run_until_shutdown};
use longshore_service::metrics::Metrics;
use longshore_service::nats::{self, NatsMetrics, Outbox};
use longshore_service::process::Process;
use longshore_service::readiness::{Condition, Readiness};
use tokio_util::sync::CancellationToken;

use crate::config::ShimConfig;
use crate::dev_host::{self, DevHost};
use crate::dispatch::{self, DispatchMetrics, Dispatcher, Subscriptions};
use crate::gateway::{self, Backends, Gateway, GatewayMetrics, Manifests};
use crate::http::{App, HttpMetrics, Probe, Sealer, Server, health, router};
use crate::installs::Installs;
use crate::schedules::{self, ScheduleMetrics};
use crate::ui::{self, KvHints, Signer, UiMetrics, UiParts, UiState};

impl Process for ShimConfig {
    const ROLE: &'static str = "gateway-shim";

    fn load(environment: &Environment, args: Vec<String>) -> Result<Self, ConfigErrors> {
        Self::load(environment, args)
    }

    fn telemetry(&self) -> &TelemetryConfig {
        &self.telemetry
    }

    fn health_address(&self) -> SocketAddr {
        self.http.address()
    }

    fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        run(self)
    }
}

fn run(config: ShimConfig) -> Result<ExitCode, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(live(config));
    runtime.shutdown_background();
    code
}

async fn live(config: ShimConfig) -> Result<ExitCode, Box<dyn Error>> {
    // First thing, so that a signal during the start drains too.
    let signals = Signals::install()?;
    let (metrics, readiness, tasks) = (Metrics::new("shim"), Readiness::new(), Tasks::new());
    tasks.register(&metrics);
    let setting = if config.http.listen.is_some() { "LONGSHORE_HTTP_ADDR" } else { "PORT" };
    let listener = admin_http::bind_listener(config.http.address(), setting).await?;
    let address = listener.local_addr()?;
    let store = config.store().map(|store| store.open()).transpose()?;
    let ring = config.secrets.key_file.as_deref().map(keys).transpose()?;
    let key = ring.as_ref().map_or("none", KeyRing::sealing_id).to_owned();

    let nats_metrics = NatsMetrics::register(&metrics);
    let options = nats::Options { metrics: Some(nats_metrics.clone()), ..nats::Options::default() };
    let (client, link) = nats::connect("shim", &config.nats, options).await?;
    let (outbox, publishing) = Outbox::new(client.clone(), link.clone());
    let closed = CancellationToken::new();
    let until_closed = closed.clone();
    tasks.spawn_essential("nats-outbox", async move {
        until_closed.run_until_cancelled(publishing).await;
    });
    let dispatcher =
        Dispatcher::new(config.machine(), outbox, link.clone(), DispatchMetrics::register(&metrics));
    let subscriptions = Subscriptions::open(&dispatcher, &client).await?;
    let drain = tasks.drain().clone();
    tasks.spawn_essential(
        "dispatch",
        dispatch::serve(dispatcher.clone(), subscriptions, drain.clone(), closed.clone()),
    );
    tasks.spawn_background("nats-readiness", link.report_to(readiness.condition("nats")));
    tasks.spawn_background(
        "fleet-readiness",
        know_the_fleet(dispatcher.clone(), readiness.condition("fleet")),
    );

    // Answers of JetStream; beside the inboxes of calls, which begin with a boot id. On a connection of its own: whoever reads a
    // whole bucket must not hold up calls.
    let options = nats::Options {
        metrics: Some(nats_metrics),
        inbox_prefix: Some("_R.shim.js".to_owned()),
        ..nats::Options::default()
    };
    let (kv, kv_link) = nats::connect("shim-kv", &config.nats, options).await?;
    let installs = Installs::start(&config, (&kv, &kv_link), &tasks, &metrics).await?;
    let known = installs.known(kv.clone(), dispatcher.clone(), readiness.condition("installs"));
    tasks.spawn_background("installs-readiness", known);

    let changes = installs.registry.changes();
    let stopping = dispatcher.clone().follow_installs(Arc::clone(&installs.registry), changes);
    tasks.spawn_background("install-changes", stopping);

    let schedule_metrics = ScheduleMetrics::register(&metrics);
    let fired = config.max_scheduled_runs().map(|runs| {
        let (connection, registry) = ((kv.clone(), kv_link.clone()), Arc::clone(&installs.registry));
        schedules::start(connection, runs, dispatcher.clone(), registry, schedule_metrics, &tasks)
    });

    let http_metrics = HttpMetrics::register(&metrics);
    let dispatch = Arc::new(dispatcher.clone());
    let signer = Signer::new(ring.as_ref());
    let (sealer, gate) = (Sealer::new(ring), installs.gate.clone());
    let app = App::with_gate(Arc::clone(&dispatch), config.http.clone(), http_metrics.clone(), sealer, gate);
    let bundles = match &store {
        Some(store) => {
            let (cache, verifier) = (config.assets.cache(), config.verifier()?);
            Some(BundleCache::open_verified(cache, Arc::clone(store), verifier).await?)
        }
        None => None,
    };
    let admin = Admin::new(readiness.clone(), metrics.clone()).with_health(health(dispatch, probe(store)));
    let ui = UiState::open(UiParts {
        settings: config.assets.clone(),
        registry: Arc::clone(&installs.registry),
        bundles: bundles.clone(),
        hints: Some(Arc::new(KvHints::new(kv, kv_link))),
        signer,
        warmer: Arc::new(dispatcher.clone()),
        token_is_valid: app.token_check(),
        metrics: UiMetrics::register(&metrics),
    });
    // The page needs a registry that can list: the fleet's own.
    let dev_host = config.gateway.dev_tenant().zip(installs.menu());
    let backends = Backends {
        registry: Arc::clone(&installs.registry),
        access: installs.access,
        manifests: bundles.map(|bundles| Arc::new(bundles) as Arc<dyn Manifests>),
    };
    let gateway =
        Gateway::new(Arc::clone(&app), &config.gateway, backends, GatewayMetrics::register(&metrics));
    let api = gateway::router(gateway);
    let mut others = admin.router().merge(api.clone()).merge(ui::router(ui.await));
    if let Some((tenant, menu)) = dev_host {
        let (registry, ui_url) = (installs.registry, config.dev_host.ui_url.clone());
        others = others.merge(dev_host::router(DevHost { tenant, registry, menu, api, ui_url }));
    }
    let server = Server::new(router(app, others), &config.http, http_metrics);

    let leaving = readiness.condition("leaving");
    leaving.set(true, "");
    let (begin, force) = (drain.clone(), tasks.force().clone());
    tasks.spawn("leaving-readiness", async move {
        begin.cancelled().await;
        leaving.set(false, "the gateway is leaving");
    });
    tasks.spawn_essential("http", async move {
        server.run(listener, drain, force).await;
        // Scheduled runs are calls of this gateway's as well.
        if let Some(fired) = fired {
            fired.cancelled().await;
        }
        dispatcher.finish().await;
        // The last acknowledgements are with the client: one more turn of the outbox.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        closed.cancel();
    });
    if let Some(tenant) = config.gateway.dev_tenant() {
        tracing::warn!(%tenant, "development: calls from this machine without a token are this tenant's");
    }
    tracing::info!(
        role = "gateway-shim",
        port = address.port(),
        auth = config.http.auth.as_str(),
        registry = config.registry.backend.as_str(),
        secrets_key = key,
        "Starting gateway-shim, calls on {address}"
    );
    Ok(run_until_shutdown(signals, &tasks, config.lifecycle.grace.get()).await)
}

/// The keys that seal secrets.
fn keys(path: &Path) -> Result<KeyRing, String> {
    KeyRing::load(path)
        .map_err(|error| format!("LONGSHORE_SECRETS_KEY_FILE={}: {}", path.display(), chain(&error)))
}

/// Ready after 3 s of uninterrupted listening: before that, "no workers" would mean nothing.
async fn know_the_fleet(dispatcher: Dispatcher, condition: Condition) {
    condition.set(false, "listening for workers since less than 3 s");
    dispatcher.has_listened().await;
    condition.set(true, "");
}

/// Asks the store whether it answers; without a store there is nothing that could be unreachable.
fn probe(store: Option<Arc<dyn BundleStore>>) -> Probe {
    Arc::new(move || {
        let store = store.clone();
        Box::pin(async move {
            match store {
                Some(store) => store.probe().await.is_ok(),
                None => true,
            }
        })
    })
}
