use longshore_platform::{
    Caller, ClientsListInput, CreateScheduleInput, Platform, PlatformConfig, PlatformError,
};
use longshore_service::upstream::Upstream;
use longshore_stub_platform::{Fault, Options, Seed, StubPlatform};
use serde_json::json;

use super::{CALLER, TOKEN, client, start, start_with};

#[tokio::test]
async fn every_api_has_its_route_and_the_common_headers() {
    let (stub, platform) = start().await;
    platform.storage_list(&CALLER, "ns", None).await.unwrap();
    platform.endpoints(&CALLER).await.unwrap();
    platform.clients_get(&CALLER, None, CALLER.install).await.unwrap();
    platform.services_get(&CALLER, None, CALLER.install).await.unwrap();
    let _ = platform.create_manual_invoice(&CALLER, &Default::default()).await;
    let requests = stub.requests();
    let apis = ["storage", "scheduler", "clients", "services", "invoicing"];
    assert_eq!(requests.len(), apis.len());
    for (request, api) in requests.iter().zip(apis) {
        assert_eq!(request.method, "POST");
        assert_eq!(request.path, format!("/api/internal/ext-{api}/install/{}", CALLER.install));
        assert_eq!(request.header("x-runner-auth"), Some(TOKEN));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("x-request-id"), Some("req-1"));
    }
}

#[tokio::test]
async fn the_bodies_of_storage_are_as_the_platform_expects_them() {
    let (stub, platform) = start().await;
    let _ = platform.storage_get(&CALLER, "ns", "k").await;
    let _ = platform.storage_put(&CALLER, "ns", "k", b"\0\x01", None).await;
    let _ = platform.storage_put(&CALLER, "ns", "k", b"", Some(0)).await;
    let _ = platform.storage_delete(&CALLER, "ns", "k").await;
    let _ = platform.storage_list(&CALLER, "ns", Some("k")).await;
    let sent: Vec<_> = stub.requests().iter().map(|r| r.json()).collect();
    assert_eq!(
        sent,
        [
            json!({ "operation": "get", "namespace": "ns", "key": "k" }),
            json!({ "operation": "put", "namespace": "ns", "key": "k", "value": "AAE=",
                "metadata": { "encoding": "base64-bytes" } }),
            json!({ "operation": "put", "namespace": "ns", "key": "k", "value": "",
                "metadata": { "encoding": "base64-bytes" }, "ifRevision": 0 }),
            json!({ "operation": "delete", "namespace": "ns", "key": "k" }),
            json!({ "operation": "list", "namespace": "ns", "includeValues": true, "includeMetadata": true, "limit": 100,
                "cursor": "eyJrZXkiOiJrIn0" }),
        ]
    );
}

#[tokio::test]
async fn absent_options_of_a_schedule_are_left_out() {
    let (stub, platform) = start().await;
    let input = CreateScheduleInput {
        endpoint: "/run".to_owned(),
        cron: "0 6 * * *".to_owned(),
        ..Default::default()
    };
    platform.schedules_create(&CALLER, &input).await.unwrap();
    assert_eq!(
        stub.requests()[0].json(),
        json!({ "operation": "create", "endpoint": "/run", "cron": "0 6 * * *" })
    );
}

#[tokio::test]
async fn a_wrong_token_is_unauthorized_and_no_token_sends_none() {
    let (stub, _) = start().await;
    let error = client(&stub.base_url(), "another").storage_list(&CALLER, "ns", None).await.unwrap_err();
    assert!(matches!(error, PlatformError::Unauthorized(_)));
    let config = PlatformConfig { base: stub.base_url().parse().unwrap(), token: None };
    let platform = Platform::new(&config, Upstream::new().unwrap()).unwrap();
    assert!(matches!(platform.storage_list(&CALLER, "ns", None).await, Err(PlatformError::Unauthorized(_))));
    assert_eq!(stub.requests()[1].header("x-runner-auth"), None);
}

#[tokio::test]
async fn the_token_is_in_no_text() {
    let (stub, platform) = start().await;
    let echo = json!({ "error": format!("token {TOKEN} is no good"), "code": TOKEN, "fieldErrors": { TOKEN: TOKEN } });
    for status in [400, 401, 403, 404, 409, 429, 500] {
        stub.fail_next("storage", "list", Fault::Status(status, echo.to_string()));
        let error = platform.storage_list(&CALLER, "ns", None).await.unwrap_err();
        assert!(!format!("{error} {error:?} {:?}", error.problem()).contains(TOKEN));
    }
    let error = client("http://127.0.0.1:1", TOKEN).storage_list(&CALLER, "ns", None).await.unwrap_err();
    assert!(!format!("{error} {error:?} {platform:?}").contains(TOKEN));
}

#[tokio::test]
async fn a_base_with_api_at_its_end_is_the_same_platform() {
    let (stub, _) = start().await;
    for suffix in ["/", "/api", "/api/"] {
        let platform = client(&format!("{}{suffix}", stub.base_url()), TOKEN);
        platform.clients_list(&CALLER, None, &ClientsListInput::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_request_id_that_no_header_can_carry_is_left_out() {
    let (stub, platform) = start().await;
    let long = "x".repeat(1_000);
    for id in ["", "a\r\nx-runner-auth: y", &long] {
        platform.storage_list(&Caller { request_id: Some(id), ..CALLER }, "ns", None).await.unwrap();
    }
    assert!(stub.requests().iter().all(|r| r.header("x-request-id").is_none()));
}

#[tokio::test]
async fn an_oversized_request_is_refused_and_nothing_is_sent() {
    let (stub, platform) = start().await;
    let input = ClientsListInput { search: Some("x".repeat(1024 * 1024)), ..Default::default() };
    let result = platform.clients_list(&CALLER, None, &input).await;
    assert!(matches!(result, Err(PlatformError::Invalid { field: "request", .. })));
    assert!(stub.requests().is_empty());
}

#[tokio::test]
async fn an_install_that_the_platform_does_not_know_is_not_found() {
    let (_stub, platform) = start_with(Seed { installs: vec!["another".to_owned()], ..Seed::sample() }).await;
    let error = platform.schedules_list(&CALLER).await.unwrap_err();
    assert!(matches!(error, PlatformError::NotFound(_)));
}

#[tokio::test]
async fn a_stub_platform_listens_on_loopback_only_and_is_gone_when_dropped() {
    let options = Options { addr: "0.0.0.0:0".parse().unwrap(), ..Options::default() };
    assert!(StubPlatform::start(options).await.is_err());
    let (stub, platform) = start().await;
    stub.fail_next("storage", "list", Fault::Hang);
    let hanging = tokio::spawn({
        let platform = platform.clone();
        async move { platform.storage_list(&CALLER, "ns", None).await }
    });
    while stub.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(stub);
    assert!(hanging.await.unwrap().is_err());
    assert!(platform.storage_list(&CALLER, "ns", None).await.is_err());
}
