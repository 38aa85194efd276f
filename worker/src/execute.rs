//! Runs an admitted call: fetch, compile, instantiate, call, answer. Every step counts against the call's deadline
//! and ends with a code that names it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use longshore_egress::EgressRules;
use longshore_proto::call::CaptureLevel;
use longshore_proto::event::{Kind, Level, Origin, Stream};
use longshore_proto::manifest::Manifest;
use longshore_proto::trace::EngineInfo;
use longshore_proto::{CallError, ContentHash, ErrorCode, ExtensionId, Run, TenantId};
use longshore_secrets::Secrets;
use tracing::Instrument;
use wasmtime::{Store, UpdateDeadline};

use crate::engine::components::{Components, ComponentsError, Prepared};
use crate::engine::config::EngineConfig;
use crate::engine::fault::{Fault, Phase, classify};
use crate::engine::handler::{Handler, HandlerError};
use crate::engine::meter::{Meter, Stop};
use crate::engine::runtime::{Runtime, RuntimeError};
use crate::engine::source::ComponentSource;
use crate::engine::stats::EngineStats;
use crate::events::{EventSink, NoEvents};
use crate::host::RunState;
use crate::host::backends::Backends;
use crate::host::record::{OutputConfig, RunRecord};
use crate::host::recorded::Recorded as _;
use crate::host::scope::RunScope;
use crate::host::tape::Tape;
use crate::job::{GuestResponse, Job, Outcome, Usage};
use crate::limits::{RunLimits, WorkerMaxima};
use crate::recording::Recording;

/// As in `Cargo.lock`, which a test compares: the library tells its major version alone.
const WASMTIME: &str = "48.0.8";

/// What every run may use, beside the limits that it brings along.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// The engine and its caches.
    pub engine: EngineConfig,
    /// What a run may use at most; calls and manifests can only lower it.
    pub maxima: WorkerMaxima,
    /// Bytes of one line of output; the rest is cut. Default 16 KiB.
    pub line_bytes: usize,
    /// `LONGSHORE_GUEST_LOG=stdout`: guest output also as lines of the worker's log, target `guest`. Default off.
    pub guest_log: bool,
}

impl ExecutorConfig {
    /// The defaults with this engine.
    pub fn new(engine: EngineConfig) -> Self {
        Self { engine, maxima: WorkerMaxima::default(), line_bytes: 16 << 10, guest_log: false }
    }
}

/// Fuel of a run, where it is counted: so much that no run ends for it.
const FUEL: u64 = u64::MAX;

/// The executor cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The engine.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The compile cache.
    #[error(transparent)]
    Components(#[from] ComponentsError),
}

/// Runs jobs. Cheap to share; it does not limit how many run: slots do.
pub struct Executor {
    runtime: Arc<Runtime>,
    components: Components,
    source: Arc<dyn ComponentSource>,
    sink: Arc<dyn EventSink>,
    backends: Arc<Backends>,
    config: ExecutorConfig,
    recording: Option<Recording>,
    /// Instances alive now.
    instances: Arc<AtomicU64>,
}

impl Executor {
    /// Reserves the pool, opens the artifacts, starts ticker and compile threads. One per process.
    pub fn new(
        config: ExecutorConfig,
        source: Arc<dyn ComponentSource>,
        sink: Arc<dyn EventSink>,
        backends: Arc<Backends>,
    ) -> Result<Self, ExecutorError> {
        let runtime = Arc::new(Runtime::new(&config.engine)?);
        let components = Components::new(Arc::clone(&runtime), &config.engine)?;
        let recording = None;
        Ok(Self { runtime, components, source, sink, backends, config, recording, instances: Arc::default() })
    }

    /// From now on runs that ask for it are recorded.
    #[must_use]
    pub fn with_recording(mut self, recording: Recording) -> Self {
        self.recording = Some(recording);
        self
    }

    /// What runs components here, as traces name it.
    pub fn engine_info(&self) -> EngineInfo {
        EngineInfo {
            wasmtime: WASMTIME.to_owned(),
            compiler: self.config.engine.compiler.as_str().to_owned(),
            fingerprint: self.runtime.fingerprint().to_owned(),
        }
    }

