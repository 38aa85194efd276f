//! Targets in disguise: each refused with its code, and nothing sent.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use longshore_egress::{Egress, EgressConfig, EgressError, EgressRules, Resolve, full};
use support::{Names, Server, Then, egress, fetch, get, ok, open, send};

fn code(error: &EgressError) -> &'static str {
    match error {
        EgressError::NotAllowed(refusal) => refusal.as_str(),
        EgressError::InvalidUrl(_) => "invalid_url",
        EgressError::Connect { .. } => "connect",
        _ => "other",
    }
}

/// `{p}` is the port on which a server listens, on 127.0.0.1 and where possible on ::1.
const TARGETS: &[(&str, &str)] = &[
    // Loopback, in every way of writing it.
    ("http://127.0.0.1:{p}/", "private_address"),
    ("HTTP://127.0.0.1:{p}/", "private_address"),
    ("https://127.0.0.1:{p}/", "private_address"),
    ("http://127.1:{p}/", "private_address"),
    ("http://127.0.1:{p}/", "private_address"),
    ("http://127.0.0.1.:{p}/", "private_address"),
    ("http://127.1.:{p}/", "private_address"),
    ("http://2130706433:{p}/", "private_address"),
    ("http://0x7f000001:{p}/", "private_address"),
    ("http://0X7F000001:{p}/", "private_address"),
    ("http://0x7f.0.0.1:{p}/", "private_address"),
    ("http://0x7f.1:{p}/", "private_address"),
    ("http://0x000000007f.1:{p}/", "private_address"),
    ("http://017700000001:{p}/", "private_address"),
    ("http://0177.0.0.1:{p}/", "private_address"),
    ("http://0177.0.0x1:{p}/", "private_address"),
    ("http://00000177.0.1:{p}/", "private_address"),
    ("http://①②⑦.⓪.⓪.①:{p}/", "private_address"),
    ("http://１２７.０.０.１:{p}/", "private_address"),
    ("http://127。0。0。1:{p}/", "private_address"),
    ("http://127．0．0．1:{p}/", "private_address"),
    ("http://%31%32%37.0.0.1:{p}/", "private_address"),
    ("http://127%2e0%2e0%2e1:{p}/", "private_address"),
    ("http://127.0.0.1\u{ad}:{p}/", "private_address"),
    ("http://0:{p}/", "private_address"),
    ("http://0.0.0.0:{p}/", "private_address"),
    ("http://0x0:{p}/", "private_address"),
    // IPv6 forms.
    ("http://[::1]:{p}/", "private_address"),
    ("http://[0:0:0:0:0:0:0:1]:{p}/", "private_address"),
    ("http://[0000::0001]:{p}/", "private_address"),
    ("http://[::]:{p}/", "private_address"),
    ("http://[::ffff:127.0.0.1]:{p}/", "private_address"),
    ("http://[::ffff:7f00:1]:{p}/", "private_address"),
    ("http://[::FFFF:8.8.8.8]:{p}/", "private_address"),
    ("http://[::127.0.0.1]:{p}/", "private_address"),
    ("http://[::ffff:0:127.0.0.1]:{p}/", "private_address"),
    ("http://[64:ff9b::127.0.0.1]:{p}/", "private_address"),
    ("http://[64:ff9b::8.8.8.8]:{p}/", "private_address"),
    ("http://[64:ff9b:1::127.0.0.1]:{p}/", "private_address"),
    ("http://[2002:7f00:1::]:{p}/", "private_address"),
    ("http://[2001:0:7f00:1::]:{p}/", "private_address"),
    ("http://[fe80::1]:{p}/", "private_address"),
    ("http://[fec0::1]:{p}/", "private_address"),
    ("http://[fc00::1]:{p}/", "private_address"),
    ("http://[fd00:ec2::254]/latest/meta-data/", "private_address"),
    ("http://[ff02::1]:{p}/", "private_address"),
    ("http://[100::1]:{p}/", "private_address"),
    ("http://[2001:db8::1]:{p}/", "private_address"),
    ("http://[fe80::1%25lo]:{p}/", "invalid_url"),
    ("http://[::1%25lo]:{p}/", "invalid_url"),
    ("http://[v1.127]:{p}/", "invalid_url"),
    // Metadata and other places that are not the internet.
    ("http://169.254.169.254/latest/meta-data/", "private_address"),
    ("http://2852039166/latest/meta-data/", "private_address"),
    ("http://0xa9fea9fe/", "private_address"),
    ("http://0251.0376.0251.0376/", "private_address"),
    ("http://169.254.43518/", "private_address"),
    ("http://[::ffff:a9fe:a9fe]/", "private_address"),
    ("http://100.100.100.200/", "private_address"),
    ("http://168.63.129.16/", "private_address"),
    ("http://192.0.0.192/", "private_address"),
    ("http://10.0.0.1/", "private_address"),
    ("http://012.0.0.1/", "private_address"),
    ("http://172.31.255.254/", "private_address"),
    ("http://192.168.1.1/", "private_address"),
    ("http://198.18.0.1/", "private_address"),
    ("http://203.0.113.1/", "private_address"),
    ("http://224.0.0.1/", "private_address"),
    ("http://240.0.0.1/", "private_address"),
    ("http://255.255.255.255/", "private_address"),
    ("http://4294967295/", "private_address"),
    // Names that resolve to such places.
    ("http://localhost:{p}/", "private_address"),
    ("http://LOCALHOST.:{p}/", "private_address"),
    ("http://ⓛocalhost:{p}/", "private_address"),
    ("http://internal.example:{p}/", "private_address"),
    ("http://v6.example:{p}/", "private_address"),
    ("http://mapped.example:{p}/", "private_address"),
    ("http://nat64.example:{p}/", "private_address"),
    ("http://zoned.example:{p}/", "private_address"),
    ("http://metadata.google.internal/", "private_address"),
    ("http://bücher.example:{p}/", "private_address"),
    ("http://xn--bcher-kva.example:{p}/", "private_address"),
    // Users, separators and characters that other parsers read otherwise.
    ("http://public.example@127.0.0.1:{p}/", "userinfo"),
    ("http://public.example:80@127.0.0.1:{p}/", "userinfo"),
    ("http://127.0.0.1:{p}@public.example/", "userinfo"),
    ("http://@127.0.0.1:{p}/", "userinfo"),
    ("http://:@127.0.0.1:{p}/", "userinfo"),
    ("http://a@b@127.0.0.1:{p}/", "userinfo"),
    ("http://public.example%40127.0.0.1:{p}/", "invalid_url"),
    ("http://127.0.0.1:{p}#@public.example/", "private_address"),
    ("http://127.0.0.1:{p}?@public.example/", "private_address"),
    ("http://127.0.0.1:{p}\\@public.example/", "private_address"),
    ("http://127.0.0.1:{p}/@public.example/", "private_address"),
    ("http:///127.0.0.1:{p}/", "private_address"),
    ("http:////127.0.0.1:{p}/", "private_address"),
    ("http:/127.0.0.1:{p}/", "private_address"),
    ("http:127.0.0.1:{p}/", "private_address"),
    ("http:\\\\127.0.0.1:{p}\\", "private_address"),
    ("http://127.0.0\t.1:{p}/", "invalid_url"),
    ("ht\ntp://127.0.0.1:{p}/", "invalid_url"),
    ("http://127.0.0.1:{p}/\r\nx-injected: 1", "invalid_url"),
    ("http://127.0.0.1 :{p}/", "invalid_url"),
    ("http://127.0.0.1%00.public.example:{p}/", "invalid_url"),
    ("http://127.0.0.1%2f.public.example:{p}/", "invalid_url"),
    ("http://127.0.0.256:{p}/", "invalid_url"),
    ("http://0x100000000:{p}/", "invalid_url"),
    ("http://1.2.3.4.5:{p}/", "invalid_url"),
    ("//127.0.0.1:{p}/", "invalid_url"),
    ("127.0.0.1:{p}/", "invalid_url"),
    ("http://internal..example:{p}/", "invalid_url"),
    ("http://internal.example..:{p}/", "invalid_url"),
    // Ports and schemes.
    ("http://127.0.0.1:0/", "port_0"),
    ("http://public.example:000/", "port_0"),
    ("http://127.0.0.1:65616/", "invalid_url"),
    ("http://127.0.0.1:-80/", "invalid_url"),
    ("http://127.0.0.1:{p}:80/", "invalid_url"),
    ("http://127.0.0.1:0{p}/", "private_address"),
    ("ftp://127.0.0.1:{p}/", "scheme"),
    ("gopher://127.0.0.1:{p}/_GET", "scheme"),
    ("file:///etc/passwd", "scheme"),
    ("ws://127.0.0.1:{p}/", "scheme"),
    ("data:text/plain,x", "scheme"),
    ("javascript:alert(1)", "scheme"),
    ("jar:http://127.0.0.1:{p}/", "scheme"),
];

