//! Method and path against what a manifest declares.

use async_trait::async_trait;
use longshore_proto::manifest::Endpoint;
use longshore_proto::{CallError, ContentHash, ExtensionId, TenantId};

/// The methods that can be called.
pub(crate) const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Knows the endpoints of a bundle where the registry does not (the platform's).
#[async_trait]
pub trait Manifests: Send + Sync + 'static {
    /// What the manifest of this bundle declares.
    ///
    /// # Errors
    /// The bundle could not be had; its error is the call's.
    async fn endpoints(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        hash: ContentHash,
    ) -> Result<Vec<Endpoint>, CallError>;
}

/// What a request matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Match<'m> {
    /// What the extension is called with: `GET` for a `HEAD` that is not declared.
    pub method: &'m str,
    /// Whether it may run twice.
    pub idempotent: bool,
}

/// The segments of a path that nobody encoded, such as a manifest's.
pub(crate) fn segments(path: &str) -> Vec<String> {
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.is_empty() { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// The endpoint of a request, that with the most literal segments where several match: `/items/new` before `/items/:id`.
pub(crate) fn find<'m>(endpoints: &[Endpoint], method: &'m str, segments: &[String]) -> Option<Match<'m>> {
    let declared = |method: &str| {
        endpoints
            .iter()
            .filter(|endpoint| endpoint.method.eq_ignore_ascii_case(method))
            .filter_map(|endpoint| Some((literals(&endpoint.path, segments)?, endpoint)))
            // The first of several, so that the order of the manifest decides.
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map(|(_, endpoint)| endpoint.idempotent)
    };
    let found = declared(method).map(|idempotent| Match { method, idempotent });
    match found {
        None if method == "HEAD" => declared("GET").map(|idempotent| Match { method: "GET", idempotent }),
        found => found,
    }
}

/// The methods of a path, for `allow`; empty where no endpoint has it.
pub(crate) fn methods(endpoints: &[Endpoint], segments: &[String]) -> Vec<&'static str> {
    let mut found: Vec<&str> =
        METHODS.into_iter().filter(|method| find(endpoints, method, segments).is_some()).collect();
    if !found.is_empty() && !found.contains(&"OPTIONS") {
        found.push("OPTIONS");
    }
    found
}

/// How many segments are the same text, if the path matches: as many segments, each the same or a `:param`. One slash
/// at the end makes no difference.
fn literals(declared: &str, segments: &[String]) -> Option<usize> {
    let declared = declared.strip_prefix('/').unwrap_or(declared);
    let declared = declared.strip_suffix('/').unwrap_or(declared);
    let declared: Vec<&str> = if declared.is_empty() { Vec::new() } else { declared.split('/').collect() };
    let segments = match segments.split_last() {
        Some((last, others)) if last.is_empty() => others,
        _ => segments,
    };
    if declared.len() != segments.len() {
        return None;
    }
    let mut literal = 0;
    for (declared, segment) in declared.iter().zip(segments) {
        match declared.strip_prefix(':') {
            Some(_) if !segment.is_empty() => {}
            None if declared == segment => literal += 1,
            _ => return None,
        }
    }
    Some(literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints() -> Vec<Endpoint> {
        let all = [
            ("GET", "/", false),
            ("GET", "/items/:id", false),
            ("POST", "/items", true),
            ("post", "/items/:id/send", false),
            ("DELETE", "/items/:id", true),
            ("DELETE", "/items/all", false),
        ];
        all.map(|(method, path, idempotent)| Endpoint {
            method: method.to_owned(),
            path: path.to_owned(),
            handler: String::new(),
            idempotent,
        })
        .to_vec()
    }

    #[test]
    fn a_path_matches_segment_by_segment() {
        for (method, path, found) in [
            ("GET", "/", Some(("GET", false))),
            ("GET", "/items/7", Some(("GET", false))),
            ("GET", "/items/7/", Some(("GET", false))),
            ("HEAD", "/items/7", Some(("GET", false))),
            ("POST", "/items", Some(("POST", true))),
            ("POST", "/items/7/send", Some(("POST", false))),
            ("DELETE", "/items/7", Some(("DELETE", true))),
            ("DELETE", "/items/all", Some(("DELETE", false))),
            ("GET", "/items", None),
            ("GET", "/items/", None),
            ("GET", "/items/7/8", None),
            ("GET", "/Items/7", None),
            ("GET", "/items//", None),
            ("PUT", "/items/7", None),
            ("get", "/items/7", Some(("get", false))),
            ("HEAD", "/items", None),
        ] {
            let all = endpoints();
            let got = find(&all, method, &segments(path)).map(|m| (m.method, m.idempotent));
            assert_eq!(got, found, "{method} {path}");
        }
    }

    #[test]
    fn a_path_says_which_methods_it_has() {
        assert_eq!(methods(&endpoints(), &segments("/items/7")), ["GET", "HEAD", "DELETE", "OPTIONS"]);
        assert!(methods(&endpoints(), &segments("/other")).is_empty());
        assert!(methods(&[], &segments("/")).is_empty());
    }
}
