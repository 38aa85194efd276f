//! What was recorded under load on two workers is had again, bit for bit, by a process that has no network.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use longshore_proto::trace::{Entry, Payload, Record};
use longshore_proto::wire;
use longshore_stub_platform::{Options, Seed, StubPlatform};
use longshore_tests::shell::Said;
use longshore_tests::store::{self, EVERYTHING};
use longshore_tests::{Admin, Caller, Service, Shell, Stack, paths, wait};
use longshore_trace::{container, unpack};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Bundles that were changed, overrides and steps.
mod changed;
#[path = "../../../replay/tests/scripted/mod.rs"]
mod scripted;

const TENANT: &str = "tenant-1";
/// The platform's token for the worker, and its API key.
const TOKEN: &str = "runner-token";
const API_KEY: &str = "platform-key";
/// So the next run of the tests finds what this one, and that of the examples, has compiled.
const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/examples");
/// Components with a JavaScript engine take some 10 s of a core to compile, and they are installed one after the other.
const COMPILING_MS: u64 = 300_000;
/// Runs that are recorded and replayed; `LONGSHORE_REPLAY_RUNS` asks for another number.
const RUNS: usize = 2_000;
/// Calls under way at a time: two workers have 16 slots.
const AT_ONCE: usize = 12;

/// What extensions reach outside: good, slow, failing, large and broken answers.
struct Upstream {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Upstream {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(socket), service_fn(upstream)).await;
                });
            }
        });
        Self { address, task }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Answer = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

async fn upstream(request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let random: u64 = rand::random();
    let whole = |status: u16, bytes: Vec<u8>| {
        let body = Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed();
        let answer = Response::builder().status(status).header("content-type", "application/json");
        Ok(answer.header("x-answer", random.to_string()).body(body).unwrap())
    };
    // Each answer is another one: what a replay would get from somewhere else than its trace is not what was recorded.
    let echo = json!({ "method": head.method.as_str(), "path": head.uri.path(), "bytes": body.len(), "random": random });
    match head.uri.path() {
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(150)).await;
            whole(200, echo.to_string().into_bytes())
        }
        "/error" => whole(500, echo.to_string().into_bytes()),
        // More than stands in a record.
        "/big" => whole(200, random.to_le_bytes().repeat(20_000)),
        "/chunks" | "/broken" => {
            let breaks = head.uri.path() == "/broken";
            let chunks = (0..8_u32).map(move |n| match n {
                7 if breaks => Err(std::io::Error::other("it breaks off")),
                _ => Ok(Frame::data(Bytes::from(format!("{n} {random} ").repeat(200)))),
            });
            let slowly = futures::stream::iter(chunks).then(|chunk| async {
                tokio::time::sleep(Duration::from_millis(3)).await;
                chunk
            });
            Ok(Response::new(http_body_util::BodyExt::boxed(StreamBody::new(slowly))))
        }
        _ => whole(200, echo.to_string().into_bytes()),
    }
}

/// One call that is made again and again.
#[derive(Clone, Debug)]
struct Deed {
    method: &'static str,
    path: String,
    body: Bytes,
    /// In a round so many of it.
    weight: usize,
}

fn get(path: impl Into<String>) -> Deed {
    Deed { method: "GET", path: path.into(), body: Bytes::new(), weight: 1 }
}

fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Deed {
    Deed { method: "POST", path: path.into(), body: body.into(), weight: 1 }
}

fn escaped(text: &str) -> String {
    text.replace(':', "%3A").replace('/', "%2F").replace('?', "%3F").replace(' ', "%20")
}

/// Servers, a platform, an upstream, an admin service, two workers and a gateway.
struct World {
    upstream: Upstream,
    platform: StubPlatform,
    stack: Stack,
    admin: Admin,
    _workers: [Service; 2],
    gateway: Service,
    caller: Caller,
}

impl World {
    async fn start() -> Self {
        let options = Options {
            token: Some(TOKEN.to_owned()),
            api_key: Some(API_KEY.to_owned()),
            seed: Seed::sample(),
            ..Options::default()
        };
        let platform = StubPlatform::start(options).await.unwrap();
        let base = platform.base_url();
        let settings = [
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
            // All runs of the test are one tenant's.
            ("LONGSHORE_TRACE_MAX_BYTES", "1GiB"),
            ("LONGSHORE_TRACE_MAX_ENTRIES", "100000"),
        ];
        // Waiting for a slot is no part of what is shown here.
        let gateway = [("EXT_GATEWAY_TIMEOUT_MS", "60000"), ("LONGSHORE_GATEWAY_RATE", "0")];
        let (stack, admin, workers, gateway) = Stack::standalone::<2>(&settings, &gateway).await;
        let caller = Caller::new(&gateway, admin.token(TENANT, "write").await).await;
        let upstream = Upstream::start().await;
        Self { upstream, platform, stack, admin, _workers: workers, gateway, caller }
    }

