//! The text of a token: `lst_<id>_<secret><check>`, all lower-case hex.
//!
//! 16 random bytes name the token (in lists, logs, audit), 32 are the secret, 4 are the head of the SHA-256 of all before them: a token
//! that was cut or mistyped is told apart in the log from one that was made up. The caller is told the same words for each. One length,
//! one spelling: no two texts are the same token, so nothing that compares texts (a deny list, a cache) can be walked around.

use std::fmt;
use std::str::FromStr;

use longshore_service::config::Secret;
use rand::RngExt as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// What every token begins with; scanners for leaked credentials look for it.
pub(crate) const PREFIX: &str = "lst_";

const ID_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
const CHECK_BYTES: usize = 4;
/// `lst_`, the id, `_`, the secret and the check.
const TEXT_BYTES: usize = PREFIX.len() + 2 * ID_BYTES + 1 + 2 * (SECRET_BYTES + CHECK_BYTES);

/// A token's name: no secret, but nobody guesses it either.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId([u8; ID_BYTES]);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TokenId {
    type Err = NotAToken;
    fn from_str(text: &str) -> Result<Self, NotAToken> {
        lower_hex(text).map(Self).ok_or(NotAToken("a token id is 32 lower-case hex digits"))
    }
}

impl serde::Serialize for TokenId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for TokenId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a text is no token of ours; nothing of the text is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAToken(pub(crate) &'static str);

/// The SHA-256 of a token's secret: all that is kept of it. No salt and no slow hash: those make guessable passwords dear to guess,
/// and a secret of 256 random bits cannot be guessed at any price.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SecretHash(pub(crate) [u8; 32]);

impl SecretHash {
    fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// As stored.
    pub(crate) fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// From the store.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        lower_hex(text).map(Self)
    }
}

/// What a presented token says, not yet believed.
pub(crate) struct Presented {
    pub(crate) id: TokenId,
    pub(crate) hash: SecretHash,
}

/// A new token: its text, which exists nowhere else, its name, and what is kept.
pub(crate) fn issue() -> (Secret, TokenId, SecretHash) {
    let id: [u8; ID_BYTES] = rand::rng().random();
    let secret: Zeroizing<[u8; SECRET_BYTES]> = Zeroizing::new(rand::rng().random());
    let hash = SecretHash::of(secret.as_slice());
    let hex = Zeroizing::new(hex::encode(secret.as_slice()));
    let body = Zeroizing::new(format!("{PREFIX}{}_{}", hex::encode(id), hex.as_str()));
    (Secret::new(format!("{}{}", body.as_str(), check(&body))), TokenId(id), hash)
}

/// Reads what a caller sent.
pub(crate) fn parse(text: &str) -> Result<Presented, NotAToken> {
    if text.len() != TEXT_BYTES {
        return Err(NotAToken("a token of the wrong length: cut, or with something before or after it"));
    }
    let (Some((body, found)), Some(rest)) =
        (text.split_at_checked(TEXT_BYTES - 2 * CHECK_BYTES), text.strip_prefix(PREFIX))
    else {
        return Err(NotAToken("not in the form of a token"));
    };
    if found != check(body) {
        return Err(NotAToken("a token whose check digits are wrong: mistyped or made up"));
    }
    let parsed = (|| {
        let (id, rest) = rest.split_at_checked(2 * ID_BYTES)?;
        let (secret, _) = rest.strip_prefix('_')?.split_at_checked(2 * SECRET_BYTES)?;
        let secret: Zeroizing<[u8; SECRET_BYTES]> = Zeroizing::new(lower_hex(secret)?);
        Some(Presented { id: TokenId(lower_hex(id)?), hash: SecretHash::of(secret.as_slice()) })
    })();
    parsed.ok_or(NotAToken("not in the form of a token"))
}

fn check(body: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(body).into();
    let (head, _) = digest.split_at(CHECK_BYTES);
    hex::encode(head)
}

/// `hex` takes upper case too; here a text has one spelling.
fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body with digits that are right for it.
    fn with_check(body: &str) -> String {
        format!("{body}{}", check(body))
    }

    #[test]
    fn a_token_is_read_as_it_was_issued_and_no_two_are_the_same() {
        let (text, id, hash) = issue();
        assert_eq!(text.expose().len(), TEXT_BYTES);
        let read = parse(text.expose()).unwrap();
        assert_eq!(read.id, id);
        assert!(read.hash == hash);
        assert_ne!(issue().0.expose(), text.expose());
        assert!(!text.expose().contains(&hash.hex()), "the hash is no part of the token");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn every_other_text_is_refused() {
        let text = issue().0.expose().to_owned();
        let (a, s) = ("a".repeat(32), "b".repeat(64));
        parse(&with_check(&format!("lst_{a}_{s}"))).unwrap();
        let mut bad = vec![
            String::new(),
            "lst_".to_owned(),
            text[..text.len() - 1].to_owned(),
            text[1..].to_owned(),
            format!("{text}\n"),
            format!(" {text}"),
            format!("{text}\0"),
            text.to_uppercase(),
            text.replace("lst_", "LST_"),
            text.replace("lst_", "lſt"),
            with_check(&format!("lst_{}_{s}", "A".repeat(32))),
            with_check(&format!("lst_{a}_{}", "B".repeat(64))),
            with_check(&format!("lst_{a}-{s}")),
            with_check(&format!("lst-{a}_{s}")),
            with_check(&format!("lst_{a}_{}", "g".repeat(64))),
            with_check(&format!("lst_{a}_ {}", "b".repeat(63))),
            // A Cyrillic `а`, two bytes wide, in a text of the right number of bytes.
            with_check(&format!("lst_{}\u{430}_{s}", "a".repeat(30))),
            "\u{430}".repeat(TEXT_BYTES / 2) + "x",
        ];
        // Every digit of it changed.
        for at in PREFIX.len()..text.len() {
            let other = if &text[at..=at] == "0" { "1" } else { "0" };
            bad.push(format!("{}{other}{}", &text[..at], &text[at + 1..]));
        }
        for text in bad {
            assert!(parse(&text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_mistyped_token_is_told_from_a_cut_one() {
        let text = issue().0.expose().to_owned();
        let end = if text.ends_with('0') { "1" } else { "0" };
        let mistyped = format!("{}{end}", &text[..text.len() - 1]);
        let reason = |text: &str| parse(text).err().unwrap().to_string();
        assert!(reason(&mistyped).contains("check digits"));
        assert!(reason(&text[..50]).contains("length"));
    }
}
