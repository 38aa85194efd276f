//! The debug publisher and a real Redis server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: what goes wrong in them fails the test"
)]

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_proto::event::{Data, DebugEvent, Kind, Level, Origin, Stream};
use longshore_proto::{ContentHash, ExecutionId};
use longshore_service::config::Environment;
use longshore_service::config::Strings as _;
use longshore_service::lifecycle::Tasks;
use longshore_service::metrics::Metrics;
use longshore_worker::debug::{DebugConfig, DebugMetrics, Publisher};
use longshore_worker::events::EventSink as _;
use redis::aio::MultiplexedConnection;

/// Longer than anything takes that works: backoff included.
const PATIENCE: Duration = Duration::from_secs(30);

fn redis_server() -> PathBuf {
    let env = Environment::snapshot();
    let named = env.get("REDIS_SERVER_BIN").map(PathBuf::from);
    let path = env.get("PATH").unwrap_or_default();
    let on_path =
        || std::env::split_paths(&path).map(|dir| dir.join("redis-server")).find(|file| file.is_file());
    named
        .or_else(on_path)
        .expect("redis-server is not on PATH and REDIS_SERVER_BIN is unset: run `make setup`")
}

/// A server on a free port, gone with this value.
struct Server {
    port: u16,
    password: Option<&'static str>,
    child: Option<Child>,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start(password: Option<&'static str>) -> Self {
        // Free now; nobody else takes a port of this range in the moment until Redis has it.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut server = Self { port, password, child: None, _dir: tempfile::tempdir().unwrap() };
        server.up().await;
        server
    }

