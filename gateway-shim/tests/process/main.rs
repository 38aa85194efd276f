//! The gateway's program with a real nats-server and the rights of `deploy/nats.conf`: what it hears of installs and tokens.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: what goes wrong in them fails the test"
)]

use std::collections::BTreeMap;

use longshore_access::{Access, NewToken, TokenStore};
use longshore_proto::install::Install;
use longshore_registry::{Installs, NatsRegistry};
use longshore_service::config::NatsConfig;
use longshore_service::lifecycle::Tasks;
use longshore_service::metrics::Metrics;
use longshore_service::nats::{Options, connect};
use longshore_tests::{Service, nats::Nats, wait};
use serde_json::{Value, json};

/// A call by `/api/ext`: its status, and the code of its error.
async fn call(shim: &Service, line: &str, token: Option<&str>) -> (u16, String) {
    let (method, path) = line.split_once(' ').unwrap();
    let headers: Vec<_> =
        token.iter().map(|token| ("authorization".to_owned(), format!("Bearer {token}"))).collect();
    let reply = shim.http().request(method, path, &headers, "").await.unwrap();
    let json: Value = serde_json::from_slice(&reply.bytes).unwrap();
    (reply.transport, json["code"].as_str().unwrap().to_owned())
}

/// Waits until a call ends so.
async fn until(shim: &Service, line: &str, token: Option<&str>, expected: (u16, &str)) {
    wait::until(line, wait::LIMIT, async || {
        let (status, code) = call(shim, line, token).await;
        if (status, code.as_str()) == expected { Ok(()) } else { Err(format!("{status} {code}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_hears_of_installs_and_tokens_and_of_their_end() {
    let nats = Nats::start().await;
    let settings = [
        ("NATS_URL", nats.url()),
        ("NATS_USER", "shim".to_owned()),
        ("NATS_PASSWORD", nats.password("shim").to_owned()),
        ("LONGSHORE_HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ("LONGSHORE_DEV_TENANT", "t".to_owned()),
    ];
    let mut shim = Service::start("gateway-shim", "shim", &settings).await;
    // No admin service has run: nothing to wait for.
    shim.ready().await;
    let line = "GET /api/ext/com.a.app/items/7";
    assert_eq!(call(&shim, line, None).await, (503, "registry_unavailable".to_owned()));
    assert_eq!(call(&shim, line, Some("lst_x")).await, (401, "unauthenticated".to_owned()));

    let env = BTreeMap::from([
        ("NATS_URL".to_owned(), nats.url()),
        ("NATS_USER".to_owned(), "control".to_owned()),
        ("NATS_PASSWORD".to_owned(), nats.password("control").to_owned()),
    ]);
    let config = NatsConfig::load(&env, ["admin".to_owned()]).unwrap();
    let options = Options { inbox_prefix: Some("_R.admin.test".to_owned()), ..Options::default() };
    let (client, link) = connect("admin", &config, options).await.unwrap();
    let (tasks, metrics) = (Tasks::new(), Metrics::new("admin"));
    let known = NatsRegistry::start(client.clone(), link.clone(), &tasks, &metrics, None);
    let installs = Installs::new(client.clone(), link.clone(), known.clone(), 1);
    wait::until("the bucket of installs", wait::LIMIT, async || installs.prepare().await).await;
    known.ready().await;
    let install: Install = serde_json::from_value(json!({
        "install_id": "i", "tenant": "t", "extension": "e", "name": "com.a.app", "publisher": "Acme", "version_id": "v", "version": "1.0.0",
        "content_hash": "ab".repeat(32), "endpoints": [{"method": "GET", "path": "/items/:id"}, {"method": "POST", "path": "/items"}],
    }))
    .unwrap();
    let (tenant, extension) = (install.tenant.clone(), install.extension.clone());
    installs.create_or_update(install).await.unwrap();
    let tokens = TokenStore::new(client, link, 1);
    tokens.prepare().await.unwrap();
    let new = NewToken {
        tenant: tenant.clone(),
        access: Access::Read,
        extensions: None,
        label: String::new(),
        lifetime: None,
        created_by: "test".to_owned(),
        traces: false,
    };
    let (secret, record) = tokens.create(new).await.unwrap();
    let token = Some(secret.expose());

    // As far as a fleet without workers goes.
    until(&shim, line, token, (503, "no_workers")).await;
    until(&shim, "GET /api/ext/acme.com.a.app/items/7", None, (503, "no_workers")).await;
    for (line, status, code) in [
        ("POST /api/ext/e/items", 403, "forbidden"),
        ("GET /api/ext/e/other", 404, "endpoint_not_found"),
        ("GET /api/ext/other/", 404, "extension_not_found"),
        ("GET /api/ext/e/items/7?tenant=u", 403, "tenant_mismatch"),
    ] {
        assert_eq!(call(&shim, line, token).await, (status, code.to_owned()), "{line}");
    }
    installs.set_enabled(&tenant, &extension, false).await.unwrap();
    until(&shim, line, token, (404, "extension_not_available")).await;
    installs.remove(&tenant, &extension).await.unwrap();
    until(&shim, line, token, (404, "extension_not_found")).await;
    tokens.revoke(&tenant, record.id).await.unwrap();
    until(&shim, line, token, (401, "unauthenticated")).await;
    shim.terminate();
    shim.drained(wait::LIMIT).await;
}
