//! Who may not call what, and how they are told.

use gateway_shim::gateway::gateway_status;
use longshore_proto::{CallError, ErrorCode};
use serde_json::{Value, json};

use crate::http::Reply;
use crate::support::{Setup, World, install, request};

/// The error of a reply, whose shape is checked.
fn error(reply: &Reply) -> (u16, String) {
    let json = reply.json();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["code", "message", "request_id", "retryable"]);
    assert_eq!(json["request_id"].as_str(), reply.header("x-request-id"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("x-longshore-execution-id").map(str::len), Some(32));
    (reply.status, json["code"].as_str().unwrap().to_owned())
}

async fn refused(world: &World, line: &str, token: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let reply = world.front.send(request(line, token, headers, "")).await;
    assert!(world.calls.lock().is_empty(), "{line} was called");
    error(&reply)
}

/// Request line, token, more headers; status and code.
type Case<'c> = (&'c str, &'c str, &'c [(&'c str, &'c str)], u16, &'c str);

#[tokio::test]
async fn every_way_past_the_credential_is_refused() {
    let world = Setup::default().start().await;
    let none: &[(&str, &str)] = &[];
    let cases: &[Case<'_>] = &[
        // Who.
        ("GET /api/ext/e/", "", none, 401, "unauthenticated"),
        ("GET /api/ext/e/", "", &[("authorization", "Basic d3JpdGVy")], 401, "unauthenticated"),
        ("GET /api/ext/e/", "", &[("authorization", "writer")], 401, "unauthenticated"),
        ("GET /api/ext/e/", "", &[("authorization", "Bearer writer x")], 401, "unauthenticated"),
        ("GET /api/ext/e/", "", &[("x-api-key", "writer")], 401, "unauthenticated"),
        ("GET /api/ext/e/?access_token=writer", "", none, 401, "unauthenticated"),
        ("GET /api/ext/e/", "", &[("cookie", "token=writer")], 401, "unauthenticated"),
        ("GET /api/ext/e/", "writer", &[("authorization", "Bearer writer")], 401, "unauthenticated"),
        ("GET /api/ext/e/", "stranger", none, 401, "unauthenticated"),
        ("GET /api/ext/e/", "expired", none, 401, "unauthenticated"),
        ("GET /api/ext/e/", "away", none, 503, "registry_unavailable"),
        ("GET /api/ext/no-such/", "stranger", none, 401, "unauthenticated"),
        // Whose.
        ("GET /api/ext/e/", "writer", &[("x-alga-tenant", "u")], 403, "tenant_mismatch"),
        ("GET /api/ext/u1/", "writer", &[("x-alga-tenant", "u")], 403, "tenant_mismatch"),
        ("GET /api/ext/u1/", "writer", &[("x-tenant-id", "u")], 403, "tenant_mismatch"),
        ("GET /api/ext/u1/?tenant=u", "writer", none, 403, "tenant_mismatch"),
        ("GET /api/ext/u1/?tenant=t&tenant=u", "writer", none, 403, "tenant_mismatch"),
        ("GET /api/ext/u1/?%74enant=u", "writer", none, 403, "tenant_mismatch"),
        ("GET /api/ext/e/", "writer", &[("x-alga-tenant", "T")], 403, "tenant_mismatch"),
        ("GET /api/ext/u1/", "writer", none, 404, "extension_not_found"),
        ("GET /api/ext/u-u1/", "writer", none, 404, "extension_not_found"),
        ("GET /api/ext/com.a.theirs/", "writer", none, 404, "extension_not_found"),
        ("GET /api/ext/acme.com.a.theirs/", "writer", none, 404, "extension_not_found"),
        ("GET /api/ext/no-such/", "writer", none, 404, "extension_not_found"),
        ("GET /api/ext/u%2Fu1/", "writer", none, 404, "extension_not_found"),
        ("GET /api/ext/..%2Fu1/", "writer", none, 404, "extension_not_found"),
        ("GET /api/ext/e/", "other", none, 404, "extension_not_found"),
        // May it.
        ("POST /api/ext/e/items", "reader", none, 403, "forbidden"),
        ("DELETE /api/ext/e/items/1", "reader", none, 403, "forbidden"),
        ("GET /api/ext/e/", "narrow", none, 403, "forbidden"),
        ("GET /api/ext/u1/", "narrow", none, 404, "extension_not_found"),
        ("GET /api/ext/e2/", "by-install", none, 403, "forbidden"),
        ("GET /api/ext/e1/", "narrow", none, 403, "forbidden"),
        ("GET /api/ext/e1/", "writer", none, 404, "extension_not_available"),
        // Is there.
        ("GET /api/ext/e/other", "writer", none, 404, "endpoint_not_found"),
        ("PUT /api/ext/e/items/1", "writer", none, 404, "endpoint_not_found"),
        ("GET /api/ext/e/items/1/2", "writer", none, 404, "endpoint_not_found"),
        ("get /api/ext/e/", "writer", none, 404, "endpoint_not_found"),
        ("GET /api/ext/e/items/a%2Fb", "writer", none, 400, "invalid_request"),
        ("GET /api/ext/e/items/..%5c", "writer", none, 400, "invalid_request"),
        ("GET /api/ext/e/items/../../x", "writer", none, 400, "invalid_request"),
        ("GET /api/ext/e/items/%2e%2e", "writer", none, 400, "invalid_request"),
        ("GET /api/ext/e/items/%00", "writer", none, 400, "invalid_request"),
    ];
    for (line, token, headers, status, code) in cases {
        let got = refused(&world, line, token, headers).await;
        assert_eq!((got.0, got.1.as_str()), (*status, *code), "{line} {token} {headers:?}");
    }
}

