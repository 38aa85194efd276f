//! Recording: switched on and off at run time, sampled, for failures only, whole or absent, read only by who may, and free for the calls.

use std::collections::BTreeSet;

use longshore_proto::trace::Entry;
use longshore_tests::admin::ADMIN_TOKEN;
use longshore_tests::{Admin, Caller, Reply, Service, Stack, store, wait};
use longshore_trace::unpack;
use serde_json::{Value, json};

const TENANT: &str = "tenant-1";
const STRANGER: &str = "tenant-2";
const HOUR_MS: u64 = 3_600_000;

/// An install whose every run is recorded, by the one worker there is and so in the order of its runs: when its own trace is there, all that was
/// to be recorded before it is there too.
const LAST: &str = "last";

/// The servers, one worker, and two installs: the guest that a test is about, and [`LAST`].
struct World {
    stack: Stack,
    admin: Admin,
    worker: Service,
    _gateway: Service,
    caller: Caller,
    /// Of the guest.
    install: String,
    /// Of the guest: its registry id.
    extension: String,
    /// Of [`LAST`].
    last: String,
}

impl World {
    async fn start(guest: &str, capture: &str) -> Self {
        let (stack, admin, [worker], gateway) = Stack::standalone::<1>(&[], &[]).await;
        let bundle =
            |name, guest| store::extension(name, guest, "1.0.0", &["cap:log.emit"], &["GET /", "POST /"]);
        let installed = admin.install(TENANT, &bundle("guest", guest), json!({ "capture": capture })).await;
        let last = admin.install(TENANT, &bundle(LAST, "count"), json!({ "capture": "record" })).await;
        let caller = Caller::new(&gateway, admin.token(TENANT, "write").await).await;
        let name = |installed: &Value, name: &str| installed["install"][name].as_str().unwrap().to_owned();
        Self {
            install: name(&installed, "install_id"),
            extension: name(&installed, "extension"),
            last: name(&last, "extension"),
            stack,
            admin,
            worker,
            _gateway: gateway,
            caller,
        }
    }

    async fn reply(&self, query: &str) -> Reply {
        self.caller.get(&format!("com.longshore.test.guest/?{query}")).await
    }

    /// A call of the guest; its execution id.
    async fn call(&self, query: &str) -> String {
        self.reply(query).await.execution().to_owned()
    }

    async fn record(&self, recording: Value) {
        self.admin.record(TENANT, &self.install, recording).await;
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/tenants/{TENANT}/installs/{}{rest}", self.install)
    }

    async fn shown(&self) -> Value {
        self.admin.ok("GET", &self.path(""), Value::Null).await
    }

    /// The recorded runs of the guest, after everything that was to be recorded so far.
    async fn recorded(&self) -> BTreeSet<String> {
        let reply = self.caller.get(&format!("com.longshore.test.{LAST}/")).await;
        self.listed(&self.last, reply.execution()).await;
        names(&self.admin.traces(TENANT, &format!("extension={}", self.extension)).await)
    }

    async fn listed(&self, extension: &str, execution: &str) {
        let query = format!("extension={extension}");
        wait::until("a trace in the list", wait::LIMIT, async || {
            let names = names(&self.admin.traces(TENANT, &query).await);
            if names.contains(execution) { Ok(()) } else { Err(format!("{execution} is not in {names:?}")) }
        })
        .await;
    }

    /// Calls until the gateway has heard that runs are (not) recorded now. It hears within a second; each call tells.
    async fn until_recording(&self, on: bool) {
        wait::until("the change of what is recorded", wait::LIMIT, async || {
            let execution = self.call("id=probe").await;
            let recorded = self.recorded().await.contains(&execution);
            if recorded == on { Ok(()) } else { Err(format!("recorded: {recorded}")) }
        })
        .await;
    }
}

