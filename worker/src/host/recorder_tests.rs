use std::sync::Arc;

use longshore_proto::call::{RunContext, RunHttp};
use longshore_proto::trace::{EngineInfo, Redaction, TRACE_VERSION};
use longshore_proto::{BootId, ErrorCode, ExecutionId, Run};
use longshore_secrets::tokens::{Policy, TokenKey};
use longshore_trace::Trace;
use serde_json::{Value, json};

use super::*;

const CANARY: &str = "canary-secret-value";

fn header() -> Header {
    let run = Run {
        context: RunContext {
            request_id: None,
            tenant: "t".parse().unwrap(),
            extension: "e".parse().unwrap(),
            install_id: None,
            version_id: None,
            content_hash: ContentHash::from_bytes([0; 32]),
            config: [("key".to_owned(), format!("a {CANARY}"))].into(),
            trigger: None,
        },
        http: RunHttp {
            method: "GET".into(),
            url: format!("/?key={CANARY}"),
            headers: vec![("Authorization".into(), "Bearer of-the-caller-alone".into())],
            scheme: None,
            authority: None,
        },
        limits: Default::default(),
        capabilities: Default::default(),
        user: None,
        secret_envelope: None,
        egress: None,
        capture: Default::default(),
    };
    Header {
        v: TRACE_VERSION,
        execution: ExecutionId::from_bytes([1; 16]),
        attempt: 1,
        run: Arc::new(run),
        component: ContentHash::from_bytes([2; 32]),
        engine: EngineInfo { wasmtime: "1".into(), compiler: "cranelift".into(), fingerprint: "f".into() },
        limits: Default::default(),
        redaction: Redaction::default(),
        started_at_ms: 1,
        worker: BootId::from_bytes([3; 16]),
    }
}

fn recorder(secrets: &[&str], limit: usize) -> Recorder {
    let key = TokenKey::from_bytes([4; 32]);
    let tokens = Tokenizer::new(&key, secrets.iter().copied(), Arc::new(Policy::standard()));
    Recorder::new(header(), None, tokens, limit)
}

fn answer(body: &str) -> GuestResponse {
    GuestResponse {
        status: 200,
        headers: Vec::new(),
        body: Some(body.to_owned().into()),
        trailers: Vec::new(),
    }
}

fn finish(recorder: &Recorder, body: &str) -> (Trace, Recorded) {
    let recorded = recorder.finish(recorder.at(), Ok(&answer(body)), &Usage::default()).unwrap();
    (longshore_trace::unpack(&recorded.packed.bytes).unwrap(), recorded)
}

fn value(payload: &Payload) -> Value {
    let Payload::Inline(bytes) = payload else { panic!("{payload:?}") };
    longshore_proto::wire::decode(bytes).unwrap()
}

fn text(trace: &Trace) -> String {
    trace.records().iter().map(|record| format!("{record:?}")).collect()
}

#[test]
fn calls_are_numbered_in_the_order_of_their_beginnings_and_end_where_they_end() {
    let recorder = recorder(&[], 8 << 20);
    let first = recorder.begin_call("a.b", &json!({ "x": 1 }));
    let second = recorder.begin_call("c.d", &json!({}));
    recorder.end_call(second, "ok", &json!({ "Ok": null }), None);
    recorder.end_call(first, "missing", &json!({ "Err": "Missing" }), Some("why".into()));
    let _open = recorder.begin_call("e.f", &json!({}));
    let (trace, _) = finish(&recorder, "body");
    let calls = trace.calls();
    let functions: Vec<_> = calls.iter().map(|call| (call.call, call.function.as_ref())).collect();
    assert_eq!(functions, [(0, "a.b"), (1, "c.d"), (2, "e.f")]);
    assert!(calls[0].end.as_ref().unwrap().seq > calls[1].end.as_ref().unwrap().seq);
    assert_eq!(calls[0].end.as_ref().unwrap().note.as_deref(), Some("why"));
    assert_eq!(value(&calls[0].args), json!({ "x": 1 }));
    assert_eq!(calls[2].end, None, "it was under way when the run ended");
    assert_eq!(trace.trailer().unreplayable, None);
}

