//! Answers, errors, host functions, WASI.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_proto::event::Kind;
use longshore_proto::{ErrorCode, User};
use serde_json::json;

use crate::support::{Call, answer, built_guests, call, executor, fixture, fixture_with, json, no_backends};

#[tokio::test]
async fn a_call_comes_back_with_what_the_guest_was_given() {
    let fixture = fixture();
    let outcome = fixture.run(call("echo", "/a/b?x=1").post("text/plain", "hello")).await;
    let expected = json!({
        "request_id": "r-1", "tenant_id": "tenant-1", "extension_id": "echo", "install_id": "i-1", "version_id": null,
    });
    assert_eq!(answer(&outcome).status, 200);
    assert_eq!(
        json(&outcome),
        json!({
            "method": "POST", "url": "/a/b?x=1", "headers": [["Content-Type", "text/plain"]], "body_length": 5,
            "context": expected, "get_context": expected,
        })
    );
    let usage = outcome.usage;
    assert!(usage.cpu_us > 0 && usage.peak_memory_bytes >= 65_536 && usage.handler_us > 0, "{usage:?}");
    assert_eq!((usage.host_calls, fixture.executor.instances()), (1, 0));
}

#[tokio::test]
async fn no_body_and_an_empty_body_stay_apart_both_ways() {
    let fixture = fixture();
    let body_length = |outcome| json(&outcome)["body_length"].clone();
    assert_eq!(body_length(fixture.run(call("echo", "/")).await), json!(null));
    assert_eq!(body_length(fixture.run(call("echo", "/").post("a/b", "")).await), json!(0));
    assert_eq!(answer(&fixture.run(call("echo", "/?raw")).await).body, None);
    let empty = fixture.run(call("echo", "/?raw").post("a/b", "")).await;
    assert_eq!(answer(&empty).body.as_deref(), Some(&b""[..]));
}

#[tokio::test]
async fn ten_mebibytes_go_in_and_out() {
    let fixture = fixture();
    let body: Vec<u8> = (0..251).cycle().take(10 << 20).collect();
    let outcome = fixture.run(call("echo", "/?raw").post("a/b", body.clone())).await;
    assert!(answer(&outcome).body.as_ref().unwrap() == &body);
    let made = fixture.run(call("big-body", &format!("/?bytes={}", 10 << 20))).await;
    assert!(answer(&made).body.as_ref().unwrap() == &body);
}

#[tokio::test]
async fn each_way_to_fail_has_its_own_code_and_a_neighbour_is_unharmed() {
    let fixture = Arc::new(fixture());
    let cases = [
        (call("trap", "/"), ErrorCode::Trap),
        (call("trap", "/?kind=panic"), ErrorCode::Trap),
        (call("trap", "/?kind=divide"), ErrorCode::Trap),
        (call("trap", "/?kind=out-of-bounds"), ErrorCode::Trap),
        (call("trap", "/?kind=bad-call"), ErrorCode::Trap),
        (call("spin", "/").timeout_ms(300), ErrorCode::Timeout),
        (call("sleep", "/?ms=60000").timeout_ms(300), ErrorCode::Timeout),
        (call("memory-hog", "/").memory_mb(16), ErrorCode::OutOfMemory),
        (call("stack-overflow", "/"), ErrorCode::StackOverflow),
        (call("no-handler", "/"), ErrorCode::ExtensionHasNoHandler),
        (call("nothing-of-this-name", "/"), ErrorCode::ExtensionHasNoHandler),
        (call("bad-response", "/?status=99"), ErrorCode::InvalidResponse),
        (call("bad-response", "/?status=600"), ErrorCode::InvalidResponse),
        (call("bad-response", "/?header=a%0d%0ab:v"), ErrorCode::InvalidResponse),
    ];
    // Compiled before, so that the short deadlines are spent in the guests.
    for guest in ["spin", "sleep", "echo"] {
        fixture.run(call(guest, "/?ms=1")).await.result.unwrap();
    }
    for (bad, expected) in cases {
        let neighbour = tokio::spawn({
            let fixture = Arc::clone(&fixture);
            async move { fixture.run(call("echo", "/")).await }
        });
        assert_eq!(fixture.code(bad).await, expected);
        assert_eq!(answer(&neighbour.await.unwrap()).status, 200);
    }
    assert_eq!(fixture.executor.instances(), 0);
}

