//! Bounds, timeouts and the drain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway_shim::dispatch::{Answer, AnswerBody};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use crate::support::{Fake, Front, PATIENCE, echo, get, post, request};

/// Timeouts short enough to wait for.
const SHORT: [(&str, &str); 3] = [
    ("LONGSHORE_HTTP_HEADER_TIMEOUT", "300ms"),
    ("LONGSHORE_HTTP_BODY_IDLE_TIMEOUT", "300ms"),
    ("LONGSHORE_HTTP_IDLE_TIMEOUT", "600ms"),
];

/// Answers 200 once released; tells when it has begun.
fn gate() -> (Fake, Arc<Notify>, Arc<Semaphore>) {
    let (begun, release) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let fake = {
        let (begun, release) = (begun.clone(), release.clone());
        Fake::new(move |_| {
            let (begun, release) = (begun.clone(), release.clone());
            async move {
                begun.notify_one();
                release.acquire().await.unwrap().forget();
                Ok(Answer {
                    status: 200,
                    headers: vec![],
                    body: AnswerBody::Full(Some("done".into())),
                    trailers: vec![],
                })
            }
        })
    };
    (fake, begun, release)
}

#[tokio::test]
async fn a_header_that_drips_ends_the_connection() {
    let front = Front::start(echo(), &SHORT).await;
    let started = Instant::now();
    for beginning in ["", "P", "PRI * HTTP/2.0\r\n", "POST /v1/execute HTTP/1.1\r\nhost: s"] {
        let mut client = front.connect().await;
        client.write(beginning).await;
        client.closed().await;
    }
    assert!(started.elapsed() >= Duration::from_millis(1_200));
    let page = front.metrics.render().unwrap();
    assert!(page.contains("longshore_shim_connections_timed_out_total 4"), "{page}");
}

#[tokio::test]
async fn a_second_header_that_drips_ends_the_connection_before_it_counts_as_idle() {
    let slow = [SHORT[0], SHORT[1], ("LONGSHORE_HTTP_IDLE_TIMEOUT", "600s")];
    let front = Front::start(echo(), &slow).await;
    let mut client = front.connect().await;
    client.write(post(&[], request().to_string())).await;
    client.reply().await.envelope();
    client.write("GET /li").await;
    client.closed().await;
}

#[tokio::test]
async fn a_connection_is_kept_between_requests_and_closed_when_idle() {
    let front = Front::start(echo(), &SHORT).await;
    let mut client = front.connect().await;
    for _ in 0..3 {
        client.write(post(&[], request().to_string())).await;
        client.reply().await.envelope();
    }
    let idle = Instant::now();
    client.closed().await;
    assert!(idle.elapsed() >= Duration::from_millis(500), "{:?}", idle.elapsed());
}

#[tokio::test]
async fn a_body_that_stops_is_refused() {
    let front = Front::start(echo(), &SHORT).await;
    let mut client = front.connect().await;
    let bytes = post(&[], request().to_string());
    client.write(&bytes[..bytes.len() - 5]).await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("0.3 s"), "{}", reply.text());
    assert_eq!(reply.header("connection"), Some("close"));
    reply.execution();
    client.closed().await;
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends_the_connection() {
    let big = |_| async {
        let body = Bytes::from(vec![b'x'; 32 << 20]);
        Ok(Answer { status: 200, headers: vec![], body: AnswerBody::Full(Some(body)), trailers: vec![] })
    };
    let front = Front::start(Fake::new(big), &SHORT).await;
    let mut client = front.connect().await;
    client.write(post(&[], request().to_string())).await;
    front.shows("longshore_shim_connections_timed_out_total 1").await;
    assert!(client.try_reply().await.is_none());
}

#[tokio::test]
async fn too_many_and_too_large_headers_are_431() {
    let front = Front::start(echo(), &[]).await;
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let large = format!("x-large: {}\r\n", "y".repeat(100 * 1024));
    for lines in [many, large] {
        let mut client = front.connect().await;
        client.write(format!("GET /livez HTTP/1.1\r\nhost: s\r\n{lines}\r\n")).await;
        // The server may stop reading in the middle: then there is a reset, and no answer to read.
        if let Some(reply) = tokio::time::timeout(PATIENCE, client.try_reply()).await.unwrap() {
            assert_eq!(reply.status, 431);
        }
    }
    assert_eq!(front.send(get("/livez")).await.status, 200);
}