#[test]
fn a_call_whose_beginning_had_no_room_has_no_end_in_the_trace() {
    let recorder = recorder(&[], RESERVE);
    let call = recorder.begin_call("a.b", &());
    recorder.end_call(call, "ok", &(), None);
    assert_eq!(finish(&recorder, "").0.calls().len(), 0);
}

#[test]
fn no_secret_is_in_the_header_calls_streams_notes_or_the_answer() {
    let recorder = recorder(&[CANARY], 8 << 20);
    let get = recorder.begin_call("secrets.get", &json!({ "key": "k" }));
    recorder.end_call(get, "ok", &json!({ "Ok": CANARY }), None);
    let put = recorder.begin_call("storage.put", &json!({ "value": format!("x {CANARY}") }));
    recorder.end_call(put, "internal", &json!({ "Err": "Internal" }), Some(format!("refused {CANARY}")));
    recorder.stream_bytes(STDOUT, b"canary-sec");
    recorder.stream_bytes(STDOUT, b"ret-value\n");
    let (trace, recorded) = finish(&recorder, &format!("it is {CANARY}, for of-the-caller-alone"));
    let text = text(&trace);
    for secret in [CANARY, "of-the-caller-alone"] {
        assert!(!text.contains(secret), "{text}");
        let bytes: &[u8] = &recorded.packed.bytes;
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
    }
    let token = value(&trace.calls()[0].end.as_ref().unwrap().result)["Ok"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), CANARY.len());
    assert!(text.matches(&token).count() >= 4, "equal secrets are equal: {text}");
    assert!(trace.trailer().secrets_read);
}

#[test]
fn a_run_that_saw_the_callers_credentials_alone_has_read_no_secret() {
    // The install has a secret, which no guest was given: its value is put in behind the recorder, and a failure names it.
    let mut made = header();
    Arc::make_mut(&mut made.run).http.url = "/".to_owned();
    Arc::make_mut(&mut made.run).context.config.clear();
    let key = TokenKey::from_bytes([4; 32]);
    let tokens = Tokenizer::new(&key, [CANARY], Arc::new(Policy::standard()));
    let recorder = Recorder::new(made, None, tokens, 8 << 20);
    let fetch = recorder.begin_call("http.fetch", &json!({ "url": "https://x/{{secret:k}}" }));
    let note = format!("no answer of https://x/{CANARY}");
    recorder.end_call(fetch, "internal", &json!({ "Err": "Internal" }), Some(note));
    let (trace, _) = finish(&recorder, "for of-the-caller-alone");
    let shown = text(&trace);
    assert!(!shown.contains(CANARY) && !shown.contains("of-the-caller-alone"), "{shown}");
    assert!(!trace.trailer().secrets_read);
}

#[test]
fn a_secret_in_the_configuration_or_in_an_answer_has_reached_the_guest() {
    let (trace, _) = finish(&recorder(&[CANARY], 8 << 20), "");
    assert!(trace.trailer().secrets_read, "it is in the configuration and the URL");
    let read = |bytes: &[u8]| {
        let mut made = header();
        Arc::make_mut(&mut made.run).http.url = "/".to_owned();
        Arc::make_mut(&mut made.run).context.config.clear();
        let key = TokenKey::from_bytes([4; 32]);
        let tokens = Tokenizer::new(&key, [CANARY], Arc::new(Policy::standard()));
        let recorder = Recorder::new(made, None, tokens, 8 << 20);
        let stream = recorder.new_stream(StreamKind::Input);
        recorder.stream_bytes(stream, bytes);
        finish(&recorder, "").0.trailer().secrets_read
    };
    assert!(read(format!("an upstream repeats {CANARY}").as_bytes()));
    assert!(!read(b"it does not"));
}

#[test]
fn why_there_is_no_secret_stays_readable() {
    let recorder = recorder(&[CANARY], 8 << 20);
    let get = recorder.begin_call("secrets.get", &json!({ "key": "k" }));
    recorder.end_call(get, "missing", &json!({ "Err": "Missing" }), None);
    let get = recorder.begin_call("secrets.get", &json!({ "key": "k" }));
    recorder.end_call(get, "ok", &json!({ "Ok": "{{secret:k}}" }), None);
    let (trace, _) = finish(&recorder, "");
    let result = |call: usize| value(&trace.calls()[call].end.as_ref().unwrap().result);
    assert_eq!((result(0), result(1)), (json!({ "Err": "Missing" }), json!({ "Ok": "{{secret:k}}" })));
}

