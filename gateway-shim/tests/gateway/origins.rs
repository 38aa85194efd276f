//! Pages of other origins, OPTIONS, and calls without a token.

use crate::support::{Setup, request};

const CORS: (&str, &str) = ("LONGSHORE_GATEWAY_CORS_ORIGINS", "https://app.example.com");

#[tokio::test]
async fn a_browsers_question_is_answered_before_any_token() {
    let world = Setup::with(&[CORS]).start().await;
    let ask = async |origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        world.front.send(request("OPTIONS /api/ext/no-such/x", "", &headers, "")).await
    };
    let reply = ask("https://app.example.com").await;
    assert_eq!(
        (reply.status, reply.header("access-control-allow-origin")),
        (204, Some("https://app.example.com"))
    );
    assert!(reply.header("access-control-allow-headers").unwrap().contains("authorization"));
    assert!(reply.header("access-control-allow-methods").unwrap().contains("DELETE"));
    assert_eq!(reply.header("access-control-allow-credentials"), None);
    assert_eq!(reply.header("vary"), Some("origin"));
    let reply = ask("https://evil.example").await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (204, None));
    assert!(world.calls.lock().is_empty());
}

#[tokio::test]
async fn a_permitted_page_may_read_answers_and_errors() {
    let world = Setup::with(&[CORS]).start().await;
    for (token, status) in [("writer", 200), ("stranger", 401)] {
        for (origin, allowed) in [("https://app.example.com", true), ("https://evil.example", false)] {
            let reply = world.front.send(request("GET /api/ext/e/", token, &[("origin", origin)], "")).await;
            assert_eq!(reply.status, status);
            assert_eq!(reply.header("access-control-allow-origin").is_some(), allowed, "{origin}");
            assert_eq!(reply.header("access-control-expose-headers").is_some(), allowed);
        }
    }
}

#[tokio::test]
async fn options_says_which_methods_a_path_has() {
    let world = Setup::default().start().await;
    let reply = world.front.send(request("OPTIONS /api/ext/e/items/7", "reader", &[], "")).await;
    assert_eq!((reply.status, reply.header("allow")), (204, Some("GET, HEAD, DELETE, OPTIONS")));
    let reply = world.front.send(request("OPTIONS /api/ext/e/other", "reader", &[], "")).await;
    assert_eq!((reply.status, reply.json()["code"].as_str()), (404, Some("endpoint_not_found")));
    let reply = world.front.send(request("OPTIONS /api/ext/e/items/7", "", &[], "")).await;
    assert_eq!(reply.status, 401);
    assert!(world.calls.lock().is_empty());
}

#[tokio::test]
async fn in_development_a_program_of_this_machine_needs_no_token() {
    let world = Setup::with(&[("LONGSHORE_DEV_TENANT", "t")]).start().await;
    let status = async |line: &str, headers: &[(&str, &str)]| {
        world.front.send(request(line, "", headers, "")).await.status
    };
    let here = ("host", "localhost:8085");
    assert_eq!(status("GET /api/ext/e/", &[here]).await, 200);
    assert_eq!(status("POST /api/ext/com.a.app/items", &[here]).await, 200);
    assert_eq!(world.calls.lock().len(), 2);
    for headers in [
        vec![("host", "rebound.example:8085")],
        vec![here, ("origin", "https://evil.example")],
        vec![here, ("sec-fetch-site", "cross-site")],
        vec![here, ("x-forwarded-for", "192.0.2.1")],
        vec![here, ("authorization", "Bearer stranger")],
    ] {
        assert_eq!(status("GET /api/ext/e/", &headers).await, 401, "{headers:?}");
    }
    assert_eq!(status("GET /api/ext/u1/", &[here]).await, 404, "another tenant's stays another's");
    assert_eq!(status("GET /api/ext/u1/?tenant=u", &[here]).await, 403);
    let without = Setup::default().start().await;
    assert_eq!(without.front.send(request("GET /api/ext/e/", "", &[here], "")).await.status, 401);
}
