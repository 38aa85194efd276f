//! Real guests, recorded by the worker's executor and replayed: the same bytes; and other guests in their place.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use longshore_bundle::archive::{content_hash, pack_files};
use longshore_egress::{Egress, EgressConfig, EgressRules, SystemResolver};
use longshore_proto::call::{CaptureLevel, RunContext, RunHttp};
use longshore_proto::{
    BootId, CallError, Capability, CapabilitySet, ContentHash, ExecutionId, ExtensionId, Limits, Run,
    TenantId,
};
use longshore_replay::corpus::{self, Case, CaseVerdict};
use longshore_replay::verify::Verified;
use longshore_replay::{Candidate, Class, Options, Recorded, ReplayError, Replayer, ReplayerConfig, Verdict};
use longshore_secrets::tokens::{Policy, TokenKey};
use longshore_secrets::{Opener, OpenerConfig};
use longshore_trace::Damage;
use longshore_worker::engine::config::EngineConfig;
use longshore_worker::engine::source::{ComponentSource, SourceComponent};
use longshore_worker::events::NoEvents;
use longshore_worker::execute::{Executor, ExecutorConfig};
use longshore_worker::host::backends::{Backends, HostMetrics};
use longshore_worker::job::Job;
use longshore_worker::recording::{MAX_RUN_BYTES, Pack, Recording, TraceSink};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

/// Compiled guests are kept between runs of the tests.
const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/replay");

fn wasm(guest: &str) -> Vec<u8> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/built").join(format!("{guest}.wasm"));
    std::fs::read(path).unwrap()
}

fn bundle(guest: &str) -> Bytes {
    let manifest = r#"{"name":"g","publisher":"p","version":"1.0.0","runtime":"wasm-js@1"}"#;
    let files = [("manifest.json", manifest.as_bytes().to_vec()), ("dist/main.wasm", wasm(guest))];
    pack_files(files, 1).unwrap().into()
}

#[derive(Default)]
struct Kept(Mutex<Vec<Pack>>);

impl TraceSink for Kept {
    fn take(&self, _bytes: usize, pack: Pack) {
        self.0.lock().push(pack);
    }
}

struct One(SourceComponent);

#[async_trait::async_trait]
impl ComponentSource for One {
    async fn component(
        &self,
        _: &TenantId,
        _: &ExtensionId,
        _: &ContentHash,
    ) -> Result<Option<SourceComponent>, CallError> {
        Ok(Some(self.0.clone()))
    }
}

fn run(bundle: &[u8], url: &str, limits: Limits) -> Run {
    Run {
        context: RunContext {
            request_id: Some("r-1".into()),
            tenant: "t-1".parse().unwrap(),
            extension: "7a4c1d2e-0000-4000-8000-000000000001".parse().unwrap(),
            install_id: Some("i-1".into()),
            version_id: None,
            content_hash: content_hash(bundle),
            config: BTreeMap::from([("greeting".into(), "hi".into())]),
            trigger: None,
        },
        http: RunHttp {
            method: "POST".into(),
            url: url.into(),
            headers: vec![("accept".into(), "*/*".into())],
            scheme: None,
            authority: None,
        },
        limits,
        capabilities: everything(),
        user: None,
        secret_envelope: None,
        egress: None,
        capture: CaptureLevel::Record,
    }
}

fn everything() -> CapabilitySet {
    let mut all = CapabilitySet::default();
    Capability::ALL.iter().for_each(|capability| all.insert(*capability));
    all
}

/// Runs a guest once with the recorder on.
async fn record(guest: &str, url: &str, body: &'static [u8], limits: Limits) -> Recorded {
    let bundle = bundle(guest);
    let wasm = wasm(guest);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("main.wasm");
    std::fs::write(&path, &wasm).unwrap();
    let component = SourceComponent {
        path,
        sha256: Sha256::digest(&wasm).into(),
        manifest: None,
        lease: Arc::new(folder),
    };
    let rules = EgressRules::from_install::<&str>(&[]).unwrap();
    let backends = Backends {
        egress: Egress::new(EgressConfig { rules, ..EgressConfig::default() }, Arc::new(SystemResolver))
            .unwrap(),
        secrets: Opener::new(OpenerConfig::default()).unwrap(),
        storage: None,
        schedules: None,
        platform: None,
        ui_proxy: None,
        metrics: HostMetrics::default(),
    };
    let engine = EngineConfig { slots: 1, ..EngineConfig::new(CACHE) };
    let config = ExecutorConfig::new(engine);
    let executor =
        Executor::new(config, Arc::new(One(component)), Arc::new(NoEvents), Arc::new(backends)).unwrap();
    let sink = Arc::new(Kept::default());
    let recording = Recording {
        sink: Arc::clone(&sink) as _,
        key: TokenKey::random(),
        policy: Arc::new(Policy::standard()),
        max_run_bytes: MAX_RUN_BYTES,
        worker: BootId::from_bytes([1; 16]),
        engine: executor.engine_info(),
    };
    let executor = executor.with_recording(recording);
    let job = Job {
        execution: ExecutionId::from_bytes([5; 16]),
        attempt: 1,
        run: Arc::new(run(&bundle, url, limits)),
        body: Some(Bytes::from_static(body)),
        deadline: Instant::now() + Duration::from_secs(120),
        cancel: CancellationToken::new(),
        player: None,
    };
    executor.execute(job).await;
    executor.idle().await;
    let pack = sink.0.lock().pop().expect("a recorded run");
    let recorded = pack().unwrap();
    let trace = longshore_trace::unpack(&recorded.packed.bytes).unwrap();
    Recorded { trace, payloads: recorded.payloads, bundle }
}

