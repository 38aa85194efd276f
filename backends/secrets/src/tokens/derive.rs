//! The token of a value.
//!
//! A token has the length of its value in bytes. Letters and digits become letters and digits of the kinds that the
//! value has (lower case, upper case, digits; hex digits for a value of hex digits), wherever in the value they stood; a
//! character beyond ASCII becomes another of as many bytes. Punctuation, blanks and control characters stay where they
//! are: what a guest takes apart (`user:password`, a URL, the parts of a JWT, the lines of a PEM) it takes apart the same
//! way in a replay, and an encoder escapes the token in the same places as the value. A value that is mostly
//! punctuation would hardly change so: it becomes letters as a whole.
//!
//! So a token tells of its value: the length, the kinds of characters, where punctuation stands. The rest is a keyed
//! stream over the whole value: tokens of values that differ in one byte have nothing in common, and without the key
//! no guess can be checked.

use zeroize::Zeroize as _;

use super::TokenKey;

const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &[u8] = b"0123456789";
const HEX: &[u8] = b"0123456789abcdef";
const HEX_UPPER: &[u8] = b"0123456789ABCDEF";
/// A value of hex digits alone is taken for hex from this many on; shorter ones may be words.
const MIN_HEX: usize = 8;
/// How often a token that equals its value is drawn again. One letter gives its own value once in 26 times.
const DRAWS: u32 = 64;

/// The token of a value; of an empty one, an empty one. `draw` is 0, or higher when an earlier one cannot be used.
pub(super) fn token(key: &TokenKey, value: &[u8], draw: u32) -> Vec<u8> {
    if value.is_empty() {
        return Vec::new();
    }
    let shape = Shape::of(value);
    let mut drawn = Vec::new();
    for again in 0..DRAWS {
        drawn = draw_token(key, value, &shape, draw.wrapping_mul(DRAWS).wrapping_add(again));
        if drawn != value {
            break;
        }
    }
    drawn
}

/// What of a value its token has too.
struct Shape {
    /// What letters and digits become.
    alphabet: Vec<u8>,
    /// Punctuation stays.
    keeps: bool,
    /// Digits with a sign or a point: the first is no zero unless it was one, so that it stays a number.
    number: bool,
}

impl Shape {
    fn of(value: &[u8]) -> Self {
        let (mut lower, mut upper, mut digits, mut beyond, mut kept) = (0, 0, 0, 0, 0);
        let mut hex = [true, true];
        let mut number = true;
        for (at, byte) in value.iter().enumerate() {
            match byte {
                b'a'..=b'z' => lower += 1,
                b'A'..=b'Z' => upper += 1,
                b'0'..=b'9' => digits += 1,
                0x80.. => beyond += 1,
                _ => kept += 1,
            }
            number &= byte.is_ascii_digit() || *byte == b'.' || (*byte == b'-' && at == 0);
            for (hex, alphabet) in hex.iter_mut().zip([HEX, HEX_UPPER]) {
                *hex &= !byte.is_ascii_alphanumeric() || alphabet.contains(byte);
            }
        }
        let letters = lower + upper + digits;
        if letters + beyond < kept {
            return Self { alphabet: LOWER.to_vec(), keeps: false, number: false };
        }
        let [hex, hex_upper] = hex;
        let alphabet = if lower + upper > 0 && letters >= MIN_HEX && (hex || hex_upper) {
            if hex { HEX.to_vec() } else { HEX_UPPER.to_vec() }
        } else {
            let kinds = [(lower, LOWER), (upper, UPPER), (digits, DIGITS)];
            kinds.iter().filter(|(count, _)| *count > 0).flat_map(|(_, kind)| kind.iter().copied()).collect()
        };
        Self { alphabet, keeps: true, number }
    }
}

