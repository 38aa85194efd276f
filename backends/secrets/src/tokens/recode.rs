//! Carrying edits of a decoded text back into the encoded one: what was escaped is escaped the same way.

use crate::redact::decode::Encoding;

use super::edits::Edit;

/// `edits` (disjoint, sorted) of `decoded`, which is `text` decoded, as edits of `text`. Decoding the text with them
/// gives the decoded text with the others.
pub(super) fn translate(encoding: Encoding, text: &[u8], decoded: &[u8], edits: &[Edit]) -> Vec<Edit> {
    let mut out: Vec<Edit> = Vec::with_capacity(edits.len());
    let mut rest = edits;
    // Edits of another length than what they replace are written as a whole where they begin.
    let mut written = None;
    let usual = usual_case(encoding, text);
    let (mut at, mut from) = (0, 0);
    while let Some(unit) = encoding.unit(text, at, false) {
        let (begin, begun) = (at, from);
        at += unit.taken;
        from += unit.len;
        while let Some((first, others)) = rest.split_first() {
            if first.end > begun {
                break;
            }
            rest = others;
        }
        let Some(first) = rest.first() else { break };
        if first.start >= from {
            continue;
        }
        let (raw, old) = (piece(text, begin, at), piece(decoded, begun, from));
        let new = if first.new.len() == first.end - first.start {
            // A unit may stand for bytes of several edits.
            let byte = |place: usize| {
                let edit = rest.iter().take_while(|edit| edit.start <= place).find(|edit| place < edit.end);
                let edited = edit.and_then(|edit| edit.new.get(place - edit.start));
                edited.or_else(|| decoded.get(place)).copied().unwrap_or(b'?')
            };
            (begun..from).map(byte).collect()
        } else if written == Some(first.start) {
            Vec::new()
        } else {
            written = Some(first.start);
            first.new.clone()
        };
        let target = match out.last_mut() {
            // Neighbours stay apart: as one they would be longer than what the text as it is gave, and win over it.
            Some(last) if last.end == begin && first.start < begun => last,
            _ => {
                out.push(Edit { start: begin, end: begin, new: Vec::new() });
                let Some(last) = out.last_mut() else { break };
                last
            }
        };
        target.end = at;
        encode(encoding, raw, case(encoding, raw).unwrap_or(usual), old, &new, &mut target.new);
    }
    out
}

fn piece(text: &[u8], start: usize, end: usize) -> &[u8] {
    text.get(start..end).unwrap_or_default()
}

/// The case of an escape's hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Upper,
    Lower,
}

/// That of this escape; none if it has only digits, or is none.
fn case(encoding: Encoding, raw: &[u8]) -> Option<Case> {
    let digits = match (encoding, raw) {
        (Encoding::Json, [b'\\', b'u', digits @ ..]) => digits,
        (Encoding::Percent | Encoding::Form, [b'%', digits @ ..]) if digits.len() == 2 => digits,
        _ => return None,
    };
    // The second half of a pair has an `\u` of its own.
    let letter = digits.iter().find(|digit| digit.is_ascii_hexdigit() && !digit.is_ascii_digit())?;
    Some(if letter.is_ascii_uppercase() { Case::Upper } else { Case::Lower })
}

/// That of the first escape that tells; where none does, what most encoders write.
fn usual_case(encoding: Encoding, text: &[u8]) -> Case {
    let mut at = 0;
    while let Some(unit) = encoding.unit(text, at, false) {
        if let Some(case) = case(encoding, piece(text, at, at + unit.taken)) {
            return case;
        }
        at += unit.taken;
    }
    if encoding == Encoding::Json { Case::Lower } else { Case::Upper }
}

/// Writes `new` as `raw` was written, which stood for `old`.
fn encode(encoding: Encoding, raw: &[u8], case: Case, old: &[u8], new: &[u8], out: &mut Vec<u8>) {
    if old == new {
        out.extend_from_slice(raw);
        return;
    }
    match (encoding, raw) {
        (Encoding::Json, [b'\\', b'u', ..]) => {
            for unit in String::from_utf8_lossy(new).encode_utf16() {
                let escape = match case {
                    Case::Upper => format!("\\u{unit:04X}"),
                    Case::Lower => format!("\\u{unit:04x}"),
                };
                out.extend_from_slice(escape.as_bytes());
            }
        }
        (Encoding::Json, _) => {
            for byte in new {
                match byte {
                    b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
                    0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                    _ => out.push(*byte),
                }
            }
        }
        (Encoding::Percent | Encoding::Form, _) => {
            let escaped = raw.len() == 3;
            for byte in new {
                let plain = byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) || *byte >= 0x80;
                if plain && !escaped {
                    out.push(*byte);
                } else {
                    let escape = match case {
                        Case::Upper => format!("%{byte:02X}"),
                        Case::Lower => format!("%{byte:02x}"),
                    };
                    out.extend_from_slice(escape.as_bytes());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::edits::apply;
    use super::*;

    fn edited(encoding: Encoding, text: &str, edits: &[(usize, usize, &str)]) -> String {
        let decoded = encoding.decode(text.as_bytes(), false);
        let edits: Vec<Edit> = edits
            .iter()
            .map(|(start, end, new)| Edit { start: *start, end: *end, new: new.as_bytes().to_vec() })
            .collect();
        let translated = translate(encoding, text.as_bytes(), &decoded, &edits);
        let out = apply(text.as_bytes(), &translated).into_owned();
        assert_eq!(*encoding.decode(&out, false), *apply(&decoded, &edits), "{text}");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_was_escaped_is_escaped_the_same_way() {
        assert_eq!(
            edited(Encoding::Percent, "a%2Fb%41c%2fd", &[(2, 5, "xyz"), (6, 7, "w")]),
            "a%2Fx%79z%2fw"
        );
        assert_eq!(edited(Encoding::Percent, "%c3%a9!", &[(0, 2, "ö")]), "%c3%b6!");
        assert_eq!(edited(Encoding::Form, "a+b%20c", &[(0, 3, "x y")]), "x+y%20c");
        assert_eq!(edited(Encoding::Form, "ab", &[(0, 2, "+%")]), "%2B%25");
        let json = r#"a\n\u00e9\uD83D\uDE0Ab\"c"#;
        assert_eq!(edited(Encoding::Json, json, &[(1, 9, "\nö\u{1f60d}x")]), r#"a\n\u00f6\uD83D\uDE0Dx\"c"#);
        assert_eq!(edited(Encoding::Json, r#"a\/b\"c"#, &[(0, 5, "xyz\"w")]), r#"xyz\"w"#);
    }

    #[test]
    fn an_edit_of_another_length_is_written_where_it_begins() {
        assert_eq!(edited(Encoding::Percent, "a%2F%2Fb", &[(1, 3, "wxyz")]), "a%77%78%79%7Ab");
        assert_eq!(edited(Encoding::Json, r"a\n\nb", &[(1, 3, "")]), "ab");
    }
}
