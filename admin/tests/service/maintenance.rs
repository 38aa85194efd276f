//! Tokens, uninstall with purge, a tenant's purge, the collection.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use longshore_storage::{JetStreamSettings, PutEntry, Scope, Storage};
use longshore_tests::redis::Redis;
use serde_json::{Value, json};

use crate::support::{Admin, pages};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_once_listed_and_revoked() {
    let admin = Admin::start().await;
    let request = json!({ "access": "write", "label": "ci", "expires_in_s": 3600, "extensions": ["a.b"] });
    let made = admin.ask("POST", "/v1/tenants/t-1/tokens", Some(request)).await;
    assert_eq!(made.status, 201);
    let made = made.ok();
    let (secret, id) = (made["secret"].as_str().unwrap(), made["token"]["id"].as_str().unwrap());
    assert!(secret.starts_with(&format!("lst_{id}_")));
    let listed = admin.get("/v1/tenants/t-1/tokens").await.ok();
    assert_eq!(listed["tokens"], json!([made["token"]]));
    assert_eq!(listed["tokens"][0]["created_by"], "admin token");
    assert_eq!(admin.get("/v1/tenants/t-2/tokens").await.ok(), json!({ "tokens": [] }));
    // Not another tenant's.
    let path = |tenant: &str| format!("/v1/tenants/{tenant}/tokens/{id}");
    admin.ask("DELETE", &path("t-2"), None).await.refused(404, "token_not_found");
    admin.ask("DELETE", &path("t-1"), None).await.ok();
    admin.ask("DELETE", &path("t-1"), None).await.refused(404, "token_not_found");
    assert_eq!(admin.audit().await, ["token.created", "token.revoked"]);
    let said = admin.get("/v1/audit").await.json.to_string() + &admin.service.lines().all().join("\n");
    assert!(!said.contains(secret) && !said.contains(&secret[37..]));
}

/// Storage as a worker has it.
async fn storage(admin: &Admin) -> Arc<dyn Storage> {
    let worker = admin.nats.client("worker").await;
    longshore_storage::on_jetstream(worker.client, JetStreamSettings::default()).await.unwrap()
}

async fn put(storage: &Arc<dyn Storage>, tenant: &str, install: &str) {
    let tenant = tenant.parse().unwrap();
    let scope = Scope { tenant: &tenant, install, request_id: None };
    let entry = PutEntry {
        namespace: "n.s".to_owned(),
        key: "k".to_owned(),
        value: "1".into(),
        revision: None,
        ttl: None,
    };
    storage.put(&scope, &entry).await.unwrap();
}

async fn subjects(admin: &Admin, stream: &str) -> Vec<String> {
    let client = admin.nats.client("admin").await;
    let stream = async_nats::jetstream::new(client.client).get_stream(stream).await.unwrap();
    let mut found = stream.info_with_subjects(">").await.unwrap();
    let mut subjects = Vec::new();
    while let Some(Ok((subject, _))) = futures::StreamExt::next(&mut found).await {
        subjects.push(subject);
    }
    subjects.sort();
    subjects
}

