//! Where capabilities meet each other and the end of a run.

use std::time::Duration;

use longshore_egress::EgressConfig;
use longshore_proto::ErrorCode;
use longshore_proto::event::Kind;
use longshore_stub_platform::{Fault, Options, StubPlatform};
use serde_json::{Value, json};

use crate::support::{Bench, Setup, drive, function, get};
use crate::upstream::{Answer, Server, whole};

fn with_handle(url: &str, place: &str) -> Value {
    let handle = "k={{secret:api_key}}";
    function(
        "http.fetch",
        match place {
            "header" => json!({ "method": "GET", "url": url, "headers": [["x-key", handle]] }),
            _ => json!({ "method": "POST", "url": url, "headers": [], "body": { "text": handle } }),
        },
    )
}

#[tokio::test]
async fn a_handle_becomes_its_secret_only_for_guests_that_may_have_secrets() {
    let server = Server::start().await;
    server.answers(whole(200, "", ""));
    let bench = Bench::new(&Setup::default().open());
    let secrets = json!({ "api_key": { "value": "MARK-value", "hosts": ["127.0.0.1"] } });
    for place in ["header", "body"] {
        let call = || drive([with_handle(&server.url("/"), place)]).secrets(&secrets);
        let result = bench.one(call().granted(&["cap:http.fetch"])).await;
        assert_eq!(result, json!({ "err": "not-allowed" }), "{place}");
        assert_eq!(server.requests(), [""; 0], "{place}");
        assert_eq!(bench.host_calls()[0]["note"], "a secret's handle needs cap:secrets.get");

        let result = bench.one(call().granted(&["cap:http.fetch", "cap:secrets.get"])).await;
        assert_eq!(result["ok"]["status"], 200, "{place}: {result}");
        assert!(server.requests()[0].contains("k=MARK-value"), "{place}");
        let recorded = bench.host_calls().remove(0).to_string();
        assert!(!recorded.contains("MARK") && recorded.contains("{{secret:api_key}}"), "{recorded}");
    }
}

#[tokio::test]
async fn the_call_that_a_run_was_waiting_for_at_its_end_is_recorded() {
    let stub = StubPlatform::start(Options::default()).await.unwrap();
    stub.fail_next("storage", "get", Fault::Hang);
    let bench = Bench::new(&Setup::on(&stub));
    let read = function("storage.get", json!({ "namespace": "n", "key": "the-key" }));
    let call = drive([read]);
    let cancel = call.cancel.clone();
    let asked = async {
        while stub.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(bench.run(call), asked);
    assert_eq!(outcome.result.unwrap_err().code, ErrorCode::Cancelled);
    let calls = bench.host_calls();
    let [call] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((&call["name"], &call["outcome"]), (&json!("storage.get"), &json!("unfinished")), "{call}");
    assert_eq!(call["args"]["key"], "the-key", "{call}");
    assert!(call["duration_us"].as_u64().unwrap() > 0, "{call}");
}

#[tokio::test]
async fn a_guest_whose_request_hangs_is_told_before_its_run_ends() {
    let server = Server::start().await;
    server.answers(Answer::Hang);
    let bench = Bench::new(&Setup::default().open());
    let fetch = function("http.fetch", json!({ "method": "GET", "url": server.url("/") }));
    assert_eq!(bench.one(drive([fetch]).timeout_ms(5_000)).await, json!({ "err": "transport" }));
    let sent = get("http-echo", &format!("/?send=127.0.0.1:{}", server.port())).timeout_ms(5_000);
    let answer = bench.run(sent).await.result.unwrap();
    let body = String::from_utf8(answer.body.unwrap().to_vec()).unwrap();
    assert!(body.contains("HttpResponseTimeout"), "{body}");
}

#[tokio::test]
async fn a_guest_whose_platform_hangs_is_told_before_its_run_ends() {
    let stub = StubPlatform::start(Options::default()).await.unwrap();
    let bench = Bench::new(&Setup::on(&stub));
    let schedule = json!({ "endpoint": "/x", "cron": "0 0 * * *" });
    for (name, args, told) in [
        ("storage.get", json!({ "namespace": "n", "key": "k" }), json!({ "err": "internal" })),
        ("scheduler.list-schedules", json!({}), json!({ "err": "internal" })),
        ("clients.list-clients", json!({}), json!({ "err": "internal" })),
        ("services.list-services", json!({}), json!({ "err": "internal" })),
        ("ui-proxy.call-route", json!({ "route": "/api/v1/x" }), json!({ "err": "internal" })),
        ("scheduler.create-schedule", schedule, json!(false)),
        ("invoicing.create-manual-invoice", json!({ "client-id": "c", "items": [] }), json!(false)),
    ] {
        stub.fail_next("*", "*", Fault::Hang);
        let result = bench.one(drive([function(name, args)]).timeout_ms(3_000)).await;
        let got = result.pointer("/value/success").unwrap_or(&result);
        assert_eq!(got, &told, "{name}: {result}");
    }
}

#[tokio::test]
async fn a_secret_does_not_leave_unencrypted_but_for_development() {
    let bench = Bench::new(&Setup {
        egress: EgressConfig { allow_all_when_empty: true, ..EgressConfig::default() },
        ..Setup::default()
    });
    let secrets = json!({ "api_key": { "value": "MARK-value", "hosts": ["api.example.com"] } });
    for place in ["header", "body"] {
        let call = drive([with_handle("http://api.example.com/", place)]).secrets(&secrets);
        assert_eq!(bench.one(call).await, json!({ "err": "not-allowed" }), "{place}");
        assert_eq!(bench.host_calls()[0]["note"], "a secret leaves over https only", "{place}");
    }
}

#[tokio::test]
async fn a_secret_in_the_path_of_the_request_is_in_no_event() {
    let bench = Bench::new(&Setup::default());
    let secrets = json!({ "token": "MARK-value" });
    let outcome = bench.run(get("echo", "/hooks/MARK-value").secrets(&secrets)).await;
    assert!(outcome.result.is_ok());
    let context = bench.events(Kind::Context).remove(0);
    assert_eq!(context.message, "GET /hooks/[redacted]");
    assert!(!format!("{:?}", context.data).contains("MARK"));
}