fn hostile_names() -> Arc<dyn Resolve> {
    Names::new(&[
        ("localhost", &[&["127.0.0.1", "::1"]]),
        ("internal.example", &[&["10.0.0.1", "127.0.0.1", "192.168.0.1"]]),
        ("v6.example", &[&["::1", "fd00::1"]]),
        ("mapped.example", &[&["::ffff:127.0.0.1"]]),
        ("nat64.example", &[&["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"]]),
        ("zoned.example", &[&["[fe80::1%1]:80"]]),
        ("metadata.google.internal", &[&["169.254.169.254"]]),
        ("xn--bcher-kva.example", &[&["127.0.0.1"]]),
    ])
}

#[tokio::test]
async fn every_target_in_disguise_is_refused_with_its_code_and_nothing_is_sent() {
    let server = Server::start(|_| (ok("secret"), Then::Close)).await;
    // Where the machine has no IPv6 there is nothing to reach either.
    let v6 = tokio::net::TcpListener::bind(("::1", server.address.port())).await;
    let config = EgressConfig { allow_all_when_empty: true, ..EgressConfig::default() };
    let egress = Egress::new(config, hostile_names()).unwrap();
    assert_eq!(egress.mode(), "allow all");
    assert!(TARGETS.len() > 100);

    for (url, expected) in TARGETS {
        let url = url.replace("{p}", &server.address.port().to_string());
        let error = fetch(&egress, "t", &url).await.expect_err(&url);
        assert_eq!(code(&error), *expected, "{url}: {error:?}");
        let shown = error.to_string();
        assert!(!["127.0", "169.254", "10.0", "::"].iter().any(|a| shown.contains(a)), "{url}: {shown}");

        // The same as a guest of wasi:http builds it, past `parse_url`.
        if let Ok(uri) = url.parse::<http::Uri>() {
            let request = Request::get(uri).body(full(Bytes::new())).unwrap();
            let error = send(&egress, "t", None, request).await.expect_err(&url);
            assert_ne!(code(&error), "other", "{url}: {error:?}");
            assert_ne!(code(&error), "connect", "{url}: {error:?}");
        }
    }

    assert_eq!(server.connections().await, 0);
    if let Ok(listener) = v6 {
        let ours = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (_, first) = listener.accept().await.unwrap();
        assert_eq!(first, ours.local_addr().unwrap(), "someone else came first");
    }
    assert_eq!(egress.stats().opened, 0);
    let refused: u64 = egress.stats().refused.iter().map(|(_, count)| count).sum();
    assert!(refused > 70, "{refused}");
}