fn names(traces: &[Value]) -> BTreeSet<String> {
    traces.iter().map(|trace| trace["execution"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn recording_is_switched_on_and_off_while_calls_run_is_shown_and_ends_by_itself() {
    let world = World::start("count", "events").await;
    assert!(world.shown().await["recording"].is_null());
    let before = world.call("id=before").await;
    assert!(!world.recorded().await.contains(&before), "events is the default, and keeps no trace");

    world.record(json!({ "for_ms": HOUR_MS })).await;
    let shown = world.shown().await["recording"].clone();
    assert_eq!((&shown["sample"], &shown["errors_only"]), (&json!(1.0), &json!(false)), "{shown}");
    assert!(!shown["until"].is_null() && shown["by"].is_string(), "{shown}");
    let listed = world.admin.ok("GET", "/v1/installs", Value::Null).await;
    assert!(listed.to_string().contains("\"recording\":{"), "{listed}");
    world.until_recording(true).await;
    let run = world.call("id=recorded").await;
    assert!(world.recorded().await.contains(&run));

    world.admin.ok("DELETE", &world.path("/recording"), Value::Null).await;
    assert!(world.shown().await["recording"].is_null());
    world.until_recording(false).await;

    // It has an end, which nobody has to be there for.
    world.record(json!({ "for_ms": 1_500 })).await;
    world.until_recording(true).await;
    world.until_recording(false).await;
    assert!(world.shown().await["recording"].is_null(), "what is over is not shown");

    for bad in [
        json!({}),
        json!({ "for_ms": 0 }),
        json!({ "for_ms": 86_400_001 }),
        json!({ "for_ms": HOUR_MS, "sample": 0 }),
        json!({ "for_ms": HOUR_MS, "sample": 1.01 }),
        json!({ "for_ms": HOUR_MS, "sample": "half" }),
        json!({ "for_ms": HOUR_MS, "errors": true }),
    ] {
        let (status, answer) =
            world.admin.send("PUT", &world.path("/recording"), "application/json", bad.to_string()).await;
        assert!((400..500).contains(&status), "{bad}: {status} {answer}");
    }
    let (status, _) = world
        .admin
        .send("PUT", "/v1/tenants/tenant-1/installs/none/recording", "application/json", "{\"for_ms\":1000}")
        .await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_has_whole_runs_or_nothing_of_them() {
    let world = World::start("count", "events").await;
    world.record(json!({ "for_ms": HOUR_MS, "sample": 0.5 })).await;
    world.until_recording(true).await;
    let mut runs = BTreeSet::new();
    for n in 0..60 {
        runs.insert(world.call(&format!("id={n}")).await);
    }
    let recorded: Vec<_> = world.recorded().await.intersection(&runs).cloned().collect();
    // 60 throws of a coin are outside of this less than once in a million times.
    assert!((11..=49).contains(&recorded.len()), "{} of 60", recorded.len());
    for execution in recorded {
        let packed = world.admin.bytes(&format!("/v1/tenants/{TENANT}/traces/{execution}")).await;
        let trace = unpack(&packed).unwrap();
        assert_eq!(trace.header().execution.to_string(), execution);
        assert!(trace.trailer().unreplayable.is_none(), "{:?}", trace.trailer());
        let body = trace.records().iter().any(|record| matches!(record.entry, Entry::Response { .. }));
        assert!(body, "{execution} has no response");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_errors_only_a_run_is_published_when_it_has_failed() {
    let world = World::start("trap", "events").await;
    world.record(json!({ "for_ms": HOUR_MS, "errors_only": true })).await;
    wait::until("the first failure that is recorded", wait::LIMIT, async || {
        let execution = world.call("kind=unreachable").await;
        if world.recorded().await.contains(&execution) { Ok(()) } else { Err("not yet") }
    })
    .await;
    let (mut good, mut bad) = (BTreeSet::new(), BTreeSet::new());
    for n in 0..20 {
        let (kind, runs) = if n % 4 == 0 { ("divide", &mut bad) } else { ("none", &mut good) };
        runs.insert(world.call(&format!("kind={kind}&after=2")).await);
    }
    let recorded = world.recorded().await;
    assert!(bad.is_subset(&recorded), "{bad:?} of {recorded:?}");
    assert_eq!(recorded.intersection(&good).count(), 0);
    let of_failed = names(&world.admin.traces(TENANT, "failed=true").await);
    assert!(bad.is_subset(&of_failed), "{of_failed:?}");
    let trace =
        unpack(&world.admin.bytes(&format!("/v1/tenants/{TENANT}/traces/{}", bad.first().unwrap())).await);
    let trace = trace.unwrap();
    let failure = trace.records().iter().any(|record| matches!(record.entry, Entry::Failure { .. }));
    assert!(failure && trace.trailer().outcome != "ok", "{:?}", trace.trailer());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_off_leaves_nothing_behind() {
    let world = World::start("count", "off").await;
    let run = world.call("id=silent").await;
    assert!(!world.recorded().await.contains(&run));
    let contents = world.stack.redis.contents().await;
    let found = contents.iter().filter(|(_, bytes)| String::from_utf8_lossy(bytes).contains("silent"));
    assert_eq!(found.map(|(key, _)| key).collect::<Vec<_>>(), Vec::<&String>::new());
    // It can be recorded for a while nevertheless.
    world.record(json!({ "for_ms": HOUR_MS })).await;
    world.until_recording(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stands_still_or_is_gone_costs_no_call_its_answer() {
    let mut world = World::start("count", "record").await;
    let mut runs = BTreeSet::from([world.call("id=first").await]);
    world.listed(&world.extension.clone(), runs.first().unwrap()).await;
    world.stack.redis.stop();
    for n in 0..50 {
        let reply = world.reply(&format!("id=stalled-{n}")).await;
        assert_eq!((reply.transport, reply.plain_text()), (200, format!("stalled-{n}").as_str()));
        runs.insert(reply.execution().to_owned());
    }
    world.stack.redis.go_on();
    // What had to wait arrives; what found no room is counted.
    wait::until("everything that was recorded", wait::LIMIT, async || {
        let query = format!("extension={}", world.extension);
        let there = names(&world.admin.traces(TENANT, &query).await).intersection(&runs).count();
        let dropped = world.worker.metric("longshore_worker_traces_dropped_total").await;
        if there + dropped as usize >= runs.len() { Ok(()) } else { Err(format!("{there} and {dropped}")) }
    })
    .await;
    assert_eq!(
        world.worker.metric("longshore_worker_traces_dropped_total").await,
        0.0,
        "51 traces have room"
    );

    world.stack.redis.kill();
    for n in 0..20 {
        let reply = world.reply(&format!("id=gone-{n}")).await;
        assert_eq!((reply.transport, reply.plain_text()), (200, format!("gone-{n}").as_str()));
    }
    let (status, answer) =
        world.admin.send("GET", &format!("/v1/tenants/{TENANT}/traces"), "application/json", "").await;
    assert_eq!(status, 503, "who asks for traces is told: {answer}");
    world.stack.redis.start_again().await;
    let run = world.call("id=again").await;
    world.listed(&world.extension.clone(), &run).await;
}

/// What a token that may read nothing, or somebody else's, is tried on.
fn doors(tenant: &str, execution: &str) -> Vec<(&'static str, String)> {
    let traces = format!("/v1/tenants/{tenant}/traces");
    let payload = "0".repeat(64);
    vec![
        ("GET", traces.clone()),
        ("GET", format!("{traces}/{execution}")),
        ("GET", format!("{traces}/{execution}/bundle")),
        ("GET", format!("{traces}/{execution}/payloads/{payload}")),
        ("GET", format!("/v1/tenants/{tenant}/events")),
        ("PUT", traces),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_read_with_a_token_of_their_tenant_that_may_and_every_read_is_audited() {
    let world = World::start("count", "record").await;
    let run = world.call("id=canary-of-the-tenant").await;
    world.listed(&world.extension.clone(), &run).await;
    let token = async |tenant: &str, more: Value| {
        let mut request = json!({ "access": "read", "label": "test" });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = world.admin.ok("POST", &format!("/v1/tenants/{tenant}/tokens"), request).await;
        made["secret"].as_str().unwrap().to_owned()
    };
    let reader = token(TENANT, json!({ "traces": true })).await;
    let caller = token(TENANT, json!({})).await;
    let stranger = token(STRANGER, json!({ "traces": true })).await;

    // The admin service hears of a new token as the gateway does.
    let path = format!("/v1/tenants/{TENANT}/traces/{run}");
    let packed = wait::until("the reader's token", wait::LIMIT, async || {
        let reply = world.admin.send_as(Some(&reader), "GET", &path, "").await;
        if reply.transport == 200 { Ok(reply.bytes) } else { Err(format!("{reply:?}")) }
    })
    .await;
    assert_eq!(unpack(&packed).unwrap().header().execution.to_string(), run);
    let own = format!("/v1/tenants/{STRANGER}/traces");
    wait::until("the stranger's token", wait::LIMIT, async || {
        let reply = world.admin.send_as(Some(&stranger), "GET", &own, "").await;
        if reply.transport == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;

    for (who, token) in [
        ("nobody", None),
        ("a caller", Some(caller.as_str())),
        ("a stranger", Some(stranger.as_str())),
        ("a guess", Some("lst_0000000000000000_00000000000000000000000000000000")),
    ] {
        for (method, path) in doors(TENANT, &run) {
            let reply = world.admin.send_as(token, method, &path, "").await;
            assert!([401, 403, 404].contains(&reply.transport), "{who}: {method} {path}: {reply:?}");
            let text = String::from_utf8_lossy(&reply.bytes).into_owned();
            for secret in ["canary-of-the-tenant", world.extension.as_str(), run.as_str()] {
                assert!(!text.contains(secret), "{who}: {method} {path}: {text}");
            }
        }
    }
    // What there is and what there is not look the same to a stranger.
    let answer = async |execution: &str| {
        let path = format!("/v1/tenants/{TENANT}/traces/{execution}");
        let reply = world.admin.send_as(Some(&stranger), "GET", &path, "").await;
        let json = reply.plain_json();
        (reply.transport, json["code"].clone(), json["message"].clone())
    };
    assert_eq!(answer(&run).await, answer(&"0".repeat(32)).await);
    // A token that reads may do nothing else, an operator's may.
    let reply = world.admin.send_as(Some(&reader), "GET", "/v1/installs", "").await;
    assert!([401, 403].contains(&reply.transport), "{reply:?}");
    let reply =
        world.admin.send_as(Some(&reader), "PUT", &world.path("/recording"), "{\"for_ms\":1000}").await;
    assert!([401, 403].contains(&reply.transport), "{reply:?}");
    assert_eq!(world.admin.send_as(Some(ADMIN_TOKEN), "GET", &path, "").await.transport, 200);

    let audit = world.admin.ok("GET", &format!("/v1/audit?tenant={TENANT}"), Value::Null).await;
    let reads: Vec<_> =
        audit["events"].as_array().unwrap().iter().filter(|event| event["kind"] == "trace_read").collect();
    let of_run = reads.iter().filter(|event| event.to_string().contains(&run)).count();
    assert!(of_run >= 2, "the reader's and the operator's: {audit:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_tenant_leaves_no_trace() {
    let world = World::start("count", "record").await;
    let run = world.call("id=purged-canary").await;
    world.listed(&world.extension.clone(), &run).await;
    let traces = async || {
        let contents = world.stack.redis.contents().await;
        let keys = contents.into_iter().filter(|(key, _)| key.starts_with("longshore-trace:"));
        keys.filter(|(key, _)| key.contains(TENANT)).map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert!(!traces().await.is_empty());
    let purge = format!("/v1/tenants/{TENANT}/purge");
    world.admin.ok("POST", &purge, json!({ "confirm": TENANT })).await;
    assert_eq!(traces().await, Vec::<String>::new());
    let (status, _) =
        world.admin.send("GET", &format!("/v1/tenants/{TENANT}/traces/{run}"), "application/json", "").await;
    assert_eq!(status, 404);
}