#[tokio::test]
async fn another_tenants_install_is_answered_as_one_that_does_not_exist() {
    let world = Setup::default().start().await;
    let said = async |reference: &str| {
        let line = format!("GET /api/ext/{reference}/");
        let reply = world.front.send(request(&line, "writer", &[("x-request-id", "r")], "")).await;
        (reply.status, reply.text().to_owned())
    };
    assert_eq!(said("u1").await, said("no-such").await);
}

#[tokio::test]
async fn who_is_not_recognised_is_told_how_to_be() {
    let world = Setup::default().start().await;
    let mut told = Vec::new();
    for token in ["", "stranger", "expired"] {
        let reply = world.front.send(request("GET /api/ext/e/", token, &[("x-request-id", "r")], "")).await;
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"longshore\""));
        told.push(reply.text().to_owned());
    }
    assert!(told.iter().all(|text| *text == told[0]), "the words depend on what is wrong: {told:?}");
}

#[tokio::test]
async fn a_token_for_some_extensions_calls_those_by_id_and_name() {
    let world = Setup::default().start().await;
    for reference in ["e2", "com.a.other", "t-e2"] {
        let reply = world.front.send(request(&format!("GET /api/ext/{reference}"), "narrow", &[], "")).await;
        assert_eq!(reply.status, 200, "{reference}");
    }
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_no_refusal() {
    let setup = Setup { trouble: Some("reading"), ..Setup::default() };
    let world = setup.start().await;
    let reply = world.front.send(request("GET /api/ext/e/", "writer", &[], "")).await;
    assert_eq!(error(&reply), (503, "registry_unavailable".to_owned()));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(reply.json()["retryable"], true);
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_announced_or_not() {
    let world = Setup::with(&[("LONGSHORE_GATEWAY_MAX_BODY", "1KiB")]).start().await;
    let fits = "x".repeat(1_024);
    assert_eq!(world.front.send(request("POST /api/ext/e/items", "writer", &[], &fits)).await.status, 200);
    world.calls.lock().clear();
    let reply = world.front.send(request("POST /api/ext/e/items", "writer", &[], &format!("{fits}x"))).await;
    assert_eq!(error(&reply), (413, "payload_too_large".to_owned()));
    let mut bytes = request("POST /api/ext/e/items", "writer", &[("transfer-encoding", "chunked")], "");
    bytes.extend_from_slice(format!("401\r\n{fits}x\r\n0\r\n\r\n").as_bytes());
    assert_eq!(error(&world.front.send(bytes).await), (413, "payload_too_large".to_owned()));
    let expecting = [("content-length", "2000"), ("expect", "100-continue")];
    let reply = world.front.send(request("POST /api/ext/e/items", "writer", &expecting, "")).await;
    assert_eq!((error(&reply).0, reply.header("connection")), (413, Some("close")));
    assert!(world.calls.lock().is_empty());
}

#[tokio::test]
async fn who_calls_too_fast_is_told_when_to_come_back_and_others_are_not_held_up() {
    let settings = [("LONGSHORE_GATEWAY_RATE", "1"), ("LONGSHORE_GATEWAY_BURST", "2")];
    let world = Setup::with(&settings).start().await;
    let send = async |line: &str, token: &str| world.front.send(request(line, token, &[], "")).await;
    // By whichever name: it is one bucket.
    for reference in ["e", "com.a.app"] {
        assert_eq!(send(&format!("GET /api/ext/{reference}/"), "writer").await.status, 200);
    }
    let reply = send("GET /api/ext/acme.com.a.app/", "reader").await;
    assert_eq!(error(&reply), (429, "rate_limited".to_owned()));
    assert_eq!((reply.header("retry-after"), &reply.json()["retryable"]), (Some("1"), &Value::Bool(true)));
    assert_eq!(send("GET /api/ext/e2/", "writer").await.status, 200);
    assert_eq!(send("GET /api/ext/u1/", "other").await.status, 200);
    // Names at random are a bucket too, and one that holds up nobody but who asks for them.
    for name in ["a", "b"] {
        assert_eq!(send(&format!("GET /api/ext/{name}/"), "other").await.status, 404);
    }
    assert_eq!(error(&send("GET /api/ext/c/", "other").await).1, "rate_limited");
    assert_eq!(send("GET /api/ext/e2/", "writer").await.status, 200);
}

#[tokio::test]
async fn every_error_of_a_call_has_a_real_status_and_says_whether_to_try_again() {
    for code in ErrorCode::ALL {
        let code = *code;
        let world =
            Setup::default().answering(move |_| async move { Err(CallError::new(code, "why")) }).await;
        let reply = world.front.send(request("POST /api/ext/e/items", "writer", &[], "x")).await;
        assert_eq!(error(&reply), (gateway_status(code), code.as_str().to_owned()));
        assert_eq!(reply.json()["message"], "why");
        let may_have_run = !code.retry_safe();
        assert!(!(may_have_run && reply.json()["retryable"] == true), "{code}");
        let again = CallError::new(code, "").retry_after_s.map(|s| s.to_string());
        assert_eq!(reply.header("retry-after"), again.as_deref(), "{code}");
    }
}

#[tokio::test]
async fn settings_and_header_over_their_limit_are_431() {
    let mut setup = Setup::default();
    setup.installs.push(install("t", "big", "big", &json!({"config": {"k": "v".repeat(256 * 1024)}})));
    let world = setup.start().await;
    assert_eq!(
        refused(&world, "GET /api/ext/big/", "writer", &[]).await,
        (431, "headers_too_large".to_owned())
    );
}

#[tokio::test]
async fn a_token_for_one_install_by_its_id_is_good_for_it() {
    let world = Setup::default().start().await;
    for reference in ["e", "t-e", "com.a.app"] {
        let reply =
            world.front.send(request(&format!("GET /api/ext/{reference}"), "by-install", &[], "")).await;
        assert_eq!(reply.status, 200, "{reference}: {}", reply.text());
    }
}

#[tokio::test]
async fn an_install_that_is_disabled_or_removed_while_a_body_arrives_is_not_called() {
    let disabled = install("t", "e", "App", &json!({ "enabled": false }));
    for (now, code) in [(Some(disabled), "extension_not_available"), (None, "extension_not_found")] {
        let world = Setup::default().start().await;
        let mut asked = world.registry.asked.subscribe();
        let mut client = world.front.connect().await;
        let whole = request("POST /api/ext/e/items", "writer", &[], "body");
        let (first, rest) = whole.split_at(whole.len() - 2);
        client.write(first).await;
        asked.wait_for(|asked| *asked > 0).await.unwrap();
        world.registry.set("t", "e", now);
        client.write(rest).await;
        let reply = client.reply().await;
        assert_eq!(error(&reply), (404, code.to_owned()));
        assert!(world.calls.lock().is_empty(), "{code}");
    }
}
