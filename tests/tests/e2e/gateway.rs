//! `/api/ext`: installed through the admin API, called with a token.

use longshore_tests::{Caller, Stack, store, wait};
use serde_json::{Value, json};

use super::load::runs;

/// The guest that says what it was called with.
fn echo(version: &str) -> Vec<u8> {
    let endpoints = [
        "GET /",
        "POST /",
        "GET /items/:id",
        "POST /items/:id/send",
        "DELETE /items/:id idempotent",
        "OPTIONS /asks",
    ];
    store::extension("echo", "echo", version, &[], &endpoints)
}

fn header<'j>(echoed: &'j Value, name: &str) -> Option<&'j str> {
    let pairs = echoed["headers"].as_array().unwrap();
    pairs.iter().find(|pair| pair[0] == name).and_then(|pair| pair[1].as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_install_is_called_by_each_of_its_names_with_a_token_of_its_tenant() {
    let (_stack, admin, [_worker], gateway) = Stack::standalone(&[], &[]).await;
    let installed = admin.install("tenant-1", &echo("1.0.0"), json!({})).await;
    let install = &installed["install"];
    assert_eq!((&installed["outcome"], &installed["warm"]["complete"]), (&json!("created"), &json!(true)));
    let caller = Caller::new(&gateway, admin.token("tenant-1", "write").await).await;
    let id = install["install_id"].as_str().unwrap().to_owned();
    let extension = install["extension"].as_str().unwrap().to_owned();
    let slug = install["slug"].as_str().unwrap().to_owned();
    let names = [
        id.clone(),
        extension.clone(),
        "com.longshore.test.echo".to_owned(),
        "com.longshore.TEST.Echo".to_owned(),
        slug.clone(),
        slug.to_uppercase(),
        "com%2Elongshore.test.echo".to_owned(),
    ];
    for name in names {
        let reply = caller.get(&format!("{name}/items/7?b=2&a=1&b=3")).await;
        assert_eq!(reply.transport, 200, "{name}: {reply:?}");
        let echoed = reply.plain_json();
        assert_eq!((&echoed["method"], &echoed["url"]), (&json!("GET"), &json!("/items/7?b=2&a=1&b=3")));
        let context = &echoed["context"];
        assert_eq!(context["tenant_id"], "tenant-1", "{echoed}");
        assert_eq!(context["extension_id"], extension, "{echoed}");
        assert_eq!(context["install_id"], id, "{echoed}");
        assert_eq!(context["version_id"], install["version"]["version_id"], "{echoed}");
    }
    let reply = caller.send("POST", &format!("{extension}/items/7/send"), &[], "body").await;
    assert_eq!((reply.transport, &reply.plain_json()["body_length"]), (200, &json!(4)));
}

fn one(name: &str, guest: &str, endpoints: &[&str]) -> Vec<u8> {
    store::extension(name, guest, "1.0.0", &["cap:log.emit"], endpoints)
}

#[tokio::test(flavor = "multi_thread")]
async fn config_and_secrets_of_an_install_reach_its_guest_and_nobody_else() {
    let (_stack, admin, [worker], gateway) = Stack::standalone(&[], &[]).await;
    let (secret, name) = ("canary-of-a-secret", "com.longshore.test.");
    let config = store::extension("settings", "http-config", "1.0.0", &[], &["GET /"]);
    admin.install("tenant-1", &config, json!({ "config": { "colour": "green", "size": "7" } })).await;
    let driver = store::extension("driver", "driver", "1.0.0", &store::EVERYTHING, &["POST /"]);
    let options = json!({ "secrets": { "api_key": secret }, "grant": ["cap:secrets.get", "cap:log.emit"] });
    let installed = admin.install("tenant-1", &driver, options).await;
    assert_eq!(installed["install"]["secret_names"], json!(["api_key"]));
    let caller = Caller::new(&gateway, admin.token("tenant-1", "write").await).await;

    let shown = caller.get(&format!("{name}settings?name=colour")).await.plain_json();
    assert!(
        shown["config"].to_string().contains("green") && shown["config"].to_string().contains('7'),
        "{shown}"
    );
    let at = format!("{name}driver/");
    assert_eq!(caller.host(&at, "secrets.get", json!({ "key": "api_key" })).await, json!({ "ok": secret }));
    // What was not granted is refused, whatever the manifest asks for.
    let args = json!({ "namespace": "n", "key": "k" });
    assert_eq!(caller.host(&at, "storage.get", args).await, json!({ "err": "denied" }));

    let listed = admin.ok("GET", "/v1/installs?tenant=tenant-1", Value::Null).await.to_string();
    assert!(!listed.contains(secret) && listed.contains("api_key"));
    for service in [&worker, &gateway, &admin.service] {
        assert!(service.lines().with(secret).is_empty(), "a secret is in a log");
        assert!(service.lines().with(caller.token()).is_empty(), "a token is in a log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_harmless_headers_pass_in_either_direction() {
    let origin = "https://app.example.com";
    let settings = [
        ("LONGSHORE_GATEWAY_CORS_ORIGINS", origin),
        ("LONGSHORE_GATEWAY_REQUEST_HEADERS", "x-mine"),
        ("LONGSHORE_GATEWAY_RESPONSE_HEADERS", "x-theirs"),
    ];
    let (_stack, admin, [_worker], gateway) = Stack::standalone(&[], &settings).await;
    admin.install("tenant-1", &echo("1.0.0"), json!({})).await;
    admin.install("tenant-1", &one("answers", "bad-response", &["GET /"]), json!({})).await;
    let caller = Caller::new(&gateway, admin.token("tenant-1", "write").await).await;
    let echo = "com.longshore.test.echo";

    let sent = [
        ("x-request-id", "mine-1"),
        ("accept", "text/plain"),
        ("if-none-match", "\"a\""),
        ("x-idempotency-key", "once"),
        ("x-mine", "1"),
        ("x-alga-tenant", "tenant-1"),
        ("cookie", "canary"),
        ("x-api-key", "canary"),
        ("x-runner-service-token", "canary"),
        ("x-forwarded-for", "canary"),
        ("forwarded", "for=canary"),
        ("proxy-authorization", "canary"),
        ("x-other", "canary"),
    ];
    let reply = caller.send("POST", echo, &sent, "body").await;
    assert_eq!((reply.transport, reply.header("x-request-id")), (200, Some("mine-1")), "{reply:?}");
    let echoed = reply.plain_json();
    for (name, value) in [
        ("accept", "text/plain"),
        ("if-none-match", "\"a\""),
        ("x-idempotency-key", "once"),
        ("x-mine", "1"),
        ("x-request-id", "mine-1"),
        ("x-alga-tenant", "tenant-1"),
    ] {
        assert_eq!(header(&echoed, name), Some(value), "{name}: {echoed}");
    }
    assert!(!echoed.to_string().contains("canary") && header(&echoed, "authorization").is_none(), "{echoed}");
    assert!(!echoed.to_string().contains(caller.token()), "{echoed}");
    assert_eq!(echoed["context"]["request_id"], "mine-1");

    let answers = |query: &str| format!("com.longshore.test.answers?{query}");
    let query = "status=201&body=hi&header=set-cookie:a=b&header=location:/evil&header=x-ext-page:7&header=x-theirs:1&header=etag:%22v1%22\
                 &header=cache-control:public,%20max-age=60&header=access-control-allow-origin:*&header=x-longshore-execution-id:forged\
                 &header=connection:x-ext-page&header=content-type:text/plain";
    let reply = caller.get(&answers(query)).await;
    assert_eq!((reply.transport, reply.plain_text()), (201, "hi"), "{reply:?}");
    for (name, value) in [
        ("content-type", Some("text/plain")),
        ("x-ext-page", Some("7")),
        ("x-theirs", Some("1")),
        ("etag", Some("\"v1\"")),
        ("cache-control", Some("private, max-age=60")),
        ("x-content-type-options", Some("nosniff")),
        ("set-cookie", None),
        ("location", None),
        ("access-control-allow-origin", None),
    ] {
        assert_eq!(reply.header(name), value, "{name}: {reply:?}");
    }
    assert_ne!(reply.execution(), "forged");

    // Statuses that have no body have none, and those that HTTP does not have are the extension's fault.
    for status in [204, 304] {
        let reply = caller.get(&answers(&format!("status={status}&body=hi"))).await;
        assert_eq!((reply.transport, reply.bytes.len()), (status, 0), "{reply:?}");
    }
    for status in [0, 99, 101, 199, 600, 999, 65_535] {
        let (got, code) = caller.get(&answers(&format!("status={status}"))).await.refusal();
        assert!(got == 502 && code.contains("invalid_response"), "{status}: {got} {code}");
    }
    let flood = caller.get(&answers("headers=3000")).await;
    assert!(flood.transport == 200 || flood.transport == 502, "{flood:?}");

    // HEAD is a GET without its body; OPTIONS is answered here unless the extension wants it.
    let (get, head) = (caller.get(echo).await, caller.send("HEAD", echo, &[], "").await);
    assert_eq!((get.transport, head.transport, head.bytes.len()), (200, 200, 0));
    assert!(head.header("content-length").is_some_and(|length| length != "0"), "{head:?}");
    let missing = caller.send("HEAD", &format!("{echo}/nothing"), &[], "").await;
    assert_eq!((missing.transport, missing.bytes.len()), (404, 0));
    let options = caller.send("OPTIONS", &format!("{echo}/items/7"), &[], "").await;
    assert_eq!((options.transport, options.header("allow")), (204, Some("GET, HEAD, DELETE, OPTIONS")));
    let asked = caller.send("OPTIONS", &format!("{echo}/asks"), &[], "").await;
    assert_eq!((asked.transport, &asked.plain_json()["method"]), (200, &json!("OPTIONS")));

    // A browser asks without a token.
    let preflight = async |from: &str| {
        let headers = [("origin", from), ("access-control-request-method", "POST")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        gateway.http().request("OPTIONS", &format!("/api/ext/{echo}"), &headers, "").await.unwrap()
    };
    let allowed = preflight(origin).await;
    assert_eq!((allowed.transport, allowed.header("access-control-allow-origin")), (204, Some(origin)));
    assert!(
        allowed.header("access-control-allow-headers").is_some_and(|names| names.contains("authorization"))
    );
    assert_eq!(allowed.header("access-control-allow-credentials"), None);
    assert_eq!(preflight("https://evil.example").await.header("access-control-allow-origin"), None);
    let reply = caller.send("GET", echo, &[("origin", origin)], "").await;
    assert_eq!((reply.transport, reply.header("access-control-allow-origin")), (200, Some(origin)));
    let unsigned = gateway.http().request("GET", &format!("/api/ext/{echo}"), &[], "").await.unwrap();
    assert_eq!(unsigned.refusal(), (401, "unauthenticated".to_owned()));
    assert!(unsigned.header("www-authenticate").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_has_its_status_and_says_whether_to_try_again() {
    let settings = [("LONGSHORE_GATEWAY_MAX_BODY", "1024")];
    let (stack, admin, [mut worker], gateway) = Stack::standalone(&[], &settings).await;
    let endpoints = ["GET /", "POST /"];
    admin.install("tenant-1", &echo("1.0.0"), json!({})).await;
    admin.install("tenant-1", &one("trap", "trap", &endpoints), json!({})).await;
    let short = json!({ "limits": { "timeout_ms": 1_500 } });
    admin.install("tenant-1", &one("sleep", "sleep", &endpoints), short).await;
    admin.install("tenant-2", &one("other", "echo", &endpoints), json!({})).await;
    let caller = Caller::new(&gateway, admin.token("tenant-1", "write").await).await;
    let name = |short: &str| format!("com.longshore.test.{short}");

    for (method, path, body, status, code, retry) in [
        ("GET", name("echo/nothing"), "", 404, "endpoint_not_found", false),
        ("PUT", name("echo"), "", 404, "endpoint_not_found", false),
        ("GET", name("unknown"), "", 404, "extension_not_found", false),
        ("GET", name("other"), "", 404, "extension_not_found", false),
        ("GET", name("echo/a%2f..%2fb"), "", 400, "invalid_request", false),
        ("POST", name("echo"), &"x".repeat(1_025), 413, "payload_too_large", false),
        ("GET", name("trap"), "", 502, "trap", false),
        ("GET", name("sleep?ms=20000"), "", 504, "timeout", true),
        ("POST", name("sleep?ms=20000"), "", 504, "timeout", false),
    ] {
        let reply = caller.send(method, &path, &[("x-request-id", "r-1")], body.to_owned()).await;
        let (got, said) = reply.refusal();
        assert!(
            got == status && said.ends_with(code),
            "{method} {path}: {got} {said}: {}",
            reply.plain_text()
        );
        assert_eq!(reply.plain_json()["retryable"], retry, "{method} {path}: {}", reply.plain_text());
        assert_eq!(reply.header("x-request-id"), Some("r-1"));
    }
    // What another tenant has looks like what nobody has.
    let words = async |path: &str| caller.get(path).await.plain_json()["message"].clone();
    assert_eq!(words(&name("other")).await, words(&name("unknown")).await);
    let large = caller.send("POST", &name("echo"), &[], "x".repeat(1_024)).await;
    assert_eq!(large.plain_json()["body_length"], 1_024);

    // A rate of its own for each tenant and extension.
    let slow = stack.gateway(&[("LONGSHORE_GATEWAY_RATE", "1"), ("LONGSHORE_GATEWAY_BURST", "2")]).await;
    let hasty = Caller::new(&slow, caller.token()).await;
    let mut refused = None;
    for _ in 0..20 {
        let reply = hasty.get(&name("echo")).await;
        if reply.transport != 200 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("twenty calls at once are too many for one a second");
    assert_eq!(refused.refusal(), (429, "rate_limited".to_owned()));
    assert_eq!(
        (refused.header("retry-after"), &refused.plain_json()["retryable"]),
        (Some("1"), &json!(true))
    );
    let (status, _) = hasty.get(&name("trap")).await.refusal();
    assert_eq!(status, 502, "another extension has its own");

    // Nobody there to do it.
    worker.terminate();
    worker.drained(wait::LIMIT).await;
    let reply = caller.get(&name("sleep")).await;
    assert_eq!(reply.refusal(), (503, "no_workers".to_owned()));
    assert_eq!(reply.plain_json()["retryable"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_an_install_is_seen_by_every_gateway_at_once_and_nothing_else_need_run() {
    let (mut stack, mut admin, [_worker], first) = Stack::standalone(&[], &[]).await;
    let second = stack.gateway(&[]).await;
    let name = "com.longshore.test.changing";
    let version = |version: &str, guest: &str| {
        store::extension("changing", guest, version, &["cap:log.emit"], &["GET /"])
    };
    let installed = admin.install("tenant-1", &version("1.0.0", "count"), json!({})).await;
    let path =
        format!("/v1/tenants/tenant-1/installs/{}", installed["install"]["install_id"].as_str().unwrap());
    let token = admin.token("tenant-1", "read").await;
    let callers = [Caller::new(&first, token.clone()).await, Caller::new(&second, token).await];
    let (ask, old) = (format!("{name}?id=count"), "count");
    // What each gateway answers, once it answers what it should.
    let answers = async |what: &str, good: &dyn Fn(u16, &str) -> bool| {
        for caller in &callers {
            wait::until(what, wait::LIMIT, async || {
                let reply = caller.get(&ask).await;
                let text = reply.plain_text();
                if good(reply.transport, text) { Ok(()) } else { Err(format!("{} {text}", reply.transport)) }
            })
            .await;
        }
    };
    answers("the first version", &|status, text| status == 200 && text == old).await;
    admin.install("tenant-1", &version("2.0.0", "echo"), json!({})).await;
    answers("the second version", &|status, text| status == 200 && text.starts_with('{')).await;
    let back = admin.ok("POST", &format!("{path}/rollback"), json!({})).await;
    assert_eq!(back["outcome"], "rolled_back");
    answers("the first version again", &|status, text| status == 200 && text == old).await;

    // Without the admin service and without NATS what is known stays in force.
    admin.service.kill();
    admin.service.wait(wait::LIMIT).await;
    answers("a call without the admin service", &|status, _| status == 200).await;
    stack.nats.kill();
    stack.nats.start_again().await;
    answers("a call after NATS has restarted", &|status, text| status == 200 && text == old).await;
    let admin = stack.admin(&[]).await;
    let shown = admin.ok("GET", &path, Value::Null).await;
    assert_eq!(shown["version"]["version"], "1.0.0", "{shown}");
    admin.install("tenant-1", &version("3.0.0", "echo"), json!({})).await;
    answers("the third version", &|status, text| status == 200 && text.starts_with('{')).await;
    admin.ok("DELETE", &path, Value::Null).await;
    answers("the refusal", &|status, text| status == 404 && text.contains("extension_not_found")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_an_idempotent_endpoint_moves_when_its_worker_dies_and_another_call_does_not() {
    let guest_log = [("LONGSHORE_GUEST_LOG", "stdout")];
    let (_stack, admin, workers, gateway) = Stack::standalone::<2>(&guest_log, &[]).await;
    let mut workers = Vec::from(workers);
    let endpoints = ["POST /again idempotent", "POST /once"];
    admin.install("tenant-1", &one("count", "count", &endpoints), json!({})).await;
    let caller = Caller::new(&gateway, admin.token("tenant-1", "write").await).await;
    for (endpoint, expected) in [("again", 200), ("once", 502)] {
        let calling = caller.clone();
        let path = format!("com.longshore.test.count/{endpoint}?id={endpoint}-1&ms=2500");
        let call = tokio::spawn(async move { calling.send("POST", &path, &[], "").await });
        let runs_at = |workers: &[longshore_tests::Service]| {
            let id = format!("{endpoint}-1");
            workers.iter().position(|worker| runs([worker.lines()]).contains_key(&id))
        };
        let at =
            wait::until("the call's run", wait::LIMIT, async || runs_at(&workers).ok_or("no run yet")).await;
        workers.remove(at).kill();
        let reply = call.await.unwrap();
        assert_eq!(reply.transport, expected, "{endpoint}: {reply:?}");
        if expected != 200 {
            assert_eq!(reply.refusal(), (502, "worker_lost".to_owned()));
        }
    }
}
