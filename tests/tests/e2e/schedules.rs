//! Schedules end to end, in real time: a guest makes one, the fleet fires it at the next full minute.

use std::time::Duration;

use futures::StreamExt as _;
use longshore_bundle::archive::pack_files;
use longshore_proto::call::{Body, CallMessage, TriggerKind};
use longshore_proto::wire;
use longshore_tests::redis::messages;
use longshore_tests::{Extension, Service, Stack, paths, wait};
use serde_json::{Value, json};

/// Each minute is what the existing platform refuses; here nobody wants to wait for five.
const WORKER: [(&str, &str); 2] =
    [("LONGSHORE_SCHEDULE_MIN_INTERVAL_MS", "60000"), ("LONGSHORE_SCHEDULER", "nats")];

/// The next full minute is at most one away; then it is a matter of moments.
const MINUTE: Duration = Duration::from_secs(90);

/// The guest that calls what its request names, with an endpoint for itself and one to be scheduled.
fn driver(stack: &Stack) -> Extension {
    let manifest = json!({
        "name": "com.longshore.test.driver", "publisher": "Longshore", "version": "1.0.0", "runtime": "wasm-js@1",
        "capabilities": ["cap:scheduler.manage"],
        "api": { "endpoints": [
            { "method": "POST", "path": "/", "handler": "dist/main" },
            { "method": "POST", "path": "/tick", "handler": "dist/main" },
            { "method": "GET", "path": "/items/:id", "handler": "dist/main" },
        ] },
    });
    let files =
        [("manifest.json", manifest.to_string().into_bytes()), ("dist/main.wasm", paths::guest("driver"))];
    stack.install_archive("tenant-1", "driver", &pack_files(files, 3).unwrap())
}

/// What one host function says.
async fn host(shim: &Service, extension: &Extension, function: &str, args: Value) -> Value {
    let body = json!({ "calls": [{ "fn": function, "args": args }] }).to_string();
    let call = extension
        .post("/")
        .with("/providers", json!(["cap:scheduler.manage"]))
        .with("/http/headers", json!({ "content-type": "application/json" }))
        .body(body.as_bytes());
    let reply = shim.call(&call).await;
    assert_eq!(reply.status(), 200, "{}", reply.envelope());
    reply.json()["results"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_makes_a_schedule_and_the_fleet_fires_it_once_at_the_full_minute() {
    let stack = Stack::start().await;
    let (worker, first, second) = tokio::join!(stack.worker(&WORKER), stack.shim(&[]), stack.shim(&[]));
    let extension = driver(&stack);
    let leads = async || {
        let leaders = first.metric("longshore_schedules_leader").await
            + second.metric("longshore_schedules_leader").await;
        if leaders == 1.0 { Ok(()) } else { Err(format!("{leaders} gateways fire")) }
    };
    wait::until("one gateway that fires", wait::LIMIT, leads).await;

    let endpoints = host(&first, &extension, "scheduler.get-endpoints", json!({})).await;
    let schedulable: Vec<_> = endpoints["ok"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["path"].as_str(), e["schedulable"].as_bool()))
        .collect();
    assert_eq!(
        schedulable,
        [(Some("/"), Some(true)), (Some("/tick"), Some(true)), (Some("/items/:id"), Some(false))]
    );

    let refused = json!({ "endpoint": "GET /items/:id", "cron": "* * * *" });
    let refused = host(&first, &extension, "scheduler.create-schedule", refused).await["value"].clone();
    assert_eq!(refused["success"], false, "{refused}");
    let fields: Value = serde_json::from_str(refused["field-errors"].as_str().unwrap()).unwrap();
    assert_eq!(fields.as_object().unwrap().keys().collect::<Vec<_>>(), ["cron", "endpoint"]);

    let payload =
        json!({ "calls": [{ "fn": "logging.log-info", "args": { "message": "tick" } }] }).to_string();
    let new =
        json!({ "endpoint": "/tick", "cron": "* * * * *", "timezone": "Europe/Berlin", "payload": payload });
    let made = host(&first, &extension, "scheduler.create-schedule", new).await["value"].clone();
    assert_eq!(made["success"], true, "{made}");
    let id = made["schedule-id"].as_str().unwrap().to_owned();
    let began = unix_seconds();

    // The call, as it goes to the worker.
    let admin = stack.nats.client("admin").await;
    let mut calls = admin.client.subscribe("exec.*.*").await.unwrap();
    let next = async {
        loop {
            let message = calls.next().await.unwrap();
            let call: CallMessage = wire::decode(&message.payload).unwrap();
            if call.run.context.trigger.is_some() {
                return call;
            }
        }
    };
    let call = wait::within("a scheduled call", MINUTE, next).await;
    let fired_at = unix_seconds();
    let trigger = call.run.context.trigger.as_ref().unwrap();
    assert_eq!((trigger.kind, trigger.schedule_id.as_deref()), (TriggerKind::Schedule, Some(id.as_str())));
    assert_eq!((call.run.http.method.as_str(), call.run.http.url.as_str()), ("POST", "/tick"));
    assert_eq!(call.body, Body::Inline(payload.clone().into()));
    assert_eq!(call.run.context.install_id.as_deref(), Some("install-1"));
    assert!(fired_at % 60 < 10, "{} s after the full minute", fired_at % 60);

    stack
        .redis
        .wait(&extension.stream(), "the guest's line", |events| messages(events, "log").contains(&"tick"))
        .await;
    let ended = wait::until("the end of the run", wait::LIMIT, async || {
        let shown = host(&second, &extension, "scheduler.get-schedule", json!({ "schedule-id": id })).await;
        match shown["ok"]["last-run-status"].as_str() {
            Some("success") => Ok(shown["ok"].clone()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(ended["last-error"], Value::Null);
    let minute = fired_at - fired_at % 60;
    assert!(minute >= began - 60);
    let last = ended["last-run-at"].as_str().unwrap();
    assert_eq!(last.get(14..16), Some(format!("{:02}", minute / 60 % 60).as_str()), "the minute of {last}");

    let deleted = host(&first, &extension, "scheduler.delete-schedule", json!({ "schedule-id": id })).await;
    assert_eq!(deleted["value"]["success"], true, "{deleted}");
    let (of_first, of_second) = tokio::join!(
        first.metric_with("longshore_schedules_fired_total", "outcome=\"success\""),
        second.metric_with("longshore_schedules_fired_total", "outcome=\"success\""),
    );
    assert_eq!(of_first + of_second, 1.0);
    drop(worker);
}

/// Seconds since 1970.
fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
