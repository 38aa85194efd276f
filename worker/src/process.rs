//! A worker's life: what is built in which order, on which runtime, and how it ends.
//!
//! Three runtimes, so that none can hold up another: NATS and admission on one thread, guests on theirs, the rest
//! (health, metrics, debug events, fetching) on a third.

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use longshore_bundle::BundleCache;
use longshore_registry::InstallFollower;
use longshore_service::admin_http;
use longshore_service::config::{ConfigErrors, Environment, TelemetryConfig};
use longshore_service::lifecycle::{Signals, Tasks, run_until_shutdown};
use longshore_service::metrics::Metrics;
use longshore_service::nats::{self, NatsMetrics, Outbox};
use longshore_service::process::Process;
use longshore_service::readiness::{Condition, Readiness};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use crate::admit::{self, Admission, Subscriptions};
use crate::config::WorkerConfig;
use crate::debug::{DebugMetrics, Publisher, TraceMetrics, TracePublisher};
use crate::execute::Executor;
use crate::health;
use crate::host::backends::HostMetrics;
use crate::metrics::{CacheMetrics, EgressMetrics, WorkerMetrics};

/// How long the last debug events may take to be written.
const FLUSH: Duration = Duration::from_secs(2);
/// How long the server may take to show that it knows our subscriptions.
const ROUND_TRIP: Duration = Duration::from_secs(2);

impl Process for WorkerConfig {
    const ROLE: &'static str = "worker";

    fn load(environment: &Environment, args: Vec<String>) -> Result<Self, ConfigErrors> {
        Self::load(environment, args)
    }

    fn telemetry(&self) -> &TelemetryConfig {
        &self.telemetry
    }

    fn health_address(&self) -> SocketAddr {
        self.http_addr
    }

    fn run(self) -> Result<ExitCode, Box<dyn Error>> {
        run(self)
    }
}

fn run(config: WorkerConfig) -> Result<ExitCode, Box<dyn Error>> {
    let guests = Builder::new_multi_thread()
        .worker_threads(config.guest_threads.get())
        .thread_name("guests")
        .enable_all()
        .build()?;
    let network = Network::start()?;
    let main = Builder::new_multi_thread().worker_threads(2).thread_name("main").enable_all().build()?;
    let code = main.block_on(live(config, guests.handle().clone(), network.handle.clone()));
    guests.shutdown_background();
    network.stop.cancel();
    main.shutdown_background();
    code
}

/// The thread of NATS and admission. It ends with the process.
struct Network {
    handle: Handle,
    stop: CancellationToken,
}

impl Network {
    fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let until = stop.clone();
        std::thread::Builder::new()
            .name("nats".to_owned())
            .spawn(move || runtime.block_on(until.cancelled_owned()))?;
        Ok(Self { handle, stop })
    }
}