    /// Installs a guest of `tests/guests` with all capabilities, recorded.
    async fn guest(&self, name: &str, guest: &str, more: Value) {
        let bundle = store::extension(name, guest, "1.0.0", &EVERYTHING, &["GET /", "POST /"]);
        self.install(&bundle, more).await;
    }

    async fn install(&self, bundle: &[u8], more: Value) -> Value {
        let mut options = json!({
            "capture": "record", "wait_ms": COMPILING_MS,
            "secrets": { "api_key": API_KEY, "word": "tulip-and-canary" }, "config": { "greeting": "servus", "region": "eu" },
        });
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.admin.install(TENANT, bundle, options).await
    }

    /// Makes a call; its execution, its status, and what came back.
    async fn call(&self, deed: &Deed) -> (String, u16, Bytes) {
        let headers = [("content-type", "application/json"), ("x-thing", "a header")];
        let reply = self.caller.send(deed.method, &deed.path, &headers, deed.body.clone()).await;
        (reply.execution().to_owned(), reply.transport, reply.bytes)
    }

    /// Calls of everything that there is.
    async fn deeds(&self) -> Vec<Deed> {
        let mut deeds = self.deeds_of_guests().await;
        deeds.extend(self.deeds_of_examples().await);
        deeds
    }

    async fn deeds_of_guests(&self) -> Vec<Deed> {
        let at = |guest: &str, query: &str| format!("com.longshore.test.{guest}/?{query}");
        let quick = json!({ "limits": { "timeout_ms": 400, "cpu_ms": 400 } });
        for guest in
            ["driver", "hostcalls", "echo", "random-clock", "sleep", "stdio", "big-body", "count", "trap"]
        {
            self.guest(guest, guest, json!({})).await;
        }
        for guest in [
            "stack-overflow",
            "log-flood",
            "memory-hog",
            "table-hog",
            "sockets",
            "bad-response",
            "alias",
            "user",
        ] {
            self.guest(guest, guest, json!({})).await;
        }
        for guest in ["http-echo", "http-answers", "http-config"] {
            self.guest(guest, guest, json!({})).await;
        }
        self.guest("quick", "spin", quick.clone()).await;
        self.guest("quick-sleep", "sleep", quick).await;

        let mut deeds = vec![
            get(at("echo", "a=1&b=2")),
            post(at("echo", "raw"), "a body that comes back"),
            get(at("count", "id=7&ms=3")),
            get(at("random-clock", "bytes=40")),
            get(at("sleep", "ms=5&times=3")),
            get(at("stdio", "long=3000")),
            get(at("big-body", "bytes=200000")),
            post(at("big-body", "check&bytes=100000"), pattern(100_000)),
            get(at("log-flood", "n=200&bytes=80")),
            get(at("memory-hog", "mb=3&try")),
            get(at("table-hog", "")),
            get(at("sockets", "")),
            get(at("bad-response", "status=299&header=x-a:b&body=text")),
            get(at("alias", "")),
            get(at("user", "")),
            get(at("trap", "kind=unreachable&after=3")),
            get(at("trap", "kind=panic&after=1")),
            get(at("trap", "kind=divide")),
            get(at("stack-overflow", "depth=200")),
            get(at("stack-overflow", "")),
            get(at("quick-sleep", "ms=5000")),
            get(at("quick", "")),
            get(at("http-echo", "")),
            post(at("http-echo", "raw"), pattern(20_000)),
            get(at("http-echo", &format!("send={}", self.upstream.address))),
            get(at("http-config", "name=greeting")),
        ];
        for kind in [
            "plain",
            "empty",
            "stream&bytes=150000",
            "trailers",
            "repeated",
            "many-headers&n=5",
            "error",
            "short",
            "later&ms=20",
        ] {
            deeds.push(get(at("http-answers", &format!("kind={kind}"))));
        }
        let urls =
            ["/ok", "/slow", "/error", "/big", "/chunks", "/broken"].map(|path| self.upstream.url(path));
        let closed = format!("http://127.0.0.1:{}/", paths::free_port());
        let denied = ["http://example.com/", "http://127.0.0.1.example/", "no url"].map(str::to_owned);
        for url in urls.iter().chain([&closed]).chain(&denied) {
            deeds.push(post(at("driver", ""), fetches(url)));
            deeds.push(get(at("hostcalls", &format!("only=http&url={}", escaped(url)))));
        }
        let everything = get(at(
            "hostcalls",
            &format!("url={}&route=/api/tickets&key=k", escaped(&self.upstream.url("/ok"))),
        ));
        deeds.push(Deed { weight: 6, ..everything });
        deeds.push(Deed { weight: 4, ..post(at("driver", ""), self.every_call()) });
        deeds
    }

