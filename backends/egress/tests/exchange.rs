//! One exchange: what is sent, what comes back, and the limits of both.

mod support;

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, StreamBody};
use longshore_egress::{
    Egress, EgressConfig, EgressError, Part, RequestBody, SendOptions, Stage, Wait, Who, full, parse_url,
};
use support::{Names, Server, Then, egress, fetch, get, minute, ok, open, post, send, tenant};

/// A body of unknown length.
fn stream(pieces: Vec<Result<&'static str, &'static str>>) -> RequestBody {
    let frames = pieces
        .into_iter()
        .map(|p| p.map(|p| http_body::Frame::data(Bytes::from_static(p.as_bytes()))).map_err(Into::into));
    BodyExt::boxed_unsync(StreamBody::new(futures::stream::iter(frames)))
}

fn milliseconds(n: u64) -> Option<Duration> {
    Some(Duration::from_millis(n))
}

#[tokio::test]
async fn host_and_length_are_ours_and_hop_by_hop_headers_stay_behind() {
    let server = Server::start(|_| (ok("fine"), Then::Keep)).await;
    let names = Names::new(&[("a.example", &[&["127.0.0.1"]])]);
    let egress = Egress::new(open(), names).unwrap();
    let port = server.address.port();
    let uri: http::Uri = format!("http://A.example.:{port}/a/../b?x=%20y").parse().unwrap();
    let request = Request::post(uri)
        .header("host", "internal.example")
        .header("connection", "upgrade, x-private")
        .header("x-private", "1")
        .header("upgrade", "websocket")
        .header("transfer-encoding", "chunked")
        .header("proxy-authorization", "Basic x")
        .header("te", "trailers")
        .header("content-length", "4")
        .header("x-repeated", "1")
        .header("x-repeated", "2")
        .body(full(Bytes::from_static(b"body")))
        .unwrap();
    let answer = send(&egress, "t", None, request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap(), "fine");

    let seen = server.seen.lock();
    let (head, body) = seen[0].split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.split("\r\n").collect();
    assert_eq!(lines.remove(0), "POST /a/../b?x=%20y HTTP/1.1", "the path is the guest's own");
    lines.sort_unstable();
    let host = format!("host: a.example:{port}");
    assert_eq!(lines, ["content-length: 4", host.as_str(), "x-repeated: 1", "x-repeated: 2"]);
    assert_eq!(body, "body");
}

#[tokio::test]
async fn a_url_without_a_path_asks_for_the_root() {
    let server = Server::start(|_| (ok(""), Then::Keep)).await;
    let egress = egress(open());
    for (path, line) in [("", "GET / HTTP/1.1"), ("?a=b", "GET /?a=b HTTP/1.1"), ("/?", "GET /? HTTP/1.1")] {
        let uri: http::Uri = server.url(path).parse().unwrap();
        send(&egress, "t", None, Request::get(uri).body(full(Bytes::new())).unwrap()).await.unwrap();
        assert_eq!(server.seen.lock().last().unwrap().split("\r\n").next(), Some(line));
    }
}

#[tokio::test]
async fn limits_as_long_as_they_come_are_no_limits() {
    let server = Server::start(|_| (ok("x"), Then::Keep)).await;
    let config = EgressConfig { connect_timeout: Duration::MAX, total_timeout: Duration::MAX, ..open() };
    assert_eq!(fetch(&egress(config), "t", &server.url("/")).await.unwrap().1, "x");
}

#[tokio::test]
async fn an_answer_keeps_repeated_and_binary_headers_and_loses_the_connections_own() {
    let server = Server::start(|_| {
        let head = b"HTTP/1.1 207 Odd\r\nset-cookie: a\r\nset-cookie: b\r\nx-bytes: \xff\xfe\r\nkeep-alive: timeout=5\r\n\
            connection: keep-alive\r\ncontent-length: 2\r\n\r\nhi";
        (head.to_vec(), Then::Keep)
    })
    .await;
    let answer = send(&egress(open()), "t", None, get(&server.url("/")).unwrap()).await.unwrap();
    assert_eq!(answer.status().as_u16(), 207);
    assert_eq!(answer.headers().get_all("set-cookie").iter().count(), 2);
    assert_eq!(answer.headers().get("x-bytes"), Some(&HeaderValue::from_bytes(b"\xff\xfe").unwrap()));
    assert!(!answer.headers().contains_key("keep-alive") && !answer.headers().contains_key("connection"));
    assert_eq!(answer.into_body().collect().await.unwrap(), "hi");
}

