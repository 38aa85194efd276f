//! Outbound requests that must not happen, by both doors.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use longshore_egress::{EgressConfig, EgressRules, Resolve};
use longshore_proto::event::Kind;
use longshore_worker::limits::WorkerMaxima;
use serde_json::{Value, json};

use crate::support::{Bench, Names, Setup, drive, function, get};
use crate::upstream::{Answer, Server, whole};

/// What the note of a refusal says.
const PRIVATE: &str = "not on the public internet";
const USER: &str = "must not carry a user";
const URL: &str = "the URL ";
const PORT: &str = "there is no port 0";
const SCHEME: &str = "only http and https";

/// `{p}` is the port on which a server listens at 127.0.0.1. One of each kind of `backends/egress/tests/hostile.rs`.
const TARGETS: &[(&str, &str)] = &[
    ("http://127.0.0.1:{p}/", PRIVATE),
    ("https://127.0.0.1:{p}/", PRIVATE),
    ("http://127.1:{p}/", PRIVATE),
    ("http://127.0.0.1.:{p}/", PRIVATE),
    ("http://2130706433:{p}/", PRIVATE),
    ("http://0x7f000001:{p}/", PRIVATE),
    ("http://0x7f.1:{p}/", PRIVATE),
    ("http://017700000001:{p}/", PRIVATE),
    ("http://0177.0.0x1:{p}/", PRIVATE),
    ("http://①②⑦.⓪.⓪.①:{p}/", PRIVATE),
    ("http://127。0。0。1:{p}/", PRIVATE),
    ("http://%31%32%37.0.0.1:{p}/", PRIVATE),
    ("http://127.0.0.1\u{ad}:{p}/", PRIVATE),
    ("http://0:{p}/", PRIVATE),
    ("http://0.0.0.0:{p}/", PRIVATE),
    ("http://[::1]:{p}/", PRIVATE),
    ("http://[::]:{p}/", PRIVATE),
    ("http://[::ffff:127.0.0.1]:{p}/", PRIVATE),
    ("http://[::FFFF:8.8.8.8]:{p}/", PRIVATE),
    ("http://[::127.0.0.1]:{p}/", PRIVATE),
    ("http://[64:ff9b::127.0.0.1]:{p}/", PRIVATE),
    ("http://[64:ff9b:1::127.0.0.1]:{p}/", PRIVATE),
    ("http://[2002:7f00:1::]:{p}/", PRIVATE),
    ("http://[2001:0:7f00:1::]:{p}/", PRIVATE),
    ("http://[fe80::1]:{p}/", PRIVATE),
    ("http://[fd00:ec2::254]/latest/meta-data/", PRIVATE),
    ("http://[ff02::1]:{p}/", PRIVATE),
    ("http://[::1%25lo]:{p}/", URL),
    ("http://169.254.169.254/latest/meta-data/", PRIVATE),
    ("http://2852039166/latest/meta-data/", PRIVATE),
    ("http://0251.0376.0251.0376/", PRIVATE),
    ("http://[::ffff:a9fe:a9fe]/", PRIVATE),
    ("http://100.100.100.200/", PRIVATE),
    ("http://168.63.129.16/", PRIVATE),
    ("http://10.0.0.1/", PRIVATE),
    ("http://172.31.255.254/", PRIVATE),
    ("http://192.168.1.1/", PRIVATE),
    ("http://224.0.0.1/", PRIVATE),
    ("http://255.255.255.255/", PRIVATE),
    ("http://localhost:{p}/", PRIVATE),
    ("http://LOCALHOST.:{p}/", PRIVATE),
    ("http://internal.example:{p}/", PRIVATE),
    ("http://mapped.example:{p}/", PRIVATE),
    ("http://nat64.example:{p}/", PRIVATE),
    ("http://metadata.google.internal/", PRIVATE),
    ("http://public.example@127.0.0.1:{p}/", USER),
    ("http://127.0.0.1:{p}@public.example/", USER),
    ("http://@127.0.0.1:{p}/", USER),
    ("http://public.example%40127.0.0.1:{p}/", URL),
    ("http://127.0.0.1:{p}#@public.example/", PRIVATE),
    ("http://127.0.0.1:{p}\\@public.example/", PRIVATE),
    ("http:127.0.0.1:{p}/", PRIVATE),
    ("http:\\\\127.0.0.1:{p}\\", PRIVATE),
    ("http://127.0.0\t.1:{p}/", URL),
    ("http://127.0.0.1:{p}/\r\nx-injected: 1", URL),
    ("http://127.0.0.1%00.public.example:{p}/", URL),
    ("http://127.0.0.1%2f.public.example:{p}/", URL),
    ("http://127.0.0.256:{p}/", URL),
    ("//127.0.0.1:{p}/", URL),
    ("", URL),
    ("http://internal..example:{p}/", URL),
    ("http://127.0.0.1:0/", PORT),
    ("http://127.0.0.1:65616/", URL),
    ("ftp://127.0.0.1:{p}/", SCHEME),
    ("gopher://127.0.0.1:{p}/_GET", SCHEME),
    ("file:///etc/passwd", SCHEME),
    ("data:text/plain,x", SCHEME),
];

