//! From a signal to an exit code.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{self, SignalKind};

use super::Tasks;

/// After `force`, tasks get this long to answer their callers before the process ends under them.
const FORCE_LIMIT: Duration = Duration::from_secs(2);

/// After the failure of an essential task, running calls get at most this long: a process that has lost a part must not stay for minutes.
const FAILURE_GRACE: Duration = Duration::from_secs(10);

/// A signal that ends a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// From the keyboard.
    Interrupt,
    /// From whoever runs the process.
    Terminate,
}

impl Signal {
    /// The name to print.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// What a shell reports for a process that this signal ended: 128 + its number.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// SIGINT and SIGTERM. From its making on, neither ends the process by itself, so make it first thing.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// Takes over both signals; called inside a tokio runtime.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal. Safe to drop and call again.
    pub async fn next(&mut self) -> Signal {
        // `recv` gives `None` only when the runtime's signal driver has gone; then nothing would ever arrive.
        tokio::select! {
            Some(()) = self.interrupt.recv() => Signal::Interrupt,
            Some(()) = self.terminate.recv() => Signal::Terminate,
            else => std::future::pending().await,
        }
    }
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Drained,
    Forced { left: usize },
    Again(Signal),
}

/// Waits for a signal or the failure of an essential task, drains `tasks` for at most `grace`, then forces them.
///
/// 0: drained. 1: an essential task failed, or tasks were left when the grace period was over. A second signal ends the process
/// here and now with 130 (SIGINT) or 143 (SIGTERM).
pub async fn run_until_shutdown(mut signals: Signals, tasks: &Tasks, grace: Duration) -> ExitCode {
    let grace = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal = signal.name(), grace_s = grace.as_secs(), running = tasks.running(), "draining; a second signal ends at once");
            grace
        }
        () = tasks.failed().cancelled() => {
            let grace = grace.min(FAILURE_GRACE);
            tracing::error!(grace_s = grace.as_secs(), running = tasks.running(), "draining after a failure");
            grace
        }
    };
    let end = drain(&mut signals, tasks, grace).await;
    tasks.end();
    match end {
        End::Again(signal) => {
            tracing::warn!(
                signal = signal.name(),
                running = tasks.running(),
                "second signal: ending at once"
            );
            std::process::exit(i32::from(signal.exit_code()))
        }
        End::Forced { left } => {
            tracing::error!(left, "ended by force: the grace period was over");
            ExitCode::FAILURE
        }
        End::Drained => match tasks.failure() {
            Some(failure) => {
                tracing::error!(failure, "drained and ended after a failure");
                ExitCode::FAILURE
            }
            None => {
                tracing::info!("drained and ended");
                ExitCode::SUCCESS
            }
        },
    }
}

async fn drain(signals: &mut Signals, tasks: &Tasks, grace: Duration) -> End {
    tasks.begin_drain();
    tokio::select! {
        () = tasks.drained() => return End::Drained,
        signal = signals.next() => return End::Again(signal),
        () = tokio::time::sleep(grace) => {}
    }
    let left = tasks.running();
    tracing::warn!(left, "the grace period is over: ending what still runs");
    tasks.begin_force();
    tokio::select! {
        () = tasks.drained() => {}
        signal = signals.next() => return End::Again(signal),
        () = tokio::time::sleep(FORCE_LIMIT) => {}
    }
    End::Forced { left }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_finishes_in_time_is_waited_for() {
        let mut signals = Signals::install().unwrap();
        let tasks = Tasks::new();
        tasks.spawn("call", tokio::time::sleep(Duration::from_secs(20)));
        assert_eq!(drain(&mut signals, &tasks, Duration::from_secs(30)).await, End::Drained);
        assert!(!tasks.force().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_finish_is_told_and_counted() {
        let mut signals = Signals::install().unwrap();
        let tasks = Tasks::new();
        let force = tasks.force().clone();
        tasks.spawn("obeys", async move { force.cancelled().await });
        tasks.spawn("deaf", std::future::pending());
        let started = tokio::time::Instant::now();
        assert_eq!(drain(&mut signals, &tasks, Duration::from_secs(30)).await, End::Forced { left: 2 });
        assert_eq!(started.elapsed().as_secs(), 32);
        assert_eq!(tasks.running(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_essential_failure_ends_the_process_with_a_non_zero_code_within_its_own_grace() {
        let tasks = Tasks::new();
        tasks.spawn("deaf", std::future::pending());
        tasks.spawn_essential("loop", async { Err::<(), _>("gone deaf") });
        let started = tokio::time::Instant::now();
        let code = run_until_shutdown(Signals::install().unwrap(), &tasks, Duration::from_secs(300)).await;
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(started.elapsed(), FAILURE_GRACE + FORCE_LIMIT);
    }
}
