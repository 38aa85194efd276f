//! What a request's path names: an extension and a path of its own.
//!
//! A path is read once, here: decoded, checked, and written anew in one spelling. What is compared with the manifest's
//! endpoints is so what the extension gets; two spellings of one path would otherwise be two endpoints to one of them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::form_urlencoded;

/// Where the route begins.
pub(crate) const PREFIX: &str = "/api/ext/";

/// The longest path, prefix included, as it was sent.
const MAX_PATH: usize = 8 * 1024;

/// The longest name of an extension. A slug is a publisher and a name.
const MAX_REFERENCE: usize = 256;

/// What a path segment shows as it is (RFC 3986: unreserved, sub-delims, `:` and `@`); all else is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// A path that was taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// What the caller calls the extension.
    pub reference: String,
    /// The extension's path: begins with `/`.
    pub path: String,
    /// Its segments, decoded; none for `/`.
    pub segments: Vec<String>,
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadTarget {
    /// No extension can have this name.
    #[error("the path names no extension")]
    Reference,
    #[error("the path is over {MAX_PATH} bytes")]
    TooLong,
    #[error("the path holds a segment that means another path: `.`, `..`, or an encoded slash or backslash")]
    Segment,
    #[error("the path holds a control character or is no UTF-8")]
    Text,
}

impl Target {
    /// From the path of a request as it was sent.
    pub(crate) fn parse(raw: &str) -> Result<Self, BadTarget> {
        let rest = raw.strip_prefix(PREFIX).ok_or(BadTarget::Reference)?;
        if raw.len() > MAX_PATH {
            return Err(BadTarget::TooLong);
        }
        let (reference, path) = match rest.split_once('/') {
            Some((reference, path)) => (reference, path),
            None => (rest, ""),
        };
        let reference = segment(reference).ok().filter(|name| {
            // A percent sign that is left would be decoded by the next reader.
            (1..=MAX_REFERENCE).contains(&name.len()) && !name.contains('%')
        });
        let reference = reference.ok_or(BadTarget::Reference)?;
        if path.is_empty() {
            return Ok(Self { reference, path: "/".to_owned(), segments: Vec::new() });
        }
        let segments = path.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
        let mut canonical = String::with_capacity(path.len() + 1);
        for segment in &segments {
            canonical.push('/');
            canonical.extend(utf8_percent_encode(segment, ENCODED));
        }
        Ok(Self { reference, path: canonical, segments })
    }

    /// Path and query as the extension gets them (interop 2.6): the query form-encoded, every pair of it and in its order.
    pub(crate) fn url(&self, query: Option<&str>) -> String {
        let query = query.unwrap_or_default();
        let mut pairs = form_urlencoded::Serializer::new(String::with_capacity(query.len()));
        pairs.extend_pairs(form_urlencoded::parse(query.as_bytes()));
        let query = pairs.finish();
        if query.is_empty() { self.path.clone() } else { format!("{}?{query}", self.path) }
    }
}

fn segment(raw: &str) -> Result<String, BadTarget> {
    let text = percent_decode_str(raw).decode_utf8().map_err(|_| BadTarget::Text)?;
    if text.contains(['/', '\\']) || text == "." || text == ".." {
        return Err(BadTarget::Segment);
    }
    if text.chars().any(char::is_control) {
        return Err(BadTarget::Text);
    }
    Ok(text.into_owned())
}

/// The values of a parameter in a query.
pub(crate) fn values<'q>(query: Option<&'q str>, name: &'q str) -> impl Iterator<Item = String> + 'q {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.filter(move |(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(raw: &str) -> Result<String, BadTarget> {
        Target::parse(&format!("/api/ext/e/{raw}")).map(|t| t.path)
    }

    #[test]
    fn an_extension_alone_is_its_root() {
        for raw in ["/api/ext/com.a.B", "/api/ext/com.a.B/", "/api/ext/com%2Ea.B"] {
            let target = Target::parse(raw).unwrap();
            assert_eq!((target.reference.as_str(), target.path.as_str()), ("com.a.B", "/"), "{raw}");
            assert!(target.segments.is_empty());
        }
    }

    #[test]
    fn a_path_has_one_spelling() {
        for (raw, one) in [
            ("a/b", "/a/b"),
            ("%61/%62", "/a/b"),
            ("a%20b", "/a%20b"),
            ("a+b", "/a+b"),
            ("%2525", "/%2525"),
            ("ü", "/%C3%BC"),
            ("%c3%bc", "/%C3%BC"),
            ("a%3fb%23c", "/a%3Fb%23c"),
            ("a/", "/a/"),
            ("a//b", "/a//b"),
            ("..a/...", "/..a/..."),
        ] {
            assert_eq!(path(raw).unwrap(), one, "{raw}");
        }
    }

    #[test]
    fn what_means_another_path_is_refused_in_every_encoding() {
        for raw in ["a/../b", "..", "./a", "a/%2e%2e/b", "%2E", ".%2e", "a%2fb", "a%2Fb", "a%5cb", "a\\b"] {
            assert_eq!(path(raw), Err(BadTarget::Segment), "{raw}");
        }
        for raw in ["a%00", "a%0d%0ab", "a%7f", "%ff", "%c0%ae", "%C2%85"] {
            assert_eq!(path(raw), Err(BadTarget::Text), "{raw}");
        }
        assert_eq!(path(&"a".repeat(MAX_PATH)), Err(BadTarget::TooLong));
    }

    #[test]
    fn an_extension_that_cannot_exist_is_not_looked_up() {
        let long = format!("/api/ext/{}", "a".repeat(300));
        for raw in [
            "/api/ext/",
            "/api/ext//x",
            "/api/ext/..",
            "/api/ext/a%2fb",
            "/api/ext/a%252e",
            "/api/ext/%00",
            &long,
        ] {
            assert_eq!(Target::parse(raw), Err(BadTarget::Reference), "{raw}");
        }
    }

    #[test]
    fn a_query_keeps_every_pair_in_its_order() {
        let target = Target::parse("/api/ext/e/x").unwrap();
        assert_eq!(target.url(None), "/x");
        assert_eq!(target.url(Some("")), "/x");
        assert_eq!(target.url(Some("b=2&a=1&b=3&c")), "/x?b=2&a=1&b=3&c=");
        assert_eq!(target.url(Some("q=a%20b&%C3%BC=%26")), "/x?q=a+b&%C3%BC=%26");
        let found: Vec<_> = values(Some("tenant=a&t=x&t%65nant=b"), "tenant").collect();
        assert_eq!(found, ["a", "b"]);
    }
}
