//! The order of things: start both sides, warm both up, let them take turns, report; then the other parts, one after the other.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;

use crate::fleet::{Fleet, Kind, User, answer_in};
use crate::load::{self, Plan, Target};
use crate::options::{Options, Part};
use crate::report::{self, Level, Report};
use crate::stats::Round;
use crate::{capture, gateway, host_calls, installs};

/// Before the first round at a number of connections, for each fleet. Not counted: buffers grow, the engine's pool is
/// touched for the first time.
const WARM_UP: Duration = Duration::from_secs(2);
/// At the beginning of each round. Not counted.
const DISCARD: Duration = Duration::from_millis(300);

/// Measures, prints the tables, writes the file. A failed call makes the exit code 1. Guests and the registries of this
/// process run on `threads`.
pub async fn run(options: &Options, threads: &Handle) -> anyhow::Result<ExitCode> {
    let mut report = Report::new(options);
    println!("\n{}", report::machine(&report));
    if options.measures(Part::Calls) {
        calls(options, &mut report).await?;
        print!("{}", report::table(&report));
    }
    // From here on the fleets of the part before are gone: nothing of theirs runs beside the next.
    if options.measures(Part::Gateway) {
        report.gateway =
            gateway::measure(options, &mut report.first_failure).await.context("the gateway route")?;
        print!("{}", gateway::table(&report));
    }
    if options.measures(Part::Installs) {
        let measured = installs::measure(options, threads).await.context("installs")?;
        print!("{}", installs::table(&measured));
        report.installs = Some(measured);
    }
    if options.measures(Part::HostCalls) {
        let measured = host_calls::measure(options, threads).await.context("host calls")?;
        print!("{}", host_calls::table(&measured));
        report.host_calls = Some(measured);
    }
    if options.measures(Part::Capture) {
        // On the heap: what it holds across its waits is large.
        let measured =
            Box::pin(capture::measure(options, &mut report.first_failure)).await.context("capture")?;
        print!("{}", capture::table(&report, &measured));
        report.capture = Some(measured);
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
    let sides = [Side::new(&echo, echo.execute(User::One)), Side::new(&worker, worker.execute(User::One))];
    for connections in &options.connections {
        let connections = connections.get();
        let [echo, worker] = compare(&sides, connections, options, &mut report.first_failure).await?;
        report.levels.push(Level { connections, echo, worker });
    }
    Ok(())
}

/// One of two that take turns.
pub struct Side<'a> {
    fleet: &'a Fleet,
    target: Target,
}

impl<'a> Side<'a> {
    /// Calls to `target`, which is of `fleet`.
    pub fn new(fleet: &'a Fleet, target: Target) -> Self {
        Self { fleet, target }
    }
}

/// All rounds of both at one number of connections.
pub async fn compare(
    sides: &[Side<'_>; 2],
    connections: usize,
    options: &Options,
    first_failure: &mut Option<String>,
) -> anyhow::Result<[Vec<Round>; 2]> {
    turns(sides, connections, options, first_failure).await
}

/// All rounds of all sides at one number of connections.
pub async fn turns<const N: usize>(
    sides: &[Side<'_>; N],
    connections: usize,
    options: &Options,
    first_failure: &mut Option<String>,
) -> anyhow::Result<[Vec<Round>; N]> {
    let plan = Plan { connections, discard: DISCARD, measure: options.seconds };
    let warm_up = Plan { measure: WARM_UP.min(options.seconds), ..plan };
    for side in sides {
        let load = load::run(side.target.clone(), warm_up).await?;
        if let Some(failure) = load.first_failure {
            anyhow::bail!("{} calls failed while warming up; the first: {failure}", load.failures);
        }
    }
    let mut rounds = [const { Vec::new() }; N];
    for number in 0..options.rounds.get() {
        eprintln!("{connections} connection(s): round {} of {}", number + 1, options.rounds);
        // Whoever comes later finds the machine warmer or hotter: that is not always the same.
        let mut order: Vec<_> = sides.iter().zip(&mut rounds).collect();
        order.rotate_left(number % N);
        for (side, rounds) in order {
            rounds.push(round(side, plan, first_failure).await?);
        }
    }
    Ok(rounds)
}

async fn round(side: &Side<'_>, plan: Plan, first_failure: &mut Option<String>) -> anyhow::Result<Round> {
    let before = side.fleet.cpu();
    let mut load = load::run(side.target.clone(), plan).await?;
    let after = side.fleet.cpu();
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
