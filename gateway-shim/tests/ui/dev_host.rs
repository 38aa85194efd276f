//! The development host page and what its bridge calls.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::OriginalUri;
use axum::routing::any;
use gateway_shim::dev_host::{DevHost, Menu, router};
use gateway_shim::http::Peer;
use http::{Method, Request};
use longshore_proto::install::Install;
use longshore_proto::{ContentHash, TenantId};
use longshore_registry::RegistryError;
use longshore_service::metrics::Metrics;
use serde_json::Value;

use super::support::*;

pub struct All(pub Arc<Memory>);

#[async_trait]
impl Menu for All {
    async fn installs(&self, _: &TenantId) -> Result<Vec<Arc<Install>>, RegistryError> {
        Ok(self.0.installs.lock().clone())
    }
}

/// A gateway's route that says what it got.
fn api() -> Router {
    let echo = |method: Method, OriginalUri(uri): OriginalUri, body: Bytes| async move {
        format!("{method} {uri} {}", String::from_utf8_lossy(&body))
    };
    Router::new().route("/api/ext/{extension}/{*path}", any(echo)).route("/api/ext/{extension}", any(echo))
}

fn host(ui_url: Option<&str>) -> (Arc<Memory>, Gateway) {
    let registry = Memory::new();
    registry.install(ContentHash::from_bytes([5; 32]));
    let host = DevHost {
        tenant: TENANT.parse().unwrap(),
        registry: registry.clone(),
        menu: Arc::new(All(registry.clone())),
        api: api(),
        ui_url: ui_url.map(|url| url.parse().unwrap()),
    };
    (registry, Gateway { router: router(host), metrics: Metrics::new("shim") })
}