#[tokio::test]
async fn what_is_not_listed_is_not_even_looked_up() {
    let names = Names::new(&[("listed.example", &[&["127.0.0.1"]])]);
    let rules = EgressRules::from_variable(&["listed.example"]).unwrap();
    let egress = Egress::new(EgressConfig { rules, ..EgressConfig::default() }, names.clone()).unwrap();
    assert_eq!(egress.mode(), "allowlist");
    for url in [
        "http://data-of-mine.evil.example/",
        "http://listed.example.evil.example/",
        "http://xlisted.example/",
        "http://127.0.0.1/",
        "http://listed.example@evil.example/",
        "http://listed.example\u{2044}.evil.example/",
        "http://evil.example/listed.example",
        "http://evil.example#listed.example",
        "http://evil.example\\.listed.example/",
    ] {
        let error = fetch(&egress, "t", url).await.expect_err(url);
        assert!(
            matches!(code(&error), "not_in_operator_list" | "userinfo" | "invalid_url"),
            "{url}: {error:?}"
        );
    }
    assert!(names.asked.lock().is_empty(), "{:?}", names.asked.lock());
    assert_eq!(code(&fetch(&egress, "t", "http://listed.example/").await.unwrap_err()), "private_address");
}

#[tokio::test]
async fn an_empty_list_denies_before_anything_is_looked_up() {
    let names = Names::new(&[]);
    let egress = Egress::new(EgressConfig::default(), names.clone()).unwrap();
    assert_eq!(egress.mode(), "deny");
    assert_eq!(code(&fetch(&egress, "t", "https://example.com/").await.unwrap_err()), "empty_list");
    assert!(names.asked.lock().is_empty());
}