    /// The engine's counters.
    pub fn stats(&self) -> EngineStats {
        self.components.stats()
    }

    /// Instances alive now.
    pub fn instances(&self) -> u64 {
        self.instances.load(Relaxed)
    }

    /// Resolves when no component is being compiled: before the process ends.
    pub async fn idle(&self) {
        self.components.idle().await;
    }

    /// Runs one job to its outcome, on whatever tokio runtime polls it. Its instance has been dropped when this
    /// returns, and when this future is dropped.
    pub async fn execute(&self, job: Job) -> Outcome {
        let span = tracing::info_span!(
            "execute",
            execution = %job.execution,
            attempt = job.attempt,
            tenant = %job.run.context.tenant,
            extension = %job.run.context.extension,
        );
        // Boxed: the futures of wasmtime and of the fetch are kilobytes that callers should not carry along.
        Box::pin(self.run_to_outcome(job)).instrument(span).await
    }

    async fn run_to_outcome(&self, job: Job) -> Outcome {
        let output = OutputConfig { line_bytes: self.config.line_bytes, guest_log: self.config.guest_log };
        let sink = match job.run.capture {
            CaptureLevel::Off => Arc::new(NoEvents),
            CaptureLevel::Events | CaptureLevel::Record | CaptureLevel::RecordErrors => {
                Arc::clone(&self.sink)
            }
        };
        let record = Arc::new(RunRecord::new(origin(&job), sink, output));
        let mut watch = Stopwatch::start();
        let mut tape = Tape::Off;
        let result = self.run(&job, &record, &mut watch, &mut tape).await;
        let result = result.map_err(|fault| without_secrets(fault, &record));
        let usage = Usage {
            cpu_us: watch.cpu_us(),
            peak_memory_bytes: record.peak_memory(),
            host_calls: record.host_calls(),
            outbound_requests: record.outbound_requests(),
            prepare_us: watch.prepare_us(),
            handler_us: watch.handler_us(),
            fuel: watch.fuel,
        };
        record.end_output();
        end(&job, &record, &result, usage);
        let detail = result.as_ref().err().and_then(|fault| fault.detail.clone());
        let outcome = Outcome { result: result.map_err(|fault| fault.error), usage };
        if let (Tape::Recording(recorder), Some(recording)) = (tape, &self.recording) {
            recording.end(job.run.capture, recorder, &outcome, detail);
        }
        outcome
    }

    async fn run(
        &self,
        job: &Job,
        record: &Arc<RunRecord>,
        watch: &mut Stopwatch,
        tape: &mut Tape,
    ) -> Result<GuestResponse, Fault> {
        // Opened first, so that nothing is published before it is known what must not be. What is wrong with it is
        // said in its turn: after the bundle, as existing callers know it (interop 2.4).
        let secrets = before(job, ErrorCode::Timeout, self.open_secrets(&job.run)).await.flatten();
        if let Ok(secrets) = &secrets {
            record.keep_secret(Arc::clone(secrets.redactor()));
        }
        begin(job, record);
        let (prepared, digest, manifest, lease) = self.prepare(job).await?;
        let secrets = secrets?;
        let asked = manifest.as_ref().map(|m| m.limits).unwrap_or_default();
        let limits = RunLimits::lowest(&self.config.maxima, &job.run.limits, &asked);
        record.start(limits);
        let deadline = job.deadline.min(Instant::now() + Duration::from_millis(limits.timeout_ms.value));
        let cpu = Duration::from_millis(limits.cpu_ms.value);
        let meter = Arc::new(Meter::new(deadline, job.cancel.clone(), Some(cpu)));
        watch.meter(&meter);
        *tape = match (&job.player, &self.recording) {
            (Some(player), _) => Tape::Replaying(Arc::clone(player)),
            (None, Some(recording)) if job.run.capture.records() => {
                let recorder = recording.begin(job, digest, &limits, &secrets);
                if matches!(prepared.handler, Handler::HttpAsync(_)) {
                    recorder.unreplayable(
                        "wasi:http 0.3 runs tasks side by side, in an order that is not recorded",
                    );
                }
                Tape::Recording(recorder)
            }
            (None, _) => Tape::Off,
        };
        let scope = Arc::new(RunScope {
            execution: job.execution,
            attempt: job.attempt,
            run: Arc::clone(&job.run),
            record: Arc::clone(record),
            limits,
            meter,
            deadline,
            secrets,
            egress: egress_rules(&job.run)?,
            manifest,
            backends: Arc::clone(&self.backends),
            tape: tape.clone(),
        });
        let response =
            self.call(job, &scope, watch, &prepared).await.map_err(|fault| explained(fault, &limits));
        // The files of the bundle may go only now.
        drop(lease);
        response
    }

