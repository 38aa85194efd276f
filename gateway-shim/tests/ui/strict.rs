//! Strict validation: the registry's word, signed paths, and whose claim counts.

use std::sync::atomic::Ordering::SeqCst;

use longshore_proto::ContentHash;
use longshore_registry::RegistryError;

use super::support::*;

async fn strict() -> (World, Gateway, ContentHash) {
    let world = World::new();
    let hash = world.put(TENANT, &pages()).await;
    world.registry.install(hash);
    let gateway = world.gateway(&[]).await;
    (world, gateway, hash)
}

/// Where a relative or absolute `location` leads from `uri`.
fn follow(uri: &str, location: &str) -> String {
    let from = url::Url::parse(&format!("http://gateway.example{uri}")).unwrap();
    let to = from.join(location).unwrap();
    format!("{}{}", to.path(), to.query().map(|query| format!("?{query}")).unwrap_or_default())
}

#[tokio::test]
async fn every_way_to_say_yes_is_strict() {
    let world = World::new();
    let hash = world.put(TENANT, &pages()).await;
    for name in ["EXT_STATIC_STRICT_VALIDATION", "RUNNER_STATIC_STRICT_VALIDATION"] {
        for yes in ["1", "true", "yes", "TRUE"] {
            let gateway = world.gateway(&[(name, yes)]).await;
            let uri = format!("/ext-ui/{EXTENSION}/{hash}/index.html?tenant={TENANT}");
            let reply = gateway.get(&uri, &[]).await;
            assert_eq!(
                (reply.status.as_u16(), reply.body.len()),
                (404, 0),
                "{name}={yes}: nothing is installed"
            );
        }
    }
}

#[tokio::test]
async fn a_tenant_is_a_claim_that_the_registry_checks() {
    let (world, gateway, hash) = strict().await;
    let uri = |tenant: &str| format!("/ext-ui/{EXTENSION}/{hash}/assets/app.js?tenant={tenant}");
    assert_eq!(gateway.get(&uri(TENANT), &[]).await.status, 200);
    for other in ["t-2", "", "..", "T-1", "t-1%00", "t-1&tenant=t-2", "t-1%2F..", "*"] {
        let reply = gateway.get(&uri(other), &[]).await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (404, 0), "{other}");
        assert!(reply.is_not_kept());
    }
    let header = format!("/ext-ui/{EXTENSION}/{hash}/assets/app.js");
    assert_eq!(gateway.get(&header, &[("x-tenant-id", TENANT)]).await.status, 200);
    assert_eq!(gateway.get(&header, &[("x-tenant-id", "t-2")]).await.status, 404);
    assert_eq!(
        gateway.get(&uri("t-2"), &[("x-tenant-id", TENANT)]).await.status,
        404,
        "the query is the claim"
    );
    assert_eq!(gateway.get(&header, &[("x-tenant-id", TENANT), ("x-tenant-id", "t-2")]).await.status, 404);
    let hints: Vec<String> = world.shared.0.lock().values().map(ToString::to_string).collect();
    assert!(hints.iter().all(|tenant| tenant == TENANT), "{hints:?}: only what was confirmed");
}

#[tokio::test]
async fn no_answer_of_the_registry_is_neither_yes_nor_no_and_is_not_remembered() {
    let (world, gateway, hash) = strict().await;
    let uri = format!("/ext-ui/{EXTENSION}/{hash}/assets/app.js?tenant={TENANT}");
    *world.registry.silent.lock() = Some(|| RegistryError::NotReady("starting".to_owned()));
    let reply = gateway.get(&uri, &[]).await;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (503, "1"));
    assert!(reply.is_not_kept());
    *world.registry.silent.lock() = None;
    assert_eq!(gateway.get(&uri, &[]).await.status, 200);
}

#[tokio::test]
async fn an_uninstall_is_seen_by_the_next_request() {
    let (world, gateway, hash) = strict().await;
    let uri = format!("/ext-ui/{EXTENSION}/{hash}/index.html?tenant={TENANT}");
    let page = gateway.get(&uri, NAVIGATION).await;
    let signed = follow(&uri, page.header("location"));
    assert_eq!(gateway.get(&signed, NAVIGATION).await.status, 200);
    world.registry.installs.lock().clear();
    for gone in [&uri, &signed] {
        assert_eq!(gateway.get(gone, NAVIGATION).await.status, 404, "{gone}");
    }
}

#[tokio::test]
async fn a_page_moves_to_a_signed_path_on_which_its_files_need_no_tenant() {
    let (_world, gateway, hash) = strict().await;
    for (prefix, path, file) in [
        ("", "index.html", "assets/app.js"),
        ("", "", "assets/app.js"),
        ("/runner", "index.html", "assets/style.css"),
        ("", "settings/users/7", "../../assets/app.js"),
        ("/runner", "settings//users", "../../assets/app.js"),
    ] {
        let uri =
            format!("{prefix}/ext-ui/{EXTENSION}/{hash}/{path}?tenant={TENANT}&extensionId=x&path=%2Fy");
        let page = gateway.get(&uri, NAVIGATION).await;
        assert_eq!(page.status, 307, "{uri}");
        assert!(page.is_not_kept());
        let signed = follow(&uri, page.header("location"));
        assert!(signed.starts_with(&format!("{prefix}/ext-ui/{EXTENSION}/{hash}/~")), "{signed}");
        assert!(signed.ends_with(&format!("/{path}?tenant={TENANT}&extensionId=x&path=%2Fy")), "{signed}");
        let page = gateway.get(&signed, NAVIGATION).await;
        assert_eq!(page.status, 200, "{signed}");
        assert_eq!(page.header("cache-control"), "private, no-cache");
        let file = follow(&signed, file);
        let script = gateway.get(&file, SCRIPT).await;
        assert_eq!(script.status, 200, "{file}");
        assert_eq!(script.header("cache-control"), "private, max-age=31536000, immutable");
        assert_eq!(gateway.get(&file.replace("/~", "/~x"), SCRIPT).await.status, 404, "a forged signature");
    }
}

