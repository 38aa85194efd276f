//! Where an entry lies: one token a part, so that no name can reach into another install's, namespace's or key's place.
//!
//! A part that consists of `[A-Za-z0-9_-]` is its own token, readable in every NATS tool; any other (the empty one too)
//! is `=` and its bytes in base64url without padding. A plain part never contains `=`, so two different parts never give
//! the same token, and a token contains no `.`, `*` or `>`.
//!
//! The longest parts allowed (tenant 128, install 256, namespace 3 x 128, key 3 x 256 bytes) make a subject of 2,080
//! bytes. The server takes 4 KiB for a whole control line.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_proto::TenantId;

use crate::Scope;

/// The bucket's name.
pub(crate) const BUCKET: &str = "longshore-storage";
/// The stream under it, by the convention of NATS key-value buckets.
pub(crate) const STREAM: &str = "KV_longshore-storage";

fn plain(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A part as one token.
fn token(part: &str) -> String {
    if plain(part) { part.to_owned() } else { format!("={}", URL_SAFE_NO_PAD.encode(part)) }
}

/// The part of a token; `None` for what [`token`] never makes.
fn part(token: &str) -> Option<String> {
    let part = match token.strip_prefix('=') {
        Some(coded) => String::from_utf8(URL_SAFE_NO_PAD.decode(coded).ok()?).ok()?,
        None => token.to_owned(),
    };
    (self::token(&part) == token).then_some(part)
}

/// The place of one install.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Place(String);

impl Place {
    /// The place of the scope's install.
    pub(crate) fn new(scope: &Scope<'_>) -> Self {
        Self::of(scope.tenant, scope.install)
    }

    fn of(tenant: &TenantId, install: &str) -> Self {
        Self(format!("{}.{}", token(tenant.as_str()), token(install)))
    }

    /// The subject of the install's usage record.
    pub(crate) fn usage(&self) -> String {
        format!("$KV.{BUCKET}.u.{}", self.0)
    }

    /// The subject of an entry.
    pub(crate) fn entry(&self, namespace: &str, key: &str) -> String {
        format!("{}{}", self.before_keys(namespace), token(key))
    }

    /// What matches all entries of a namespace.
    pub(crate) fn namespace(&self, namespace: &str) -> String {
        format!("{}*", self.before_keys(namespace))
    }

    /// What matches all entries of the install.
    pub(crate) fn all(&self) -> String {
        format!("$KV.{BUCKET}.v.{}.*.*", self.0)
    }

    fn before_keys(&self, namespace: &str) -> String {
        format!("$KV.{BUCKET}.v.{}.{}.", self.0, token(namespace))
    }
}

/// Namespace and key of an entry's subject; `None` for what [`Place::entry`] never makes.
pub(crate) fn names(subject: &str) -> Option<(String, String)> {
    let mut tokens = subject.rsplitn(3, '.');
    let key = part(tokens.next()?)?;
    let namespace = part(tokens.next()?)?;
    Some((namespace, key))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const ODD: [&str; 26] = [
        "",
        ".",
        "..",
        "...",
        "*",
        ">",
        " ",
        "a.b",
        "a b",
        "a",
        "b",
        "A",
        "=",
        "=YQ",
        "YQ",
        "a=",
        "$KV",
        "$JS.API.>",
        "é",
        "日本",
        "\u{1f980}",
        "a\tb",
        "a/b",
        "%2e",
        "_",
        "-",
    ];

    #[test]
    fn every_pair_of_names_has_a_place_of_its_own_and_is_read_back() {
        let mut seen = HashMap::new();
        for tenant in ["t", "t.i", "T", "t..i", "t-i", "a"] {
            let tenant: TenantId = tenant.parse().unwrap();
            for install in ODD {
                let place = Place::of(&tenant, install);
                for namespace in ODD {
                    for key in ODD {
                        let subject = place.entry(namespace, key);
                        assert_eq!(names(&subject), Some((namespace.to_owned(), key.to_owned())));
                        assert_eq!(subject.split('.').count(), 7, "{subject}");
                        let bad = |c: char| !c.is_ascii_alphanumeric() && !"-_=.$".contains(c);
                        assert!(!subject.contains(bad) && !subject.contains(".."), "{subject}");
                        let names = (tenant.clone(), install, namespace, key);
                        if let Some(other) = seen.insert(subject, names.clone()) {
                            panic!("{names:?} and {other:?} share a place");
                        }
                    }
                }
                assert!(!seen.contains_key(&place.usage()));
            }
        }
    }

    #[test]
    fn a_token_that_nobody_makes_is_not_read() {
        for token in ["", "=YQ", "=YR", "=YWI=", "=*", "a.b", "a b", "=gA", "==", "é"] {
            assert_eq!(part(token), None, "{token}");
        }
    }

    #[test]
    fn the_longest_subject_is_far_from_the_limit_of_the_server() {
        let tenant: TenantId = "a.".repeat(64).parse().unwrap();
        let place = Place::of(&tenant, &" ".repeat(256));
        assert_eq!(place.entry(&"日".repeat(128), &"日".repeat(256)).len(), 2_080);
    }
}
