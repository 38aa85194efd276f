//! Runs a recorded run again: the same engine and the same host functions as a worker's, with a player in the place
//! of the world.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use longshore_egress::{Egress, EgressConfig, EgressRules, SystemResolver};
use longshore_proto::call::CaptureLevel;
use longshore_proto::{CallError, ErrorCode, Limits, Run};
use longshore_secrets::{Opener, OpenerConfig};
use longshore_trace::{Damage, Trace};
use longshore_worker::engine::config::EngineConfig;
use longshore_worker::events::NoEvents;
use longshore_worker::execute::{Executor, ExecutorConfig};
use longshore_worker::host::backends::{Backends, HostMetrics};
use longshore_worker::job::{Job, Outcome};
use longshore_worker::limits::WorkerMaxima;
use tokio_util::sync::CancellationToken;

use crate::compare::{compare, has_run, is_time};
use crate::guest::{self, Guest, GuestError};
use crate::player::{Observed, Override, OverrideError, Rules, Stepper, TracePlayer, Unmatched};
use crate::report::{Mode, Report, Sides};
use crate::script::{End, Payloads, Script, ScriptError};

/// How much longer than recorded a replay may compute before it is told that it hangs: machines differ, and a candidate
/// may loop.
const TIME_FACTOR: u64 = 10;
/// At least, in milliseconds.
const LEAST_TIME_MS: u64 = 10_000;
/// At most: ten minutes.
const MOST_TIME_MS: u64 = 600_000;
/// Compiling a component of 12 MB takes some 10 s of a core; on a busy machine, more.
const COMPILE_LIMIT: Duration = Duration::from_secs(300);
/// How much longer than recorded a run that time ended may go on after its last host call.
const TAIL_FACTOR: u32 = 2;
/// And besides.
const TAIL_MORE: Duration = Duration::from_millis(100);

/// A trace with what belongs to it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its proof holds: `longshore_trace::unpack` gave it.
    pub trace: Trace,
    /// What stands beside it.
    pub payloads: Payloads,
    /// The archive that ran; checked against the trace.
    pub bundle: Bytes,
}

/// What is run.
#[derive(Debug, Clone, Default)]
pub enum Candidate {
    /// The bundle that was recorded.
    #[default]
    Same,
    /// Another archive: what if.
    Archive(Bytes),
}

/// How it is run.
#[derive(Clone, Default)]
pub struct Options {
    /// What.
    pub bundle: Candidate,
    /// What host calls are answered that were not recorded.
    pub unmatched: Unmatched,
    /// Answers by recorded host call.
    pub overrides: BTreeMap<u32, Override>,
    /// Walks through it.
    pub stepper: Option<Arc<dyn Stepper>>,
}

/// A replay that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The trace, or what belongs to it, is not what was recorded.
    #[error("the trace cannot be used: {0}")]
    Damage(Damage),
    /// It holds, and cannot be replayed.
    #[error("{0}")]
    Script(ScriptError),
    /// The guest never ran.
    #[error("the recorded run failed before its guest ran ({}): there is nothing to replay", code.as_str())]
    NeverRan {
        /// How.
        code: ErrorCode,
    },
    /// The recorded bundle.
    #[error("the recorded bundle cannot be run: {0}")]
    Guest(GuestError),
    /// The other bundle.
    #[error("the other bundle cannot be run: {0}")]
    Candidate(GuestError),
    /// A wish that cannot be had.
    #[error(transparent)]
    Override(#[from] OverrideError),
    /// The engine, or the machine.
    #[error("the engine cannot run it: {reason}")]
    Engine {
        /// Why.
        reason: String,
    },
}

impl ReplayError {
    /// 2: the trace is unusable. 3: the tool failed.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Damage(_) | Self::Script(_) | Self::NeverRan { .. } | Self::Guest(_) => 2,
            Self::Candidate(_) | Self::Override(_) | Self::Engine { .. } => 3,
        }
    }
}

