//! What it costs a call that its run is published or recorded: the same guest, installed three times, with capture off, events and record.
//!
//! All three are called by `/api/ext` on one shim and one worker, in turn, and Redis is one of the benchmark's own. Three guests: hello-rust,
//! which is short, one that calls the host so often that little else is left, and hello-js, which carries a JavaScript engine as most do.
//! Last, Redis stands still while runs are recorded: the calls must not notice.

mod stall;
mod subject;
mod table;

use std::net::SocketAddr;

use anyhow::Context as _;
use serde::Serialize;

use crate::fleet::{Fleet, Kind};
use crate::measure::{Side, turns};
use crate::options::{Options, Setting};
use crate::redis::Redis;
use crate::scrape;
use crate::stats::{Round, Spread, ratio};

pub use stall::Stall;
pub use table::table;

/// Of the calls by second without any of it, what must be left with events.
const EVENTS_BAR: f64 = 0.90;
/// The same with traces.
const RECORD_BAR: f64 = 0.75;

/// All of it.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// See [`EVENTS_BAR`].
    pub events_bar: f64,
    /// See [`RECORD_BAR`].
    pub record_bar: f64,
    /// By guest and number of connections.
    pub levels: Vec<Level>,
    /// What Redis got and what found no room, before it was made to stand still.
    pub written: Written,
    /// Redis stands still.
    pub stall: Option<Stall>,
}

/// All rounds of one guest at one number of connections.
#[derive(Debug, Serialize)]
pub struct Level {
    /// The guest.
    pub guest: &'static str,
    /// Connections.
    pub connections: usize,
    /// Neither events nor traces.
    pub off: Vec<Round>,
    /// Events, which is the default.
    pub events: Vec<Round>,
    /// Traces and events.
    pub record: Vec<Round>,
}

impl Level {
    /// Calls by second of `rounds`, by those without any of it.
    pub fn left(&self, rounds: &[Round]) -> Spread {
        ratio(rounds, &self.off, |round| round.calls_per_s)
    }
}

impl Measured {
    /// Calls that failed.
    pub fn failures(&self) -> u64 {
        let of_levels = self.levels.iter().flat_map(|l| l.off.iter().chain(&l.events).chain(&l.record));
        let of_stall = self.stall.as_ref().map_or(0, Stall::failures);
        of_levels.map(|round| round.failures).sum::<u64>() + of_stall
    }
}

/// Counters of the worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Debug events in Redis.
    pub events: u64,
    /// Debug events that found no room.
    pub events_lost: u64,
    /// Traces in Redis.
    pub traces: u64,
    /// Traces that found no room.
    pub traces_lost: u64,
}

impl Written {
    /// As the worker at `address` counts.
    pub async fn now(address: SocketAddr) -> anyhow::Result<Self> {
        let page = scrape::page(address).await?;
        Ok(Self {
            events: scrape::sum(&page, "longshore_worker_debug_published_total")?,
            events_lost: scrape::sum(&page, "longshore_worker_debug_dropped_total")?,
            traces: scrape::sum(&page, "longshore_worker_traces_published_total")?,
            traces_lost: scrape::sum(&page, "longshore_worker_traces_dropped_total")?,
        })
    }
}

/// Measures with a fleet and a Redis of its own.
pub async fn measure(options: &Options, first_failure: &mut Option<String>) -> anyhow::Result<Measured> {
    eprintln!("starting a worker and a Redis, then installing three guests three times each");
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let redis = Redis::start(folder.path()).await?;
    let mut settings = vec![Setting { name: "RUNNER_DEBUG_REDIS_URL".to_owned(), value: redis.url() }];
    settings.extend(options.set.iter().cloned());
    let (mut fleet, _) = Fleet::start(Kind::Worker(&settings)).await.context("the fleet")?;
    let worker = fleet.worker_address().await?;
    let installed = subject::install(&fleet).await.context("the installs")?;
    let mut levels = Vec::new();
    for guest in &installed {
        for connections in &options.connections {
            let connections = connections.get();
            eprintln!("{} with capture off, events and record", guest.name);
            let sides = guest.targets.each_ref().map(|target| Side::new(&fleet, target.clone()));
            let [off, events, record] = turns(&sides, connections, options, first_failure).await?;
            levels.push(Level { guest: guest.name, connections, off, events, record });
        }
    }
    let written = Written::now(worker).await?;
    let stall = match installed.first() {
        Some(guest) if !options.stall.is_zero() => {
            let [_, _, record] = &guest.targets;
            Some(stall::measure(record, &redis, worker, options.stall).await.context("Redis stands still")?)
        }
        _ => None,
    };
    if let Some(failure) = stall.as_ref().and_then(|stall| stall.first_failure.clone()) {
        first_failure.get_or_insert(failure);
    }
    Ok(Measured { events_bar: EVENTS_BAR, record_bar: RECORD_BAR, levels, written, stall })
}
