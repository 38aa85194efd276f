//! The connection against a real server that comes late, goes and comes back.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::StreamExt;
use longshore_service::config::NatsConfig;
use longshore_service::metrics::Metrics;
use longshore_service::nats::{NatsMetrics, Options, RoundTripError, Watcher, connect, round_trip};
use longshore_service::readiness::Readiness;

/// For everything that should take milliseconds; generous, since tests share the machine.
const LIMIT: Duration = Duration::from_secs(20);

struct Server {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    /// A port that was free a moment ago: the client must know it before the server is up.
    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn start(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nats.conf");
        let users = r#"authorization { users = [
            { user: worker, password: right, permissions: { publish: "fleet.>", subscribe: ["fleet.>", "exec.>"] } }
            { user: caller, password: right, permissions: { publish: "exec.>", subscribe: "_R.caller.>" } }
        ] }"#;
        std::fs::write(&config, format!("listen: \"127.0.0.1:{port}\"\nping_interval: \"1s\"\n{users}"))
            .unwrap();
        Self { process: Self::spawn(&config), port, folder }
    }

    fn spawn(config: &std::path::Path) -> Child {
        let binary =
            std::env::var_os("NATS_SERVER_BIN").map_or_else(|| PathBuf::from("nats-server"), PathBuf::from);
        let child =
            Command::new(&binary).arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.unwrap_or_else(|error| {
            panic!("{}: {error}: this test needs nats-server on PATH or in NATS_SERVER_BIN; `make setup` installs it", binary.display())
        })
    }

    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.process = Self::spawn(&self.folder.path().join("nats.conf"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn config(port: u16, user: &str, password: &str) -> NatsConfig {
    let env = BTreeMap::from(
        [
            ("NATS_URL", format!("127.0.0.1:{port}")),
            ("NATS_USER", user.to_owned()),
            ("NATS_PASSWORD", password.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    NatsConfig::load(&env, ["test".to_owned()]).unwrap()
}

async fn until(watcher: &Watcher, wanted: impl FnMut(&longshore_service::nats::LinkState) -> bool) {
    let mut receiver = watcher.receiver();
    tokio::time::timeout(LIMIT, receiver.wait_for(wanted)).await.expect("in time").expect("the client lives");
}

async fn connected(watcher: &Watcher, generation: u64) {
    let state =
        tokio::time::timeout(LIMIT, watcher.clone().connected(generation)).await.expect("in time").unwrap();
    assert_eq!(state.generation, generation);
}

#[tokio::test]
async fn a_server_that_comes_late_is_waited_for_and_a_restart_is_survived() {
    let port = Server::free_port();
    let metrics = Metrics::new("worker");
    let options = Options { metrics: Some(NatsMetrics::register(&metrics)), ..Options::default() };
    let (client, watcher) = connect("worker", &config(port, "worker", "right"), options).await.unwrap();
    let readiness = Readiness::new();
    tokio::spawn(watcher.clone().report_to(readiness.condition("nats")));
    // Not there yet: the state says why.
    until(&watcher, |state| state.problem.is_some()).await;
    assert!(!watcher.is_connected() && watcher.state().generation == 0 && !readiness.is_ready());

    let mut server = Server::start(port);
    connected(&watcher, 1).await;
    tokio::time::timeout(LIMIT, readiness.ready()).await.unwrap();
    let mut fleet = client.subscribe("fleet.default.x").await.unwrap();
    round_trip(&client, "fleet.sync.a", LIMIT).await.unwrap();

    for generation in 2..=3 {
        server.stop();
        until(&watcher, |state| !state.connected).await;
        server.start_again();
        connected(&watcher, generation).await;
        // The subscription made before the restart is there again.
        round_trip(&client, "fleet.sync.a", LIMIT).await.unwrap();
        client.publish("fleet.default.x", "hello".into()).await.unwrap();
        let message = tokio::time::timeout(LIMIT, fleet.next()).await.unwrap().unwrap();
        assert_eq!(&message.payload[..], b"hello");
    }
    let page = metrics.render().unwrap();
    assert!(page.contains("longshore_nats_connects_total{connection=\"worker\"} 3"), "{page}");
    assert!(page.contains("longshore_nats_connected{connection=\"worker\"} 1"), "{page}");
}

#[tokio::test]
async fn a_refused_login_is_named_and_tried_again() {
    let server = Server::start(Server::free_port());
    let (_client, watcher) =
        connect("worker", &config(server.port, "worker", "wrong"), Options::default()).await.unwrap();
    until(&watcher, |state| state.problem.as_deref() == Some("NATS refuses user worker")).await;
    assert!(!watcher.is_connected());
}

#[tokio::test]
async fn there_is_no_round_trip_without_permission_or_connection() {
    let mut server = Server::start(Server::free_port());
    let (client, watcher) =
        connect("caller", &config(server.port, "caller", "right"), Options::default()).await.unwrap();
    connected(&watcher, 1).await;
    let limit = Duration::from_millis(300);
    let error = round_trip(&client, "fleet.sync.a", limit).await.unwrap_err();
    assert!(matches!(error, RoundTripError::Timeout(..)), "{error}");
    assert!(watcher.is_connected(), "a refused subject costs no connection");
    server.stop();
    until(&watcher, |state| !state.connected).await;
    round_trip(&client, "exec.a", limit).await.unwrap_err();
}

#[tokio::test]
async fn a_full_subscription_raises_the_alarm() {
    let server = Server::start(Server::free_port());
    let options = Options { subscription_capacity: 1, ..Options::default() };
    let (client, watcher) =
        connect("worker", &config(server.port, "worker", "right"), options).await.unwrap();
    connected(&watcher, 1).await;
    let _unread = client.subscribe("fleet.default.x").await.unwrap();
    for _ in 0..3 {
        client.publish("fleet.default.x", "hello".into()).await.unwrap();
    }
    until(&watcher, |state| state.slow_consumers == 2).await;
}
