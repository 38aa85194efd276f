//! Golden files: the bytes that cross process borders. A change here is a change of the protocol: an old shim and a
//! new worker (and the reverse) must still understand each other. `LONGSHORE_BLESS=1 cargo test -p longshore-proto`
//! writes the files anew, after which the old ones belong into `golden/old/` for as long as such processes may run.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use bytes::Bytes;
use longshore_proto::call::{RemoteBody, SecretEnvelope, Trigger, TriggerKind};
use longshore_proto::frame::*;
use longshore_proto::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The value is written as the file says, and the file is read as the value.
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let bytes = wire::encode(value).unwrap();
    let path = file(name);
    if std::env::var_os("LONGSHORE_BLESS").is_some() {
        std::fs::write(&path, &bytes).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(hex::encode(&bytes), hex::encode(&kept), "{name} is written in another way than before");
    assert_eq!(&wire::decode::<T>(&kept).unwrap(), value, "{name} is read in another way than before");
    // What a newer version might add, at the top level: ignored.
    let rmpv::Value::Map(mut pairs) = rmpv::decode::read_value(&mut kept.as_slice()).unwrap() else { return };
    // An enum is a map of one entry, its variant: nothing can be added beside it.
    if pairs.len() > 1 {
        pairs.push(("zz_from_the_future".into(), rmpv::Value::Array(vec![1.into(), "x".into()])));
        let mut newer = Vec::new();
        rmpv::encode::write_value(&mut newer, &rmpv::Value::Map(pairs)).unwrap();
        assert_eq!(&wire::decode::<T>(&newer).unwrap(), value, "{name} with an unknown field");
    }
}

fn call_ref() -> CallRef {
    CallRef { execution: ExecutionId::from_bytes([0xe1; 16]), send: SendNo(42) }
}

fn worker() -> BootId {
    BootId::from_bytes([0xb1; 16])
}

fn shim() -> BootId {
    BootId::from_bytes([0x51; 16])
}

fn full_call() -> CallMessage {
    let pairs = |k: &str, v: &str| BTreeMap::from([(k.to_owned(), v.to_owned())]);
    CallMessage {
        v: 1,
        execution: call_ref().execution,
        attempt: 2,
        send: SendNo(42),
        shim: Some(ShimHeader { id: shim(), inbox: format!("_R.shim.{}.{}", shim(), shim()) }),
        budget_ms: 29_400,
        safe: false,
        run: Run {
            context: RunContext {
                request_id: Some("req-1".into()),
                tenant: "tenant-1".parse().unwrap(),
                extension: "3b8b0204-25d9-57d0-951b-3ed518145469".parse().unwrap(),
                install_id: Some("install-1".into()),
                version_id: None,
                content_hash: ContentHash::from_bytes([7; 32]),
                config: pairs("greeting", "ahoy"),
                trigger: None,
            },
            http: RunHttp {
                method: "POST".into(),
                url: "/hello?x=1".into(),
                headers: vec![("accept".into(), "*/*".into()), ("accept".into(), "text/plain".into())],
                scheme: None,
                authority: None,
            },
            limits: Limits::default(),
            capabilities: CapabilitySet::parse(["cap:http.fetch"]).unwrap(),
            user: Some(User {
                user_id: "u".into(),
                user_email: "u@example.org".into(),
                user_name: "U".into(),
                user_type: "internal".into(),
                client_name: "C".into(),
                client_id: Some("c".into()),
                additional_fields: pairs("locale", "en"),
            }),
            secret_envelope: Some(SecretEnvelope {
                ciphertext_b64: "e30=".into(),
                algorithm: Some("inline/base64".into()),
                version: Some("1".into()),
                expires_at: None,
                key_path: None,
                mount: None,
            }),
            egress: None,
            capture: Default::default(),
        },
        body: Body::Inline(Bytes::from_static(b"body")),
    }
}

#[test]
fn the_call_message_is_as_before() {
    golden("call.mp", &full_call());
    let remote = RemoteBody { source: "_R.shim.a.b".into(), len: 10_485_760 };
    golden("call-remote-body.mp", &CallMessage { body: Body::Remote(remote), ..full_call() });
    golden("call-without-shim.mp", &CallMessage { shim: None, body: Body::None, ..full_call() });
}

/// What later builds have added is absent from the bytes of a call that does not use it.
#[test]
fn a_call_with_every_later_field_is_as_before() {
    let mut call = full_call();
    let trigger = Trigger { kind: TriggerKind::Schedule, schedule_id: Some("schedule-1".into()) };
    call.run.context.trigger = Some(trigger);
    call.run.http.scheme = Some("https".into());
    call.run.http.authority = Some("shop.example.org".into());
    call.run.egress = Some(vec!["*.example.org".into()]);
    call.run.limits = Limits {
        cpu_ms: Some(1),
        host_calls: Some(2),
        outbound_requests: Some(3),
        log_bytes: Some(4),
        log_lines: Some(5),
        response_bytes: Some(6),
        ..Limits::default()
    };
    golden("call-later-fields.mp", &call);
    let trailers = vec![("digest".into(), "x".into())];
    let response = RunResponse { status: 200, headers: Vec::new(), body: Body::None, trailers };
    golden("response-trailers.mp", &response);
}