#[tokio::test]
async fn a_body_of_unknown_length_is_sent_in_pieces_or_at_its_announced_length() {
    let server = Server::start(|_| (ok(""), Then::Keep)).await;
    let egress = egress(open());
    let request = |length: Option<&str>, body| {
        let mut request = Request::post(parse_url(&server.url("/")).unwrap()).body(body).unwrap();
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.parse().unwrap());
        }
        request
    };
    send(&egress, "t", None, request(None, stream(vec![Ok("ab"), Ok("c")]))).await.unwrap();
    send(&egress, "t", None, request(Some("3"), stream(vec![Ok("ab"), Ok("c")]))).await.unwrap();
    {
        let seen = server.seen.lock();
        assert!(
            seen[0].contains("transfer-encoding: chunked") && seen[0].ends_with("0\r\n\r\n"),
            "{}",
            seen[0]
        );
        assert!(seen[1].contains("content-length: 3\r\n") && seen[1].ends_with("\r\n\r\nabc"), "{}", seen[1]);
    }
    for (length, pieces) in
        [("2", vec![Ok("abc")]), ("4", vec![Ok("ab"), Ok("c")]), ("9", vec![Ok("ab"), Err("guest gave up")])]
    {
        let error = send(&egress, "t", None, request(Some(length), stream(pieces))).await.unwrap_err();
        assert!(matches!(error, EgressError::RequestBody(_)), "{error:?}");
    }
    let error =
        send(&egress, "t", None, request(Some("2"), full(Bytes::from_static(b"abc")))).await.unwrap_err();
    assert!(matches!(error, EgressError::InvalidHeader(_)), "{error:?}");
    assert_eq!(server.seen.lock().len(), 2);
}