async fn from_here(
    gateway: &Gateway,
    method: &str,
    uri: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let peer: SocketAddr = "127.0.0.1:50000".parse().unwrap();
    let mut request = Request::builder().method(method).uri(uri).extension(Peer(peer));
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost:8085");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    gateway.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

/// The data that the page's script gets.
fn data(page: &str) -> Value {
    let at = page.find("type=\"application/json\"").unwrap();
    let from = at + page[at..].find('>').unwrap() + 1;
    let to = from + page[from..].find("</script>").unwrap();
    serde_json::from_str(&page[from..to]).unwrap()
}

#[tokio::test]
async fn the_page_shows_the_menu_and_the_extension_in_a_sandbox() {
    let (_, gateway) = host(None);
    for id in [EXTENSION, INSTALL, "com.alga.hello"] {
        let reply = from_here(&gateway, "GET", &format!("/msp/extensions/{id}/"), &[], "").await;
        assert_eq!(reply.status, 200, "{id}");
        assert!(reply.is_not_kept());
        let page = reply.text();
        let data = data(&page);
        assert_eq!(data["menu"][0]["label"], "Hello <World>");
        assert!(!page.contains("Hello <World>"), "what an extension is called is no markup");
        assert_eq!(
            (&data["frame"]["sandbox"], &data["frame"]["origin"]),
            (&"allow-scripts allow-forms".into(), &"null".into())
        );
        let hash = "05".repeat(32);
        let src = format!(
            "/ext-ui/{EXTENSION}/sha256%3A{hash}/index.html?tenant={TENANT}&extensionId={EXTENSION}&path=%2F&parentOrigin=http%3A%2F%2Flocalhost%3A8085"
        );
        assert_eq!(data["frame"]["src"], src);
        let policy = reply.header("content-security-policy");
        let nonce = policy.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap();
        assert_eq!(page.matches("<script").count(), page.matches(&format!("nonce=\"{nonce}\">")).count() - 1);
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    let again = from_here(&gateway, "GET", "/msp/extensions/", &[], "").await;
    assert_eq!(data(&again.text())["frame"], Value::Null);
    let deep =
        from_here(&gateway, "GET", &format!("/msp/extensions/{EXTENSION}/settings/users"), &[], "").await;
    assert_eq!(data(&deep.text())["frame"]["path"], "/settings/users");
    let unknown = from_here(&gateway, "GET", "/msp/extensions/other/", &[], "").await;
    assert_eq!(unknown.status, 404);
}

#[tokio::test]
async fn two_pages_never_have_the_same_nonce() {
    let (_, gateway) = host(None);
    let policy = |reply: Reply| reply.header("content-security-policy").to_owned();
    let one = policy(from_here(&gateway, "GET", "/msp/extensions/", &[], "").await);
    assert_ne!(one, policy(from_here(&gateway, "GET", "/msp/extensions/", &[], "").await));
}

#[tokio::test]
async fn a_development_server_is_framed_in_place_of_the_installed_pages() {
    let (_, gateway) = host(Some("http://localhost:5173/index.html"));
    let reply = from_here(&gateway, "GET", &format!("/msp/extensions/{EXTENSION}/"), &[], "").await;
    let frame = data(&reply.text())["frame"].clone();
    assert!(frame["src"].as_str().unwrap().starts_with("http://localhost:5173/index.html?tenant="));
    assert_eq!(frame["origin"], "http://localhost:5173");
    assert_eq!(frame["sandbox"], "allow-scripts allow-forms allow-same-origin");
    assert!(reply.header("content-security-policy").contains("frame-src 'self' http://localhost:5173;"));
    let (_, own) = host(Some("http://localhost:8085/other"));
    let reply = from_here(&own, "GET", &format!("/msp/extensions/{EXTENSION}/"), &[], "").await;
    assert_eq!(
        data(&reply.text())["frame"]["sandbox"],
        "allow-scripts allow-forms",
        "never this page's own origin"
    );
}

#[tokio::test]
async fn the_state_says_which_bundle_is_installed() {
    let (registry, gateway) = host(None);
    let uri = format!("/msp/state/{EXTENSION}");
    let state: Value = serde_json::from_slice(&from_here(&gateway, "GET", &uri, &[], "").await.body).unwrap();
    assert_eq!(state["content_hash"], format!("sha256:{}", "05".repeat(32)));
    registry.installs.lock().clear();
    assert_eq!(from_here(&gateway, "GET", &uri, &[], "").await.status, 404);
}

#[tokio::test]
async fn what_the_bridge_calls_goes_to_the_gateways_route() {
    let (_, gateway) = host(None);
    for (method, uri, body, expected) in [
        ("POST", "/api/ext-proxy/e/x/y?a=1&a=2", "body", "POST /api/ext/e/x/y?a=1&a=2 body"),
        ("GET", "/api/ext-proxy/e/x", "", "GET /api/ext/e/x "),
        ("DELETE", "/api/ext-proxy/e/x%20y", "", "DELETE /api/ext/e/x%20y "),
        ("POST", "/api/ext-proxy/e", "b", "POST /api/ext/e b"),
        ("POST", "/api/ext-proxy/e/x?__method=DELETE&limit=10", "{}", "DELETE /api/ext/e/x?limit=10 {}"),
        (
            "POST",
            "/api/ext-proxy/e/x",
            r#"{"__method":"PUT","reason":1}"#,
            r#"PUT /api/ext/e/x {"reason":1}"#,
        ),
        ("POST", "/api/ext-proxy/e/x?__method=get", "dropped", "GET /api/ext/e/x "),
        ("PUT", "/api/ext-proxy/e/x?__method=DELETE", "b", "PUT /api/ext/e/x?__method=DELETE b"),
    ] {
        let reply = from_here(&gateway, method, uri, &[("origin", "http://localhost:8085")], body).await;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, expected), "{method} {uri}");
    }
    for uri in ["/api/ext-proxy/e/x?__method=CONNECT", "/api/ext-proxy/e/x?__method="] {
        assert_eq!(from_here(&gateway, "POST", uri, &[], "").await.status, 400, "{uri}");
    }
}

#[tokio::test]
async fn only_this_machine_and_this_origin_get_through() {
    let (_, gateway) = host(None);
    for uri in ["/msp/extensions/", "/msp/state/e", "/api/ext-proxy/e/x"] {
        for headers in [
            // What an extension in its sandbox would send by itself.
            &[("origin", "null")][..],
            &[("origin", "https://evil.example")],
            &[("sec-fetch-site", "cross-site")],
            &[("host", "evil.example")],
            &[("x-forwarded-for", "192.0.2.1")],
        ] {
            let method = if uri.starts_with("/api") { "POST" } else { "GET" };
            let reply = from_here(&gateway, method, uri, headers, "").await;
            assert_eq!(reply.status, 403, "{uri} {headers:?}");
            assert!(reply.is_not_kept());
        }
        let nobody = gateway.ask("GET", uri, &[("host", "localhost")]).await;
        assert_eq!(nobody.status, 403, "a peer that is not known");
    }
}