/// The same for `wasi:http`, whose guests give an authority.
const AUTHORITIES: &[&str] = &[
    "127.0.0.1:{p}",
    "127.1:{p}",
    "127.0.0.1.:{p}",
    "2130706433:{p}",
    "0x7f000001:{p}",
    "0x7f.1:{p}",
    "017700000001:{p}",
    "0:{p}",
    "0.0.0.0:{p}",
    "[::1]:{p}",
    "[::]:{p}",
    "[::ffff:127.0.0.1]:{p}",
    "[::127.0.0.1]:{p}",
    "[64:ff9b::127.0.0.1]:{p}",
    "[2002:7f00:1::]:{p}",
    "[fe80::1]:{p}",
    "169.254.169.254",
    "2852039166",
    "0251.0376.0251.0376",
    "[::ffff:a9fe:a9fe]",
    "100.100.100.200",
    "10.0.0.1",
    "192.168.1.1",
    "255.255.255.255",
    "localhost:{p}",
    "LOCALHOST.:{p}",
    "internal.example:{p}",
    "mapped.example:{p}",
    "nat64.example:{p}",
    "metadata.google.internal",
    "public.example@127.0.0.1:{p}",
    "127.0.0.1:{p}@public.example",
    "@127.0.0.1:{p}",
    "127.0.0.1:{p}/@public.example",
    "127.0.0.1:{p}\\@public.example",
    "127.0.0.1%00.public.example:{p}",
    "127.0.0.1:0",
    "127.0.0.1:65616",
    "internal..example:{p}",
    "",
];

const HOSTILE_NAMES: Names = Names(&[
    ("localhost", &["127.0.0.1", "::1"]),
    ("internal.example", &["10.0.0.1", "127.0.0.1", "192.168.0.1"]),
    ("mapped.example", &["::ffff:127.0.0.1"]),
    ("nat64.example", &["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"]),
    ("metadata.google.internal", &["169.254.169.254"]),
]);

fn fetch(url: &str) -> Value {
    function("http.fetch", json!({ "method": "GET", "url": url }))
}

/// Everything on the public internet is allowed, which is the most that an operator in production can give.
fn production() -> Setup {
    Setup {
        egress: EgressConfig { allow_all_when_empty: true, ..EgressConfig::default() },
        resolver: Arc::new(HOSTILE_NAMES),
        maxima: WorkerMaxima { outbound_requests: 10_000, ..WorkerMaxima::default() },
        ..Setup::default()
    }
}

#[tokio::test]
async fn every_target_in_disguise_is_refused_with_its_code_and_nothing_is_sent() {
    let server = Server::start().await;
    let (bench, port) = (Bench::new(&production()), server.port().to_string());
    assert!(TARGETS.len() > 60);
    let urls: Vec<String> = TARGETS.iter().map(|(url, _)| url.replace("{p}", &port)).collect();
    let results = bench.results(drive(urls.iter().map(|url| fetch(url)))).await;
    let calls = bench.host_calls();
    assert_eq!((results.len(), calls.len()), (TARGETS.len(), TARGETS.len()));
    for ((url, result), (call, (_, why))) in urls.iter().zip(&results).zip(calls.iter().zip(TARGETS)) {
        let code = if *why == URL { "invalid-url" } else { "not-allowed" };
        assert_eq!(*result, json!({ "err": code }), "{url}");
        assert_eq!(call["outcome"], code, "{url}");
        let note = call["note"].as_str().unwrap();
        assert!(note.contains(why), "{url}: {note}");
        assert!(!["127.0", "169.254", "10.0", "::"].iter().any(|a| note.contains(a)), "{url}: {note}");
    }
    assert_eq!(server.connections().await, 0);
}

#[tokio::test]
async fn the_same_targets_are_refused_to_wasi_http() {
    let server = Server::start().await;
    let (bench, port) = (Bench::new(&production()), server.port().to_string());
    assert!(AUTHORITIES.len() >= 40);
    for authority in AUTHORITIES {
        let authority = authority.replace("{p}", &port);
        let outcome = bench.run(get("http-echo", &format!("/?send={authority}"))).await;
        let answer: Value = serde_json::from_slice(&outcome.result.unwrap().body.unwrap()).unwrap();
        let sent = answer["sent"].as_str().unwrap();
        let known = [
            "DestinationIpProhibited",
            "HttpRequestDenied",
            "HttpRequestUriInvalid",
            // The guest's own library, or wasi:http, does not take such an authority.
            "no request",
        ];
        assert!(known.iter().any(|known| sent.contains(known)), "{authority}: {sent}");
        for call in bench.host_calls() {
            assert_ne!(call["outcome"], "ok", "{authority}: {call}");
        }
    }
    assert_eq!(server.connections().await, 0);
}

