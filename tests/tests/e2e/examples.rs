//! The extensions that a new user reads first.

use std::process::Command;

use longshore_tests::redis::{field, messages};
use longshore_tests::{Extension, Stack, paths, store};
use serde_json::{Value, json};

fn user() -> Value {
    json!({ "user_id": "u-1", "user_email": "ada@example.com", "user_name": "Ada", "user_type": "internal" })
}

/// What both examples do.
async fn answers_and_logs(stack: &Stack, shim: &longshore_tests::Service, extension: &Extension, from: &str) {
    let call = extension.get("/hello").timeout_ms(240_000).with("/user", user());
    let reply = shim.call(&call).await;
    assert_eq!(reply.status(), 200, "{}", reply.envelope());
    assert_eq!(reply.guest_header("content-type").as_deref(), Some("application/json"));
    let expected = json!({
        "hello": "Ada", "from": from, "tenant": extension.tenant, "extension": extension.id, "install": "install-1",
    });
    assert_eq!(reply.json(), expected);

    let nobody = shim.call(&extension.get("/hello?x=1")).await;
    assert_eq!(nobody.json()["hello"], "world");
    let nowhere = shim.call(&extension.get("/nowhere")).await;
    assert_eq!((nowhere.status(), nowhere.json()["try"].as_str()), (404, Some("/hello")));

    let events = stack
        .redis
        .wait(&extension.stream(), "the log lines of three calls", |events| {
            messages(events, "log").iter().filter(|line| line.starts_with("GET /")).count() == 3
        })
        .await;
    let first = events.iter().find(|event| field(event, "message") == "GET /hello").unwrap();
    assert_eq!((field(first, "tenant"), field(first, "request")), (extension.tenant.as_str(), "request-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_rust_answers() {
    let (stack, [_worker], shim) = Stack::with_workers(&[]).await;
    let extension = stack.install_archive("tenant-1", "hello-rust", &store::example("hello-rust"));
    answers_and_logs(&stack, &shim, &extension, "rust").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_js_answers_and_a_call_that_gives_up_does_not_stop_its_compilation() {
    if !paths::example("hello-js").join("dist/main.wasm").is_file() {
        assert!(
            !has_node_20(),
            "examples/hello-js is not built: run scripts/setup-hello-js.sh, or `make test`, which does"
        );
        println!("left out: hello-js is not built, and Node >= 20 is missing");
        return;
    }
    let (stack, [worker], shim) = Stack::with_workers(&[]).await;
    let extension = stack.install_archive("tenant-1", "hello-js", &store::example("hello-js"));
    // 12 MB take longer than this to fetch and compile. Where it was, the worker says 20 ms before the gateway gives up by itself; on a
    // busy machine that comes too late.
    let impatient = shim.call(&extension.get("/hello").timeout_ms(300)).await;
    let (status, error) = impatient.failure();
    assert!(
        matches!(
            error.as_str(),
            "execute_failed: timeout (fetching)"
                | "execute_failed: timeout (compiling)"
                | "execute_failed: timeout: the deadline passed before the worker answered"
        ),
        "{error}"
    );
    assert_eq!(status, 500);
    answers_and_logs(&stack, &shim, &extension, "javascript").await;
    worker.metric_until("longshore_worker_compiles", |compiles| compiles == 1.0).await;
}

fn has_node_20() -> bool {
    let version =
        Command::new("node").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version).into_owned();
    version
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|major| major.parse().ok())
        .is_some_and(|major: u32| major >= 20)
}
