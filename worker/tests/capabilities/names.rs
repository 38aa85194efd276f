//! Crafted namespaces, keys and install ids against both storages and the platform's APIs: each is refused and nothing is
//! sent, or it is there in its escaped form and nowhere else.

use std::sync::Arc;

use futures::StreamExt as _;
use longshore_storage::{INSTALL_BYTES, JetStreamSettings, Storage};
use longshore_stub_platform::{Options, StubPlatform};
use longshore_tests::nats::{Client, Nats};
use serde_json::{Value, json};

use crate::functions::{self, Behind, World};
use crate::support::{Bench, Setup, TOKEN, drive, function};

/// Names that no storage takes.
fn refused() -> Vec<String> {
    let fixed = ["", "\0", "a\0b", "a\r\nb", "a\nPUB x 1", "a\tb", "\u{7f}", "\u{85}", "\u{1b}[2J"];
    let mut all: Vec<String> = fixed.map(str::to_owned).into();
    all.extend(["x".repeat(257), "x".repeat(10 << 20), "\u{1f980}".repeat(129)]);
    all
}

/// Names that look like a way out and are none: they are stored under exactly this name.
const TAKEN: [&str; 18] = [
    "..",
    ".",
    "*",
    ">",
    "a.b",
    "a.>",
    "$KV",
    "$JS.API.>",
    "a b",
    "=YQ",
    "%2e%2e",
    "%2F",
    "\u{fc}",
    "\u{202e}abc",
    "\u{1f980}",
    "__proto__",
    "constructor",
    "' OR 1=1 --",
];

/// As above, with the `/` that keys may not have.
const NAMESPACES_TAKEN: [&str; 3] = ["../x", "../../install/other", "/"];

fn put(namespace: &str, key: &str) -> Value {
    let value = json!({ "text": format!("{namespace}|{key}") });
    function("storage.put", json!({ "namespace": namespace, "key": key, "value": value }))
}

fn entry(name: &str, namespace: &str, key: &str) -> Value {
    function(name, json!({ "namespace": namespace, "key": key }))
}

fn list(namespace: &str) -> Value {
    function("storage.list-entries", json!({ "namespace": namespace }))
}

/// Every call of storage with one of the names that are refused.
fn refused_calls() -> Vec<Value> {
    let mut calls = Vec::new();
    for bad in refused() {
        for (namespace, key) in [(bad.as_str(), "k"), ("n", bad.as_str())] {
            calls.push(put(namespace, key));
            calls.push(entry("storage.get", namespace, key));
            calls.push(entry("storage.delete", namespace, key));
        }
        calls.push(list(&bad));
    }
    for key in ["a/b", "../x", "/"] {
        calls.extend([put("n", key), entry("storage.get", "n", key), entry("storage.delete", "n", key)]);
    }
    calls
}

/// Stores under every name that is taken, reads each back, and lists.
async fn round_trips(bench: &Bench) {
    for name in TAKEN {
        let calls = [
            put(name, "k"),
            put("n", name),
            entry("storage.get", name, "k"),
            entry("storage.get", "n", name),
            list(name),
            entry("storage.delete", "n", name),
        ];
        let results = bench.results(drive(calls)).await;
        assert_eq!(results[2]["ok"]["value"]["text"], format!("{name}|k"), "{name:?}: {results:?}");
        assert_eq!(results[3]["ok"]["value"]["text"], format!("n|{name}"), "{name:?}: {results:?}");
        assert_eq!(results[4]["ok"].as_array().unwrap().len(), 1, "{name:?}: {results:?}");
        assert_eq!(results[5], json!({ "ok": null }), "{name:?}");
    }
    for name in NAMESPACES_TAKEN {
        let results = bench.results(drive([put(name, "k"), list(name)])).await;
        assert_eq!(results[1]["ok"][0]["value"]["text"], format!("{name}|k"), "{name:?}: {results:?}");
    }
}

fn is_refusal(result: &Value) -> bool {
    matches!(result["err"].as_str(), Some("internal" | "denied"))
}

