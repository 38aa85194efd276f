//! Parts of keys. Ids and names hold dots and more; in a key each is one token, so that no name reaches into another's place and none is a
//! wildcard.

use std::fmt::Write as _;

/// One token that no other text has: letters, digits, `-` and `_` stay, all else is `=` and two hex digits. The empty text is `=`, as a
/// token cannot be empty.
pub fn token(text: &str) -> String {
    if text.is_empty() {
        return "=".to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "={byte:02X}");
        }
    }
    out
}

/// The text of a token; `None` for what [`token`] never makes.
pub fn part(token: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'=' {
            bytes.push(byte);
            continue;
        }
        let Some(high) = rest.next() else { break };
        let digits = [high, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    let text = String::from_utf8(bytes).ok()?;
    (self::token(&text) == token).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn every_text_has_a_token_of_its_own_and_is_read_back() {
        let mut seen = HashMap::new();
        for text in [
            "", "a", "A", "a.b", "a=2Eb", "=", "=3D", ".", "..", "*", ">", " ", "ü", "a_b", "a-b", "\0",
            "日本", "+1",
        ] {
            let coded = token(text);
            assert!(coded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b)), "{coded}");
            assert_eq!(part(&coded).as_deref(), Some(text), "{coded}");
            assert_eq!(seen.insert(coded, text), None, "{text}");
        }
    }

    #[test]
    fn a_token_that_nobody_makes_is_not_read() {
        for bad in ["", "a.b", "=2e", "=2", "a=", "=41", "=+1", "=ZZ", "==", "=FF", "*", ">", " ", "é"] {
            assert_eq!(part(bad), None, "{bad}");
        }
    }
}
