//! Canaries: secrets that are looked for, in every usual spelling, in everything that shim and worker say and send while guests do with them what no
//! extension should.
//!
//! Two places are left out, because what stands there is the extension's own business: what it stores (the entries of its bucket) and what it
//! answers to its caller. Both happen in a second part, so that the first can look at every message on NATS without any exception.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use longshore_tests::collector::Collector;
use longshore_tests::redis::messages;
use longshore_tests::{Call, Reply, Service, Stack, wait};
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// No secret: it goes wherever the canaries go, and has to be found there. Otherwise nothing would be proved by finding nothing.
pub(super) const MARKER: &str = "mark3r";
const TENANT: &str = "tenant-mark3r";
/// The operator's own token.
const TOKEN: &str = "canary-runner-token-61fe";

/// Values that the guest may read, each with characters that some encoding changes.
pub(super) fn plain() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("plain", "canary-7Qz-plain-4f9d1c"),
        ("json", "can\"ary\\9d\u{e9}<5>&'quoted-json"),
        ("url", "c\u{e4}n ary+/=?&#%4f;:@!url-13d"),
        ("binary", "\u{1}\u{2}\u{7f}canary\u{fffd}\u{80}\u{1b}[0mbin-88"),
        ("lines", "-----BEGIN KEY-----\ncanarylineone77\ncanarylinetwo88\n-----END KEY-----"),
        ("api_key", "canary-api-key-8a1b77"),
    ])
}

/// One that it may only send.
pub(super) const HANDLE: &str = "canary-handle-5e2d90ab";

/// Answers with what it got, in the words of an error: an upstream that repeats secrets to whoever asks.
pub(super) struct Echo {
    pub(super) address: SocketAddr,
    got: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Echo {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (kept, count) = (got.clone(), Arc::new(AtomicUsize::new(0)));
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (kept, count) = (kept.clone(), count.clone());
                tokio::spawn(async move {
                    let answer = service_fn(|request| answer(request, kept.clone(), count.clone()));
                    let connection = auto::Builder::new(TokioExecutor::new());
                    let _ = connection.serve_connection(TokioIo::new(socket), answer).await;
                });
            }
        });
        Self { address, got, task }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    kept: Arc<Mutex<Vec<Vec<u8>>>>,
    count: Arc<AtomicUsize>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut all = format!("{} {}\n", head.method, head.uri).into_bytes();
    for (name, value) in &head.headers {
        all.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
    }
    all.extend_from_slice(&body);
    let text = String::from_utf8_lossy(&all).into_owned();
    kept.lock().push(all);
    let fields = json!({ "name": text, "payload": [text] });
    let error =
        json!({ "success": false, "error": text, "code": text, "message": text, "fieldErrors": fields });
    let statuses = [500, 400, 403, 404, 409, 429, 401, 418, 200];
    let own = head.uri.path().starts_with("/ok/");
    let status = if own { 200 } else { statuses[count.fetch_add(1, Relaxed) % statuses.len()] };
    let answer = Response::builder().status(status).header("content-type", "application/json");
    Ok(answer.body(Full::new(error.to_string().into())).unwrap())
}

/// What is searched, by the name of its place.
pub(super) type Places = BTreeMap<String, Vec<u8>>;

pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// One level of JSON's escapes taken off, of whatever has some.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let (bytes, used) = match text[at..] {
            [b'\\', b'n', ..] => (b"\n".to_vec(), 2),
            [b'\\', b'u', a, b, c, d, ..] => {
                let digits = String::from_utf8_lossy(&[a, b, c, d]).into_owned();
                let letter = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                (letter.map(|letter| letter.to_string().into_bytes()).unwrap_or_default(), 6)
            }
            [b'\\', other, ..] => (vec![other], 2),
            [other, ..] => (vec![other], 1),
            [] => break,
        };
        out.extend(bytes);
        at += used;
    }
    out
}

