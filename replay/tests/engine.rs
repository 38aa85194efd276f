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
use longshore_proto::trace::{Entry, Payload};
use longshore_proto::{
    BootId, CallError, Capability, CapabilitySet, ContentHash, ExecutionId, ExtensionId, Limits, Run,
    TenantId, call::User,
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

#[path = "scripted/mod.rs"]
mod scripted;

use scripted::Op;

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
        user: Some(user()),
        secret_envelope: None,
        egress: None,
        capture: CaptureLevel::Record,
    }
}

fn user() -> User {
    User {
        user_id: "u-1".into(),
        user_email: "ada@example.com".into(),
        user_name: "Ada".into(),
        user_type: "internal".into(),
        client_name: "Harbor".into(),
        client_id: Some("c-1".into()),
        additional_fields: BTreeMap::from([("team".into(), "blue".into())]),
    }
}

fn everything() -> CapabilitySet {
    let mut all = CapabilitySet::default();
    Capability::ALL.iter().for_each(|capability| all.insert(*capability));
    all
}

/// Runs a guest once with the recorder on.
async fn record(guest: &str, url: &str, body: &'static [u8], limits: Limits) -> Recorded {
    record_bundle(bundle(guest), wasm(guest), url, body, limits).await
}

/// The same with a guest of [`scripted`].
async fn record_script(ops: &[Op]) -> Recorded {
    let bundle = scripted::bundle("scripted", "1.0.0", ops, "done").into();
    // A candidate that never ends is given ten times as long, and ten seconds at least.
    let limits = Limits { timeout_ms: 1_000, ..Limits::default() };
    record_bundle(bundle, scripted::component(ops, "done"), "/", b"", limits).await
}

