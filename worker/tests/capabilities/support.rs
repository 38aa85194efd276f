//! The `driver` guest in an executor over a stub platform, a raw HTTP server and, where asked for, a real nats-server.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use longshore_egress::{Egress, EgressConfig, Resolve, SystemResolver};
use longshore_platform::{Platform, PlatformConfig, UiProxy};
use longshore_proto::call::{CaptureLevel, RunContext, RunHttp, SecretEnvelope};
use longshore_proto::event::{DebugEvent, Kind};
use longshore_proto::trace::Payload;
use longshore_proto::{
    BootId, CallError, Capability, CapabilitySet, ContentHash, ExecutionId, ExtensionId, Limits, Run,
    TenantId, User,
};
use longshore_schedules::PlatformSchedules;
use longshore_secrets::tokens::{Policy, TokenKey};
use longshore_secrets::{Opener, OpenerConfig};
use longshore_service::config::Secret;
use longshore_service::upstream::Upstream;
use longshore_storage::Storage;
use longshore_stub_platform::StubPlatform;
use longshore_trace::Trace;
use longshore_worker::engine::config::EngineConfig;
use longshore_worker::engine::source::{ComponentSource, SourceComponent};
use longshore_worker::events::EventSink;
use longshore_worker::execute::{Executor, ExecutorConfig};
use longshore_worker::host::backends::{Backends, HostMetrics};
use longshore_worker::host::recorder::Recorded;
use longshore_worker::job::{Job, Outcome};
use longshore_worker::limits::WorkerMaxima;
use longshore_worker::recording::{MAX_RUN_BYTES, Pack, Recording, TraceSink};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::strict::Strict;

/// The token between worker and platform.
pub const TOKEN: &str = "runner-token-of-tests";

/// The folder of built guests; an extension's id is the name of its file.
struct Guests;

#[async_trait::async_trait]
impl ComponentSource for Guests {
    async fn component(
        &self,
        _tenant: &TenantId,
        extension: &ExtensionId,
        _bundle: &ContentHash,
    ) -> Result<Option<SourceComponent>, CallError> {
        static DIGESTS: Mutex<Option<HashMap<PathBuf, [u8; 32]>>> = Mutex::new(None);
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/guests/built")
            .join(format!("{extension}.wasm"));
        let digest = || Sha256::digest(std::fs::read(&path).unwrap()).into();
        let mut digests = DIGESTS.lock();
        let sha256 = *digests.get_or_insert_default().entry(path.clone()).or_insert_with(digest);
        Ok(Some(SourceComponent { path, sha256, manifest: None, lease: Arc::new(()) }))
    }
}

#[derive(Default)]
struct Collected(Mutex<Vec<DebugEvent>>);

impl EventSink for Collected {
    fn emit(&self, event: DebugEvent) {
        self.0.lock().push(event);
    }
}

#[derive(Default)]
struct Traces(Mutex<Vec<Recorded>>);

impl TraceSink for Traces {
    fn take(&self, _bytes: usize, pack: Pack) {
        self.0.lock().push(pack().unwrap());
    }
}

/// What a bench is made of; [`Setup::default`] reaches nothing.
pub struct Setup {
    pub egress: EgressConfig,
    pub resolver: Arc<dyn Resolve>,
    pub platform: Option<String>,
    /// Of platform and UI proxy.
    pub timeout: Duration,
    /// Instead of the platform's.
    pub storage: Option<Arc<dyn Storage>>,
    pub maxima: WorkerMaxima,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            egress: EgressConfig::default(),
            resolver: Arc::new(SystemResolver),
            platform: None,
            timeout: Duration::from_secs(30),
            storage: None,
            maxima: WorkerMaxima::default(),
        }
    }
}

impl Setup {
    /// Over this stub.
    pub fn on(stub: &StubPlatform) -> Self {
        Self { platform: Some(stub.base_url()), ..Self::default() }
    }

    /// Egress to loopback addresses, whatever they are.
    pub fn open(mut self) -> Self {
        self.egress = EgressConfig { allow_all_when_empty: true, allow_private: true, ..self.egress };
        self
    }
}

