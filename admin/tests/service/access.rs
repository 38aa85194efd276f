//! Who may use it, and what it says to requests that are wrong.

use longshore_tests::nats::Nats;
use serde_json::json;

use crate::support::{Admin, TOKEN, raw};

fn bearer(token: &str) -> Vec<(String, String)> {
    vec![("authorization".to_owned(), format!("Bearer {token}"))]
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_token_opens_and_during_a_rotation_the_former_one_too() {
    let former = ("LONGSHORE_ADMIN_TOKEN_PREVIOUS", "former-token-of-a-test".to_owned());
    let admin = Admin::with(&[former]).await;
    let http = admin.service.http();
    for token in [TOKEN, "former-token-of-a-test"] {
        assert_eq!(raw(http, "GET", "/v1/installs", &bearer(token), Vec::new()).await.status, 200);
    }
    for path in ["/v1/installs", "/v1/nonsense", "/", "/v1/tenants/t/tokens"] {
        for headers in [Vec::new(), bearer("wrong"), bearer(&TOKEN.to_uppercase())] {
            let answer = raw(http, "GET", path, &headers, Vec::new()).await;
            answer.refused(401, "unauthorized");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
    // Many more are told to wait, and the right token still opens.
    let mut last = 0;
    for _ in 0..60 {
        last = raw(http, "GET", "/v1/installs", &bearer("wrong"), Vec::new()).await.status;
        if last == 429 {
            break;
        }
    }
    assert_eq!(last, 429);
    assert_eq!(admin.get("/v1/installs").await.status, 200);
    assert!(admin.service.metric("longshore_admin_unauthorized_total").await > 60.0);
    // Open to all.
    for path in ["/v1/openapi.json", "/healthz", "/readyz", "/livez", "/metrics"] {
        assert_eq!(raw(http, "GET", path, &[], Vec::new()).await.status, 200, "{path}");
    }
    assert!(!admin.service.lines().all().iter().any(|line| line.contains(TOKEN)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_said_and_never_a_fault_of_ours() {
    let admin = Admin::start().await;
    admin.get("/v1/nonsense").await.refused(404, "not_found");
    let wrong = admin.ask("DELETE", "/v1/pools", None).await;
    wrong.refused(405, "method_not_allowed");
    assert!(wrong.headers["allow"].to_str().unwrap().contains("GET"));
    let document = raw(admin.service.http(), "POST", "/v1/openapi.json", &[], Vec::new()).await;
    document.refused(405, "method_not_allowed");
    for path in [
        "/v1/installs?nonsense=1",
        "/v1/installs?limit=0",
        "/v1/installs?limit=1001",
        "/v1/installs?limit=-1",
        "/v1/installs?cursor=x",
        "/v1/tenants/t/bundles?cursor=x",
        "/v1/tenants/t/bundles?cursor=tenants/t/extensions/%01",
        "/v1/installs?tenant=a%20b",
        "/v1/installs?tenant=",
        "/v1/tenants/a%20b/tokens",
        "/v1/tenants/../tokens",
        "/v1/tenants/%2e%2e/tokens",
        "/v1/tenants/%ff/tokens",
        "/v1/audit?since=yesterday",
        "/v1/audit?kind=nonsense",
        "/v1/audit?limit=0",
        "/v1/calls?tenant=%00",
        "/v1/pools?x=1",
    ] {
        let answer = admin.get(path).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {} {}", answer.status, answer.json);
        answer.code();
    }
    let post = async |path: &str, content_type: &str, body: &str| {
        let mut headers = bearer(TOKEN);
        headers.push(("content-type".to_owned(), content_type.to_owned()));
        raw(admin.service.http(), "POST", path, &headers, body.as_bytes().to_vec()).await
    };
    let tokens = "/v1/tenants/t/tokens";
    post(tokens, "text/plain", "{}").await.refused(415, "unsupported_media_type");
    for body in [
        "",
        "{",
        "[]",
        r#"["read"]"#,
        "null",
        "{}",
        r#"{"access":"admin"}"#,
        r#"{"access":"read","nonsense":1}"#,
        r#"{"access":"read","expires_in_s":0}"#,
        r#"{"access":"read","expires_in_s":99999999999}"#,
        r#"{"access":"read","extensions":[]}"#,
        r#"{"access":"read","label":"a\u0007b"}"#,
        "\u{feff}{}",
    ] {
        post(tokens, "application/json", body).await.refused(400, "invalid_request");
    }
    post(tokens, "application/json", &" ".repeat(1024 * 1024 + 1)).await.refused(413, "too_large");
    for none in ["{}", r#"{"tenant":null}"#] {
        post("/v1/calls/cancel", "application/json", none).await.refused(403, "not_confirmed");
    }
    for hash in ["nonsense", "sha256:00", ""] {
        let request = json!({ "content_hash": hash });
        admin.ask("POST", "/v1/tenants/t/installs", Some(request)).await.refused(400, "invalid_request");
    }
    let nothing = json!({ "content_hash": "00".repeat(32) });
    admin.ask("POST", "/v1/tenants/t/installs", Some(nothing)).await.refused(404, "bundle_not_found");
    admin.get("/v1/tenants/t/installs/x").await.refused(404, "install_not_found");
    admin.ask("DELETE", "/v1/tenants/t/installs/x", None).await.refused(404, "install_not_found");
    admin
        .ask("DELETE", &format!("/v1/tenants/t/tokens/{}", "0".repeat(32)), None)
        .await
        .refused(404, "token_not_found");
    assert!(admin.audit().await.is_empty(), "nothing was done");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_no_bundle_is_refused_in_words_and_leaves_nothing() {
    let admin = Admin::start().await;
    admin.upload("t", "", b"no archive".to_vec()).await.refused(422, "invalid_bundle");
    let other = format!("?content_hash={}", "00".repeat(32));
    let good = crate::support::pages("a.b", "1.0.0", &[]);
    admin.upload("t", &other, good.clone()).await.refused(422, "hash_mismatch");
    let mut headers = bearer(TOKEN);
    headers.push(("content-type".to_owned(), "text/html".to_owned()));
    let html = raw(admin.service.http(), "PUT", "/v1/tenants/t/bundles", &headers, good).await;
    html.refused(415, "unsupported_media_type");
    let empty = admin.get("/v1/tenants/t/bundles").await.ok();
    assert_eq!(empty, json!({ "bundles": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_the_callers_or_a_new_one() {
    let admin = Admin::start().await;
    let mut headers = bearer(TOKEN);
    headers.push(("x-request-id".to_owned(), "req-7".to_owned()));
    let answer = raw(admin.service.http(), "GET", "/v1/nonsense", &headers, Vec::new()).await;
    assert_eq!(answer.json["request_id"], "req-7");
    assert_eq!(admin.get("/v1/nonsense").await.json["request_id"].as_str().unwrap().len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_it_says_so_and_changes_nothing() {
    let mut admin = Admin::start().await;
    admin.nats.kill();
    crate::support::until("the loss is noticed", async || admin.get("/v1/pools").await.status == 503).await;
    let request = json!({ "access": "read" });
    for (method, path, body) in [
        ("POST", "/v1/tenants/t/tokens", Some(request)),
        ("GET", "/v1/tenants/t/tokens", None),
        ("GET", "/v1/calls", None),
        ("GET", "/v1/audit", None),
        ("POST", "/v1/tenants/t/purge", Some(json!({ "confirm": "t" }))),
    ] {
        let answer = admin.ask(method, path, body).await;
        answer.refused(503, "unavailable");
        assert!(answer.json["message"].as_str().unwrap().contains("NATS"), "{}", answer.json);
        assert_eq!(answer.headers["retry-after"], "1");
    }
    // An upload is a change, and no change is made that is not recorded.
    let bundle = crate::support::pages("a.b", "1.0.0", &[]);
    admin.upload("t", "", bundle).await.refused(503, "unavailable");
    assert!(!admin.store().join("tenants").exists());
    admin.nats.start_again().await;
    crate::support::until("it is back", async || admin.get("/v1/pools").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_start_without_a_token_or_with_one_that_everybody_knows() {
    let nats = Nats::not_yet();
    let folder = tempfile::tempdir().unwrap();
    for (token, words) in [("", "LONGSHORE_ADMIN_TOKEN"), ("changeme", "everybody knows"), ("short", "16")] {
        let settings = [("LONGSHORE_ADMIN_TOKEN", token.to_owned())];
        let mut command = longshore_tests::service::command(
            "longshore-admin",
            &Admin::settings(&nats, folder.path(), &settings),
        );
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{text}");
        assert!(text.contains(words) && (token.is_empty() || !text.contains(token)), "{text}");
    }
}
