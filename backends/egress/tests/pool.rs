//! Connections: kept for the next request of the same tenant and list, limited, and given up when needed.

mod support;

use std::time::Duration;

use http_body_util::BodyExt as _;
use longshore_egress::{EgressConfig, EgressError, EgressRules, SendOptions, Wait, Who};
use support::{Server, Then, egress, fetch, get, minute, ok, open, post, send, tenant};

#[tokio::test]
async fn a_connection_is_used_again_by_the_same_tenant() {
    let server = Server::start(|_| (ok("x"), Then::Keep)).await;
    let egress = egress(open());
    for _ in 0..20 {
        fetch(&egress, "t", &server.url("/")).await.unwrap();
    }
    assert_eq!(server.connections().await, 1);
    let stats = egress.stats();
    assert_eq!((stats.open, stats.opened, stats.reused), (1, 1, 19));
}

#[tokio::test]
async fn a_connection_is_never_used_by_another_tenant_or_under_another_list() {
    let server = Server::start(|_| (ok("x"), Then::Keep)).await;
    let egress = egress(open());
    let (one, same, other) = (
        EgressRules::from_install(&["127.0.0.1"]).unwrap(),
        EgressRules::from_install(&[" 127.0.0.1 "]).unwrap(),
        EgressRules::from_install(&["127.0.0.0/8"]).unwrap(),
    );
    let mut expected = 0;
    for (name, rules, new) in [
        ("a", None, true),
        ("b", None, true),
        ("a", None, false),
        ("a", Some(&one), true),
        ("a", Some(&same), false),
        ("a", Some(&other), true),
        ("b", Some(&one), true),
        ("b", None, false),
    ] {
        let answer = send(&egress, name, rules, get(&server.url("/")).unwrap()).await.unwrap();
        answer.into_body().collect().await.unwrap();
        expected += usize::from(new);
        assert_eq!(server.connections().await, expected, "{name} {rules:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_read_to_its_end_closes_its_connection() {
    let server =
        Server::start(|_| (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nab".to_vec(), Then::Hang)).await;
    let egress = egress(EgressConfig { connections_per_tenant: 1, ..open() });
    for _ in 0..3 {
        let mut answer = send(&egress, "t", None, get(&server.url("/")).unwrap()).await.unwrap();
        assert!(answer.body_mut().frame().await.unwrap().is_ok());
    }
    assert_eq!(server.connections().await, 3);
}

#[tokio::test]
async fn a_request_that_is_given_up_closes_its_connection() {
    let server = Server::start(|_| (Vec::new(), Then::Hang)).await;
    let egress = egress(EgressConfig { connections_per_tenant: 1, ..open() });
    for _ in 0..3 {
        let request = send(&egress, "t", None, get(&server.url("/")).unwrap());
        assert!(tokio::time::timeout(Duration::from_millis(50), request).await.is_err());
    }
    assert_eq!(server.connections().await, 3);
}

#[tokio::test]
async fn a_tenant_at_its_limit_waits_no_longer_than_for_a_connection_and_others_do_not() {
    let server =
        Server::start(|_| (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nab".to_vec(), Then::Hang)).await;
    let config =
        EgressConfig { connections_per_tenant: 2, connect_timeout: Duration::from_millis(50), ..open() };
    let egress = egress(config);
    let one = send(&egress, "t", None, get(&server.url("/")).unwrap()).await.unwrap();
    let _two = send(&egress, "t", None, get(&server.url("/")).unwrap()).await.unwrap();
    let error = send(&egress, "t", None, get(&server.url("/")).unwrap()).await.unwrap_err();
    assert!(matches!(error, EgressError::Timeout { what: Wait::Slot, .. }), "{error:?}");
    assert!(send(&egress, "another", None, get(&server.url("/")).unwrap()).await.is_ok());
    drop(one);
    assert!(send(&egress, "t", None, get(&server.url("/")).unwrap()).await.is_ok());
    assert_eq!(server.connections().await, 4);
}

#[tokio::test]
async fn idle_connections_give_way_to_a_request_for_another_host() {
    let mut servers = Vec::new();
    for _ in 0..4 {
        servers.push(Server::start(|_| (ok("x"), Then::Keep)).await);
    }
    let egress = egress(EgressConfig { connections_per_tenant: 2, ..open() });
    for _ in 0..3 {
        for server in &servers {
            // Far under the time for which an idle connection is kept.
            let options = SendOptions { connect_timeout: Some(Duration::from_secs(3)), ..minute() };
            let who = tenant("t");
            let request = get(&server.url("/")).unwrap();
            let answer =
                egress.send(&Who { tenant: &who, install_rules: None }, request, options).await.unwrap();
            answer.into_body().collect().await.unwrap();
            assert!(egress.stats().open <= 2);
        }
    }
    assert_eq!(egress.stats().opened, 12);
}

#[tokio::test]
async fn a_waiting_request_is_given_the_connection_that_comes_back() {
    let server = Server::start(|_| (ok("x"), Then::Keep)).await;
    let egress = std::sync::Arc::new(egress(EgressConfig { connections_per_tenant: 2, ..open() }));
    let all = (0..50).map(|_| {
        let (egress, url) = (egress.clone(), server.url("/"));
        tokio::spawn(async move { fetch(&egress, "t", &url).await })
    });
    for answer in all.collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap().unwrap().1, "x");
    }
    assert!(egress.stats().open <= 2);
    assert!(egress.stats().reused > 25, "{:?}", egress.stats());
}

/// Two permits, four hosts, two threads: every request needs a connection that another one has just given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_contention_nobody_waits_for_an_idle_connection_to_time_out() {
    let mut servers = Vec::new();
    for _ in 0..4 {
        servers.push(Server::start(|_| (ok("x"), Then::Keep)).await);
    }
    let config =
        EgressConfig { connections_per_tenant: 2, connect_timeout: Duration::from_secs(20), ..open() };
    let egress = std::sync::Arc::new(egress(config));
    let all = (0..400).map(|n: usize| {
        let (egress, url) = (egress.clone(), servers.get(n % 4).unwrap().url("/"));
        tokio::spawn(async move { fetch(&egress, "t", &url).await.map(|(status, _)| status) })
    });
    for answer in all.collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap().unwrap(), 200);
    }
    assert!(egress.stats().open <= 2, "{:?}", egress.stats());
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced() {
    let server = Server::start(|_| (ok("x"), Then::Close)).await;
    let egress = egress(open());
    for _ in 0..20 {
        fetch(&egress, "t", &server.url("/")).await.unwrap();
    }
    assert_eq!(server.connections().await, 20);
}

/// The second request on a connection is swallowed and the connection closed, as by a server whose idle time is up.
#[tokio::test]
async fn a_get_on_a_stale_connection_is_sent_again_and_a_post_is_not() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        1 | 4 => (Vec::new(), Then::Close),
        _ => (ok("x"), Then::Keep),
    })
    .await;
    let egress = egress(open());
    fetch(&egress, "t", &server.url("/0")).await.unwrap();
    assert_eq!(fetch(&egress, "t", &server.url("/1")).await.unwrap().1, "x");
    fetch(&egress, "t", &server.url("/3")).await.unwrap();
    let error = send(&egress, "t", None, post(&server.url("/4"), "order")).await.unwrap_err();
    assert!(matches!(error, EgressError::Transport(_)), "{error:?}");
    assert_eq!(server.seen.lock().iter().filter(|r| r.starts_with("POST")).count(), 1);
}

