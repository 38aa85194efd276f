//! What an operator's word does to a fleet that is at work.

use std::time::Duration;

use futures::StreamExt as _;
use longshore_proto::call::{CallMessage, CaptureLevel};
use longshore_proto::frame::Reply as Answered;
use longshore_proto::{Capability, ErrorCode, PoolName, subject, wire};
use longshore_tests::redis::messages;
use longshore_tests::{Admin, Caller, Extension, Stack, store, wait};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::rights::{call, encoded, next};

/// So long that nothing here ends by itself.
const PATIENT: [(&str, &str); 1] = [("EXT_GATEWAY_TIMEOUT_MS", "300000")];
const LIMITS: [(&str, u64); 2] = [("timeout_ms", 300_000), ("cpu_ms", 300_000)];

fn limits() -> Value {
    LIMITS
        .into_iter()
        .map(|(name, limit)| (name.to_owned(), json!(limit)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn one(name: &str, guest: &str) -> Vec<u8> {
    store::extension(name, guest, "1.0.0", &["cap:log.emit"], &["GET /", "POST /"])
}

fn text(json: &Value, pointer: &str) -> String {
    json.pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("{pointer} in {json:#}"))
        .to_owned()
}

fn path(tenant: &str, installed: &Value) -> String {
    format!("/v1/tenants/{tenant}/installs/{}", text(installed, "/install/install_id"))
}

/// Waits until the calls of a tenant are as they should be; gives them.
async fn calls(admin: &Admin, tenant: &str, what: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    wait::until(what, wait::LIMIT, async || {
        let list = admin.ok("GET", &format!("/v1/calls?tenant={tenant}"), Value::Null).await;
        let calls = list["calls"].as_array().unwrap().clone();
        if enough(&calls) { Ok(calls) } else { Err(list.to_string()) }
    })
    .await
}

fn in_state(calls: &[Value], state: &str) -> usize {
    calls.iter().filter(|call| call["state"] == state).count()
}

/// Calls through the gateway, all at once; their refusals, sorted.
struct Many(JoinSet<(u16, String)>);

impl Many {
    fn start(caller: &Caller, path: &str, count: usize) -> Self {
        let mut set = JoinSet::new();
        for _ in 0..count {
            let (caller, path) = (caller.clone(), path.to_owned());
            set.spawn(async move { caller.send("POST", &path, &[], "").await.refusal() });
        }
        Self(set)
    }

    async fn all(self) -> Vec<(u16, String)> {
        let mut all = wait::within("the end of all calls", wait::LIMIT, self.0.join_all()).await;
        all.sort();
        all
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disabling_or_removing_an_install_stops_what_runs_and_refuses_what_waits() {
    let (stack, admin, [worker], gateway) = Stack::standalone(&[("WORKER_SLOTS", "4")], &PATIENT).await;
    let installed = admin.install("tenant-1", &one("spin", "spin"), json!({ "limits": limits() })).await;
    let other = admin.install("tenant-2", &one("spin", "spin"), json!({})).await;
    let caller = Caller::new(&gateway, admin.token("tenant-1", "write").await).await;
    let neighbour = Caller::new(&gateway, admin.token("tenant-2", "read").await).await;
    let name = "com.longshore.test.spin";
    assert_eq!(caller.get(&format!("{name}/?ms=1")).await.transport, 200);

    // One that no gateway knows of: only its worker can stop it.
    let nats = stack.nats.client("caller").await;
    let mut inbox = nats.client.subscribe("_R.caller.test").await.unwrap();
    let extension = Extension {
        tenant: "tenant-1".to_owned(),
        id: text(&installed, "/install/extension"),
        hash: text(&installed, "/install/version/content_hash").parse().unwrap(),
    };
    let mut message = call(&extension, "/");
    message.run.context.install_id = Some(text(&installed, "/install/install_id"));
    let to = subject::exec_any(&PoolName::default());
    nats.client.publish_with_reply(to, "_R.caller.test", encoded(&message)).await.unwrap();
    worker.metric_until("longshore_worker_running", |running| running == 1.0).await;

    // One of four slots is kept for tenants with nothing running there: two of these run, the others wait.
    let many = Many::start(&caller, name, 5);
    worker.metric_until("longshore_worker_running", |running| running == 3.0).await;
    calls(&admin, "tenant-1", "calls that run and wait", |calls| {
        in_state(calls, "running") == 2 && in_state(calls, "waiting") == 3
    })
    .await;
    admin.ok("PATCH", &path("tenant-1", &installed), json!({ "enabled": false })).await;
    let refused = many.all().await;
    let mut expected = vec![(404, "extension_not_available".to_owned()); 3];
    expected.extend(vec![(503, "execute_failed: cancelled".to_owned()); 2]);
    assert_eq!(refused, expected);
    let Answered::Failed { error, .. } = next(&mut inbox).await else {
        panic!("the run of a caller beside ended well")
    };
    assert_eq!(error.code, ErrorCode::Cancelled, "{error:?}");
    assert_eq!(caller.get(name).await.refusal(), (404, "extension_not_available".to_owned()));
    // Nothing of it is left, and others have not felt anything.
    worker.metric_until("longshore_worker_running", |running| running == 0.0).await;
    assert_eq!(neighbour.get(&format!("{name}/?ms=1")).await.transport, 200);
    calls(&admin, "tenant-1", "no call", <[Value]>::is_empty).await;

    admin.ok("PATCH", &path("tenant-1", &installed), json!({ "enabled": true })).await;
    wait::until("a call of the enabled install", wait::LIMIT, async || {
        let reply = caller.get(&format!("{name}/?ms=1")).await;
        if reply.transport == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    let many = Many::start(&caller, name, 1);
    calls(&admin, "tenant-1", "a call that runs", |calls| in_state(calls, "running") == 1).await;
    admin.ok("DELETE", &path("tenant-1", &installed), Value::Null).await;
    assert_eq!(many.all().await, [(503, "execute_failed: cancelled".to_owned())]);
    assert_eq!(caller.get(name).await.refusal(), (404, "extension_not_found".to_owned()));
    assert_eq!(neighbour.get(&format!("{name}/?ms=1")).await.transport, 200);
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_listed_by_tenant_and_stopped_one_by_one() {
    let (_stack, admin, [worker], gateway) = Stack::standalone(&[], &PATIENT).await;
    let name = "com.longshore.test.sleep";
    let sleeping = format!("{name}/?ms=250000");
    let mut callers = Vec::new();
    for tenant in ["tenant-1", "tenant-2"] {
        admin.install(tenant, &one("sleep", "sleep"), json!({ "limits": limits() })).await;
        callers.push(Caller::new(&gateway, admin.token(tenant, "write").await).await);
    }
    let (first, second) = (Many::start(&callers[0], &sleeping, 2), Many::start(&callers[1], &sleeping, 1));
    let listed =
        calls(&admin, "tenant-1", "two calls that run", |calls| in_state(calls, "running") == 2).await;
    assert!(listed.iter().all(|call| call["tenant"] == "tenant-1" && call["method"] == "POST"), "{listed:?}");
    assert!(listed.iter().all(|call| call["worker"].is_string() && call["left_ms"].as_u64() > Some(0)));
    calls(&admin, "tenant-2", "one call that runs", |calls| in_state(calls, "running") == 1).await;

    // Execution and tenant that do not belong together are nobody's.
    let request = json!({ "execution": listed[0]["execution"], "tenant": "tenant-2" });
    let none = admin.ok("POST", "/v1/calls/cancel", request).await;
    assert_eq!((&none["running"], &none["waiting"]), (&json!(0), &json!(0)));
    let done = admin.ok("POST", "/v1/calls/cancel", json!({ "execution": listed[0]["execution"] })).await;
    assert_eq!((&done["running"], &done["waiting"]), (&json!(1), &json!(0)), "{done}");
    let left = calls(&admin, "tenant-1", "the other call", |calls| calls.len() == 1).await;
    assert_eq!(left[0]["execution"], listed[1]["execution"]);
    let done = admin.ok("POST", "/v1/calls/cancel", json!({ "tenant": "tenant-1" })).await;
    assert_eq!(done["running"], 1, "{done}");
    assert_eq!(
        first.all().await,
        [(503, "execute_failed: cancelled".to_owned()), (503, "execute_failed: cancelled".to_owned())]
    );
    calls(&admin, "tenant-2", "the call of the other tenant", |calls| in_state(calls, "running") == 1).await;
    admin.ok("POST", "/v1/calls/cancel", json!({ "tenant": "tenant-2" })).await;
    assert_eq!(second.all().await, [(503, "execute_failed: cancelled".to_owned())]);
    worker.metric_until("longshore_worker_running", |running| running == 0.0).await;
    // A tenant whose calls were stopped may call again.
    assert_eq!(callers[0].get(&format!("{name}/?ms=1")).await.transport, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_tenant_has_nothing_left_and_another_keeps_everything() {
    let (stack, admin, [_worker], gateway) = Stack::standalone(&[("LONGSHORE_SCHEDULER", "nats")], &[]).await;
    let archive =
        store::extension("driver", "driver", "1.0.0", &store::EVERYTHING, &["POST /", "POST /tick"]);
    let name = "com.longshore.test.driver/";
    let options = json!({ "secrets": { "api_key": "value-of-a-secret" } });
    let schedule = json!({ "endpoint": "/tick", "cron": "0 3 * * *", "timezone": "UTC" });
    let entry = json!({ "namespace": "n", "key": "k", "value": { "text": "v" } });
    let mut callers = Vec::new();
    for tenant in ["gone", "stays"] {
        let installed = admin.install(tenant, &archive, options.clone()).await;
        let caller = Caller::new(&gateway, admin.token(tenant, "write").await).await;
        let made = caller.host(name, "scheduler.create-schedule", schedule.clone()).await;
        assert_eq!(made["value"]["success"], true, "{made}");
        let put = caller.host(name, "storage.put", entry.clone()).await;
        assert!(put.get("ok").is_some(), "{put}");
        let stream = Extension {
            tenant: tenant.to_owned(),
            id: text(&installed, "/install/extension"),
            hash: text(&installed, "/install/version/content_hash").parse().unwrap(),
        }
        .stream();
        caller.host(name, "logging.log-info", json!({ "message": "here" })).await;
        stack.redis.wait(&stream, "an event", |events| messages(events, "log").contains(&"here")).await;
        callers.push(caller);
    }
    let (status, refused) =
        admin.send("POST", "/v1/tenants/gone/purge", "application/json", r#"{"confirm":"stays"}"#).await;
    assert_eq!((status, &refused["code"]), (403, &json!("not_confirmed")));
    let done = admin.ok("POST", "/v1/tenants/gone/purge", json!({ "confirm": "gone" })).await;
    for (what, count) in [
        ("installs", 1),
        ("secrets", 1),
        ("tokens", 1),
        ("schedules", 1),
        ("storage_entries", 1),
        ("debug_streams", 1),
    ] {
        assert_eq!(done["removed"][what], count, "{what}: {done}");
    }
    assert!(done["removed"]["bundle_objects"].as_u64() >= Some(1) && done["left"] == json!([]), "{done}");
    wait::until("the refusal of a purged tenant's token", wait::LIMIT, async || {
        let reply = callers[0].get(name).await;
        if reply.transport == 401 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    let streams = stack.redis.keys().await;
    assert!(streams.len() == 1 && streams[0].contains("stays"), "{streams:?}");

    // What comes under the same name finds nothing of it.
    admin.install("gone", &archive, json!({})).await;
    let again = Caller::new(&gateway, admin.token("gone", "write").await).await;
    let key = json!({ "namespace": "n", "key": "k" });
    assert_eq!(again.host(name, "storage.get", key.clone()).await, json!({ "err": "missing" }));
    assert_eq!(again.host(name, "scheduler.list-schedules", json!({})).await, json!({ "ok": [] }));
    assert_eq!(again.host(name, "secrets.list-keys", json!({})).await, json!({ "value": [] }));
    let kept = callers[1].host(name, "storage.get", key).await;
    assert_eq!(kept["ok"]["value"], json!({ "text": "v" }), "{kept}");
    let schedules = callers[1].host(name, "scheduler.list-schedules", json!({})).await;
    assert_eq!(schedules["ok"].as_array().map(Vec::len), Some(1), "{schedules}");
    assert_eq!(callers[1].host(name, "secrets.list-keys", json!({})).await, json!({ "value": ["api_key"] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_in_the_audit_once_and_a_restart_forgets_nothing() {
    let (stack, mut admin, [_worker], gateway) = Stack::standalone(&[], &[]).await;
    let name = "com.longshore.test.echo";
    let version = |version: &str| store::extension("echo", "echo", version, &["cap:secrets.get"], &["GET /"]);
    let installed = admin.install("tenant-1", &version("1.0.0"), json!({})).await;
    let at = path("tenant-1", &installed);
    admin.install("tenant-1", &version("2.0.0"), json!({})).await;
    let secret = "canary-of-a-secret";
    admin.ok("PATCH", &at, json!({ "config": { "a": "b" }, "secrets": { "s": secret } })).await;
    admin.ok("PATCH", &at, json!({ "grant": [] })).await;
    admin.ok("PATCH", &at, json!({ "enabled": false })).await;
    admin.ok("PATCH", &at, json!({ "enabled": true })).await;
    // No change is none to be recorded.
    admin.ok("PATCH", &at, json!({ "enabled": true })).await;
    let caller = Caller::new(&gateway, admin.token("tenant-1", "read").await).await;
    let token = admin.ok("POST", "/v1/tenants/tenant-1/tokens", json!({ "access": "write" })).await;
    let revoked = format!("/v1/tenants/tenant-1/tokens/{}", text(&token, "/token/id"));
    admin.ok("DELETE", &revoked, Value::Null).await;
    admin.ok("POST", &format!("{at}/rollback"), json!({})).await;
    wait::until("a call", wait::LIMIT, async || {
        let reply = caller.get(name).await;
        if reply.transport == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;

    admin.service.terminate();
    admin.service.drained(wait::LIMIT).await;
    assert_eq!(caller.get(name).await.transport, 200, "nobody needs the admin service for a call");
    let admin = stack.admin(&[]).await;
    let shown = admin.ok("GET", &at, Value::Null).await;
    assert_eq!(shown.pointer("/version/version"), Some(&json!("1.0.0")), "{shown}");
    admin.ok("DELETE", &at, Value::Null).await;
    wait::until("the refusal of a removed install", wait::LIMIT, async || {
        let reply = caller.get(name).await;
        if reply.transport == 404 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    let audit = admin.ok("GET", "/v1/audit?tenant=tenant-1", Value::Null).await;
    let events = audit["events"].as_array().unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "bundle.uploaded",
            "install.created",
            "bundle.uploaded",
            "install.updated",
            "install.updated",
            "grant.changed",
            "install.disabled",
            "install.enabled",
            "token.created",
            "token.created",
            "token.revoked",
            "install.rolled_back",
            "install.removed",
        ],
        "{audit:#}"
    );
    assert!(events.iter().all(|event| event["tenant"] == "tenant-1" && event["actor"].is_string()));
    let all = audit.to_string();
    assert!(
        !all.contains(secret) && !all.contains(&text(&token, "/secret")) && !all.contains(caller.token())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_captured_of_a_run_is_the_installs_to_say() {
    let (stack, admin, [_worker], gateway) = Stack::standalone(&[], &[]).await;
    let silent = admin.install("tenant-1", &one("silent", "count"), json!({ "capture": "off" })).await;
    let loud = admin.install("tenant-1", &one("loud", "count"), json!({ "capture": "events" })).await;
    let caller = Caller::new(&gateway, admin.token("tenant-1", "read").await).await;
    assert_eq!(caller.get("com.longshore.test.silent/?id=silent").await.plain_text(), "silent");
    assert_eq!(caller.get("com.longshore.test.loud/?id=loud").await.plain_text(), "loud");
    let stream = |installed: &Value| {
        let id = text(installed, "/install/extension");
        format!("{}tenant-1:{id}", longshore_tests::stack::STREAM_PREFIX)
    };
    stack
        .redis
        .wait(&stream(&loud), "the loud one's", |events| messages(events, "log").contains(&"ran loud"))
        .await;
    assert_eq!(stack.redis.len(&stream(&silent)).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_rotation_both_service_tokens_count_and_afterwards_one() {
    let stack = Stack::start().await;
    let echo = stack.install("tenant-1", "echo");
    let both = [
        ("RUNNER_SERVICE_TOKEN", "the-new-service-token"),
        ("RUNNER_SERVICE_TOKEN_PREVIOUS", "the-old-service-token"),
        ("LONGSHORE_EXECUTE_AUTH", "require"),
    ];
    let new = [both[0], both[2]];
    let (worker, during, after) = tokio::join!(stack.worker(&[]), stack.shim(&both), stack.shim(&new));
    for (shim, token, status) in [
        (&during, "the-new-service-token", 200),
        (&during, "the-old-service-token", 200),
        (&during, "the-old-service-tokem", 401),
        (&during, "", 401),
        (&after, "the-new-service-token", 200),
        (&after, "the-old-service-token", 401),
    ] {
        let reply = shim.call(&echo.get("/").header("x-runner-service-token", token)).await;
        assert_eq!(reply.transport, status, "{token}");
    }
    drop(worker);
}

/// The next full minute is at most one away; then it is a matter of moments.
const MINUTE: Duration = Duration::from_secs(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_fires_with_the_rights_of_now_and_not_at_all_while_disabled() {
    let worker = [("LONGSHORE_SCHEDULE_MIN_INTERVAL_MS", "60000"), ("LONGSHORE_SCHEDULER", "nats")];
    let (stack, admin, [_worker], gateway) = Stack::standalone(&worker, &[]).await;
    gateway.metric_until("longshore_schedules_leader", |leads| leads == 1.0).await;
    let caller = Caller::new(&gateway, admin.token("tenant-1", "write").await).await;
    let everything = store::EVERYTHING;
    let (mut paths, mut ids) = (Vec::new(), Vec::new());
    for name in ["off", "on"] {
        let archive = store::extension(name, "driver", "1.0.0", &everything, &["POST /", "POST /tick"]);
        let installed = admin.install("tenant-1", &archive, json!({ "config": { "when": "then" } })).await;
        let schedule = json!({
            "endpoint": "/tick", "cron": "* * * * *", "timezone": "UTC",
            "payload": json!({ "calls": [] }).to_string(),
        });
        let at = format!("com.longshore.test.{name}/");
        let made = caller.host(&at, "scheduler.create-schedule", schedule).await;
        assert_eq!(made["value"]["success"], true, "{made}");
        paths.push(path("tenant-1", &installed));
        ids.push(text(&made, "/value/schedule-id"));
    }
    let observer = stack.nats.client("admin").await;
    let mut seen = observer.client.subscribe("exec.*.*").await.unwrap();
    admin.ok("PATCH", &paths[0], json!({ "enabled": false })).await;
    let less = ["cap:scheduler.manage", "cap:log.emit"];
    let now = json!({ "config": { "when": "now" }, "grant": less, "capture": "off" });
    admin.ok("PATCH", &paths[1], now).await;

    let fired = async {
        loop {
            let message = seen.next().await.unwrap();
            let call: CallMessage = wire::decode(&message.payload).unwrap();
            let Some(trigger) = &call.run.context.trigger else { continue };
            assert_ne!(trigger.schedule_id.as_ref(), Some(&ids[0]), "the disabled one was fired");
            // One that was on its way when the rights were changed is not the one that counts.
            if call.run.context.config.get("when").is_some_and(|when| when == "now") {
                return call;
            }
        }
    };
    let call = wait::within("a scheduled call", 2 * MINUTE, fired).await;
    assert_eq!(call.run.context.trigger.as_ref().unwrap().schedule_id.as_ref(), Some(&ids[1]));
    assert!(call.run.capabilities.has(Capability::SchedulerManage));
    assert!(
        !call.run.capabilities.has(Capability::StorageKv)
            && !call.run.capabilities.has(Capability::SecretsGet)
    );
    assert_eq!(call.run.capture, CaptureLevel::Off);

    // The disabled one says why, once somebody can ask it again.
    admin.ok("PATCH", &paths[0], json!({ "enabled": true })).await;
    let said = wait::until("why it did not fire", wait::LIMIT, async || {
        let reply = caller
            .post(
                "com.longshore.test.off/",
                &json!({ "calls": [{ "fn": "scheduler.get-schedule", "args": { "schedule-id": ids[0] } }] }),
            )
            .await;
        if reply.transport != 200 {
            return Err(format!("{reply:?}"));
        }
        let shown = reply.plain_json()["results"][0]["ok"].clone();
        if shown["last-error"].is_string() { Ok(shown) } else { Err(shown.to_string()) }
    })
    .await;
    assert!(text(&said, "/last-error").contains("disabled"), "{said}");
}