/// What a [`Replayer`] may use.
#[derive(Debug, Clone)]
pub struct ReplayerConfig {
    /// Where compiled components are kept; several processes may share it.
    pub cache: PathBuf,
    /// Replays at once. Default: one per core.
    pub jobs: usize,
}

impl ReplayerConfig {
    /// The defaults with this folder.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self { cache: cache.into(), jobs: std::thread::available_parallelism().map_or(1, usize::from) }
    }
}

/// An engine for replays.
pub struct Replayer {
    executor: Executor,
    jobs: usize,
}

impl Replayer {
    /// Makes the engine. No server is asked for anything, now or later.
    ///
    /// # Errors
    /// The machine has no room for it, or the cache folder cannot be used.
    pub fn new(config: ReplayerConfig) -> Result<Self, ReplayError> {
        let failed =
            |error: &dyn std::error::Error| ReplayError::Engine { reason: longshore_bundle::chain(error) };
        // An empty list: nothing can be reached, should a host function ever try.
        let rules = EgressRules::from_install::<&str>(&[]).map_err(|e| failed(&e))?;
        let egress = EgressConfig { rules, ..EgressConfig::default() };
        let backends = Backends {
            egress: Egress::new(egress, Arc::new(SystemResolver)).map_err(|e| failed(&e))?,
            secrets: Opener::new(OpenerConfig::default()).map_err(|e| failed(&e))?,
            storage: None,
            schedules: None,
            platform: None,
            ui_proxy: None,
            metrics: HostMetrics::default(),
        };
        let jobs = config.jobs.max(1);
        let slots = u32::try_from(jobs).unwrap_or(u32::MAX);
        let engine = EngineConfig { slots, ..EngineConfig::new(config.cache) };
        let mut executor = ExecutorConfig::new(engine);
        // What was in force is in each trace.
        executor.maxima = WorkerMaxima {
            cpu_ms: None,
            host_calls: u64::MAX,
            outbound_requests: u64::MAX,
            log_bytes: u64::MAX,
            log_lines: u64::MAX,
            response_bytes: u64::MAX,
            ..WorkerMaxima::default()
        };
        let executor =
            Executor::new(executor, Arc::new(guest::OfTask), Arc::new(NoEvents), Arc::new(backends))
                .map_err(|e| failed(&e))?;
        Ok(Self { executor, jobs })
    }

    /// Replays at once.
    pub fn jobs(&self) -> usize {
        self.jobs
    }

    /// Resolves when no component is being compiled: before the process ends.
    pub async fn idle(&self) {
        self.executor.idle().await;
    }

    /// Replays one run.
    ///
    /// # Errors
    /// The trace cannot be used, or the engine cannot run it. What the guest does is in the report, whatever it is.
    pub async fn replay(&self, recorded: &Recorded, options: &Options) -> Result<Report, ReplayError> {
        recorded.trace.check_payloads(&recorded.payloads).map_err(ReplayError::Damage)?;
        recorded.trace.check_bundle(&recorded.bundle).map_err(ReplayError::Damage)?;
        let script =
            Script::new(recorded.trace.records(), &recorded.payloads).map_err(ReplayError::Script)?;
        let same = Guest::new(&recorded.bundle, true).map_err(ReplayError::Guest)?;
        recorded.trace.check_component(&same.wasm).map_err(ReplayError::Damage)?;
        let (guest, exact) = match &options.bundle {
            Candidate::Same => (same, true),
            Candidate::Archive(archive) => {
                (Guest::new(archive, false).map_err(ReplayError::Candidate)?, false)
            }
        };
        self.play(script, &guest, exact, options).await
    }

