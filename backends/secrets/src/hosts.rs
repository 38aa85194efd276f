//! Hosts that a secret may be sent to.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// A DNS name is at most 253 characters.
const MAX_HOST: usize = 253;

/// One host (`api.example.com`), or all below a name (`*.example.org`, not `example.org` itself), on every port or on
/// one (`api.example.com:8443`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    host: String,
    below: bool,
    port: Option<u16>,
}

/// Why a text is no host pattern. The text is not repeated: it may be a value in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a host is written as api.example.com, *.example.org or api.example.com:8443")]
pub struct HostPatternError;

/// Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            match rest {
                "" => (host, None),
                rest => (host, Some(rest.strip_prefix(':')?)),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|number| *number > 0 && digits(port))?),
        None => None,
    };
    Some((host, port))
}

/// In lower case and without the dot of an absolute name: both name the same host.
fn normal(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let named = host.len() <= MAX_HOST && host.split('.').all(label);
    if named {
        return Some(host);
    }
    // One spelling of an address for all that mean it.
    host.parse::<Ipv6Addr>().ok().map(|address| address.to_string())
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        let (host, port) = split(text).ok_or(HostPatternError)?;
        let (host, below) = match host.strip_prefix("*.") {
            Some(host) => (host, true),
            None => (host, false),
        };
        let host = normal(host).ok_or(HostPatternError)?;
        Ok(Self { host, below, port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.below { "*." } else { "" };
        match (self.host.contains(':'), self.port) {
            (true, Some(port)) => write!(f, "{star}[{}]:{port}", self.host),
            (true, None) => write!(f, "{star}[{}]", self.host),
            (false, Some(port)) => write!(f, "{star}{}:{port}", self.host),
            (false, None) => write!(f, "{star}{}", self.host),
        }
    }
}

impl HostPattern {
    /// Whether a request to `host` (with its port, the scheme's if it names none) may carry the secret. A host without
    /// a port matches no pattern that names one.
    pub fn allows(&self, host: &str) -> bool {
        let Some((host, port)) = split(host) else { return false };
        let Some(host) = normal(host) else { return false };
        let named = if self.below {
            host.strip_suffix(self.host.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.host
        };
        named && (self.port.is_none() || self.port == port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, host: &str) -> bool {
        pattern.parse::<HostPattern>().unwrap().allows(host)
    }

    #[test]
    fn a_host_is_itself_in_any_case_and_on_any_port() {
        for host in ["api.example.com", "API.Example.com:443", "api.example.com.", "api.example.com:8443"] {
            assert!(allows("Api.example.com", host), "{host}");
        }
        for host in ["example.com", "x.api.example.com", "api.example.com.evil.org", "", "api.example.com:"] {
            assert!(!allows("api.example.com", host), "{host}");
        }
    }

    #[test]
    fn a_star_is_everything_below_and_not_the_name_itself() {
        assert!(allows("*.example.org", "a.example.org") && allows("*.example.org", "a.b.example.org:1"));
        for host in ["example.org", ".example.org", "aexample.org", "example.org.a", "a..example.org"] {
            assert!(!allows("*.example.org", host), "{host}");
        }
    }

    #[test]
    fn a_port_must_be_the_same_and_known() {
        assert!(allows("a.b:8443", "a.b:8443"));
        assert!(!allows("a.b:8443", "a.b:443") && !allows("a.b:8443", "a.b"));
    }

    #[test]
    fn addresses_are_hosts_too() {
        assert!(allows("127.0.0.1:80", "127.0.0.1:80") && allows("[::1]", "[0:0::1]:443"));
        assert!(!allows("[::1]:80", "[::1]:443") && !allows("[::1]", "::1"));
    }

    #[test]
    fn what_is_no_pattern_is_refused_without_being_repeated() {
        for text in [
            "", "*", "*.", "a b", "a.*.b", "http://a", "a:", "a:0", "a:+1", "a:65536", "[::1", "[::1]x",
            "user@a", "a/b", ".a", "a..b",
        ] {
            let error = text.parse::<HostPattern>().unwrap_err();
            assert!(text.len() < 4 || !error.to_string().contains(text), "{text}");
        }
        let shown: Vec<_> =
            ["*.A.b:1", "[::1]:2", "a"].map(|t| t.parse::<HostPattern>().unwrap().to_string()).into();
        assert_eq!(shown, ["*.a.b:1", "[::1]:2", "a"]);
    }
}
