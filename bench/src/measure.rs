//! The order of things: start both, warm both up, let them take turns, report; then the host calls.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;

use crate::fleet::{Fleet, Kind, answer_in};
use crate::host_calls;
use crate::load::{self, Plan};
use crate::options::{Options, Part};
use crate::report::{self, Level, Report};
use crate::stats::Round;

/// Before the first round at a number of connections, for each fleet. Not counted: buffers grow, the engine's pool is
/// touched for the first time.
const WARM_UP: Duration = Duration::from_secs(2);
/// At the beginning of each round. Not counted.
const DISCARD: Duration = Duration::from_millis(300);

/// Measures, prints the tables, writes the file. A failed call makes the exit code 1. Guests of this process run on
/// `guests`.
pub async fn run(options: &Options, guests: &Handle) -> anyhow::Result<ExitCode> {
    let mut report = Report::new(options);
    if options.measures(Part::Calls) {
        calls(options, &mut report).await?;
        print!("{}", report::table(&report));
    }
    // The fleets are gone: nothing of theirs runs beside this.
    if options.measures(Part::HostCalls) {
        let measured = host_calls::measure(options, guests).await.context("host calls")?;
        if !options.measures(Part::Calls) {
            println!("\n{}", report::machine(&report));
        }
        print!("{}", host_calls::table(&measured));
        report.host_calls = Some(measured);
    }
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(failure) = &report.first_failure {
        eprintln!("longshore-bench: {} calls failed; the first: {failure}", report.failures());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

async fn calls(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("starting a worker with hello-rust, then an echo worker that answers the same");
    let (worker, first) = Fleet::start(Kind::Worker(&options.set)).await.context("the worker's fleet")?;
    let (echo, _) = Fleet::start(Kind::Echo(&answer_in(&first)?)).await.context("the floor's fleet")?;
    for connections in &options.connections {
        let level = measure(&worker, &echo, connections.get(), options, &mut report.first_failure).await?;
        report.levels.push(level);
    }
    Ok(())
}

async fn measure(
    worker: &Fleet,
    echo: &Fleet,
    connections: usize,
    options: &Options,
    first_failure: &mut Option<String>,
) -> anyhow::Result<Level> {
    let plan = Plan { connections, discard: DISCARD, measure: options.seconds };
    let warm_up = Plan { measure: WARM_UP.min(options.seconds), ..plan };
    for fleet in [echo, worker] {
        let load = load::run(fleet.target(), warm_up).await?;
        if let Some(failure) = load.first_failure {
            anyhow::bail!("{} calls failed while warming up; the first: {failure}", load.failures);
        }
    }
    let mut level = Level { connections, echo: Vec::new(), worker: Vec::new() };
    for number in 0..options.rounds.get() {
        eprintln!("{connections} connection(s): round {} of {}", number + 1, options.rounds);
        // Whoever is second finds the machine warmer or hotter: that is not always the same.
        if number % 2 == 0 {
            level.echo.push(round(echo, plan, first_failure).await?);
            level.worker.push(round(worker, plan, first_failure).await?);
        } else {
            level.worker.push(round(worker, plan, first_failure).await?);
            level.echo.push(round(echo, plan, first_failure).await?);
        }
    }
    Ok(level)
}

async fn round(fleet: &Fleet, plan: Plan, first_failure: &mut Option<String>) -> anyhow::Result<Round> {
    let before = fleet.cpu();
    let mut load = load::run(fleet.target(), plan).await?;
    let after = fleet.cpu();
    if let Some(failure) = load.first_failure.take() {
        first_failure.get_or_insert(failure);
    }
    // The discarded part used CPU too; its calls are not counted.
    let counted = load.elapsed.as_secs_f64() / (load.elapsed + plan.discard).as_secs_f64();
    let used = after.into_iter().map(|(name, after)| {
        let before = before.get(name).copied().unwrap_or_default();
        (name, after.saturating_sub(before).mul_f64(counted))
    });
    let used: BTreeMap<_, _> = used.collect();
    Ok(Round::new(load, used))
}
