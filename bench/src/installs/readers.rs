//! Who watches, as the processes do.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use longshore_registry::{InstallFollower, Installs, NatsRegistry};
use longshore_service::lifecycle::Tasks;
use longshore_service::metrics::Metrics;
use longshore_service::nats;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::nats::Server;

/// Nothing here takes this long, beside compilers neither.
pub const LIMIT: Duration = Duration::from_secs(30);
/// Registries that are there for their memory alone.
const COPIES: usize = 7;

/// The admin service's writer, with the bucket made and read.
pub async fn writer(server: &Server) -> anyhow::Result<Installs> {
    let (client, link) = server.connect("control").await?;
    let registry =
        NatsRegistry::start(client.clone(), link.clone(), &Tasks::new(), &Metrics::new("bench"), None);
    let installs = Installs::new(client, link, registry.clone(), 1);
    installs.prepare().await?;
    ready(&registry).await?;
    Ok(installs)
}

/// A gateway's registry that has read the bucket.
pub async fn shim(server: &Server) -> anyhow::Result<NatsRegistry> {
    let (client, link) = server.connect("shim").await?;
    let registry = NatsRegistry::start(client, link, &Tasks::new(), &Metrics::new("bench"), None);
    ready(&registry).await?;
    Ok(registry)
}

/// Milliseconds from the start of a gateway's registry until it knows the bucket; the connection is there before.
pub async fn time_start(server: &Server) -> anyhow::Result<f64> {
    let (client, link) = server.connect("shim").await?;
    let began = Instant::now();
    let registry = NatsRegistry::start(client, link, &Tasks::new(), &Metrics::new("bench"), None);
    ready(&registry).await?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// A worker's follower, which the server knows.
pub async fn worker(server: &Server) -> anyhow::Result<InstallFollower> {
    let (client, link) = server.connect("worker").await?;
    let follower =
        InstallFollower::start(client.clone(), link, &Tasks::new(), CancellationToken::new(), Vec::new);
    nats::round_trip(&client, "fleet.sync.bench", LIMIT).await?;
    Ok(follower)
}

async fn ready(registry: &NatsRegistry) -> anyhow::Result<()> {
    tokio::time::timeout(LIMIT, registry.ready()).await.context("the bucket was not read")
}

/// More gateways' registries, on a runtime of their own: with it they end.
pub struct Copies {
    runtime: Option<Runtime>,
    registries: Vec<NatsRegistry>,
}

impl Copies {
    /// Starts them and waits until they have read the bucket.
    pub async fn start(server: &Server) -> anyhow::Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime =
            runtime.worker_threads(1).thread_name("copies").enable_all().build().context("no runtime")?;
        let mut copies = Self { runtime: None, registries: Vec::new() };
        let server = server.clone();
        let started = runtime.spawn(async move {
            let mut registries = Vec::new();
            for _ in 0..COPIES {
                registries.push(shim(&server).await?);
            }
            anyhow::Ok(registries)
        });
        // Whatever comes of it, the runtime may not be dropped among tasks.
        copies.runtime = Some(runtime);
        copies.registries = started.await??;
        Ok(copies)
    }

    /// The registries.
    pub fn registries(&self) -> &[NatsRegistry] {
        &self.registries
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
