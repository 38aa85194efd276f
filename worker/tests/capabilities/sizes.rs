//! Oversized everything: refused with its code, and nothing sent.

use longshore_egress::EgressConfig;
use longshore_proto::ErrorCode;
use longshore_proto::event::Kind;
use longshore_storage::JetStreamSettings;
use longshore_stub_platform::{Fault, Options, StubPlatform};
use longshore_tests::nats::Nats;
use serde_json::{Value, json};

use crate::functions;
use crate::support::{Bench, Setup, drive, function, get};
use crate::upstream::{Answer, Server, whole};

fn repeated(mut call: Value, times: u64) -> Value {
    call["repeat"] = times.into();
    call
}

fn put(bytes: usize) -> Value {
    function("storage.put", json!({ "namespace": "n", "key": "k", "value": { "fill": bytes } }))
}

#[tokio::test]
async fn values_are_stored_up_to_their_limit_and_no_byte_more() {
    let stub = StubPlatform::start(Options::default()).await.unwrap();
    let nats = Nats::start().await;
    let client = nats.client("worker").await.client;
    let jetstream = longshore_storage::on_jetstream(client, JetStreamSettings::default()).await.unwrap();
    let on_platform = Bench::new(&Setup::on(&stub));
    let on_jetstream = on_platform.beside(&Setup { storage: Some(jetstream), ..Setup::default() });
    for (bench, limit) in [(&on_platform, 49_149), (&on_jetstream, 65_536)] {
        let results = bench.results(drive([put(limit), put(limit + 1), put(20 << 20)])).await;
        assert!(results[0]["ok"]["revision"].is_u64(), "{results:?}");
        assert_eq!(results[1..], [json!({ "err": "internal" }), json!({ "err": "internal" })]);
        let notes: Vec<_> = bench.host_calls().iter().map(|call| call["note"].clone()).collect();
        assert!(notes[1].as_str().unwrap().contains(&limit.to_string()), "{notes:?}");
        // The value that is too large is not in its event.
        assert!(bench.host_calls().iter().all(|call| call.to_string().len() < 8_192));
    }
    assert_eq!(stub.requests().len(), 1);
}

fn fetch(args: Value) -> Value {
    function("http.fetch", args)
}

#[tokio::test]
async fn requests_over_their_limits_are_not_sent() {
    let server = Server::start().await;
    let bench = Bench::new(&Setup::default().open());
    let url = server.url("/");
    let long = |bytes: usize| "v".repeat(bytes);
    let many: Vec<_> = (0..2_000).map(|n| json!([format!("x-{n}"), long(50)])).collect();
    for (what, call, code) in [
        (
            "17 MiB of body",
            json!({ "method": "POST", "url": url, "body": { "fill": 17 << 20 } }),
            "not-allowed",
        ),
        (
            "a header of 1 MiB",
            json!({ "method": "GET", "url": url, "headers": [["x-a", long(1 << 20)]] }),
            "not-allowed",
        ),
        ("100 kB of headers", json!({ "method": "GET", "url": url, "headers": many }), "not-allowed"),
        (
            "a name of 100 kB",
            json!({ "method": "GET", "url": url, "headers": [[long(100_000), "v"]] }),
            "transport",
        ),
        (
            "a URL of 17 KiB",
            json!({ "method": "GET", "url": server.url(&format!("/{}", long(17 << 10))) }),
            "invalid-url",
        ),
        (
            "a URL of 10 MB",
            json!({ "method": "GET", "url": format!("http://{}/", long(10_000_000)) }),
            "invalid-url",
        ),
        ("a method of 1 MB", json!({ "method": "M".repeat(1 << 20), "url": url }), "not-allowed"),
    ] {
        let result = bench.one(drive([fetch(call)])).await;
        assert_eq!(result, json!({ "err": code }), "{what}");
        assert!(bench.host_calls()[0].to_string().len() < 8_192, "{what}");
    }
    assert_eq!(server.connections().await, 0);
    // And the border from below.
    let fits = json!({ "method": "POST", "url": url, "body": { "fill": 16 << 20 } });
    assert_eq!(bench.one(drive([fetch(fits)])).await["ok"]["status"], 200);
}

#[tokio::test]
async fn answers_over_their_limits_are_errors_of_this_call_and_not_of_the_worker() {
    let server = Server::start().await;
    let bench = Bench::new(&Setup::default().open());
    let call = || drive([fetch(json!({ "method": "GET", "url": server.url("/") }))]);
    // Announced, and found out while it comes.
    server.answers(whole(200, "", &"x".repeat(17 << 20)));
    assert_eq!(bench.one(call()).await, json!({ "err": "internal" }));
    let endless = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(17 << 20));
    server.answers(Answer::Last(endless.into_bytes()));
    assert_eq!(bench.one(call()).await, json!({ "err": "internal" }));
    server.answers(whole(200, &format!("x-long: {}\r\n", "v".repeat(100_000)), ""));
    assert_eq!(bench.one(call()).await, json!({ "err": "transport" }));
    let many: String = (0..5_000).map(|n| format!("x-{n}: v\r\n")).collect();
    server.answers(whole(200, &many, ""));
    assert_eq!(bench.one(call()).await, json!({ "err": "transport" }));
    server.answers(whole(200, "", "fine"));
    assert_eq!(bench.one(call()).await["ok"]["body"]["text"], "fine");
}

