//! What a caller gets of an extension's answer.

use bytes::Bytes;
use gateway_shim::dispatch::{Answer, AnswerBody};
use longshore_proto::{CallError, ErrorCode};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

use crate::http::Reply;
use crate::support::{Setup, World, answer, request};

async fn get(world: &World) -> Reply {
    world.front.send(request("GET /api/ext/e/", "reader", &[], "")).await
}

/// Everything that a connection brings, as text.
async fn raw(world: &World, line: &str) -> String {
    let mut client = world.front.connect().await;
    client.write(request(line, "reader", &[("connection", "close")], "")).await;
    let mut all = Vec::new();
    client.stream.read_to_end(&mut all).await.unwrap();
    String::from_utf8(all).unwrap().to_lowercase()
}

#[tokio::test]
async fn status_body_and_harmless_headers_are_the_extensions() {
    let headers = [
        ("Content-Type", "text/html"),
        ("ETag", "\"a\""),
        ("Cache-Control", "public, max-age=60"),
        ("X-Ext-Warning", "w"),
        ("Set-Cookie", "a=b"),
        ("Location", "https://evil.example/"),
        ("Connection", "close"),
        ("Content-Length", "99"),
        ("Server", "guest"),
        ("X-Request-Id", "forged"),
        ("Access-Control-Allow-Origin", "*"),
    ];
    let world =
        Setup::default().answering(move |_| async move { Ok(answer(418, &headers, Some("tea"))) }).await;
    let reply = get(&world).await;
    assert_eq!((reply.status, reply.text()), (418, "tea"));
    assert_eq!(reply.header("content-type"), Some("text/html"));
    assert_eq!(reply.header("etag"), Some("\"a\""));
    assert_eq!(reply.header("cache-control"), Some("private, max-age=60"));
    assert!(reply.header("vary").unwrap().contains("authorization"));
    assert_eq!(reply.header("x-ext-warning"), Some("w"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("content-security-policy"), Some("default-src 'none'; sandbox"));
    assert_eq!(reply.header("content-length"), Some("3"));
    assert_ne!(reply.header("x-request-id"), Some("forged"));
    for absent in ["set-cookie", "location", "connection", "server", "access-control-allow-origin"] {
        assert_eq!(reply.header(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn an_answer_without_words_about_caches_is_kept_by_none() {
    let world = Setup::default().answering(|_| async { Ok(answer(200, &[], Some("x"))) }).await;
    let reply = get(&world).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
}

#[tokio::test]
async fn statuses_that_allow_no_body_have_none() {
    for status in [204, 205, 304] {
        let world =
            Setup::default().answering(move |_| async move { Ok(answer(status, &[], Some("body"))) }).await;
        let text = raw(&world, "GET /api/ext/e/").await;
        assert!(text.starts_with(&format!("http/1.1 {status} ")), "{text}");
        assert!(!text.contains("body") && text.ends_with("\r\n\r\n"), "{text}");
        assert!(!text.contains("transfer-encoding") && !text.contains("content-length: 4"), "{text}");
    }
}

#[tokio::test]
async fn statuses_that_no_client_could_read_are_bad_gateways() {
    for status in [0, 99, 100, 101, 199, 600, 999] {
        let world = Setup::default().answering(move |_| async move { Ok(answer(status, &[], None)) }).await;
        let reply = get(&world).await;
        assert_eq!(
            (reply.status, reply.json()["code"].as_str()),
            (502, Some("execute_failed: invalid_response"))
        );
    }
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let world =
        Setup::default().answering(|_| async { Ok(answer(200, &[("etag", "\"a\"")], Some("four"))) }).await;
    let text = raw(&world, "HEAD /api/ext/e/").await;
    assert!(
        text.contains("content-length: 4\r\n") && text.contains("etag: \"a\"") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
    let text = raw(&world, "HEAD /api/ext/e/other").await;
    assert!(text.starts_with("http/1.1 404") && text.ends_with("\r\n\r\n"), "{text}");
}

fn streamed(parts: Vec<Result<Bytes, CallError>>, len: u64) -> Answer {
    let (sender, receiver) = mpsc::channel(8);
    for part in parts {
        sender.try_send(part).unwrap();
    }
    let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
    let trailers = vec![("x-ext-digest".to_owned(), "d".to_owned())];
    Answer { status: 200, headers, body: AnswerBody::Stream { len, parts: receiver }, trailers }
}

#[tokio::test]
async fn a_large_answer_is_passed_on_as_it_comes() {
    let world = Setup::default()
        .answering(|_| async { Ok(streamed(vec![Ok("ab".into()), Ok("".into()), Ok("cde".into())], 5)) })
        .await;
    let reply = get(&world).await;
    assert_eq!((reply.status, reply.text(), reply.header("content-length")), (200, "abcde", Some("5")));
    assert_eq!(reply.header("x-ext-digest"), None, "trailers are dropped");
    world.front.shows("longshore_shim_gateway_requests_total{code=\"ok\"} 1").await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_resets_the_connection() {
    let lost = || Err(CallError::from(ErrorCode::WorkerLost));
    for (parts, len) in
        [(vec![Ok("ab".into()), lost()], 5), (vec![Ok("ab".into())], 5), (vec![Ok("abcdef".into())], 5)]
    {
        let parts: Vec<Result<Bytes, CallError>> = parts;
        let world = Setup::default()
            .answering(move |_| {
                let parts = parts.clone();
                async move { Ok(streamed(parts, len)) }
            })
            .await;
        let mut client = world.front.connect().await;
        client.write(request("GET /api/ext/e/", "reader", &[], "")).await;
        assert!(client.try_reply().await.is_none(), "a whole response of a broken answer");
        world.front.shows("longshore_shim_gateway_requests_total{code=\"reset\"} 1").await;
    }
}

#[tokio::test]
async fn requests_are_counted_by_how_they_ended() {
    let world = Setup::default().start().await;
    get(&world).await;
    world.front.send(request("GET /api/ext/e/", "", &[], "")).await;
    world.front.send(request("GET /api/ext/e/other", "writer", &[], "")).await;
    for code in ["ok", "unauthenticated", "endpoint_not_found"] {
        world.front.shows(&format!("longshore_shim_gateway_requests_total{{code=\"{code}\"}} 1")).await;
    }
    world.front.shows("longshore_shim_gateway_requests_in_flight 0").await;
    world.front.shows("longshore_shim_gateway_request_seconds_count 3").await;
    world.front.shows("longshore_shim_body_bytes_in_flight 0").await;
}

#[tokio::test]
async fn a_caller_who_goes_away_is_counted_and_its_call_dropped() {
    let (dropped, mut waits) = mpsc::channel::<()>(1);
    let world = Setup::default()
        .answering(move |_| {
            let held = dropped.clone();
            async move {
                held.send(()).await.unwrap();
                std::future::pending::<()>().await;
                drop(held);
                unreachable!()
            }
        })
        .await;
    let mut client = world.front.connect().await;
    client.write(request("GET /api/ext/e/", "reader", &[], "")).await;
    waits.recv().await.unwrap();
    drop(client);
    world.front.shows("longshore_shim_gateway_requests_total{code=\"client_gone\"} 1").await;
}
