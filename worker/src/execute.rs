//! Runs an admitted call: fetch, compile, instantiate, call, answer. Every step counts against the call's deadline
//! and ends with a code that names it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use longshore_proto::ErrorCode;
use longshore_proto::event::{Kind, Level, Origin, Stream};
use longshore_proto::limits::MAX_MEMORY_MB;
use serde_json::json;
use tracing::Instrument;
use wasmtime::{Store, UpdateDeadline};

use crate::engine::components::{Components, ComponentsError, Prepared};
use crate::engine::config::EngineConfig;
use crate::engine::fault::{Fault, Phase, classify};
use crate::engine::meter::{Meter, Stop};
use crate::engine::response;
use crate::engine::runtime::{Runtime, RuntimeError};
use crate::engine::source::ComponentSource;
use crate::engine::stats::EngineStats;
use crate::events::EventSink;
use crate::host::RunState;
use crate::host::bindings::alga::extension::types::{ExecuteRequest, HttpHeader, HttpRequest};
use crate::host::record::{RecordLimits, RunRecord};
use crate::job::{GuestResponse, Job, Outcome, Usage};

/// What every run may use, beside the limits that it brings along.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// The engine and its caches.
    pub engine: EngineConfig,
    /// Host calls of one run; more end it with `execute_failed: host_calls`. Log lines do not count. Default 10,000.
    pub host_calls: u64,
    /// CPU time of one run; more ends it with `execute_failed: cpu_time`. Default: none, wall time bounds it.
    pub cpu_time: Option<Duration>,
    /// Bytes that one run may log, stdout and stderr included; what is over is dropped and counted. Default 1 MiB.
    pub log_bytes: usize,
    /// Bytes of one line of output; the rest is cut. Default 16 KiB.
    pub line_bytes: usize,
    /// Bytes of an answer's body; more is `execute_failed: response_too_large`. Default 16 MiB.
    pub response_bytes: usize,
    /// `LONGSHORE_GUEST_LOG=stdout`: guest output also as lines of the worker's log, target `guest`. Default off.
    pub guest_log: bool,
}

impl ExecutorConfig {
    /// The defaults with this engine.
    pub fn new(engine: EngineConfig) -> Self {
        Self {
            engine,
            host_calls: 10_000,
            cpu_time: None,
            log_bytes: 1 << 20,
            line_bytes: 16 << 10,
            response_bytes: 16 << 20,
            guest_log: false,
        }
    }
}

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
    config: ExecutorConfig,
    /// Instances alive now.
    instances: Arc<AtomicU64>,
}

impl Executor {
    /// Reserves the pool, opens the artifacts, starts ticker and compile threads. One per process.
    pub fn new(
        config: ExecutorConfig,
        source: Arc<dyn ComponentSource>,
        sink: Arc<dyn EventSink>,
    ) -> Result<Self, ExecutorError> {
        let runtime = Arc::new(Runtime::new(&config.engine)?);
        let components = Components::new(Arc::clone(&runtime), &config.engine)?;
        Ok(Self { runtime, components, source, sink, config, instances: Arc::default() })
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
        let record = Arc::new(RunRecord::new(origin(&job), Arc::clone(&self.sink), self.record_limits()));
        let meter = Arc::new(Meter::new(job.deadline, job.cancel.clone(), self.config.cpu_time));
        let mut watch = Stopwatch::start();
        begin(&job, &record);
        let result = self.run(&job, &record, &meter, &mut watch).await;
        let usage = Usage {
            cpu_us: meter.cpu_us(),
            peak_memory_bytes: record.peak_memory(),
            host_calls: record.host_calls(),
            prepare_us: watch.prepare_us(),
            handler_us: watch.handler_us(),
        };
        record.end_output();
        end(&job, &record, &result, usage);
        Outcome { result: result.map_err(|fault| fault.error), usage }
    }

    async fn run(
        &self,
        job: &Job,
        record: &Arc<RunRecord>,
        meter: &Arc<Meter>,
        watch: &mut Stopwatch,
    ) -> Result<GuestResponse, Fault> {
        let (prepared, lease) = self.prepare(job).await?;
        crate::secrets::check(job.run.secret_envelope.as_ref())?;
        let response = self.call(job, record, meter, watch, &prepared).await?;
        // The files of the bundle may go only now.
        drop(lease);
        response::checked(response, self.config.response_bytes).map_err(Fault::from)
    }