#[tokio::test]
async fn what_the_platform_would_not_read_is_not_sent_to_it() {
    let stub = StubPlatform::start(Options::default()).await.unwrap();
    let bench = Bench::new(&Setup::on(&stub));
    let payload = json!({ "filler": "x".repeat(2 << 20) }).to_string();
    let mut schedule = functions::new_schedule("big");
    schedule["payload"] = payload.clone().into();
    let id = "5b7b5e6c-3c0f-4a4e-8a53-0a4b6cb1b7a1";
    let item = json!({ "service-id": id, "quantity": 1, "description": "d".repeat(2 << 20), "rate": 1 });
    let search = json!({ "search": "s".repeat(2 << 20) });
    let update = json!({ "schedule-id": id, "name": "n", "payload": payload });
    let results = bench
        .results(drive([
            function("scheduler.create-schedule", schedule),
            function("scheduler.update-schedule", update),
            function("invoicing.create-manual-invoice", json!({ "client-id": id, "items": [item] })),
            function("clients.list-clients", search.clone()),
            function("services.list-services", search),
            function("ui-proxy.call-route", json!({ "route": "/x", "payload": { "fill": (1 << 20) + 1 } })),
            function("ui-proxy.call-route", json!({ "route": format!("/{}", "r".repeat(100_000)) })),
            function("scheduler.get-schedule", json!({ "schedule-id": "i".repeat(2 << 20) })),
            function("clients.list-clients", json!({ "page": 0 })),
            function("clients.list-clients", json!({ "page-size": 101 })),
            function("services.list-services", json!({ "page-size": 0 })),
        ]))
        .await;
    for result in &results[..3] {
        assert_eq!(result["value"]["success"], false, "{result}");
        assert!(result["value"]["error"].as_str().unwrap().contains("1 MiB"), "{result}");
    }
    let codes: Vec<_> = results[3..].iter().map(|r| r["err"].as_str().unwrap()).collect();
    let input = "invalid-input";
    assert_eq!(codes, [input, input, "bad-request", "bad-request", "validation-failed", input, input, input]);
    assert!(stub.requests().is_empty());
}

#[tokio::test]
async fn an_answer_of_the_platform_that_is_too_large_is_internal() {
    let stub = StubPlatform::start(Options::default()).await.unwrap();
    let bench = Bench::new(&Setup::on(&stub));
    for (api, operation, call) in [
        ("storage", "get", function("storage.get", functions::entry())),
        ("clients", "list", function("clients.list-clients", json!({}))),
        ("rest", "*", function("ui-proxy.call-route", json!({ "route": "/x" }))),
    ] {
        stub.fail_next(api, operation, Fault::HugeBody);
        assert_eq!(bench.one(drive([call])).await, json!({ "err": "internal" }), "{api}");
    }
    stub.fail_next("storage", "get", Fault::Redirect("http://127.0.0.1:1/".to_owned()));
    let got = bench.one(drive([function("storage.get", functions::entry())])).await;
    assert_eq!(got, json!({ "err": "internal" }));
}

#[tokio::test]
async fn a_hundred_thousand_lines_are_cut_and_counted() {
    let bench = Bench::new(&Setup::default());
    let line = function("logging.log-info", json!({ "message": "m" }));
    let results = bench.results(drive([repeated(line, 100_000)])).await;
    assert_eq!(results, [json!({ "value": null })]);
    let lines = bench.events(Kind::Log).len();
    assert_eq!(lines, 10_000);
    let dropped = bench.events(Kind::Dropped).remove(0).data.unwrap().value();
    assert_eq!(
        (&dropped["code"], &dropped["lines"], &dropped["limit"]),
        (&"log_lines".into(), &90_000.into(), &10_000.into())
    );
    assert!(bench.host_calls().len() <= 10_001, "{}", bench.host_calls().len());
}

#[tokio::test]
async fn too_many_host_calls_and_outbound_requests_end_the_run() {
    let server = Server::start().await;
    let bench = Bench::new(&Setup::default().open());
    let key = function("secrets.get", json!({ "key": "api_key" }));
    let ended = bench.run(drive([repeated(key, 10_001)])).await.result.unwrap_err();
    assert_eq!(ended.code, ErrorCode::HostCalls);
    assert!(ended.message.contains("10000 host calls"), "{ended}");
    let call = repeated(fetch(json!({ "method": "GET", "url": server.url("/") })), 51);
    let ended = bench.run(drive([call])).await.result.unwrap_err();
    assert_eq!(ended.code, ErrorCode::OutboundRequests);
    assert!(ended.message.contains("50 outbound requests"), "{ended}");
    assert_eq!(server.requests().len(), 50);
}

#[tokio::test]
async fn outbound_requests_of_both_doors_share_one_budget() {
    let server = Server::start().await;
    let mut setup = Setup::default().open();
    setup.maxima.outbound_requests = 0;
    let ended = Bench::new(&setup)
        .run(get("http-echo", &format!("/?send=127.0.0.1:{}", server.port())))
        .await
        .result
        .unwrap_err();
    assert_eq!(ended.code, ErrorCode::OutboundRequests);
    assert_eq!(server.connections().await, 0);
    // A refused target is a request too: guesses are not free.
    let egress = EgressConfig { allow_all_when_empty: true, ..EgressConfig::default() };
    let call = repeated(fetch(json!({ "method": "GET", "url": "http://127.0.0.1:1/" })), 51);
    let ended =
        Bench::new(&Setup { egress, ..Setup::default() }).run(drive([call])).await.result.unwrap_err();
    assert_eq!(ended.code, ErrorCode::OutboundRequests);
}