fn draw_token(key: &TokenKey, value: &[u8], shape: &Shape, draw: u32) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_keyed(key.bytes());
    hasher.update(&draw.to_le_bytes()).update(value);
    let mut stream = hasher.finalize_xof();
    // The bias of taking a remainder of 32 bits is below one in 10^5, even for the largest of the ranges.
    let mut next = |count: u32| {
        let mut word = [0; 4];
        stream.fill(&mut word);
        u32::from_le_bytes(word) % count.max(1)
    };
    let mut out = Vec::with_capacity(value.len());
    let mut first = shape.number;
    for chunk in value.utf8_chunks() {
        for char in chunk.valid().chars() {
            let zero = char == '0';
            match char {
                'a'..='z' | 'A'..='Z' | '0'..='9' => {
                    let alphabet = match shape.alphabet.split_first() {
                        Some((_, others)) if first && !zero => others,
                        _ => &shape.alphabet,
                    };
                    first = false;
                    out.push(pick(alphabet, &mut next));
                }
                '\0'..='\x7f' if shape.keeps => out.push(char as u8),
                '\0'..='\x7f' => out.push(pick(&shape.alphabet, &mut next)),
                _ => {
                    let (begin, count) = match char.len_utf8() {
                        2 => (0x100, 0x80),      // Latin Extended-A
                        3 => (0x4e00, 0x5000),   // CJK ideographs
                        _ => (0x2_0000, 0xa000), // more of them: also two units of UTF-16
                    };
                    let char = char::from_u32(begin + next(count)).unwrap_or(char);
                    out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
        // No text: stays none, whatever follows (a continuation byte begins nothing).
        out.extend(chunk.invalid().iter().map(|_| 0x80 | (next(0x40) as u8)));
    }
    // It has seen the value.
    hasher.zeroize();
    out
}

/// See [`super::may_stand_for`].
pub(super) fn may_stand_for(token: &str, value: &str) -> bool {
    let shape = Shape::of(value.as_bytes());
    let fits = |(new, old): (char, char)| match old {
        _ if !old.is_ascii() => new.len_utf8() == old.len_utf8() && !new.is_ascii(),
        _ if old.is_ascii_alphanumeric() || !shape.keeps => {
            u8::try_from(new).is_ok_and(|new| shape.alphabet.contains(&new))
        }
        _ => new == old,
    };
    token.chars().count() == value.chars().count() && token.chars().zip(value.chars()).all(fits)
}

fn pick(alphabet: &[u8], next: &mut impl FnMut(u32) -> u32) -> u8 {
    let at = next(u32::try_from(alphabet.len()).unwrap_or(u32::MAX)) as usize;
    alphabet.get(at).copied().unwrap_or(b'x')
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    fn of(text: &str) -> String {
        String::from_utf8(token(&TokenKey::from_bytes([7; 32]), text.as_bytes(), 0)).unwrap()
    }

    #[test]
    fn a_token_has_the_length_and_the_kinds_of_characters_of_its_value() {
        type Case = (&'static str, fn(u8) -> bool);
        let key = TokenKey::from_bytes([7; 32]);
        let cases: [Case; 7] = [
            ("sklivexyzw", |b| b.is_ascii_lowercase()),
            ("AKIAXYZQRS", |b| b.is_ascii_uppercase()),
            ("4111111111111111", |b| b.is_ascii_digit()),
            ("abcdEFGH1234", |b| b.is_ascii_alphanumeric()),
            ("deadbeef0123", |b| HEX.contains(&b)),
            ("DEADBEEF0123", |b| HEX_UPPER.contains(&b)),
            ("?!?!?!?!a", |b| b.is_ascii_lowercase()),
        ];
        for (value, allowed) in cases {
            let token = of(value);
            assert_eq!(token.len(), value.len());
            assert!(token != value && token.bytes().all(allowed), "{value} -> {token}");
            assert_eq!(token, of(value), "equal for equal");
            assert_ne!(token.as_bytes(), super::token(&TokenKey::from_bytes([8; 32]), value.as_bytes(), 0));
            assert_ne!(token.as_bytes(), super::token(&key, value.as_bytes(), 1));
        }
        assert_eq!(of(""), "");
    }

    #[test]
    fn what_a_guest_takes_apart_it_takes_apart_the_same_way() {
        for value in ["user:p4ssword", "eyJhbGc.eyJzdWI.c2ln-_", "postgres://u:p@host:5432/db", "a b\nc d\ne"]
        {
            let kept = |text: &str| -> Vec<(usize, char)> {
                text.char_indices().filter(|(_, c)| !c.is_ascii_alphanumeric()).collect()
            };
            assert_eq!(kept(value), kept(&of(value)));
        }
    }

    #[test]
    fn a_character_beyond_ascii_becomes_one_of_as_many_bytes() {
        let value = "pässwörd漢字😀";
        let lengths = |text: &str| text.chars().map(char::len_utf8).collect::<Vec<_>>();
        let utf16 = |text: &str| text.chars().map(char::len_utf16).collect::<Vec<_>>();
        let token = of(value);
        assert_eq!((lengths(value), utf16(value)), (lengths(&token), utf16(&token)));
        assert!(value.chars().zip(token.chars()).all(|(a, b)| a.is_ascii() || a != b), "{token}");
    }

    #[test]
    fn a_number_stays_one() {
        for value in ["1234", "-12.50", "7", "10", "900"] {
            for draw in 0..200 {
                let token = token(&TokenKey::from_bytes([draw; 32]), value.as_bytes(), 0);
                let text = String::from_utf8(token).unwrap();
                assert!(serde_json::from_str::<f64>(&text).is_ok(), "{value} -> {text}");
                assert!(!text.trim_start_matches('-').starts_with('0'), "{value} -> {text}");
            }
        }
    }

    #[test]
    fn no_token_equals_its_value_and_bytes_that_are_no_text_stay_none() {
        let mut rng = StdRng::seed_from_u64(3);
        for round in 0..3000 {
            let length = rng.random_range(1..24);
            let value: Vec<u8> = (0..length).map(|_| rng.random()).collect();
            let token = token(&TokenKey::from_bytes([1; 32]), &value, round);
            assert_eq!(token.len(), value.len());
            assert_ne!(token, value);
            assert!(std::str::from_utf8(&value).is_err() || std::str::from_utf8(&token).is_ok());
        }
        for value in ["-", "a", "    ", "----", "\n\n", "0", "\0"] {
            assert_ne!(of(value), value);
        }
    }
}
