//! An executor over the folder of built guests, without store, NATS or Redis.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use longshore_egress::{Egress, EgressConfig, EgressRules, SystemResolver};
use longshore_proto::call::{RunContext, RunHttp};
use longshore_proto::event::{DebugEvent, Kind};
use longshore_proto::manifest::Manifest;
use longshore_proto::{
    CallError, CapabilitySet, ContentHash, ErrorCode, ExecutionId, ExtensionId, Limits, Run, TenantId, User,
};
use longshore_secrets::{Opener, OpenerConfig};
use longshore_worker::engine::config::EngineConfig;
use longshore_worker::engine::source::{ComponentSource, SourceComponent};
use longshore_worker::events::EventSink;
use longshore_worker::execute::{Executor, ExecutorConfig};
use longshore_worker::host::backends::{Backends, HostMetrics};
use longshore_worker::job::{GuestResponse, Job, Outcome};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

pub fn built_guests() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/built")
}

/// Takes the extension's id as the name of a file. Digests are computed once, as the bundle cache does.
#[derive(Default)]
pub struct Folder {
    path: PathBuf,
    digests: Mutex<HashMap<PathBuf, [u8; 32]>>,
    manifest: Mutex<Option<Arc<Manifest>>>,
}

#[async_trait::async_trait]
impl ComponentSource for Folder {
    async fn component(
        &self,
        _tenant: &TenantId,
        extension: &ExtensionId,
        _bundle: &ContentHash,
    ) -> Result<Option<SourceComponent>, CallError> {
        let path = self.path.join(format!("{extension}.wasm"));
        if !path.exists() {
            return Ok(None);
        }
        let sha256 = *self
            .digests
            .lock()
            .entry(path.clone())
            .or_insert_with(|| Sha256::digest(std::fs::read(&path).unwrap()).into());
        let manifest = self.manifest.lock().clone();
        Ok(Some(SourceComponent { path, sha256, manifest, lease: Arc::new(()) }))
    }
}

#[derive(Default)]
pub struct Collected(Mutex<Vec<DebugEvent>>);

impl EventSink for Collected {
    fn emit(&self, event: DebugEvent) {
        self.0.lock().push(event);
    }
}

pub struct Fixture {
    pub executor: Arc<Executor>,
    pub root: tempfile::TempDir,
    pub config: ExecutorConfig,
    events: Arc<Collected>,
}

pub fn fixture() -> Fixture {
    fixture_with(|_| {})
}

/// With a manifest that every bundle has.
pub fn fixture_of(change: impl FnOnce(&mut ExecutorConfig), manifest: Manifest) -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let mut config = ExecutorConfig::new(EngineConfig::new(root.path()));
    change(&mut config);
    let events = Arc::new(Collected::default());
    let manifest = Mutex::new(Some(Arc::new(manifest)));
    let folder = Folder { path: built_guests(), manifest, ..Folder::default() };
    let sink = Arc::clone(&events) as _;
    let executor = Executor::new(config.clone(), Arc::new(folder), sink, no_backends()).unwrap();
    Fixture { executor: Arc::new(executor), root, config, events }
}

pub fn fixture_with(change: impl FnOnce(&mut ExecutorConfig)) -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let mut config = ExecutorConfig::new(EngineConfig::new(root.path()));
    change(&mut config);
    let events = Arc::new(Collected::default());
    let executor = executor(config.clone(), built_guests(), &events, no_backends());
    Fixture { executor, root, config, events }
}

/// Nothing behind the capabilities: no platform, no storage, nothing that may be reached.
pub fn no_backends() -> Arc<Backends> {
    let rules = EgressRules::from_variable::<&str>(&[]).unwrap();
    let egress = EgressConfig { rules, ..EgressConfig::default() };
    Arc::new(Backends {
        egress: Egress::new(egress, Arc::new(SystemResolver)).unwrap(),
        secrets: Opener::new(OpenerConfig::default()).unwrap(),
        storage: None,
        schedules: None,
        platform: None,
        ui_proxy: None,
        metrics: HostMetrics::default(),
    })
}

