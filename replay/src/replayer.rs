//! Runs a recorded run again: the same engine and the same host functions as a worker's, with a player in the place
//! of the world.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
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
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::compare::{compare, has_run, is_time};
use crate::guest::{self, Guest, GuestError};
use crate::player::{
    Answered, Ended, Observed, Override, OverrideError, Rules, Stepper, TracePlayer, Unmatched,
};
use crate::report::{Fuel, Mode, Report, Sides};
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
/// The codes of runs that time ended.
const TIMES: [ErrorCode; 3] = [ErrorCode::Timeout, ErrorCode::CpuTime, ErrorCode::Cancelled];
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
    /// Counts what the recorded bundle and this one compute, in fuel: each runs once more, in an engine of its own.
    pub fuel: bool,
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
    /// What the trace has as an answer is none of that function. It was written by a worker with other functions, or by nobody.
    #[error("the trace cannot be replayed: {reason}")]
    Undecodable {
        /// Of which function, and why.
        reason: String,
    },
    /// The same of an answer that was wished for.
    #[error("the overridden answer cannot be given: {reason}")]
    Wished {
        /// Of which function, and why.
        reason: String,
    },
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
            Self::Damage(_)
            | Self::Script(_)
            | Self::NeverRan { .. }
            | Self::Guest(_)
            | Self::Undecodable { .. } => 2,
            Self::Candidate(_) | Self::Override(_) | Self::Wished { .. } | Self::Engine { .. } => 3,
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
    /// Made when it is first asked for: most replays count nothing, and its pool takes address space.
    counting: OnceLock<Executor>,
    /// Held while it is made: a corpus asks for it from all its jobs at once.
    making: Mutex<()>,
    config: ReplayerConfig,
}

impl Replayer {
    /// Makes the engine. No server is asked for anything, now or later.
    ///
    /// # Errors
    /// The machine has no room for it, or the cache folder cannot be used.
    pub fn new(config: ReplayerConfig) -> Result<Self, ReplayError> {
        let executor = executor(&config, false)?;
        Ok(Self { executor, counting: OnceLock::new(), making: Mutex::new(()), config })
    }

    /// The engine that counts fuel.
    fn counting(&self) -> Result<&Executor, ReplayError> {
        if let Some(made) = self.counting.get() {
            return Ok(made);
        }
        let _making = self.making.lock();
        if let Some(made) = self.counting.get() {
            return Ok(made);
        }
        let made = executor(&self.config, true)?;
        Ok(self.counting.get_or_init(|| made))
    }

    /// Replays at once.
    pub fn jobs(&self) -> usize {
        self.config.jobs.max(1)
    }

    /// Resolves when no component is being compiled: before the process ends.
    pub async fn idle(&self) {
        self.executor.idle().await;
        if let Some(counting) = self.counting.get() {
            counting.idle().await;
        }
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
        let other = match &options.bundle {
            Candidate::Same => None,
            Candidate::Archive(archive) => Some(Guest::new(archive, false).map_err(ReplayError::Candidate)?),
        };
        let script = Arc::new(script);
        let guest = other.as_ref().unwrap_or(&same);
        let mut report = self.play(&script, guest, other.is_none(), options).await?;
        if options.fuel {
            let timed_out = TIMES.iter().any(|code| report.replayed_end == code.as_str());
            match self.fuel(&script, &same, guest, options, timed_out).await? {
                Ok(fuel) => report.resources.fuel = Some(fuel),
                Err(why) => report.notes.push(format!("fuel was not counted: {why}")),
            }
        }
        Ok(report)
    }

    /// What both bundles compute, or why that is not known.
    async fn fuel(
        &self,
        script: &Arc<Script>,
        same: &Guest,
        guest: &Guest,
        options: &Options,
        timed_out: bool,
    ) -> Result<Result<Fuel, &'static str>, ReplayError> {
        if options.stepper.is_some() {
            return Ok(Err("nobody is asked twice what to do at a step"));
        }
        if matches!(&script.end, End::Failure { code, .. } if is_time(*code)) {
            return Ok(Err("time ended the recorded run"));
        }
        if timed_out {
            return Ok(Err("time ended the replay"));
        }
        let counting = self.counting()?;
        let (observed, outcome) = observe(counting, script, same, Rules::default()).await;
        // Counting must change nothing: a number of another run would be none of this one.
        let recorded = compare(script, &observed, &outcome.result, true);
        let Some(recorded_bundle) = outcome.usage.fuel.filter(|_| recorded.divergences.is_empty()) else {
            return Ok(Err("the recorded bundle does not do the same as recorded"));
        };
        let (observed, outcome) = observe(counting, script, guest, Rules::of(options)).await;
        let timed_out = observed.ended.is_none() && matches!(&outcome.result, Err(e) if is_time(e.code));
        Ok(match outcome.usage.fuel {
            Some(_) if timed_out => Err("time ended the replay"),
            Some(candidate) => Ok(Fuel::new(recorded_bundle, candidate)),
            None => Err("the bundle did not run"),
        })
    }

    async fn play(
        &self,
        script: &Arc<Script>,
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
            wished.check(script, *number)?;
        }
        let (observed, outcome) = observe(&self.executor, script, guest, Rules::of(options)).await;
        if let Some(Ended::Undecodable(_)) = &observed.ended {
            return Err(undecodable(&observed));
        }
        // A run that its player ended has a code of its own, and nothing is wrong with the machine.
        if let Err(error) = &outcome.result
            && observed.ended.is_none()
            && is_machines(error)
        {
            return Err(ReplayError::Engine { reason: error.to_string() });
        }
        let mode = mode(exact, options, &observed);
        let comparison = compare(script, &observed, &outcome.result, mode == Mode::Exact);
        let sides = Sides { script, observed: &observed, outcome: &outcome, candidate: guest.bundle };
        Ok(Report::new(&sides, mode, comparison))
    }
}

