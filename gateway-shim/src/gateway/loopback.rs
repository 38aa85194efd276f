//! Calls without a token, for development: only from this machine, and not from a page of another origin.
//!
//! That the peer is loopback is not enough. Any page that the developer's browser shows can send requests to
//! 127.0.0.1 (what it may not do is read the answers), and a name of its own that resolves to 127.0.0.1 makes even the
//! answers readable (DNS rebinding). So the request must name this machine as its host, and a browser that says it asks
//! for another origin's page is refused. What a proxy on this machine passes on is not from this machine.

use std::net::SocketAddr;

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;

use crate::http::Peer;

/// Whether a request may come without a token.
pub fn permits(head: &Parts) -> bool {
    let near = head.extensions.get::<Peer>().is_some_and(|Peer(peer)| is_loopback(peer));
    near && !was_passed_on(head)
        && host(head).is_some_and(|host| is_this_machine(&host) && same_origin(head, &host))
}

fn is_loopback(peer: &SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

fn was_passed_on(head: &Parts) -> bool {
    let by_proxies = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];
    by_proxies.iter().any(|name| head.headers.contains_key(*name))
}

/// The one host of a request; several are none.
fn host(head: &Parts) -> Option<Authority> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return None,
        (Some(host), None) => Some(host.to_str().ok()?.parse::<Authority>().ok()?),
        (None, _) => None,
    };
    match (named, head.uri.authority()) {
        (Some(named), Some(target)) if named != *target => None,
        (Some(host), _) => Some(host),
        (None, target) => target.cloned(),
    }
}

fn is_this_machine(host: &Authority) -> bool {
    let without_user = !host.as_str().contains('@');
    without_user
        && ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| host.host().eq_ignore_ascii_case(name))
}

/// Whether no page of another origin asks, as far as the browser says. Programs that are no browsers say nothing.
fn same_origin(head: &Parts, host: &Authority) -> bool {
    let own = |origin: &str| {
        origin.strip_prefix("http://").is_some_and(|rest| rest.eq_ignore_ascii_case(host.as_str()))
    };
    let origin = head.headers.get_all(ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(own));
    let site =
        head.headers.get_all("sec-fetch-site").iter().all(|site| site == "same-origin" || site == "none");
    origin && site
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(peer: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("/api/ext/e").extension(Peer(peer.parse().unwrap()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_program_on_this_machine_may_call_by_each_of_its_names() {
        for host in ["localhost:8085", "localhost", "LocalHost:1", "127.0.0.1:8085", "[::1]:8085"] {
            assert!(permits(&head("127.0.0.1:5000", &[("host", host)])), "{host}");
        }
        assert!(permits(&head("[::1]:5000", &[("host", "localhost")])));
        assert!(permits(&head("[::ffff:127.0.0.1]:5000", &[("host", "localhost")])));
        let page = [
            ("host", "localhost:8085"),
            ("origin", "http://localhost:8085"),
            ("sec-fetch-site", "same-origin"),
        ];
        assert!(permits(&head("127.0.0.1:5000", &page)));
    }

    #[test]
    fn other_machines_and_other_names_may_not() {
        assert!(!permits(&head("192.0.2.1:5000", &[("host", "localhost")])));
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8085",
            "x@localhost",
            "127.0.0.2",
            "[::]",
            "",
        ] {
            assert!(!permits(&head("127.0.0.1:5000", &[("host", host)])), "{host}");
        }
        assert!(!permits(&head("127.0.0.1:5000", &[])));
        assert!(!permits(&head("127.0.0.1:5000", &[("host", "localhost"), ("host", "evil.example")])));
        let request = Request::get("/").header("host", "localhost").body(()).unwrap();
        assert!(!permits(&request.into_parts().0), "a peer that is not known is not near");
    }

    #[test]
    fn pages_of_other_origins_and_what_a_proxy_passes_on_may_not() {
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "http://localhost:3000"),
            ("origin", "https://localhost:8085"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("x-forwarded-for", "192.0.2.1"),
            ("forwarded", "for=192.0.2.1"),
        ] {
            let headers = [("host", "localhost:8085"), (name, value)];
            assert!(!permits(&head("127.0.0.1:5000", &headers)), "{name}: {value}");
        }
    }
}