/// A schedule as `longshore-schedules` keeps it: `<tenant>.<install>.<id>`.
async fn schedule(admin: &Admin, tenant: &str, install: &str) {
    use longshore_service::nats::buckets::token;
    let client = admin.nats.client("admin").await;
    let key = format!(
        "$KV.longshore-schedules.{}.{}.0f0e0d0c-0b0a-4908-8706-050403020100",
        token(tenant),
        token(install)
    );
    async_nats::jetstream::new(client.client).publish(key, "{}".into()).await.unwrap().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_removes_all_of_one_tenant_and_nothing_of_another() {
    let redis = Redis::start().await;
    let events = ("RUNNER_DEBUG_REDIS_URL", redis.url());
    let admin = Admin::with(&[events]).await;
    let storage = storage(&admin).await;
    for tenant in ["t.1", "t.2"] {
        let made = admin.install(tenant, pages("a.b", "1.0.0", &[])).await;
        let install = made["install"]["install_id"].as_str().unwrap();
        put(&storage, tenant, install).await;
        schedule(&admin, tenant, install).await;
        admin
            .ask("POST", &format!("/v1/tenants/{tenant}/tokens"), Some(json!({ "access": "read" })))
            .await
            .ok();
        let mut connection =
            ::redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
        let key = format!("ext-debug:{tenant}:{}", made["install"]["extension"].as_str().unwrap());
        let _: String = ::redis::cmd("XADD")
            .arg(key)
            .arg("*")
            .arg("a")
            .arg("b")
            .query_async(&mut connection)
            .await
            .unwrap();
        let payload = admin.store().join(format!("payloads/{tenant}/x"));
        std::fs::create_dir_all(payload.parent().unwrap()).unwrap();
        std::fs::write(payload, "12345").unwrap();
    }
    // Pages were called by name.
    let hint = format!(
        "$KV.longshore-ui-hints.{}.{}",
        longshore_service::nats::buckets::token("a.b"),
        "ab".repeat(32)
    );
    let client = admin.nats.client("admin").await;
    async_nats::jetstream::new(client.client).publish(hint, "{}".into()).await.unwrap().await.unwrap();
    let purge = |confirm: &str| json!({ "confirm": confirm });
    admin.ask("POST", "/v1/tenants/t.1/purge", Some(purge("t.2"))).await.refused(403, "not_confirmed");
    let done = admin.ask("POST", "/v1/tenants/t.1/purge", Some(purge("t.1"))).await.ok();
    let removed = &done["removed"];
    for (what, count) in [
        ("installs", 1),
        ("tokens", 1),
        ("schedules", 1),
        ("storage_entries", 1),
        ("ui_hints", 1),
        ("bundle_objects", 2),
        ("other_objects", 1),
        ("debug_streams", 1),
    ] {
        assert_eq!(removed[what], count, "{what}: {done}");
    }
    assert_eq!(done["left"], json!([]));
    assert!(!admin.store().join("tenants/t.1").exists() && !admin.store().join("payloads/t.1").exists());
    let nothing = admin.ask("POST", "/v1/tenants/t.1/purge", Some(purge("t.1"))).await.ok();
    assert!(nothing["removed"].as_object().unwrap().values().all(|count| *count == json!(0)), "{nothing}");

    // The other tenant has everything.
    assert_eq!(admin.get("/v1/installs").await.ok()["installs"].as_array().unwrap().len(), 1);
    assert_eq!(admin.get("/v1/tenants/t.2/tokens").await.ok()["tokens"].as_array().unwrap().len(), 1);
    assert!(admin.store().join("payloads/t.2/x").is_file());
    assert_eq!(redis.keys().await.len(), 1);
    let schedules = subjects(&admin, "KV_longshore-schedules").await;
    assert!(schedules.len() == 1 && schedules[0].contains("t=2E2"), "{schedules:?}");
    assert_eq!(subjects(&admin, "KV_longshore-storage").await.len(), 2, "an entry and the count");

    // And loses it by an uninstall with purge.
    let uninstalled = admin.ask("DELETE", "/v1/tenants/t.2/installs/a.b?purge=true", None).await.ok();
    for (what, count) in
        [("schedules", 1), ("storage_entries", 1), ("bundle_objects", 2), ("debug_streams", 1)]
    {
        assert_eq!(uninstalled["removed"][what], count, "{what}: {uninstalled}");
    }
    assert!(subjects(&admin, "KV_longshore-storage").await.is_empty());
    assert!(redis.keys().await.is_empty());
    assert_eq!(admin.get("/v1/tenants/t.2/bundles").await.ok(), json!({ "bundles": [] }));
}

/// Makes every file of the store so many days old.
fn age(admin: &Admin, days: u64) {
    let then = SystemTime::now() - Duration::from_secs(days * 86_400);
    let mut folders = vec![admin.store()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                std::fs::File::open(path).unwrap().set_modified(then).unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_collection_takes_what_no_install_can_use_and_only_when_it_is_old() {
    let admin = Admin::start().await;
    let first = admin.install("t", pages("a.b", "1.0.0", &[])).await;
    let second = admin.install("t", pages("a.b", "2.0.0", &[])).await;
    let unused = admin.upload("t", "", pages("a.b", "3.0.0", &[])).await.ok();
    let gc =
        async |dry_run: bool| admin.ask("POST", "/v1/gc", Some(json!({ "dry_run": dry_run }))).await.ok();
    assert_eq!(gc(false).await["removed"]["bundle_objects"], 0, "too young");
    age(&admin, 31);
    let would = gc(true).await;
    assert_eq!(
        (&would["dry_run"], &would["removed"]["bundle_objects"]),
        (&json!(true), &json!(2)),
        "{would}"
    );
    assert!(would["keys"].as_array().unwrap().contains(&unused["object_key"]));
    let done = gc(false).await;
    assert_eq!(done["keys"], would["keys"]);
    let hashes = |list: &Value| -> Vec<String> {
        let bundles = list["bundles"].as_array().unwrap().iter();
        bundles.map(|bundle| bundle["content_hash"].as_str().unwrap().to_owned()).collect()
    };
    let mut kept = hashes(&admin.get("/v1/tenants/t/bundles").await.ok());
    kept.sort();
    let mut used =
        [&first, &second].map(|made| made["install"]["version"]["content_hash"].as_str().unwrap().to_owned());
    used.sort();
    assert_eq!(kept, used, "in force, and what it may roll back to");
    assert_eq!(gc(false).await["removed"]["bundle_objects"], 0);
    assert_eq!(
        admin.audit().await.iter().filter(|kind| *kind == "gc.ran").count(),
        1,
        "only what removed something"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_of_tenants_without_installs_here_are_not_collected() {
    let admin = Admin::start().await;
    // Another platform's tenant in the same store, which calls by `/v1/execute`; and one of ours.
    let theirs = admin.upload("theirs", "", pages("a.b", "1.0.0", &[])).await.ok();
    admin.install("ours", pages("a.b", "1.0.0", &[])).await;
    let unused = admin.upload("ours", "", pages("a.b", "2.0.0", &[])).await.ok();
    age(&admin, 400);
    let done = admin.ask("POST", "/v1/gc", Some(json!({ "dry_run": false }))).await.ok();
    let keys = done["keys"].as_array().unwrap();
    assert!(keys.contains(&unused["object_key"]), "{done}");
    assert!(!keys.contains(&theirs["object_key"]), "{done}");
    let kept = admin.get("/v1/tenants/theirs/bundles").await.ok();
    assert_eq!(kept["bundles"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_nobody_uses_is_removed_on_request() {
    let admin = Admin::start().await;
    let uploaded = admin.upload("t", "", pages("a.b", "1.0.0", &[])).await.ok();
    let path = format!(
        "/v1/tenants/t/extensions/{}/bundles/{}",
        uploaded["extension"].as_str().unwrap(),
        uploaded["content_hash"].as_str().unwrap()
    );
    assert_eq!(admin.ask("DELETE", &path, None).await.ok(), json!({ "objects": 2 }));
    admin.ask("DELETE", &path, None).await.refused(404, "bundle_not_found");
}
