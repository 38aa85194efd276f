//! Firing of stored schedules through this gateway's own dispatch. What is due, and who fires, is decided in
//! `longshore_schedules`; here a due schedule becomes a call as the existing platform's scheduler makes it (interop 3.2).

mod call;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longshore_proto::limits::MAX_TIMEOUT_MS;
use longshore_proto::{CallError, ErrorCode, ExecutionId};
use longshore_schedules::scheduler::{self, Job, Runner, SchedulerConfig};
use longshore_service::config::NatsConfig;
use longshore_service::lifecycle::Tasks;
use longshore_service::nats::{self, NatsMetrics};
use longshore_service::telemetry;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::dispatch::{Call, Dispatcher};
use crate::http::Dispatch;
pub use metrics::ScheduleMetrics;

/// The waits before a call that has not run is sent again; all within a minute.
const WAITS: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(8), Duration::from_secs(20)];

/// No repetition begins later than this after the first attempt.
const REPEAT_WITHIN: Duration = Duration::from_secs(60);

/// Begins to take part in the firing of schedules. The token is cancelled when the last run has ended after the drain.
///
/// On a connection of its own: whoever fires reads the whole bucket, and calls should not wait behind that.
pub async fn start(
    config: &NatsConfig,
    max_runs: usize,
    dispatcher: Dispatcher,
    (nats_metrics, metrics): (NatsMetrics, ScheduleMetrics),
    tasks: &Tasks,
) -> Result<CancellationToken, async_nats::ConnectError> {
    let options = nats::Options {
        // Beside the inboxes of calls, which begin with a boot id.
        inbox_prefix: Some("_R.shim.js".to_owned()),
        metrics: Some(nats_metrics),
        ..nats::Options::default()
    };
    let (client, link) = nats::connect("shim-schedules", config, options).await?;
    let scheduler = SchedulerConfig { name: dispatcher.boot().to_string(), max_runs };
    let runner = DispatchRunner(Arc::new(dispatcher));
    let (drain, force) = (tasks.drain().clone(), tasks.force().clone());
    let ended = CancellationToken::new();
    let end = ended.clone().drop_guard();
    tasks.spawn("schedules", async move {
        scheduler::serve(client, link, scheduler, runner, metrics, drain, force).await;
        drop(end);
    });
    Ok(ended)
}

/// Makes the calls of due schedules.
struct DispatchRunner<D>(Arc<D>);

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
        let (run, body) = call::of(&job.record);
        let timeout = Duration::from_millis(run.limits.timeout_ms.min(MAX_TIMEOUT_MS));
        let until_repeated = Instant::now() + REPEAT_WITHIN;
        let mut waits = WAITS.into_iter();
        loop {
            let answer_by = (Instant::now() + timeout).min(job.until);
            if answer_by <= Instant::now() {
                return Err(CallError::from(ErrorCode::Timeout).to_string());
            }
            let call = Call {
                execution: ExecutionId::random(),
                pool: job.record.pool.clone(),
                run: run.clone(),
                body: body.clone(),
                answer_by: answer_by.into_std(),
                weight: 1,
                idempotent: false,
                trace: telemetry::inject(&tracing::Span::current()),
            };
            let error = match self.0.call(call).await {
                // The answer's body is nobody's.
                Ok(answer) if answer.status < 400 => return Ok(()),
                Ok(answer) => return Err(format!("the endpoint answered {}", answer.status)),
                Err(error) => error,
            };
            let unsent =
                matches!(error.code, ErrorCode::QueueFull | ErrorCode::NoWorkers | ErrorCode::Overloaded);
            match waits.next().filter(|wait| unsent && Instant::now() + *wait < until_repeated.min(job.until))
            {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error.to_string()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
