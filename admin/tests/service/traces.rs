//! Recording, recorded runs and debug events.

use std::time::Duration;

use bytes::Bytes;
use longshore_bundle::store::DirStore;
use longshore_bundle::{BundleKey, BundleStore as _, Content};
use longshore_proto::trace::{Entry, Payload, StreamKind};
use longshore_proto::{ExecutionId, TenantId};
use longshore_tests::redis::Redis;
use longshore_trace::file::Exported;
use longshore_trace::store::TraceStore;
use longshore_trace::{Packed, TraceSettings, payloads};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::run::{entries, pack};
use crate::support::{Admin, TOKEN, pages, raw, until};

const TENANT: &str = "t-1";
const BUNDLE: &[u8] = b"the bundle";

fn bearer(token: &str) -> Vec<(String, String)> {
    vec![("authorization".to_owned(), format!("Bearer {token}"))]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_outlives_versions_ends_by_itself_and_is_audited() {
    let admin = Admin::start().await;
    admin.install(TENANT, pages("a.b", "1.0.0", &[])).await;
    let path = format!("/v1/tenants/{TENANT}/installs/a.b");
    let recording = format!("{path}/recording");
    for wrong in [
        json!({}),
        json!({ "for_ms": 999 }),
        json!({ "for_ms": 86_400_001 }),
        json!({ "for_ms": 60_000, "sample": 0 }),
        json!({ "for_ms": 60_000, "sample": 1.5 }),
        json!({ "for_ms": 60_000, "more": 1 }),
    ] {
        admin.ask("PUT", &recording, Some(wrong)).await.refused(400, "invalid_request");
    }
    let asked = json!({ "for_ms": 60_000, "sample": 0.25, "errors_only": true });
    let nobodys = format!("/v1/tenants/{TENANT}/installs/c.d/recording");
    admin.ask("PUT", &nobodys, Some(asked.clone())).await.refused(404, "install_not_found");
    let on = admin.ask("PUT", &recording, Some(asked)).await.ok();
    let said = &on["recording"];
    assert_eq!(
        (&said["sample"], &said["errors_only"], &said["by"]),
        (&json!(0.25), &json!(true), &json!("admin token"))
    );
    assert!(said["until"].as_str().unwrap().ends_with('Z'));

    // A new version, and the one before again.
    admin.install(TENANT, pages("a.b", "2.0.0", &[])).await;
    assert_eq!(admin.get(&path).await.ok()["recording"], *said);
    admin.ask("POST", &format!("{path}/rollback"), Some(json!({ "wait_ms": 0 }))).await.ok();
    let listed = admin.get("/v1/installs").await.ok();
    assert_eq!(listed["installs"][0]["recording"], *said);

    let off = admin.ask("DELETE", &recording, None).await.ok();
    assert!(off["recording"].is_null(), "{off}");
    admin.ask("DELETE", &recording, None).await.ok();
    let kinds = admin.audit().await;
    let recordings: Vec<_> = kinds.iter().filter(|kind| kind.starts_with("recording")).collect();
    assert_eq!(recordings, ["recording_on", "recording_off"], "{kinds:?}");

    // It ends without anybody; nobody has switched it off then.
    admin.ask("PUT", &recording, Some(json!({ "for_ms": 1_000 }))).await.ok();
    until("the end of the recording", async || admin.get(&path).await.ok()["recording"].is_null()).await;
    admin.ask("PATCH", &path, Some(json!({ "weight": 2, "wait_ms": 0 }))).await.ok();
    assert_eq!(admin.audit().await.iter().filter(|kind| *kind == "recording_off").count(), 1);
    let lasting = json!({ "capture": "record", "wait_ms": 0 });
    admin.ask("PATCH", &path, Some(lasting)).await.ok();
    assert_eq!(admin.get(&path).await.ok()["capture"], "record");
}

/// The service with a Redis, and a recorded run with a large payload and its bundle.
struct World {
    redis: Redis,
    admin: Admin,
    execution: ExecutionId,
    packed: Packed,
    payload: Bytes,
}

impl World {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let admin = Admin::with(&[("RUNNER_DEBUG_REDIS_URL", redis.url())]).await;
        let execution = ExecutionId::from_bytes([7; 16]);
        let payload = Bytes::from(vec![5; 100_000]);
        let mut all = entries(TENANT, execution);
        let content = Payload::Stored { sha256: longshore_trace::digest(&payload), bytes: 100_000 };
        all.insert(9, Entry::Stream { stream: 1, kind: StreamKind::Stderr, content });
        let packed = pack(all);
        Self { redis, admin, execution, packed, payload }
    }

    fn store(&self) -> DirStore {
        DirStore::new(self.admin.store())
    }

    fn traces(&self) -> TraceStore {
        let none = std::collections::BTreeMap::new();
        let settings = TraceSettings::load(&none, ["test".to_owned()]).unwrap();
        TraceStore::new(::redis::Client::open(self.redis.url()).unwrap(), &settings)
    }

    /// As a worker does it.
    async fn publish(&self) {
        let tenant: TenantId = TENANT.parse().unwrap();
        payloads::put(&self.store(), &tenant, self.payload.clone()).await.unwrap();
        self.store().put(&bundle(), Content::Bytes(BUNDLE.into())).await.unwrap();
        assert!(self.traces().publish(&self.packed).await.unwrap());
    }

    fn path(&self, tenant: &str, rest: &str) -> String {
        format!("/v1/tenants/{tenant}/traces/{}{rest}", self.execution)
    }

    async fn bytes(&self, path: &str, token: &str) -> (u16, Bytes) {
        let reply = self.admin.service.http().request("GET", path, &bearer(token), "").await.unwrap();
        (reply.transport, reply.bytes)
    }

    async fn token(&self, tenant: &str, request: Value) -> String {
        let made = self.admin.ask("POST", &format!("/v1/tenants/{tenant}/tokens"), Some(request)).await.ok();
        made["secret"].as_str().unwrap().to_owned()
    }

    async fn import(&self, tenant: &str, file: Vec<u8>) -> crate::support::Answer {
        let mut headers = bearer(TOKEN);
        headers.push(("content-type".to_owned(), "application/octet-stream".to_owned()));
        raw(self.admin.service.http(), "PUT", &format!("/v1/tenants/{tenant}/traces"), &headers, file).await
    }

    async fn publish_event(&self, key: &str, fields: &[(&str, &str)]) {
        self.publish_event_at(key, "*", fields).await;
    }

    async fn publish_event_at(&self, key: &str, id: &str, fields: &[(&str, &str)]) {
        let mut words = vec!["XADD", key, id];
        words.extend(fields.iter().flat_map(|(name, value)| [*name, *value]));
        self.redis.command(&words).await;
    }

    /// An event as workers publish it.
    async fn event(&self, extension: &str, request: &str, level: &str, message: &str) {
        self.event_at("*", extension, request, level, message).await;
    }

    async fn event_at(&self, id: &str, extension: &str, request: &str, level: &str, message: &str) {
        let key = format!("ext-debug:{TENANT}:{extension}");
        let fields = [
            ("tenant", TENANT),
            ("extension", extension),
            ("request", request),
            ("level", level),
            ("kind", "log"),
            ("message", message),
            ("truncated", "0"),
        ];
        self.publish_event_at(&key, id, &fields).await;
    }

    async fn events(&self, query: &str) -> Vec<String> {
        let (status, body) = self.bytes(&format!("/v1/tenants/{TENANT}/events?{query}"), TOKEN).await;
        assert_eq!(status, 200, "{body:?}");
        messages(std::str::from_utf8(&body).unwrap())
    }
}

