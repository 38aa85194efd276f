//! Ids in paths.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Bytes of an id: the design's limit for ids of tenants and extensions.
const MAX_BYTES: usize = 128;
/// How often something between here and the platform may decode a path; a third proxy that does would be a curiosity.
const DECODINGS: usize = 3;

/// The id as one escaped path segment, or why it cannot be one.
pub(crate) fn segment(id: &str) -> Result<String, &'static str> {
    if id.is_empty() {
        return Err("is empty");
    }
    if id.len() > MAX_BYTES {
        return Err("has over 128 bytes");
    }
    if id.chars().any(char::is_control) {
        return Err("has a control character");
    }
    if climbs(id) {
        return Err("has a path segment that is . or ..");
    }
    Ok(utf8_percent_encode(id, SEGMENT).to_string())
}

/// Whether the text, as it stands or decoded by something on the way, has `.` or `..` between slashes. No escape helps against
/// it: URL parsers take `%2e%2e` for a parent segment, and proxies decode `%2f`.
pub(crate) fn climbs(text: &str) -> bool {
    let mut text = text.to_owned();
    for _ in 0..=DECODINGS {
        if text.split(['/', '\\']).any(|s| matches!(s.trim_matches(is_padding), "." | "..")) {
            return true;
        }
        let decoded = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if decoded == text {
            return false;
        }
        text = decoded;
    }
    false
}

/// What some servers drop around a segment: blanks, control characters and path parameters' `;`.
fn is_padding(c: char) -> bool {
    c.is_whitespace() || c.is_control() || c == ';'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_segment_whatever_is_in_it() {
        for (id, expected) in [
            ("5b7b5e6c-3c0f-4a4e-8a53-0a4b6cb1b7a1", "5b7b5e6c-3c0f-4a4e-8a53-0a4b6cb1b7a1"),
            ("a/b", "a%2Fb"),
            ("a?b#c", "a%3Fb%23c"),
            ("a%2Fb", "a%252Fb"),
            ("...", "..."),
            ("a..b", "a..b"),
            ("é x", "%C3%A9%20x"),
        ] {
            assert_eq!(segment(id).unwrap(), expected);
        }
        assert_eq!(segment(&"x".repeat(128)).unwrap().len(), 128);
    }

    #[test]
    fn an_id_that_could_climb_out_of_its_segment_is_refused() {
        let long = "x".repeat(129);
        for id in [
            "",
            &long,
            ".",
            "..",
            "../x",
            "x/..",
            "x/./y",
            "..\\x",
            "%2e",
            "%2E%2e",
            ".%2e/x",
            "x%2f..%2fy",
            "%252e%252e",
            "x/..;/y",
            "..%00",
            "a\r\nb",
            "a\0b",
        ] {
            assert!(segment(id).is_err(), "{id:?}");
        }
    }
}
