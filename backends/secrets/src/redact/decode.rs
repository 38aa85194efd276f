//! Encodings that a text may be in, in part or as a whole: it is decoded and searched again, and what is found is
//! translated back. So a value is found however much of it an encoder has escaped, and in which case.

use zeroize::Zeroizing;

/// One encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `\n`, `\/`, `\u00e9`, `\ud83d\ude00`.
    Json,
    /// `%41`.
    Percent,
    /// `%41`, and `+` for a space.
    Form,
}

/// A piece of encoded text: so many bytes of it stand for these.
pub(crate) struct Unit {
    pub(crate) taken: usize,
    bytes: [u8; 4],
    pub(crate) len: usize,
}

impl Unit {
    fn byte(taken: usize, byte: u8) -> Self {
        Self { taken, bytes: [byte, 0, 0, 0], len: 1 }
    }
    fn char(taken: usize, char: char) -> Self {
        let mut bytes = [0; 4];
        let len = char.encode_utf8(&mut bytes).len();
        Self { taken, bytes, len }
    }
    /// An escape that was cut off: it stands for nothing.
    fn nothing(taken: usize) -> Self {
        Self { taken, bytes: [0; 4], len: 0 }
    }
}

/// What an escape is.
enum Escape {
    Unit(Unit),
    /// Just this byte.
    None,
    /// The text ended within it.
    Short,
}

fn hex_value(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
}

/// `len` hex digits at the beginning of `text`; None when there are others, `Err` when the text ends before.
fn digits(text: &[u8], len: usize) -> Result<Option<u32>, ()> {
    match text.get(..len) {
        Some(digits) => Ok(hex_value(digits)),
        None if hex_value(text).is_some() => Err(()),
        None => Ok(None),
    }
}

fn percent(after: &[u8]) -> Escape {
    match digits(after, 2) {
        Ok(Some(value)) => Escape::Unit(Unit::byte(3, value as u8)),
        Ok(None) => Escape::None,
        Err(()) => Escape::Short,
    }
}

fn json(after: &[u8]) -> Escape {
    let Some(kind) = after.first() else { return Escape::Short };
    let byte = match kind {
        b'"' | b'\\' | b'/' => *kind,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return unicode(after.get(1..).unwrap_or_default()),
        _ => return Escape::None,
    };
    Escape::Unit(Unit::byte(2, byte))
}

fn unicode(after: &[u8]) -> Escape {
    let high = match digits(after, 4) {
        Ok(Some(value)) => value,
        Ok(None) => return Escape::None,
        Err(()) => return Escape::Short,
    };
    if let Some(char) = char::from_u32(high) {
        return Escape::Unit(Unit::char(6, char));
    }
    // One half of a pair. On its own it is no text.
    let rest = after.get(4..).unwrap_or_default();
    let low = match rest {
        [b'\\', b'u', low @ ..] => digits(low, 4),
        [] | [b'\\'] => Err(()),
        _ => Ok(None),
    };
    match low {
        Ok(Some(low)) if (0xd800..0xdc00).contains(&high) && (0xdc00..0xe000).contains(&low) => {
            let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            char::from_u32(code).map_or(Escape::None, |char| Escape::Unit(Unit::char(12, char)))
        }
        Ok(_) => Escape::None,
        Err(()) => Escape::Short,
    }
}

impl Encoding {
    /// Whether decoding could change anything. Only a value with a space can hide behind a `+`.
    pub(crate) fn applies(self, text: &[u8], spaces: bool) -> bool {
        match self {
            Self::Json => text.contains(&b'\\'),
            Self::Percent => text.contains(&b'%'),
            Self::Form => spaces && text.contains(&b'+'),
        }
    }

    /// Whether a byte may begin an escape.
    fn begins(self, byte: u8) -> bool {
        match self {
            Self::Json => byte == b'\\',
            Self::Percent => byte == b'%',
            Self::Form => matches!(byte, b'%' | b'+'),
        }
    }