#[tokio::test]
async fn an_empty_list_and_a_missing_capability_deny_both_doors() {
    let server = Server::start().await;
    let setup =
        Setup { egress: EgressConfig { allow_private: true, ..EgressConfig::default() }, ..Setup::default() };
    let bench = Bench::new(&setup);
    let url = server.url("/");
    assert_eq!(bench.one(drive([fetch(&url)])).await, json!({ "err": "not-allowed" }));
    assert!(bench.host_calls()[0]["note"].as_str().unwrap().contains("the operator allows no host"));
    let open = bench.beside(&Setup::default().open());
    assert_eq!(open.one(drive([fetch(&url)]).ungranted()).await, json!({ "err": "not-allowed" }));
    for (bench, granted) in [(&bench, true), (&open, false)] {
        let call = get("http-echo", &format!("/?send=127.0.0.1:{}", server.port()));
        let outcome = bench.run(if granted { call } else { call.ungranted() }).await;
        let body = outcome.result.unwrap().body.unwrap();
        assert!(String::from_utf8_lossy(&body).contains("HttpRequestDenied"), "{body:?}");
    }
    assert_eq!(server.connections().await, 0);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (server, victim) = (Server::start().await, Server::start().await);
    let bench = Bench::new(&Setup::default().open());
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {}\r\nset-cookie: a=b\r\n", victim.url("/secret"));
        server.answers(whole(status, &location, ""));
        let results = bench.results(drive([fetch(&server.url("/")), fetch(&server.url("/again"))])).await;
        assert_eq!(results[0]["ok"]["status"], status);
        let outcome = bench.run(get("http-echo", &format!("/?send=127.0.0.1:{}", server.port()))).await;
        let body = outcome.result.unwrap().body.unwrap();
        assert!(String::from_utf8_lossy(&body).contains(&status.to_string()), "{body:?}");
    }
    assert!(!server.requests().iter().any(|request| request.to_lowercase().contains("cookie")));
    assert_eq!(victim.connections().await, 0);
}

/// Answers the next of a list each time, and the last for ever.
struct Rebinding(AtomicUsize, &'static [&'static str]);

#[async_trait::async_trait]
impl Resolve for Rebinding {
    async fn resolve(&self, _host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        let asked = self.0.fetch_add(1, Relaxed);
        let answer = self.1[asked.min(self.1.len() - 1)];
        Ok(vec![SocketAddr::new(answer.parse().unwrap(), port)])
    }
}

/// 127.0.0.2 plays the public address and 127.0.0.1 the internal one: a network of the list tells them apart as the
/// public check otherwise does.
#[tokio::test]
async fn a_resolver_that_changes_its_answer_gains_nothing() {
    let victim = Server::start().await;
    let port = victim.port();
    let public = Server::on(&format!("127.0.0.2:{port}")).await;
    let rules = EgressRules::from_variable(&["127.0.0.2/32"]).unwrap();
    let setup = Setup {
        egress: EgressConfig { rules, allow_private: true, ..EgressConfig::default() },
        resolver: Arc::new(Rebinding(AtomicUsize::new(0), &["127.0.0.2", "127.0.0.1"])),
        ..Setup::default()
    };
    let bench = Bench::new(&setup);
    // No connection is kept, so that the second request asks again.
    public.answers(Answer::Last(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec()));
    let url = format!("http://rebind.example:{port}/");
    assert_eq!(bench.one(drive([fetch(&url)])).await["ok"]["status"], 200);
    for _ in 0..3 {
        assert_eq!(bench.one(drive([fetch(&url)])).await, json!({ "err": "not-allowed" }));
        let outcome = bench.run(get("http-echo", &format!("/?send=rebind.example:{port}"))).await;
        let body = outcome.result.unwrap().body.unwrap();
        assert!(String::from_utf8_lossy(&body).contains("HttpRequestDenied"), "{body:?}");
    }
    assert_eq!((public.requests().len(), victim.connections().await), (1, 0));
}

fn with_header(url: &str, name: &str, value: &str) -> Value {
    let body = json!({ "text": "hello" });
    function("http.fetch", json!({ "method": "POST", "url": url, "headers": [[name, value]], "body": body }))
}

