//! The life of a process: start, health, end.

use std::net::TcpListener;
use std::process::Output;
use std::time::Duration;

use longshore_tests::nats::Nats;
use longshore_tests::service::command;
use longshore_tests::store::SECRET_KEY;
use longshore_tests::{Service, Stack, wait};
use serde_json::Value;

use super::load::{Load, runs_until};

const PROGRAMS: [&str; 2] = ["worker", "gateway-shim"];

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_of_both_programs_answer_and_sigterm_ends_them_with_0() {
    let (stack, [worker], shim) = Stack::with_workers(&[]).await;
    let echo = stack.install("tenant-1", "echo");
    assert_eq!(shim.call(&echo.get("/")).await.status(), 200);
    for (service, connection) in [(&worker, r#"connection="worker""#), (&shim, r#"connection="shim""#)] {
        for path in ["/livez", "/readyz", "/healthz", "/health", "/api/health", "/metrics"] {
            let reply = service.http().get(path).await;
            assert_eq!((reply.transport, reply.header("cache-control")), (200, Some("no-store")), "{path}");
        }
        let health: Value = serde_json::from_slice(&service.http().get("/healthz").await.bytes).unwrap();
        assert_eq!(
            (&health["cache_writable"], &health["bundle_store"]),
            (&Value::Bool(true), &Value::from("ok"))
        );
        assert!(health.as_object().unwrap().contains_key("ext_cache_max_bytes"), "{health}");
        assert_eq!(health["nats"], "ok");
        assert_eq!(service.metric("longshore_build_info").await, 1.0);
        assert_eq!(service.metric_with("longshore_nats_connected", connection).await, 1.0);
    }
    assert_eq!(shim.metric_with("longshore_shim_requests_total", r#"code="ok""#).await, 1.0);
    assert_eq!(worker.metric("longshore_worker_admitted_total").await, 1.0);
    shim.metric_until("longshore_shim_workers", |workers| workers == 1.0).await;
    for mut service in [shim, worker] {
        service.terminate();
        service.drained(wait::LIMIT).await;
        for secret in [stack.nats.password("shim"), stack.nats.password("worker"), SECRET_KEY] {
            assert!(service.lines().with(secret).is_empty(), "a secret is in the log");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_process_that_still_drains() {
    let (stack, [mut worker], mut shim) = Stack::with_workers(&[("LONGSHORE_GUEST_LOG", "stdout")]).await;
    let count = stack.install("tenant-1", "count");
    let _load = Load::start(shim.http(), [count.post("/?id=long&ms=100000").timeout_ms(120_000)]);
    runs_until("the run", &[worker.lines()], |runs| runs.len() == 1).await;
    for service in [&mut worker, &mut shim] {
        service.terminate();
        service
            .lines()
            .wait("the line that it drains", wait::LIMIT, |line| line.contains("draining").then_some(()))
            .await;
        assert!(service.ended().is_none());
        service.terminate();
        assert_eq!(service.wait(Duration::from_secs(3)).await.code(), Some(143));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grace_period_that_is_over_ends_the_run_and_says_so() {
    let settings = [("LONGSHORE_GUEST_LOG", "stdout"), ("LONGSHORE_SHUTDOWN_GRACE", "4")];
    let (stack, [mut worker], shim) = Stack::with_workers(&settings).await;
    let count = stack.install("tenant-1", "count");
    let load = Load::start(shim.http(), [count.post("/?id=long&ms=100000").timeout_ms(120_000)]);
    runs_until("the run", &[worker.lines()], |runs| runs.len() == 1).await;
    worker.terminate();
    assert_eq!(worker.wait(Duration::from_secs(15)).await.code(), Some(1));
    // The caller hears of it, one way or the other, long before its own timeout.
    let outcome = wait::within("the caller's answer", Duration::from_secs(15), load.all()).await;
    let reply = outcome[0].as_ref().unwrap();
    assert!(matches!(reply.status(), 500 | 502), "{}", reply.envelope());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_both_keep_trying_and_are_ready_when_it_comes() {
    let mut stack = Stack::start().await;
    stack.nats = Nats::not_yet();
    let (worker, shim) = (stack.worker_settings(&[]), stack.shim_settings(&[]));
    let mut worker = Service::start("worker", "worker", &worker).await;
    let mut shim = Service::start("gateway-shim", "gateway-shim", &shim).await;
    for service in [&worker, &shim] {
        let reply = service.http().get("/readyz").await;
        assert_eq!(reply.transport, 503);
        assert!(String::from_utf8_lossy(&reply.bytes).contains("nats"), "{:?}", reply.bytes);
        assert_eq!(service.http().get("/livez").await.transport, 200);
        service
            .lines()
            .wait("a line that says so", wait::LIMIT, |line| {
                (line.contains("NATS") || line.contains("nats")).then_some(())
            })
            .await;
    }
    stack.nats.start_again().await;
    worker.ready().await;
    shim.ready().await;
    let echo = stack.install("tenant-1", "echo");
    assert_eq!(shim.call(&echo.get("/")).await.status(), 200);
}

/// Runs a program that must end by itself.
async fn ends(program: &'static str, settings: Vec<(&'static str, String)>) -> (i32, String) {
    let run = tokio::task::spawn_blocking(move || command(program, &settings).output().unwrap());
    let Output { status, stdout, stderr } = wait::within("the end", wait::LIMIT, run).await.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    (status.code().unwrap(), text)
}

fn settings(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_lists_every_mistake_and_exits_with_64() {
    let bad = [
        ("NATS_USER", "somebody"),
        ("LONGSHORE_SHUTDOWN_GRACE", "soon"),
        ("RUST_LOG", "info,longshore=loud"),
        ("S3_ACCESS_KEY", "hunter2-half-a-key"),
    ];
    for (program, own) in PROGRAMS.into_iter().zip([("WORKER_SLOTS", "0"), ("PORT", "99999")]) {
        let all: Vec<_> = bad.into_iter().chain([own]).collect();
        let (code, text) = ends(program, settings(&all)).await;
        assert_eq!(code, 64, "{program}: {text}");
        for name in ["NATS_PASSWORD", "LONGSHORE_SHUTDOWN_GRACE", "RUST_LOG", "S3_SECRET_KEY", own.0] {
            assert!(text.contains(name), "{program}: {name} is not named: {text}");
        }
        assert!(!text.contains("hunter2"), "{program}: {text}");
        assert!(!text.contains("panicked"), "{program}: {text}");
    }
    for (bad, named) in [
        (vec![("BUNDLE_STORE_BASE", "/a"), ("RUNNER_BUNDLE_STORE_BASE", "/b")], "RUNNER_BUNDLE_STORE_BASE"),
        (vec![("BUNDLE_STORE_BASE", "ftp://somewhere")], "BUNDLE_STORE_BASE"),
        (vec![("BUNDLE_STORE_BASE", "/a"), ("NATS_URL", "no url at all")], "NATS_URL"),
        (
            vec![("BUNDLE_STORE_BASE", "/a"), ("WASM_POOL_TOTAL_COMPONENTS", "7")],
            "WASM_POOL_TOTAL_COMPONENTS",
        ),
        (vec![], "BUNDLE_STORE_BASE"),
    ] {
        let (code, text) = ends("worker", settings(&bad)).await;
        assert!(code == 64 && text.contains(named), "{bad:?}: {code}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let stack = Stack::start().await;
    let text = address.to_string();
    for (program, name, settings) in [
        ("worker", "WORKER_HTTP_ADDR", stack.worker_settings(&[("WORKER_HTTP_ADDR", &text)])),
        ("gateway-shim", "LONGSHORE_HTTP_ADDR", stack.shim_settings(&[("LONGSHORE_HTTP_ADDR", &text)])),
    ] {
        let (code, said) = ends(program, settings).await;
        assert_ne!(code, 0);
        assert!(said.contains(&text) && said.contains("in use") && said.contains(name), "{program}: {said}");
    }
}