fn percent_decoded(text: &[u8], plus: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let digits = text.get(at + 1..at + 3).filter(|_| text[at] == b'%');
        let byte = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok());
        match byte {
            Some(byte) => out.push(byte),
            None if plus && text[at] == b'+' => out.push(b' '),
            None => out.push(text[at]),
        }
        at += if byte.is_some() { 3 } else { 1 };
    }
    out
}

/// The text as it is, and as it is after one or two decodings of what texts are put into.
fn views(text: &[u8]) -> Vec<Vec<u8>> {
    let once = unescaped(text);
    let twice = unescaped(&once);
    let mut all = vec![text.to_vec(), percent_decoded(text, false), percent_decoded(text, true)];
    all.extend([
        percent_decoded(&once, false),
        percent_decoded(&percent_decoded(text, false), false),
        once,
        twice,
    ]);
    all
}

/// Base64 of a value wherever it stands in a longer text: without the digits that its neighbours have a part in.
fn base64_forms(value: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for before in 0..3 {
        let text = BASE64.encode([vec![0; before], value.as_bytes().to_vec()].concat());
        let whole = (before + value.len()) / 3 * 4;
        let form = &text[[0, 2, 3][before]..whole];
        forms.extend([form.to_owned(), form.replace('+', "-").replace('/', "_")]);
    }
    forms
}

/// A value in all spellings that are looked for; percent-encoding and JSON are undone by the views.
fn forms(value: &str) -> Vec<(&'static str, String)> {
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut all = vec![("raw", value.to_owned()), ("hex", hex.to_uppercase()), ("hex", hex)];
    all.extend(base64_forms(value).into_iter().map(|form| ("base64", form)));
    all
}

/// Each secret as a whole, and the beginning of each, which a cut leaves.
fn needles() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: &str| {
        all.extend(forms(value).into_iter().map(|(form, text)| (format!("{name} as {form}"), text)));
        all.push((format!("the beginning of {name}"), value.chars().take(12).collect()));
    };
    for (name, value) in plain() {
        if name != "lines" {
            add(name, value);
        }
    }
    add("a line of `lines`", "canarylineone77");
    add("another line of `lines`", "canarylinetwo88");
    // What is left where control characters are replaced.
    add("a piece of `binary`", "[0mbin-88");
    add("the handle", HANDLE);
    add("the platform's token", TOKEN);
    all
}

/// Every place with the names of what is in it and should not be.
pub(super) fn leaks(places: &Places) -> Vec<String> {
    let needles = needles();
    let mut found = Vec::new();
    for (place, text) in places {
        // As text, because the search in texts is the fast one; all that is searched for is text.
        let views: Vec<String> =
            views(text).iter().map(|view| String::from_utf8_lossy(view).into_owned()).collect();
        for (name, needle) in &needles {
            let Some((view, at)) = views.iter().find_map(|view| Some((view, view.find(needle)?))) else {
                continue;
            };
            let (from, to) = (view.floor_char_boundary(at.saturating_sub(200)), at + needle.len() + 60);
            let around = &view[from..view.floor_char_boundary(to)];
            found.push(format!("{place}: {name}: ...{}...", around.escape_debug()));
        }
    }
    found
}

#[test]
fn the_search_finds_each_spelling_and_nothing_else() {
    let place = |text: Vec<u8>| Places::from([("here".to_owned(), text)]);
    for (name, value) in plain().into_iter().filter(|(name, _)| *name != "lines") {
        let json = json!({ "text": json!({ "in": value }).to_string() }).to_string();
        let percent: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        let in_base64 = |before: &str| BASE64.encode(format!("{before}{value}after"));
        for (spelling, text) in [
            ("raw", value.to_owned()),
            ("JSON in JSON", json),
            ("percent", percent),
            ("hex", hex),
            ("base64 at 0", in_base64("")),
            ("base64 at 1", in_base64("x")),
            ("base64 at 2", in_base64("xy")),
            ("base64 in JSON", json!({ "b64": BASE64.encode(value) }).to_string()),
        ] {
            let text = format!("before {text} after").into_bytes();
            assert!(!leaks(&place(text)).is_empty(), "{name} as {spelling}");
        }
    }
    assert_eq!(leaks(&place(format!("{MARKER} [redacted] canary").into_bytes())), Vec::<String>::new());
}