    /// An envelope that cannot be opened fails the whole call, whatever the guest may do with secrets: a broken
    /// rotation is seen at once and not by the first guest that asks (interop 7).
    async fn open_secrets(&self, run: &Run) -> Result<Arc<Secrets>, Fault> {
        let context = &run.context;
        let scope = longshore_secrets::Scope {
            tenant: &context.tenant,
            extension: &context.extension,
            install: context.install_id.as_deref(),
            version: context.version_id.as_deref(),
        };
        self.backends.secrets.open(&scope, run.secret_envelope.as_ref()).await.map_err(|error| Fault {
            error: CallError::new(ErrorCode::SecretDecryptFailed, error.for_caller()),
            detail: Some(longshore_service::errors::chain(&error).to_string()),
        })
    }

    /// Fetches and compiles a bundle ahead of its first call. A bundle of pages alone is ready by being there.
    ///
    /// # Errors
    /// What a call would have been answered.
    pub async fn warm(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        bundle: &ContentHash,
    ) -> Result<(), CallError> {
        match self.source.component(tenant, extension, bundle).await? {
            None => Ok(()),
            Some(source) => self.components.get(&source).await.map(|_| ()).map_err(|e| e.call_error()),
        }
    }

    /// The component, ready to instantiate. Neither the fetch nor the compilation ends when this call gives up.
    async fn prepare(
        &self,
        job: &Job,
    ) -> Result<(Arc<Prepared>, [u8; 32], Option<Arc<Manifest>>, impl Sized + use<>), Fault> {
        let context = &job.run.context;
        let fetch = self.source.component(&context.tenant, &context.extension, &context.content_hash);
        let source = before(job, ErrorCode::TimeoutFetching, fetch)
            .instrument(tracing::info_span!("fetch"))
            .await??
            .ok_or(ErrorCode::ExtensionHasNoHandler)?;
        let prepared = before(job, ErrorCode::TimeoutCompiling, self.components.get(&source))
            .instrument(tracing::info_span!("prepare"))
            .await?
            .map_err(|e| e.call_error())?;
        Ok((prepared, source.sha256, source.manifest, source.lease))
    }

    async fn call(
        &self,
        job: &Job,
        scope: &Arc<RunScope>,
        watch: &mut Stopwatch,
        prepared: &Prepared,
    ) -> Result<GuestResponse, Fault> {
        let record = &scope.record;
        let meter = Arc::clone(&scope.meter);
        let mut store = self.store(RunState::new(Arc::clone(scope)), &meter);
        let handler = if scope.tape.is_on() { prepared.taped()? } else { &prepared.handler };
        let ready = handler.prepare(job, store.data())?;
        let max_bytes = scope.limits.response_bytes.as_usize();
        let failed = |error: wasmtime::Error, phase| classify(&error, phase, record.was_memory_refused());
        let run = async {
            let ready = ready.instantiate(&mut store).await.map_err(|e| failed(e, Phase::Instantiate))?;
            watch.handler();
            record.emit(Kind::HandlerStart, Level::Debug, Stream::Log, format_args!("handler"), |_| {});
            ready.call(&mut store, max_bytes).await.map_err(|e| match e {
                HandlerError::Wasm(e) => failed(e, Phase::Handler),
                HandlerError::Answer(e) => Fault::from(e),
            })
        };
        let counted = Counted::new(&self.instances);
        let ended = meter.run(run).instrument(tracing::info_span!("handler")).await;
        // An error means that this engine does not count.
        watch.fuel = store.get_fuel().ok().map(|left| FUEL.saturating_sub(left));
        drop(store);
        drop(counted);
        watch.stop();
        ended.map_err(Fault::from).flatten()
    }

