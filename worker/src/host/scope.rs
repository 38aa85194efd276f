//! What the host functions of one run share: who runs, with which rights, and what stands behind them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use longshore_egress::EgressRules;
use longshore_proto::manifest::{Endpoint, Manifest};
use longshore_proto::{ExecutionId, Run};
use longshore_secrets::Secrets;

use super::backends::Backends;
use super::record::RunRecord;
use super::tape::Tape;
use crate::engine::meter::{Meter, Stop};
use crate::limits::RunLimits;

/// What is left of a run when its requests have to be over: this part of the time that it had, at most [`MOST_LEFT`].
/// A guest whose request hangs can say so; with the deadline of the run for both, the run would always end first.
const PART_LEFT: u32 = 10;
const MOST_LEFT: Duration = Duration::from_secs(1);

/// See the module. Everything in it was checked before the guest started.
pub struct RunScope {
    /// Names the run.
    pub execution: ExecutionId,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// Who, which bundle, which rights.
    pub run: Arc<Run>,
    /// What the run leaves behind.
    pub record: Arc<RunRecord>,
    /// What it may use.
    pub limits: RunLimits,
    /// Its clocks.
    pub meter: Arc<Meter>,
    /// When its answer must be ready.
    pub deadline: Instant,
    /// The install's secrets, opened.
    pub secrets: Arc<Secrets>,
    /// What the install lets it reach; none: the worker's list alone decides.
    pub egress: Option<EgressRules>,
    /// What the bundle says of itself, if it says anything.
    pub manifest: Option<Arc<Manifest>>,
    /// What capabilities stand on.
    pub backends: Arc<Backends>,
    /// Whether the run is recorded or replayed.
    pub tape: Tape,
}

impl RunScope {
    /// What ends a replay where its trace ends. The player is told why, since the run's own error is but `cancelled`.
    pub(super) fn replay_ended(&self, why: String) -> Stop {
        if let Tape::Replaying(player) = &self.tape {
            player.ended(&why);
        }
        tracing::debug!(execution = %self.execution, why, "the replayed run ends where its trace does");
        // A guest may have other tasks under way, and must not catch it.
        self.meter.stop(Stop::ReplayEnded);
        Stop::ReplayEnded
    }

    /// The install's id; none when the call names none or a blank one.
    pub fn install(&self) -> Option<&str> {
        self.run.context.install_id.as_deref().map(str::trim).filter(|id| !id.is_empty())
    }

    /// The caller's id for its request.
    pub fn request_id(&self) -> Option<&str> {
        self.run.context.request_id.as_deref()
    }

    /// The routes that the bundle declares.
    pub fn endpoints(&self) -> &[Endpoint] {
        self.manifest.as_ref().and_then(|m| m.api.as_ref()).map_or(&[], |api| &api.endpoints)
    }

    /// Logs for the operator that a backend failed. Guests get the short error of the WIT.
    pub fn upstream_failed(&self, error: &dyn std::error::Error) {
        let cause = longshore_service::errors::chain(error).to_string();
        // What the other side said may have been cut.
        tracing::warn!(error = %self.record.redact_cut(&cause), "a capability's backend failed");
    }

    /// Whether the secrets have expired since the run began.
    pub fn secrets_expired(&self) -> bool {
        self.secrets.is_expired(SystemTime::now())
    }

    /// When a request that begins now has to be over.
    pub fn request_deadline(&self) -> Instant {
        let left = self.deadline.saturating_duration_since(Instant::now());
        self.deadline.checked_sub((left / PART_LEFT).min(MOST_LEFT)).unwrap_or(self.deadline)
    }

    /// What a backend answers, or that it was too late for the guest to make anything of it.
    ///
    /// # Errors
    /// The backend's own, and [`Late::late`].
    pub async fn in_time<T, E: Late>(&self, asked: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let until = self.request_deadline();
        tokio::time::timeout_at(until.into(), asked).await.unwrap_or_else(|_| Err(E::late()))
    }
}

/// An error that can say that the run's time is nearly over.
pub trait Late {
    /// That.
    fn late() -> Self;
}

/// The words for the operator.
const LATE: &str = "no answer before the run's time was nearly over";

impl Late for longshore_platform::PlatformError {
    fn late() -> Self {
        Self::Timeout(Duration::ZERO)
    }
}

impl Late for longshore_platform::UiProxyError {
    fn late() -> Self {
        Self::Platform(Late::late())
    }
}

impl Late for longshore_storage::StorageError {
    fn late() -> Self {
        Self::Unavailable(LATE.into())
    }
}

impl Late for longshore_schedules::SchedulesError {
    fn late() -> Self {
        Self::Internal(LATE.into())
    }
}

impl Late for longshore_schedules::WriteError {
    fn late() -> Self {
        Self::internal(LATE)
    }
}
