use std::time::Duration;

use longshore_platform::{ProxyFault, UiProxy, UiProxyCall, UiProxyError};
use longshore_service::upstream::Upstream;
use longshore_stub_platform::{Fault, Options, StubPlatform};
use serde_json::{Value, json};

const KEY: &str = "the-api-key";

async fn start() -> (StubPlatform, UiProxy) {
    let options = Options { api_key: Some(KEY.to_owned()), ..Options::default() };
    let stub = StubPlatform::start(options).await.unwrap();
    let proxy = proxy(&stub.base_url());
    (stub, proxy)
}

fn proxy(base: &str) -> UiProxy {
    UiProxy::new(&base.parse().unwrap(), Duration::from_secs(10), Upstream::new().unwrap()).unwrap()
}

fn call(route: &str) -> UiProxyCall<'_> {
    UiProxyCall { tenant: "t-1", extension: "e-1", api_key: Some(KEY), route, ..UiProxyCall::default() }
}

#[tokio::test]
async fn a_route_of_the_platform_is_called_with_the_installs_key() {
    let (stub, proxy) = start().await;
    let all = UiProxyCall {
        install: Some("i-1"),
        version: Some("v-1"),
        request_id: Some("req-1"),
        user_id: Some("u-1"),
        user_email: Some("jörg@example.com"),
        ..call("/api/v1/tickets?status=open&q=a%20b")
    };
    let answer: Value = serde_json::from_slice(&proxy.call(&all).await.unwrap()).unwrap();
    assert_eq!(answer["data"].as_array().unwrap().len(), 3);
    let request = &stub.requests()[0];
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("GET", "/api/v1/tickets?status=open&q=a%20b")
    );
    for (name, value) in [
        ("x-request-id", Some("req-1")),
        ("x-alga-tenant", Some("t-1")),
        ("x-alga-extension", Some("e-1")),
        ("x-ext-install-id", Some("i-1")),
        ("x-ext-version-id", Some("v-1")),
        ("x-user-id", Some("u-1")),
        ("x-user-email", Some("jörg@example.com")),
        ("x-api-key", Some(KEY)),
        ("content-type", None),
        ("x-runner-auth", None),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn a_payload_makes_it_a_post_of_json() {
    let (stub, proxy) = start().await;
    let answer = proxy
        .call(&UiProxyCall { payload: Some(br#"{"title": "x"}"#), ..call("api/v1/tickets") })
        .await
        .unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["data"]["title"], "x");
    let request = &stub.requests()[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/api/v1/tickets"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    // An empty one too.
    let error = proxy.call(&UiProxyCall { payload: Some(b""), ..call("api/v1/tickets") }).await.unwrap_err();
    assert_eq!(ProxyFault::from(&error), ProxyFault::BadRequest);
}

#[tokio::test]
async fn any_other_route_is_below_the_extensions_id() {
    let (stub, proxy) = start().await;
    for (extension, route, path) in [
        ("e-1", "reports", "/e-1/reports"),
        ("e-1", "/reports/2026?x=1", "/e-1/reports/2026?x=1"),
        ("e-1", "apis", "/e-1/apis"),
        ("a/b", "reports", "/a%2Fb/reports"),
    ] {
        let answer = proxy.call(&UiProxyCall { extension, ..call(route) }).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((answer["tenant"].as_str(), answer["method"].as_str()), (Some("t-1"), Some("GET")));
        assert_eq!(stub.requests().last().unwrap().path, path);
    }
}

#[tokio::test]
async fn what_is_not_known_is_not_sent() {
    let (stub, proxy) = start().await;
    let blank = UiProxyCall { api_key: None, user_id: Some(""), user_email: Some(""), ..call("reports") };
    proxy.call(&blank).await.unwrap();
    let request = &stub.requests()[0];
    assert_eq!(request.header("x-request-id"), Some("ui-proxy-call"));
    for name in ["x-api-key", "x-user-id", "x-user-email", "x-ext-install-id", "x-ext-version-id"] {
        assert_eq!(request.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_route_that_could_go_elsewhere_is_refused_and_nothing_is_sent() {
    let (stub, proxy) = start().await;
    let (elsewhere, _) = start().await;
    let evil = elsewhere.base_url();
    let host = evil.trim_start_matches("http:").to_owned();
    for route in [
        "",
        "  ",
        "/",
        "?a=b",
        "..",
        "/..",
        "a/../b",
        "./a",
        "a/.",
        "%2e%2e/a",
        "a/%2E%2E/b",
        ".%2e/a",
        "%2e/a",
        "%252e%252e/a",
        "a%2f..%2fb",
        "a%5c..%5cb",
        "//evil.example",
        "///evil",
        "http://evil.example/x",
        "\\\\evil",
        "/\\evil",
        "a\\b",
        "a\r\nx-api-key: y",
        "a\nb",
        "a\0b",
        "a%0d%0ab",
        "a%00",
        "a#b",
        "100%",
        evil.as_str(),
        host.as_str(),
        "api/../../x",
        "api/v1/..%2f..%2finternal/x",
    ] {
        for payload in [None, Some(&b"{}"[..])] {
            let error = proxy.call(&UiProxyCall { payload, ..call(route) }).await.unwrap_err();
            assert!(matches!(error, UiProxyError::Route(_)), "{route:?}: {error:?}");
            assert_eq!(ProxyFault::from(&error), ProxyFault::BadRequest);
        }
    }
    assert!(stub.requests().is_empty() && elsewhere.requests().is_empty());
}

#[tokio::test]
async fn no_value_can_become_a_second_header() {
    let (stub, proxy) = start().await;
    let bad = "x\r\nx-alga-tenant: other";
    for call in [
        UiProxyCall { tenant: bad, ..call("reports") },
        UiProxyCall { extension: bad, ..call("reports") },
        UiProxyCall { extension: "..", ..call("reports") },
        UiProxyCall { tenant: "", ..call("reports") },
        UiProxyCall { install: Some(bad), ..call("reports") },
        UiProxyCall { version: Some(bad), ..call("reports") },
        UiProxyCall { user_id: Some(bad), ..call("reports") },
        UiProxyCall { user_email: Some("a\0b"), ..call("reports") },
        UiProxyCall { api_key: Some("key\nother: x"), ..call("reports") },
    ] {
        let error = proxy.call(&call).await.unwrap_err();
        assert!(matches!(error, UiProxyError::Value(_)), "{error:?}");
        assert_eq!(ProxyFault::from(&error), ProxyFault::Internal);
    }
    assert!(stub.requests().is_empty());
    proxy.call(&UiProxyCall { request_id: Some(bad), ..call("reports") }).await.unwrap();
    assert_eq!(stub.requests()[0].header("x-request-id"), Some("ui-proxy-call"));
}

#[tokio::test]
async fn an_oversized_payload_is_refused_and_nothing_is_sent() {
    let (stub, proxy) = start().await;
    let payload = vec![b' '; 1024 * 1024 + 1];
    let error = proxy.call(&UiProxyCall { payload: Some(&payload), ..call("reports") }).await.unwrap_err();
    assert_eq!(ProxyFault::from(&error), ProxyFault::BadRequest);
    assert!(stub.requests().is_empty());
}

#[tokio::test]
async fn what_a_guest_gets_of_each_failure() {
    let (stub, proxy) = start().await;
    let quick =
        UiProxy::new(&stub.base_url().parse().unwrap(), Duration::from_millis(50), Upstream::new().unwrap())
            .unwrap();
    let status = |status| Fault::Status(status, "{}".to_owned());
    for (fault, expected) in [
        (status(400), ProxyFault::BadRequest),
        (status(401), ProxyFault::Denied),
        (status(403), ProxyFault::Denied),
        (status(404), ProxyFault::RouteNotFound),
        (status(409), ProxyFault::BadRequest),
        (status(418), ProxyFault::BadRequest),
        (status(429), ProxyFault::Denied),
        (status(500), ProxyFault::Internal),
        (status(503), ProxyFault::Internal),
        (status(304), ProxyFault::Internal),
        (Fault::Redirect("http://evil.example/".to_owned()), ProxyFault::Internal),
        (Fault::HugeBody, ProxyFault::Internal),
        (Fault::DropConnection, ProxyFault::Internal),
    ] {
        stub.fail_next("rest", "*", fault.clone());
        let error = proxy.call(&call("api/v1/tickets")).await.unwrap_err();
        assert_eq!(ProxyFault::from(&error), expected, "{fault:?}");
    }
    stub.fail_next("rest", "*", Fault::Hang);
    assert_eq!(
        ProxyFault::from(&quick.call(&call("api/v1/tickets")).await.unwrap_err()),
        ProxyFault::Internal
    );
    let error = proxy.call(&UiProxyCall { api_key: None, ..call("api/v1/tickets") }).await.unwrap_err();
    assert_eq!(ProxyFault::from(&error), ProxyFault::Denied);
    let error = proxy.call(&call("api/v1/nothing")).await.unwrap_err();
    assert_eq!(ProxyFault::from(&error), ProxyFault::RouteNotFound);
}

#[tokio::test]
async fn a_success_is_passed_on_as_it_is() {
    let (stub, proxy) = start().await;
    for body in ["", "not json", "{"] {
        stub.fail_next("rest", "*", Fault::Status(202, body.to_owned()));
        assert_eq!(proxy.call(&call("reports")).await.unwrap(), body.as_bytes());
    }
}

#[tokio::test]
async fn the_key_is_in_no_text() {
    let (stub, proxy) = start().await;
    stub.fail_next("rest", "*", Fault::Status(500, json!({ "error": format!("bad key {KEY}") }).to_string()));
    let call = call("reports");
    let error = proxy.call(&call).await.unwrap_err();
    assert!(!format!("{error} {error:?} {call:?} {proxy:?}").contains(KEY));
}