#[tokio::test]
async fn requests_over_their_limits_are_refused() {
    let server = Server::start(|_| (ok(""), Then::Keep)).await;
    let egress = egress(EgressConfig { request_bytes: 10, header_bytes: 1000, ..open() });
    let too_large = |error: EgressError, part: Part, limit: usize| {
        assert!(
            matches!(error, EgressError::TooLarge { what, limit: l } if what == part && l == limit),
            "{error:?}"
        );
    };
    let error = send(&egress, "t", None, post(&server.url("/"), "01234567890")).await.unwrap_err();
    too_large(error, Part::RequestBody, 10);
    let mut request = get(&server.url("/")).unwrap();
    request.headers_mut().insert("content-length", HeaderValue::from_static("11"));
    *request.body_mut() = stream(vec![]);
    too_large(send(&egress, "t", None, request).await.unwrap_err(), Part::RequestBody, 10);
    let mut request = get(&server.url("/")).unwrap();
    request.headers_mut().insert("x-long", "a".repeat(1000).parse().unwrap());
    too_large(send(&egress, "t", None, request).await.unwrap_err(), Part::RequestHeaders, 1000);
    let request = get(&server.url(&format!("/{}", "a".repeat(1000)))).unwrap();
    too_large(send(&egress, "t", None, request).await.unwrap_err(), Part::RequestHeaders, 1000);
    assert_eq!(server.connections().await, 0, "none of them needed a connection to be refused");

    let mut request = post(&server.url("/"), "");
    *request.body_mut() = stream(vec![Ok("01234"), Ok("56789"), Ok("0")]);
    too_large(send(&egress, "t", None, request).await.unwrap_err(), Part::RequestBody, 10);
    assert!(server.seen.lock().is_empty(), "no whole request arrived");
    assert_eq!(send(&egress, "t", None, post(&server.url("/"), "0123456789")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn answers_over_their_limits_are_errors_and_not_cut() {
    let server = Server::start(|request| {
        let bytes = match request.split(' ').nth(1).unwrap() {
            "/exact" => ok("0123456789"),
            "/announced" => b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n0".to_vec(),
            "/chunked" => {
                let mut head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
                head.extend(b"6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n");
                head
            }
            "/endless" => b"HTTP/1.1 200 OK\r\n\r\n0123456789012345".to_vec(),
            "/headers" => format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(9000)).into_bytes(),
            "/endless-headers" => format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(900_000)).into_bytes(),
            "/many-headers" => format!("HTTP/1.1 200 OK\r\n{}\r\n", "a:b\r\n".repeat(500)).into_bytes(),
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n".to_vec(),
        };
        (bytes, Then::Close)
    })
    .await;
    let egress = egress(EgressConfig { response_bytes: 10, header_bytes: 8192, ..open() });
    assert_eq!(fetch(&egress, "t", &server.url("/exact")).await.unwrap().1, "0123456789");
    for path in ["/announced", "/chunked", "/endless"] {
        let error = fetch(&egress, "t", &server.url(path)).await.unwrap_err();
        assert!(
            matches!(error, EgressError::TooLarge { what: Part::ResponseBody, limit: 10 }),
            "{path}: {error:?}"
        );
    }
    for path in ["/headers", "/endless-headers", "/many-headers"] {
        let error = fetch(&egress, "t", &server.url(path)).await.unwrap_err();
        assert!(
            matches!(error, EgressError::TooLarge { what: Part::ResponseHeaders, .. }),
            "{path}: {error:?}"
        );
    }
    // HEAD announces what it does not send.
    let mut request = get(&server.url("/head")).unwrap();
    *request.method_mut() = http::Method::HEAD;
    assert_eq!(send(&egress, "t", None, request).await.unwrap().into_body().collect().await.unwrap(), "");
}

#[tokio::test]
async fn an_answer_that_is_no_http_or_breaks_off_is_an_error() {
    let server = Server::start(|request| {
        let bytes: &[u8] = match request.split(' ').nth(1).unwrap() {
            "/nothing" => b"",
            "/half-a-head" => b"HTTP/1.1 200 OK\r\ncont",
            "/noise" => b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
            "/two-lengths" => b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            "/switch" => b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            "/short" => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
            _ => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        };
        (bytes.to_vec(), Then::Close)
    })
    .await;
    let egress = egress(open());
    for path in ["/nothing", "/half-a-head", "/noise", "/two-lengths", "/switch"] {
        let error = fetch(&egress, "t", &server.url(path)).await.unwrap_err();
        assert!(matches!(error, EgressError::Transport(_)), "{path}: {error:?}");
    }
    for path in ["/short", "/bad-chunk"] {
        let error = fetch(&egress, "t", &server.url(path)).await.unwrap_err();
        assert!(matches!(error, EgressError::Body(_)), "{path}: {error:?}");
    }
    assert_eq!(egress.stats().reused, 0);
}

#[tokio::test]
async fn each_wait_has_its_own_limit() {
    let server = Server::start(|request| match request.split(' ').nth(1).unwrap() {
        "/drip" => (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), Then::Drip),
        "/stall" => (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nab".to_vec(), Then::Hang),
        _ => (Vec::new(), Then::Hang),
    })
    .await;
    let egress = egress(EgressConfig { total_timeout: Duration::from_millis(300), ..open() });
    let who = tenant("t");
    let ask = async |path: &str, options: SendOptions| {
        let request = get(&server.url(path)).unwrap();
        let answer = egress.send(&Who { tenant: &who, install_rules: None }, request, options).await?;
        answer.into_body().collect().await
    };
    let waited = |answer: Result<Bytes, EgressError>| match answer {
        Err(EgressError::Timeout { what, after }) => (what, after.as_millis()),
        other => panic!("{other:?}"),
    };
    assert_eq!(waited(ask("/hang", minute()).await), (Wait::Total, 300));
    assert_eq!(waited(ask("/drip", minute()).await), (Wait::Total, 300));
    assert_eq!(waited(ask("/stall", minute()).await), (Wait::Total, 300));
    let options = SendOptions { first_byte_timeout: milliseconds(20), ..minute() };
    assert_eq!(waited(ask("/hang", options).await), (Wait::FirstByte, 20));
    let options = SendOptions { between_bytes_timeout: milliseconds(20), ..minute() };
    assert_eq!(waited(ask("/stall", options).await), (Wait::BetweenBytes, 20));
    let options = SendOptions {
        first_byte_timeout: Some(Duration::MAX),
        between_bytes_timeout: Some(Duration::MAX),
        ..minute()
    };
    assert_eq!(waited(ask("/stall", options).await), (Wait::Total, 300));
    let options = SendOptions::until(Instant::now() + Duration::from_millis(30));
    assert_eq!(waited(ask("/hang", options).await).0, Wait::Total);
    let before = server.connections().await;
    assert_eq!(waited(ask("/hang", SendOptions::until(Instant::now())).await).0, Wait::Total);
    assert_eq!(server.connections().await, before, "a run that is over sends nothing");
}

/// Never answers.
struct Silent;

#[async_trait::async_trait]
impl longshore_egress::Resolve for Silent {
    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<std::net::SocketAddr>> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_silent_name_server_is_a_connect_timeout_and_holds_no_more_than_the_tenants_share() {
    let config =
        EgressConfig { connect_timeout: Duration::from_millis(20), connections_per_tenant: 2, ..open() };
    let egress = Egress::new(config, std::sync::Arc::new(Silent)).unwrap();
    for wait in [Wait::Connect, Wait::Connect, Wait::Slot] {
        let error = fetch(&egress, "t", "http://slow.example/").await.unwrap_err();
        assert!(matches!(error, EgressError::Timeout { what, .. } if what == wait), "{error:?}");
    }
    let error = fetch(&egress, "another", "http://slow.example/").await.unwrap_err();
    assert!(matches!(error, EgressError::Timeout { what: Wait::Connect, .. }), "{error:?}");
}

#[tokio::test]
async fn no_name_and_nobody_listening_are_connect_errors_without_an_address_in_their_text() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let egress =
        Egress::new(open(), Names::new(&[("a.example", &[&["127.0.0.1"]]), ("b.example", &[&[]])])).unwrap();
    for (host, stage) in
        [("a.example", Stage::Tcp), ("b.example", Stage::Resolve), ("c.example", Stage::Resolve)]
    {
        let error = fetch(&egress, "t", &format!("http://{host}:{}/", free.port())).await.unwrap_err();
        assert!(!error.to_string().contains("127"), "{error}");
        assert!(matches!(error, EgressError::Connect { stage: s, .. } if s == stage), "{error:?}");
    }
    assert_eq!(egress.stats().open, 0);
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_accept() {
    let server = Server::on("127.0.0.2:0", |_| (ok("second"), Then::Close)).await;
    let egress = Egress::new(open(), Names::new(&[("a.example", &[&["127.0.0.1", "127.0.0.2"]])])).unwrap();
    let url = format!("http://a.example:{}/", server.address.port());
    assert_eq!(fetch(&egress, "t", &url).await.unwrap().1, "second");
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused_and_no_request_is_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![include_bytes!("data/self-signed.crt.der").to_vec().into()],
                include_bytes!("data/self-signed.key.der").to_vec().try_into().unwrap(),
            )
            .unwrap();
        let mut tls = rustls::ServerConnection::new(std::sync::Arc::new(config)).unwrap();
        let (mut tcp, _) = listener.accept().unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
        let mut got = Vec::new();
        let ended = io::Read::read_to_end(&mut stream, &mut got);
        (got, ended.is_err(), tls.server_name().map(str::to_owned))
    });
    let names = Names::new(&[("self-signed.example", &[&["127.0.0.1"]])]);
    let egress = Egress::new(open(), names).unwrap();
    let error = fetch(&egress, "t", &format!("https://SELF-signed.example.:{port}/")).await.unwrap_err();
    assert!(matches!(error, EgressError::Connect { stage: Stage::Tls, .. }), "{error:?}");
    assert_eq!(server.join().unwrap(), (Vec::new(), true, Some("self-signed.example".to_owned())));
}

#[tokio::test]
async fn a_server_without_tls_is_no_https_server() {
    let server = Server::start(|_| (ok("plain"), Then::Keep)).await;
    let egress = egress(EgressConfig { connect_timeout: Duration::from_millis(200), ..open() });
    let error = fetch(&egress, "t", &format!("https://{}/", server.address)).await.unwrap_err();
    // The server waits for the end of a request that the handshake never is.
    assert!(matches!(error, EgressError::Timeout { what: Wait::Connect, .. }), "{error:?}");
    assert!(server.seen.lock().is_empty());
}
