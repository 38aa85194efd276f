//! Golden files of traces: their records cross versions, because a run of last week is replayed by the build of
//! today. `LONGSHORE_BLESS=1 cargo test -p longshore-proto` writes them anew; a change of an old file needs a new
//! `TRACE_VERSION`.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use longshore_proto::call::{CaptureLevel, Run, RunContext, RunHttp};
use longshore_proto::error::ErrorCode;
use longshore_proto::trace::*;
use longshore_proto::{BootId, CapabilitySet, ContentHash, ExecutionId, LimitSet, Limits, wire};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The value is written as the file says, and the file is read as the value.
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("trace-{name}.mp"));
    let bytes = wire::encode(value).unwrap();
    if std::env::var_os("LONGSHORE_BLESS").is_some() {
        std::fs::write(&path, &bytes).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(hex::encode(&bytes), hex::encode(&kept), "{name} is written in another way than before");
    assert_eq!(&wire::decode::<T>(&kept).unwrap(), value, "{name} is read in another way than before");
    // What a later build may add within a version: ignored, in the record and in what happened.
    let mut newer = rmpv::decode::read_value(&mut kept.as_slice()).unwrap();
    add_to_maps(&mut newer, true);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &newer).unwrap();
    assert_eq!(&wire::decode::<T>(&bytes).unwrap(), value, "{name} with unknown fields");
}

/// A field in the record's map and in the map of its entry; not in the one between, whose one key is the variant.
fn add_to_maps(value: &mut rmpv::Value, fields: bool) {
    let rmpv::Value::Map(pairs) = value else { return };
    for (key, inner) in pairs.iter_mut() {
        if key.as_str() == Some("entry") {
            add_to_maps(inner, false);
        } else if !fields {
            add_to_maps(inner, true);
        }
    }
    if fields {
        pairs.push(("zz_from_the_future".into(), rmpv::Value::Array(vec![1.into(), "x".into()])));
    }
}

fn record(name: &str, entry: Entry) {
    golden(name, &Record { seq: 7, at_us: 1_234, entry });
}

fn inline(bytes: &'static [u8]) -> Payload {
    Payload::Inline(Bytes::from_static(bytes))
}

#[test]
fn the_header_is_as_before() {
    record(
        "header",
        Entry::Header(Box::new(Header {
            v: 1,
            execution: ExecutionId::from_bytes([0xe1; 16]),
            attempt: 2,
            run: Arc::new(Run {
                context: RunContext {
                    request_id: Some("req-1".into()),
                    tenant: "tenant-1".parse().unwrap(),
                    extension: "3b8b0204-25d9-57d0-951b-3ed518145469".parse().unwrap(),
                    install_id: Some("install-1".into()),
                    version_id: None,
                    content_hash: ContentHash::from_bytes([7; 32]),
                    config: BTreeMap::from([("greeting".to_owned(), "ahoy".to_owned())]),
                    trigger: None,
                },
                http: RunHttp {
                    method: "POST".into(),
                    url: "/hello?x=1".into(),
                    headers: vec![("accept".into(), "*/*".into())],
                    scheme: None,
                    authority: None,
                },
                limits: Limits::default(),
                capabilities: CapabilitySet::parse(["cap:http.fetch"]).unwrap(),
                user: None,
                secret_envelope: None,
                egress: None,
                capture: CaptureLevel::RecordErrors,
            }),
            component: ContentHash::from_bytes([8; 32]),
            engine: EngineInfo {
                wasmtime: "48.0.8".into(),
                compiler: "cranelift".into(),
                fingerprint: "1_48_x86_64".into(),
            },
            limits: LimitSet { timeout_ms: Some(30_000), memory_mb: Some(256), ..LimitSet::default() },
            redaction: Redaction { policy: "0123456789abcdef".into(), key: "fedcba9876543210".into() },
            started_at_ms: 1_700_000_000_000,
            worker: BootId::from_bytes([0xb1; 16]),
        })),
    );
}

#[test]
fn requests_and_answers_are_as_before() {
    record("request", Entry::Request { body: Some(inline(b"body")) });
    record("request-none", Entry::Request { body: None });
    record(
        "request-stored",
        Entry::Request {
            body: Some(Payload::Stored { sha256: ContentHash::from_bytes([9; 32]), bytes: 70_000 }),
        },
    );
    record(
        "response",
        Entry::Response {
            status: 201,
            headers: vec![("content-type".into(), "text/plain".into())],
            body: Some(inline(b"")),
            trailers: vec![("digest".into(), "x".into())],
        },
    );
    record(
        "failure",
        Entry::Failure {
            code: ErrorCode::Timeout,
            message: "too late".into(),
            detail: Some("wasm trap: interrupt".into()),
        },
    );
}

#[test]
fn host_calls_are_as_before() {
    record(
        "call-start",
        Entry::CallStart { call: 3, function: "storage.get".into(), args: inline(b"\x81\xa1k\xa1v") },
    );
    record(
        "call-end",
        Entry::CallEnd {
            call: 3,
            outcome: "denied".into(),
            result: Payload::Cut { bytes: 9 },
            duration_us: 412,
            note: Some("cap:storage.kv is not granted".into()),
        },
    );
}

#[test]
fn clocks_random_numbers_and_streams_are_as_before() {
    record("clock-wall", Entry::Clock { clock: Clock::Wall, ns: 1_700_000_000_000_000_000 });
    record("clock-monotonic", Entry::Clock { clock: Clock::Monotonic, ns: 17 });
    for (name, source) in [
        ("random-secure", RandomSource::Secure),
        ("random-insecure", RandomSource::Insecure),
        ("random-seed", RandomSource::Seed),
    ] {
        record(name, Entry::Random { source, bytes: vec![0, 1, 254, 255] });
    }
    for (name, kind) in [
        ("stream-stdout", StreamKind::Stdout),
        ("stream-stderr", StreamKind::Stderr),
        ("stream-input", StreamKind::Input),
        ("stream-output", StreamKind::Output),
    ] {
        record(name, Entry::Stream { stream: 2, kind, content: inline(b"hello\n") });
    }
}

#[test]
fn the_trailer_and_the_summary_are_as_before() {
    let trailer = Trailer {
        outcome: "ok".into(),
        cpu_us: 1,
        peak_memory_bytes: 2,
        host_calls: 3,
        outbound_requests: 4,
        handler_us: 5,
        records: 7,
        hash: ContentHash::from_bytes([10; 32]),
        secrets_read: false,
        unreplayable: None,
    };
    record("trailer", Entry::Trailer(trailer.clone()));
    record(
        "trailer-cut",
        Entry::Trailer(Trailer {
            secrets_read: true,
            unreplayable: Some(Unreplayable { after_call: Some(3), reason: "too large".into() }),
            ..trailer
        }),
    );
    golden(
        "summary",
        &Summary {
            execution: ExecutionId::from_bytes([0xe1; 16]),
            attempt: 2,
            extension: "ext-1".parse().unwrap(),
            content_hash: ContentHash::from_bytes([7; 32]),
            request_id: Some("req-1".into()),
            request: "POST /hello".into(),
            outcome: "timeout".into(),
            status: Some(504),
            started_at_ms: 1_700_000_000_000,
            handler_us: 5,
            host_calls: 3,
            bytes: 1_024,
            replayable: true,
            secrets_read: true,
        },
    );
}