#[test]
fn every_frame_is_as_before() {
    let call = call_ref();
    let frame =
        |name: &str, frame: Reply| golden(name, &WorkerFrame { v: 1, worker: worker(), free: 3, frame });
    frame("frame-taken.mp", Reply::Taken(call));
    frame("frame-busy.mp", Reply::Busy { call, reason: BusyReason::Share });
    let response = RunResponse {
        status: 201,
        headers: vec![("content-type".into(), "text/plain".into())],
        body: Body::Inline(Bytes::from_static(b"hi")),
        trailers: Vec::new(),
    };
    frame("frame-result.mp", Reply::Result { call, response: Box::new(response) });
    let error = CallError::new(ErrorCode::Overloaded, "later");
    frame("frame-failed.mp", Reply::Failed { call, error });
    let calls = vec![
        (call, RunStatus::Running),
        (call, RunStatus::Done),
        (call, RunStatus::AnswerDropped),
        (call, RunStatus::Unknown),
    ];
    frame("frame-status.mp", Reply::Status { question: 9, calls });
    frame("frame-offer.mp", Reply::Offer { tenant: "tenant-1".parse().unwrap() });
}

#[test]
fn questions_cancels_and_announcements_are_as_before() {
    let question = Question {
        v: 1,
        shim: shim(),
        number: 9,
        up_to: SendNo(42),
        calls: vec![AskedCall { call: call_ref(), budget_ms: 1_000 }],
    };
    golden("control-question.mp", &Control::Question(question));
    golden("control-decline.mp", &Control::Decline { shim: shim() });
    golden("control-cancel.mp", &Control::Cancel { shim: shim(), call: call_ref() });
    golden(
        "worker-announcement.mp",
        &WorkerAnnouncement {
            v: 1,
            worker: worker(),
            pool: PoolName::default(),
            name: "w1".into(),
            version: "0.1.0".into(),
            number: 7,
            slots: 8,
            free: 5,
            load_percent: 40,
            leaving: false,
            unwell: true,
        },
    );
    golden(
        "shim-announcement.mp",
        &ShimAnnouncement { v: 1, shim: shim(), version: "0.1.0".into(), leaving: true },
    );
    golden("free-notice.mp", &FreeNotice { worker: worker(), free: 2 });
}

#[test]
fn transfers_are_as_before() {
    golden("fetch-range.mp", &Fetch::Range { offset: 131_072, len: 1_048_576 });
    golden("fetch-done.mp", &Fetch::Done);
    golden("chunk.mp", &Chunk { offset: 131_072, data: Bytes::from_static(&[1, 2, 3]), gone: false });
}

#[test]
fn an_old_writers_message_without_the_optional_fields_is_read() {
    #[derive(Serialize)]
    struct OldCall {
        execution: ExecutionId,
        attempt: u32,
        budget_ms: u64,
        run: OldRun,
    }
    #[derive(Serialize)]
    struct OldRun {
        context: OldContext,
        http: OldHttp,
    }
    #[derive(Serialize)]
    struct OldContext {
        tenant: &'static str,
        extension: &'static str,
        content_hash: String,
    }
    #[derive(Serialize)]
    struct OldHttp {
        method: &'static str,
        url: &'static str,
    }
    let old = OldCall {
        execution: call_ref().execution,
        attempt: 1,
        budget_ms: 5,
        run: OldRun {
            context: OldContext { tenant: "t", extension: "e", content_hash: "00".repeat(32) },
            http: OldHttp { method: "GET", url: "/" },
        },
    };
    let call: CallMessage = wire::decode(&wire::encode(&old).unwrap()).unwrap();
    assert_eq!((call.v, call.shim, call.body), (0, None, Body::None));
    assert_eq!(call.run.limits, Limits::default());
}

#[test]
fn a_message_with_an_invalid_id_is_no_message() {
    let mut value = serde_json::to_value(full_call()).unwrap();
    value["run"]["context"]["tenant"] = "a/../b".into();
    let bytes = wire::encode(&value).unwrap();
    assert!(wire::decode::<CallMessage>(&bytes).is_err());
}

#[test]
fn the_envelope_has_its_four_keys_in_every_outcome() {
    let failed = longshore_proto::execute::ExecuteResponse::failed(&CallError::from(ErrorCode::QueueFull));
    let json = serde_json::to_string(&failed).unwrap();
    assert_eq!(json, r#"{"status":429,"headers":{"retry-after":"1"},"body_b64":null,"error":"queue_full"}"#);
}