impl Rules {
    fn of(options: &Options) -> Self {
        let Options { unmatched, overrides, stepper, .. } = options;
        Self { unmatched: *unmatched, overrides: overrides.clone(), stepper: stepper.clone() }
    }
}

/// Runs a guest with a player; what was asked, and what came of it.
async fn observe(
    executor: &Executor,
    script: &Arc<Script>,
    guest: &Guest,
    rules: Rules,
) -> (Observed, Outcome) {
    let player = Arc::new(TracePlayer::new(Arc::clone(script), rules));
    let outcome = guest::with_component(guest.component(), run(executor, script, &player)).await;
    (player.observed(), outcome)
}

async fn run(executor: &Executor, script: &Script, player: &Arc<TracePlayer>) -> Outcome {
    let run = Arc::new(run_of(script));
    let context = &run.context;
    // Compiled first: the time that a run is given begins when it runs. Why it does not compile is said again then.
    let _ = executor.warm(&context.tenant, &context.extension, &context.content_hash).await;
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
    let running = executor.execute(job);
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

/// An engine with nothing outside. `fuel`: it counts what guests compute.
fn executor(config: &ReplayerConfig, fuel: bool) -> Result<Executor, ReplayError> {
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
    let slots = u32::try_from(config.jobs.max(1)).unwrap_or(u32::MAX);
    let engine = EngineConfig { slots, fuel, ..EngineConfig::new(&config.cache) };
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
    Executor::new(executor, Arc::new(guest::OfTask), Arc::new(NoEvents), Arc::new(backends))
        .map_err(|e| failed(&e))
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
    let mut run = Run::clone(&script.header.run);
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

/// What was asked. Who walks through a replay and changes no answer has asked whether it is the same.
fn mode(exact: bool, options: &Options, observed: &Observed) -> Mode {
    let changed = observed.calls.iter().any(|call| call.answered == Answered::Overridden);
    match (exact, changed || !options.overrides.is_empty()) {
        (true, false) => Mode::Exact,
        (true, true) => Mode::Overridden,
        (false, _) => Mode::WhatIf,
    }
}

/// Whose doing it is that an answer could not be given.
fn undecodable(observed: &Observed) -> ReplayError {
    let reason = observed.ended.as_ref().map(Ended::words).unwrap_or_default();
    match observed.calls.last().map(|call| call.answered) {
        Some(Answered::Overridden) => ReplayError::Wished { reason },
        _ => ReplayError::Undecodable { reason },
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::player::{Seen, Step, StepAnswer};

    fn observed(answered: Answered) -> Observed {
        Observed {
            calls: vec![Seen {
                matched: Some(0),
                redacted: false,
                function: "storage.get".to_owned(),
                args: Bytes::new(),
                answered,
            }],
            ended: Some(Ended::Undecodable("storage.get has no such result: x".to_owned())),
            clocks: Default::default(),
            randoms: Default::default(),
            written: Default::default(),
        }
    }

    #[test]
    fn an_answer_that_is_none_is_the_traces_fault_unless_it_was_wished_for() {
        let recorded = undecodable(&observed(Answered::Recorded));
        assert_eq!(recorded.exit_code(), 2);
        assert_eq!(recorded.to_string(), "the trace cannot be replayed: storage.get has no such result: x");
        let wished = undecodable(&observed(Answered::Overridden));
        assert_eq!(wished.exit_code(), 3);
        assert_eq!(
            wished.to_string(),
            "the overridden answer cannot be given: storage.get has no such result: x"
        );
    }

    #[test]
    fn a_walk_that_changes_no_answer_asks_whether_it_is_the_same() {
        struct Looks;
        impl Stepper for Looks {
            fn before(&self, _step: &Step) -> StepAnswer {
                StepAnswer::Go
            }
        }
        let stepped = Options { stepper: Some(Arc::new(Looks)), ..Options::default() };
        let overridden =
            Options { overrides: [(3, Override::Error("x".to_owned()))].into(), ..Options::default() };
        let recorded = observed(Answered::Recorded);
        assert_eq!(mode(true, &stepped, &recorded), Mode::Exact);
        assert_eq!(mode(true, &stepped, &observed(Answered::Overridden)), Mode::Overridden);
        // What was asked for is no exact replay, though the call did not come.
        assert_eq!(mode(true, &overridden, &recorded), Mode::Overridden);
        assert_eq!(mode(false, &stepped, &recorded), Mode::WhatIf);
    }
}
