//! What an extension gets.

use std::time::{Duration, Instant};

use longshore_proto::{ContentHash, ErrorCode};
use serde_json::json;

use crate::http;
use crate::support::{Setup, install, request};

#[tokio::test]
async fn a_call_is_made_of_the_install_and_harmless_parts_of_the_request() {
    let world = Setup::default().start().await;
    let headers = [
        ("content-type", "application/json"),
        ("x-request-id", "req-1"),
        ("x-idempotency-key", "k"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let reply =
        world.front.send(request("POST /api/ext/e/items?b=2&a=1&b=3", "writer", &headers, "{}")).await;
    assert_eq!((reply.status, reply.text()), (200, "{}"));
    assert_eq!(reply.header("x-request-id"), Some("req-1"));
    let calls = world.calls.lock();
    let (call, run) = (&calls[0], &calls[0].run);
    assert_eq!(reply.header("x-longshore-execution-id"), Some(call.execution.to_string().as_str()));
    assert_eq!((call.pool.as_str(), call.weight, call.idempotent), ("fast", 2, false));
    assert_eq!((run.http.method.as_str(), run.http.url.as_str()), ("POST", "/items?b=2&a=1&b=3"));
    let sent: Vec<_> = run.http.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(
        sent,
        [
            ("content-type", "application/json"),
            ("x-idempotency-key", "k"),
            ("x-request-id", "req-1"),
            ("x-alga-tenant", "t"),
            ("x-alga-extension", "e"),
        ]
    );
    let context = &run.context;
    assert_eq!((context.tenant.as_str(), context.extension.as_str()), ("t", "e"));
    assert_eq!((context.install_id.as_deref(), context.version_id.as_deref()), (Some("t-e"), Some("v")));
    assert_eq!((context.request_id.as_deref(), context.config["k"].as_str()), (Some("req-1"), "v"));
    assert_eq!(context.content_hash, ContentHash::from_bytes([0xab; 32]));
    assert_eq!((run.limits.timeout_ms, run.limits.memory_mb), (30_000, 64));
    assert!(run.user.is_none());
    assert_eq!(call.trace[0].0, "traceparent");
    let left = call.answer_by.saturating_duration_since(Instant::now());
    assert!(left > Duration::from_secs(20) && left < Duration::from_millis(29_400), "{left:?}");
}

#[tokio::test]
async fn an_extension_has_four_names_and_a_path_one_spelling() {
    let world = Setup::default().start().await;
    for (target, url) in [
        ("/api/ext/e", "/"),
        ("/api/ext/e/", "/"),
        ("/api/ext/t-e/items/7", "/items/7"),
        ("/api/ext/com.a.app/items/7", "/items/7"),
        ("/api/ext/com.a.App/%69tems/%37", "/items/7"),
        ("/api/ext/acme.com.a.app/items/a%20b?q=x%20y", "/items/a%20b?q=x+y"),
    ] {
        let reply = world.front.send(request(&format!("GET {target}"), "reader", &[], "")).await;
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        let call = world.calls.lock().pop().unwrap();
        assert_eq!((call.run.http.url.as_str(), call.run.context.extension.as_str()), (url, "e"), "{target}");
    }
}

#[tokio::test]
async fn no_credential_and_nothing_of_a_proxy_reaches_an_extension() {
    let world = Setup::with(&[("LONGSHORE_GATEWAY_REQUEST_HEADERS", "x-mine")]).start().await;
    let headers = [
        ("cookie", "canary=1"),
        ("x-api-key", "canary"),
        ("x-runner-service-token", "canary"),
        ("x-runner-auth", "canary"),
        ("proxy-authorization", "Basic canary"),
        ("forwarded", "for=canary"),
        ("x-forwarded-for", "canary"),
        ("x-alga-extension", "canary"),
        ("x-ext-install-id", "canary"),
        ("x-longshore-x", "canary"),
        ("x-unknown", "canary"),
        ("x-mine", "yes"),
    ];
    let reply = world.front.send(request("GET /api/ext/e/", "writer", &headers, "")).await;
    assert_eq!(reply.status, 200);
    let call = world.calls.lock().pop().unwrap();
    let shown = format!("{call:?}");
    assert!(!shown.contains("canary") && !shown.contains("writer"), "{shown}");
    assert!(call.run.http.headers.contains(&("x-mine".to_owned(), "yes".to_owned())));
}

#[tokio::test]
async fn a_request_id_that_could_not_stand_in_a_header_is_replaced() {
    let world = Setup::default().start().await;
    let long = "x".repeat(129);
    for id in ["", "a b", "ü", long.as_str()] {
        let reply = world.front.send(request("GET /api/ext/e/", "writer", &[("x-request-id", id)], "")).await;
        let made = reply.header("x-request-id").unwrap().to_owned();
        assert_eq!(made.len(), 36, "{id:?}: {made}");
        assert_eq!(world.calls.lock().pop().unwrap().run.context.request_id, Some(made));
    }
}

#[tokio::test]
async fn an_endpoint_that_may_run_twice_says_so_and_head_asks_as_get() {
    let world = Setup::default().start().await;
    let reply = world.front.send(request("DELETE /api/ext/e/items/7", "writer", &[], "")).await;
    assert_eq!(reply.status, 200);
    let call = world.calls.lock().pop().unwrap();
    assert!(call.idempotent && call.is_safe());
    world.front.send(request("POST /api/ext/e/items", "writer", &[], "x")).await;
    assert!(!world.calls.lock().pop().unwrap().is_safe());
    let mut client = world.front.connect().await;
    client.write(request("HEAD /api/ext/e/items/7", "reader", &[("connection", "close")], "")).await;
    client.closed().await;
    assert_eq!(world.calls.lock().pop().unwrap().run.http.method, "GET");
}

#[tokio::test]
async fn a_get_has_no_body_and_a_post_may_have_none() {
    let world = Setup::default().start().await;
    world.front.send(request("GET /api/ext/e/", "writer", &[], "ignored")).await;
    assert_eq!(world.calls.lock().pop().unwrap().body, None);
    world.front.send(request("POST /api/ext/e/items", "writer", &[], "")).await;
    assert_eq!(world.calls.lock().pop().unwrap().body, None);
    let chunked = [("transfer-encoding", "chunked")];
    let mut bytes = request("POST /api/ext/e/items", "writer", &chunked, "");
    bytes.extend_from_slice(b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
    world.front.send(bytes).await;
    assert_eq!(world.calls.lock().pop().unwrap().body.as_deref(), Some(b"abc".as_slice()));
}

#[tokio::test]
async fn the_lower_timeout_holds() {
    let mut setup = Setup::with(&[("EXT_GATEWAY_TIMEOUT_MS", "5000")]);
    setup.installs.push(install("t", "fast", "fast", &json!({"limits": {"timeout_ms": 200}})));
    let world = setup.answering(|_| std::future::pending()).await;
    let started = Instant::now();
    let reply = world.front.send(request("GET /api/ext/fast/", "writer", &[], "")).await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (504, Some(ErrorCode::Timeout.as_str())));
    assert!(started.elapsed() < Duration::from_secs(4), "200 ms were allowed");
    assert_eq!(world.calls.lock()[0].run.limits.timeout_ms, 200);
}

#[tokio::test]
async fn endpoints_that_the_registry_does_not_know_are_those_of_the_manifest() {
    let unknown = install("t", "p", "platform", &json!({"endpoints": null}));
    let status = async |setup: Setup, line: &str| {
        let world = setup.start().await;
        world.front.send(request(line, "writer", &[], "")).await.status
    };
    let setup = |manifests, settings: &[(&'static str, &'static str)]| Setup {
        installs: vec![unknown.clone()],
        manifests,
        ..Setup::with(settings)
    };
    let off = [("LONGSHORE_GATEWAY_ENFORCE_ENDPOINTS", "false")];
    assert_eq!(status(setup(true, &[]), "GET /api/ext/p/from-manifest").await, 200);
    assert_eq!(status(setup(true, &[]), "GET /api/ext/p/other").await, 404);
    assert_eq!(status(setup(false, &[]), "GET /api/ext/p/from-manifest").await, 503, "nobody knows them");
    assert_eq!(status(setup(false, &off), "PATCH /api/ext/p/anything").await, 200);
    assert_eq!(status(setup(false, &off), "BREW /api/ext/p/anything").await, 404);
}

#[tokio::test]
async fn execute_refuses_an_install_that_is_disabled_or_was_removed() {
    let world = Setup::default().start().await;
    tokio::spawn(world.gate.clone().follow());
    let execute = |install: &str, extension: &str| {
        let mut body = http::request();
        body["context"]["install_id"] = install.into();
        body["context"]["extension_id"] = extension.into();
        http::post(&[("x-alga-extension", extension)], body.to_string())
    };
    let error = async |install: &str, extension: &str| {
        let envelope = world.front.send(execute(install, extension)).await.envelope();
        envelope["error"].as_str().map(str::to_owned)
    };
    assert_eq!(error("t-e", "e").await, None);
    assert_eq!(error("unknown", "x").await, None, "callers with a registry of their own have others");
    assert!(error("t-e1", "e1").await.unwrap().starts_with("extension_not_available"));
    while world.registry.changes.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    let removed = longshore_registry::Change {
        tenant: "t".parse().unwrap(),
        extension: "x".parse().unwrap(),
        now: None,
    };
    world.registry.changes.send(removed).unwrap();
    let (tenant, extension) = ("t".parse().unwrap(), "x".parse().unwrap());
    while !world.gate.was_removed(&tenant, &extension) {
        tokio::task::yield_now().await;
    }
    assert!(error("unknown", "x").await.unwrap().contains("removed"));
}
