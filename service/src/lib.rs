//! What every Longshore process (worker, gateway-shim, CLI) does alike.
//!
//! # Configuration
//! A struct is declared once, with types, variables, defaults and documentation; see [`settings!`].
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::net::SocketAddr;
//! use longshore_service::config::{LifecycleConfig, Millis, NatsConfig, Secret, TelemetryConfig};
//!
//! longshore_service::settings! {
//!     /// Settings of the gateway.
//!     pub struct ShimConfig, group "Gateway" {
//!         /// Where calls are taken.
//!         pub listen: SocketAddr = "0.0.0.0:8080", env "LONGSHORE_LISTEN";
//!         /// What callers must present. Unset: callers are trusted.
//!         pub token: Option<Secret>, env "RUNNER_SERVICE_TOKEN", file "RUNNER_SERVICE_TOKEN_FILE";
//!         /// Limit for a call to the platform's registry.
//!         pub registry_timeout: Millis = "5000", env "LONGSHORE_REGISTRY_TIMEOUT_MS";
//!         pub nats: NatsConfig;
//!         pub telemetry: TelemetryConfig;
//!         pub lifecycle: LifecycleConfig;
//!     }
//! }
//!
//! let env = BTreeMap::from([("RUNNER_SERVICE_TOKEN".to_owned(), "hunter2".to_owned())]);
//! let config = ShimConfig::load(&env, ["gateway-shim", "--nats-url", "nats://nats:4222"].map(str::to_owned)).unwrap();
//! assert!(config.token.as_ref().unwrap().matches(b"hunter2"));
//! assert!(config.to_string().contains("RUNNER_SERVICE_TOKEN=[redacted]"));
//! ```
//!
//! # A process
//! ```no_run
//! use std::process::ExitCode;
//! use longshore_service::config::{Environment, LifecycleConfig, NatsConfig, TelemetryConfig, exit_on_config_errors};
//! use longshore_service::errors::chain;
//! use longshore_service::lifecycle::{Signals, Tasks, run_until_shutdown};
//! use longshore_service::metrics::{Metrics, prometheus_client::metrics::counter::Counter};
//! use longshore_service::readiness::Readiness;
//! use longshore_service::{admin_http, nats, telemetry};
//!
//! longshore_service::settings! {
//!     /// Settings of this process.
//!     pub struct Config, group "Worker" {
//!         /// Where health and metrics are served.
//!         pub admin: std::net::SocketAddr = "0.0.0.0:8081", env "WORKER_ADMIN_LISTEN";
//!         pub nats: NatsConfig;
//!         pub telemetry: TelemetryConfig;
//!         pub lifecycle: LifecycleConfig;
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     let config = exit_on_config_errors(Config::load(&Environment::snapshot(), std::env::args()));
//!     let telemetry = match telemetry::init("worker", &config.telemetry) {
//!         Ok(guard) => guard,
//!         Err(error) => {
//!             eprintln!("{}", chain(&error));
//!             return ExitCode::FAILURE;
//!         }
//!     };
//!     let runtime = match tokio::runtime::Runtime::new() {
//!         Ok(runtime) => runtime,
//!         Err(error) => {
//!             tracing::error!(%error, "no runtime");
//!             return ExitCode::FAILURE;
//!         }
//!     };
//!     let code = runtime.block_on(run(config)).unwrap_or_else(|error| {
//!         tracing::error!(error = %chain(&*error), "the start failed");
//!         ExitCode::FAILURE
//!     });
//!     // A blocking task that never ends must not keep the process.
//!     runtime.shutdown_background();
//!     drop(telemetry);
//!     code
//! }
//!
//! async fn run(config: Config) -> Result<ExitCode, Box<dyn std::error::Error>> {
//!     // First thing, so that a signal during the start drains too.
//!     let signals = Signals::install()?;
//!     let (metrics, readiness, tasks) = (Metrics::new("worker"), Readiness::new(), Tasks::new());
//!     tasks.register(&metrics);
//!     let calls: Counter = metrics.register("calls", "Calls answered", Counter::default());
//!
//!     let listener = admin_http::bind_listener(config.admin, "WORKER_ADMIN_LISTEN").await?;
//!     let admin = admin_http::Admin::new(readiness.clone(), metrics.clone());
//!     tasks.spawn_background("admin", admin_http::serve(listener, admin.router()));
//!
//!     let options = nats::Options { metrics: Some(nats::NatsMetrics::register(&metrics)), ..Default::default() };
//!     let (client, link) = nats::connect("worker", &config.nats, options).await?;
//!     tasks.spawn_background("nats-readiness", link.report_to(readiness.condition("nats")));
//!
//!     let drain = tasks.drain().clone();
//!     tasks.spawn_essential("admission", async move {
//!         let _ = (client, calls);
//!         drain.cancelled().await;
//!         Ok::<(), std::io::Error>(())
//!     });
//!     Ok(run_until_shutdown(signals, &tasks, config.lifecycle.grace.get()).await)
//! }
//! ```
//!
//! # The NATS link
//! ```no_run
//! # async fn example(client: async_nats::Client, mut link: longshore_service::nats::Watcher) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use longshore_service::nats::round_trip;
//!
//! let mut generation = 0;
//! // One turn for each (re)connect.
//! while let Some(state) = link.connected(generation + 1).await {
//!     generation = state.generation;
//!     // The server has seen every subscription made so far.
//!     round_trip(&client, "fleet.sync.3f0c", Duration::from_secs(2)).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Metrics and readiness
//! ```
//! use longshore_service::metrics::{LATENCY_BUCKETS, Metrics};
//! use longshore_service::metrics::prometheus_client::metrics::{family::Family, gauge::Gauge, histogram::Histogram};
//! use longshore_service::readiness::Readiness;
//!
//! let metrics = Metrics::new("worker");
//! let free: Gauge = metrics.register("slots_free", "Slots without an execution", Gauge::default());
//! let seconds = metrics.register("execution_seconds", "Time of an execution", Histogram::new(LATENCY_BUCKETS));
//! let by_code: Family<Vec<(&'static str, String)>, Gauge> = metrics.register("x", "By label", Family::default());
//! free.set(8);
//! seconds.observe(0.004);
//! by_code.get_or_create(&vec![("code", "trap".to_owned())]).set(1);
//! assert!(metrics.render().unwrap().contains("longshore_slots_free 8"));
//!
//! let readiness = Readiness::new();
//! let store = readiness.condition("bundle-store");
//! store.set(false, "connection refused");
//! assert_eq!(readiness.missing(), [("bundle-store", "connection refused".to_owned())]);
//! store.set(true, "");
//! assert!(readiness.is_ready());
//! ```

pub mod admin_http;
pub mod config;
pub mod errors;
pub mod healthcheck;
pub mod lifecycle;
pub mod metrics;
pub mod nats;
pub mod process;
pub mod readiness;
pub mod telemetry;
pub mod tls;
pub mod upstream;
