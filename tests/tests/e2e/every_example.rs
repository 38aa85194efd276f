//! Every example does what its first lines say, on a platform and without one. They are built by `make examples`; the Rust ones are committed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::future::join_all;
use longshore_stub_platform::{Options, Seed, StubPlatform};
use longshore_tests::redis::messages;
use longshore_tests::{Call, Extension, Reply, Service, Stack, paths, store};
use serde_json::{Value, json};

/// The platform's token for the worker, and its API key.
const TOKEN: &str = "runner-token";
const API_KEY: &str = "platform-key";
/// Components with a JavaScript engine take some 10 s of a core to compile, and a stack has several of them.
const COMPILING_MS: u64 = 300_000;
/// So the next run of the tests finds what this one has compiled. Artifacts are named by component and engine: none is taken for another.
const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/examples");
const INSTALL: &str = "6f0c5e1d-3a55-4a6b-9d5c-0f5f4d4c1a01";
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// Servers, one worker, a shim and a platform.
struct World {
    platform: StubPlatform,
    stack: Stack,
    shim: Service,
    _worker: Service,
}

impl World {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let visits = (0..120).map(|n| (format!("page-{n:03}"), json!(n)));
        let mut seed = Seed::sample();
        seed.storage.insert("visits".to_owned(), visits.collect());
        let options = Options {
            token: Some(TOKEN.to_owned()),
            api_key: Some(API_KEY.to_owned()),
            seed,
            ..Options::default()
        };
        let platform = StubPlatform::start(options).await.unwrap();
        let base = platform.base_url();
        let mut all = vec![
            ("EXT_CACHE_ROOT", CACHE),
            ("EXT_CACHE_MAX_BYTES", "1GiB"),
            ("WORKER_ARTIFACT_BYTES", "2GiB"),
            ("STORAGE_API_BASE_URL", base.as_str()),
            ("RUNNER_STORAGE_API_TOKEN", TOKEN),
            ("UI_PROXY_BASE_URL", &base),
            ("LONGSHORE_STORAGE", "platform"),
            ("LONGSHORE_SCHEDULER", "platform"),
            ("EXT_EGRESS_ALLOWLIST", "127.0.0.1,localhost"),
            ("LONGSHORE_EGRESS_PRIVATE", "allow"),
        ];
        all.retain(|(name, _)| settings.iter().all(|(other, _)| other != name));
        all.extend(settings);
        let (stack, [worker], shim) = Stack::with_workers(&all).await;
        Self { platform, stack, shim, _worker: worker }
    }

    /// Installs examples and waits until each has been compiled.
    async fn examples<const N: usize>(&self, names: [&str; N], language: &str) -> [Example<'_>; N] {
        let examples = names.map(|name| Example::new(self, &format!("{name}-{language}")));
        // One at a time, as the worker compiles them: together, the last would wait longer than a client does.
        for example in &examples {
            let reply = example.send(example.get("/ready?")).await;
            assert_eq!(reply.error(), None, "{}: {}", example.extension.id, reply.envelope());
        }
        examples
    }
}

/// An installed example with the capabilities of its manifest.
struct Example<'w> {
    world: &'w World,
    extension: Extension,
    capabilities: Value,
}

impl<'w> Example<'w> {
    fn new(world: &'w World, name: &str) -> Self {
        let folder = paths::example(name);
        let component = folder.join("dist/main.wasm");
        assert!(component.is_file(), "{} is missing: run `make examples`", component.display());
        let manifest: Value = serde_json::from_slice(&paths::read(&folder.join("manifest.json"))).unwrap();
        let extension = world.stack.install_archive("tenant-1", name, &store::example(name));
        Self { world, extension, capabilities: manifest["capabilities"].clone() }
    }

    fn call(&self, method: &str, path: &str) -> Call {
        let call = self.extension.call(method, path).timeout_ms(COMPILING_MS);
        call.with("/context/install_id", json!(INSTALL)).with("/providers", self.capabilities.clone())
    }

    fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    async fn send(&self, call: Call) -> Reply {
        self.world.shim.call(&call).await
    }

