//! Values that became known as secret during a run: what a header or a field by policy held.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::known::Known;

/// Bytes of the shortest value that is looked for elsewhere, if it has several kinds of characters: of shorter ones,
/// and of words, too many would stand in a trace by chance (`theme=dark`, `"password": "password"`).
const MIN_MIXED: usize = 8;
/// The same of a value with one kind.
const MIN_PLAIN: usize = 16;
/// How many are learned in one run. The search is built anew after each: 10 ms in all at the worst.
const MAX_VALUES: usize = 32;
/// Their bytes. Those beyond are replaced where the rules name them, and not looked for elsewhere.
const MAX_BYTES: usize = 16 << 10;
/// Tokens that are remembered, so that they are not replaced once more.
const MAX_ISSUED: usize = 4096;

#[derive(Default)]
pub(super) struct Learned(Mutex<State>);

#[derive(Default)]
struct State {
    values: Vec<(Zeroizing<String>, Vec<u8>)>,
    bytes: usize,
    /// Of all values, when it is not older than the last.
    known: Option<Arc<Known>>,
    issued: HashSet<[u8; 16]>,
}

impl Learned {
    /// Remembers a value and the token that it got.
    pub(super) fn add(&self, value: &[u8], token: &[u8]) {
        let mut state = self.0.lock();
        if state.issued.len() < MAX_ISSUED {
            state.issued.insert(name(token));
        }
        let Ok(value) = std::str::from_utf8(value) else { return };
        let room = state.values.len() < MAX_VALUES && state.bytes + value.len() <= MAX_BYTES;
        let new = || state.values.iter().all(|(other, _)| other.as_str() != value);
        if room && is_telling(value) && new() {
            state.bytes += value.len();
            state.values.push((Zeroizing::new(value.to_owned()), token.to_vec()));
            state.known = None;
        }
    }

    /// Whether this is a token that was given.
    pub(super) fn is_token(&self, text: &[u8]) -> bool {
        let state = self.0.lock();
        !state.issued.is_empty() && state.issued.contains(&name(text))
    }

    /// All values so far; none if there are none.
    pub(super) fn known(&self) -> Option<Arc<Known>> {
        let mut state = self.0.lock();
        if state.values.is_empty() {
            return None;
        }
        if state.known.is_none() {
            let pairs = state.values.iter().map(|(value, token)| (value.as_str(), token.clone()));
            let known = Arc::new(Known::of(pairs));
            state.known = Some(known);
        }
        state.known.clone()
    }
}

/// A set of names instead of one of tokens: they have one size.
fn name(token: &[u8]) -> [u8; 16] {
    let mut name = [0; 16];
    let hash = blake3::hash(token);
    name.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    name
}

/// Whether a value is unlikely to stand anywhere by chance.
fn is_telling(value: &str) -> bool {
    let kinds: [fn(&u8) -> bool; 4] =
        [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit, |byte| {
            !byte.is_ascii_alphanumeric()
        }];
    let count = kinds.iter().filter(|kind| value.as_bytes().iter().any(kind)).count();
    value.len() >= MIN_PLAIN || (value.len() >= MIN_MIXED && count > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_that_tell_are_looked_for_and_not_without_end() {
        for (value, telling) in [
            ("dark", false),
            ("a1b2c3d", false),
            ("password", false),
            ("12345678", false),
            ("pass word", true),
            ("Summer24", true),
            ("abcdefghijklmnop", true),
        ] {
            assert_eq!(is_telling(value), telling, "{value}");
        }
        let learned = Learned::default();
        assert!(learned.known().is_none());
        for at in 0..1000 {
            learned.add(format!("value-{at:04}").as_bytes(), format!("token-{at:04}").as_bytes());
        }
        learned.add(b"value-0001", b"token-0001");
        assert_eq!(learned.0.lock().values.len(), MAX_VALUES);
        assert!(learned.is_token(b"token-0999") && !learned.is_token(b"value-0999"));
        let known = learned.known().unwrap();
        assert_eq!(known.token(b"value-0031"), Some(b"token-0031".as_slice()));
        assert_eq!(known.token(b"value-0032"), None);
        assert!(Arc::ptr_eq(&known, &learned.known().unwrap()), "built once");
        let large = Learned::default();
        large.add("x1".repeat(MAX_BYTES).as_bytes(), b"token");
        large.add(b"\xff\xfe and no text", b"token");
        assert!(large.known().is_none());
    }
}
