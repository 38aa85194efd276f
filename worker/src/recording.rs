//! Which runs are recorded, and what becomes of their traces.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use longshore_proto::call::CaptureLevel;
use longshore_proto::trace::{EngineInfo, Header, Redaction, TRACE_VERSION};
use longshore_proto::{BootId, ContentHash, LimitSet};
use longshore_secrets::Secrets;
use longshore_secrets::tokens::{Policy, TokenKey};
use longshore_trace::PackError;

use crate::host::recorder::{Recorded, Recorder};
use crate::job::{Job, Outcome};
use crate::limits::RunLimits;

/// Bytes that the trace of one run may hold before it is packed. Default 8 MiB.
pub const MAX_RUN_BYTES: usize = 8 << 20;

/// Packs a trace: some hundred microseconds of work that the answer need not wait for.
pub type Pack = Box<dyn FnOnce() -> Result<Recorded, PackError> + Send>;

/// Takes finished traces. Called at the end of runs, on the threads of guests: an implementation must not block, and counts what it cannot keep.
pub trait TraceSink: Send + Sync {
    /// Takes a trace of about `bytes` bytes.
    fn take(&self, bytes: usize, pack: Pack);
}

/// How this process records.
pub struct Recording {
    /// Where traces go.
    pub sink: Arc<dyn TraceSink>,
    /// What makes tokens of secrets.
    pub key: TokenKey,
    /// What else is replaced by tokens.
    pub policy: Arc<Policy>,
    /// See [`MAX_RUN_BYTES`].
    pub max_run_bytes: usize,
    /// Which worker this is.
    pub worker: BootId,
    /// What runs components.
    pub engine: EngineInfo,
}

impl Recording {
    /// A recorder for a run that begins now.
    pub(crate) fn begin(
        &self,
        job: &Job,
        component: [u8; 32],
        limits: &RunLimits,
        secrets: &Secrets,
    ) -> Arc<Recorder> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let header = Header {
            v: TRACE_VERSION,
            execution: job.execution,
            attempt: job.attempt,
            run: Arc::clone(&job.run),
            component: ContentHash::from_bytes(component),
            engine: self.engine.clone(),
            limits: in_force(limits),
            redaction: Redaction::default(),
            started_at_ms: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
            worker: self.worker,
        };
        let tokens = secrets.tokenizer(&self.key, Arc::clone(&self.policy));
        Arc::new(Recorder::new(header, job.body.as_ref(), tokens, self.max_run_bytes))
    }

    /// Hands over the trace of a run that is over, if it is wanted. `detail` is what the log has of a failure.
    pub(crate) fn end(
        &self,
        level: CaptureLevel,
        recorder: Arc<Recorder>,
        outcome: &Outcome,
        detail: Option<String>,
    ) {
        let failed = outcome.result.as_ref().map_or(true, |response| response.status >= 500);
        if level == CaptureLevel::RecordErrors && !failed {
            return;
        }
        let answer = outcome.result.as_ref().ok().and_then(|r| r.body.as_ref()).map_or(0, bytes::Bytes::len);
        let bytes = recorder.held_bytes().saturating_add(answer);
        let (at, result, usage) = (recorder.at(), outcome.result.clone(), outcome.usage);
        let pack = Box::new(move || {
            let result = result.as_ref().map_err(|error| (error, detail.as_deref()));
            recorder.finish(at, result, &usage)
        });
        self.sink.take(bytes, pack);
    }
}

fn in_force(limits: &RunLimits) -> LimitSet {
    // What nobody has limited is left out.
    let value = |value: u64| (value != u64::MAX).then_some(value);
    LimitSet {
        timeout_ms: value(limits.timeout_ms.value),
        memory_mb: value(limits.memory_mb.value),
        cpu_ms: value(limits.cpu_ms.value),
        host_calls: value(limits.host_calls.value),
        outbound_requests: value(limits.outbound_requests.value),
        log_bytes: value(limits.log_bytes.value),
        log_lines: value(limits.log_lines.value),
        response_bytes: value(limits.response_bytes.value),
    }
}