    /// For `driver`: every function, good and bad.
    fn every_call(&self) -> String {
        let seed = Seed::sample();
        let (client, service) = (&seed.clients[0].client_id, &seed.services[0].service_id);
        let entry = json!({ "namespace": "ns", "key": "k", "value": { "text": "v" } });
        let calls = [
            ("context.get-context", json!({})),
            ("user.get-user", json!({})),
            ("secrets.list-keys", json!({})),
            ("secrets.get", json!({ "key": "none" })),
            ("logging.log-info", json!({ "message": "a line" })),
            ("storage.put", entry),
            ("storage.get", json!({ "namespace": "ns", "key": "k" })),
            ("storage.get", json!({ "namespace": "ns", "key": "missing" })),
            ("storage.put", json!({ "namespace": "ns", "key": "big", "value": { "fill": 90_000 } })),
            ("storage.list-entries", json!({ "namespace": "ns" })),
            ("storage.delete", json!({ "namespace": "ns", "key": "big" })),
            (
                "http.fetch",
                json!({ "method": "POST", "url": self.upstream.url("/ok"), "headers": [["x-a", "b"]], "body": { "text": "sent" } }),
            ),
            ("http.fetch", json!({ "method": "GET", "url": "http://example.com/", "headers": [] })),
            ("ui-proxy.call-route", json!({ "route": "/api/none" })),
            ("clients.list-clients", json!({})),
            ("clients.get-client", json!({ "client-id": client })),
            ("services.get-service", json!({ "service-id": service })),
            ("scheduler.list-schedules", json!({})),
            ("scheduler.get-endpoints", json!({})),
        ];
        let calls: Vec<_> =
            calls.into_iter().map(|(name, args)| json!({ "fn": name, "args": args })).collect();
        json!({ "calls": calls }).to_string()
    }

