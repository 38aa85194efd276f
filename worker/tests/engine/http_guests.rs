//! Components of `wasi:http`: the whole request, every kind of answer, configuration.

use longshore_proto::ErrorCode;
use longshore_proto::event::Kind;
use serde_json::{Value, json};

use crate::support::{
    Fixture, answer, built_guests, call, executor, fixture, fixture_with, json, no_backends,
};

fn pattern(bytes: usize) -> Vec<u8> {
    (0..251).cycle().take(bytes).collect()
}

fn pairs(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[tokio::test]
async fn a_guest_gets_the_whole_request() {
    let fixture = fixture();
    let request = call("http-echo", "/a%20b/c?x=1&x=2&y")
        .post("text/plain", "hello")
        .header("Accept", "a/b")
        .header("accept", "c/d")
        .header("Host", "tenant.example:8080")
        .header("X-Forwarded-Proto", "https")
        .header("Connection", "x-hop")
        .header("X-Hop", "1");
    let outcome = fixture.run(request).await;
    let mut found = json(&outcome);
    found["headers"].as_array_mut().unwrap().sort_by_key(Value::to_string);
    assert_eq!(
        found,
        json!({
            "method": "POST", "scheme": "https", "authority": "tenant.example:8080", "url": "/a%20b/c?x=1&x=2&y",
            "headers": [
                ["accept", "a/b"], ["accept", "c/d"], ["content-length", "5"], ["content-type", "text/plain"],
                ["x-forwarded-proto", "https"],
            ],
            "body_length": 5,
        })
    );
    assert_eq!(pairs(&answer(&outcome).headers), [("content-type", "application/json")]);
    let usage = outcome.usage;
    assert!(usage.cpu_us > 0 && usage.peak_memory_bytes >= 65_536 && usage.handler_us > 0, "{usage:?}");
    assert_eq!(fixture.executor.instances(), 0);
}

#[tokio::test]
async fn scheme_and_authority_of_the_shim_win() {
    let request = call("http-echo", "/").reached_as("https", "a.example").header("Host", "b.example");
    let found = json(&fixture().run(request).await);
    assert_eq!((&found["scheme"], &found["authority"]), (&json!("https"), &json!("a.example")));
}

#[tokio::test]
async fn components_of_other_0_2_versions_run_unmodified() {
    let built = std::fs::read(built_guests().join("http-echo.wasm")).unwrap();
    let fixture = fixture();
    // Names of the same length, so that the component stays a valid one.
    for version in ["@0.2.10", "@0.2.99"] {
        let mut bytes = built.clone();
        let places: Vec<_> =
            built.windows(7).enumerate().filter(|(_, w)| *w == b"@0.2.12").map(|(place, _)| place).collect();
        assert!(!places.is_empty());
        for place in places {
            bytes[place..place + 7].copy_from_slice(version.as_bytes());
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("other.wasm"), bytes).unwrap();
        let executor =
            executor(fixture.config.clone(), folder.path().into(), &Default::default(), no_backends());
        let outcome = executor.execute(call("other", "/x").job()).await;
        assert_eq!(json(&outcome)["url"], json!("/x"), "{version}");
    }
}

#[tokio::test]
async fn a_request_that_is_none_is_refused_before_anything_runs() {
    let fixture = fixture();
    for request in [
        call("http-echo", "no/slash"),
        call("http-echo", "/a b"),
        call("http-echo", "/").header("Host", "user@host"),
        call("http-echo", "/").header("bad name", "v"),
        call("http-echo", "/").reached_as("http", "a/b"),
    ] {
        assert_eq!(fixture.code(request).await, ErrorCode::InvalidRequest);
    }
    assert!(fixture.of_kind(Kind::HandlerStart).is_empty());
}

#[tokio::test]
async fn ten_mebibytes_go_in_and_out() {
    let fixture = fixture();
    let body = pattern(10 << 20);
    let outcome = fixture.run(call("http-echo", "/?raw").post("a/b", body.clone())).await;
    assert!(answer(&outcome).body.as_ref().unwrap() == &body);
    let made = fixture.run(call("http-answers", &format!("/?kind=stream&bytes={}", 10 << 20))).await;
    assert!(answer(&made).body.as_ref().unwrap() == &body);
}

#[tokio::test]
async fn a_stream_without_end_is_stopped_at_the_response_limit() {
    let fixture = fixture_with(|config| config.maxima.response_bytes = 3 << 20);
    let error = fixture.run(call("http-answers", "/?kind=stream")).await.result.unwrap_err();
    assert_eq!(error.code, ErrorCode::ResponseTooLarge);
    assert!(error.message.contains("3145728"), "{error}");
    let whole = fixture.run(call("http-answers", &format!("/?kind=stream&bytes={}", 3 << 20))).await;
    assert_eq!(answer(&whole).body.as_ref().unwrap().len(), 3 << 20);
    assert_eq!(fixture.executor.instances(), 0);
}

#[tokio::test]
async fn trailers_and_repeated_headers_come_back() {
    let fixture = fixture();
    let outcome = fixture.run(call("http-answers", "/?kind=trailers")).await;
    let response = answer(&outcome);
    assert_eq!(response.body.as_deref(), Some(&b"before"[..]));
    assert_eq!(pairs(&response.trailers), [("x-sum", "1"), ("x-sum", "2"), ("x-end", "yes")]);
    let outcome = fixture.run(call("http-answers", "/?kind=repeated")).await;
    let mut headers = pairs(&answer(&outcome).headers);
    headers.sort_by_key(|(name, _)| *name);
    assert_eq!(headers, [("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-one", "1")]);
}

#[tokio::test]
async fn an_answer_may_have_no_body_and_a_body_with_204_is_dropped() {
    let fixture = fixture();
    for (url, status) in
        [("/?kind=empty", 200), ("/?kind=empty&status=404", 404), ("/?kind=plain&status=204", 204)]
    {
        let outcome = fixture.run(call("http-answers", url)).await;
        assert_eq!((answer(&outcome).status, answer(&outcome).body.as_ref()), (status, None), "{url}");
    }
}

async fn failed(fixture: &Fixture, url: &str) -> (ErrorCode, String) {
    let error = fixture.run(call("http-answers", url)).await.result.unwrap_err();
    assert_eq!(fixture.executor.instances(), 0);
    (error.code, error.message)
}

#[tokio::test]
async fn each_way_not_to_answer_has_a_code_and_says_what_was_wrong() {
    let fixture = fixture();
    for (kind, code, words) in [
        ("never", ErrorCode::InvalidResponse, "the guest never set a response"),
        ("leaked-outparam", ErrorCode::InvalidResponse, "the guest never set a response"),
        ("unfinished", ErrorCode::InvalidResponse, "the body broke off after 4 bytes"),
        ("leaked-body", ErrorCode::InvalidResponse, "the guest returned without finishing the body"),
        ("short", ErrorCode::InvalidResponse, "the body broke off after 4 bytes"),
        ("error", ErrorCode::Trap, "the guest answered with the error HTTP-request-denied"),
        ("internal-error", ErrorCode::Trap, "the guest answered with the error internal-error: out of "),
        ("twice", ErrorCode::Trap, "unknown handle index"),
        ("trap-later", ErrorCode::Trap, "wasm `unreachable` instruction executed"),
        ("plain&status=100", ErrorCode::InvalidResponse, "the status is 100; it must be 200 to 599"),
        ("plain&status=103", ErrorCode::InvalidResponse, "the status is 103"),
        ("plain&status=600", ErrorCode::InvalidResponse, "the status is 600"),
    ] {
        let (found, message) = failed(&fixture, &format!("/?kind={kind}")).await;
        assert_eq!(found, code, "{kind}: {message}");
        assert!(message.contains(words) && !message.contains(char::is_control), "{kind}: {message:?}");
    }
}

#[tokio::test]
async fn what_a_guest_does_after_its_answer_belongs_to_the_run() {
    let fixture = fixture();
    let outcome = fixture.run(call("http-answers", "/?kind=later")).await;
    assert_eq!(answer(&outcome).body.as_deref(), Some(&b"first"[..]));
    assert_eq!(fixture.messages(Kind::Log), ["after the response"]);
}

#[tokio::test]
async fn a_guest_that_never_ends_its_body_ends_at_the_deadline() {
    let fixture = fixture();
    fixture.run(call("http-answers", "/")).await.result.unwrap();
    let code = fixture.code(call("http-answers", "/?kind=hang").timeout_ms(300)).await;
    assert_eq!((code, fixture.executor.instances()), (ErrorCode::Timeout, 0));
}

#[tokio::test]
async fn a_guest_can_make_the_host_hold_only_so_much() {
    let fixture = fixture();
    let taken = fixture.run(call("http-answers", "/?kind=hoard&n=100")).await;
    let taken: u64 = std::str::from_utf8(answer(&taken).body.as_ref().unwrap()).unwrap().parse().unwrap();
    assert!(taken <= 100 * 2 * (64 << 10), "{taken}");
    let error = fixture.run(call("http-answers", "/?kind=hoard")).await.result.unwrap_err();
    assert_eq!(error.code, ErrorCode::Trap);
    assert!(error.message.contains("resource table"), "{error}");
}

#[tokio::test]
async fn a_guest_without_the_capability_reaches_no_host() {
    let outcome = fixture().run(call("http-echo", "/?send=127.0.0.1:1")).await;
    assert_eq!(json(&outcome), json!({ "sent": "ErrorCode::HttpRequestDenied" }));
}

#[tokio::test]
async fn configuration_comes_as_environment_and_as_wasi_config() {
    let fixture = fixture();
    let config = [("REGION", "eu"), ("with=sign", "x"), ("LONGSHORE_TENANT", "forged")];
    let outcome = fixture.run(call("http-config", "/?name=REGION").config(&config)).await;
    let found = json(&outcome);
    let environment: std::collections::BTreeMap<String, String> = serde_json::from_value(Value::Object(
        found["environment"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone()))
            .collect(),
    ))
    .unwrap();
    assert_eq!(environment["LONGSHORE_EXECUTION_ID"].len(), outcome_id_length());
    let shown: Vec<_> = environment
        .iter()
        .filter(|(name, _)| *name != "LONGSHORE_EXECUTION_ID")
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            ("LONGSHORE_ATTEMPT", "1"),
            ("LONGSHORE_EXTENSION", "http-config"),
            ("LONGSHORE_INSTALL", "i-1"),
            ("LONGSHORE_REQUEST_ID", "r-1"),
            ("LONGSHORE_TENANT", "tenant-1"),
            ("LONGSHORE_TRIGGER", "request"),
            ("REGION", "eu"),
        ]
    );
    assert_eq!(
        found["config"],
        json!([["LONGSHORE_TENANT", "forged"], ["REGION", "eu"], ["with=sign", "x"]])
    );
    assert_eq!(
        (&found["get"], &found["tenant"], &found["arguments"]),
        (&json!("eu"), &json!("tenant-1"), &json!([]))
    );
    let context = fixture.of_kind(Kind::Context).pop().unwrap().data.unwrap().value();
    assert_eq!((&context["config"], &context["config_left_out"]), (&json!(3), &json!(2)));
}