/// A subject, and headers and payload of a message on it.
type Message = (String, Vec<u8>);

/// All that passes on NATS.
struct Tap {
    messages: Arc<Mutex<Vec<Message>>>,
    task: JoinHandle<()>,
    _admin: longshore_tests::nats::Client,
}

impl Tap {
    async fn on(stack: &Stack) -> Self {
        let admin = stack.nats.client("admin").await;
        let mut all = admin.client.subscribe(">").await.unwrap();
        admin.client.flush().await.unwrap();
        let messages: Arc<Mutex<Vec<Message>>> = Arc::default();
        let kept = messages.clone();
        let task = tokio::spawn(async move {
            while let Some(message) = all.next().await {
                let headers = message.headers.map(|headers| format!("{headers:?}")).unwrap_or_default();
                let whole = [headers.as_bytes(), b"\n", &message.payload].concat();
                kept.lock().push((message.subject.to_string(), whole));
            }
        });
        Self { messages, task, _admin: admin }
    }

    /// The messages so far, those for `left_out` aside.
    fn all(&self, left_out: impl Fn(&str) -> bool) -> Vec<u8> {
        let messages = self.messages.lock();
        let kept = messages.iter().filter(|(subject, _)| !left_out(subject));
        kept.flat_map(|(subject, whole)| [subject.as_bytes(), b"\n", whole, b"\n"].concat()).collect()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Servers, a worker and a shim that say all they can.
struct World {
    stack: Stack,
    worker: Service,
    shim: Service,
    telemetry: (Collector, Collector),
    echo: Echo,
    tap: Tap,
}

impl World {
    async fn start() -> Self {
        let (stack, echo) = (Stack::start().await, Echo::start().await);
        let telemetry = (Collector::start().await, Collector::start().await);
        let tap = Tap::on(&stack).await;
        let (endpoints, base) = ((telemetry.0.endpoint(), telemetry.1.endpoint()), echo.url(""));
        let common = [("RUST_LOG", "debug"), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
        let worker = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoints.0.as_str()),
            ("EXT_EGRESS_ALLOWLIST", "127.0.0.1"),
            ("LONGSHORE_EGRESS_PRIVATE", "allow"),
            ("LONGSHORE_STORAGE", "nats"),
            ("STORAGE_API_BASE_URL", base.as_str()),
            ("RUNNER_STORAGE_API_TOKEN", TOKEN),
            ("UI_PROXY_BASE_URL", base.as_str()),
            ("LONGSHORE_GUEST_LOG", "stdout"),
            ("LONGSHORE_DEBUG_FIREHOSE", "true"),
            ("WORKER_MAX_OUTBOUND_REQUESTS", "1000"),
        ];
        let shim = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoints.1.as_str())];
        let (worker, shim) = ([&common[..], &worker].concat(), [&common[..], &shim].concat());
        let (worker, shim) = tokio::join!(stack.worker(&worker), stack.shim(&shim));
        Self { stack, worker, shim, telemetry, echo, tap }
    }

    /// A call of a guest with all secrets and all capabilities.
    fn call(&self, guest: &str, query: &str) -> Call {
        let url = self.echo.url("/ok/");
        let port = self.echo.address.port();
        let mut secrets = json!(plain());
        secrets["handle"] = json!({ "value": HANDLE, "hosts": [format!("127.0.0.1:{port}")] });
        let envelope = BASE64.encode(secrets.to_string());
        let extension = self.stack.install(TENANT, guest);
        let user = json!({ "user_id": MARKER, "user_email": "a@example.com", "user_name": "Ada",
            "user_type": "internal", "client_name": "Example" });
        let granted: Vec<&str> = longshore_proto::Capability::ALL.iter().map(|c| c.as_str()).collect();
        extension
            .get(format!("/?marker={MARKER}&url={url}&{query}"))
            .timeout_ms(120_000)
            .with("/providers", json!(granted))
            .with("/user", user)
            .with("/secret_envelope", json!({ "ciphertext_b64": envelope, "algorithm": "inline/base64" }))
    }

    async fn run(&self, guest: &str, query: &str) -> Reply {
        self.shim.call(&self.call(guest, query)).await
    }

    /// Everything that anybody but the guest's caller and its bucket can see.
    async fn places(&self, nats: Vec<u8>, replies: &[Reply]) -> Places {
        let mut places = Places::from([("NATS".to_owned(), nats)]);
        for key in self.stack.redis.keys().await {
            let events = self.stack.redis.wait(&key, "events", |_| true).await;
            let texts = events.iter().flat_map(|event| event.iter().map(|(k, v)| format!("{k}: {v}\n")));
            places.insert(format!("Redis {key}"), texts.collect::<String>().into_bytes());
        }
        let services = [("worker", &self.worker, &self.telemetry.0), ("shim", &self.shim, &self.telemetry.1)];
        for (name, service, collector) in services {
            places.insert(format!("log of the {name}"), service.lines().all().join("\n").into_bytes());
            for path in ["/v1/traces", "/v1/logs"] {
                places.insert(format!("{path} of the {name}"), collector.bodies(path).concat());
            }
            let metrics = service.http().get("/metrics").await;
            places.insert(format!("metrics of the {name}"), metrics.bytes.to_vec());
        }
        for (number, reply) in replies.iter().enumerate() {
            let whole = [format!("{:?}\n", reply.headers).as_bytes(), &reply.bytes].concat();
            places.insert(format!("error envelope {number}"), whole);
        }
        places
    }

    /// Until the events of so many runs have arrived.
    async fn settled(&self, runs: usize) {
        let all = |events: &[longshore_tests::redis::Event]| messages(events, "usage").len() >= runs;
        self.stack.redis.wait("ext-debug", "the last event of every run", all).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_anything_that_is_said_or_sent_whatever_guests_do_with_it() {
    let mut world = World::start().await;
    // It uses them in every way that leaves the sandbox.
    let used = world.run("canary", "mode=use").await;
    let report = used.json();
    assert_eq!(report["secrets"], json!(plain().len() + 1), "{report}");
    assert!(report["sent"].as_u64().unwrap() >= 40, "{report}");
    // They did leave where they are meant to go, in each of its spellings: the search below can find them.
    let got = world.echo.got.lock().concat();
    let found = leaks(&Places::from([("upstream".to_owned(), got)]));
    for (name, _) in needles() {
        let reached = found.iter().any(|leak| leak.contains(&format!("upstream: {name}:")));
        // The guest never has the value of a handle, and the platform's token only goes out as it is.
        let impossible = (name.starts_with("the handle as") || name.starts_with("the platform's token as"))
            && !name.ends_with("raw")
            || name.contains("line of")
            || name.contains("piece of");
        assert!(reached || impossible, "{name} was not sent");
    }

    // Ways to fail.
    let mut failures = Vec::new();
    for (guest, query) in [
        ("canary", "mode=panic"),
        ("canary", "mode=header"),
        ("http-canary", ""),
        ("http-canary", "pad=100"),
        ("http-canary", "pad=181"),
        ("http-canary", "pad=190"),
    ] {
        let reply = world.run(guest, query).await;
        assert!(reply.error().is_some(), "{guest} {query}: {reply:?}");
        failures.push(reply);
    }
    // Envelopes that cannot be used, each with a canary where a parser may quote it.
    let canary = plain()["plain"];
    for broken in [
        format!("{{\"a\": \"{canary}"),
        format!("{{\"a\": [\"{canary}\"]}}"),
        format!("{{\"{canary}\": 7}}"),
        format!("[\"{canary}\"]"),
        format!("{{\"a\": {{\"value\": \"x\", \"hosts\": [\"{canary} {canary}\"]}}}}"),
        canary.to_owned(),
    ] {
        for (text, algorithm) in [(BASE64.encode(&broken), "inline/base64"), (broken.clone(), canary)] {
            let envelope = json!({ "ciphertext_b64": text, "algorithm": algorithm });
            let call = world.call("canary", "").with("/secret_envelope", envelope);
            let reply = world.shim.call(&call).await;
            assert!(reply.error().is_some(), "{broken}: {reply:?}");
            failures.push(reply);
        }
    }
    world.settled(7).await;

    let places = world.places(world.tap.all(|_| false), &failures).await;
    assert!(contains(&places["NATS"], b"longshore-sealed"), "sealed envelopes did pass");
    let found = leaks(&places);
    assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n"));
    finds_the_marker(&places);

    // What is the extension's own business.
    let stored = world.run("canary", "mode=store").await.json();
    assert_eq!(stored["stored"], stored["texts"], "{stored}");
    let answered = world.run("canary", "mode=answer").await;
    assert!(answered.text().contains(canary));
    world.settled(9).await;
    // Entries on their way to the bucket and back to the worker, requests that name them (which the server repeats to administrators,
    // with their answers), and the answer on its way to the shim.
    let own = |subject: &str| {
        let bucket = subject.starts_with("$JS.API.") && subject.ends_with(".KV_longshore-storage");
        let repeated = subject == "$JS.EVENT.ADVISORY.API";
        bucket || repeated || subject.starts_with("$KV.longshore-storage.") || subject.starts_with("_R.")
    };
    let nats = world.tap.all(own);
    assert!(contains(&nats, TENANT.as_bytes()));
    // And what is only said at the end.
    world.shim.terminate();
    world.worker.terminate();
    world.shim.drained(wait::LIMIT).await;
    world.worker.drained(wait::LIMIT).await;
    let mut places = last_words(&world).await;
    for (place, text) in places.iter().filter(|(place, _)| place.starts_with("/v1/")) {
        assert!(contains(text, MARKER.as_bytes()), "{MARKER} is not in: {place}");
    }
    places.insert("NATS".to_owned(), nats);
    let found = leaks(&places);
    assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n"));
}

/// Logs, traces and streams after both processes have ended.
async fn last_words(world: &World) -> Places {
    let mut places = Places::new();
    for key in world.stack.redis.keys().await {
        let events = world.stack.redis.wait(&key, "events", |_| true).await;
        let texts = events.iter().flat_map(|event| event.iter().map(|(k, v)| format!("{k}: {v}\n")));
        places.insert(format!("Redis {key}"), texts.collect::<String>().into_bytes());
    }
    for (name, service, collector) in
        [("worker", &world.worker, &world.telemetry.0), ("shim", &world.shim, &world.telemetry.1)]
    {
        places.insert(format!("log of the {name}"), service.lines().all().join("\n").into_bytes());
        for path in ["/v1/traces", "/v1/logs"] {
            places.insert(format!("{path} of the {name}"), collector.bodies(path).concat());
        }
    }
    places
}

/// The positive control: the marker stood beside every secret, and is in each place that guests' words can reach.
fn finds_the_marker(places: &Places) {
    // Telemetry is sent in batches, and for certain when a process ends.
    for (place, text) in places.iter().filter(|(place, _)| !place.starts_with("/v1/")) {
        // Labels of metrics are a closed list, which is why no guest's word is there; the page itself was read.
        let wanted = if place.starts_with("metrics") { "longshore_" } else { MARKER };
        // Only errors with words of the guest's own have it.
        if !place.starts_with("error envelope") {
            assert!(contains(text, wanted.as_bytes()), "{wanted} is not in: {place}");
        }
    }
    let envelopes = places.iter().filter(|(place, _)| place.starts_with("error envelope"));
    assert!(envelopes.filter(|(_, text)| contains(text, MARKER.as_bytes())).count() >= 4);
    let stream = String::from_utf8_lossy(&places[&format!("Redis ext-debug:{TENANT}:canary")]).into_owned();
    for kind in ["log", "stdout", "stderr", "host_call", "error"] {
        let event = stream.contains(&format!("kind: {kind}\n"));
        assert!(event, "no event of kind {kind}");
    }
    assert!(stream.contains("[redacted]"));
}