    async fn deeds_of_examples(&self) -> Vec<Deed> {
        let base = self.platform.base_url();
        let seed = Seed::sample();
        let (client, service) = (&seed.clients[0].client_id, &seed.services[0].service_id);
        let mut deeds = Vec::new();
        for language in ["rust", "ts"] {
            for name in [
                "context",
                "secrets",
                "http",
                "storage",
                "logging",
                "config",
                "ui-proxy",
                "scheduler",
                "invoicing",
                "clients",
                "services",
            ] {
                self.example(&format!("{name}-{language}")).await;
            }
            let at = |name: &str, path: &str| format!("com.longshore.{name}-{language}{path}");
            let to = |path: &str, url: &str| format!("{path}?url={}", escaped(url));
            let order = json!({ "client": client, "service": service, "hours": 2.5, "rate": 9000, "date": "2026-02-01" });
            deeds.extend([
                get(at("context", "/whoami")),
                get(at("config", "/greeting")),
                get(at("secrets", "/keys")),
                get(at("secrets", "/check?key=none")),
                get(at("http", &to("/get", &format!("{base}/thing?n=1")))),
                get(at("http", &to("/get", &self.upstream.url("/slow")))),
                get(at("http", &to("/get", &self.upstream.url("/broken")))),
                get(at("http", &to("/get", "http://example.com/"))),
                post(at("http", &to("/send", &self.upstream.url("/ok"))), r#"{"n":1}"#),
                post(at("storage", "/visits?page=about"), "{}"),
                get(at("storage", "/visits")),
                Deed { method: "DELETE", ..get(at("storage", "/visits?page=none")) },
                get(at("logging", &to("/check", &format!("{base}/up")))),
                get(at("logging", &to("/check", "http://example.com/"))),
                get(at("ui-proxy", "/tickets")),
                post(at("ui-proxy", "/tickets"), r#"{"title":"Coffee machine"}"#),
                get(at("scheduler", "/schedules")),
                post(at("scheduler", "/schedules"), r#"{"cron":"whenever"}"#),
                post(at("invoicing", "/invoices"), order.to_string()),
                get(at("clients", "/clients?search=harbor")),
                get(at("clients", "/clients?page=0")),
                get(at("services", "/services?kind=product")),
            ]);
        }
        for name in ["hello-rust", "hello-js", "billing-ts", "wasi-http-js", "wasi-http-python"] {
            self.example(name).await;
        }
        let plan = json!({ "service": seed.services[4].service_id, "rate": 25_000 });
        deeds.extend([
            get("com.longshore.hello-rust/hello"),
            get("com.longshore.hello-js/hello"),
            post("com.longshore.billing-ts/setup", plan.to_string()),
            post("com.longshore.billing-ts/run", "{}"),
        ]);
        for name in ["wasi-http-js", "wasi-http-python"] {
            let fetch = |path: &str| {
                get(format!("com.longshore.{name}/fetch?url={}", escaped(&self.upstream.url(path))))
            };
            deeds.extend([
                get(format!("com.longshore.{name}/?name=Ada+B")),
                post(format!("com.longshore.{name}/echo"), pattern(90_000)),
                fetch("/ok"),
                fetch("/slow"),
                fetch("/chunks"),
                fetch("/broken"),
                get(format!("com.longshore.{name}/fetch?url=http%3A%2F%2Fexample.com%2F")),
            ]);
        }
        deeds
    }

    async fn example(&self, name: &str) {
        let component = paths::example(name).join("dist/main.wasm");
        assert!(component.is_file(), "{} is missing: run `make examples`", component.display());
        self.install(&store::example(name), json!({})).await;
    }

    /// Waits until the traces of all runs are in the list; gives their summaries.
    async fn traces(&self, runs: &BTreeSet<String>) -> BTreeMap<String, Value> {
        wait::until("the traces of all runs", Duration::from_secs(120), async || {
            let listed = self.admin.traces(TENANT, "").await;
            let listed =
                listed.into_iter().map(|trace| (trace["execution"].as_str().unwrap().to_owned(), trace));
            let listed: BTreeMap<String, Value> =
                listed.filter(|(execution, _)| runs.contains(execution)).collect();
            if listed.len() == runs.len() {
                Ok(listed)
            } else {
                Err(format!("{} of {}", listed.len(), runs.len()))
            }
        })
        .await
    }

    /// Everything that a replay of these runs needs, in a folder.
    async fn fetch(&self, runs: impl IntoIterator<Item = &String>, folder: &Path) {
        std::fs::create_dir(folder.join("payloads")).unwrap();
        for execution in runs {
            let path = format!("/v1/tenants/{TENANT}/traces/{execution}");
            let packed = self.admin.bytes(&path).await;
            let trace = unpack(&packed).unwrap_or_else(|damage| panic!("{execution}: {damage}"));
            let bundle = folder.join(format!("{}.bundle", trace.header().run.context.content_hash.hex()));
            if !bundle.exists() {
                std::fs::write(bundle, self.admin.bytes(&format!("{path}/bundle")).await).unwrap();
            }
            for record in trace.records() {
                let payload = match &record.entry {
                    Entry::Request { body } | Entry::Response { body, .. } => body.as_ref(),
                    Entry::CallStart { args, .. } => Some(args),
                    Entry::CallEnd { result, .. } => Some(result),
                    Entry::Stream { content, .. } => Some(content),
                    _ => None,
                };
                if let Some(Payload::Stored { sha256, .. }) = payload {
                    let bytes = self.admin.bytes(&format!("{path}/payloads/{}", sha256.hex())).await;
                    std::fs::write(folder.join("payloads").join(sha256.hex()), bytes).unwrap();
                }
            }
            std::fs::write(folder.join(format!("{execution}.trace")), packed).unwrap();
        }
    }
}

/// For `big-body`, and for bodies of any kind.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n % 251) as u8).collect()
}

/// For `driver`: the same request three times, whose answers differ, with another one between.
fn fetches(url: &str) -> String {
    let fetch = json!({ "fn": "http.fetch", "args": { "method": "GET", "url": url, "headers": [] } });
    let log = json!({ "fn": "logging.log-info", "args": { "message": "between" } });
    json!({ "calls": [fetch, log, fetch, fetch] }).to_string()
}

/// A command that has no network, where this system lets anybody have a namespace without one.
fn without_network(program: &Path) -> Command {
    let permitted =
        Command::new("unshare").args(["-rn", "true"]).output().is_ok_and(|done| done.status.success());
    if !permitted {
        eprintln!("no network namespaces here: the replay could reach the network");
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.args(["-rn", "--"]).arg(program);
    command
}

/// What `replay-folder` says of each trace.
fn replayed(folder: &Path) -> BTreeMap<String, Value> {
    let program = paths::program("examples/replay-folder");
    let output = without_network(&program).arg(folder).arg(CACHE).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line["execution"].as_str().unwrap().to_owned(), line)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_runs_recorded_under_load_on_two_workers_replay_bit_for_bit_without_a_network() {
    let world = Arc::new(World::start().await);
    let deeds = world.deeds().await;
    let wanted = std::env::var("LONGSHORE_REPLAY_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(RUNS);
    let round: Vec<&Deed> = deeds.iter().flat_map(|deed| std::iter::repeat_n(deed, deed.weight)).collect();
    let calls = round.iter().cycle().take(wanted.max(round.len())).map(|deed| (*deed).clone());
    let made: Vec<(Deed, (String, u16, Bytes))> = futures::stream::iter(calls)
        .map(|deed| {
            let world = Arc::clone(&world);
            async move {
                let answer = world.call(&deed).await;
                (deed, answer)
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let by_execution: BTreeMap<&String, &Deed> = made.iter().map(|(deed, (id, ..))| (id, deed)).collect();
    let good = made.iter().filter(|(_, (_, status, _))| *status == 200).count();
    assert!(good * 2 > made.len(), "{good} of {} calls were answered 200", made.len());
    // Neither the gateway nor a full worker refused any: every call is a run.
    let refused: Vec<_> = made.iter().filter(|(_, (_, status, _))| *status == 429).collect();
    assert!(refused.is_empty(), "{refused:?}");

    let runs: BTreeSet<String> = made.iter().map(|(_, (execution, ..))| execution.clone()).collect();
    let traces = world.traces(&runs).await;
    let unreplayable: Vec<_> = traces.values().filter(|trace| trace["replayable"] != true).collect();
    assert!(
        unreplayable.is_empty(),
        "{} runs cannot be replayed: {:#?}",
        unreplayable.len(),
        unreplayable.first()
    );
    let folder = tempfile::tempdir().unwrap();
    world.fetch(traces.keys(), folder.path()).await;
    let world = Arc::try_unwrap(world).ok().expect("all calls have been answered");
    // Nothing of the fleet is left, either.
    drop(world);

    let reports = replayed(folder.path());
    assert_eq!(reports.len(), runs.len());
    let verdict = |report: &Value| report["report"]["verdict"].as_str().unwrap_or("error").to_owned();
    let (mut verdicts, mut wrong) =
        (BTreeMap::<String, usize>::new(), BTreeMap::<&str, (usize, &Value)>::new());
    let mut dependent = BTreeMap::<&str, (usize, &Value)>::new();
    for (execution, report) in &reports {
        *verdicts.entry(verdict(report)).or_default() += 1;
        if verdict(report) == "secret_dependent" {
            dependent.entry(by_execution[execution].path.as_str()).or_insert((0, report)).0 += 1;
        } else if verdict(report) != "identical" {
            let path = by_execution[execution].path.as_str();
            wrong.entry(path).or_insert((0, report)).0 += 1;
        }
    }
    let shown = |of: &BTreeMap<&str, (usize, &Value)>| {
        let one = |(path, (count, report)): (&&str, &(usize, &Value))| {
            let text = report["text"].as_str().or_else(|| report["error"].as_str()).unwrap_or_default();
            let end = text.floor_char_boundary(text.len().min(1_500));
            format!("{count} of {path}: {}", &text[..end])
        };
        of.iter().map(one).collect::<Vec<_>>().join("\n\n")
    };
    assert!(wrong.is_empty(), "{verdicts:?}:\n{}", shown(&wrong));
    // What these guests do with their secrets is to hand them on, in forms that tokens have, too.
    assert!(dependent.is_empty(), "{verdicts:?}:\n{}", shown(&dependent));
    assert_eq!(verdicts.get("identical"), Some(&runs.len()), "{verdicts:?}");
}

/// One recorded run, exported.
struct Export {
    world: World,
    shell: Shell,
    execution: String,
    file: PathBuf,
}

impl Export {
    /// Of `driver`, which fetches from this path of the upstream.
    async fn start(path: &str) -> Self {
        let world = World::start().await;
        world.guest("driver", "driver", json!({})).await;
        let body = fetches(&world.upstream.url(path));
        Self::of(world, post("com.longshore.test.driver/", body)).await
    }

    /// Of this call.
    async fn of(world: World, deed: Deed) -> Self {
        let (execution, status, _) = world.call(&deed).await;
        assert_eq!(status, 200);
        world.traces(&BTreeSet::from([execution.clone()])).await;
        let mut shell = Shell::new(&world.admin, &world.gateway, TENANT);
        shell.set("XDG_CACHE_HOME", CACHE);
        let file = shell.folder().join("run.lstrace");
        shell.ok(&["export", &execution, "-o", file.to_str().unwrap()]);
        Self { world, shell, execution, file }
    }

    /// `longshore replay` of a file, where there is no network and no fleet is known.
    fn replay(&self, file: &Path, args: &[&str]) -> Said {
        self.replay_with(file, args, "")
    }

    /// The same, with somebody who types this.
    fn replay_with(&self, file: &Path, args: &[&str], typed: &str) -> Said {
        let mut command = without_network(&paths::program("longshore"));
        let mut process = command
            .arg("replay")
            .arg(file)
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.shell.folder())
            .env("XDG_CACHE_HOME", CACHE)
            .current_dir(self.shell.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Who has ended does not read any more.
        let _ = process.stdin.take().unwrap().write_all(typed.as_bytes());
        let output = process.wait_with_output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let all = format!("{stdout}{}", String::from_utf8_lossy(&output.stderr));
        let json = serde_json::from_str(&stdout).unwrap_or(Value::Null);
        Said { code: output.status.code().unwrap(), json, stdout, all }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_exported_replayed_elsewhere_changed_and_imported_again() {
    let export = Export::start("/ok").await;
    let said = export.replay(&export.file, &[]);
    assert!(said.code == 0 && said.all.contains("identical"), "{}", said.all);
    let said = export.replay(&export.file, &["--json"]);
    assert_eq!((said.code, said.json["verdict"].as_str()), (0, Some("identical")), "{}", said.all);
    // By its name, through the admin service.
    let by_name = export.shell.longshore(&["replay", &export.execution]);
    assert_eq!((by_name.code, by_name.json["verdict"].as_str()), (0, Some("identical")), "{}", by_name.all);

    // Another bundle: this guest says another thing and makes none of the calls.
    let other = export.shell.folder().join("other.tar.zst");
    let bundle = store::extension("driver", "count", "2.0.0", &EVERYTHING, &["POST /"]);
    std::fs::write(&other, bundle).unwrap();
    let said = export.replay(&export.file, &["--bundle", other.to_str().unwrap(), "--json"]);
    assert_eq!((said.code, said.json["verdict"].as_str()), (1, Some("diverged")), "{}", said.all);
    assert!(said.json["divergences"][0]["class"].is_string(), "{}", said.all);

    // What if the first call had failed?
    let said = export.replay(&export.file, &["--override", "0=error:transport", "--json"]);
    assert_eq!((said.code, said.json["verdict"].as_str()), (1, Some("diverged")), "{}", said.all);

    // Somebody's name is enough for nothing, and somebody's file that is none neither.
    assert_eq!(export.replay(Path::new("/no/such/file.lstrace"), &[]).code, 2);
    assert_eq!(export.shell.longshore(&["replay", &"0".repeat(32)]).code, 2);

    // It goes away with its tenant, and comes back with its file.
    let traces = format!("/v1/tenants/{TENANT}/traces/{}", export.execution);
    export.world.admin.ok("POST", &format!("/v1/tenants/{TENANT}/purge"), json!({ "confirm": TENANT })).await;
    assert_eq!(export.world.admin.send("GET", &traces, "application/json", "").await.0, 404);
    export.shell.ok(&["import", export.file.to_str().unwrap()]);
    unpack(&export.world.admin.bytes(&traces).await).unwrap();
    assert_eq!(export.shell.longshore(&["replay", &export.execution]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_runs_are_verified_and_a_corpus_is_replayed_against_a_candidate() {
    let export = Export::start("/ok").await;
    for n in 0..5 {
        let body = json!({ "calls": [{ "fn": "logging.log-info", "args": { "message": format!("{n}") } }] });
        export.world.call(&post("com.longshore.test.driver/", body.to_string())).await;
    }
    wait::until("six traces", wait::LIMIT, async || {
        let count = export.world.admin.traces(TENANT, "").await.len();
        if count == 6 { Ok(()) } else { Err(count) }
    })
    .await;
    let said = export.shell.longshore(&["verify-replay", "--newest", "6", "--min-share", "100%"]);
    assert_eq!(said.code, 0, "{}", said.all);
    let junit = export.shell.folder().join("report.xml");
    let same = export.shell.folder().join("same.tar.zst");
    std::fs::write(&same, store::extension("driver", "driver", "1.0.0", &EVERYTHING, &["GET /", "POST /"]))
        .unwrap();
    let corpus = |bundle: &Path| {
        let args =
            ["replay", "--corpus", "--bundle", bundle.to_str().unwrap(), "--junit", junit.to_str().unwrap()];
        export.shell.longshore(&args)
    };
    let said = corpus(&same);
    assert_eq!(said.code, 0, "{}", said.all);
    let xml = std::fs::read_to_string(&junit).unwrap();
    assert!(xml.contains("tests=\"6\"") && xml.contains("failures=\"0\""), "{xml}");
    let other = export.shell.folder().join("other.tar.zst");
    std::fs::write(&other, store::extension("driver", "count", "2.0.0", &EVERYTHING, &["POST /"])).unwrap();
    let said = corpus(&other);
    assert_eq!(said.code, 1, "{}", said.all);
    assert!(std::fs::read_to_string(&junit).unwrap().contains("failures=\"6\""));
}

/// The parts of an exported run, to be damaged.
#[derive(Clone)]
struct Parts {
    trace: Bytes,
    payloads: BTreeMap<String, Vec<u8>>,
    bundle: Option<Bytes>,
}

impl Parts {
    fn of(file: &Path) -> Self {
        let (exported, _) = longshore_trace::file::read(std::fs::File::open(file).unwrap()).unwrap();
        let payloads = exported.payloads.into_iter().map(|(digest, bytes)| (digest.hex(), bytes.to_vec()));
        Self { trace: exported.trace, payloads: payloads.collect(), bundle: exported.bundle }
    }

    fn write(&self, file: &Path) {
        let mut tar = tar::Builder::new(std::fs::File::create(file).unwrap());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, bytes).unwrap();
        };
        add("trace", &self.trace);
        for (digest, bytes) in &self.payloads {
            add(&format!("payloads/{digest}"), bytes);
        }
        if let Some(bundle) = &self.bundle {
            add("bundle.tar.zst", bundle);
        }
        tar.finish().unwrap();
    }

    fn with_trace(&self, trace: impl Into<Bytes>) -> Self {
        Self { trace: trace.into(), ..self.clone() }
    }

    /// The records after `change`, packed as if nothing had happened.
    fn with_records(&self, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Self {
        let opened = container::open(&self.trace, container::MAX_UNPACKED_BYTES).unwrap();
        let mut records: Vec<Vec<u8>> =
            container::split(&opened.frame).unwrap().into_iter().map(<[u8]>::to_vec).collect();
        change(&mut records);
        let frame: Vec<u8> = records
            .iter()
            .flat_map(|record| {
                [&u32::try_from(record.len()).unwrap().to_le_bytes(), record.as_slice()].concat()
            })
            .collect();
        self.with_trace(container::seal(opened.version, &frame).unwrap())
    }

    /// The same with decoded records: numbers and the rolling hash are made right again, so that only `change` is wrong.
    fn with_entries(&self, change: impl FnOnce(&mut Vec<Entry>)) -> Self {
        self.with_records(|records| {
            let decoded = records.iter().map(|record| wire::decode::<Record>(record).unwrap().entry);
            let mut entries: Vec<Entry> = decoded.collect();
            change(&mut entries);
            let mut all: Vec<Vec<u8>> = Vec::new();
            for (seq, mut entry) in entries.into_iter().enumerate() {
                let seq = u32::try_from(seq).unwrap();
                if let Entry::Trailer(trailer) = &mut entry {
                    trailer.hash = container::rolling(all.iter().map(Vec::as_slice));
                    trailer.records = seq;
                }
                all.push(wire::encode(&Record { seq, at_us: u64::from(seq), entry }).unwrap().to_vec());
            }
            *records = all;
        })
    }
}

fn place(entries: &[Entry], is: impl Fn(&Entry) -> bool) -> usize {
    entries.iter().position(is).unwrap()
}

fn is_start(entry: &Entry) -> bool {
    matches!(entry, Entry::CallStart { .. })
}

fn is_end(entry: &Entry) -> bool {
    matches!(entry, Entry::CallEnd { .. })
}

/// How a file is damaged, what it then is, and a word of the reason that must be given.
fn damages(good: &Parts, other: &Parts) -> Vec<(&'static str, Parts, &'static str)> {
    let bytes = good.trace.to_vec();
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        good.with_trace(bytes)
    };
    let future = {
        let mut bytes = bytes.clone();
        bytes[8] = 2;
        good.with_trace(bytes)
    };
    let payloads = |change: fn(&mut Vec<u8>)| {
        let mut parts = good.clone();
        parts.payloads.values_mut().for_each(change);
        parts
    };
    let foreign_records = {
        let opened = container::open(&other.trace, container::MAX_UNPACKED_BYTES).unwrap();
        container::split(&opened.frame).unwrap().into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    vec![
        ("no trace in it", good.with_trace(Bytes::new()), ""),
        ("other bytes", good.with_trace("{\"hello\": 1}"), "no trace"),
        ("the last byte missing", good.with_trace(bytes[..bytes.len() - 1].to_vec()), "truncated"),
        ("half of it", good.with_trace(bytes[..bytes.len() / 2].to_vec()), "truncated"),
        ("one byte more", good.with_trace([bytes.as_slice(), b"x"].concat()), "follow"),
        ("two of them", good.with_trace([bytes.as_slice(), bytes.as_slice()].concat()), "joined"),
        ("one bit in the middle", flipped(bytes.len() / 2), "digest"),
        ("one bit of the digest", flipped(bytes.len() - 1), "digest"),
        ("a future schema", future, "schema version 2"),
        ("a gap", good.with_records(|records| drop(records.remove(4))), "missing"),
        ("a swap", good.with_records(|records| records.swap(3, 5)), "out of order"),
        ("a double", good.with_records(|records| records.insert(4, records[3].clone())), "twice"),
        (
            "a record of another run",
            good.with_records(|records| records[4].clone_from(&foreign_records[4])),
            "rolling hash",
        ),
        ("no header", good.with_entries(|entries| drop(entries.remove(0))), "header"),
        ("no request", good.with_entries(|entries| drop(entries.remove(1))), "request"),
        ("no trailer", good.with_entries(|entries| drop(entries.pop())), "trailer"),
        (
            "an end without its start",
            good.with_entries(|entries| drop(entries.remove(place(entries, is_start)))),
            "host call",
        ),
        (
            "a call that ends twice",
            good.with_entries(|entries| {
                let end = place(entries, is_end);
                entries.insert(end, entries[end].clone());
            }),
            "ends twice",
        ),
        ("no record can be read", good.with_records(|records| records[2] = b"no record".to_vec()), "decoded"),
        ("a payload missing", Parts { payloads: BTreeMap::new(), ..good.clone() }, "payload"),
        ("a truncated payload", payloads(|bytes| bytes.truncate(100)), "payload"),
        ("a changed payload", payloads(|bytes| bytes[7] ^= 1), "payload"),
        ("another bundle", Parts { bundle: other.bundle.clone(), ..good.clone() }, "bundle"),
        ("no bundle", Parts { bundle: None, ..good.clone() }, "bundle"),
        (
            "a header of another component",
            good.with_entries(|entries| {
                let Some(Entry::Header(header)) = entries.first_mut() else { unreachable!("a header") };
                header.component = longshore_proto::ContentHash::from_bytes([7; 32]);
            }),
            "component",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_is_damaged_in_any_of_twenty_ways_is_refused_with_the_reason() {
    let export = Export::start("/big").await;
    let good = Parts::of(&export.file);
    assert!(!good.payloads.is_empty(), "an answer of 160 kB is no part of a record");
    // A run of another guest, in a file of its own.
    export.world.guest("other", "hostcalls", json!({})).await;
    let (other, ..) = export.world.call(&get("com.longshore.test.other/?only=context,logging,user")).await;
    export.world.traces(&BTreeSet::from([other.clone()])).await;
    let file = export.shell.folder().join("other.lstrace");
    export.shell.ok(&["export", &other, "-o", file.to_str().unwrap()]);
    let other_parts = Parts::of(&file);

    let said = export.replay(&export.file, &[]);
    assert_eq!(said.code, 0, "undamaged: {}", said.all);
    let damaged = export.shell.folder().join("damaged.lstrace");
    good.write(&damaged);
    let said = export.replay(&damaged, &[]);
    assert_eq!(said.code, 0, "taken apart and put together again: {}", said.all);

    let mut wrong = Vec::new();
    let all = damages(&good, &other_parts);
    assert!(all.len() >= 20);
    for (name, parts, reason) in &all {
        parts.write(&damaged);
        let said = export.replay(&damaged, &[]);
        if said.code != 2 || !said.all.to_lowercase().contains(reason) || said.all.contains("identical") {
            wrong.push(format!("{name}: {} without {reason:?}: {}", said.code, said.all));
        }
        assert!(!said.all.contains("panicked"), "{name}: {}", said.all);
    }
    for (name, bytes) in [
        ("an empty file", Vec::new()),
        ("a text", b"what somebody has written".to_vec()),
        ("half a file", std::fs::read(&export.file).unwrap()[..700].to_vec()),
    ] {
        std::fs::write(&damaged, bytes).unwrap();
        let said = export.replay(&damaged, &[]);
        if said.code != 2 {
            wrong.push(format!("{name}: {}: {}", said.code, said.all));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len() + 3, wrong.join("\n"));

    // In Redis: entries that are gone, and a stream that is. Runs that were not fetched before: those are kept where the command runs.
    let quick = || get("com.longshore.test.other/?only=context");
    let (trimmed, ..) = export.world.call(&quick()).await;
    export.world.traces(&BTreeSet::from([trimmed.clone()])).await;
    let (last, ..) = export.world.call(&quick()).await;
    export.world.traces(&BTreeSet::from([last.clone()])).await;
    let stream = format!("longshore-trace:t:{{{TENANT}}}");
    export.world.stack.redis.command(&["XTRIM", &stream, "MAXLEN", "1"]).await;
    for (what, execution) in [("a trimmed stream", &trimmed), ("a stream that is gone", &last)] {
        let said = export.shell.longshore(&["replay", execution]);
        assert_eq!(said.code, 2, "{what}: {}", said.all);
        export.world.stack.redis.command(&["DEL", &stream]).await;
    }
}