fn bundle() -> BundleKey {
    BundleKey {
        tenant: TENANT.parse().unwrap(),
        extension: "ext-1".parse().unwrap(),
        hash: longshore_trace::digest(BUNDLE),
    }
}

fn messages(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| Some(line["message"].as_str()?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_run_is_listed_and_read_with_all_it_needs_and_each_reading_is_audited() {
    let world = World::start().await;
    let path = |rest: &str| world.path(TENANT, rest);
    world.admin.get(&path("")).await.refused(404, "trace_not_found");
    world.publish().await;
    let list = format!("/v1/tenants/{TENANT}/traces");
    let listed = world.admin.get(&list).await.ok();
    assert_eq!(listed["traces"][0]["execution"], world.execution.to_string(), "{listed}");
    assert!(listed["next"].is_null());
    for (query, found) in [
        ("extension=ext-1&outcome=ok&failed=false&limit=1", 1),
        ("extension=ext-2", 0),
        ("failed=true", 0),
        ("request_id=req-1", 1),
        ("since_ms=9999999999999", 0),
        ("until_ms=9223372036854775807", 1),
    ] {
        let listed = world.admin.get(&format!("{list}?{query}")).await.ok();
        assert_eq!(listed["traces"].as_array().unwrap().len(), found, "{query}");
    }
    for (name, most) in [("request_id", 256), ("outcome", 64)] {
        world.admin.get(&format!("{list}?{name}={}", "x".repeat(most))).await.ok();
        let longer = format!("{list}?{name}={}", "x".repeat(most + 1));
        world.admin.get(&longer).await.refused(400, "invalid_request");
    }
    for query in [
        "limit=0",
        "limit=1001",
        "cursor=x",
        "failed=maybe",
        "content_hash=x",
        "nonsense=1",
        "since_ms=-1",
        "since_ms=9223372036854775808",
        "until_ms=9223372036854775808",
        "until_ms=18446744073709551615",
        "until_ms=18446744073709551616",
    ] {
        world.admin.get(&format!("{list}?{query}")).await.refused(400, "invalid_request");
    }
    assert_eq!(world.bytes(&path(""), TOKEN).await, (200, world.packed.bytes.clone()));
    assert_eq!(world.bytes(&path("?attempt=1"), TOKEN).await.0, 200);
    world.admin.get(&path("?attempt=2")).await.refused(404, "trace_not_found");
    let payload = format!("/payloads/{}", longshore_trace::digest(&world.payload).hex());
    assert_eq!(world.bytes(&path(&payload), TOKEN).await, (200, world.payload.clone()));
    assert_eq!(world.bytes(&path("/bundle"), TOKEN).await, (200, Bytes::from_static(BUNDLE)));
    // One that the trace does not name is not given out, whoever has it.
    let foreign =
        payloads::put(&world.store(), &TENANT.parse().unwrap(), Bytes::from_static(b"x")).await.unwrap();
    world.admin.get(&path(&format!("/payloads/{}", foreign.hex()))).await.refused(404, "trace_not_found");
    world.admin.get(&world.path("t-2", "")).await.refused(404, "trace_not_found");
    world.admin.get(&world.path("t-2", "/bundle")).await.refused(404, "trace_not_found");
    world.admin.get(&format!("{list}/nonsense")).await.refused(400, "invalid_request");

    let kinds = world.admin.audit().await;
    let count = |kind: &str| kinds.iter().filter(|found| *found == kind).count();
    assert!(count("trace_read") >= 10 && count("trace_exported") >= 3, "{kinds:?}");

    // What was changed in the store is not handed out.
    let kept = payloads::key(&TENANT.parse().unwrap(), longshore_trace::digest(&world.payload)).unwrap();
    world.store().put_object(&kept, Content::Bytes(Bytes::from(vec![6; 100_000]))).await.unwrap();
    world.admin.get(&path(&payload)).await.refused(422, "invalid_trace");
    world.store().delete_object(&bundle().object_key()).await.unwrap();
    world.admin.get(&path("/bundle")).await.refused(404, "bundle_not_found");

    // A tenant that leaves takes all of it along.
    let purge = json!({ "confirm": TENANT });
    let purged = world.admin.ask("POST", &format!("/v1/tenants/{TENANT}/purge"), Some(purge)).await.ok();
    assert_eq!(purged["removed"]["recorded_runs"], 1, "{purged}");
    world.admin.get(&path("")).await.refused(404, "trace_not_found");
    assert_eq!(world.redis.keys().await, Vec::<String>::new());
    assert!(!world.admin.store().join(format!("traces/{TENANT}")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_the_right_reads_its_own_tenant_and_does_nothing_else() {
    let world = World::start().await;
    world.publish().await;
    let reader = world.token(TENANT, json!({ "access": "read", "traces": true })).await;
    let caller = world.token(TENANT, json!({ "access": "write" })).await;
    let stranger = world.token("t-2", json!({ "access": "read", "traces": true })).await;
    let limited = json!({ "access": "read", "traces": true, "extensions": ["ext-1"] });
    let made = world.admin.ask("POST", &format!("/v1/tenants/{TENANT}/tokens"), Some(limited)).await;
    made.refused(400, "invalid_request");
    let listed = world.admin.get(&format!("/v1/tenants/{TENANT}/tokens")).await.ok();
    let rights: Vec<_> = listed["tokens"].as_array().unwrap().iter().map(|token| &token["traces"]).collect();
    assert!(rights.contains(&&json!(true)) && rights.contains(&&json!(false)), "{listed}");

    let list = format!("/v1/tenants/{TENANT}/traces");
    let readable = [
        list.clone(),
        world.path(TENANT, ""),
        world.path(TENANT, "/bundle"),
        format!("/v1/tenants/{TENANT}/events"),
    ];
    for path in &readable {
        assert_eq!(world.bytes(path, &reader).await.0, 200, "{path}");
        assert_eq!(world.bytes(path, &caller).await.0, 403, "{path}");
        assert_eq!(world.bytes(path, &stranger).await.0, 401, "{path}");
        assert_eq!(world.bytes(path, &reader.replace("lst_", "lst-")).await.0, 401, "{path}");
    }
    // Nothing but reading, and no other way to write the same path.
    let http = world.admin.service.http();
    for (method, path) in [
        ("GET", "/v1/installs".to_owned()),
        ("GET", "/v1/audit".to_owned()),
        ("GET", format!("/v1/tenants/{TENANT}/tokens")),
        ("PUT", list.clone()),
        ("HEAD", list.clone()),
        ("GET", "/v1/tenants/t-2/traces".to_owned()),
        ("GET", "/v1/tenants/t%2D1/traces".to_owned()),
        ("GET", "/v1/tenants/t-1%2F..%2Ft-2/traces".to_owned()),
    ] {
        let reply = http.request(method, &path, &bearer(&reader), "").await.unwrap();
        assert_eq!(reply.transport, 401, "{method} {path}");
    }
    let audit = world.admin.get("/v1/audit").await.ok().to_string();
    let id = &reader[4..36];
    assert!(audit.contains(&format!("token {id} of {TENANT}")), "{audit}");
    assert!(!audit.contains(&reader[37..]));
    // Revoked, it reads nothing from the next request on.
    world.admin.ask("DELETE", &format!("/v1/tenants/{TENANT}/tokens/{id}"), None).await.ok();
    assert_eq!(world.bytes(&list, &reader).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_run_is_put_back_once_and_a_file_that_is_not_right_is_refused() {
    let world = World::start().await;
    let exported = Exported {
        trace: world.packed.bytes.clone(),
        payloads: [(longshore_trace::digest(&world.payload), world.payload.clone())].into(),
        bundle: Some(Bytes::from_static(BUNDLE)),
    };
    let file = |exported: &Exported| {
        let mut bytes = Vec::new();
        longshore_trace::file::write(exported, &mut bytes).unwrap();
        bytes
    };
    let good = file(&exported);
    let changed = Exported { bundle: Some(Bytes::from_static(b"another")), ..exported.clone() };
    let incomplete = Exported { payloads: Default::default(), ..exported.clone() };
    for bad in [
        Vec::new(),
        b"nonsense".to_vec(),
        good[..good.len() - 700].to_vec(),
        file(&changed),
        file(&incomplete),
    ] {
        world.import(TENANT, bad).await.refused(422, "invalid_trace");
    }
    world.import("t-2", good.clone()).await.refused(422, "invalid_trace");
    assert_eq!(world.redis.keys().await, Vec::<String>::new(), "nothing of them was kept");
    let first = world.import(TENANT, good.clone()).await;
    assert_eq!(first.status, 201);
    assert_eq!(first.json["execution"], world.execution.to_string());
    assert_eq!(world.import(TENANT, good).await.status, 200);
    assert_eq!(world.bytes(&world.path(TENANT, ""), TOKEN).await, (200, world.packed.bytes.clone()));
    assert_eq!(world.bytes(&world.path(TENANT, "/bundle"), TOKEN).await.0, 200);
    let payload = format!("/payloads/{}", longshore_trace::digest(&world.payload));
    assert_eq!(world.bytes(&world.path(TENANT, &payload), TOKEN).await.0, 200);
    let kinds = world.admin.audit().await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "trace_imported").count(), 2, "{kinds:?}");
}

/// A connection that follows.
struct Follower {
    stream: TcpStream,
    text: String,
}

impl Follower {
    async fn start(world: &World, query: &str) -> Self {
        let mut stream = TcpStream::connect(world.admin.service.http().address()).await.unwrap();
        let head = format!(
            "GET /v1/tenants/{TENANT}/events?follow=true{query} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut follower = Self { stream, text: String::new() };
        // The first sign of life says that it is among the readers.
        follower.wait("{\"heartbeat\":true}").await;
        assert!(follower.text.starts_with("HTTP/1.1 200"), "{}", follower.text);
        follower
    }

    /// Reads until there is this; false: the connection ended before.
    async fn read(&mut self, what: &str) -> bool {
        let reading = async {
            while !self.text.contains(what) {
                let mut bytes = [0; 4096];
                match self.stream.read(&mut bytes).await {
                    Ok(0) | Err(_) => return false,
                    Ok(read) => self.text.push_str(&String::from_utf8_lossy(&bytes[..read])),
                }
            }
            true
        };
        let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
        read.unwrap_or_else(|_| panic!("{what} did not come: {}", self.text))
    }

    async fn wait(&mut self, what: &str) {
        assert!(self.read(what).await, "{what}: the connection ended: {}", self.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_read_in_the_order_of_time_and_narrowed_down() {
    let world = World::start().await;
    assert_eq!(world.events("since_ms=0").await, Vec::<String>::new());
    // Times of their own: what two streams have of one millisecond has no order.
    for (id, extension, request, level, message) in [
        ("1000-0", "e1", "r1", "info", "one"),
        ("1001-0", "e2", "r2", "error", "two"),
        ("1002-0", "e1", "r2", "warn", "three"),
        ("1003-0", "E1", "r1", "debug", "four"),
    ] {
        world.event_at(id, extension, request, level, message).await;
    }
    // Another tenant's whose name differs in the case alone shares the stream.
    let theirs = [("tenant", "T-1"), ("extension", "e1"), ("message", "theirs"), ("level", "error")];
    world.publish_event(&format!("ext-debug:{TENANT}:e1"), &theirs).await;
    world.publish_event("ext-debug:t-10:e1", &[("tenant", "t-10"), ("message", "also theirs")]).await;
    assert_eq!(world.events("since_ms=0").await.len(), 4);
    assert_eq!(world.events("since_ms=0&level=warn").await, ["two", "three"]);
    assert_eq!(world.events("since_ms=0&extension=e1").await, ["one", "three"]);
    assert_eq!(world.events("since_ms=0&request=r1&level=info").await, ["one"]);
    assert_eq!(world.events("since_ms=0&extension=none").await, Vec::<String>::new());
    assert_eq!(world.events("since_ms=9999999999999").await, Vec::<String>::new());
    assert_eq!(world.events("").await, Vec::<String>::new(), "neither what was nor what comes");
    let long = format!("request={}", "x".repeat(257));
    for query in
        ["level=loud", "follow=perhaps", "since_ms=-1", "since_ms=x", "extension=a%20b", "nonsense=1", &long]
    {
        let path = format!("/v1/tenants/{TENANT}/events?{query}");
        world.admin.get(&path).await.refused(400, "invalid_request");
    }
    // More than one page of each stream.
    for n in 0..450 {
        world.event(["e1", "e2", "e3"][n % 3], "many", "info", &format!("{n:03}")).await;
    }
    let many = world.events("since_ms=0&request=many").await;
    assert_eq!(many.len(), 450);
    let kinds = world.admin.audit().await;
    assert!(kinds.iter().filter(|kind| *kind == "events_read").count() >= 9, "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_is_followed_once_and_without_a_gap_of_new_extensions_too() {
    let world = World::start().await;
    world.event("e1", "r", "info", "before").await;
    let mut live = Follower::start(&world, "").await;
    let mut all = Follower::start(&world, "&since_ms=0").await;
    let mut one = Follower::start(&world, "&extension=e2").await;
    all.wait("\"before\"").await;
    for n in 0..50 {
        world.event("e1", "r", "info", &format!("n-{n:02}")).await;
    }
    // Nobody has heard of it when they begin.
    world.event("e2", "r", "info", "of-a-new-one").await;
    for follower in [&mut live, &mut all, &mut one] {
        follower.wait("of-a-new-one").await;
    }
    for follower in [&mut live, &mut all] {
        follower.wait("n-49").await;
        for n in 0..50 {
            let times = follower.text.matches(&format!("n-{n:02}")).count();
            assert_eq!(times, 1, "n-{n:02}: {}", follower.text);
        }
    }
    assert!(!live.text.contains("\"before\"") && !one.text.contains("n-00"));
    assert_eq!(all.text.matches("\"before\"").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_are_told_when_redis_goes_and_may_come_again() {
    let mut world = World::start().await;
    let mut live = Follower::start(&world, "").await;
    world.redis.kill();
    assert!(!live.read("never").await, "the connection ends");
    assert!(!live.text.ends_with("0\r\n\r\n"), "and not as if that were all: {}", live.text);
    let path = format!("/v1/tenants/{TENANT}/events?since_ms=0");
    world.admin.get(&path).await.refused(503, "unavailable");
    world.admin.get(&format!("/v1/tenants/{TENANT}/traces")).await.refused(503, "unavailable");
    world.redis.start_again().await;
    until("events again", async || world.admin.get(&path).await.status == 200).await;
    let mut live = Follower::start(&world, "").await;
    world.event("e", "r", "info", "again").await;
    live.wait("again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_without_redis_says_so_and_nothing_is_read_without_the_audit() {
    let admin = Admin::start().await;
    for path in ["events", "traces"] {
        admin.get(&format!("/v1/tenants/{TENANT}/{path}")).await.refused(503, "unavailable");
    }
    let mut world = World::start().await;
    world.publish().await;
    world.admin.nats.kill();
    for path in [format!("/v1/tenants/{TENANT}/events?since_ms=0"), world.path(TENANT, "")] {
        world.admin.get(&path).await.refused(503, "unavailable");
    }
}
