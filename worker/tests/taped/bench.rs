//! An executor that records, and the same one that plays a trace back. Built guests and examples by their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use longshore_egress::{Egress, EgressConfig, SystemResolver};
use longshore_proto::call::{CaptureLevel, RunContext, RunHttp};
use longshore_proto::trace::{Entry, Record};
use longshore_proto::{
    CallError, Capability, CapabilitySet, ContentHash, ExecutionId, ExtensionId, Limits, Run, TenantId,
};
use longshore_secrets::tokens::{Policy, TokenKey};
use longshore_secrets::{Opener, OpenerConfig};
use longshore_worker::engine::config::EngineConfig;
use longshore_worker::engine::source::{ComponentSource, SourceComponent};
use longshore_worker::events::NoEvents;
use longshore_worker::execute::{Executor, ExecutorConfig};
use longshore_worker::host::backends::{Backends, HostMetrics};
use longshore_worker::job::{Job, Outcome};
use longshore_worker::recording::{MAX_RUN_BYTES, Pack, Recording, TraceSink};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::player::Strict;

fn component(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let guest = root.join("tests/guests/built").join(format!("{name}.wasm"));
    if guest.exists() { guest } else { root.join("examples").join(name).join("dist/main.wasm") }
}

/// The extension's id is the name.
#[derive(Default)]
struct Folder(Mutex<BTreeMap<PathBuf, [u8; 32]>>);

#[async_trait::async_trait]
impl ComponentSource for Folder {
    async fn component(
        &self,
        _tenant: &TenantId,
        extension: &ExtensionId,
        _bundle: &ContentHash,
    ) -> Result<Option<SourceComponent>, CallError> {
        let path = component(extension.as_str());
        let digest = || Sha256::digest(std::fs::read(&path).unwrap()).into();
        let sha256 = *self.0.lock().entry(path.clone()).or_insert_with(digest);
        Ok(Some(SourceComponent { path, sha256, manifest: None, lease: Arc::new(()) }))
    }
}

#[derive(Default)]
struct Traces(Mutex<Vec<longshore_worker::host::recorder::Recorded>>);

impl TraceSink for Traces {
    fn take(&self, _bytes: usize, pack: Pack) {
        self.0.lock().push(pack().unwrap());
    }
}

pub struct Bench {
    executor: Executor,
    traces: Arc<Traces>,
    _root: tempfile::TempDir,
}

/// A run and its trace.
pub struct Taped {
    pub outcome: Outcome,
    run: Arc<Run>,
    body: Option<Bytes>,
    execution: ExecutionId,
    records: Vec<Record>,
    payloads: BTreeMap<ContentHash, Bytes>,
}

impl Taped {
    pub fn entries(&self) -> Vec<&Entry> {
        self.records.iter().map(|record| &record.entry).collect()
    }

    /// The functions of its host calls, in order.
    pub fn calls(&self) -> Vec<String> {
        let function = |entry: &Entry| match entry {
            Entry::CallStart { function, .. } => Some(function.to_string()),
            _ => None,
        };
        self.entries().into_iter().filter_map(function).collect()
    }
}

impl Bench {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let egress =
            EgressConfig { allow_all_when_empty: true, allow_private: true, ..EgressConfig::default() };
        let backends = Arc::new(Backends {
            egress: Egress::new(egress, Arc::new(SystemResolver)).unwrap(),
            secrets: Opener::new(OpenerConfig::default()).unwrap(),
            storage: None,
            schedules: None,
            platform: None,
            ui_proxy: None,
            metrics: HostMetrics::default(),
        });
        let config = ExecutorConfig::new(EngineConfig::new(root.path()));
        let executor =
            Executor::new(config, Arc::new(Folder::default()), Arc::new(NoEvents), backends).unwrap();
        let traces = Arc::new(Traces::default());
        let recording = Recording {
            sink: Arc::clone(&traces) as _,
            key: TokenKey::random(),
            policy: Arc::new(Policy::default()),
            max_run_bytes: MAX_RUN_BYTES,
            worker: longshore_proto::BootId::from_bytes([1; 16]),
            engine: executor.engine_info(),
        };
        Self { executor: executor.with_recording(recording), traces, _root: root }
    }

    /// Whether a component has been built.
    pub fn has(&self, name: &str) -> bool {
        component(name).exists()
    }

    pub async fn record(&self, call: Call) -> Taped {
        let Call { run, body, timeout } = call;
        let (run, execution) = (Arc::new(run), ExecutionId::from_bytes(rand::random()));
        let outcome = self.executor.execute(job(&run, body.clone(), execution, timeout)).await;
        let recorded = self.traces.0.lock().pop().unwrap();
        let trace = longshore_trace::unpack(&recorded.packed.bytes).unwrap();
        assert_eq!(trace.trailer().unreplayable, None);
        Taped {
            outcome,
            run,
            body,
            execution,
            records: trace.records().to_vec(),
            payloads: recorded.payloads,
        }
    }

    /// The trace alone answers the guest, and all of it does.
    pub async fn replay(&self, taped: &Taped) -> Outcome {
        let player = Arc::new(Strict::new(&taped.records, &taped.payloads));
        let mut job = job(&taped.run, taped.body.clone(), taped.execution, Duration::from_secs(20));
        job.player = Some(Arc::clone(&player) as _);
        let outcome = self.executor.execute(job).await;
        assert!(self.traces.0.lock().is_empty(), "a replay was recorded");
        player.finish();
        outcome
    }
}

fn job(run: &Arc<Run>, body: Option<Bytes>, execution: ExecutionId, timeout: Duration) -> Job {
    Job {
        execution,
        attempt: 1,
        run: Arc::clone(run),
        body,
        deadline: Instant::now() + timeout,
        cancel: CancellationToken::new(),
        player: None,
    }
}

pub struct Call {
    run: Run,
    body: Option<Bytes>,
    timeout: Duration,
}

/// A recorded GET with everything granted.
pub fn get(guest: &str, url: &str) -> Call {
    Call {
        run: Run {
            context: RunContext {
                request_id: Some("r-1".into()),
                tenant: "tenant-1".parse().unwrap(),
                extension: guest.parse().unwrap(),
                install_id: Some("i-1".into()),
                version_id: None,
                content_hash: ContentHash::from_bytes([7; 32]),
                config: [("a".to_owned(), "1".to_owned())].into(),
                trigger: None,
            },
            http: RunHttp {
                method: "GET".into(),
                url: url.into(),
                headers: Vec::new(),
                scheme: None,
                authority: None,
            },
            limits: Limits { timeout_ms: 30_000, ..Limits::default() },
            capabilities: CapabilitySet::parse(Capability::ALL.iter().map(|c| c.as_str())).unwrap(),
            user: None,
            secret_envelope: None,
            egress: None,
            capture: CaptureLevel::Record,
        },
        body: None,
        timeout: Duration::from_secs(30),
    }
}

impl Call {
    pub fn post(mut self, body: impl Into<Bytes>) -> Self {
        self.run.http.method = "POST".into();
        self.body = Some(body.into());
        self
    }
    pub fn ungranted(mut self) -> Self {
        self.run.capabilities = CapabilitySet::default();
        self
    }
    pub fn timeout_ms(mut self, ms: u64) -> Self {
        self.timeout = Duration::from_millis(ms);
        self
    }
    pub fn outbound_requests(mut self, most: u64) -> Self {
        self.run.limits.outbound_requests = Some(most);
        self
    }
}

pub fn body(outcome: &Outcome) -> Vec<u8> {
    outcome.result.as_ref().unwrap().body.as_ref().map(|body| body.to_vec()).unwrap_or_default()
}