    /// Status and JSON of an answer; null without a body.
    async fn answer(&self, call: Call) -> (u64, Value) {
        let reply = self.send(call).await;
        assert_eq!(reply.error(), None, "{}: {}", self.extension.id, reply.envelope());
        (reply.status(), reply.body().map_or(Value::Null, |_| reply.json()))
    }

    async fn got(&self, path: &str) -> (u64, Value) {
        self.answer(self.get(path)).await
    }

    async fn posted(&self, path: &str, body: &Value) -> (u64, Value) {
        self.answer(self.call("POST", path).body(body.to_string().as_bytes())).await
    }

    async fn deleted(&self, path: &str) -> (u64, Value) {
        self.answer(self.call("DELETE", path)).await
    }
}

fn secrets(secrets: &Value) -> Value {
    json!({ "algorithm": "inline/base64", "ciphertext_b64": BASE64.encode(secrets.to_string()) })
}

/// For the value of a parameter.
fn escaped(text: &str) -> String {
    text.replace(':', "%3A").replace('/', "%2F").replace('?', "%3F")
}

async fn context(example: &Example<'_>) {
    let user = json!({
        "user_id": "u-1", "user_email": "ada@example.com", "user_name": "Ada", "user_type": "client",
        "client_name": "Harbor", "client_id": "c-1", "additional_fields": { "locale": "de", "contact_id": "k-1" },
    });
    let (_, whoami) = example.answer(example.get("/whoami").with("/user", user)).await;
    let expected = json!({
        "tenant": "tenant-1", "extension": example.extension.id, "install": INSTALL, "version": "version-1",
        "request": "request-1",
        "user": {
            "id": "u-1", "name": "Ada", "email": "ada@example.com", "type": "client", "client": "c-1",
            "fields": { "contact_id": "k-1", "locale": "de" },
        },
    });
    assert_eq!(whoami, expected);
    assert_eq!(example.got("/whoami").await.1["user"], Value::Null);
}

async fn config(example: &Example<'_>) {
    let own = json!({ "greeting": "servus", "region": "eu" });
    let (_, greeting) = example.answer(example.get("/greeting").with("/context/config", own)).await;
    assert_eq!(greeting, json!({ "greeting": "servus", "configured": ["greeting", "region"] }));
    assert_eq!(example.got("/greeting").await.1, json!({ "greeting": "hello", "configured": [] }));
}

async fn secret_values_and_handles(example: &Example<'_>) {
    let hook = format!("{}/hook", example.world.platform.base_url());
    let own = json!({ "word": "tulip", "api_key": { "value": "s3cr3t-canary", "hosts": ["127.0.0.1"] } });
    let with = |call: Call| call.with("/secret_envelope", secrets(&own));
    let (_, keys) = example.answer(with(example.get("/keys"))).await;
    assert_eq!(keys, json!({ "keys": ["api_key", "word"] }));
    let (_, word) = example.answer(with(example.get("/check?key=word"))).await;
    assert_eq!(word, json!({ "key": "word", "length": 5 }));
    let nothing = example.answer(with(example.get("/check?key=none"))).await;
    assert_eq!(nothing, (404, json!({ "error": "missing" })));

    let call = |url: &str| with(example.call("POST", &format!("/call?url={}", escaped(url))));
    assert_eq!(example.answer(call(&hook)).await, (200, json!({ "status": 200 })));
    let arrived = example.world.platform.requests();
    let sent = arrived.iter().rev().find(|request| request.path == "/hook").unwrap();
    assert_eq!(sent.header("authorization"), Some("Bearer s3cr3t-canary"));
    // The install may reach this name, but the secret does not name it.
    let elsewhere = hook.replace("127.0.0.1", "localhost");
    assert_eq!(example.answer(call(&elsewhere)).await, (502, json!({ "error": "not-allowed" })));
}

