//! `POST /warmup`.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use super::support::*;

async fn post(gateway: &Gateway, body: impl Into<String>, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::post("/warmup").header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    gateway.send(request.body(Body::from(body.into())).unwrap()).await
}

#[tokio::test]
async fn a_bundle_is_fetched_here_and_by_the_workers_of_its_pool() {
    let world = World::new();
    let hash = world.put(TENANT, &pages()).await;
    world.registry.install(hash);
    let gateway = world.gateway(&[]).await;
    for (tenant, extension, called) in
        [("tenant_id", "extension_id", EXTENSION), ("tenant", "extension", "com.alga.hello")]
    {
        let body = json!({tenant: TENANT, extension: called, "content_hash": hash.hex().to_uppercase()});
        let reply = post(&gateway, body.to_string(), &[("x-runner-service-token", "good")]).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.is_not_kept());
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((&answer["pool"], &answer["content_hash"]), (&json!("default"), &json!(hash)));
        let workers = answer["workers"].as_array().unwrap();
        assert_eq!(workers[0], json!({"worker": "01".repeat(16), "ok": true, "took_ms": 7, "error": null}));
        assert_eq!(workers[1]["ok"], false);
        assert!(workers[1]["error"].as_str().unwrap().contains("bundle"));
        let (pool, warm) = world.workers.0.lock().pop().unwrap();
        assert_eq!(
            (pool.as_str(), warm.tenant.as_str(), warm.extension.as_str()),
            ("default", TENANT, EXTENSION)
        );
        assert_eq!(warm.content_hash, hash);
    }
    assert!(exists(&world.cache().join(hash.hex()).join("bundle/.ready")), "it is unpacked here");
}

#[tokio::test]
async fn without_tenant_and_extension_it_is_refused_in_the_words_of_the_existing_platform() {
    let world = World::new();
    let gateway = world.gateway(&[]).await;
    let hash = "00".repeat(32);
    for body in [
        json!({"content_hash": hash}).to_string(),
        json!({"content_hash": hash, "tenant_id": TENANT}).to_string(),
        json!({"content_hash": hash, "extension_id": EXTENSION}).to_string(),
        "{}".to_owned(),
        "[]".to_owned(),
        "no json".to_owned(),
        String::new(),
    ] {
        let reply = post(&gateway, body.clone(), &[]).await;
        assert_eq!(reply.status, 400, "{body}");
        assert_eq!(reply.text(), "warmup unsupported without tenant + extension context");
        assert!(reply.is_not_kept());
    }
    assert_eq!(post(&gateway, "x".repeat(20_000), &[]).await.status, 400);
}

#[tokio::test]
async fn what_is_not_installed_or_not_there_warms_nobody() {
    let world = World::new();
    let hash = world.put(TENANT, &pages()).await;
    world.registry.install(hash);
    let gateway = world.gateway(&[]).await;
    let ask = |tenant: &str, extension: &str, hash: &str| {
        json!({"tenant_id": tenant, "extension_id": extension, "content_hash": hash}).to_string()
    };
    let hash = hash.hex();
    for (body, headers, status) in [
        (ask("t-2", EXTENSION, &hash), &[][..], 404),
        (ask(TENANT, "other", &hash), &[], 404),
        (ask(TENANT, EXTENSION, &"11".repeat(32)), &[], 404),
        (ask("..", EXTENSION, &hash), &[], 400),
        (ask(TENANT, "a/b", &hash), &[], 400),
        (ask(TENANT, EXTENSION, "sha256:zz"), &[], 400),
        (ask(TENANT, EXTENSION, &hash), &[("x-runner-service-token", "bad")], 401),
    ] {
        let reply = post(&gateway, body.clone(), headers).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text());
        assert!(reply.is_not_kept());
    }
    assert!(world.workers.0.lock().is_empty());
    let missing = world.put("t-9", &[("ui/index.html", b"x".to_vec())]).await;
    world.registry.install(missing);
    let reply = post(&gateway, ask(TENANT, EXTENSION, &missing.hex()), &[]).await;
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (500, r#"{"code":"extract_failed"}"#));
    assert!(world.workers.0.lock().is_empty());
}
