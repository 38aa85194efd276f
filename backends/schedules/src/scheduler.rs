//! The firing of the stored schedules, with its I/O: the lease, the watch, claims, runs and their ends. One per gateway;
//! whichever holds the lease fires.
//!
//! NATS or JetStream being away costs time only: everything here is tried again, and what was missed is made up for once.

mod driver;

use std::time::Duration;

use async_trait::async_trait;
use longshore_service::nats::Watcher;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::standalone::Record;

/// One run that is to be made.
#[derive(Debug)]
pub struct Job {
    /// The schedule, with what its run needs.
    pub record: Record,
    /// When an answer must be there. Beyond it others take the run for dead, so that nothing of it may go on.
    pub until: Instant,
}

/// Makes the calls.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Makes one call and says why it failed, in words for the guest. Dropping the future must cancel the call.
    async fn run(&self, job: Job) -> Result<(), String>;
}

/// What the scheduler tells while it works.
pub trait Observer: Send + Sync + 'static {
    /// A due time has been dealt with.
    fn fired(&self, outcome: Fired);
    /// This process fires, or it does not.
    fn leads(&self, leads: bool);
}

/// What became of a due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fired {
    /// The guest answered below 400.
    Success,
    /// Anything else.
    Failed,
    /// Its gateway was lost; it may have run.
    Lost,
    /// Given back before its call was sent.
    Released,
}

impl Fired {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Success, Self::Failed, Self::Lost, Self::Released];

    /// As metrics spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Released => "released",
        }
    }
}

/// What a scheduler needs to know.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    /// Names this process in leases and claims; never used again by another.
    pub name: String,
    /// Runs at once, at most.
    pub max_runs: usize,
}

/// Fires schedules until `drain` is cancelled; then gives the lease up and returns when its runs have ended and their ends
/// are written, at the latest when `force` is cancelled.
///
/// The client must make its inboxes where its user may listen, and should be nobody else's: what is watched is read at the
/// speed of the bucket.
pub async fn serve<R: Runner, O: Observer>(
    client: async_nats::Client,
    link: Watcher,
    config: SchedulerConfig,
    runner: R,
    observer: O,
    drain: CancellationToken,
    force: CancellationToken,
) {
    driver::Driver::new(client, link, config, runner, observer).serve(drain, force).await;
}

/// The time between two looks when nothing is known to happen earlier: what a jump of the wall clock may cost.
const LOOK: Duration = Duration::from_millis(500);