pub fn executor(
    config: ExecutorConfig,
    guests: PathBuf,
    events: &Arc<Collected>,
    backends: Arc<Backends>,
) -> Arc<Executor> {
    Arc::new(
        Executor::new(
            config,
            Arc::new(Folder { path: guests, ..Folder::default() }),
            Arc::clone(events) as _,
            backends,
        )
        .unwrap(),
    )
}

impl Fixture {
    /// Another process on the same cache folder.
    pub fn restart(&self) -> Arc<Executor> {
        executor(self.config.clone(), built_guests(), &self.events, no_backends())
    }

    pub async fn run(&self, call: Call) -> Outcome {
        self.executor.execute(call.job()).await
    }

    pub async fn code(&self, call: Call) -> ErrorCode {
        self.run(call).await.result.unwrap_err().code
    }

    pub fn events(&self) -> Vec<DebugEvent> {
        self.events.0.lock().clone()
    }

    pub fn of_kind(&self, kind: Kind) -> Vec<DebugEvent> {
        self.events().into_iter().filter(|e| e.kind == kind).collect()
    }

    pub fn messages(&self, kind: Kind) -> Vec<String> {
        self.of_kind(kind).into_iter().map(|e| e.message).collect()
    }
}

pub struct Call {
    run: Run,
    body: Option<Bytes>,
    timeout: Duration,
    pub cancel: CancellationToken,
}

/// A call to a guest with `path?query`.
pub fn call(guest: &str, url: &str) -> Call {
    Call {
        run: Run {
            context: RunContext {
                request_id: Some("r-1".into()),
                tenant: "tenant-1".parse().unwrap(),
                extension: guest.parse().unwrap(),
                install_id: Some("i-1".into()),
                version_id: None,
                content_hash: ContentHash::from_bytes([7; 32]),
                config: Default::default(),
                trigger: None,
            },
            http: RunHttp {
                method: "GET".into(),
                url: url.into(),
                headers: Vec::new(),
                scheme: None,
                authority: None,
            },
            limits: Limits::default(),
            capabilities: CapabilitySet::default(),
            user: None,
            secret_envelope: None,
            egress: None,
            capture: Default::default(),
        },
        body: None,
        timeout: Duration::from_secs(30),
        cancel: CancellationToken::new(),
    }
}

impl Call {
    pub fn post(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.run.http.method = "POST".into();
        self.run.http.headers.push(("Content-Type".into(), content_type.into()));
        self.body = Some(body.into());
        self
    }
    pub fn timeout_ms(mut self, ms: u64) -> Self {
        self.timeout = Duration::from_millis(ms);
        self
    }
    pub fn memory_mb(mut self, mb: u64) -> Self {
        self.run.limits.memory_mb = mb;
        self
    }
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.run.limits);
        self
    }
    pub fn user(mut self, user: User) -> Self {
        self.run.user = Some(user);
        self
    }
    pub fn capabilities(mut self, granted: &[&str]) -> Self {
        self.run.capabilities = CapabilitySet::parse(granted).unwrap();
        self
    }
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.run.http.headers.push((name.into(), value.into()));
        self
    }
    pub fn reached_as(mut self, scheme: &str, authority: &str) -> Self {
        self.run.http.scheme = Some(scheme.into());
        self.run.http.authority = Some(authority.into());
        self
    }
    pub fn config(mut self, entries: &[(&str, &str)]) -> Self {
        self.run.context.config = entries.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        self
    }
    pub fn grant_all(mut self) -> Self {
        let all = longshore_proto::Capability::ALL.iter().map(|c| c.as_str());
        self.run.capabilities = CapabilitySet::parse(all).unwrap();
        self
    }
    pub fn job(self) -> Job {
        Job {
            execution: ExecutionId::from_bytes(rand::random()),
            attempt: 1,
            run: Arc::new(self.run),
            body: self.body,
            deadline: Instant::now() + self.timeout,
            cancel: self.cancel,
            player: None,
        }
    }
}

pub fn json(outcome: &Outcome) -> Value {
    let response = answer(outcome);
    serde_json::from_slice(response.body.as_ref().unwrap()).unwrap()
}

pub fn answer(outcome: &Outcome) -> &GuestResponse {
    outcome.result.as_ref().unwrap()
}
