//! The admin service's life: what is built in which order, and how it ends.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use longshore_access::TokenStore;
use longshore_bundle::signature::{Policy, Verifier};
use longshore_proto::{BootId, subject};
use longshore_registry::{Audit, Installs, NatsRegistry};
use longshore_schedules::bucket_settings;
use longshore_secrets::KeyRing;
use longshore_service::admin_http::{self, Admin};
use longshore_service::config::{ConfigErrors, Environment, SignaturePolicy, TelemetryConfig};
use longshore_service::errors::chain;
use longshore_service::lifecycle::{Signals, Tasks, run_until_shutdown};
use longshore_service::metrics::Metrics;
use longshore_service::nats::buckets::{Rights, Settings, ensure};
use longshore_service::nats::{self, NatsMetrics, Watcher, subscribe};
use longshore_service::process::Process;
use longshore_service::readiness::{Condition, Readiness};
use tokio::sync::Mutex;

use crate::app::{App, Parts};
use crate::bundles::Bundles;
use crate::config::AdminConfig;
use crate::events::Hub;
use crate::fleet::{Asker, Heard};
use crate::http::{Gate, HttpMetrics, Watch, serve};
use crate::ledger::Ledger;
use crate::maintenance::{Retention, TenantData, run_daily};
use crate::routes::router;

/// Between two attempts to make the buckets.
const AGAIN: Duration = Duration::from_secs(1);

/// A payload is written before its trace, which waits in a queue and lives from then on.
const TRACE_MARGIN: Duration = Duration::from_secs(3_600);

impl Process for AdminConfig {
    const ROLE: &'static str = "admin";

    fn load(environment: &Environment, args: Vec<String>) -> Result<Self, ConfigErrors> {
        Self::load(environment, args)
    }

    fn telemetry(&self) -> &TelemetryConfig {
        &self.telemetry
    }

    fn health_address(&self) -> SocketAddr {
        self.listen
    }

    fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let code = runtime.block_on(live(self));
        runtime.shutdown_background();
        code
    }
}

async fn live(config: AdminConfig) -> Result<ExitCode, Box<dyn Error>> {
    // First thing, so that a signal during the start drains too.
    let signals = Signals::install()?;
    let (metrics, readiness, tasks) = (Metrics::new("admin"), Readiness::new(), Tasks::new());
    tasks.register(&metrics);
    let listener = admin_http::bind_listener(config.listen, "LONGSHORE_ADMIN_ADDR").await?;
    let address = listener.local_addr()?;
    let ring = config.secrets.key_file.as_deref().map(keys).transpose()?;
    let key = ring.as_ref().map_or("none", KeyRing::sealing_id).to_owned();
    let bundles = bundles(&config).await?;
    let tokens = config.token.tokens().ok_or("LONGSHORE_ADMIN_TOKEN is not set")?;

    let boot = BootId::random();
    let options = nats::Options {
        metrics: Some(NatsMetrics::register(&metrics)),
        inbox_prefix: Some(format!("{}{boot}.js", subject::ADMIN_INBOX)),
        ..nats::Options::default()
    };
    let (client, link) = nats::connect("admin", &config.nats, options).await?;
    tasks.spawn_background("nats-readiness", link.clone().report_to(readiness.condition("nats")));
    let heard = Heard::default();
    let announcements = subscribe(&client, subject::FLEET.to_owned(), None).await?;
    tasks.spawn_background("announcements", ended("announcements", heard.clone().listen(announcements)));
    let (asker, inbox) = Asker::open(client.clone(), link.clone(), boot).await?;
    tasks.spawn_background("answers", ended("answers", asker.clone().receive(inbox)));

    let replicas = config.buckets.replicas.get();
    let condition = Some(readiness.condition("registry"));
    let registry = NatsRegistry::start(client.clone(), link.clone(), &tasks, &metrics, condition);
    // The address was checked with the settings.
    let traces = config
        .events
        .client()
        .transpose()?
        .map(|client| longshore_trace::store::TraceStore::new(client, &config.traces));
    let hub = config.events.client().transpose()?;
    let hub = hub.map(|client| Hub::new(client, config.events.clone(), tasks.drain().clone()));
    if let Some(hub) = hub.clone() {
        tasks.spawn_background("debug-events", hub.run());
    }
    let app = Arc::new(Parts {
        bundles,
        installs: Installs::new(client.clone(), link.clone(), registry, replicas),
        tokens: TokenStore::new(client.clone(), link.clone(), replicas),
        ledger: Ledger(Audit::new(client.clone(), link.clone(), replicas)),
        asker,
        heard,
        data: TenantData::new(client.clone(), link.clone()),
        events: config.events.clone(),
        hub,
        traces,
        ring,
        retention: Retention { keep: config.retention(), traces: config.traces.ttl.get() + TRACE_MARGIN },
        changing: Mutex::new(()),
        importing: Mutex::new(()),
        collecting: Mutex::new(()),
    });
    let prepared = readiness.condition("buckets");
    tasks.spawn_background("buckets", prepare(app.clone(), client, link, replicas, prepared));
    if !config.gc_interval.get().is_zero() {
        let daily = run_daily(app.clone(), config.gc_interval.get(), tasks.drain().clone());
        tasks.spawn_background("collection", daily);
    }

    let watch = Watch { metrics: HttpMetrics::register(&metrics) };
    let admin = Admin::new(readiness.clone(), metrics.clone());
    let routes = router(app, Gate::new(tokens, &metrics), watch, admin.router());
    let leaving = readiness.condition("leaving");
    leaving.set(true, "");
    let (drain, force) = (tasks.drain().clone(), tasks.force().clone());
    let begin = drain.clone();
    tasks.spawn("leaving-readiness", async move {
        begin.cancelled().await;
        leaving.set(false, "the admin service is leaving");
    });
    tasks.spawn_essential("http", serve(listener, routes, drain, force));
    tracing::info!(
        role = "admin",
        port = address.port(),
        store = config.store().and_then(|store| store.open().ok()).map(|store| store.describe()),
        signatures = config.signatures.policy().as_str(),
        secrets_key = key,
        "Starting longshore-admin, the admin API on {address}"
    );
    Ok(run_until_shutdown(signals, &tasks, config.lifecycle.grace.get()).await)
}

