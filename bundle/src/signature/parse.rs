//! The text of a trust bundle. Strict: a line that is overlooked (`Revokd: yes`) would keep a key that somebody
//! believes revoked.

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};

use super::trust::TrustedKey;
use super::{KeyError, KeyId, KeyRules, PublicKey, TrustBundle};

/// Keys of one file. Nobody looks after more.
const KEYS: usize = 1_000;
/// Publishers of one key, and names in `Revoked-Keys`.
const NAMES: usize = 10_000;
const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

/// What is wrong with a trust bundle, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct TrustSyntax {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

fn wrong<T>(line: usize, problem: impl Into<String>) -> Result<T, TrustSyntax> {
    Err(TrustSyntax { line, problem: problem.into() })
}

/// What came before the next key.
#[derive(Default)]
struct Pending {
    key_id: Option<KeyId>,
    rules: KeyRules,
    seen: HashSet<&'static str>,
    /// Of the first of these lines.
    line: Option<usize>,
}

const HEADERS: [&str; 7] =
    ["Key-Id", "Not-Before", "Not-After", "Revoked", "Publishers", "Publisher", "Revoked-Keys"];

/// `Name: value`, with or without a `#` before it: a rule that somebody wrote into a comment, as other PEM files carry
/// them, counts.
fn header(line: &str) -> Option<(&'static str, &str)> {
    let (name, value) = line.trim_start_matches(['#', ' ', '\t']).split_once(':')?;
    let known = HEADERS.into_iter().find(|known| known.eq_ignore_ascii_case(name.trim()))?;
    Some((known, value.trim()))
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// RFC 3339, or a day; a day as an end includes it.
fn moment(text: &str, is_end: bool) -> Option<DateTime<Utc>> {
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Some(moment.to_utc());
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(NaiveTime::MIN).and_utc();
    if is_end { day.checked_add_signed(TimeDelta::days(1)) } else { Some(day) }
}

impl TrustBundle {
    /// Reads the text of a trust bundle.
    ///
    /// # Errors
    /// A line that is no key, rule or comment; a key that is none, is there twice, or has a rule twice; no key at all.
    pub fn parse(text: &str) -> Result<Self, TrustSyntax> {
        let mut trust = Self::default();
        let mut fingerprints = HashSet::new();
        let mut pending = Pending::default();
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        while let Some((at, line)) = lines.next() {
            if line == BEGIN {
                let mut pem = format!("{BEGIN}\n");
                loop {
                    let Some((_, part)) = lines.next() else { return wrong(at, format!("{END} is missing")) };
                    pem.push_str(part);
                    pem.push('\n');
                    if part == END {
                        break;
                    }
                }
                trust.add(at, &pem, std::mem::take(&mut pending), &mut fingerprints)?;
            } else if line.starts_with("-----BEGIN") && line.contains("PRIVATE KEY") {
                return wrong(
                    at,
                    "this is a private key: take it out, replace it wherever this file was, and put the public key here",
                );
            } else if let Some((name, value)) = header(line) {
                trust.rule(&mut pending, at, name, value)?;
            } else if !line.is_empty() && !line.starts_with('#') {
                return wrong(
                    at,
                    "expected Key-Id, Not-Before, Not-After, Revoked, Publishers, Publisher or Revoked-Keys with a colon, \
                     a key (BEGIN PUBLIC KEY), or a comment that begins with #",
                );
            }
        }
        if let Some(line) = pending.line {
            return wrong(line, "no key comes after this rule");
        }
        if trust.keys.is_empty() {
            return wrong(1, "there is no key in it");
        }
        Ok(trust)
    }

    fn rule(
        &mut self,
        pending: &mut Pending,
        at: usize,
        name: &'static str,
        value: &str,
    ) -> Result<(), TrustSyntax> {
        if value.is_empty() {
            return wrong(at, format!("{name} has no value"));
        }
        if name == "Revoked-Keys" {
            for id in list(value) {
                match id.parse() {
                    Ok(id) if self.revoked.len() < NAMES => drop(self.revoked.insert(id)),
                    Ok(_) => return wrong(at, format!("more than {NAMES} revoked keys")),
                    Err(error) => return wrong(at, KeyError::to_string(&error)),
                }
            }
            return Ok(());
        }
        pending.line.get_or_insert(at);
        // `Publisher` names one that has a comma in it, so it may come again.
        if name != "Publisher" && !pending.seen.insert(name) {
            return wrong(at, format!("{name} is given twice for one key"));
        }
        let Pending { key_id, rules, .. } = pending;
        let date = |is_end| match moment(value, is_end) {
            Some(moment) => Ok(Some(moment)),
            None => wrong(at, format!("{name}: expected 2026-12-31 or 2026-12-31T23:59:59Z")),
        };
        match name {
            "Key-Id" => match value.parse() {
                Ok(id) => *key_id = Some(id),
                Err(error) => return wrong(at, KeyError::to_string(&error)),
            },
            "Not-Before" => rules.not_before = date(false)?,
            "Not-After" => rules.not_after = date(true)?,
            "Revoked" if value.eq_ignore_ascii_case("no") => {}
            "Revoked" if value.eq_ignore_ascii_case("yes") => rules.revoked = Some(DateTime::<Utc>::MIN_UTC),
            "Revoked" => match moment(value, false) {
                Some(moment) => rules.revoked = Some(moment),
                None => return wrong(at, "Revoked: expected yes, no, or a date such as 2026-12-31"),
            },
            "Publisher" => rules.publishers.push(value.to_owned()),
            _ => rules.publishers.extend(list(value).map(str::to_owned)),
        }
        if matches!(name, "Publishers" | "Publisher") && rules.publishers.is_empty() {
            return wrong(at, "Publishers names nobody");
        }
        if rules.publishers.len() > NAMES {
            return wrong(at, format!("more than {NAMES} publishers for one key"));
        }
        Ok(())
    }

    fn add(
        &mut self,
        at: usize,
        pem: &str,
        pending: Pending,
        known: &mut HashSet<[u8; 32]>,
    ) -> Result<(), TrustSyntax> {
        let key = PublicKey::from_pem(pem).or_else(|error| wrong(at, error.to_string()))?;
        // Under two names, one could be revoked and the other not.
        if !known.insert(key.bytes()) {
            return wrong(at, "this key is in the file twice");
        }
        let id = pending.key_id.unwrap_or_else(|| key.fingerprint());
        if self.keys.len() >= KEYS {
            return wrong(at, format!("more than {KEYS} keys"));
        }
        if self.keys.contains_key(&id) {
            return wrong(at, format!("the key id {id} is given to two keys"));
        }
        self.keys.insert(id, TrustedKey { key, rules: pending.rules });
        Ok(())
    }
}