fn replayer() -> Replayer {
    Replayer::new(ReplayerConfig { jobs: 2, ..ReplayerConfig::new(CACHE) }).unwrap()
}

fn limits() -> Limits {
    Limits { timeout_ms: 20_000, ..Limits::default() }
}

/// Guests and what they are asked for: each uses something that must come from the trace, or ends in its own way.
const GUESTS: [(&str, &str); 13] = [
    ("echo", "/echo?a=1"),
    ("random-clock", "/"),
    ("hostcalls", "/"),
    ("stdio", "/"),
    ("trap", "/?after=3"),
    ("sleep", "/?ms=30&times=2"),
    ("log-flood", "/?n=20000"),
    ("http-config", "/"),
    ("bad-response", "/?status=99"),
    ("stack-overflow", "/"),
    ("memory-hog", "/"),
    ("http-echo", "/x"),
    ("count", "/"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_guest_is_had_again_bit_for_bit() {
    let replayer = replayer();
    let mut verified = Verified::default();
    let mut wrong = Vec::new();
    for (guest, url) in GUESTS {
        let recorded = record(guest, url, b"{\"n\":3}", limits()).await;
        let report = replayer.replay(&recorded, &Options::default()).await;
        verified.add(guest, &report);
        match report {
            Ok(report) if report.verdict == Verdict::Identical => {
                let calls = report.resources.host_calls;
                let partial = report.partial.is_some();
                assert!(partial || calls.recorded == calls.replayed, "{guest}: {calls:?}");
            }
            Ok(report) => wrong.push(format!("{guest}: {}", report.text(false))),
            Err(error) => wrong.push(format!("{guest}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((verified.share, verified.exit_code()), (Some(1.0), 0));
    replayer.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_time_ended_is_the_same_up_to_its_last_call() {
    let recorded = record("spin", "/", b"", Limits { timeout_ms: 300, ..Limits::default() }).await;
    let report = replayer().replay(&recorded, &Options::default()).await.unwrap();
    assert_eq!(report.verdict, Verdict::Identical, "{}", report.text(false));
    assert_eq!(report.recorded_end, "execute_failed: timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bundles_diverge_by_what_they_do() {
    let replayer = replayer();
    let recorded = record("echo", "/echo", b"hello", limits()).await;
    for (guest, class) in [
        ("trap", Class::Trap),
        ("stack-overflow", Class::Limit),
        ("memory-hog", Class::Limit),
        ("count", Class::Added),
        ("no-handler", Class::Trap),
    ] {
        let options = Options { bundle: Candidate::Archive(bundle(guest)), ..Options::default() };
        let report = replayer.replay(&recorded, &options).await.unwrap();
        assert_eq!(report.verdict, Verdict::Diverged, "{guest}");
        assert_eq!(report.class, Some(class), "{guest}: {}", report.text(false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corpus_clusters_what_differs_and_leaves_out_what_is_damaged() {
    let replayer = replayer();
    let recorded = record("echo", "/echo", b"hello", limits()).await;
    let case = |name: &str, given: Result<Recorded, ReplayError>| Case {
        name: name.to_owned(),
        load: Box::pin(async move { given }),
    };
    let cases = vec![
        case("b", Ok(recorded.clone())),
        case("a", Ok(recorded.clone())),
        case("c", Err(ReplayError::Damage(Damage::Digest))),
    ];
    let options = Options { bundle: Candidate::Archive(bundle("trap")), ..Options::default() };
    let mut told = 0;
    let report = corpus::run(&replayer, cases, &options, |done, _| told = done).await;
    assert_eq!((told, report.total, report.diverged, report.unusable), (3, 3, 2, 1));
    assert_eq!((report.clusters.len(), report.clusters[0].runs), (1, 2));
    assert_eq!(report.clusters[0].fingerprint.class, Class::Trap);
    assert_eq!(report.cases[2].verdict, CaseVerdict::Unusable);
    assert_eq!(report.exit_code(), 1);
    let junit = report.junit();
    assert!(junit.contains("tests=\"3\" failures=\"2\"") && junit.contains("<failure"), "{junit}");
    let same = vec![case("a", Ok(recorded))];
    assert_eq!(corpus::run(&replayer, same, &Options::default(), |_, _| ()).await.exit_code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_belong_to_the_trace_is_refused() {
    let replayer = replayer();
    let recorded = record("echo", "/echo", b"hello", limits()).await;
    let foreign = Recorded { bundle: bundle("count"), ..recorded.clone() };
    let refused = replayer.replay(&foreign, &Options::default()).await.unwrap_err();
    assert!(matches!(refused, ReplayError::Damage(Damage::ForeignBundle { .. })), "{refused}");
    let mut more = recorded.clone();
    more.payloads.insert(ContentHash::from_bytes([1; 32]), Bytes::from_static(b"x"));
    let refused = replayer.replay(&more, &Options::default()).await.unwrap_err();
    assert!(matches!(refused, ReplayError::Damage(Damage::ForeignPayload { .. })), "{refused}");
    assert_eq!(refused.exit_code(), 2);
    let none =
        Options { bundle: Candidate::Archive(Bytes::from_static(b"no archive")), ..Options::default() };
    assert_eq!(replayer.replay(&recorded, &none).await.unwrap_err().exit_code(), 3);
}
