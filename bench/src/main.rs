//! `longshore-bench`: what a warm call costs, beside the least that the same way could cost.
//!
//! Two fleets run side by side, each with a nats-server, a shim and one worker of its own. In one the worker is the
//! real `worker` with `examples/hello-rust`; in the other it is the [`echo`] worker, which speaks the same protocol on
//! NATS and answers the same bytes without running anything: the floor. What is between the two is the price of
//! admission, sandbox and guest. [`gateway`] compares the route for browsers with `/v1/execute`. [`capture`] compares installs whose runs are
//! published or recorded with one whose runs are not. What a lookup among many
//! installs costs and how fast a change of one is heard of ([`installs`]), and what one host call adds to its function
//! ([`host_calls`]), is measured in this process.
//! docs/benchmarks.md says how to read the tables.

mod capture;
mod cpu;
mod echo;
mod fleet;
mod gateway;
mod host_calls;
mod installs;
mod load;
mod measure;
mod nats;
mod options;
mod process;
mod redis;
mod report;
mod scrape;
mod stats;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use options::{Cli, Command};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("longshore-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread is enough for either command: load has its own, host calls and registries have a runtime like that of a worker's
/// guests, and the echo worker is the floor because it never leaves the thread that reads from NATS.
fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    if let Some(Command::EchoWorker(args)) = cli.command {
        return runtime.block_on(echo::run(args)).map(|()| ExitCode::SUCCESS);
    }
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    let threads =
        threads.worker_threads(2).thread_name("measured").enable_all().build().context("no runtime")?;
    let code = runtime.block_on(async {
        tokio::select! {
            measured = measure::run(&cli.options, threads.handle()) => measured,
            // Dropping the other branch ends the processes that it has started.
            stopped = stop_signal() => stopped.and_then(|()| anyhow::bail!("stopped by a signal")),
        }
    });
    threads.shutdown_background();
    code
}

async fn stop_signal() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("no signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("no signals")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