fn outcome_id_length() -> usize {
    longshore_proto::ExecutionId::from_bytes([0; 16]).to_string().len()
}

mod wasi_0_3 {
    use super::*;

    fn fixture() -> Fixture {
        fixture_with(|config| {
            config.engine.wasi_p3 = true;
            config.maxima.response_bytes = 8 << 20;
        })
    }

    #[tokio::test]
    async fn a_guest_gets_the_whole_request_and_answers_from_a_task_of_its_own() {
        let fixture = fixture();
        let request =
            call("http-async", "/a?x=1&x=2").post("text/plain", "hello").reached_as("https", "a.example");
        let outcome = fixture.run(request).await;
        let mut found = json(&outcome);
        found["headers"].as_array_mut().unwrap().sort_by_key(Value::to_string);
        assert_eq!(
            found,
            json!({
                "method": "Method::Post", "scheme": "Scheme::Https", "authority": "a.example", "url": "/a?x=1&x=2",
                "headers": [["content-length", "5"], ["content-type", "text/plain"]], "body_length": 5,
            })
        );
        assert_eq!(pairs(&answer(&outcome).headers), [("set-cookie", "a=1"), ("set-cookie", "b=2")]);
        assert_eq!(fixture.executor.instances(), 0);
    }

    #[tokio::test]
    async fn streams_trailers_and_limits_are_those_of_0_2() {
        let fixture = fixture();
        let made = fixture.run(call("http-async", &format!("/?kind=stream&bytes={}", 5 << 20))).await;
        assert_eq!(answer(&made).body.as_ref().unwrap().len(), 5 << 20);
        let trailers = fixture.run(call("http-async", "/?kind=trailers")).await;
        assert_eq!(pairs(&answer(&trailers).trailers), [("x-sum", "1")]);
        let denied = fixture.run(call("http-async", "/?kind=send")).await;
        assert_eq!(json(&denied)["sent"], json!("ErrorCode::HttpRequestDenied"));
        for (kind, code) in [
            ("stream", ErrorCode::ResponseTooLarge),
            ("unfinished", ErrorCode::InvalidResponse),
            ("error", ErrorCode::Trap),
        ] {
            assert_eq!(fixture.code(call("http-async", &format!("/?kind={kind}"))).await, code, "{kind}");
        }
        let hang = call("http-async", "/?kind=hang").timeout_ms(300);
        assert_eq!(fixture.code(hang).await, ErrorCode::Timeout);
        assert_eq!(fixture.executor.instances(), 0);
    }

    #[tokio::test]
    async fn components_of_the_other_kinds_run_on_the_same_engine() {
        let fixture = fixture();
        for guest in ["echo", "http-echo", "user-company"] {
            assert_eq!(answer(&fixture.run(call(guest, "/")).await).status, 200);
        }
    }

    #[tokio::test]
    async fn switched_off_its_components_are_refused_by_name() {
        let error = super::fixture().run(call("http-async", "/")).await.result.unwrap_err();
        assert_eq!(error.code, ErrorCode::Compile);
        assert!(error.message.contains("async"), "{error}");
    }
}