/// The keys that seal secrets.
fn keys(path: &Path) -> Result<KeyRing, String> {
    KeyRing::load(path)
        .map_err(|error| format!("LONGSHORE_SECRETS_KEY_FILE={}: {}", path.display(), chain(&error)))
}

async fn bundles(config: &AdminConfig) -> Result<Bundles, Box<dyn Error>> {
    let settings = config.store().ok_or("BUNDLE_STORE_BASE is not set")?;
    let store = settings.open()?;
    // A bucket is made by whoever pays for it; a folder that is not there is only not there yet.
    if settings.base.starts_with('/') || settings.base.starts_with("file:") {
        store.ensure_bucket().await?;
    }
    let policy = match config.signatures.policy() {
        SignaturePolicy::Off => Policy::Off,
        SignaturePolicy::Warn => Policy::Warn,
        SignaturePolicy::Require => Policy::Require,
    };
    let verifier = Verifier::open(policy, config.signatures.trust_bundle.as_deref())?;
    if let Some(verifier) = &verifier {
        verifier.watch();
    }
    Ok(Bundles::new(store, verifier))
}

async fn ended(what: &'static str, task: impl Future<Output = Result<(), nats::ListenError>>) {
    if let Err(error) = task.await {
        tracing::warn!(what, %error, "a subscription has ended");
    }
}

/// Makes the buckets and the audit stream, or brings their settings up to date, and tries until it has: no gateway becomes ready without
/// them. Again after each reconnect: somebody may have removed them.
async fn prepare(
    app: App,
    client: async_nats::Client,
    mut link: Watcher,
    replicas: usize,
    condition: Condition,
) {
    let context = async_nats::jetstream::new(client);
    let others: Vec<Settings> = bucket_settings(replicas)
        .into_iter()
        .chain([longshore_registry::ui_hints_settings(replicas)])
        .collect();
    let mut generation = 0;
    condition.set(false, "installs, tokens and audit are not prepared yet");
    while let Some(state) = link.connected(generation + 1).await {
        generation = state.generation;
        loop {
            match all(&app, &context, &others).await {
                Ok(()) => {
                    condition.set(true, "");
                    break;
                }
                Err(error) => {
                    condition.set(false, error.clone());
                    tracing::warn!(error, "the buckets cannot be prepared; trying again");
                }
            }
            tokio::time::sleep(AGAIN).await;
            if !link.is_connected() {
                break;
            }
        }
    }
}

async fn all(app: &App, context: &async_nats::jetstream::Context, others: &[Settings]) -> Result<(), String> {
    app.installs.prepare().await.map_err(|error| chain(&error).to_string())?;
    app.tokens.prepare().await.map_err(|error| chain(&error).to_string())?;
    app.ledger.0.prepare().await.map_err(|error| chain(&error).to_string())?;
    for settings in others {
        let ensured =
            tokio::time::timeout(Duration::from_secs(5), ensure(context, settings, Rights::MayUpdate));
        match ensured.await {
            Ok(ensured) => drop(ensured.map_err(|error| chain(&error).to_string())?),
            Err(_) => return Err(format!("JetStream does not answer about {}", settings.name())),
        }
    }
    Ok(())
}