    /// The piece of encoded text that begins there; none at the end.
    pub(crate) fn unit(self, text: &[u8], at: usize, cut: bool) -> Option<Unit> {
        let byte = *text.get(at)?;
        let after = text.get(at + 1..).unwrap_or_default();
        let escape = match (self, byte) {
            (Self::Json, b'\\') => json(after),
            (Self::Percent | Self::Form, b'%') => percent(after),
            (Self::Form, b'+') => return Some(Unit::byte(1, b' ')),
            _ => Escape::None,
        };
        Some(match escape {
            Escape::Unit(unit) => unit,
            Escape::Short if cut => Unit::nothing(text.len() - at),
            Escape::Short | Escape::None => Unit::byte(1, byte),
        })
    }

    /// The decoded text; no longer than the encoded one. With `cut`, an escape that the end cuts off is left out.
    pub(crate) fn decode(self, text: &[u8], cut: bool) -> Zeroizing<Vec<u8>> {
        let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
        let mut at = 0;
        loop {
            // Most of a text is no escape, and is copied as it is.
            let rest = text.get(at..).unwrap_or_default();
            let plain = rest.iter().position(|byte| self.begins(*byte)).unwrap_or(rest.len());
            decoded.extend_from_slice(rest.get(..plain).unwrap_or_default());
            at += plain;
            let Some(unit) = self.unit(text, at, cut) else { return decoded };
            decoded.extend_from_slice(unit.bytes.get(..unit.len).unwrap_or_default());
            at += unit.taken;
        }
    }

    /// Where `spans` of the decoded text, sorted and apart, are in the encoded one. It is walked a second time rather
    /// than remembered: a hit is rare, and a table of all escapes would take several times the text.
    pub(super) fn translate(self, text: &[u8], cut: bool, spans: &mut [(usize, usize)]) {
        let (mut at, mut decoded, mut next) = (0, 0, 0);
        let mut begun = false;
        while let Some(unit) = self.unit(text, at, cut) {
            let begin = at;
            at += unit.taken;
            decoded += unit.len;
            if unit.len == 0 {
                // The end of the text, and part of whatever reaches it.
                if let Some(last) = spans.last_mut()
                    && last.1 == begin
                {
                    last.1 = at;
                }
                return;
            }
            while let Some(span) = spans.get_mut(next) {
                if !begun && span.0 >= decoded {
                    break;
                }
                if !begun {
                    span.0 = begin;
                    begun = true;
                }
                if span.1 > decoded {
                    break;
                }
                span.1 = at;
                begun = false;
                next += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(encoding: Encoding, text: &str, cut: bool) -> String {
        String::from_utf8(encoding.decode(text.as_bytes(), cut).to_vec()).unwrap()
    }

    #[test]
    fn escapes_are_decoded_and_what_is_none_stays() {
        let json = r#"a\n\/\"\\\u00e9\uD83d\uDE00\x\u12\ud83d!\ud83d\u0041"#;
        assert_eq!(decoded(Encoding::Json, json, false), "a\n/\"\\é😀\\x\\u12\\ud83d!\\ud83dA");
        assert_eq!(decoded(Encoding::Percent, "%2fa%2F+%zz%%41%4", false), "/a/+%zz%A%4");
        assert_eq!(decoded(Encoding::Form, "a+b%2B", false), "a b+");
    }

    #[test]
    fn an_escape_that_the_end_cuts_off_stands_for_nothing() {
        for text in ["x\\", "x\\u", "x\\u12", "x\\ud83d", "x\\ud83d\\", "x\\ud83d\\ude0"] {
            assert_eq!(decoded(Encoding::Json, text, true), "x", "{text}");
        }
        for text in ["x%", "x%4"] {
            assert_eq!(decoded(Encoding::Percent, text, true), "x", "{text}");
        }
        assert_eq!(decoded(Encoding::Percent, "x%z", true), "x%z");
    }

    #[test]
    fn spans_are_translated_to_whole_escapes() {
        let text = "%41%42cd%45f";
        let mut spans = [(0, 1), (1, 3), (3, 5), (5, 6)];
        Encoding::Percent.translate(text.as_bytes(), false, &mut spans);
        assert_eq!(spans, [(0, 3), (3, 7), (7, 11), (11, 12)]);
        let mut all = [(0, 6)];
        Encoding::Percent.translate(text.as_bytes(), false, &mut all);
        assert_eq!(all, [(0, 12)]);
        let mut cut = [(1, 2)];
        Encoding::Percent.translate(b"ab%4", true, &mut cut);
        assert_eq!(cut, [(1, 4)]);
    }
}