#[tokio::test]
async fn names_that_no_storage_takes_are_refused_and_nothing_is_sent() {
    let stub = StubPlatform::start(Options::default()).await.unwrap();
    let nats = Nats::start().await;
    let storage = on(&nats).await;
    let mut seen = watched(&nats).await;
    let platform = Bench::new(&Setup::on(&stub));
    let jetstream = platform.beside(&Setup { storage: Some(storage), ..Setup::default() });
    let calls = refused_calls();
    // One run each: some names are of 10 MB.
    for call in calls {
        for bench in [&platform, &jetstream] {
            let result = bench.one(drive([call.clone()])).await;
            let shown = &call["fn"];
            assert!(is_refusal(&result), "{shown}: {result}");
            let recorded = bench.host_calls().remove(0);
            assert!(recorded["note"].as_str().is_some_and(|n| !n.is_empty() && n.len() < 1_000), "{shown}");
            assert!(recorded.to_string().len() < 8_192, "{shown}");
        }
    }
    assert!(stub.requests().is_empty());
    assert_eq!(seen.subjects().await, Vec::<String>::new());
}

#[tokio::test]
async fn names_that_look_like_a_way_out_stay_where_they_belong_on_the_platform() {
    let options = Options { token: Some(TOKEN.to_owned()), ..Options::default() };
    let stub = StubPlatform::start(options).await.unwrap();
    let bench = Bench::new(&Setup::on(&stub));
    round_trips(&bench).await;
    let requests = stub.requests();
    assert!(requests.len() > 100);
    // Names are in the body alone.
    assert!(requests.iter().all(|r| r.path == "/api/internal/ext-storage/install/i-1" && r.method == "POST"));
}

#[tokio::test]
async fn names_that_look_like_a_way_out_stay_where_they_belong_in_jetstream() {
    let nats = Nats::start().await;
    let storage = on(&nats).await;
    let mut seen = watched(&nats).await;
    let bench = Bench::new(&Setup { storage: Some(storage), ..Setup::default() });
    round_trips(&bench).await;
    let subjects = seen.subjects().await;
    assert!(subjects.len() >= 2 * TAKEN.len(), "{subjects:?}");
    let token =
        |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b));
    for subject in &subjects {
        let rest = subject.strip_prefix("$KV.longshore-storage.").unwrap_or_else(|| panic!("{subject}"));
        let tokens: Vec<_> = rest.split('.').collect();
        let expected = if tokens[0] == "v" { 5 } else { 3 };
        assert!(matches!(tokens[0], "u" | "v") && tokens.len() == expected, "{subject}");
        assert_eq!(tokens[1..3], ["tenant-1", "i-1"], "{subject}");
        assert!(tokens.iter().all(|t| token(t)), "{subject}");
    }
    // Nobody else sees any of it, whatever it is called.
    for install in ["i-2", "*", ">", "i-1.n", "../i-1", "$KV"] {
        for name in TAKEN {
            let calls = [entry("storage.get", name, "k"), list(name)];
            let results = bench.results(drive(calls).install(Some(install))).await;
            assert_eq!(results[0], json!({ "err": "missing" }), "{install}: {name}");
            assert_eq!(results[1], json!({ "ok": [] }), "{install}: {name}");
        }
    }
}

/// Ids that are no path segment, however something on the way decodes them, or too long.
fn refused_installs() -> Vec<String> {
    let fixed = [
        "../../x",
        "..",
        ".",
        "x/../y",
        "x/./y",
        "%2e%2e",
        "%2e",
        "..%2f..%2fx",
        "%252e%252e",
        "..\\x",
        "x/..;/y",
        "a\r\nb",
        "a\0b",
        "a\nx-runner-auth: y",
    ];
    let mut all: Vec<String> = fixed.map(str::to_owned).into();
    all.extend(["x".repeat(129), "x".repeat(10_000)]);
    all
}

