//! Where capabilities meet each other and the end of a run.

use longshore_proto::ErrorCode;
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
    let outcome = bench.run(drive([read]).timeout_ms(3_000)).await;
    assert_eq!(outcome.result.unwrap_err().code, ErrorCode::Timeout);
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