#[test]
fn a_large_payload_is_kept_beside_the_trace_by_its_digest() {
    let recorder = recorder(&[], 8 << 20);
    let large = "x".repeat(100_000);
    let call = recorder.begin_call("storage.put", &json!({ "value": large }));
    recorder.end_call(call, "ok", &(), None);
    let (trace, recorded) = finish(&recorder, &large);
    assert!(matches!(trace.calls()[0].args, Payload::Stored { .. }));
    trace.check_payloads(&recorded.payloads).unwrap();
    assert_eq!(recorded.payloads.len(), 2);
    assert!(recorded.packed.summary.replayable);
}

#[test]
fn large_streams_are_whole_as_long_as_they_have_room() {
    let recorder = recorder(&[], 8 << 20);
    let stream = recorder.new_stream(StreamKind::Input);
    (0..50).for_each(|_| recorder.stream_bytes(stream, &[7; 100_000]));
    let (trace, recorded) = finish(&recorder, "");
    let content = trace.streams().find(|s| s.stream == stream).unwrap().content.clone();
    assert!(matches!(content, Payload::Stored { bytes: 5_000_000, .. }), "{content:?}");
    assert_eq!(trace.trailer().unreplayable, None);
    trace.check_payloads(&recorded.payloads).unwrap();
}

#[test]
fn what_has_no_room_is_cut_and_the_trace_says_after_which_call() {
    let recorder = recorder(&[], 1 << 20);
    for _ in 0..30 {
        let call = recorder.begin_call("storage.put", &json!({ "value": "x".repeat(50_000) }));
        recorder.end_call(call, "ok", &(), None);
    }
    let (trace, _) = finish(&recorder, "the end");
    let missing = trace.trailer().unreplayable.clone().unwrap();
    let last = missing.after_call.unwrap();
    assert!((10..20).contains(&last), "{missing:?}");
    assert!(trace.calls()[..=last as usize].iter().all(|call| call.end.is_some()));
    assert!(trace.response().is_some(), "the end of a trace always fits");
}

#[test]
fn a_stream_that_was_cut_has_no_gap_in_it() {
    let recorder = recorder(&[], 1 << 20);
    recorder.stream_bytes(STDOUT, b"before ");
    recorder.stream_bytes(STDOUT, &vec![b'x'; 2 << 20]);
    recorder.stream_bytes(STDOUT, b"after");
    let (trace, _) = finish(&recorder, "");
    let stdout = trace.streams().find(|s| s.stream == STDOUT).unwrap().content.clone();
    assert_eq!(stdout, Payload::Inline(Bytes::from_static(b"before ")));
    assert!(trace.trailer().unreplayable.is_some());
}

#[test]
fn streams_and_clocks_without_end_do_not_grow_without_end() {
    let recorder = recorder(&[], 1 << 20);
    for _ in 0..100_000 {
        recorder.new_stream(StreamKind::Output);
    }
    (0..100_000).for_each(|ns| recorder.clock(Clock::Wall, ns));
    assert!(recorder.held_bytes() <= 1 << 20);
    assert!(finish(&recorder, "").0.trailer().unreplayable.is_some());
}

#[test]
fn a_run_that_failed_says_how() {
    let recorder = recorder(&[CANARY], 8 << 20);
    let error = CallError::new(ErrorCode::Trap, format!("unreachable {CANARY}"));
    let recorded = recorder.finish(5, Err((&error, Some("in f"))), &Usage::default()).unwrap();
    let trace = longshore_trace::unpack(&recorded.packed.bytes).unwrap();
    let Some(Entry::Failure { code, message, detail }) = trace.failure() else { panic!("{trace:?}") };
    assert_eq!((*code, detail.as_deref()), (ErrorCode::Trap, Some("in f")));
    assert!(message.starts_with("unreachable ") && !message.contains(CANARY));
    assert_eq!(recorded.packed.summary.outcome, ErrorCode::Trap.as_str());
}