/// Ids that are odd, with the segment that they are sent as.
const ODD_INSTALLS: [(&str, &str); 8] = [
    ("a/b", "a%2Fb"),
    ("a%2Fb", "a%252Fb"),
    ("a?x=1#y", "a%3Fx%3D1%23y"),
    ("*", "%2A"),
    (">", "%3E"),
    ("a b", "a%20b"),
    ("\u{fc}", "%C3%BC"),
    ("a;b", "a%3Bb"),
];

fn platform_rows() -> (Vec<Value>, Vec<&'static str>) {
    let world = World { url: String::new(), schedule: "5b7b5e6c-3c0f-4a4e-8a53-0a4b6cb1b7a1".to_owned() };
    let rows = functions::all().into_iter().filter_map(|row| match row.behind {
        Behind::Platform(api, _) => Some((function(row.name, (row.args)(&world)), api)),
        _ => None,
    });
    rows.unzip()
}

#[tokio::test]
async fn install_ids_that_could_climb_are_refused_by_every_api_and_nothing_is_sent() {
    let stub = StubPlatform::start(Options::default()).await.unwrap();
    let bench = Bench::new(&Setup::on(&stub));
    let (calls, apis) = platform_rows();
    for install in refused_installs() {
        let results = bench.results(drive(calls.clone()).install(Some(&install))).await;
        for ((call, result), api) in calls.iter().zip(&results).zip(&apis) {
            let expected = match *api {
                "clients" | "services" => "not-allowed",
                "storage" | "scheduler" => "denied",
                _ => "",
            };
            if let Some(error) = result["err"].as_str() {
                // One that is too long is told apart by storage, before its backend.
                let long = *api == "storage" && install.len() > 128 && error == "internal";
                assert!(error == expected || long, "{call} for {install:?}: {result}");
            } else {
                assert_eq!(result["value"]["success"], false, "{call} for {install:?}: {result}");
                let words = result["value"]["error"].as_str().unwrap();
                assert!(words.contains("install id"), "{call} for {install:?}: {words}");
            }
        }
    }
    assert!(stub.requests().is_empty());
}

#[tokio::test]
async fn odd_install_ids_are_one_escaped_segment_for_every_api() {
    let stub = StubPlatform::start(Options::default()).await.unwrap();
    let bench = Bench::new(&Setup::on(&stub));
    let (calls, apis) = platform_rows();
    for (install, segment) in ODD_INSTALLS {
        stub.forget_requests();
        bench.results(drive(calls.clone()).install(Some(install))).await;
        let requests = stub.requests();
        assert_eq!(requests.len(), calls.len(), "{install}");
        for (request, api) in requests.iter().zip(&apis) {
            assert_eq!(request.path, format!("/api/internal/ext-{api}/install/{segment}"), "{install}");
        }
    }
}

#[tokio::test]
async fn install_ids_are_one_token_in_jetstream_or_are_refused() {
    let nats = Nats::start().await;
    let storage = on(&nats).await;
    let mut seen = watched(&nats).await;
    let bench = Bench::new(&Setup { storage: Some(storage), ..Setup::default() });
    let odd = ODD_INSTALLS.iter().map(|(install, _)| (*install).to_owned());
    let mut stored = 0;
    for install in odd.chain(refused_installs()).chain(["i-1.n", "$KV", "=YQ"].map(str::to_owned)) {
        let calls = [put("n", &install.replace(['/', '\r', '\n', '\0'], "_")), list("n")];
        let results = bench.results(drive(calls).install(Some(&install))).await;
        if install.len() > INSTALL_BYTES {
            assert!(results.iter().all(is_refusal), "{install:?}: {results:?}");
            continue;
        }
        // An id is bytes to this storage: there is nowhere to climb to.
        let ok = results[0]["ok"].is_object();
        assert!(ok || is_refusal(&results[0]), "{install:?}: {results:?}");
        if ok {
            stored += 1;
            assert_eq!(results[1]["ok"].as_array().unwrap().len(), 1, "{install:?}: {results:?}");
        }
    }
    let subjects = seen.subjects().await;
    let mut installs = std::collections::BTreeSet::new();
    for subject in &subjects {
        let tokens: Vec<_> = subject.split('.').collect();
        assert!(matches!(tokens.len(), 5 | 7), "{subject}");
        assert_eq!((tokens[0], tokens[1], tokens[3]), ("$KV", "longshore-storage", "tenant-1"), "{subject}");
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_=".contains(&b);
        assert!(tokens[4..].iter().all(|token| token.bytes().all(plain)), "{subject}");
        installs.insert(tokens[4].to_owned());
    }
    assert_eq!(installs.len(), stored, "each has a place of its own: {installs:?}");
}