#[tokio::test]
async fn what_could_become_another_header_or_request_is_refused_and_nothing_is_sent() {
    let server = Server::start().await;
    let bench = Bench::new(&Setup::default().open());
    let url = server.url("/");
    for (name, value) in [
        ("x-a", "1\r\nx-injected: 1"),
        ("x-a", "1\nx-injected: 1"),
        ("x-a", "1\rx-injected: 1"),
        ("x-a", "1\0"),
        ("x-a", "1\u{7f}"),
        ("x-a", "1\r\n\r\nGET /second HTTP/1.1"),
        ("x-a\r\nx-injected", "1"),
        ("x-a: 1\r\nx-injected", "1"),
        ("x-a:", "1"),
        ("x a", "1"),
        (" x-a", "1"),
        ("x-\u{e4}", "1"),
        ("", "1"),
        ("content-length", "4, 5"),
        ("content-length", "-1"),
        ("content-length", "0x5"),
    ] {
        let result = bench.one(drive([with_header(&url, name, value)])).await;
        assert_eq!(result, json!({ "err": "transport" }), "{name:?}: {value:?}");
    }
    for method in ["", "GET /x HTTP/1.1\r\nhost: x\r\n\r\nGET", "G ET", "GET\0", "ä", "GET\n"] {
        let call = function("http.fetch", json!({ "method": method, "url": url }));
        assert_eq!(bench.one(drive([call])).await, json!({ "err": "invalid-url" }), "{method:?}");
    }
    for method in ["CONNECT", "TRACE"] {
        let call = function("http.fetch", json!({ "method": method, "url": url }));
        assert_eq!(bench.one(drive([call])).await, json!({ "err": "not-allowed" }), "{method:?}");
    }
    assert_eq!(server.connections().await, 0);
}

#[tokio::test]
async fn headers_that_decide_where_a_message_ends_and_where_it_goes_are_ours() {
    let server = Server::start().await;
    let bench = Bench::new(&Setup::default().open());
    let host = format!("host: 127.0.0.1:{}\r\n", server.port());
    for (name, value) in [
        ("host", "evil.example"),
        ("Host", "evil.example"),
        ("transfer-encoding", "chunked"),
        ("Transfer-Encoding", "identity, chunked"),
        ("connection", "close, host, content-length"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("http2-settings", "x"),
        ("proxy-authorization", "Basic x"),
        ("proxy-connection", "keep-alive"),
        ("keep-alive", "timeout=1000"),
        ("content-length", "5"),
    ] {
        let result = bench.one(drive([with_header(&server.url("/"), name, value)])).await;
        assert_eq!(result["ok"]["status"], 200, "{name}: {result}");
        let requests = server.requests();
        let [request] = requests.as_slice() else { panic!("{name}: {requests:?}") };
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let head = format!("{}\r\n", head.to_lowercase());
        assert_eq!(head.matches("\r\nhost:").count(), 1, "{name}: {head}");
        assert!(head.contains(&host), "{name}: {head}");
        assert!(head.contains("\r\ncontent-length: 5\r\n"), "{name}: {head}");
        assert_eq!(head.matches("\r\ncontent-length:").count(), 1, "{name}: {head}");
        assert!(!head.contains("evil"), "{name}: {head}");
        if !["host", "Host", "content-length"].contains(&name) {
            assert!(!head.contains(&format!("\r\n{}:", name.to_lowercase())), "{name}: {head}");
        }
        assert_eq!(body, "hello");
    }
}

#[tokio::test]
async fn a_length_that_is_not_the_bodys_sends_no_second_request() {
    let server = Server::start().await;
    let bench = Bench::new(&Setup::default().open());
    for length in ["0", "4", "6", "500"] {
        let smuggled = json!({ "text": "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n" });
        let headers = json!([["content-length", length]]);
        let args = json!({ "method": "POST", "url": server.url("/"), "headers": headers, "body": smuggled });
        let result = bench.one(drive([function("http.fetch", args)])).await;
        assert!(result["err"].is_string(), "{length}: {result}");
        for request in server.requests() {
            assert!(!request.starts_with("GET /smuggled"), "{length}: {request}");
        }
    }
}

#[tokio::test]
async fn credentials_that_guests_send_or_get_are_not_in_events() {
    let server = Server::start().await;
    server.answers(whole(200, "set-cookie: session=MARK-4\r\n", ""));
    let bench = Bench::new(&Setup::default().open());
    let headers =
        json!([["Authorization", "Bearer MARK-1"], ["cookie", "a=MARK-2"], ["X-Api-Key", "MARK-3"]]);
    let args = json!({ "method": "GET", "url": server.url("/"), "headers": headers });
    let result = bench.one(drive([function("http.fetch", args)])).await;
    assert_eq!(result["ok"]["headers"][0]["value"], "session=MARK-4");
    assert!(server.requests()[0].contains("Bearer MARK-1"));
    let call = bench.host_calls().remove(0).to_string();
    assert!(!call.contains("MARK") && call.contains("uthorization"), "{call}");
    assert!(bench.events(Kind::Error).is_empty());
}
