//! Each limit, set by the worker, by the call and by the bundle's manifest: the lowest of the three ends the run (or the log), and the error names
//! limit, value and who has set it.

use longshore_proto::event::Kind;
use longshore_proto::manifest::Manifest;
use longshore_proto::{ErrorCode, LimitSet, Limits};
use longshore_worker::limits::WorkerMaxima;
use serde_json::{Value, json};

use crate::support::*;

const SOURCES: [&str; 3] = ["the worker", "the call", "the manifest"];

/// One limit.
struct Case {
    /// A call that breaks the low value and not the high one.
    call: fn() -> Call,
    low: u64,
    high: u64,
    breaks: Breaks,
    worker: Option<fn(&mut WorkerMaxima, u64)>,
    by_call: fn(&mut Limits, u64),
    manifest: fn(&mut LimitSet, u64),
}

/// How a broken limit shows.
enum Breaks {
    /// The run ends with this code; its message says the value with these words.
    Run(ErrorCode, &'static str),
    /// The run goes on, and an event of this code says that something was dropped.
    Log(&'static str),
}

fn driver(calls: Value) -> Call {
    let body = json!({ "calls": calls }).to_string();
    call("driver", "/").grant_all().post("application/json", body)
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            call: || call("spin", "/"),
            low: 100,
            high: 20_000,
            breaks: Breaks::Run(ErrorCode::CpuTime, "ms of CPU time"),
            worker: Some(|limits, value| limits.cpu_ms = Some(value)),
            by_call: |limits, value| limits.cpu_ms = Some(value),
            manifest: |limits, value| limits.cpu_ms = Some(value),
        },
        Case {
            call: || call("memory-hog", "/"),
            low: 16,
            high: 256,
            breaks: Breaks::Run(ErrorCode::OutOfMemory, "MiB of memory and tables"),
            worker: Some(|limits, value| limits.memory_mb = value),
            by_call: |limits, value| limits.memory_mb = value,
            manifest: |limits, value| limits.memory_mb = Some(value),
        },
        Case {
            call: || driver(json!([{ "fn": "secrets.list-keys", "repeat": 6 }])),
            low: 5,
            high: 1_000,
            breaks: Breaks::Run(ErrorCode::HostCalls, "host calls"),
            worker: Some(|limits, value| limits.host_calls = value),
            by_call: |limits, value| limits.host_calls = Some(value),
            manifest: |limits, value| limits.host_calls = Some(value),
        },
        Case {
            call: || {
                let fetch = json!({ "method": "GET", "url": "http://nowhere.example/" });
                driver(json!([{ "fn": "http.fetch", "args": fetch, "repeat": 4 }]))
            },
            low: 3,
            high: 1_000,
            breaks: Breaks::Run(ErrorCode::OutboundRequests, "outbound requests"),
            worker: Some(|limits, value| limits.outbound_requests = value),
            by_call: |limits, value| limits.outbound_requests = Some(value),
            manifest: |limits, value| limits.outbound_requests = Some(value),
        },
        Case {
            call: || call("log-flood", "/?n=50&bytes=100&to=log,stdout,stderr"),
            low: 5_000,
            high: 1 << 20,
            breaks: Breaks::Log("log_bytes"),
            worker: Some(|limits, value| limits.log_bytes = value),
            by_call: |limits, value| limits.log_bytes = Some(value),
            manifest: |limits, value| limits.log_bytes = Some(value),
        },
        Case {
            call: || call("log-flood", "/?n=50&bytes=10&to=log,stdout,stderr"),
            low: 20,
            high: 9_000,
            breaks: Breaks::Log("log_lines"),
            worker: Some(|limits, value| limits.log_lines = value),
            by_call: |limits, value| limits.log_lines = Some(value),
            manifest: |limits, value| limits.log_lines = Some(value),
        },
        Case {
            call: || call("big-body", "/?bytes=2000"),
            low: 1_999,
            high: 1 << 20,
            breaks: Breaks::Run(ErrorCode::ResponseTooLarge, "bytes of body"),
            worker: Some(|limits, value| limits.response_bytes = value),
            by_call: |limits, value| limits.response_bytes = Some(value),
            manifest: |limits, value| limits.response_bytes = Some(value),
        },
        Case {
            call: || call("http-answers", "/?kind=stream&bytes=2000"),
            low: 1_999,
            high: 1 << 20,
            breaks: Breaks::Run(ErrorCode::ResponseTooLarge, "bytes of body"),
            worker: Some(|limits, value| limits.response_bytes = value),
            by_call: |limits, value| limits.response_bytes = Some(value),
            manifest: |limits, value| limits.response_bytes = Some(value),
        },
        Case {
            call: || call("sleep", "/?ms=60000"),
            low: 200,
            high: 25_000,
            breaks: Breaks::Run(ErrorCode::Timeout, "ms"),
            // A worker has no wall time of its own: what it takes is bounded by what callers may ask for.
            worker: None,
            by_call: |limits, value| limits.timeout_ms = value,
            manifest: |limits, value| limits.timeout_ms = Some(value),
        },
    ]
}

