//! Hints between gateways, names without strict validation, and host dispatch.

use longshore_registry::{HostTarget, RegistryError};

use super::support::*;

const LOOSE: &[(&str, &str)] = &[("EXT_STATIC_STRICT_VALIDATION", "false")];

#[tokio::test]
async fn what_a_page_loads_needs_no_tenant_on_any_gateway() {
    let (world, gateway, base) = loose().await;
    let script = format!("{base}/assets/app.js");
    assert_eq!(gateway.get(&script, SCRIPT).await.status, 404, "nobody has been shown the page yet");
    assert_eq!(gateway.get(&format!("{base}/index.html?tenant={TENANT}"), NAVIGATION).await.status, 200);
    assert_eq!(gateway.get(&script, SCRIPT).await.status, 200);
    let second = world.gateway(LOOSE).await;
    assert_eq!(second.get(&script, SCRIPT).await.status, 200);
    assert_eq!(second.count("longshore_shim_ui_hints_total{source=\"shared\"}"), 1);
    assert_eq!(second.get(&script, SCRIPT).await.status, 200);
    assert_eq!(second.count("longshore_shim_ui_hints_total{source=\"memory\"}"), 1);
}

#[tokio::test]
async fn a_claim_that_fails_leaves_no_hint() {
    let (world, gateway, base) = loose().await;
    let page = gateway.get(&format!("{base}/index.html?tenant=t-2"), NAVIGATION).await;
    assert_eq!(page.status, 500, "t-2 has no such object");
    assert!(world.shared.0.lock().is_empty());
    assert_eq!(gateway.get(&format!("{base}/index.html?tenant={TENANT}"), NAVIGATION).await.status, 200);
    let _ = gateway.get(&format!("{base}/index.html?tenant=t-2"), NAVIGATION).await;
    assert_eq!(
        gateway.get(&format!("{base}/assets/app.js"), SCRIPT).await.status,
        200,
        "the hint is still the right one"
    );
}

#[tokio::test]
async fn pages_that_are_not_strict_are_not_redirected() {
    let (_world, gateway, base) = loose().await;
    let page = gateway.get(&format!("{base}/index.html?tenant={TENANT}"), NAVIGATION).await;
    assert_eq!(
        (page.status.as_u16(), page.header("cache-control")),
        (200, "public, max-age=31536000, immutable")
    );
}

#[tokio::test]
async fn names_lead_to_the_extension_without_strict_validation_too() {
    let world = World::new();
    let hash = world.put(TENANT, &pages()).await;
    world.registry.install(hash);
    let gateway = world.gateway(LOOSE).await;
    for name in [EXTENSION, INSTALL, "com.alga.hello", "alga.com.alga.hello"] {
        let uri = format!("/ext-ui/{name}/{hash}/index.html?tenant={TENANT}");
        assert_eq!(gateway.get(&uri, &[]).await.status, 200, "{name}");
        assert_eq!(
            gateway.get(&format!("/ext-ui/{name}/{hash}/assets/app.js"), SCRIPT).await.status,
            200,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_registry_that_is_away_does_not_concern_who_is_not_strict() {
    let (world, gateway, base) = loose().await;
    *world.registry.silent.lock() = Some(|| RegistryError::NotReady("away".to_owned()));
    assert_eq!(gateway.get(&format!("{base}/index.html?tenant={TENANT}"), &[]).await.status, 200);
    assert_eq!(gateway.get(&format!("{base}/assets/app.js"), SCRIPT).await.status, 200);
}

async fn with_host() -> (World, Gateway, String) {
    let world = World::new();
    let hash = world.put(TENANT, &pages()).await;
    world.registry.install(hash);
    let target = HostTarget {
        tenant: TENANT.parse().unwrap(),
        extension: EXTENSION.parse().unwrap(),
        content_hash: hash,
    };
    world.registry.hosts.lock().insert("t1--e1.ext.example".to_owned(), target);
    let gateway = world.gateway(&[]).await;
    (world, gateway, hash.hex())
}

#[tokio::test]
async fn a_host_of_an_install_leads_to_its_pages() {
    let (_world, gateway, hex) = with_host().await;
    for host in ["t1--e1.ext.example", "T1--E1.EXT.example:8443", "t1--e1.ext.example."] {
        for method in ["GET", "HEAD"] {
            let reply = gateway.ask(method, "/", &[("host", host)]).await;
            assert_eq!(reply.status, 307, "{method} {host}");
            let expected = format!(
                "/ext-ui/{EXTENSION}/sha256%3A{hex}/index.html?tenant={TENANT}&extensionId={EXTENSION}"
            );
            assert_eq!(reply.header("location"), expected);
            assert!(reply.is_not_kept());
        }
    }
    let file = format!("/ext-ui/{EXTENSION}/{hex}/assets/app.js");
    assert_eq!(
        gateway.get(&file, &[("host", "t1--e1.ext.example")]).await.status,
        200,
        "the host is a claim as well"
    );
    assert_eq!(gateway.get(&file, &[("host", "other.example")]).await.status, 404);
}

#[tokio::test]
async fn other_hosts_lead_nowhere() {
    let (world, gateway, _) = with_host().await;
    for (hosts, status) in [
        (&["other.example"][..], 404),
        (&[], 400),
        (&[""], 400),
        (&["a b"], 400),
        (&["user@t1--e1.ext.example"], 400),
        (&["t1--e1.ext.example/"], 400),
        (&["t1--e1.ext.example:x"], 400),
        (&["t1--e1.ext.example", "other.example"], 400),
    ] {
        let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        let reply = gateway.get("/", &headers).await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (status, 0), "{hosts:?}");
        assert!(reply.is_not_kept());
    }
    let silences: [(fn() -> RegistryError, u16); 3] = [
        (|| RegistryError::NotReady("starting".to_owned()), 503),
        (|| RegistryError::Upstream("boom".into()), 502),
        (|| RegistryError::Damaged("x".to_owned()), 502),
    ];
    for (silence, status) in silences {
        *world.registry.silent.lock() = Some(silence);
        assert_eq!(gateway.get("/", &[("host", "t1--e1.ext.example")]).await.status, status);
    }
    assert_eq!(gateway.ask("POST", "/", &[("host", "t1--e1.ext.example")]).await.status, 405);
}
