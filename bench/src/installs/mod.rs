//! The registry of installs: what a lookup costs in a gateway, how fast a change is heard of, and what an install takes in
//! memory.
//!
//! A real nats-server holds the bucket. The registries are those of `gateway-shim` ([`NatsRegistry`]) and the followers those of
//! `worker` ([`longshore_registry::InstallFollower`]), each with a connection of its own and the rights of its process, on
//! threads of this process: a lookup is too short to be seen from outside, and one clock serves all.

mod changes;
mod lookups;
mod memory;
mod readers;
mod subject;
mod table;

use anyhow::Context as _;
use longshore_registry::NatsRegistry;
use serde::Serialize;
use tokio::runtime::Handle;

use crate::nats::Server;
use crate::options::Options;
use readers::Copies;
use subject::{BUNDLES, INSTALLS, Subject, TENANTS};
pub use table::table;

/// What a lookup in the shim may cost, in microseconds.
const LOOKUP_BAR_US: f64 = 50.0;
/// Within how many milliseconds all must have heard of a change.
const CHANGE_BAR_MS: f64 = 1_000.0;
/// Registries that start anew when all installs are there.
const STARTS: usize = 5;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// Installs, bundles and tenants.
    pub installs: usize,
    /// Bundles that they are of.
    pub bundles: usize,
    /// Tenants that have them.
    pub tenants: usize,
    /// Bytes of a record, as it is stored; the mean.
    pub record_bytes: f64,
    /// Bytes of memory that an install takes in a registry, as far as the system tells.
    pub memory_bytes: Option<f64>,
    /// Milliseconds until a registry that starts knows all of them.
    pub start_ms: Vec<f64>,
    /// Lookups of each measurement.
    pub lookups: u32,
    /// By what was looked up and what else went on.
    pub looked_up: Vec<lookups::LookedUp>,
    /// Changes, and when they were heard.
    pub changes: changes::Heard,
    /// See [`LOOKUP_BAR_US`].
    pub lookup_bar_us: f64,
    /// See [`CHANGE_BAR_MS`].
    pub change_bar_ms: f64,
}

/// Measures on `threads`, with a server of its own.
pub async fn measure(options: &Options, threads: &Handle) -> anyhow::Result<Measured> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    // Held here: what runs on the other threads may be cut off, and then nobody would end it.
    let (_server, address) = Server::start(folder.path()).await?;
    let plan = Plan { rounds: options.rounds.get(), lookups: options.lookups, changes: options.changes };
    threads.spawn(all(plan, address, threads.clone())).await.context("the measurement broke off")?
}

#[derive(Clone, Copy)]
struct Plan {
    rounds: usize,
    lookups: u32,
    changes: u32,
}

async fn all(plan: Plan, server: Server, threads: Handle) -> anyhow::Result<Measured> {
    let subject = Subject::new()?;
    eprintln!("installs: two gateways, two workers and the admin service begin to watch an empty bucket");
    let writer = readers::writer(&server).await.context("the writer")?;
    let shims = [readers::shim(&server).await?, readers::shim(&server).await?];
    let workers = [readers::worker(&server).await?, readers::worker(&server).await?];
    let copies = Copies::start(&server).await?;
    eprintln!("installs: {INSTALLS} are written");
    let before = memory::resident();
    let last = subject.install_all(&writer).await?;
    let holders: Vec<&NatsRegistry> = shims.iter().chain(copies.registries()).collect();
    for registry in &holders {
        anyhow::ensure!(registry.seen(last, readers::LIMIT).await, "a registry has not seen all installs");
    }
    // The writer's own registry is one more.
    let kept = ((holders.len() + 1) * INSTALLS) as f64;
    let memory_bytes =
        before.zip(memory::resident()).map(|(before, after)| after.saturating_sub(before) as f64 / kept);
    drop(copies);
    let mut start_ms = Vec::new();
    for _ in 0..STARTS {
        start_ms.push(readers::time_start(&server).await?);
    }
    eprintln!("installs: {} changes, one after the other", plan.changes);
    let changes =
        changes::measure(&subject, &writer, &shims, &workers, plan.changes).await.context("changes")?;
    let [shim, _] = shims;
    let looked_up = lookups::measure(&subject, &writer, shim, plan, &threads).await.context("lookups")?;
    Ok(Measured {
        installs: INSTALLS,
        bundles: BUNDLES,
        tenants: TENANTS,
        record_bytes: subject.record_bytes()?,
        memory_bytes,
        start_ms,
        lookups: plan.lookups,
        looked_up,
        changes,
        lookup_bar_us: LOOKUP_BAR_US,
        change_bar_ms: CHANGE_BAR_MS,
    })
}