/// A fixture and a call in which `lowest` has set the low value and the others the high one.
fn set(case: &Case, lowest: &str) -> (Fixture, Call) {
    let value = |source: &str| if source == lowest { case.low } else { case.high };
    let mut limits = LimitSet::default();
    (case.manifest)(&mut limits, value("the manifest"));
    let manifest = Manifest { name: "a.b".into(), version: "1.0.0".into(), limits, ..Manifest::default() };
    let worker = |config: &mut longshore_worker::execute::ExecutorConfig| {
        if let Some(worker) = case.worker {
            worker(&mut config.maxima, value("the worker"));
        }
    };
    let call = (case.call)().limits(|limits| (case.by_call)(limits, value("the call")));
    (fixture_of(worker, manifest), call)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lowest_of_worker_call_and_manifest_wins_and_is_named() {
    for case in cases() {
        for source in SOURCES {
            if source == "the worker" && case.worker.is_none() {
                continue;
            }
            let (fixture, call) = set(&case, source);
            let outcome = fixture.run(call).await;
            match &case.breaks {
                Breaks::Run(code, words) => {
                    let error = outcome.result.unwrap_err();
                    assert_eq!(error.code, *code, "{source}: {error}");
                    let expected = format!("{} {words} are allowed by {source}", case.low);
                    assert!(error.message.ends_with(&expected), "{error}: {expected}");
                    // The author reads it in the stream too.
                    let event = fixture.of_kind(Kind::Error).remove(0);
                    assert!(event.message.contains(&expected), "{}", event.message);
                }
                Breaks::Log(code) => {
                    assert_eq!(answer(&outcome).status, 200, "{source}: {code}");
                    let event = fixture.of_kind(Kind::Dropped).remove(0);
                    assert!(event.message.contains(&format!("{code}: {}", case.low)), "{}", event.message);
                    let data = event.data.unwrap().value();
                    assert_eq!(
                        (&data["code"], &data["limit"], &data["limit_by"]),
                        (&json!(code), &json!(case.low), &json!(source))
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fits_into_the_high_values_is_not_ended() {
    for case in cases() {
        // Those that never end of themselves break any limit.
        if matches!(
            case.breaks,
            Breaks::Run(ErrorCode::CpuTime | ErrorCode::Timeout | ErrorCode::OutOfMemory, _)
        ) {
            continue;
        }
        let (fixture, call) = set(&case, "nobody");
        assert_eq!(answer(&fixture.run(call).await).status, 200);
        assert!(fixture.of_kind(Kind::Dropped).is_empty());
    }
}

#[tokio::test]
async fn the_stack_is_the_workers_to_limit_and_is_named_too() {
    let error = fixture().run(call("stack-overflow", "/")).await.result.unwrap_err();
    let stack = longshore_worker::engine::runtime::WASM_STACK;
    assert_eq!(error.code, ErrorCode::StackOverflow);
    assert!(error.message.ends_with(&format!("{stack} bytes of stack are allowed by the worker")), "{error}");
}