    async fn play(
        &self,
        script: Script,
        guest: &Guest,
        exact: bool,
        options: &Options,
    ) -> Result<Report, ReplayError> {
        if let End::Failure { code, .. } = &script.end
            && !has_run(*code)
        {
            return Err(ReplayError::NeverRan { code: *code });
        }
        for (number, wished) in &options.overrides {
            wished.check(&script, *number)?;
        }
        let mode = match (exact, options.overrides.is_empty() && options.stepper.is_none()) {
            (true, true) => Mode::Exact,
            (true, false) => Mode::Overridden,
            (false, _) => Mode::WhatIf,
        };
        let script = Arc::new(script);
        let rules = Rules {
            unmatched: options.unmatched,
            overrides: options.overrides.clone(),
            stepper: options.stepper.clone(),
        };
        let player = Arc::new(TracePlayer::new(Arc::clone(&script), rules));
        let outcome = guest::with_component(guest.component(), self.run(&script, &player)).await;
        let observed: Observed = player.observed();
        // A run that its player ended has a code of its own, and nothing is wrong with the machine.
        if let Err(error) = &outcome.result
            && observed.ended.is_none()
            && is_machines(error)
        {
            return Err(ReplayError::Engine { reason: error.to_string() });
        }
        let comparison = compare(&script, &observed, &outcome.result, mode == Mode::Exact);
        let sides =
            Sides { script: &script, observed: &observed, outcome: &outcome, candidate: guest.bundle };
        Ok(Report::new(&sides, mode, comparison))
    }

    async fn run(&self, script: &Script, player: &Arc<TracePlayer>) -> Outcome {
        let run = Arc::new(run_of(script));
        let context = &run.context;
        // Compiled first: the time that a run is given begins when it runs. Why it does not compile is said again then.
        let _ = self.executor.warm(&context.tenant, &context.extension, &context.content_hash).await;
        let cancel = CancellationToken::new();
        let job = Job {
            execution: script.header.execution,
            attempt: script.header.attempt,
            run: Arc::clone(&run),
            body: script.body.clone(),
            deadline: Instant::now() + COMPILE_LIMIT + Duration::from_millis(run.limits.timeout_ms),
            cancel: cancel.clone(),
            player: Some(Arc::clone(player) as _),
        };
        let running = self.executor.execute(job);
        if !matches!(&script.end, End::Failure { code, .. } if is_time(*code)) {
            return running.await;
        }
        // Time ended the recorded run: this one is ended a little later than that after its last host call.
        let exhausted = player.exhausted();
        let stop = async {
            exhausted.cancelled().await;
            tokio::time::sleep(Duration::from_micros(script.tail_us) * TAIL_FACTOR + TAIL_MORE).await;
            cancel.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            outcome = running => outcome,
            () = stop => unreachable_outcome(),
        }
    }
}

/// `stop` never ends; the types want a word.
fn unreachable_outcome() -> Outcome {
    Outcome { result: Err(CallError::from(ErrorCode::Internal)), usage: Default::default() }
}

/// What is no doing of the guest's.
fn is_machines(error: &CallError) -> bool {
    matches!(
        error.code,
        ErrorCode::EngineInitFailed
            | ErrorCode::Internal
            | ErrorCode::TimeoutCompiling
            | ErrorCode::TimeoutFetching
            | ErrorCode::Overloaded
    )
}

/// The run as it was, but for what is published of it and for its time: what ended the recorded run by time is told by the
/// trace, and a slower machine must not end the others.
fn run_of(script: &Script) -> Run {
    let mut run = script.header.run.clone();
    let force = script.header.limits;
    let time = |recorded: u64| recorded.saturating_mul(TIME_FACTOR).clamp(LEAST_TIME_MS, MOST_TIME_MS);
    run.limits = Limits {
        timeout_ms: time(force.timeout_ms.unwrap_or(run.limits.timeout_ms)),
        memory_mb: force.memory_mb.unwrap_or(run.limits.memory_mb),
        cpu_ms: force.cpu_ms.or(run.limits.cpu_ms).map(time),
        host_calls: force.host_calls.or(run.limits.host_calls),
        outbound_requests: force.outbound_requests.or(run.limits.outbound_requests),
        log_bytes: force.log_bytes.or(run.limits.log_bytes),
        log_lines: force.log_lines.or(run.limits.log_lines),
        response_bytes: force.response_bytes.or(run.limits.response_bytes),
    };
    run.capture = CaptureLevel::Off;
    run.secret_envelope = None;
    run
}
