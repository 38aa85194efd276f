//! Every host function is recorded, and had again from its trace by an executor with nothing behind it.

use bytes::Bytes;
use longshore_proto::trace::{Entry, Payload};
use longshore_trace::Trace;
use serde_json::{Value, json};

use crate::behaviour::Stage;
use crate::functions::{self, Case};
use crate::support::{Bench, Setup, drive, function, get};

/// What the trace has as the answer's body.
fn body(trace: &Trace) -> Option<Bytes> {
    match trace.response() {
        Some(Entry::Response { body: Some(Payload::Inline(bytes)), .. }) => Some(bytes.clone()),
        Some(Entry::Response { body: None, .. }) => None,
        other => panic!("{other:?}"),
    }
}

fn json_of(payload: &Payload) -> Value {
    let Payload::Inline(bytes) = payload else { panic!("{payload:?}") };
    longshore_proto::wire::decode(bytes).unwrap()
}

#[tokio::test]
async fn every_function_is_had_again_from_its_trace_whatever_came_of_it() {
    let mut stage = Stage::set().await;
    stage.recorded = true;
    let nothing = stage.bench.beside(&Setup::default());
    for row in functions::all() {
        for case in Case::ALL.into_iter().rev().filter(|case| row.expected(*case).is_some()) {
            let what = format!("{} with {case:?}", row.name);
            stage.cell(&row, case).await;
            let bench = if case == Case::Timeout { &stage.impatient } else { &stage.bench };
            let (trace, payloads) = bench.trace().unwrap();
            assert_eq!(trace.trailer().unreplayable, None, "{what}");
            let call = trace.calls().iter().find(|call| call.function == row.name);
            let end = call.unwrap_or_else(|| panic!("{what}: {:?}", trace.calls())).end.as_ref().unwrap();
            assert!(case != Case::Denied || end.outcome == "denied", "{what}: {}", end.outcome);
            let again = nothing.replay(&trace, &payloads).await;
            let response = again.result.unwrap();
            assert_eq!(response.body, body(&trace), "{what}");
            assert_eq!(again.usage.host_calls, trace.trailer().host_calls, "{what}");
        }
    }
}

#[tokio::test]
async fn the_trace_has_arguments_and_results_in_full_and_of_a_log_line_its_words() {
    let bench = Bench::new(&Setup::default());
    let long = "x".repeat(10_000);
    let calls = [
        function("logging.log-info", json!({ "message": long })),
        function("context.get-context", json!({})),
        function("storage.get", json!({ "namespace": "n", "key": "k" })),
    ];
    bench.run(drive(calls).recorded()).await.result.unwrap();
    let (trace, _) = bench.trace().unwrap();
    let [line, context, get] = trace.calls() else { panic!("{:?}", trace.calls()) };
    assert_eq!(json_of(&line.args), json!({ "message": long }));
    assert_eq!(json_of(&context.args), json!({}));
    assert_eq!(json_of(&context.end.as_ref().unwrap().result)["tenant_id"], "tenant-1");
    assert_eq!(json_of(&get.args), json!({ "namespace": "n", "key": "k" }));
    let end = get.end.as_ref().unwrap();
    assert_eq!((end.outcome.as_str(), end.note.as_deref()), ("internal", Some("no storage is configured")));
    assert_eq!(trace.header().engine.wasmtime.split('.').count(), 3);
}

#[tokio::test]
async fn a_guest_that_was_given_a_secret_is_replayed_with_its_token() {
    let bench = Bench::new(&Setup::default());
    let secret = "canary-of-this-test-alone";
    let call = drive([function("secrets.get", json!({ "key": "api_key" }))])
        .secrets(&json!({ "api_key": secret }))
        .recorded();
    let live = bench.run(call).await.result.unwrap().body.unwrap();
    assert!(String::from_utf8_lossy(&live).contains(secret), "the guest itself has it");
    let (trace, payloads) = bench.trace().unwrap();
    assert!(!format!("{:?}", trace.records()).contains(secret));
    assert!(trace.trailer().secrets_read);
    let recorded = body(&trace).unwrap();
    assert_eq!(recorded.len(), live.len());
    let again = bench.replay(&trace, &payloads).await.result.unwrap();
    assert_eq!(again.body, Some(recorded));
}

#[tokio::test]
async fn a_run_that_is_not_to_be_recorded_leaves_no_trace() {
    let bench = Bench::new(&Setup::default());
    let call = || drive([function("context.get-context", json!({}))]);
    bench.run(call()).await.result.unwrap();
    assert!(bench.trace().is_none());
    bench.run(call().recorded_if_it_fails()).await.result.unwrap();
    assert!(bench.trace().is_none(), "it did not fail");
}

#[tokio::test]
async fn a_run_that_fails_leaves_a_whole_trace_when_failures_are_wanted() {
    let bench = Bench::new(&Setup::default());
    let failed = bench.run(get("trap", "/").recorded_if_it_fails()).await.result.unwrap_err();
    let (trace, payloads) = bench.trace().unwrap();
    assert_eq!(trace.trailer().outcome, failed.code.as_str());
    assert!(trace.failure().is_some() && trace.response().is_none());
    assert_eq!(bench.replay(&trace, &payloads).await.result.unwrap_err().code, failed.code);
}

#[tokio::test]
async fn environment_and_identity_are_those_of_the_recorded_run() {
    let bench = Bench::new(&Setup::default());
    bench.run(get("http-config", "/?name=LONGSHORE_EXECUTION_ID").recorded()).await.result.unwrap();
    let (trace, payloads) = bench.trace().unwrap();
    let again = bench.replay(&trace, &payloads).await.result.unwrap();
    assert_eq!(again.body, body(&trace));
    let shown = String::from_utf8_lossy(&again.body.unwrap()).into_owned();
    assert!(shown.contains(&trace.execution().to_string()), "{shown}");
}