#[tokio::test]
async fn an_early_answer_does_not_lend_out_a_connection_that_is_still_sending() {
    use bytes::Bytes;
    use futures::StreamExt as _;

    let server = Server::start(|_| (ok("x"), Then::Keep)).await;
    // Answers as soon as it sees a head.
    let eager = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = eager.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut stream, _)) = eager.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(&ok("early")).await;
                while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
            });
        }
    });
    let egress = egress(EgressConfig { connections_per_tenant: 1, ..open() });
    let endless = futures::stream::iter([Ok(http_body::Frame::data(Bytes::from_static(b"a")))])
        .chain(futures::stream::pending());
    let mut request = post(&format!("http://{address}/"), "");
    *request.body_mut() = http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(endless));
    let answer = send(&egress, "t", None, request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap(), "early");
    // The tenant's only permit is free again.
    fetch(&egress, "t", &server.url("/")).await.unwrap();
    assert_eq!(egress.stats().reused, 0);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_in_time() {
    let server = Server::start(|_| (ok("x"), Then::Keep)).await;
    let egress = egress(open());
    let who = tenant("t");
    let request = get(&server.url("/")).unwrap();
    let answer = egress.send(&Who { tenant: &who, install_rules: None }, request, minute()).await.unwrap();
    answer.into_body().collect().await.unwrap();
    assert_eq!(egress.stats().open, 1);
    tokio::time::sleep(Duration::from_secs(46)).await;
    tokio::task::yield_now().await;
    assert_eq!(egress.stats().open, 0);
}