    fn store(&self, state: RunState, meter: &Arc<Meter>) -> Store<RunState> {
        let mut store = Store::new(self.runtime.engine(), state);
        store.limiter(|state| state.limits());
        // What may cross the border in one call: an answer with its headers, and some more, so that one that is over
        // its limit is usually told apart from a mistake.
        let answer = store.data().scope().limits.response_bytes.as_usize();
        store.set_hostcall_fuel(answer.saturating_mul(2).max(32 << 20));
        if self.config.engine.fuel
            && let Err(error) = store.set_fuel(FUEL)
        {
            tracing::warn!(%error, "what guests compute is not counted");
        }
        store.set_epoch_deadline(1);
        let meter = Arc::clone(meter);
        store.epoch_deadline_callback(move |_| match meter.broken(true) {
            Some(stop) => Err(stop.into()),
            // Not `Yield`: that wakes the task at once, and tokio looks at timers and sockets only after 61 polls of
            // ready tasks, which are 610 ms here. Measured: a spinning guest held up its neighbours' timers for so long.
            None => Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))),
        });
        store
    }
}

/// The install's list of hosts.
fn egress_rules(run: &Run) -> Result<Option<EgressRules>, Fault> {
    run.egress.as_deref().map(EgressRules::from_install).transpose().map_err(|error| {
        CallError::new(
            ErrorCode::InvalidRequest,
            format!("egress: {}", longshore_service::errors::chain(&error)),
        )
        .into()
    })
}

/// The words of a failure may be the guest's own (a header's name, an error that it answered): they go to the caller,
/// to the worker's log and to traces.
fn without_secrets(mut fault: Fault, record: &RunRecord) -> Fault {
    fault.error.message = record.redact_cut(&fault.error.message).into_owned();
    fault.detail = fault.detail.map(|detail| record.redact_cut(&detail).into_owned());
    fault
}

/// A broken limit names itself, its value and who has set it.
fn explained(mut fault: Fault, limits: &RunLimits) -> Fault {
    if let Some(words) = limits.explain(fault.error.code) {
        match fault.error.message.as_str() {
            "" => fault.error.message = words,
            said => fault.error.message = format!("{said}; {words}"),
        }
    }
    fault
}

/// What a future gives before the job's deadline, or the code for its passing.
async fn before<T>(job: &Job, late: ErrorCode, work: impl Future<Output = T>) -> Result<T, Fault> {
    tokio::select! {
        biased;
        () = job.cancel.cancelled() => Err(Fault::from(Stop::Cancelled)),
        done = work => Ok(done),
        () = tokio::time::sleep_until(job.deadline.into()) => Err(Fault::from(late)),
    }
}

fn origin(job: &Job) -> Origin {
    let context = &job.run.context;
    Origin {
        tenant: context.tenant.clone(),
        extension: context.extension.clone(),
        install: context.install_id.clone(),
        request: context.request_id.clone(),
        version: context.version_id.clone(),
        content_hash: context.content_hash,
        execution: job.execution,
        attempt: job.attempt,
    }
}

/// Queries may hold tokens: events and logs name the path only.
fn path(job: &Job) -> &str {
    job.run.http.url.split(['?', '#']).next().unwrap_or_default()
}

fn begin(job: &Job, record: &RunRecord) {
    let (run, limits) = (&job.run, &job.run.limits);
    let message = format_args!("{} {}", run.http.method, path(job));
    record.emit(Kind::Context, Level::Debug, Stream::Log, message, |data| {
        data.text("method", &run.http.method);
        data.text("path", path(job));
        data.field("request_bytes", |room| job.body.as_ref().map(|body| body.len() as u64).record(room));
        data.field("capabilities", |room| {
            let names: Vec<_> = run.capabilities.iter().map(|c| c.as_str()).collect();
            room.names(names);
        });
        data.number("config", run.context.config.len() as u64);
        data.number("config_left_out", crate::host::wasi::left_out(&run.context.config) as u64);
        data.field("timeout_ms", |room| limits.timeout_ms.record(room));
        data.field("memory_mb", |room| limits.memory_mb.record(room));
    });
}

