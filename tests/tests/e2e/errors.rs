//! Every error that existing callers know (interop 2.4), on the wire.

use longshore_tests::call::Reply;
use longshore_tests::http::Http;
use longshore_tests::{Call, Stack, store};
use serde_json::json;

/// What one call must come to: the envelope's status and the beginning of its error.
async fn fails(http: &Http, call: &Call, status: u64, error: &str) -> Reply {
    let reply = http.call(call).await;
    let (got, text) = reply.failure();
    assert_eq!(got, status, "{text}");
    let rest = text.strip_prefix(error).unwrap_or_else(|| panic!("`{error}` expected: {text}"));
    assert!(rest.is_empty() || rest.starts_with(": "), "{text}");
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_with_a_transport_status_and_words() {
    let stack = Stack::start().await;
    let token = ("RUNNER_SERVICE_TOKEN", "hunter2-token");
    let (guarded, strict) = ([token], [token, ("LONGSHORE_EXECUTE_AUTH", "require")]);
    let (worker, shim, guarded, strict) =
        tokio::join!(stack.worker(&[]), stack.shim(&[]), stack.shim(&guarded), stack.shim(&strict));
    let echo = stack.install("tenant-1", "echo");
    let good = echo.get("/");

    let send = async |call: &Call, body: String| {
        let reply = shim.http().request("POST", "/v1/execute", &call.headers, body).await.unwrap();
        reply.check();
        reply
    };
    let json = good.json.to_string();
    assert_eq!(send(&good, json.clone()).await.status(), 200);
    assert_eq!(send(&good, json.replace('}', "")).await.transport, 400);
    assert_eq!(send(&good, String::new()).await.transport, 400);
    assert_eq!(send(&good.clone().header("content-type", "text/plain"), json.clone()).await.transport, 415);
    assert_eq!(send(&good.clone().without_header("content-type"), json.clone()).await.transport, 415);
    assert_eq!(send(&good, "[]".to_owned()).await.transport, 422);
    for pointer in ["/context/config", "/http/query", "/http/headers", "/limits", "/providers"] {
        let call = good.clone().with(pointer, json!(null));
        assert_eq!(send(&call, call.json.to_string()).await.transport, 422, "null for {pointer}");
    }
    let large = good.clone().with("/http/body_b64", json!("A".repeat(26 << 20)));
    assert_eq!(send(&large, large.json.to_string()).await.transport, 413);
    let stuffed = good.clone().with("/context/config/x", json!(["y".repeat(3), "z".repeat(3)]));
    assert_eq!(send(&stuffed, stuffed.json.to_string()).await.transport, 422);
    // A fault of one request is none of the next.
    assert_eq!(send(&good, json).await.status(), 200);

    let token = |token: &str| good.clone().header("x-runner-service-token", token);
    assert_eq!(guarded.http().call(&good).await.status(), 200, "two of three callers send no token");
    assert_eq!(guarded.http().call(&token("hunter2-token")).await.status(), 200);
    assert_eq!(guarded.http().call(&token("hunter3-token")).await.transport, 401);
    assert_eq!(strict.http().call(&good).await.transport, 401);
    assert_eq!(strict.http().call(&token("hunter2-token")).await.status(), 200);
    assert!(guarded.lines().with("hunter2").is_empty(), "a secret is in the log");

    for (method, path, status) in
        [("GET", "/v1/execute", 405), ("GET", "/nothing", 404), ("POST", "/warmup", 400)]
    {
        let reply = shim.http().request(method, path, &[], "").await.unwrap();
        assert_eq!(
            (reply.transport, reply.header("cache-control")),
            (status, Some("no-store")),
            "{method} {path}"
        );
    }
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_an_envelope_with_the_code_that_callers_know() {
    let (stack, [_worker], shim) = Stack::with_workers(&[]).await;
    let http = shim.http();
    let echo = stack.install("tenant-1", "echo");
    let good = echo.get("/");
    assert_eq!(http.call(&good).await.status(), 200);

    for missing in ["x-alga-tenant", "x-alga-extension"] {
        fails(http, &good.clone().without_header(missing), 400, "missing_routing_headers").await;
        fails(http, &good.clone().header(missing, " "), 400, "missing_routing_headers").await;
    }
    fails(http, &good.clone().header("x-alga-tenant", "tenant-2"), 400, "tenant_mismatch").await;
    fails(http, &good.clone().header("x-alga-extension", "other"), 400, "extension_mismatch").await;
    let climbing = good.clone().header("x-alga-tenant", "..").with("/context/tenant_id", json!(".."));
    fails(http, &climbing, 400, "invalid_id").await;
    for hash in ["", "sha256:", "abc", &format!("sha512:{}", "ab".repeat(32)), &"zz".repeat(32)] {
        let call = good.clone().with("/context/content_hash", json!(hash));
        fails(http, &call, 400, "invalid_content_hash").await;
    }
    let unknown = good.clone().with("/providers", json!(["cap:log.emit", "cap:b.new", "cap:a.new"]));
    let reply = fails(http, &unknown, 400, "unknown_capabilities").await;
    assert!(reply.failure().1.contains("cap:a.new") && reply.failure().1.contains("cap:b.new"));
    fails(http, &good.clone().timeout_ms(0), 400, "invalid_request").await;
    fails(http, &good.clone().timeout_ms(300_001), 400, "invalid_request").await;
    fails(http, &good.clone().memory_mb(1_025), 400, "invalid_request").await;
    fails(http, &good.clone().with("/http/method", json!("GE T")), 400, "invalid_request").await;
    fails(http, &good.clone().with("/http/body_b64", json!("%%%")), 500, "execute_failed: invalid_body")
        .await;
    // Not base64, and base64 of `{"k":1}`: no map of texts.
    for ciphertext in ["%%%", "eyJrIjoxfQ=="] {
        let sealed = good.clone().with("/secret_envelope", json!({ "ciphertext_b64": ciphertext }));
        fails(http, &sealed, 500, "secret_decrypt_failed").await;
    }
    let many = good.clone().with("/http/headers", json!({ "x-many": "v".repeat(300 << 10) }));
    fails(http, &many, 431, "headers_too_large").await;

    let absent = good.clone().with("/context/content_hash", json!("ab".repeat(32)));
    fails(http, &absent, 502, "bundle_fetch_failed: not_found").await;

    let archive = |wasm: &[u8]| {
        let files = [("manifest.json", store::manifest("x").into_bytes()), ("dist/main.wasm", wasm.to_vec())];
        longshore_bundle::archive::pack_files(files, 3).unwrap()
    };
    let garbage = stack.install_archive("tenant-1", "garbage", &archive(b"\0asm no component"));
    fails(http, &garbage.get("/"), 500, "execute_failed: compile").await;
    let stranger = wat::parse_str(r#"(component (import "acme:teleport/beam@1.0.0" (instance)))"#).unwrap();
    let stranger = stack.install_archive("tenant-1", "stranger", &archive(&stranger));
    let reply = http.call(&stranger.get("/")).await;
    let (status, error) = reply.failure();
    assert!(
        (status == 500 && error.starts_with("execute_failed: link") && error.contains("acme:teleport"))
            || (status == 404 && error.starts_with("extension_has_no_handler")),
        "{error}"
    );

    fails(http, &stack.install("tenant-1", "no-handler").get("/"), 404, "extension_has_no_handler").await;
    let pages =
        [("manifest.json", store::manifest("pages")), ("ui/index.html", "<!doctype html>".to_owned())];
    let pages = longshore_bundle::archive::pack_files(pages, 3).unwrap();
    let pages = stack.install_archive("tenant-1", "pages", &pages);
    fails(http, &pages.get("/"), 404, "extension_has_no_handler").await;

    // After all of it the worker still works.
    assert_eq!(http.call(&good).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_reaches_its_guest_as_it_was_sent_and_any_status_of_the_guest_is_no_error() {
    let (stack, [_worker], shim) = Stack::with_workers(&[]).await;
    let echo = stack.install("tenant-1", "echo");
    let call = echo
        .call("PATCH", "/a/b?x=1")
        .with("/http/query", json!({ "y z": "\u{fc}&" }))
        .with("/http/headers", json!({ "X-Custom": "Value", "accept": "*/*" }))
        .with("/http/url", json!("ignored"))
        .with("/context/trigger", json!("schedule"))
        .header("x-idempotency-key", "key-1")
        .body(b"hello");
    for hash in [echo.hash.hex(), echo.hash.hex().to_uppercase(), format!("SHA256:{}", echo.hash.hex())] {
        let seen = shim.call(&call.clone().with("/context/content_hash", json!(hash))).await.json();
        assert_eq!(seen["method"], "PATCH");
        assert_eq!(seen["url"], "/a/b?x=1&y+z=%C3%BC%26");
        assert_eq!(seen["body_length"], 5);
        assert!(seen["headers"].as_array().unwrap().contains(&json!(["X-Custom", "Value"])), "{seen}");
        let context = json!({
            "request_id": "request-1", "tenant_id": "tenant-1", "extension_id": "echo", "install_id": "install-1",
            "version_id": "version-1",
        });
        assert_eq!((&seen["context"], &seen["get_context"]), (&context, &context));
    }
    assert!(shim.call(&echo.get("/")).await.json()["body_length"].is_null());
    assert_eq!(shim.call(&echo.get("/").body(b"")).await.json()["body_length"], 0);

    let odd = stack.install("tenant-1", "bad-response");
    for status in [200, 201, 404, 418, 500, 599] {
        let reply = shim.call(&odd.get(format!("/?status={status}&body=b"))).await;
        assert_eq!((reply.status(), reply.text()), (status, "b".to_owned()));
    }
    for status in [204, 304] {
        let reply = shim.call(&odd.get(format!("/?status={status}&body=b"))).await;
        assert_eq!((reply.status(), reply.body()), (status, None));
    }
    assert_eq!(shim.call(&odd.get("/")).await.body(), None);
    assert_eq!(shim.call(&odd.get("/?body=")).await.body(), Some(Vec::new()));
    for status in [0, 99, 199, 600, 65_535] {
        fails(shim.http(), &odd.get(format!("/?status={status}")), 500, "execute_failed: invalid_response")
            .await;
    }
    let reply = shim
        .call(&odd.get("/?duplicate&header=X-Longshore-Execution-Id:forged&header=Set-Cookie:a%3D1"))
        .await;
    assert_eq!(reply.guest_header("x-twice").as_deref(), Some("second"), "the last of a name wins");
    assert_eq!(reply.guest_header("X-Twice").as_deref(), Some("third"), "case is kept");
    assert_eq!(reply.guest_header("Set-Cookie").as_deref(), Some("a=1"));
    assert_eq!(reply.guest_header("X-Longshore-Execution-Id"), None);
    assert!(reply.header("set-cookie").is_none(), "a guest's header is none of the transport's");
    fails(shim.http(), &odd.get("/?header=x%0d%0aevil:1"), 500, "execute_failed: invalid_response").await;
    fails(shim.http(), &odd.get("/?header=x:a%0d%0aevil"), 500, "execute_failed: invalid_response").await;
    fails(shim.http(), &odd.get("/?headers=60000"), 500, "execute_failed: response_too_large").await;
    let big = stack.install("tenant-1", "big-body");
    let large = big.get("/?bytes=17000000").timeout_ms(60_000);
    fails(shim.http(), &large, 500, "execute_failed: response_too_large").await;
}