/// 127.0.0.2 plays the public address and 127.0.0.1 the internal one: a network of the list tells them apart as the
/// public check otherwise does.
#[tokio::test]
async fn a_resolver_that_changes_its_answer_gains_nothing() {
    let victim = Server::start(|_| (ok("secret"), Then::Close)).await;
    let port = victim.address.port();
    let public = Server::on(&format!("127.0.0.2:{port}"), |_| (ok("public"), Then::Close)).await;
    let names = Names::new(&[("rebind.example", &[&["127.0.0.2"], &["127.0.0.1"]])]);
    let rules = EgressRules::from_variable(&["127.0.0.2/32"]).unwrap();
    let config = EgressConfig { rules, allow_private: true, ..EgressConfig::default() };
    let egress = Egress::new(config, names.clone()).unwrap();

    let url = format!("http://rebind.example:{port}/");
    assert_eq!(fetch(&egress, "t", &url).await.unwrap().1, "public");
    assert_eq!(names.asked.lock().len(), 1, "one resolution for a connection");
    assert_eq!(code(&fetch(&egress, "t", &url).await.unwrap_err()), "not_in_operator_list");
    assert_eq!(names.asked.lock().len(), 2);
    assert_eq!(victim.connections().await, 0);
    assert_eq!(public.connections().await, 1);
}

#[tokio::test]
async fn of_mixed_addresses_only_the_allowed_one_is_connected_to() {
    let victim = Server::start(|_| (ok("secret"), Then::Close)).await;
    let port = victim.address.port();
    let _public = Server::on(&format!("127.0.0.2:{port}"), |_| (ok("public"), Then::Close)).await;
    let names = Names::new(&[("mixed.example", &[&["127.0.0.1", "127.0.0.2", "127.0.0.1"]])]);
    let rules = EgressRules::from_variable(&["127.0.0.2/32"]).unwrap();
    let config = EgressConfig { rules, allow_private: true, ..EgressConfig::default() };
    let egress = Egress::new(config, names).unwrap();
    assert_eq!(fetch(&egress, "t", &format!("http://mixed.example:{port}/")).await.unwrap().1, "public");
    assert_eq!(victim.connections().await, 0);
}

#[tokio::test]
async fn the_port_is_the_urls_and_not_the_resolvers() {
    let victim = Server::start(|_| (ok("secret"), Then::Close)).await;
    let server = Server::start(|_| (ok("mine"), Then::Close)).await;
    let answer = format!("127.0.0.1:{}", victim.address.port());
    let egress = Egress::new(open(), Names::new(&[("a.example", &[&[answer.as_str()]])])).unwrap();
    let url = format!("http://a.example:{}/", server.address.port());
    assert_eq!(fetch(&egress, "t", &url).await.unwrap().1, "mine");
    assert_eq!(victim.connections().await, 0);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let victim = Server::start(|_| (ok("secret"), Then::Close)).await;
    let location = victim.url("/secret");
    let server = Server::start(move |_| {
        let head = format!(
            "HTTP/1.1 302 Found\r\nlocation: {location}\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n"
        );
        (head.into_bytes(), Then::Keep)
    })
    .await;
    let egress = egress(open());
    let answer = send(&egress, "t", None, get(&server.url("/")).unwrap()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("location")), (302, true));
    drop(answer);
    assert_eq!(fetch(&egress, "t", &server.url("/")).await.unwrap().0, 302);
    assert!(!server.seen.lock().iter().any(|r| r.to_lowercase().contains("cookie")));
    assert_eq!(victim.connections().await, 0);
}

#[tokio::test]
async fn connect_and_trace_are_not_sent_in_any_case() {
    let server = Server::start(|_| (ok(""), Then::Keep)).await;
    let egress = egress(open());
    for method in ["CONNECT", "TRACE"] {
        let mut request = get(&server.url("/")).unwrap();
        *request.method_mut() = method.parse().unwrap();
        assert_eq!(code(&send(&egress, "t", None, request).await.unwrap_err()), "method");
    }
    assert_eq!(server.connections().await, 0);
}