async fn live(config: WorkerConfig, guests: Handle, network: Handle) -> Result<ExitCode, Box<dyn Error>> {
    // First thing, so that a signal during the start drains too.
    let signals = Signals::install()?;
    let (metrics, readiness, tasks) = (Metrics::new("worker"), Readiness::new(), Tasks::new());
    tasks.register(&metrics);
    let listener = admin_http::bind_listener(config.http_addr, "WORKER_HTTP_ADDR").await?;
    let address = listener.local_addr()?;

    let store = config.store().open()?;
    let verifier = config.verifier()?;
    let cache = BundleCache::open_verified(config.cache(), Arc::clone(&store), verifier).await?;
    let cache = Arc::new(cache);
    let publisher = Publisher::start(&config.debug, DebugMetrics::register(&metrics), &tasks)?;
    let trace_metrics = TraceMetrics::register(&metrics);
    let traces = TracePublisher::start(
        &config.recording,
        &config.debug,
        &config.traces,
        Arc::clone(&store),
        trace_metrics,
        &tasks,
    )?;

    // Answers of JetStream; beside the inboxes of calls, which begin with a boot id.
    let options = nats::Options {
        metrics: Some(NatsMetrics::register(&metrics)),
        inbox_prefix: Some("_R.worker.js".to_owned()),
        ..nats::Options::default()
    };
    let nats_config = config.nats.clone();
    let connecting = network.spawn(async move { nats::connect("worker", &nats_config, options).await });
    let (client, link) = connecting.await??;
    let backends = config.backends(client.clone(), link.clone(), HostMetrics::register(&metrics)).await?;
    let backends = Arc::new(backends);
    let egress = backends.egress.mode();
    if let Some(storage) = backends.storage.clone() {
        let mut link = link.clone();
        tasks.spawn_background("storage", async move {
            // Before that, its answer is known.
            link.connected(1).await;
            if let Err(error) = storage.prepare().await {
                let error = longshore_service::errors::chain(&error).to_string();
                tracing::warn!(
                    error,
                    "storage is not available yet; it is asked again by the call that needs it"
                );
            }
        });
    }
    tasks.spawn_background("egress-metrics", EgressMetrics::register(&metrics).follow(Arc::clone(&backends)));
    let admit = config.admit();
    let mut executor = Executor::new(
        config.executor(),
        Arc::clone(&cache) as _,
        Arc::new(publisher.clone()),
        Arc::clone(&backends),
    )?;
    if let Some(traces) = &traces {
        let engine = executor.engine_info();
        let recording = config.recording.recording(Arc::new(traces.clone()), admit.boot, engine)?;
        executor = executor.with_recording(recording);
    }
    let executor = Arc::new(executor);
    let (outbox, publishing) = Outbox::new(client.clone(), link.clone());
    let closed = CancellationToken::new();
    tasks.spawn_essential_on(&network, "nats-outbox", until(closed.clone(), publishing));

    let worker_metrics = WorkerMetrics::register(&metrics);
    let admission =
        Admission::new(admit, Arc::clone(&executor), outbox, link.clone(), guests, worker_metrics);
    let subscriptions = Subscriptions::open(&admission, &client).await?;
    tasks.spawn_essential_on(
        &network,
        "admission",
        admit::serve(Arc::clone(&admission), subscriptions, closed.clone()),
    );
    tasks.spawn_essential_on(
        &network,
        "announcements",
        admit::announcements(Arc::clone(&admission), closed.clone()),
    );
    tasks.spawn_essential_on(
        &network,
        "promises",
        until(closed.clone(), Arc::clone(&admission).keep_promises()),
    );
    let running = Arc::clone(&admission);
    let held = move || running.running_extensions();
    let follower = InstallFollower::start(client.clone(), link.clone(), &tasks, closed.clone(), held);
    tasks.spawn_background("installs", Arc::clone(&admission).follow_installs(follower));
    tasks.spawn_background("nats-readiness", link.clone().report_to(readiness.condition("nats")));
    let subscribed = readiness.condition("subscriptions");
    tasks.spawn_background("subscriptions", prove_subscriptions(client, link.clone(), subscribed));

    let health = health::report(
        config.cache_root.clone(),
        config.cache_max_bytes,
        store,
        link,
        Arc::clone(&admission),
    );
    let admin = admin_http::Admin::new(readiness.clone(), metrics.clone()).with_health(health);
    tasks.spawn_background("health and metrics", admin_http::serve(listener, admin.router()));
    tasks.spawn_background(
        "cache-metrics",
        CacheMetrics::register(&metrics).follow(cache, Arc::clone(&executor)),
    );

    let drain = tasks.drain().clone();
    let leaving = readiness.condition("leaving");
    leaving.set(true, "");
    tasks.spawn("leaving", {
        let admission = Arc::clone(&admission);
        async move {
            drain.cancelled().await;
            leaving.set(false, "the worker is leaving");
            admission.leave().await;
            closed.cancel();
            backends.secrets.wipe().await;
            if let Some(traces) = traces {
                tokio::join!(traces.close(FLUSH), publisher.close(FLUSH));
            } else {
                publisher.close(FLUSH).await;
            }
        }
    });
    tracing::info!(
        role = "worker",
        port = address.port(),
        pool = %config.pool,
        worker = %admission.boot(),
        slots = config.slots.get(),
        egress,
        storage = config.host.keeper(config.host.storage).as_str(),
        signatures = config.signatures.policy().as_str(),
        "Starting worker, health and metrics on {address}"
    );
    Ok(run_until_shutdown(signals, &tasks, config.lifecycle.grace.get()).await)
}

async fn until(closed: CancellationToken, task: impl Future<Output = ()>) {
    closed.run_until_cancelled(task).await;
}

/// Ready only when the server has shown that it knows the subscriptions of this connection: `flush()` proves nothing.
async fn prove_subscriptions(client: async_nats::Client, mut link: nats::Watcher, condition: Condition) {
    condition.set(false, "not connected yet");
    let mut generation = 0;
    while let Some(state) = link.connected(generation + 1).await {
        generation = state.generation;
        let subject = format!("fleet.sync.{}", longshore_proto::Token::random());
        match nats::round_trip(&client, &subject, ROUND_TRIP).await {
            Ok(_) => condition.set(true, ""),
            Err(error) => {
                condition.set(false, longshore_service::errors::chain(&error).to_string());
                // Asked again at once, while the connection stands: an error that stays would spin.
                tokio::time::sleep(Duration::from_millis(250)).await;
                generation = generation.saturating_sub(1);
            }
        }
    }
}