#[tokio::test]
async fn the_ui_proxy_sends_the_install_as_a_header_or_nothing() {
    let stub = StubPlatform::start(Options::default()).await.unwrap();
    let bench = Bench::new(&Setup::on(&stub));
    let call = || drive([function("ui-proxy.call-route", json!({ "route": "/orders" }))]);
    for install in ["a\r\nx-user-id: root", "a\0b", "a\nb", &"x".repeat(10_000)] {
        assert_eq!(
            bench.one(call().install(Some(install))).await,
            json!({ "err": "internal" }),
            "{install:?}"
        );
    }
    assert!(stub.requests().is_empty());
    bench.one(call().install(Some("../../x"))).await;
    let request = stub.requests().remove(0);
    assert_eq!(
        (request.path.as_str(), request.header("x-ext-install-id")),
        ("/driver/orders", Some("../../x"))
    );
}

#[tokio::test]
async fn routes_that_could_leave_the_base_are_refused_and_nothing_is_sent() {
    let stub = StubPlatform::start(Options::default()).await.unwrap();
    let bench = Bench::new(&Setup::on(&stub));
    for route in [
        "",
        "  ",
        "..",
        "/..",
        "/../x",
        "/a/../../x",
        "/%2e%2e/x",
        "/%2E%2e",
        "/a/%2e%2e/b",
        "/..%2fx",
        "/%252e%252e/x",
        "/a/..;/b",
        "/a\\..\\b",
        "/.",
        "/a/./b",
        "http://evil.example/",
        "//evil.example/x",
        "/\\evil.example",
        "@evil.example/",
        "/a\r\nx-injected: 1",
        "/a\0b",
        "/a\tb",
        "/a#b",
    ] {
        let result = bench.one(drive([function("ui-proxy.call-route", json!({ "route": route }))])).await;
        let sent = stub.requests();
        if result["err"].is_string() && sent.is_empty() {
            assert_eq!(result, json!({ "err": "bad-request" }), "{route:?}");
            continue;
        }
        // What is sent is a path of this host, below the extension's own.
        for request in sent {
            assert!(
                request.path.starts_with("/driver/") && !request.path.contains(".."),
                "{route:?}: {request:?}"
            );
            assert!(request.header("host").unwrap().starts_with("127.0.0.1:"), "{route:?}");
        }
        stub.forget_requests();
    }
}

async fn on(nats: &Nats) -> Arc<dyn Storage> {
    let client = nats.client("worker").await.client;
    let storage = longshore_storage::on_jetstream(client, JetStreamSettings::default()).await.unwrap();
    storage.prepare().await.unwrap();
    storage
}

/// An administrator's view of all that is written to any bucket.
struct Watched {
    admin: Client,
    subscriber: async_nats::Subscriber,
}

async fn watched(nats: &Nats) -> Watched {
    let admin = nats.client("admin").await;
    let subscriber = admin.client.subscribe("$KV.>").await.unwrap();
    admin.client.flush().await.unwrap();
    Watched { admin, subscriber }
}

impl Watched {
    /// All subjects so far: what this connection publishes now comes after them.
    async fn subjects(&mut self) -> Vec<String> {
        const LAST: &str = "$KV.test-marker.end";
        self.admin.client.publish(LAST, "".into()).await.unwrap();
        let mut all = Vec::new();
        while let Some(message) = self.subscriber.next().await {
            if message.subject.as_str() == LAST {
                break;
            }
            all.push(message.subject.to_string());
        }
        all
    }
}
