//! Where a request goes, taken once from its URL.
//!
//! The `url` crate reads the host as browsers do (WHATWG): decimal, octal, hexadecimal and short IPv4 forms, full-width
//! digits and percent escapes become the address that they mean. Everything after that, the allowlist, the resolver, the
//! certificate check and the `host` header, uses this one reading, so there is no second parser to disagree with it.

use std::net::IpAddr;

use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use url::{Host, Url};

use crate::error::{EgressError, Refusal};

/// Bytes in a URL: what the common servers and proxies take at most.
const MAX_URL_BYTES: usize = 16 * 1024;

/// Scheme, host and port of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) https: bool,
    /// Lower case, ASCII, without a trailing dot.
    pub(crate) host: Host<String>,
    pub(crate) port: u16,
}

/// Reads the URL of a guest that hands over text, as `http.fetch` does. The fragment is dropped, the host normalised.
///
/// # Errors
/// [`EgressError::InvalidUrl`], and [`EgressError::NotAllowed`] for another scheme than `http` and `https`, for user
/// information and for port 0.
pub fn parse_url(text: &str) -> Result<Uri, EgressError> {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
    if text.len() > MAX_URL_BYTES {
        return Err(EgressError::InvalidUrl("longer than 16 KiB"));
    }
    // The URL rules drop tabs and line breaks anywhere. No honest URL has one, and filters that saw the text disagree.
    if text.chars().any(char::is_control) {
        return Err(EgressError::InvalidUrl("has a control character"));
    }
    let url = Url::parse(text).map_err(|error| {
        EgressError::InvalidUrl(match error {
            url::ParseError::RelativeUrlWithoutBase => "is not absolute",
            url::ParseError::EmptyHost => "has no host",
            url::ParseError::InvalidPort => "has a port outside 0 to 65535",
            url::ParseError::IdnaError => "has a host that is no domain name",
            url::ParseError::InvalidIpv4Address => "has a host that looks like an IPv4 address and is none",
            url::ParseError::InvalidIpv6Address => "has an address in brackets that is none",
            url::ParseError::InvalidDomainCharacter => "has a character that no host has",
            _ => "is not one",
        })
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(EgressError::NotAllowed(Refusal::Scheme));
    }
    // An empty user is dropped by the parser, and is still no way to write a host.
    if raw_authority(text).contains('@') {
        return Err(EgressError::NotAllowed(Refusal::Userinfo));
    }
    let target = Target::from_url(&url)?;
    let mut path = url.path().to_owned();
    if let Some(query) = url.query() {
        path.push('?');
        path.push_str(query);
    }
    target.uri(&path)
}

/// What stands between the scheme and the path, as the URL rules delimit it.
fn raw_authority(text: &str) -> &str {
    let after = text.split_once(':').map_or("", |(_, rest)| rest).trim_start_matches(['/', '\\']);
    after.split(['/', '\\', '?', '#']).next().unwrap_or_default()
}

/// Drops one trailing dot and refuses what is left without a proper name.
pub(crate) fn normalise(host: Host<String>) -> Option<Host<String>> {
    let Host::Domain(name) = host else { return Some(host) };
    let name = name.strip_suffix('.').unwrap_or(&name).to_ascii_lowercase();
    let proper = name.len() <= 253 && name.split('.').all(|label| !label.is_empty() && label.len() <= 63);
    proper.then_some(Host::Domain(name))
}

impl Target {
    /// Reads the target of a request; its path is left as it is.
    pub(crate) fn of(uri: &Uri) -> Result<Self, EgressError> {
        let scheme = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS => scheme.as_str(),
            Some(_) => return Err(EgressError::NotAllowed(Refusal::Scheme)),
            None => return Err(EgressError::InvalidUrl("is not absolute")),
        };
        let authority = uri.authority().ok_or(EgressError::InvalidUrl("has no host"))?.as_str();
        if authority.contains('@') {
            return Err(EgressError::NotAllowed(Refusal::Userinfo));
        }
        let url = Url::parse(&format!("{scheme}://{authority}/"))
            .map_err(|_| EgressError::InvalidUrl("has a host that is none"))?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(EgressError::InvalidUrl("has a host that is none"));
        }
        Self::from_url(&url)
    }

    fn from_url(url: &Url) -> Result<Self, EgressError> {
        let host = url.host().ok_or(EgressError::InvalidUrl("has no host"))?.to_owned();
        let host = normalise(host).ok_or(EgressError::InvalidUrl("has a host that is no domain name"))?;
        let port = url.port_or_known_default().ok_or(EgressError::InvalidUrl("has no port"))?;
        if port == 0 {
            return Err(EgressError::NotAllowed(Refusal::Port0));
        }
        Ok(Self { https: url.scheme() == "https", host, port })
    }

    /// The address, when the URL has one instead of a name.
    pub(crate) fn literal(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some((*address).into()),
            Host::Ipv6(address) => Some((*address).into()),
        }
    }

    /// What the `host` header says: the port only where it is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        let default = if self.https { 443 } else { 80 };
        if self.port == default { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    /// This target with a path, as one URI.
    pub(crate) fn uri(&self, path: &str) -> Result<Uri, EgressError> {
        let invalid = || EgressError::InvalidUrl("has a character that must be escaped");
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if self.https { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(Authority::try_from(self.authority()).map_err(|_| invalid())?);
        parts.path_and_query = Some(PathAndQuery::try_from(path).map_err(|_| invalid())?);
        Uri::from_parts(parts).map_err(|_| invalid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> String {
        parse_url(url).unwrap().to_string()
    }

    #[test]
    fn a_url_is_read_as_browsers_read_it() {
        assert_eq!(read("https://EXAMPLE.com"), "https://example.com/");
        assert_eq!(read("https://example.com.:443/a?b=c#d"), "https://example.com/a?b=c");
        assert_eq!(read("http://example.com:8080/a b?x={y}"), "http://example.com:8080/a%20b?x={y}");
        assert_eq!(read("http:\\\\example.com\\a"), "http://example.com/a");
        assert_eq!(read("  http://example.com/\n"), "http://example.com/");
        assert_eq!(read("http://0x7f.1/"), "http://127.0.0.1/");
        assert_eq!(read("http://①②⑦.0.0.1/"), "http://127.0.0.1/");
        assert_eq!(read("http://[::FFFF:127.0.0.1]/"), "http://[::ffff:7f00:1]/");
        assert_eq!(read("http://bücher.example/ü"), "http://xn--bcher-kva.example/%C3%BC");
    }

    #[test]
    fn reading_its_own_output_changes_nothing() {
        for url in ["http://0x7f.1/a?b", "https://BÜCHER.example.:8443/x/../y", "http://[0:0::1]:81/"] {
            let once = read(url);
            assert_eq!(read(&once), once);
            assert_eq!(
                Target::of(&parse_url(url).unwrap()).unwrap(),
                Target::of(&once.parse().unwrap()).unwrap()
            );
        }
    }

    #[test]
    fn what_is_no_url_of_ours_is_refused() {
        for url in [
            "",
            "example.com",
            "/path",
            "//example.com/",
            "http://",
            "https:///",
            "http://exa mple.com/",
            "http://example.com:99999/",
            "http://exam\tple.com/",
            "http://example.com/\r\nx: y",
            "http://[::1",
            "http://[fe80::1%25eth0]/",
            "http://1.2.3.256/",
            "http://a..b/",
            "http://example.com../",
            "http://\u{0}example.com/",
            "http://exa%00mple.com/",
        ] {
            assert!(
                matches!(parse_url(url), Err(EgressError::InvalidUrl(_))),
                "{url:?}: {:?}",
                parse_url(url)
            );
        }
        let long = format!("http://example.com/{}", "a".repeat(MAX_URL_BYTES));
        assert!(matches!(parse_url(&long), Err(EgressError::InvalidUrl(_))));
        for (url, refusal) in [
            ("ftp://example.com/", Refusal::Scheme),
            ("file:///etc/passwd", Refusal::Scheme),
            ("data:text/plain,x", Refusal::Scheme),
            ("gopher://127.0.0.1:6379/_x", Refusal::Scheme),
            ("http://user@example.com/", Refusal::Userinfo),
            ("http://@example.com/", Refusal::Userinfo),
            ("http:@example.com/", Refusal::Userinfo),
            ("http://a:b@example.com/", Refusal::Userinfo),
            ("http://example.com%2f@x", Refusal::Userinfo),
            ("http://example.com:0/", Refusal::Port0),
        ] {
            assert!(matches!(parse_url(url), Err(EgressError::NotAllowed(r)) if r == refusal), "{url}");
        }
    }

    #[test]
    fn an_at_sign_in_the_path_is_no_user() {
        assert_eq!(read("https://example.com/@scope/pkg?a@b"), "https://example.com/@scope/pkg?a@b");
    }

    #[test]
    fn a_request_is_read_the_same_way() {
        let of = |uri: &str| Target::of(&uri.parse().unwrap());
        assert_eq!(of("http://0x7f.0.0.1/").unwrap().literal(), Some([127, 0, 0, 1].into()));
        assert_eq!(of("http://127.1.:81/").unwrap().literal(), Some([127, 0, 0, 1].into()));
        assert_eq!(of("http://EXAMPLE.com.").unwrap().authority(), "example.com");
        assert!(matches!(of("http://user@example.com/"), Err(EgressError::NotAllowed(Refusal::Userinfo))));
        assert!(matches!(of("ftp://example.com/"), Err(EgressError::NotAllowed(Refusal::Scheme))));
        assert!(matches!(of("/path"), Err(EgressError::InvalidUrl(_))));
    }
}
