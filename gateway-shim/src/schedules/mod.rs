//! Firing of stored schedules through this gateway's own dispatch. What is due, and who fires, is decided in
//! `longshore_schedules`; here a due schedule becomes a call as the existing platform's scheduler makes it (interop 3.2).
//!
//! What an install may do is asked of the registry at each run, so that a right that was taken away is gone from its
//! schedules too. An install that the registry does not know (its calls come by `/v1/execute` from a gateway with a
//! registry of its own) runs with the rights of the call that wrote the schedule.

mod call;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longshore_proto::limits::MAX_TIMEOUT_MS;
use longshore_proto::{CallError, ErrorCode, ExecutionId};
use longshore_registry::{Lookup, Registry, RegistryError};
use longshore_schedules::scheduler::{self, Job, Runner, SchedulerConfig};
use longshore_service::errors::chain;
use longshore_service::lifecycle::Tasks;
use longshore_service::nats::Watcher;
use longshore_service::telemetry;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Builder;

use crate::dispatch::{Call, Dispatcher};
use crate::http::Dispatch;
use call::Due;
pub use metrics::ScheduleMetrics;

/// The waits before a call that has not run is sent again; all within a minute.
const WAITS: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(8), Duration::from_secs(20)];

/// No repetition begins later than this after the first attempt.
const REPEAT_WITHIN: Duration = Duration::from_secs(60);

/// Begins to take part in the firing of schedules. The token is cancelled when the last run has ended after the drain.
///
/// On another connection than calls: whoever fires reads the whole bucket, and calls should not wait behind that.
pub fn start(
    (client, link): (async_nats::Client, Watcher),
    max_runs: usize,
    dispatcher: Dispatcher,
    installs: Arc<dyn Registry>,
    metrics: ScheduleMetrics,
    tasks: &Tasks,
) -> CancellationToken {
    let scheduler = SchedulerConfig { name: dispatcher.boot().to_string(), max_runs };
    let runner = DispatchRunner { dispatch: Arc::new(dispatcher), installs };
    let (drain, force) = (tasks.drain().clone(), tasks.force().clone());
    let ended = CancellationToken::new();
    let end = ended.clone().drop_guard();
    tasks.spawn("schedules", async move {
        scheduler::serve(client, link, scheduler, runner, metrics, drain, force).await;
        drop(end);
    });
    ended
}

/// Makes the calls of due schedules.
struct DispatchRunner<D> {
    dispatch: Arc<D>,
    installs: Arc<dyn Registry>,
}

/// Why a schedule is not run now.
enum NotNow {
    /// Nor later in this minute.
    Skipped(String),
    /// Its install cannot be looked up.
    Unknown(String),
}

#[async_trait]
impl<D: Dispatch> Runner for DispatchRunner<D> {
    async fn run(&self, job: Job) -> Result<(), String> {
        let record = &job.record;
        let span = tracing::info_span!(
            "schedule",
            otel.kind = "server",
            tenant = %record.tenant,
            schedule = record.id,
            install = record.install
        );
        let result = self.attempts(&job).instrument(span.clone()).await;
        if let Err(why) = &result {
            span.in_scope(|| tracing::info!(why, "a scheduled run failed"));
        }
        result
    }
}

impl<D: Dispatch> DispatchRunner<D> {
    /// The call, and the same call again while it certainly has not run.
    async fn attempts(&self, job: &Job) -> Result<(), String> {
        let request_id = Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        let until_repeated = Instant::now() + REPEAT_WITHIN;
        let mut waits = WAITS.into_iter();
        loop {
            let execution = ExecutionId::random();
            let (again, why) = match self.due(job, execution, &request_id).await {
                Err(NotNow::Skipped(why)) => (false, why),
                Err(NotNow::Unknown(why)) => (true, why),
                Ok(due) => match self.attempt(job, execution, due).await {
                    Ok(status) if status < 400 => return Ok(()),
                    Ok(status) => (false, format!("the endpoint answered {status}")),
                    Err(error) => (not_run(error.code), error.to_string()),
                },
            };
            match waits.next().filter(|wait| again && Instant::now() + *wait < until_repeated.min(job.until))
            {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(why),
            }
        }
    }

    /// What to send.
    async fn due(&self, job: &Job, execution: ExecutionId, request_id: &str) -> Result<Due, NotNow> {
        let record = &job.record;
        match self.installs.find(&record.tenant, &record.install).await {
            Ok(Lookup::Found(install)) if install.extension == record.run.context.extension => {
                call::of_install(record, &install, execution, request_id).map_err(NotNow::Skipped)
            }
            // A fleet without an admin service has no installs: calls of `/v1/execute` made its schedules.
            Ok(Lookup::Found(_) | Lookup::Absent) | Err(RegistryError::NotKept(_)) => {
                Ok(call::as_stored(record, request_id))
            }
            // The rights as stored may be more than what the install has now: better late than so.
            Err(error @ (RegistryError::NotReady(_) | RegistryError::Upstream(_))) => {
                Err(NotNow::Unknown(format!("its install cannot be looked up: {}", chain(&error))))
            }
            Err(error @ RegistryError::Damaged(_)) => Err(NotNow::Skipped(error.to_string())),
        }
    }

    /// The status that the endpoint answered.
    async fn attempt(&self, job: &Job, execution: ExecutionId, due: Due) -> Result<u16, CallError> {
        let timeout = Duration::from_millis(due.run.limits.timeout_ms.min(MAX_TIMEOUT_MS));
        let answer_by = (Instant::now() + timeout).min(job.until);
        if answer_by <= Instant::now() {
            return Err(CallError::from(ErrorCode::Timeout));
        }
        let call = Call {
            execution,
            pool: due.pool,
            run: due.run,
            body: due.body,
            answer_by: answer_by.into_std(),
            weight: due.weight,
            idempotent: due.idempotent,
            trace: telemetry::inject(&tracing::Span::current()),
        };
        // The answer's body is nobody's.
        self.dispatch.call(call).await.map(|answer| answer.status)
    }
}

/// Whether a call that failed so has not run and may later.
fn not_run(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::QueueFull | ErrorCode::NoWorkers | ErrorCode::Overloaded)
}

#[cfg(test)]
mod tests;