/// The last events of the run and its one line in the worker's log.
fn end(job: &Job, record: &RunRecord, result: &Result<GuestResponse, Fault>, usage: Usage) {
    let response_bytes = result.as_ref().ok().and_then(|r| r.body.as_ref()).map_or(0, bytes::Bytes::len);
    match result {
        Ok(response) => {
            tracing::info!(
                status = response.status,
                handler_us = usage.handler_us,
                prepare_us = usage.prepare_us,
                cpu_us = usage.cpu_us,
                response_bytes,
                "executed"
            );
            record.emit(
                Kind::Response,
                Level::Info,
                Stream::Log,
                format_args!("{} in {} us", response.status, usage.handler_us),
                |data| {
                    data.number("status", response.status.into());
                    data.number("headers", response.headers.len() as u64);
                    data.number("response_bytes", response_bytes as u64);
                    data.number("duration_us", usage.handler_us);
                },
            );
        }
        Err(fault) => {
            let detail = fault.detail.as_deref().unwrap_or_default();
            tracing::warn!(
                code = fault.error.code.as_str(),
                fault = fault.error.code.fault().as_str(),
                handler_us = usage.handler_us,
                prepare_us = usage.prepare_us,
                cpu_us = usage.cpu_us,
                detail,
                "{}",
                fault.error
            );
            record.emit(
                Kind::Error,
                Level::Error,
                Stream::Log,
                format_args!("{}", error_message(fault)),
                |data| {
                    data.text("code", fault.error.code.as_str());
                    data.text("fault", fault.error.code.fault().as_str());
                    data.text("message", &fault.error.message);
                    data.field("detail", |room| fault.detail.record(room));
                    data.number("duration_us", usage.handler_us);
                },
            );
        }
    }
    record.emit(
        Kind::Usage,
        Level::Debug,
        Stream::Log,
        format_args!("{} us of CPU, {} bytes of memory", usage.cpu_us, usage.peak_memory_bytes),
        |data| {
            data.number("cpu_us", usage.cpu_us);
            data.number("peak_memory_bytes", usage.peak_memory_bytes);
            data.number("host_calls", usage.host_calls);
            data.number("outbound_requests", usage.outbound_requests);
            data.number("prepare_us", usage.prepare_us);
            data.number("handler_us", usage.handler_us);
            data.number("request_bytes", job.body.as_ref().map_or(0, |body| body.len() as u64));
            data.number("response_bytes", response_bytes as u64);
        },
    );
}

/// `execute failed: ...`, as existing consumers of the stream know it, with the backtrace after it.
fn error_message(fault: &Fault) -> String {
    let text = fault.error.to_string();
    let text = text.strip_prefix("execute_failed: ").unwrap_or(&text);
    match &fault.detail {
        Some(detail) => format!("execute failed: {text}\n{detail}"),
        None => format!("execute failed: {text}"),
    }
}

/// How long the two parts of a run took.
struct Stopwatch {
    began: Instant,
    meter: Option<Arc<Meter>>,
    handler: Option<Instant>,
    ended: Option<Instant>,
    fuel: Option<u64>,
}

impl Stopwatch {
    fn start() -> Self {
        Self { began: Instant::now(), meter: None, handler: None, ended: None, fuel: None }
    }
    /// The guest's CPU clock.
    fn meter(&mut self, meter: &Arc<Meter>) {
        self.meter = Some(Arc::clone(meter));
    }
    fn cpu_us(&self) -> u64 {
        self.meter.as_ref().map_or(0, |meter| meter.cpu_us())
    }
    fn handler(&mut self) {
        self.handler = Some(Instant::now());
    }
    fn stop(&mut self) {
        self.ended = Some(Instant::now());
    }
    fn prepare_us(&self) -> u64 {
        micros(self.handler.unwrap_or_else(Instant::now).saturating_duration_since(self.began))
    }
    fn handler_us(&self) -> u64 {
        let ended = self.ended.unwrap_or_else(Instant::now);
        self.handler.map_or(0, |began| micros(ended.saturating_duration_since(began)))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// An instance that is alive; also when the future is dropped.
struct Counted(Arc<AtomicU64>);

impl Counted {
    fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_name_the_version_of_wasmtime_that_is_built_in() {
        let lock = include_str!("../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{WASMTIME}\"\n")));
    }
}
