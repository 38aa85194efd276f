//! The pages in a real browser: strict validation, the frame's sandbox and the content security policies all at work.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::OriginalUri;
use axum::routing::any;
use gateway_shim::dev_host::{self, DevHost};
use gateway_shim::http::{HttpConfig, HttpMetrics, Server};
use http::Method;
use longshore_service::metrics::Metrics;
use longshore_tests::browser::Browser;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::dev_host::All;
use super::support::*;

/// Pages as today's tools build them: a module script that imports another, a style sheet by `crossorigin`, a font by CSS.
fn built(version: &str) -> Vec<(&'static str, Vec<u8>)> {
    let script = r#"
        import { answer } from './dep.js';
        const post = (type, payload, request_id) =>
            parent.postMessage({ alga: true, version: '1', type, payload, request_id }, '*');
        const params = new URLSearchParams(location.search);
        addEventListener('message', ({ data }) => {
            if (data.type === 'bootstrap') document.body.dataset.path = data.payload.navigation.path;
            if (data.type === 'apiproxy_response' && data.request_id === 'r-1') {
                document.body.dataset.called = atob(data.payload.body || '') || data.payload.error;
            }
        });
        document.body.dataset.answer = String(answer);
        document.body.dataset.extension = params.get('extensionId');
        fetch('./data.json').then((r) => r.json()).then((d) => { document.body.dataset.fetched = d.text; });
        post('ready', {});
        post('resize', { height: 321 });
        post('apiproxy', { route: '/hello?x=1', body: btoa('{"a":1}'), method: 'PUT' }, 'r-1');
    "#;
    vec![
        (
            "ui/index.html",
            format!(
                "<!doctype html><html lang=en><link rel=stylesheet crossorigin href=assets/style.css><title>x</title>\
                 <body data-version={version}><h1>hello</h1><script type=module crossorigin src=assets/app.js></script>"
            )
            .into_bytes(),
        ),
        ("ui/assets/app.js", format!("{script}{}", "// padding\n".repeat(200)).into_bytes()),
        ("ui/assets/dep.js", b"export const answer = 42;".to_vec()),
        ("ui/assets/style.css", b"h1 { color: rgb(1, 2, 3) }".to_vec()),
        ("ui/data.json", br#"{"text":"fetched"}"#.to_vec()),
    ]
}

/// A gateway on a free port, in front of a route that says what it got.
async fn serve(world: &World) -> SocketAddr {
    let echo = |method: Method, OriginalUri(uri): OriginalUri, body: Bytes| async move {
        format!("{method} {uri} {}", String::from_utf8_lossy(&body))
    };
    let host = DevHost {
        tenant: TENANT.parse().unwrap(),
        registry: world.registry.clone(),
        menu: Arc::new(All(world.registry.clone())),
        api: Router::new().route("/api/ext/{extension}/{*path}", any(echo)),
        ui_url: None,
    };
    let router = world.gateway(&[]).await.router.merge(dev_host::router(host));
    let config = HttpConfig::load(&BTreeMap::<String, String>::new(), ["shim".to_owned()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new(router, &config, HttpMetrics::register(&Metrics::new("shim")));
    tokio::spawn(server.run(listener, CancellationToken::new(), CancellationToken::new()));
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandboxed_page_loads_calls_and_is_replaced_without_a_complaint() {
    let world = World::new();
    let first = world.put(TENANT, &built("1")).await;
    world.registry.install(first);
    let address = serve(&world).await;
    let browser = Browser::start().await;
    browser.open(&format!("http://localhost:{}/msp/extensions/{EXTENSION}/settings", address.port())).await;
    browser.enter_frame("iframe").await;
    let called = format!(r#"PUT /api/ext/{EXTENSION}/hello?x=1 {{"a":1}}"#);
    for (expression, expected) in [
        ("document.body.dataset.answer === '42'", "the module and what it imports"),
        ("document.body.dataset.fetched === 'fetched'", "a fetch of its own file"),
        ("document.body.dataset.path === '/settings'", "the bootstrap message"),
        (
            &format!("document.body.dataset.called === {}", serde_json::json!(called)),
            "a call through the host",
        ),
        ("getComputedStyle(document.querySelector('h1')).color === 'rgb(1, 2, 3)'", "the style sheet"),
        ("location.pathname.includes('/~')", "the signed path"),
        ("self.origin === 'null'", "no origin"),
    ] {
        println!("{expected}");
        browser.until(expression).await;
    }
    assert_eq!(browser.value("document.body.dataset.extension").await, EXTENSION);
    browser.leave_frame().await;
    browser.until("document.querySelector('iframe').style.height === '321px'").await;
    browser.until("document.querySelector('nav a[aria-current]').textContent === 'Hello <World>'").await;
    browser.assert_no_complaints().await;

    let second = world.put(TENANT, &built("2")).await;
    world.registry.install(second);
    browser.until(&format!("document.querySelector('iframe').src.includes('{}')", second.hex())).await;
    browser.enter_frame("iframe").await;
    browser.until("document.body !== null && document.body.dataset.version === '2'").await;
    browser.until("document.body.dataset.answer === '42'").await;
    browser.assert_no_complaints().await;
    drop(browser);
}
