//! Allowlists: the operator's `EXT_EGRESS_ALLOWLIST` and the one of an install.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use url::Host;

use crate::target::Target;

/// Entries in one list. A tenant writes install lists, and each is looked through for every new connection.
pub const MAX_ENTRIES: usize = 256;
/// Bytes in one entry: a DNS name has 253, a wildcard and a port add eight.
pub const MAX_ENTRY_BYTES: usize = 260;

/// A parsed allowlist. Clones share it.
#[derive(Clone)]
pub struct EgressRules {
    rules: Arc<[Rule]>,
    hash: u64,
}

/// Why an entry is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Not of a known form.
    #[error(
        "egress entry `{entry}` {problem}; expected a host, *.host, host:port, an address or a network such as 203.0.113.0/24"
    )]
    Entry {
        /// The entry, cut to [`MAX_ENTRY_BYTES`].
        entry: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More entries than [`MAX_ENTRIES`].
    #[error("an egress list has at most {MAX_ENTRIES} entries, not {0}")]
    TooMany(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Rule {
    what: What,
    /// Any port when absent.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum What {
    /// That name and no other.
    Name(String),
    /// Names below that one.
    Below(String),
    /// Both: what a bare host means in the variable (interop 5.4).
    NameAndBelow(String),
    /// That address, written in the URL.
    Address(IpAddr),
    /// Addresses, written in the URL or resolved.
    Net(IpNet),
}

/// What a list says of a target before its addresses are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its name is listed.
    Allowed,
    /// It depends on the address: the list has networks.
    ByAddress,
    /// Not listed, and no address can change that.
    Refused,
}

impl EgressRules {
    /// The operator's list, as in `EXT_EGRESS_ALLOWLIST`: a bare host includes its subdomains. Blank entries are skipped,
    /// as a comma at the end makes one.
    ///
    /// # Errors
    /// [`RuleError`] for the first entry that is of no known form, and for a list that is too long.
    pub fn from_variable<S: AsRef<str>>(entries: &[S]) -> Result<Self, RuleError> {
        Self::parse(entries, What::NameAndBelow)
    }

    /// The list of an install: `host` is that host alone, `*.host` its subdomains alone.
    ///
    /// # Errors
    /// As [`EgressRules::from_variable`].
    pub fn from_install<S: AsRef<str>>(entries: &[S]) -> Result<Self, RuleError> {
        Self::parse(entries, What::Name)
    }

    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    fn parse<S: AsRef<str>>(entries: &[S], bare: fn(String) -> What) -> Result<Self, RuleError> {
        if entries.len() > MAX_ENTRIES {
            return Err(RuleError::TooMany(entries.len()));
        }
        let mut rules = Vec::with_capacity(entries.len());
        for entry in entries.iter().map(|e| e.as_ref().trim()).filter(|e| !e.is_empty()) {
            rules.push(rule(entry, bare).map_err(|problem| RuleError::Entry {
                entry: entry.chars().take(MAX_ENTRY_BYTES).collect(),
                problem,
            })?);
        }
        Ok(Self::of(rules))
    }

    fn of(rules: Vec<Rule>) -> Self {
        let mut hasher = DefaultHasher::new();
        rules.hash(&mut hasher);
        Self { rules: rules.into(), hash: hasher.finish() }
    }

    /// What can be said before the name is resolved.
    pub(crate) fn verdict(&self, target: &Target) -> Verdict {
        if self.rules.iter().any(|rule| rule.names(target)) {
            Verdict::Allowed
        } else if self
            .rules
            .iter()
            .any(|rule| matches!(rule.what, What::Net(_)) && rule.takes_port(target.port))
        {
            Verdict::ByAddress
        } else {
            Verdict::Refused
        }
    }

    /// Whether the list allows this target at this address.
    pub(crate) fn allows(&self, target: &Target, address: SocketAddr) -> bool {
        self.rules.iter().any(|rule| {
            rule.names(target)
                || matches!(&rule.what, What::Net(net) if rule.takes_port(target.port) && net.contains(&address.ip()))
        })
    }
}

impl Default for EgressRules {
    /// An empty list.
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Rule {
    fn takes_port(&self, port: u16) -> bool {
        self.port.is_none_or(|allowed| allowed == port)
    }

    fn names(&self, target: &Target) -> bool {
        let matched = match (&self.what, &target.host) {
            (What::Name(name), Host::Domain(host)) => name == host,
            (What::Below(name), Host::Domain(host)) => is_below(host, name),
            (What::NameAndBelow(name), Host::Domain(host)) => name == host || is_below(host, name),
            (What::Address(IpAddr::V4(listed)), Host::Ipv4(address)) => listed == address,
            (What::Address(IpAddr::V6(listed)), Host::Ipv6(address)) => listed == address,
            _ => false,
        };
        matched && self.takes_port(target.port)
    }
}

/// Whether `host` is a subdomain of `name`; `notexample.com` is none of `example.com`.
fn is_below(host: &str, name: &str) -> bool {
    host.strip_suffix(name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

fn rule(entry: &str, bare: fn(String) -> What) -> Result<Rule, &'static str> {
    if entry.len() > MAX_ENTRY_BYTES {
        return Err("is too long");
    }
    if entry.contains("://") {
        return Err("is a URL");
    }
    if let Some((_, prefix)) = entry.split_once('/') {
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err("has a path or no network prefix");
        }
        let net: IpNet = entry.parse().map_err(|_| "is not a network")?;
        if net.trunc() != net {
            return Err("has bits set beyond its prefix");
        }
        return Ok(Rule { what: What::Net(net), port: None });
    }
    // A bare IPv6 address has colons of its own, so it comes before the port.
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Ok(Rule { what: What::Address(address), port: None });
    }
    let (host, port) = split_port(entry)?;
    let (host, bare): (&str, fn(String) -> What) = match host.strip_prefix("*.") {
        Some(below) => (below, What::Below),
        None => (host, bare),
    };
    let wildcard = host.len() + 1 < entry.len() && entry.starts_with("*.");
    let what = match parse_host(host)? {
        Host::Domain(name) => bare(name),
        _ if wildcard => return Err("is a wildcard over an address"),
        Host::Ipv4(address) => What::Address(address.into()),
        Host::Ipv6(address) => What::Address(address.into()),
    };
    Ok(Rule { what, port })
}

fn split_port(entry: &str) -> Result<(&str, Option<u16>), &'static str> {
    let colon = match entry.rfind(']') {
        Some(end) => match entry.get(end + 1..) {
            Some("") | None => None,
            Some(rest) if rest.starts_with(':') => Some(end + 1),
            Some(_) => return Err("has text after its address"),
        },
        None => entry.rfind(':'),
    };
    let Some(colon) = colon else { return Ok((entry, None)) };
    let (host, port) = entry.split_at(colon);
    let digits = port.trim_start_matches(':');
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("has a port that is no number");
    }
    match digits.parse::<u16>() {
        Ok(port) if port > 0 => Ok((host, Some(port))),
        _ => Err("has a port outside 1 to 65535"),
    }
}

