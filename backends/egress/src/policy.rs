//! The decision: lists and addresses together.

use std::net::SocketAddr;

use crate::address::{is_public, is_public_literal};
use crate::error::Refusal;
use crate::rules::{EgressRules, Verdict};
use crate::target::Target;

/// What applies to one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy<'a> {
    pub(crate) operator: &'a EgressRules,
    pub(crate) allow_all_when_empty: bool,
    pub(crate) install: Option<&'a EgressRules>,
    pub(crate) allow_private: bool,
}

impl Policy<'_> {
    /// What can be refused without a name being resolved: a lookup of a name of the guest's choosing already carries
    /// data out. An address in the URL is judged here for good.
    pub(crate) fn admit(&self, target: &Target) -> Result<(), Refusal> {
        if self.operator.is_empty() {
            if !self.allow_all_when_empty {
                return Err(Refusal::EmptyList);
            }
        } else if self.operator.verdict(target) == Verdict::Refused {
            return Err(Refusal::NotInOperatorList);
        }
        if self.install.is_some_and(|rules| rules.verdict(target) == Verdict::Refused) {
            return Err(Refusal::NotInInstallList);
        }
        let Some(address) = target.literal() else { return Ok(()) };
        self.judge(target, SocketAddr::new(address, target.port))?;
        if self.allow_private || is_public_literal(address) { Ok(()) } else { Err(Refusal::PrivateAddress) }
    }

    /// Whether a connection may be made to this address for this target.
    fn judge(&self, target: &Target, address: SocketAddr) -> Result<(), Refusal> {
        if !self.operator.is_empty() && !self.operator.allows(target, address) {
            return Err(Refusal::NotInOperatorList);
        }
        if self.install.is_some_and(|rules| !rules.allows(target, address)) {
            return Err(Refusal::NotInInstallList);
        }
        if self.allow_private || is_public(address.ip()) { Ok(()) } else { Err(Refusal::PrivateAddress) }
    }

    /// The addresses that may be connected to, out of those that the name resolved to.
    ///
    /// Forbidden ones among allowed ones are left out rather than condemning the name: a name with a public and an
    /// internal address is common behind split DNS, and the internal one is not connected to either way.
    pub(crate) fn sift(&self, target: &Target, found: &[SocketAddr]) -> Result<Vec<SocketAddr>, Refusal> {
        let mut allowed = Vec::new();
        let mut refusal = None;
        for address in found {
            // The port is the target's, and no scope: neither is the resolver's to choose.
            let address = SocketAddr::new(address.ip(), target.port);
            match self.judge(target, address) {
                Ok(()) if !allowed.contains(&address) => allowed.push(address),
                Ok(()) => {}
                Err(r) => refusal = Some(refusal.map_or(r, |known: Refusal| known.max(r))),
            }
        }
        match refusal {
            Some(refusal) if allowed.is_empty() => Err(refusal),
            _ => Ok(allowed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(entries: &[&str]) -> EgressRules {
        EgressRules::from_install(entries).unwrap()
    }

    fn target(url: &str) -> Target {
        Target::of(&crate::parse_url(url).unwrap()).unwrap()
    }

    fn admit(operator: &[&str], install: Option<&[&str]>, url: &str) -> Result<(), Refusal> {
        let (operator, install) = (rules(operator), install.map(rules));
        Policy {
            operator: &operator,
            allow_all_when_empty: false,
            install: install.as_ref(),
            allow_private: false,
        }
        .admit(&target(url))
    }

    #[test]
    fn an_empty_list_denies_everything_unless_told_otherwise() {
        assert_eq!(admit(&[], None, "https://example.com/"), Err(Refusal::EmptyList));
        assert_eq!(admit(&[], Some(&["example.com"]), "https://example.com/"), Err(Refusal::EmptyList));
        let none = EgressRules::default();
        let all = Policy { operator: &none, allow_all_when_empty: true, install: None, allow_private: false };
        assert_eq!(all.admit(&target("https://example.com/")), Ok(()));
        assert_eq!(all.admit(&target("http://127.0.0.1/")), Err(Refusal::PrivateAddress));
    }

    #[test]
    fn the_narrower_of_two_lists_wins_whichever_it_is() {
        let (wide, narrow): (&[&str], &[&str]) =
            (&["example.com", "*.example.com"], &["api.example.com:443"]);
        for (operator, install, refusal) in
            [(wide, narrow, Refusal::NotInInstallList), (narrow, wide, Refusal::NotInOperatorList)]
        {
            assert_eq!(admit(operator, Some(install), "https://api.example.com/"), Ok(()));
            assert_eq!(admit(operator, Some(install), "http://api.example.com/"), Err(refusal));
            assert_eq!(admit(operator, Some(install), "https://example.com/"), Err(refusal));
        }
        assert_eq!(admit(wide, Some(&[]), "https://example.com/"), Err(Refusal::NotInInstallList));
        assert_eq!(admit(wide, None, "https://example.com/"), Ok(()));
    }

    #[test]
    fn a_listed_private_address_is_still_private() {
        assert_eq!(admit(&["10.0.0.0/8"], None, "http://10.1.2.3/"), Err(Refusal::PrivateAddress));
        assert_eq!(admit(&["127.0.0.1"], None, "http://127.0.0.1/"), Err(Refusal::PrivateAddress));
        let operator = rules(&["10.0.0.0/8"]);
        let policy =
            Policy { operator: &operator, allow_all_when_empty: false, install: None, allow_private: false };
        let found = ["10.1.2.3:443".parse().unwrap()];
        assert_eq!(policy.sift(&target("https://a.example/"), &found), Err(Refusal::PrivateAddress));
    }

    #[test]
    fn of_mixed_addresses_only_the_public_ones_are_left() {
        let operator = rules(&["a.example"]);
        let policy =
            Policy { operator: &operator, allow_all_when_empty: false, install: None, allow_private: false };
        let found: Vec<SocketAddr> =
            ["127.0.0.1:443", "1.1.1.1:9", "[::1]:443", "[64:ff9b::a9fe:a9fe]:443", "1.1.1.1:443"]
                .iter()
                .map(|a| a.parse().unwrap())
                .collect();
        let a = target("https://a.example/");
        assert_eq!(policy.sift(&a, &found), Ok(vec!["1.1.1.1:443".parse().unwrap()]));
        assert_eq!(policy.sift(&a, found.get(..1).unwrap()), Err(Refusal::PrivateAddress));
        assert_eq!(policy.sift(&a, &[]), Ok(Vec::new()));
    }

    #[test]
    fn networks_of_both_lists_must_have_the_address() {
        let (operator, install) = (rules(&["8.8.8.0/24"]), rules(&["8.8.0.0/16"]));
        let policy = Policy {
            operator: &operator,
            allow_all_when_empty: false,
            install: Some(&install),
            allow_private: false,
        };
        let a = target("https://a.example/");
        assert_eq!(policy.admit(&a), Ok(()));
        assert!(policy.sift(&a, &["8.8.8.8:443".parse().unwrap()]).is_ok());
        assert_eq!(policy.sift(&a, &["8.8.4.4:443".parse().unwrap()]), Err(Refusal::NotInOperatorList));
        assert_eq!(policy.admit(&target("https://8.8.4.4/")), Err(Refusal::NotInOperatorList));
    }
}