    /// The component, ready to instantiate. Neither the fetch nor the compilation ends when this call gives up.
    async fn prepare(&self, job: &Job) -> Result<(Arc<Prepared>, impl Sized + use<>), Fault> {
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
        Ok((prepared, source.lease))
    }

    async fn call(
        &self,
        job: &Job,
        record: &Arc<RunRecord>,
        meter: &Arc<Meter>,
        watch: &mut Stopwatch,
        prepared: &Prepared,
    ) -> Result<crate::host::bindings::alga::extension::types::ExecuteResponse, Fault> {
        let memory = job.run.limits.memory_mb.min(MAX_MEMORY_MB) << 20;
        let state = RunState::new(
            Arc::clone(&job.run),
            Arc::clone(record),
            usize::try_from(memory).unwrap_or(usize::MAX),
        );
        let mut store = self.store(state, meter);
        let request = request(job, &store);
        let failed = |error: wasmtime::Error, phase| classify(&error, phase, record.was_memory_refused());
        let run = async {
            let runner = prepared
                .pre
                .instantiate_async(&mut store)
                .await
                .map_err(|e| failed(e, Phase::Instantiate))?;
            watch.handler();
            record.emit(Kind::HandlerStart, Level::Debug, Stream::Log, "handler".to_owned(), None);
            runner.call_handler(&mut store, &request).await.map_err(|e| failed(e, Phase::Handler))
        };
        let counted = Counted::new(&self.instances);
        let ended = Arc::clone(meter).run(run).instrument(tracing::info_span!("handler")).await;
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
        store.set_hostcall_fuel(self.config.response_bytes.saturating_mul(2).max(32 << 20));
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

    fn record_limits(&self) -> RecordLimits {
        RecordLimits {
            host_calls: self.config.host_calls,
            log_bytes: self.config.log_bytes,
            line_bytes: self.config.line_bytes,
            guest_log: self.config.guest_log,
        }
    }
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

fn request(job: &Job, store: &Store<RunState>) -> ExecuteRequest {
    let http = &job.run.http;
    let headers =
        http.headers.iter().map(|(name, value)| HttpHeader { name: name.clone(), value: value.clone() });
    ExecuteRequest {
        context: store.data().context_data(),
        http: HttpRequest {
            method: http.method.clone(),
            url: http.url.clone(),
            headers: headers.collect(),
            body: job.body.as_ref().map(|bytes| bytes.to_vec()),
        },
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
    let capabilities: Vec<_> = run.capabilities.iter().map(|c| c.as_str()).collect();
    record.emit(
        Kind::Context,
        Level::Debug,
        Stream::Log,
        format!("{} {}", run.http.method, path(job)),
        Some(json!({
            "method": run.http.method,
            "path": path(job),
            "request_bytes": job.body.as_ref().map(bytes::Bytes::len),
            "capabilities": capabilities,
            "timeout_ms": limits.timeout_ms,
            "memory_mb": limits.memory_mb,
        })),
    );
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
                format!("{} in {} us", response.status, usage.handler_us),
                Some(json!({
                    "status": response.status,
                    "headers": response.headers.len(),
                    "response_bytes": response_bytes,
                    "duration_us": usage.handler_us,
                })),
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
                error_message(fault),
                Some(json!({
                    "code": fault.error.code.as_str(),
                    "fault": fault.error.code.fault().as_str(),
                    "message": fault.error.message,
                    "detail": fault.detail,
                    "duration_us": usage.handler_us,
                })),
            );
        }
    }
    record.emit(
        Kind::Usage,
        Level::Debug,
        Stream::Log,
        format!("{} us of CPU, {} bytes of memory", usage.cpu_us, usage.peak_memory_bytes),
        Some(json!({
            "cpu_us": usage.cpu_us,
            "peak_memory_bytes": usage.peak_memory_bytes,
            "host_calls": usage.host_calls,
            "prepare_us": usage.prepare_us,
            "handler_us": usage.handler_us,
            "request_bytes": job.body.as_ref().map_or(0, bytes::Bytes::len),
            "response_bytes": response_bytes,
        })),
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
    handler: Option<Instant>,
    ended: Option<Instant>,
}

impl Stopwatch {
    fn start() -> Self {
        Self { began: Instant::now(), handler: None, ended: None }
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