fn backends(setup: &Setup) -> Backends {
    let upstream = Upstream::new().unwrap();
    let base = setup.platform.as_ref().map(|base| base.parse::<url::Url>().unwrap());
    let platform = base.as_ref().map(|base| {
        let token = Some(Secret::new(TOKEN));
        let config = PlatformConfig { base: base.clone(), token };
        Platform::new(&config, upstream.clone()).unwrap().with_timeout(setup.timeout)
    });
    let of_platform = |platform: &Platform| longshore_storage::on_platform(platform.clone());
    Backends {
        egress: Egress::new(setup.egress.clone(), Arc::clone(&setup.resolver)).unwrap(),
        secrets: Opener::new(OpenerConfig::default()).unwrap(),
        storage: setup.storage.clone().or_else(|| platform.as_ref().map(of_platform)),
        schedules: platform.as_ref().map(|p| Arc::new(PlatformSchedules::new(p.clone())) as _),
        ui_proxy: base.map(|base| UiProxy::new(&base, setup.timeout, upstream).unwrap()),
        platform,
        metrics: HostMetrics::default(),
    }
}

/// An executor and what came of its runs.
pub struct Bench {
    executor: Executor,
    events: Arc<Collected>,
    traces: Arc<Traces>,
    root: Arc<tempfile::TempDir>,
}

impl Bench {
    pub fn new(setup: &Setup) -> Self {
        Self::at(Arc::new(tempfile::tempdir().unwrap()), setup)
    }

    /// Another one with the same compiled guests.
    pub fn beside(&self, setup: &Setup) -> Self {
        Self::at(Arc::clone(&self.root), setup)
    }

    fn at(root: Arc<tempfile::TempDir>, setup: &Setup) -> Self {
        let mut config = ExecutorConfig::new(EngineConfig::new(root.path()));
        config.maxima = setup.maxima;
        let events = Arc::new(Collected::default());
        let backends = Arc::new(backends(setup));
        let executor = Executor::new(config, Arc::new(Guests), Arc::clone(&events) as _, backends).unwrap();
        let traces = Arc::new(Traces::default());
        let recording = Recording {
            sink: Arc::clone(&traces) as _,
            key: TokenKey::random(),
            policy: Arc::new(Policy::standard()),
            max_run_bytes: MAX_RUN_BYTES,
            worker: BootId::from_bytes([1; 16]),
            engine: executor.engine_info(),
        };
        Self { executor: executor.with_recording(recording), events, traces, root }
    }

    /// Runs a call to its end; only its own events are kept.
    pub async fn run(&self, call: Call) -> Outcome {
        self.events.0.lock().clear();
        self.executor.execute(call.job()).await
    }

    /// The trace of the last run, if it was to be recorded.
    pub fn trace(&self) -> Option<(Trace, BTreeMap<ContentHash, Bytes>)> {
        let recorded = self.traces.0.lock().pop()?;
        Some((longshore_trace::unpack(&recorded.packed.bytes).unwrap(), recorded.payloads))
    }

    /// A recorded run once more, answered by its trace alone.
    pub async fn replay(&self, trace: &Trace, payloads: &BTreeMap<ContentHash, Bytes>) -> Outcome {
        let player = Arc::new(Strict::new(trace.records(), payloads));
        let mut run = Run::clone(&trace.header().run);
        assert!(run.secret_envelope.is_none(), "a trace has no envelope");
        run.limits.timeout_ms = 60_000;
        let whole = |payload: &Payload| match payload {
            Payload::Inline(bytes) => bytes.clone(),
            Payload::Stored { sha256, .. } => payloads[sha256].clone(),
            Payload::Cut { .. } => panic!("cut"),
        };
        let job = Job {
            execution: trace.execution(),
            attempt: trace.header().attempt,
            run: Arc::new(run),
            body: trace.request_body().map(whole),
            deadline: Instant::now() + Duration::from_secs(60),
            cancel: CancellationToken::new(),
            player: Some(Arc::clone(&player) as _),
        };
        let outcome = self.executor.execute(job).await;
        player.finish();
        outcome
    }

    /// What the guest got of each function, in order.
    pub async fn results(&self, call: Call) -> Vec<Value> {
        let outcome = self.run(call).await;
        let response = outcome.result.unwrap();
        let body = response.body.unwrap();
        assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&body));
        let mut answer: Value = serde_json::from_slice(&body).unwrap();
        serde_json::from_value(answer["results"].take()).unwrap()
    }

    /// What the guest got of one function.
    pub async fn one(&self, call: Call) -> Value {
        self.results(call).await.remove(0)
    }

    /// The events of the last run.
    pub fn events(&self, kind: Kind) -> Vec<DebugEvent> {
        self.events.0.lock().iter().filter(|event| event.kind == kind).cloned().collect()
    }

    /// The data of its host calls.
    pub fn host_calls(&self) -> Vec<Value> {
        self.events(Kind::HostCall).into_iter().map(|event| event.whole_data().unwrap().value()).collect()
    }
}

