//! `longshore dev`: everything on this machine, without containers.
//!
//! NATS, Redis, a bundle store, workers, the shim and the admin service are started as children (the store inside this process), the examples are
//! packed, installed through the admin API and called over HTTP, and the lines that repeat the calls are printed. It stays up until Ctrl-C, or ends at
//! once with `--once`. With `--watch`, projects are built and installed again on each save, here or in a session that runs already.

mod call;
mod children;
mod environment;
mod events;
mod examples;
mod fleet;
mod http_client;
mod logs;
mod nats;
mod options;
mod paths;
mod platform;
mod ports;
mod programs;
mod redis;
mod report;
pub use longshore_dev_store as s3;
mod session;
mod sources;
mod tail;
mod ui;
mod watch;

use std::process::ExitCode;

use anyhow::Context as _;
use longshore_service::lifecycle::Signals;

pub(crate) use fleet::STREAM_PREFIX;
pub use options::{DEFAULT_TENANT, DevArgs, Ports};

use session::Session;
use ui::Ui;

/// Runs the command; its errors are for the user.
///
/// # Errors
/// Something could not be started, or (with `--once`) a call failed.
pub fn run(args: &DevArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    // On this thread: children take the end of the thread that started them for the end of their parent.
    let result = runtime.block_on(run_async(args));
    // A blocking task that never ends must not keep the process.
    runtime.shutdown_background();
    result
}

/// How the work ended.
enum End {
    /// As it should.
    Done,
    /// By a failure, which has been printed.
    Failed,
    /// By a signal.
    Signal(ExitCode),
}

async fn run_async(args: &DevArgs) -> anyhow::Result<ExitCode> {
    // First thing, so that a signal during the start ends the children too.
    let mut signals = Signals::install().context("signals cannot be caught")?;
    let ui = Ui::new();
    if !args.watch.is_empty() && watch::is_running(args) {
        return watch::attached(args, ui, signals).await;
    }
    let mut session = Session::open(args, ui.clone())?;
    let worked = tokio::select! {
        worked = session.work() => worked.map(|()| End::Done),
        signal = signals.next() => {
            ui.line(format!("\n{}: stopping (again to stop at once)", signal.name()));
            // Ctrl-C is how a session that is up is meant to end; before that, something has been broken off.
            let code = if session.is_up() { ExitCode::SUCCESS } else { ExitCode::from(signal.exit_code()) };
            Ok(End::Signal(code))
        }
    };
    let worked = match worked {
        // Nothing to end, nothing to look at.
        Err(error) if !session.has_started() => return Err(error),
        Err(error) => {
            ui.line(format!("\nfailed: {error:#}\nlogs: {}\n", session.logs().display()));
            End::Failed
        }
        Ok(end) => end,
    };
    let stopped = tokio::select! {
        () = session.stop() => None,
        signal = signals.next() => Some(End::Signal(ExitCode::from(signal.exit_code()))),
    };
    // Children that are left are killed when they are dropped.
    drop(session);
    Ok(match stopped.unwrap_or(worked) {
        End::Done => ExitCode::SUCCESS,
        End::Failed => ExitCode::FAILURE,
        End::Signal(code) => code,
    })
}