async fn record_bundle(
    bundle: Bytes,
    wasm: Vec<u8>,
    url: &str,
    body: &'static [u8],
    limits: Limits,
) -> Recorded {
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
const GUESTS: [(&str, &str); 14] = [
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
    ("user", "/"),
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

/// What the guest does whose run is recorded, and every other one but for one thing.
const BASE: [Op; 5] = [Op::Log("one"), Op::Keys, Op::Log("two"), Op::Log("three"), Op::Work(1_000)];

/// A change, what it makes of [`BASE`], its answer, the class and the place of the first divergence.
type Change = (&'static str, Vec<Op>, &'static str, Class, &'static str);

/// One thing is another in each.
fn changes() -> Vec<Change> {
    let [one, keys, two, three, work] = BASE;
    vec![
        (
            "one call more",
            vec![one, keys, two, Op::Log("new"), three, work],
            "done",
            Class::Added,
            "logging.log-info",
        ),
        (
            "the same call again",
            vec![one, keys, keys, two, three, work],
            "done",
            Class::Added,
            "secrets.list-keys",
        ),
        (
            "one more at the end",
            vec![one, keys, two, three, keys, work],
            "done",
            Class::Added,
            "secrets.list-keys",
        ),
        ("one call less", vec![one, two, three, work], "done", Class::Removed, "secrets.list-keys"),
        ("the first one less", vec![keys, two, three, work], "done", Class::Removed, "logging.log-info"),
        ("the last one less", vec![one, keys, two, work], "done", Class::Removed, "logging.log-info"),
        ("two swapped", vec![one, keys, three, two, work], "done", Class::Reordered, "logging.log-info"),
        (
            "two of other kinds swapped",
            vec![keys, one, two, three, work],
            "done",
            Class::Reordered,
            "secrets.list-keys",
        ),
        (
            "another argument",
            vec![one, keys, Op::Log("2"), three, work],
            "done",
            Class::ArgumentsChanged,
            "logging.log-info",
        ),
        ("another answer", BASE.to_vec(), "Done", Class::OutputOnly, "response body"),
        ("a longer answer", BASE.to_vec(), "done.", Class::OutputOnly, "response body"),
        ("out of memory", vec![one, keys, two, three, work, Op::Hog], "done", Class::Limit, "end"),
        ("out of stack", vec![one, keys, two, three, work, Op::Recurse], "done", Class::Limit, "end"),
        ("out of memory midway", vec![one, keys, Op::Hog, two, three, work], "done", Class::Limit, "end"),
        ("out of time", vec![one, keys, two, three, Op::Spin], "done", Class::Limit, "end"),
        ("a trap", vec![one, keys, two, three, work, Op::Trap], "done", Class::Trap, "end"),
        ("a trap midway", vec![one, keys, Op::Trap, two, three, work], "done", Class::Trap, "end"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_was_changed_in_one_thing_diverges_by_that_thing() {
    let replayer = replayer();
    let recorded = record_script(&BASE).await;
    assert_eq!(recorded.trace.trailer().outcome, "ok");
    // The same guest is the same, also as another bundle: nothing below is seen where nothing is.
    let same = Candidate::Archive(scripted::bundle("scripted", "1.0.1", &BASE, "done").into());
    for bundle in [Candidate::Same, same] {
        let options = Options { bundle, ..Options::default() };
        let report = replayer.replay(&recorded, &options).await.unwrap();
        assert_eq!((report.verdict, report.exit_code()), (Verdict::Identical, 0), "{}", report.text(false));
        assert_eq!((report.calls.recorded, report.matched), (4, 4));
    }
    let mut wrong = Vec::new();
    for (what, ops, answer, class, place) in changes() {
        let archive = scripted::bundle("scripted", "2.0.0", &ops, answer).into();
        let options = Options { bundle: Candidate::Archive(archive), ..Options::default() };
        let report = replayer.replay(&recorded, &options).await.unwrap();
        let (text, json) = (report.text(false), serde_json::to_value(&report).unwrap());
        let right = report.verdict == Verdict::Diverged
            && report.exit_code() == 1
            && report.class == Some(class)
            && report.divergences.first().is_some_and(|d| d.class == class && d.function == place)
            && text.contains(&format!("diverged ({})", class.as_str()))
            && text.contains(&format!("first divergence: {} in {place}", class.as_str()))
            && json["class"] == class.as_str()
            && json["divergences"][0]["class"] == class.as_str()
            && json["divergences"][0]["function"] == place;
        if !right {
            wrong.push(format!("{what}: expected {} in {place}: {text}", class.as_str()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    replayer.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_behind_a_call_is_had_again() {
    let recorded = record_script(&[Op::User, Op::Log("one")]).await;
    let Some(body) = recorded.trace.records().iter().find_map(|record| match &record.entry {
        Entry::Response { body, .. } => body.as_ref(),
        _ => None,
    }) else {
        panic!("no response");
    };
    // Given, not refused: the digit of success.
    assert!(matches!(body, Payload::Inline(bytes) if bytes.as_ref() == b"done0"), "{body:?}");
    let report = replayer().replay(&recorded, &Options::default()).await.unwrap();
    assert_eq!((report.verdict, report.matched), (Verdict::Identical, 2), "{}", report.text(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn fuel_is_the_same_number_every_time_and_counting_it_changes_nothing() {
    let replayer = replayer();
    let options = |bundle| Options { bundle, fuel: true, ..Options::default() };
    for (guest, url) in GUESTS {
        let recorded = record(guest, url, b"{\"n\":3}", limits()).await;
        // An exact replay is counted only if it was identical in the engine that counts, too.
        let one = replayer.replay(&recorded, &options(Candidate::Same)).await.unwrap();
        assert_eq!(one.verdict, Verdict::Identical, "{guest}: {}", one.text(false));
        let fuel = one.resources.fuel.unwrap_or_else(|| panic!("{guest}: {:?}", one.notes));
        assert!(fuel.recorded_bundle > 0, "{guest}: {fuel:?}");
        // Where exactly a stack ends is a matter of the code, and of how much of the last frames was written back.
        if guest != "stack-overflow" {
            assert_eq!((fuel.candidate, fuel.ratio), (fuel.recorded_bundle, 1.0), "{guest}");
            let two = replayer.replay(&recorded, &options(Candidate::Same)).await.unwrap();
            assert_eq!(two.resources.fuel, Some(fuel), "{guest}");
        }
    }
    let [one, keys, two, three, _] = BASE;
    let recorded = record_script(&BASE).await;
    let busier = scripted::bundle("scripted", "2.0.0", &[one, keys, two, three, Op::Work(3_000)], "done");
    let report = replayer.replay(&recorded, &options(Candidate::Archive(busier.into()))).await.unwrap();
    assert_eq!(report.verdict, Verdict::Identical, "{}", report.text(false));
    let fuel = report.resources.fuel.unwrap();
    assert!((2.5..3.0).contains(&fuel.ratio), "{fuel:?}");
    let shown = format!("fuel {} -> {} (x2.", fuel.recorded_bundle, fuel.candidate);
    assert!(report.text(false).contains(&shown), "{}", report.text(false));
    // What never ends has no number.
    let spins = scripted::bundle("scripted", "2.0.0", &[one, keys, two, three, Op::Spin], "done");
    let report = replayer.replay(&recorded, &options(Candidate::Archive(spins.into()))).await.unwrap();
    assert_eq!((report.class, report.resources.fuel), (Some(Class::Limit), None));
    assert!(report.notes.iter().any(|note| note.contains("fuel was not counted")), "{:?}", report.notes);
    replayer.idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_run_that_failed_diverges_from_one_that_does_not() {
    let replayer = replayer();
    for (end, class) in [(Op::Trap, Class::Trap), (Op::Hog, Class::Limit), (Op::Recurse, Class::Limit)] {
        let recorded = record_script(&[Op::Log("one"), end]).await;
        let exact = replayer.replay(&recorded, &Options::default()).await.unwrap();
        assert_eq!(exact.verdict, Verdict::Identical, "{end:?}: {}", exact.text(false));
        let archive = scripted::bundle("scripted", "2.0.0", &[Op::Log("one")], "done").into();
        let options = Options { bundle: Candidate::Archive(archive), ..Options::default() };
        let report = replayer.replay(&recorded, &options).await.unwrap();
        assert_eq!(
            (report.verdict, report.class),
            (Verdict::Diverged, Some(class)),
            "{end:?}: {}",
            report.text(false)
        );
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
    assert_eq!(report.fuel, None, "nobody asked");
    let same = vec![case("a", Ok(recorded))];
    assert_eq!(corpus::run(&replayer, same, &Options::default(), |_, _| ()).await.exit_code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corpus_sums_the_fuel_of_both_bundles_and_names_the_run_that_needs_the_most() {
    let replayer = replayer();
    let [one, keys, two, three, _] = BASE;
    let busier = scripted::bundle("scripted", "2.0.0", &[one, keys, two, three, Op::Work(3_000)], "done");
    let recorded = record_script(&BASE).await;
    let case = |name: &str, given: Result<Recorded, ReplayError>| Case {
        name: name.to_owned(),
        load: Box::pin(async move { given }),
    };
    let cases = vec![
        case("a", Ok(recorded.clone())),
        case("b", Ok(recorded)),
        case("c", Err(ReplayError::Damage(Damage::Digest))),
    ];
    let options = Options { bundle: Candidate::Archive(busier.into()), fuel: true, ..Options::default() };
    let report = corpus::run(&replayer, cases, &options, |_, _| ()).await;
    assert_eq!((report.same, report.unusable), (2, 1), "{}", report.text());
    let fuel = report.fuel.as_ref().unwrap();
    let each = report.cases[0].fuel.unwrap();
    assert_eq!((fuel.runs, report.cases[1].fuel, report.cases[2].fuel), (2, Some(each), None));
    assert_eq!(
        (fuel.sum.recorded_bundle, fuel.sum.candidate),
        (each.recorded_bundle * 2, each.candidate * 2)
    );
    assert_eq!((fuel.sum.ratio, fuel.most_ratio), (each.ratio, each.ratio));
    assert!((2.5..3.0).contains(&each.ratio) && ["a", "b"].contains(&fuel.most.as_str()), "{fuel:?}");
    assert!(report.text().contains("(x2."), "{}", report.text());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["fuel"]["candidate"], fuel.sum.candidate, "{json}");
    replayer.idle().await;
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