#[tokio::test]
async fn a_connection_above_the_limit_is_turned_away_and_leaves_the_others_alone() {
    let front = Front::start(echo(), &[("LONGSHORE_HTTP_MAX_CONNECTIONS", "2")]).await;
    let mut first = front.connect().await;
    let mut second = front.connect().await;
    for client in [&mut first, &mut second] {
        client.write(get("/livez")).await;
        assert_eq!(client.reply().await.status, 200);
    }
    let mut third = front.connect().await;
    let reply = third.reply().await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    first.write(get("/livez")).await;
    assert_eq!(first.reply().await.status, 200);
}

#[tokio::test]
async fn one_tenants_bodies_leave_room_for_another() {
    let (fake, begun, release) = gate();
    // The smallest allowed: a quarter holds one request of the largest size.
    let front = Front::start(fake, &[("LONGSHORE_HTTP_BODY_BYTES", "94MiB")]).await;
    let big = |tenant: &str| {
        let mut body = request();
        body["context"]["tenant_id"] = tenant.into();
        body["limits"]["timeout_ms"] = 60_000.into();
        body["http"]["body_b64"] = "A".repeat(20_000_000).into();
        post(&[("x-alga-tenant", tenant)], body.to_string())
    };
    let mut first = front.connect().await;
    first.write(big("greedy")).await;
    begun.notified().await;
    let reply = front.send(big("greedy")).await;
    let envelope = reply.envelope();
    assert_eq!(envelope["status"], 503);
    assert!(envelope["error"].as_str().unwrap().starts_with("overloaded: this tenant"), "{envelope}");
    assert_eq!(reply.header("retry-after"), Some("1"));
    let mut other = front.connect().await;
    other.write(big("modest")).await;
    begun.notified().await;
    release.add_permits(2);
    for client in [&mut first, &mut other] {
        assert_eq!(client.reply().await.envelope()["body_b64"], "ZG9uZQ==");
    }
    // And everything is given back.
    release.add_permits(1);
    front.send(big("greedy")).await.envelope();
    front.shows("longshore_shim_body_bytes_in_flight 0").await;
}

#[tokio::test]
async fn a_drain_serves_what_runs_says_close_and_then_closes_the_listener() {
    let (fake, begun, release) = gate();
    let front = Front::start(fake, &[("LONGSHORE_HTTP_DRAIN_DELAY", "1500ms")]).await;
    let mut running = front.connect().await;
    running.write(post(&[], request().to_string())).await;
    begun.notified().await;
    let mut idle = front.connect().await;
    idle.write(get("/livez")).await;
    assert_eq!(idle.reply().await.header("connection"), None);

    front.drain.cancel();
    let late = front.send(get("/livez")).await;
    assert_eq!((late.status, late.header("connection")), (200, Some("close")), "served during the delay");
    idle.closed().await;
    assert!(TcpStream::connect(front.address).await.is_err(), "the listener is closed");
    assert!(!front.server.is_finished(), "a request is still running");
    release.add_permits(1);
    assert_eq!(running.reply().await.envelope()["status"], 200);
    running.closed().await;
    tokio::time::timeout(PATIENCE, front.server).await.expect("the server does not end").unwrap();
}

#[tokio::test]
async fn force_ends_what_still_runs() {
    let (fake, begun, _release) = gate();
    let front = Front::start(fake, &[("LONGSHORE_HTTP_DRAIN_DELAY", "0")]).await;
    let mut running = front.connect().await;
    running.write(post(&[], request().to_string())).await;
    begun.notified().await;
    front.drain.cancel();
    front.force.cancel();
    tokio::time::timeout(PATIENCE, front.server).await.expect("the server does not end").unwrap();
    assert!(running.try_reply().await.is_none());
}

#[tokio::test]
async fn http_2_without_tls_is_served_too() {
    let front = Front::start(echo(), &[]).await;
    let stream = TcpStream::connect(front.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..3 {
        let call = http::Request::post("http://shim/v1/execute")
            .header("content-type", "application/json")
            .header("x-alga-tenant", "t")
            .header("x-alga-extension", "e")
            .body(Full::new(Bytes::from(request().to_string())))
            .unwrap();
        let response = sender.send_request(call).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.headers().contains_key("x-longshore-execution-id"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&body).unwrap()["status"], 201);
    }
    front.drain.cancel();
    front.force.cancel();
    let _ = connection.await;
}
