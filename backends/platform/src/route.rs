//! Routes that guests name.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::segment::climbs;

/// Longest route, in bytes: what common servers take as a request line.
const MAX_BYTES: usize = 8 * 1024;
/// What a path or query cannot hold as it stands. `%` is left: what a guest has escaped stays escaped.
const ESCAPED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// A checked route: where it goes below the proxy's base, beginning with `/`.
pub(crate) struct Route {
    /// Path and query.
    pub(crate) target: String,
    /// Whether it is one of the platform's `/api/` routes, which have no extension's id before them.
    pub(crate) api: bool,
}

/// Checks a route. Whatever could leave the base's host or path, or be read in two ways on the way, is refused rather than
/// repaired.
pub(crate) fn parse(route: &str) -> Result<Route, &'static str> {
    let route = route.trim_matches(' ');
    if route.is_empty() {
        return Err("is blank");
    }
    if route.len() > MAX_BYTES {
        return Err("has over 8 KiB");
    }
    // URL parsers drop tabs and line breaks, and take a backslash for a slash.
    if route.chars().any(char::is_control) {
        return Err("has a control character");
    }
    if route.contains('\\') {
        return Err("has a backslash");
    }
    if route.contains('#') {
        return Err("has a fragment");
    }
    let (path, query) = match route.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (route, None),
    };
    check_escapes(path)?;
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.trim().is_empty() {
        return Err("is blank");
    }
    // `//host` and `scheme://host` too.
    if path.starts_with('/') || path.contains("//") {
        return Err("has an empty segment");
    }
    if climbs(path) {
        return Err("has a segment that is . or ..");
    }
    let api = path.starts_with("api/");
    let mut target = format!("/{}", utf8_percent_encode(path, ESCAPED));
    if let Some(query) = query {
        target.push('?');
        target.extend(utf8_percent_encode(query, ESCAPED));
    }
    Ok(Route { target, api })
}

/// Every `%` of a path begins an escape, and none hides a control character.
fn check_escapes(path: &str) -> Result<(), &'static str> {
    for part in path.split('%').skip(1) {
        if !part.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
            return Err("has a % that escapes nothing");
        }
    }
    if percent_decode_str(path).any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err("has an escaped control character");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_a_path_below_the_base() {
        for (route, target, api) in [
            ("api/v1/clients", "/api/v1/clients", true),
            ("/api/v1/clients?page=2&q=a%20b", "/api/v1/clients?page=2&q=a%20b", true),
            ("/reports/", "/reports/", false),
            ("apis/x", "/apis/x", false),
            ("a b/é", "/a%20b/%C3%A9", false),
            ("items:batch", "/items:batch", false),
            ("a%2Fb", "/a%2Fb", false),
            (".well-known/...", "/.well-known/...", false),
            ("x?to=../..//evil", "/x?to=../..//evil", false),
            ("x?100%", "/x?100%", false),
        ] {
            let parsed = parse(route).unwrap();
            assert_eq!((parsed.target.as_str(), parsed.api), (target, api), "{route}");
        }
    }

    #[test]
    fn a_route_that_could_go_elsewhere_is_refused() {
        let long = "x".repeat(9_000);
        for route in [
            "",
            " ",
            "/",
            "?x=1",
            "/?x",
            &long,
            "//evil.example/x",
            "///evil",
            "http://evil.example",
            "https://evil",
            "x//y",
            "\\\\evil",
            "/\\evil",
            "a\\..\\b",
            "..",
            ".",
            "/..",
            "/../x",
            "x/..",
            "x/../y",
            "./x",
            "x/.",
            "%2e%2e/x",
            "x/%2E%2e/y",
            ".%2e/x",
            "%2e",
            "%252e%252e/x",
            "x%2f..%2fy",
            "x/..%5cy",
            "x/..;/y",
            "%00",
            "x%0d%0aHost: evil",
            "x\r\nHost: evil",
            "x\ty",
            "x\0",
            "100%",
            "%zz",
            "%2",
            "x#y",
            "/ ",
        ] {
            assert!(parse(route).is_err(), "{route:?}");
        }
    }
}
