//! `longshore-bench`: what a warm call costs, beside the least that the same way could cost.
//!
//! Two fleets run side by side, each with a nats-server, a shim and one worker of its own. In one the worker is the
//! real `worker` with `examples/hello-rust`; in the other it is the [`echo`] worker, which speaks the same protocol on
//! NATS and answers the same bytes without running anything: the floor. What is between the two is the price of
//! admission, sandbox and guest. docs/benchmarks.md says how to read the table.

mod cpu;
mod echo;
mod fleet;
mod load;
mod measure;
mod options;
mod process;
mod report;
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

/// One thread is enough for either command: load has its own, and the echo worker is the floor because it never leaves
/// the thread that reads from NATS.
fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        match cli.command {
            Some(Command::EchoWorker(args)) => echo::run(args).await.map(|()| ExitCode::SUCCESS),
            None => tokio::select! {
                measured = measure::run(&cli.options) => measured,
                // Dropping the other branch ends the processes that it has started.
                stopped = stop_signal() => stopped.and_then(|()| anyhow::bail!("stopped by a signal")),
            },
        }
    })
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