async fn http(example: &Example<'_>) {
    let base = example.world.platform.base_url();
    let to = |path: &str, url: &str| format!("{path}?url={}", escaped(url));
    let (_, got) = example.got(&to("/get", &format!("{base}/thing?n=1"))).await;
    assert_eq!((got["status"].as_u64(), got["type"].as_str()), (Some(200), Some("application/json")));
    let echoed: Value = serde_json::from_str(got["body"].as_str().unwrap()).unwrap();
    assert_eq!((&echoed["method"], &echoed["query"]), (&json!("GET"), &json!("n=1")));

    let (_, sent) = example.posted(&to("/send", &format!("{base}/thing")), &json!({ "n": 1 })).await;
    let echoed: Value = serde_json::from_str(sent["body"].as_str().unwrap()).unwrap();
    assert_eq!((&echoed["method"], &echoed["body"]), (&json!("POST"), &json!({ "n": 1 })));

    for (url, error) in [("http://example.com/", "not-allowed"), ("no url", "invalid-url")] {
        assert_eq!(example.got(&to("/get", url)).await, (502, json!({ "error": error })), "{url}");
    }
}

async fn storage(example: &Example<'_>, there: usize) {
    for visits in 1..=3 {
        let (status, count) = example.posted("/visits?page=about", &json!({})).await;
        assert_eq!((status, count), (200, json!({ "page": "about", "visits": visits })));
    }
    assert_eq!(example.posted("/visits?page=race", &json!({})).await.1["visits"], 1);
    let together = join_all((0..3).map(|_| example.answer(example.call("POST", "/visits?page=race")))).await;
    let mut counts: Vec<_> = together.iter().map(|(_, count)| count["visits"].as_u64()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [Some(2), Some(3), Some(4)], "no count is lost");

    let (_, all) = example.got("/visits").await;
    let all = all["visits"].as_object().unwrap();
    assert_eq!((all.len(), &all["about"]), (there + 2, &json!(3)));
    assert_eq!(example.deleted("/visits?page=about").await.0, 204);
    assert_eq!(example.deleted("/visits?page=about").await, (404, json!({ "error": "missing" })));
}

async fn logging(example: &Example<'_>) {
    let base = example.world.platform.base_url();
    let ok = example.got(&format!("/check?url={}", escaped(&format!("{base}/up")))).await;
    assert_eq!(ok, (200, json!({ "ok": true })));
    let refused = example.got("/check?url=http%3A%2F%2Fexample.com%2F").await;
    assert_eq!(refused, (500, json!({ "ok": false, "error": "not-allowed" })));
    let wanted = ["processing request", "upstream response", "request failed"];
    let all_there = |events: &[longshore_tests::redis::Event]| {
        let lines = messages(events, "log").join("\n");
        wanted.iter().all(|line| lines.contains(line))
    };
    example.world.stack.redis.wait(&example.extension.stream(), "the handler's lines", all_there).await;
}