/// `{"fn": .., "args": ..}` of the driver.
pub fn function(name: &str, args: Value) -> Value {
    json!({ "fn": name, "args": args })
}

/// A call in the making: everything granted, a user, a secret named `api_key`, install `i-1`.
pub struct Call {
    run: Run,
    body: Option<Vec<u8>>,
    pub cancel: CancellationToken,
}

/// A call of the driver that makes these calls.
pub fn drive(calls: impl IntoIterator<Item = Value>) -> Call {
    let calls: Vec<Value> = calls.into_iter().collect();
    let mut call = get("driver", "/");
    call.run.http.method = "POST".to_owned();
    call.body = Some(json!({ "calls": calls }).to_string().into_bytes());
    call
}

/// A GET to a guest.
pub fn get(guest: &str, url: &str) -> Call {
    let secrets = BASE64.encode(json!({ "api_key": "api-key-of-tests" }).to_string());
    let all = Capability::ALL.iter().map(|c| c.as_str());
    Call {
        run: Run {
            context: RunContext {
                request_id: Some("r-1".into()),
                tenant: "tenant-1".parse().unwrap(),
                extension: guest.parse().unwrap(),
                install_id: Some("i-1".into()),
                version_id: Some("v-1".into()),
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
            limits: Limits { timeout_ms: 60_000, ..Limits::default() },
            capabilities: CapabilitySet::parse(all).unwrap(),
            user: Some(User {
                user_id: "user-1".into(),
                user_email: "ada@example.com".into(),
                user_name: "Ada".into(),
                user_type: "internal".into(),
                client_name: "Example".into(),
                client_id: None,
                additional_fields: Default::default(),
            }),
            secret_envelope: Some(SecretEnvelope {
                ciphertext_b64: secrets,
                algorithm: Some("inline/base64".into()),
                version: None,
                expires_at: None,
                key_path: None,
                mount: None,
            }),
            egress: None,
            capture: Default::default(),
        },
        body: None,
        cancel: CancellationToken::new(),
    }
}

impl Call {
    /// With a trace.
    pub fn recorded(mut self) -> Self {
        self.run.capture = CaptureLevel::Record;
        self
    }

    /// With a trace if it fails.
    pub fn recorded_if_it_fails(mut self) -> Self {
        self.run.capture = CaptureLevel::RecordErrors;
        self
    }

    /// With nothing granted but what always is.
    pub fn ungranted(mut self) -> Self {
        self.run.capabilities = CapabilitySet::default();
        self
    }

    /// With these capabilities and what always is granted.
    pub fn granted(mut self, capabilities: &[&str]) -> Self {
        self.run.capabilities = CapabilitySet::parse(capabilities.iter().copied()).unwrap();
        self
    }

    /// With these secrets instead.
    pub fn secrets(mut self, secrets: &Value) -> Self {
        let envelope = self.run.secret_envelope.as_mut().unwrap();
        envelope.ciphertext_b64 = BASE64.encode(secrets.to_string());
        self
    }

    /// With so many milliseconds.
    pub fn timeout_ms(mut self, timeout_ms: u64) -> Self {
        self.run.limits.timeout_ms = timeout_ms;
        self
    }

    pub fn install(mut self, id: Option<&str>) -> Self {
        self.run.context.install_id = id.map(str::to_owned);
        self
    }

    fn job(self) -> Job {
        let timeout = Duration::from_millis(self.run.limits.timeout_ms);
        Job {
            execution: ExecutionId::from_bytes(rand::random()),
            attempt: 1,
            run: Arc::new(self.run),
            body: self.body.map(Into::into),
            deadline: Instant::now() + timeout,
            cancel: self.cancel,
            player: None,
        }
    }
}

/// Answers the same addresses for whatever name is listed, and none for others.
pub struct Names(pub &'static [(&'static str, &'static [&'static str])]);

#[async_trait::async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        let found = self.0.iter().find(|(name, _)| *name == host);
        let (_, addresses) = found.ok_or_else(|| std::io::Error::other("no such name"))?;
        Ok(addresses.iter().map(|a| SocketAddr::new(a.parse().unwrap(), port)).collect())
    }
}