    async fn up(&mut self) {
        let mut command = Command::new(redis_server());
        command.args([
            "--port",
            &self.port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.arg("--dir").arg(self._dir.path());
        if let Some(password) = self.password {
            command.args(["--requirepass", password]);
        }
        self.child = Some(command.stdout(Stdio::null()).spawn().unwrap());
        self.connection().await;
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn connection(&self) -> MultiplexedConnection {
        let url = match self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => self.url(),
        };
        let client = redis::Client::open(url).unwrap();
        until(async || client.get_multiplexed_async_connection().await.ok()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks until there is something.
async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "it does not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Worker {
    publisher: Publisher,
    metrics: Metrics,
    _tasks: Tasks,
}

fn publisher(url: &str, settings: &[(&str, &str)]) -> Worker {
    let mut env: BTreeMap<String, String> =
        settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    env.insert("RUNNER_DEBUG_REDIS_URL".into(), url.into());
    let config = DebugConfig::load(&env, ["worker".to_owned()]).unwrap();
    let (metrics, tasks) = (Metrics::new("worker"), Tasks::new());
    let publisher = Publisher::start(&config, DebugMetrics::register(&metrics), &tasks).unwrap();
    Worker { publisher, metrics, _tasks: tasks }
}

impl Worker {
    fn value(&self, name: &str) -> u64 {
        let page = self.metrics.render().unwrap();
        let line = page.lines().find(|line| line.split(' ').next() == Some(name)).expect(name).to_owned();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn event(tenant: &str, message: impl Into<String>) -> DebugEvent {
    DebugEvent {
        origin: Some(Arc::new(Origin {
            tenant: tenant.parse().unwrap(),
            extension: "Ext-1".parse().unwrap(),
            install: Some("i-1".into()),
            request: None,
            version: Some("v-1".into()),
            content_hash: ContentHash::from_bytes([0xab; 32]),
            execution: ExecutionId::from_bytes([2; 16]),
            attempt: 1,
        })),
        at_ms: 1_793_361_600_123,
        level: Level::Warn,
        stream: Stream::Stderr,
        kind: Kind::Stderr,
        message: message.into(),
        truncated: false,
        data: None,
    }
}

type Entries = Vec<(String, Vec<(String, String)>)>;

async fn entries(connection: &mut MultiplexedConnection, key: &str) -> Vec<HashMap<String, String>> {
    let entries: Entries =
        redis::cmd("XRANGE").arg(key).arg("-").arg("+").query_async(connection).await.unwrap();
    entries.into_iter().map(|(_, fields)| fields.into_iter().collect()).collect()
}

async fn messages(connection: &mut MultiplexedConnection, key: &str) -> Vec<String> {
    entries(connection, key).await.into_iter().map(|mut e| e.remove("message").unwrap()).collect()
}

#[tokio::test]
async fn an_event_has_the_fields_that_the_consumer_reads_under_the_key_that_it_reads() {
    let server = Server::start(None).await;
    let worker = publisher(&server.url(), &[("RUNNER_DEBUG_MAX_EVENT_BYTES", "256")]);
    let mut long = event("Tenant-A", "é".repeat(200));
    long.data = Data::of(&serde_json::json!({"n": 1}));
    worker.publisher.emit(event("Tenant-A", "first"));
    worker.publisher.emit(long);
    let mut redis = server.connection().await;
    let key = "ext-debug:tenant-a:ext-1";
    let got = until(async || Some(entries(&mut redis, key).await).filter(|e| e.len() == 2)).await;
    let expected = [
        ("ts", "2026-10-30T12:00:00.123Z"),
        ("level", "warn"),
        ("stream", "stderr"),
        ("kind", "stderr"),
        ("tenant", "Tenant-A"),
        ("extension", "Ext-1"),
        ("install", "i-1"),
        ("version", "v-1"),
        ("execution", "02020202020202020202020202020202"),
        ("attempt", "1"),
        ("message", "first"),
        ("truncated", "0"),
    ];
    for (name, value) in expected {
        assert_eq!(got[0].get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(got[0]["content_hash"].ends_with(&"ab".repeat(32)));
    assert!(!got[0].contains_key("request") && !got[0].contains_key("data"), "unknown ones are left out");
    // 256 bytes less those of the data, at a character's boundary.
    assert_eq!(
        (got[1]["message"].len(), got[1]["truncated"].as_str(), got[1]["data"].as_str()),
        (248, "1", r#"{"n":1}"#)
    );
    let ttl: i64 = redis::cmd("TTL").arg(key).query_async(&mut redis).await.unwrap();
    assert!((7 * 86_400 - 60..=7 * 86_400).contains(&ttl), "{ttl}");
    let firehose: bool = redis::cmd("EXISTS").arg("ext-debug").query_async(&mut redis).await.unwrap();
    assert!(!firehose, "off unless asked for");
    assert_eq!(worker.value("longshore_worker_debug_published_total"), 2);
    assert_eq!(worker.value("longshore_worker_debug_connected"), 1);
}

#[tokio::test]
async fn the_host_calls_of_a_run_share_an_entry_and_each_counts_as_published() {
    let server = Server::start(None).await;
    let worker = publisher(&server.url(), &[]);
    let first = event("a", "storage.get ok");
    let call = |name: &str| DebugEvent {
        kind: Kind::HostCall,
        stream: Stream::Log,
        message: format!("{name} ok"),
        data: Data::of(&serde_json::json!({ "args": [name] })),
        ..first.clone()
    };
    let run = worker.publisher.for_run().unwrap();
    for name in ["storage.get", "storage.put", "http.fetch"] {
        run.emit(call(name));
    }
    run.emit(event("a", "after"));
    let mut redis = server.connection().await;
    let got =
        until(async || Some(entries(&mut redis, "ext-debug:a:ext-1").await).filter(|e| e.len() == 2)).await;
    assert_eq!(got[0]["message"], "storage.get ok\nstorage.put ok\nhttp.fetch ok");
    assert_eq!(got[0]["data"], r#"{"name":"storage.get","outcome":"ok","args":["storage.get"]}"#);
    let more: serde_json::Value = serde_json::from_str(&got[0]["more"]).unwrap();
    let call = |name| serde_json::json!({ "data": { "args": [name] } });
    assert_eq!(more, serde_json::json!([call("storage.put"), call("http.fetch")]));
    assert_eq!(got[1]["message"], "after");
    assert_eq!(worker.value("longshore_worker_debug_published_total"), 4);
}

#[tokio::test]
async fn the_firehose_has_every_event_and_both_streams_keep_their_length() {
    let server = Server::start(None).await;
    let settings = [
        ("RUNNER_DEBUG_REDIS_STREAM_PREFIX", "ext:debug"),
        ("LONGSHORE_DEBUG_FIREHOSE", "true"),
        ("RUNNER_DEBUG_REDIS_MAXLEN", "100"),
        ("LONGSHORE_DEBUG_FIREHOSE_MAXLEN", "500"),
    ];
    let worker = publisher(&server.url(), &settings);
    let mut redis = server.connection().await;
    for n in 0..10 {
        worker.publisher.emit(event(if n % 2 == 0 { "a" } else { "b" }, n.to_string()));
    }
    let all = until(async || Some(messages(&mut redis, "ext:debug").await).filter(|m| m.len() == 10)).await;
    assert_eq!(all, (0..10).map(|n| n.to_string()).collect::<Vec<_>>(), "in order");
    assert_eq!(messages(&mut redis, "ext:debuga:ext-1").await, ["0", "2", "4", "6", "8"]);
    for n in 10..2_000 {
        worker.publisher.emit(event("a", n.to_string()));
    }
    until(async || (worker.value("longshore_worker_debug_published_total") == 2_000).then_some(())).await;
    // Redis cuts by whole nodes of 100 entries.
    for (key, least, most) in [("ext:debuga:ext-1", 100, 300), ("ext:debug", 500, 700)] {
        let len: u64 = redis::cmd("XLEN").arg(key).query_async(&mut redis).await.unwrap();
        assert!((least..=most).contains(&len), "{key}: {len}");
        let ttl: i64 = redis::cmd("TTL").arg(key).query_async(&mut redis).await.unwrap();
        assert!(ttl > 0, "{key}");
    }
}

#[tokio::test]
async fn emitting_never_waits_while_redis_is_down_and_the_loss_is_announced_when_it_is_back() {
    let mut server = Server::start(None).await;
    let worker = publisher(&server.url(), &[("LONGSHORE_DEBUG_QUEUE_EVENTS", "50")]);
    let mut redis = server.connection().await;
    let key = "ext-debug:a:ext-1";
    worker.publisher.emit(event("a", "before"));
    until(async || (messages(&mut redis, key).await == ["before"]).then_some(())).await;

    server.kill();
    until(async || (worker.value("longshore_worker_debug_connected") == 0).then_some(())).await;
    let started = Instant::now();
    for n in 0..10_000 {
        worker.publisher.emit(event("a", format!("{n} {}", "x".repeat(1_000))));
    }
    worker.publisher.emit(event("b", "lost"));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(worker.value("longshore_worker_debug_queue_events"), 50);
    assert!(worker.value("longshore_worker_debug_queue_bytes") < 100_000);
    assert_eq!(worker.value("longshore_worker_debug_dropped_total"), 9_951);

    server.up().await;
    let mut redis = server.connection().await;
    let got = until(async || Some(entries(&mut redis, key).await).filter(|e| e.len() == 51)).await;
    assert!(got[0]["message"].starts_with("0 ") && got[49]["message"].starts_with("49 "));
    assert_eq!((got[50]["kind"].as_str(), got[50]["stream"].as_str()), ("dropped", "log"));
    assert_eq!(got[50]["data"], r#"{"count":9950}"#);
    let other =
        until(async || Some(entries(&mut redis, "ext-debug:b:ext-1").await).filter(|e| !e.is_empty())).await;
    assert_eq!((other[0]["kind"].as_str(), other[0]["data"].as_str()), ("dropped", r#"{"count":1}"#));
    worker.publisher.emit(event("a", "after"));
    until(async || (messages(&mut redis, key).await.last()?.as_str() == "after").then_some(())).await;
}

#[tokio::test]
async fn a_server_that_was_down_at_the_start_is_found_later() {
    let mut server = Server::start(None).await;
    server.kill();
    let worker = publisher(&server.url(), &[]);
    worker.publisher.emit(event("a", "early"));
    server.up().await;
    let mut redis = server.connection().await;
    until(async || (messages(&mut redis, "ext-debug:a:ext-1").await == ["early"]).then_some(())).await;
}

#[tokio::test]
async fn the_password_is_used_and_a_wrong_one_harms_nobody() {
    let server = Server::start(Some("s3cret")).await;
    let right = publisher(&server.url(), &[("RUNNER_DEBUG_REDIS_PASSWORD", "s3cret")]);
    let wrong = publisher(&server.url(), &[("RUNNER_DEBUG_REDIS_PASSWORD", "guess")]);
    wrong.publisher.emit(event("b", "x"));
    right.publisher.emit(event("a", "x"));
    let mut redis = server.connection().await;
    until(async || (messages(&mut redis, "ext-debug:a:ext-1").await == ["x"]).then_some(())).await;
    assert_eq!(wrong.value("longshore_worker_debug_connected"), 0);
    assert_eq!(wrong.value("longshore_worker_debug_queue_events"), 1, "it waits for a better password");
}

#[tokio::test]
async fn a_key_that_holds_something_else_costs_its_own_events_only() {
    let server = Server::start(None).await;
    let mut redis = server.connection().await;
    let () = redis::cmd("SET").arg("ext-debug:bad:ext-1").arg("x").query_async(&mut redis).await.unwrap();
    let worker = publisher(&server.url(), &[]);
    for n in 0..3 {
        worker.publisher.emit(event("bad", n.to_string()));
        worker.publisher.emit(event("a", n.to_string()));
    }
    until(async || (messages(&mut redis, "ext-debug:a:ext-1").await == ["0", "1", "2"]).then_some(())).await;
    until(async || (worker.value("longshore_worker_debug_dropped_total") == 3).then_some(())).await;
    assert_eq!(worker.value("longshore_worker_debug_connected"), 1);
}

#[tokio::test]
async fn a_server_that_takes_nothing_is_waited_for() {
    let server = Server::start(None).await;
    let mut redis = server.connection().await;
    let set = async |redis: &mut MultiplexedConnection, value: &str| {
        let () =
            redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(value).query_async(redis).await.unwrap();
    };
    set(&mut redis, "1").await;
    let worker = publisher(&server.url(), &[]);
    worker.publisher.emit(event("a", "refused"));
    until(async || (worker.value("longshore_worker_debug_dropped_total") == 1).then_some(())).await;
    set(&mut redis, "0").await;
    let got =
        until(async || Some(entries(&mut redis, "ext-debug:a:ext-1").await).filter(|e| !e.is_empty())).await;
    assert_eq!((got.len(), got[0]["kind"].as_str()), (1, "dropped"));
}

#[tokio::test]
async fn closing_writes_what_waits_and_does_not_wait_for_a_dead_server() {
    let mut server = Server::start(None).await;
    let worker = publisher(&server.url(), &[]);
    for n in 0..1_000 {
        worker.publisher.emit(event("a", n.to_string()));
    }
    worker.publisher.close(PATIENCE).await;
    let mut redis = server.connection().await;
    assert_eq!(messages(&mut redis, "ext-debug:a:ext-1").await.len(), 1_000);

    server.kill();
    let worker = publisher(&server.url(), &[]);
    worker.publisher.emit(event("a", "left behind"));
    let started = Instant::now();
    worker.publisher.close(Duration::from_millis(300)).await;
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn without_an_address_events_go_nowhere() {
    let config = DebugConfig::load(&BTreeMap::<String, String>::new(), ["worker".to_owned()]).unwrap();
    let publisher = Publisher::start(&config, DebugMetrics::default(), &Tasks::new()).unwrap();
    publisher.emit(event("a", "x"));
    publisher.close(PATIENCE).await;
}