async fn ui_proxy(example: &Example<'_>) {
    let with = |call: Call| call.with("/secret_envelope", secrets(&json!({ "api_key": API_KEY })));
    let (_, tickets) = example.answer(with(example.get("/tickets"))).await;
    assert_eq!(tickets["data"].as_array().unwrap().len(), 3);
    let new = with(example.call("POST", "/tickets")).body(br#"{"title":"Coffee machine"}"#);
    assert_eq!(example.answer(new).await.1["data"]["title"], "Coffee machine");
    // The platform refuses a call without its key.
    assert_eq!(example.got("/tickets").await, (403, json!({ "error": "denied" })));
}

async fn scheduler(example: &Example<'_>) {
    let (status, made) =
        example.posted("/schedules", &json!({ "cron": "0 6 * * *", "timezone": "Europe/Berlin" })).await;
    assert_eq!(status, 201, "{made}");
    let id = made["id"].as_str().unwrap();
    let (status, refused) = example.posted("/schedules", &json!({ "cron": "whenever" })).await;
    assert_eq!(status, 422);
    assert!(refused["error"].as_str().is_some_and(|error| !error.is_empty()), "{refused}");

    let (_, listed) = example.got("/schedules").await;
    let expected = json!([{
        "id": id, "cron": "0 6 * * *", "timezone": "Europe/Berlin", "endpoint": "POST /tick", "enabled": true,
        "lastRun": null,
    }]);
    assert_eq!(listed["schedules"], expected);
    assert_eq!(example.deleted(&format!("/schedules?id={id}")).await.0, 204);
    assert_eq!(example.deleted(&format!("/schedules?id={id}")).await.0, 404);
    assert_eq!(example.posted("/tick", &json!({ "from": "test" })).await, (200, json!({ "ticked": true })));
}

async fn invoicing(example: &Example<'_>) {
    let seed = Seed::sample();
    let (client, service) = (&seed.clients[0].client_id, &seed.services[0].service_id);
    let order =
        json!({ "client": client, "service": service, "hours": 2.5, "rate": 9000, "date": "2026-02-01" });
    let (status, invoice) = example.posted("/invoices", &order).await;
    assert_eq!(status, 201, "{invoice}");
    let total = 22_500.0 * (1.0 + seed.tax_percent / 100.0);
    assert_eq!((&invoice["status"], invoice["total"].as_f64()), (&json!("draft"), Some(total)));
    let number = invoice["number"].as_str().unwrap();
    assert!(number.contains(&seed.first_invoice_number.to_string()), "{number}");

    let (status, refused) =
        example.posted("/invoices", &json!({ "client": NOBODY, "service": service })).await;
    assert_eq!(status, 422);
    assert!(refused["error"].is_string(), "{refused}");
}

async fn clients(example: &Example<'_>) {
    let seed = Seed::sample();
    let active = seed.clients.iter().filter(|client| !client.is_inactive).count();
    let (_, page) = example.got("/clients").await;
    assert_eq!((&page["total"], &page["more"]), (&json!(active), &json!(false)));
    let harbor = &seed.clients[0];
    let shown = json!({ "id": harbor.client_id, "name": harbor.client_name, "inactive": false });
    assert_eq!(example.got("/clients?search=harbor").await.1["clients"], json!([shown]));
    assert_eq!(example.got(&format!("/clients/{}", harbor.client_id)).await, (200, shown));
    let nobody = example.got(&format!("/clients/{NOBODY}")).await;
    assert_eq!(nobody, (404, json!({ "error": "no such client" })));
    assert_eq!(example.got("/clients?page=0").await, (400, json!({ "error": "invalid-input" })));
}

async fn services(example: &Example<'_>) {
    let seed = Seed::sample();
    let product = seed.services.iter().find(|service| service.item_kind == "product").unwrap();
    let shown = json!({
        "id": product.service_id, "name": product.service_name, "kind": "product", "rate": product.default_rate,
    });
    let (_, page) = example.got("/services?kind=product").await;
    let found = page["services"].as_array().unwrap();
    assert!(found.iter().all(|service| service["kind"] == "product"), "{page}");
    let (_, one) = example.got(&format!("/services/{}", product.service_id)).await;
    assert_eq!(one["rate"].as_f64(), Some(product.default_rate));
    assert_eq!((&one["id"], &one["name"], &one["kind"]), (&shown["id"], &shown["name"], &shown["kind"]));
    let nobody = example.got(&format!("/services/{NOBODY}")).await;
    assert_eq!(nobody, (404, json!({ "error": "no such service" })));
}

async fn billing(example: &Example<'_>) {
    assert_eq!(example.posted("/run", &json!({})).await.0, 409);
    let seed = Seed::sample();
    let plan = json!({ "service": seed.services[4].service_id, "rate": 25_000 });
    let (status, made) = example.posted("/setup", &plan).await;
    assert!(status == 200 && made["schedule"].is_string(), "{made}");

    let active: Vec<_> = seed.clients.iter().filter(|client| !client.is_inactive).collect();
    let (_, first) = example.posted("/run?month=2026-02", &json!({})).await;
    assert_eq!(first["invoiced"].as_array().unwrap().len(), active.len(), "{first}");
    let (_, again) = example.posted("/run?month=2026-02", &json!({})).await;
    let expected = json!({ "month": "2026-02", "invoiced": [], "failed": [], "skipped": active.len() });
    assert_eq!(again, expected, "a month is billed once");

    // As the schedule calls it. Built with clocks, it knows the month of the call.
    let (_, now) = example.posted("/run", &json!({})).await;
    let month = now["month"].as_str().unwrap();
    assert!(month.len() == 7 && month > "2026-02", "{month}");
    assert_eq!(now["invoiced"].as_array().unwrap().len(), active.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_in_rust_does_what_it_says() {
    let world = World::start(&[]).await;
    let names = [
        "context",
        "secrets",
        "http",
        "storage",
        "logging",
        "ui-proxy",
        "scheduler",
        "invoicing",
        "clients",
        "services",
        "config",
    ];
    let [a, b, c, d, e, f, g, h, i, j, k] = world.examples(names, "rust").await;
    context(&a).await;
    secret_values_and_handles(&b).await;
    http(&c).await;
    storage(&d, 120).await;
    logging(&e).await;
    ui_proxy(&f).await;
    scheduler(&g).await;
    invoicing(&h).await;
    clients(&i).await;
    services(&j).await;
    config(&k).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_in_typescript_that_need_no_platform_records_do_what_they_say() {
    let world = World::start(&[]).await;
    let names = ["context", "secrets", "http", "storage", "logging", "config"];
    let [a, b, c, d, e, f] = world.examples(names, "ts").await;
    context(&a).await;
    secret_values_and_handles(&b).await;
    http(&c).await;
    storage(&d, 120).await;
    logging(&e).await;
    config(&f).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_in_typescript_on_the_platform_do_what_they_say() {
    let world = World::start(&[]).await;
    let names = ["ui-proxy", "scheduler", "invoicing", "clients", "services", "billing"];
    let [a, b, c, d, e, f] = world.examples(names, "ts").await;
    ui_proxy(&a).await;
    scheduler(&b).await;
    invoicing(&c).await;
    clients(&d).await;
    services(&e).await;
    billing(&f).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_and_schedules_work_without_a_platform() {
    let world = World::start(&[("LONGSHORE_STORAGE", "nats"), ("LONGSHORE_SCHEDULER", "nats")]).await;
    let [a, b] = world.examples(["storage", "scheduler"], "rust").await;
    storage(&a, 0).await;
    scheduler(&b).await;
    assert_eq!(world.platform.requests().len(), 0);
}

/// Built by jco and componentize-py from the standard world, with nothing of ours in them.
#[tokio::test(flavor = "multi_thread")]
async fn wasi_http_components_of_stock_toolchains_run() {
    let world = World::start(&[]).await;
    let js = Example::new(&world, "wasi-http-js");
    let python = Example::new(&world, "wasi-http-python");
    let fetched = format!("{}/thing", world.platform.base_url());
    for (example, from) in [(js, "javascript"), (python, "python")] {
        let call = example.get("/?name=Ada+B").with("/context/config", json!({ "greeting": "hi" }));
        let (status, hello) = example.answer(call).await;
        assert_eq!((status, &hello["hello"], &hello["from"]), (200, &json!("Ada B"), &json!(from)));
        assert_eq!(hello["method"], "GET");
        if from == "python" {
            assert_eq!(hello["config"]["greeting"], "hi", "{hello}");
        }
        let body: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let echo = example.call("POST", "/echo").body(&body);
        let echo = echo.with("/http/headers", json!({ "content-type": "application/x-thing" }));
        let echo = example.send(echo).await;
        assert_eq!(
            (echo.status(), echo.guest_header("content-type").as_deref()),
            (200, Some("application/x-thing"))
        );
        assert_eq!(echo.body(), Some(body));

        let (status, fetched) = example.got(&format!("/fetch?url={}", escaped(&fetched))).await;
        assert_eq!((status, fetched["status"].as_u64()), (200, Some(200)), "{fetched}");
        assert!(fetched["bytes"].as_u64().unwrap() > 10);
        assert_eq!(example.got("/fetch?url=http%3A%2F%2Fexample.com%2F").await.0, 502);
        assert_eq!(example.got("/nowhere").await, (404, json!({ "error": "no such endpoint", "try": "/" })));

        let printed = if from == "python" { "Method_Get /" } else { "GET /" };
        let there = |events: &[longshore_tests::redis::Event]| {
            messages(events, "stdout").iter().any(|line| line.trim_end() == printed)
        };
        world.stack.redis.wait(&example.extension.stream(), "what it prints", there).await;
    }
}