#[tokio::test]
async fn without_a_claim_nothing_is_served_also_after_somebody_elses_visit() {
    let (world, gateway, hash) = strict().await;
    let base = format!("/ext-ui/{EXTENSION}/{hash}");
    assert_eq!(gateway.get(&format!("{base}/index.html?tenant={TENANT}"), &[]).await.status, 200);
    assert_eq!(world.shared.0.lock().len(), 1);
    assert_eq!(gateway.get(&format!("{base}/assets/app.js"), SCRIPT).await.status, 404);
    let hinted = world.gateway(&[("LONGSHORE_UI_SUBRESOURCES", "hint")]).await;
    assert_eq!(hinted.get(&format!("{base}/assets/app.js"), SCRIPT).await.status, 200);
    let page = hinted.get(&format!("{base}/index.html?tenant={TENANT}"), NAVIGATION).await;
    assert_eq!(page.status, 200, "no redirect where a gateway in front would follow it");
    world.registry.installs.lock().clear();
    assert_eq!(
        hinted.get(&format!("{base}/assets/app.js"), SCRIPT).await.status,
        404,
        "a hint is a claim again"
    );
}

#[tokio::test]
async fn a_program_that_follows_redirects_for_others_gets_the_page_itself() {
    let (_world, gateway, hash) = strict().await;
    let uri = format!("/ext-ui/{EXTENSION}/{hash}/index.html?tenant={TENANT}");
    let node = [("accept", "text/html"), ("sec-fetch-mode", "cors")];
    assert_eq!(gateway.get(&uri, &node).await.status, 200);
    assert_eq!(gateway.get(&uri, &[("accept", "*/*")]).await.status, 200, "curl");
    assert_eq!(gateway.get(&uri, &[("accept", "text/html")]).await.status, 307, "an old browser");
}

#[tokio::test]
async fn a_navigation_without_an_install_is_not_redirected() {
    let (_world, gateway, hash) = strict().await;
    let uri = format!("/ext-ui/{EXTENSION}/{hash}/index.html?tenant=t-2");
    let reply = gateway.get(&uri, NAVIGATION).await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (404, ""));
}

#[tokio::test]
async fn a_stale_signature_gives_way_to_the_claim_in_the_query() {
    let (_world, gateway, hash) = strict().await;
    let stale = format!("/ext-ui/{EXTENSION}/{hash}/~AAAA/settings/x?tenant={TENANT}");
    let page = gateway.get(&stale, NAVIGATION).await;
    assert_eq!(page.status, 307);
    let signed = follow(&stale, page.header("location"));
    assert!(!signed.contains("AAAA/") && signed.contains("/settings/x?"), "{signed}");
    assert_eq!(gateway.get(&signed, NAVIGATION).await.status, 200);
}

#[tokio::test]
async fn another_name_of_the_extension_is_found_and_validated() {
    let (world, gateway, hash) = strict().await;
    for name in [INSTALL, "com.alga.hello", "Alga.com.alga.Hello"] {
        let uri = format!("/ext-ui/{name}/{hash}/assets/app.js?tenant={TENANT}");
        assert_eq!(gateway.get(&uri, &[]).await.status, 200, "{name}");
        let other = format!("/ext-ui/{name}/{hash}/assets/app.js?tenant=t-2");
        assert_eq!(gateway.get(&other, &[]).await.status, 404, "{name}");
    }
    let before = world.registry.validations.load(SeqCst);
    let other_hash = ContentHash::from_bytes([3; 32]);
    let uri = format!("/ext-ui/com.alga.hello/{other_hash}/assets/app.js?tenant={TENANT}");
    assert_eq!(gateway.get(&uri, &[]).await.status, 404);
    assert_eq!(world.registry.validations.load(SeqCst), before + 2, "name and id were both asked about");
}

#[tokio::test]
async fn a_tenant_with_an_install_but_without_the_bundle_gets_nobody_elses() {
    let (world, gateway, hash) = strict().await;
    let mut install = (*world.registry.installs.lock()[0]).clone();
    install.tenant = "t-2".parse().unwrap();
    world.registry.installs.lock().push(install.into());
    let uri = |tenant: &str| format!("/ext-ui/{EXTENSION}/{hash}/assets/app.js?tenant={tenant}");
    assert_eq!(gateway.get(&uri(TENANT), &[]).await.status, 200);
    let reply = gateway.get(&uri("t-2"), &[]).await;
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (500, r#"{"code":"extract_failed"}"#));
}