#[tokio::test]
async fn the_caller_learns_which_trap_and_the_error_event_where_it_was() {
    let fixture = fixture();
    let error = fixture.run(call("trap", "/?kind=divide")).await.result.unwrap_err();
    assert_eq!(error.to_string(), "execute_failed: trap: integer divide by zero");
    let event = fixture.of_kind(Kind::Error).pop().unwrap();
    assert!(event.message.starts_with("execute failed: trap: integer divide by zero\n"), "{}", event.message);
    assert!(event.message.contains("wasm backtrace"), "{}", event.message);
    let data = event.data.unwrap().value();
    assert_eq!((&data["code"], &data["fault"]), (&json!("execute_failed: trap"), &json!("extension")));
    assert!(data["detail"].as_str().unwrap().contains("trap"), "{data}");
}

#[tokio::test]
async fn a_spinning_guest_is_interrupted_where_it_spins_and_holds_no_thread() {
    // One thread: the neighbour can only run when the spinning guest yields.
    let fixture = Arc::new(fixture());
    fixture.run(call("sleep", "/?ms=1")).await.result.unwrap();
    fixture.run(call("spin", "/?ms=1")).await.result.unwrap();
    let spinning = tokio::spawn({
        let fixture = Arc::clone(&fixture);
        async move { fixture.run(call("spin", "/").timeout_ms(2_000)).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(fixture.executor.instances(), 1);
    // Waits for a timer too, which the runtime must come to look at.
    fixture.run(call("sleep", "/?ms=20")).await.result.unwrap();
    assert!(!spinning.is_finished());
    let outcome = spinning.await.unwrap();
    assert_eq!(outcome.result.unwrap_err().code, ErrorCode::Timeout);
    assert!(outcome.usage.cpu_us > 50_000, "{:?}", outcome.usage);
    let event = fixture.of_kind(Kind::Error).pop().unwrap();
    assert!(event.message.contains("wasm backtrace"), "{}", event.message);
}

#[tokio::test]
async fn a_cancelled_run_ends_whether_it_waits_or_computes() {
    let fixture = Arc::new(fixture());
    for (guest, url) in [("sleep", "/?ms=60000"), ("spin", "/")] {
        let call = call(guest, url);
        let cancel = call.cancel.clone();
        let run = tokio::spawn({
            let fixture = Arc::clone(&fixture);
            async move { fixture.code(call).await }
        });
        while fixture.executor.instances() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        cancel.cancel();
        assert_eq!(run.await.unwrap(), ErrorCode::Cancelled);
        assert_eq!(fixture.executor.instances(), 0);
    }
}

#[tokio::test]
async fn what_is_no_component_or_imports_what_nobody_has_says_so() {
    let guests = tempfile::tempdir().unwrap();
    let missing = r#"(component (import "acme:unknown/thing" (instance (export "f" (func)))) (core module $m (func (export "h"))) (core instance $i (instantiate $m)) (func (export "handler") (canon lift (core func $i "h"))))"#;
    let another = r#"(component (core module $m (func (export "h"))) (core instance $i (instantiate $m)) (func (export "handler") (canon lift (core func $i "h"))))"#;
    let files = [
        ("garbage", b"not wasm at all".to_vec()),
        ("empty", Vec::new()),
        ("module", wat::parse_str("(module)").unwrap()),
        ("missing", wat::parse_str(missing).unwrap()),
        ("another", wat::parse_str(another).unwrap()),
    ];
    for (name, bytes) in files {
        std::fs::write(guests.path().join(format!("{name}.wasm")), bytes).unwrap();
    }
    let fixture = fixture();
    let executor = executor(fixture.config.clone(), guests.path().to_owned(), &Arc::default(), no_backends());
    let error = async |call: Call| executor.execute(call.job()).await.result.unwrap_err();
    for name in ["garbage", "empty", "module"] {
        assert_eq!(error(call(name, "/")).await.code, ErrorCode::Compile, "{name}");
    }
    assert_eq!(error(call("missing", "/")).await.to_string(), "execute_failed: link: acme:unknown/thing");
    assert_eq!(error(call("another", "/")).await.code, ErrorCode::Link);
    // Remembered: the compiler is not asked again.
    let compiles = executor.stats().compiles;
    assert_eq!(error(call("missing", "/")).await.code, ErrorCode::Link);
    assert_eq!(executor.stats().compiles, compiles);
}

#[tokio::test]
async fn every_host_function_links_and_answers_its_typed_denial_without_the_capability() {
    let fixture = fixture();
    let without = json(&fixture.run(call("hostcalls", "/")).await);
    let denied = [
        ("secrets.get", "denied"),
        ("http.fetch", "not-allowed"),
        ("storage.get", "denied"),
        ("storage.put", "denied"),
        ("storage.delete", "denied"),
        ("storage.list-entries", "denied"),
        ("ui-proxy.call-route", "denied"),
        ("user.get-user", "not-available"),
        ("user-v2.get-user", "not-available"),
        ("scheduler.list-schedules", "denied"),
        ("scheduler.get-schedule", "denied"),
        ("scheduler.get-endpoints", "denied"),
        ("clients.list-clients", "not-allowed"),
        ("clients.get-client", "not-allowed"),
        ("services.list-services", "not-allowed"),
        ("services.get-service", "not-allowed"),
    ];
    let answers = &without;
    for (name, error) in denied {
        assert_eq!(answers[name], json!({ "err": error }), "{name}");
    }
    assert_eq!(answers["secrets.list-keys"], json!({ "ok": [] }));
    for name in ["scheduler.create-schedule", "scheduler.update-schedule", "scheduler.delete-schedule"] {
        assert_eq!(answers[name]["ok"]["success"], json!(false), "{answers}");
        assert_eq!(
            answers[name]["ok"]["error"],
            json!("Permission denied: cap:scheduler.manage not granted")
        );
    }
    assert_eq!(
        answers["invoicing.create-manual-invoice"]["ok"]["error"],
        json!("Permission denied: cap:invoice.manual.create not granted")
    );
    let calls: BTreeMap<String, String> = fixture
        .of_kind(Kind::HostCall)
        .into_iter()
        .map(|e| e.whole_data().unwrap().value())
        .map(|d| (d["name"].as_str().unwrap().to_owned(), d["outcome"].as_str().unwrap().to_owned()))
        .collect();
    // Lines of the log, which everybody may write, are events of their own.
    let silent = answers.as_object().unwrap().keys().filter(|name| name.starts_with("logging.")).count();
    assert_eq!(calls.len() + silent, answers.as_object().unwrap().len(), "{calls:?}");
    assert_eq!(calls["storage.put"], "denied");
    assert_eq!(calls["context.get-context"], "ok");
    assert_eq!(calls["user.get-user"], "not-available");
}

#[tokio::test]
async fn both_user_interfaces_give_the_user_of_the_call() {
    let user = User {
        user_id: "u".into(),
        user_email: "u@example.com".into(),
        user_name: "U".into(),
        user_type: "internal".into(),
        client_name: "C".into(),
        client_id: Some("c".into()),
        additional_fields: BTreeMap::from([("b".into(), "2".into()), ("a".into(), "1".into())]),
    };
    let fixture = fixture();
    let first = json!({
        "tenant_id": "tenant-1", "client_name": "C", "user_id": "u", "user_email": "u@example.com", "user_name": "U",
        "user_type": "internal",
    });
    let mut second = first.clone();
    second["client_id"] = json!("c");
    second["additional_fields"] = json!([["a", "1"], ["b", "2"]]);
    let outcome = fixture.run(call("user", "/").user(user)).await;
    assert_eq!(json(&outcome), json!({ "v1": first, "v2": second }));
    let nobody = json!({ "err": "not-available" });
    assert_eq!(json(&fixture.run(call("user", "/")).await), json!({ "v1": nobody, "v2": nobody }));
}

#[tokio::test]
async fn clocks_and_random_numbers_are_real_and_differ_between_runs() {
    let fixture = fixture();
    let (one, two) = (
        json(&fixture.run(call("random-clock", "/")).await),
        json(&fixture.run(call("random-clock", "/")).await),
    );
    for name in ["random_u64", "random_bytes", "insecure_u64", "insecure_bytes", "insecure_seed"] {
        assert_ne!(one[name], two[name], "{name}");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now - one["wall_seconds"].as_u64().unwrap() < 60);
    let slept = json(&fixture.run(call("sleep", "/?ms=30")).await);
    assert!(slept["slept_ms"].as_u64().unwrap() >= 30, "{slept}");
}

#[tokio::test]
async fn files_sockets_names_arguments_and_the_hosts_environment_are_out_of_reach() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let outcome = fixture().run(call("sockets", &format!("/?port={port}"))).await;
    let found = json(&outcome);
    for name in ["tcp_connect", "tcp_listen", "udp_bind"] {
        assert_eq!(found[name], json!("access-denied"), "{found}");
    }
    assert_ne!(found["name_lookup"], json!("ok"), "{found}");
    for name in ["preopens", "arguments"] {
        assert_eq!(found[name], json!([]), "{found}");
    }
    let environment = found["environment"].to_string();
    assert!(!environment.contains("PATH") && !environment.contains("CARGO"), "{environment}");
    assert_eq!(found["initial_directory"], json!(null));
}

#[tokio::test]
async fn two_hundred_runs_one_after_the_other_and_thirty_two_at_once_all_answer() {
    let fixture = Arc::new(fixture_with(|c| c.engine.slots = 8));
    for _ in 0..200 {
        fixture.run(call("echo", "/")).await.result.unwrap();
    }
    let runs: Vec<_> = (0..32)
        .map(|_| {
            let fixture = Arc::clone(&fixture);
            tokio::spawn(async move { fixture.run(call("sleep", "/?ms=50")).await })
        })
        .collect();
    for run in runs {
        assert_eq!(answer(&run.await.unwrap()).status, 200);
    }
    assert_eq!(fixture.executor.stats().compiles, 2);
}

#[tokio::test]
async fn a_full_pool_is_the_platforms_fault_and_passes() {
    let fixture = Arc::new(fixture_with(|c| {
        c.engine.slots = 1;
        c.engine.pool_total_components = Some(1);
    }));
    fixture.run(call("sleep", "/?ms=1")).await.result.unwrap();
    let long = call("sleep", "/?ms=60000");
    let cancel = long.cancel.clone();
    let running = tokio::spawn({
        let fixture = Arc::clone(&fixture);
        async move { fixture.code(long).await }
    });
    // The handler has started: its instance is in the pool.
    while fixture.of_kind(Kind::HandlerStart).len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.code(call("sleep", "/?ms=1")).await, ErrorCode::EngineInitFailed);
    cancel.cancel();
    assert_eq!(running.await.unwrap(), ErrorCode::Cancelled);
    fixture.run(call("sleep", "/?ms=1")).await.result.unwrap();
}

#[test]
fn the_guests_are_where_the_tests_look_for_them() {
    assert!(built_guests().join("echo.wasm").exists());
}