fn parse_host(host: &str) -> Result<Host<String>, &'static str> {
    if host.is_empty() {
        return Err("has no host");
    }
    if host.contains('*') {
        return Err("has a `*` elsewhere than in a leading `*.`");
    }
    // The URL rules decode these and drop others; in a configured name they are mistakes.
    if host.contains('%') || host.contains('@') || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("has a character that no host has");
    }
    crate::target::normalise(Host::parse(host).map_err(|_| "is not a host")?).ok_or("is not a host")
}

impl PartialEq for EgressRules {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && (Arc::ptr_eq(&self.rules, &other.rules) || self.rules == other.rules)
    }
}

impl Eq for EgressRules {}

impl Hash for EgressRules {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl std::fmt::Debug for EgressRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.rules.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::of(&crate::parse_url(url).unwrap()).unwrap()
    }

    fn variable(entry: &str, url: &str) -> Verdict {
        EgressRules::from_variable(&[entry]).unwrap().verdict(&target(url))
    }

    fn install(entry: &str, url: &str) -> Verdict {
        EgressRules::from_install(&[entry]).unwrap().verdict(&target(url))
    }

    #[test]
    fn in_the_variable_a_bare_host_includes_its_subdomains() {
        assert_eq!(variable("example.com", "https://example.com/"), Verdict::Allowed);
        assert_eq!(variable("example.com", "https://a.b.example.com/"), Verdict::Allowed);
        assert_eq!(variable("example.com", "https://notexample.com/"), Verdict::Refused);
        assert_eq!(variable("example.com", "https://example.com.evil.org/"), Verdict::Refused);
        assert_eq!(variable("*.example.com", "https://example.com/"), Verdict::Refused);
    }

    #[test]
    fn in_an_install_a_host_is_exact_and_a_wildcard_is_its_subdomains() {
        assert_eq!(install("example.com", "https://example.com/"), Verdict::Allowed);
        assert_eq!(install("example.com", "https://a.example.com/"), Verdict::Refused);
        assert_eq!(install("*.example.com", "https://a.example.com/"), Verdict::Allowed);
        assert_eq!(install("*.example.com", "https://a.b.example.com/"), Verdict::Allowed);
        assert_eq!(install("*.example.com", "https://example.com/"), Verdict::Refused);
        assert_eq!(install("*.example.com", "https://xexample.com/"), Verdict::Refused);
    }

    #[test]
    fn a_port_narrows_and_none_is_any() {
        assert_eq!(install("example.com:8443", "https://example.com:8443/"), Verdict::Allowed);
        assert_eq!(install("example.com:8443", "https://example.com/"), Verdict::Refused);
        assert_eq!(install("example.com:443", "https://example.com/"), Verdict::Allowed);
        assert_eq!(install("example.com:443", "http://example.com/"), Verdict::Refused);
        assert_eq!(install("*.example.com:443", "https://a.example.com/"), Verdict::Allowed);
        assert_eq!(install("example.com", "http://example.com:81/"), Verdict::Allowed);
    }

    #[test]
    fn an_entry_is_trimmed_lowered_made_ascii_and_loses_its_dot() {
        assert_eq!(install("  EXAMPLE.com. ", "https://example.com/"), Verdict::Allowed);
        assert_eq!(install("bücher.example", "https://xn--bcher-kva.example/"), Verdict::Allowed);
        assert_eq!(install("xn--bcher-kva.example", "https://BÜCHER.example./"), Verdict::Allowed);
    }

    #[test]
    fn an_address_is_the_one_in_the_url() {
        assert_eq!(install("1.1.1.1", "http://1.1.1.1/"), Verdict::Allowed);
        assert_eq!(install("1.1.1.1", "http://0x01010101/"), Verdict::Allowed);
        assert_eq!(install("1.1.1.1:80", "http://1.1.1.1:81/"), Verdict::Refused);
        assert_eq!(install("[2606:4700::1]", "http://[2606:4700:0::1]/"), Verdict::Allowed);
        assert_eq!(install("2606:4700::1", "http://[2606:4700::1]:99/"), Verdict::Allowed);
        assert_eq!(install("[2606:4700::1]:443", "https://[2606:4700::1]/"), Verdict::Allowed);
        assert_eq!(install("[2606:4700::1]:443", "http://[2606:4700::1]/"), Verdict::Refused);
    }

    #[test]
    fn a_network_is_judged_by_address() {
        let rules = EgressRules::from_install(&["203.0.112.0/24"]).unwrap();
        let named = target("https://anything.example/");
        assert_eq!(rules.verdict(&named), Verdict::ByAddress);
        assert!(rules.allows(&named, "203.0.112.7:443".parse().unwrap()));
        assert!(!rules.allows(&named, "203.0.111.7:443".parse().unwrap()));
        assert!(!rules.allows(&named, "[2606:4700::1]:443".parse().unwrap()));
    }

    #[test]
    fn blank_entries_are_skipped_and_an_empty_list_refuses() {
        let rules = EgressRules::from_variable(&["", "  "]).unwrap();
        assert!(rules.is_empty());
        assert_eq!(rules.verdict(&target("https://example.com/")), Verdict::Refused);
    }

    #[test]
    fn every_bad_entry_is_an_error_that_names_it() {
        for (entry, part) in [
            ("https://example.com", "is a URL"),
            ("example.com/path", "path"),
            ("example.com/", "path"),
            ("*", "`*`"),
            ("*.", "no host"),
            ("a.*.com", "`*`"),
            ("*.*.com", "`*`"),
            ("exa*mple.com", "`*`"),
            ("*example.com", "`*`"),
            ("example.com:", "port"),
            ("example.com:0", "port"),
            ("example.com:65536", "port"),
            ("example.com:http", "port"),
            ("example.com:+80", "port"),
            (":80", "no host"),
            ("10.0.0.1/8", "beyond its prefix"),
            ("10.0.0.0/33", "not a network"),
            ("10.0.0.0/8:443", "network prefix"),
            ("example.com/24", "not a network"),
            ("[::1", "not a host"),
            ("[::1]x", "text after"),
            ("[fe80::1%eth0]", "character"),
            ("*.1.2.3.4", "wildcard over an address"),
            ("user@example.com", "character"),
            ("a b.com", "character"),
            ("a..b", "not a host"),
            (".example.com", "not a host"),
            ("ex%61mple.com", "character"),
            ("1.2.3.256", "not a host"),
        ] {
            let error = EgressRules::from_install(&[entry]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(part) && text.contains(entry) && text.contains("expected"), "{text}");
            assert!(EgressRules::from_variable(&["example.com", entry]).is_err(), "{entry}");
        }
    }

    #[test]
    fn lists_and_entries_are_bounded() {
        let many = vec!["example.com"; MAX_ENTRIES + 1];
        assert_eq!(EgressRules::from_install(&many).unwrap_err(), RuleError::TooMany(MAX_ENTRIES + 1));
        let long = "a".repeat(10_000);
        assert!(EgressRules::from_install(&[long]).unwrap_err().to_string().len() < 600);
    }

    #[test]
    fn equal_lists_are_equal_keys() {
        let of = |entry| EgressRules::from_install(&[entry]).unwrap();
        assert_eq!(of("example.com"), of("EXAMPLE.com"));
        assert_ne!(of("example.com"), of("example.com:443"));
        assert_ne!(of("example.com"), EgressRules::from_variable(&["example.com"]).unwrap());
        assert_eq!(of(""), EgressRules::default());
    }
}
