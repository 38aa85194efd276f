//! Keyed tokens in place of secrets, in what is recorded of a run (`longshore_proto::trace`).
//!
//! A trace must hold no secret and yet be fit for a replay. So a secret is not cut out: it is replaced by a token that
//! has its length and alphabet, is equal wherever the secret is equal, and stands in the same form: where the secret was
//! in base64, hex, percent-encoding or JSON escapes, the token is. The replayed guest is given the token, does
//! with it what it did with the secret, and its output is the recorded one, byte for byte, unless it derived something
//! else (a signature, a hash) from it. What a token looks like and tells: `derive`. What is found, and what not: as in
//! [`crate::redact`].
//!
//! For whoever records:
//! * One [`Tokenizer`] for each run, made before anything is recorded. It learns: what a header or a field by policy
//!   gave away (a caller's bearer token) is replaced wherever it appears *later*, too, such as in an
//!   answer that repeats it. So the request's head and body go through it before the rest.
//! * Headers go through [`Tokenizer::header`], bodies through [`Tokenizer::body`], decoded arguments and results through
//!   [`Tokenizer::value`], everything else (guest output in one piece, URLs, messages) through
//!   [`Tokenizer::bytes`] and [`Tokenizer::text`]. What `secrets.get` answers goes through [`Tokenizer::secret`], which also
//!   replaces values that are too short to be searched for.
//!
//! What a rule names (a header, a field, a match) becomes one token as a whole, unless at least half of it is a known
//! secret: then the rest is what the guest put around its secret (`user:`, `v1.`), stays, and the replayed guest
//! puts it there again.

mod derive;
mod edits;
mod headers;
mod json;
mod key;
mod known;
mod learned;
mod path;
mod policy;
mod recode;
mod value;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use longshore_proto::trace::Redaction;
use zeroize::Zeroizing;

use crate::redact::DEPTH;
use crate::redact::decode::Encoding;
use edits::Edit;
use headers::Part;
use learned::Learned;

pub use headers::is_sensitive_header;
pub use key::TokenKey;
pub(crate) use known::Known;
pub use path::PathError;
pub use policy::{FIELDS, Policy, PolicyError};

/// How often the token of a learned value is drawn again that contains a secret.
const DRAWS: u32 = 16;

/// Replaces secrets by tokens in what is recorded of one run.
///
/// The same tokenizer gives the same token for the same value, and its own tokens stay as they are. Under one key all
/// tokenizers agree, but for a token that would contain another secret of its set, which is drawn again (in practice:
/// secrets of four or five digits).
pub struct Tokenizer {
    key: TokenKey,
    policy: Arc<Policy>,
    base: Arc<Known>,
    learned: Learned,
    replaced: AtomicU64,
    /// See [`Tokenizer::has_seen_secret`].
    secret_seen: AtomicBool,
}

impl Tokenizer {
    /// One for these secret values and this policy. Building it takes some 10 µs for each value;
    /// [`crate::Secrets::tokenizer`] builds but once.
    pub fn new<'v>(key: &TokenKey, values: impl IntoIterator<Item = &'v str>, policy: Arc<Policy>) -> Self {
        Self::with(key, Arc::new(Known::new(key, values)), policy)
    }

    /// One that shares the search with others of the same key.
    pub(crate) fn with(key: &TokenKey, base: Arc<Known>, policy: Arc<Policy>) -> Self {
        Self {
            key: key.clone(),
            policy,
            base,
            learned: Learned::default(),
            replaced: AtomicU64::new(0),
            secret_seen: AtomicBool::new(false),
        }
    }

    /// What the header of a trace says about its tokens.
    pub fn redaction(&self) -> Redaction {
        Redaction { policy: self.policy.id().to_owned(), key: self.key.id().to_owned() }
    }

    /// Whether [`Self::text`] and [`Self::bytes`] leave everything as it is, as things stand: there is no secret and
    /// no regular expression, and nothing has been learned. Headers and bodies must go through it all the same.
    pub fn is_idle(&self) -> bool {
        self.base.is_empty() && self.policy.regexes.is_empty() && self.learned.known().is_none()
    }

    /// How many pieces have been replaced so far, by whatever rule.
    pub fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }

    /// Whether one of the values that this was made with has been replaced so far: the guest was given it, or has it
    /// from somewhere. What only a rule names (a caller's bearer token) does not count: it is no secret of the
    /// install.
    pub fn has_seen_secret(&self) -> bool {
        self.secret_seen.load(Ordering::Relaxed)
    }

    /// As [`Self::text`], of words that no guest reads (what the operator is told of a failure): they do not count for
    /// [`Self::has_seen_secret`], since the host itself may have put the secret there.
    pub fn aside<'a>(&self, text: &'a str) -> Cow<'a, str> {
        to_text(edits::apply(text.as_bytes(), &self.find_all(text.as_bytes())), text)
    }

    /// A text with tokens in place of secrets.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        to_text(self.bytes(text.as_bytes()), text)
    }

    /// Bytes, text or not, with tokens in place of secrets; as many as they were, unless an escape of JSON became
    /// a letter.
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let edits = self.find_all(bytes);
        self.apply(bytes, &edits)
    }

    /// The token of a whole value, such as the answer of `secrets.get`, however short it is. A value of fewer than
    /// [`crate::redact::MIN_BYTES`] bytes is replaced here and nowhere else: elsewhere it stands by chance.
    pub fn secret(&self, value: &str) -> String {
        self.replaced.fetch_add(1, Ordering::Relaxed);
        self.secret_seen.store(true, Ordering::Relaxed);
        String::from_utf8_lossy(&self.token(value.as_bytes())).into_owned()
    }

    /// Treats a value as secret from now on.
    pub fn learn(&self, value: &str) {
        if !value.is_empty() && !self.is_token(value.as_bytes()) {
            self.learned.add(value.as_bytes(), &self.token(value.as_bytes()));
        }
    }

    /// The value of a header. Of one that carries credentials ([`Policy::is_sensitive`]), these become a token: all of it
    /// but the scheme of `authorization`, the names of cookies, and what follows the first cookie of `set-cookie`;
    /// user and password of `Basic` become tokens inside the base64. Others: as [`Self::text`].
    pub fn header<'a>(&self, name: &str, value: &'a str) -> Cow<'a, str> {
        to_text(self.header_bytes(name, value.as_bytes()), value)
    }

    fn header_bytes<'a>(&self, name: &str, value: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.policy.is_sensitive(name) {
            return self.bytes(value);
        }
        let Ok(text) = std::str::from_utf8(value) else {
            return self.rule(value).map_or(Cow::Borrowed(value), Cow::Owned);
        };
        let mut edits = Vec::new();
        for part in headers::parts(name, text) {
            let (range, new) = match part {
                Part::Plain(range) => {
                    let new = value.get(range.clone()).and_then(|part| self.rule(part));
                    (range, new)
                }
                Part::Basic(range) => {
                    let new = text.get(range.clone()).and_then(|part| self.basic(part));
                    (range, new)
                }
            };
            edits.extend(new.map(|new| Edit { start: range.start, end: range.end, new }));
        }
        edits.append(&mut self.find_all(value));
        self.apply(value, &edits::resolve(value, edits, |piece| self.mask(piece)))
    }

    /// The base64 of `user:password`, each replaced for itself.
    fn basic(&self, credentials: &str) -> Option<Vec<u8>> {
        let Some(decoded) = headers::decode_basic(credentials) else {
            return self.rule(credentials.as_bytes());
        };
        let found = self.find(credentials.as_bytes());
        if edits::covered(&found) * 2 >= credentials.len() {
            return Some(self.apply(credentials.as_bytes(), &found).into_owned());
        }
        let colon = decoded.iter().position(|byte| *byte == b':').unwrap_or(decoded.len());
        let (user, password) = decoded.split_at(colon);
        let mut new = Zeroizing::new(self.rule(user).unwrap_or_else(|| user.to_vec()));
        if let Some((colon, password)) = password.split_first() {
            new.push(*colon);
            new.extend(self.rule(password).unwrap_or_else(|| password.to_vec()));
        }
        Some(headers::encode_basic(&new, credentials).into_bytes())
    }

    /// A body: fields by policy if it is JSON, and what [`Self::bytes`] replaces. The rest keeps its bytes, down to the
    /// blanks between fields.
    pub fn body<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        let mut edits = Vec::new();
        if json::may_be_json(body) {
            for leaf in json::leaves(body, &self.policy.paths) {
                let Some(text) = body.get(leaf.start..leaf.end) else { continue };
                let new = if leaf.string { self.json_string(text) } else { self.json_number(text) };
                edits.extend(new.map(|new| Edit { start: leaf.start, end: leaf.end, new }));
            }
        }
        edits.append(&mut self.find_all(body));
        self.apply(body, &edits::resolve(body, edits, |piece| self.mask(piece)))
    }

    /// A string between its quotes.
    fn json_string(&self, text: &[u8]) -> Option<Vec<u8>> {
        if !Encoding::Json.applies(text, false) {
            return self.rule(text);
        }
        let decoded = Encoding::Json.decode(text, false);
        let new = self.rule(&decoded)?;
        let whole = [Edit { start: 0, end: decoded.len(), new }];
        let translated = recode::translate(Encoding::Json, text, &decoded, &whole);
        Some(edits::apply(text, &translated).into_owned())
    }

    /// A number: its digits, up to the exponent, which decides whether it is one that can be read.
    fn json_number(&self, text: &[u8]) -> Option<Vec<u8>> {
        let end = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
        let (digits, exponent) = text.split_at(end);
        let mut new = self.rule(digits)?;
        new.extend_from_slice(exponent);
        Some(new)
    }

    /// What replaces a value that a rule names; none for one that stays, because it is a token already.
    fn rule(&self, value: &[u8]) -> Option<Vec<u8>> {
        if value.is_empty() || self.is_token(value) {
            return None;
        }
        let found = self.find(value);
        if !found.is_empty() && edits::covered(&found) * 2 >= value.len() {
            return Some(edits::apply(value, &found).into_owned());
        }
        let token = self.token(value);
        self.learned.add(value, &token);
        Some(token)
    }

    fn is_token(&self, value: &[u8]) -> bool {
        self.base.is_token(value) || self.learned.is_token(value)
    }

    /// The token of a value.
    fn token(&self, value: &[u8]) -> Vec<u8> {
        if let Some(token) = self.base.token(value) {
            return token.to_vec();
        }
        if let Some(token) = self.learned.known().and_then(|known| known.token(value).map(<[u8]>::to_vec)) {
            return token;
        }
        let mut token = derive::token(&self.key, value, 0);
        for draw in 1..DRAWS {
            if !self.base.occurs(&token) {
                break;
            }
            token = derive::token(&self.key, value, draw);
        }
        token
    }

    /// What stands for a piece of a secret, or of what cannot be searched in time.
    fn mask(&self, piece: &[u8]) -> Vec<u8> {
        derive::token(&self.key, piece, 0)
    }

    /// The edits for secrets, learned values and regular expressions: disjoint and sorted.
    fn find_all(&self, text: &[u8]) -> Vec<Edit> {
        let mut edits = self.find(text);
        let mut more = Vec::new();
        for regex in &self.policy.regexes {
            let whole = regex.captures_len() == 1;
            for captures in regex.captures_iter(text) {
                let groups = captures.iter().skip(usize::from(!whole)).flatten();
                more.extend(groups.filter_map(|group| self.matched(text, group.range(), &edits)));
            }
        }
        if more.is_empty() {
            return edits;
        }
        edits.append(&mut more);
        edits::resolve(text, edits, |piece| self.mask(piece))
    }

    /// What replaces the match of a regular expression, of a text in which these secrets stand.
    fn matched(&self, text: &[u8], range: Range<usize>, secrets: &[Edit]) -> Option<Edit> {
        let value = text.get(range.clone())?;
        let first = secrets.partition_point(|edit| edit.start < range.start);
        let inside = secrets.get(first..)?.iter().take_while(|edit| edit.end <= range.end);
        let covered: usize = inside.map(|edit| edit.end - edit.start).sum();
        if value.is_empty() || self.is_token(value) || covered * 2 >= value.len() {
            return None;
        }
        let new = self.token(value);
        self.learned.add(value, &new);
        Some(Edit { start: range.start, end: range.end, new })
    }

    /// The edits for secrets and learned values: disjoint and sorted.
    fn find(&self, text: &[u8]) -> Vec<Edit> {
        let learned = self.learned.known();
        let sets = [Some(&*self.base), learned.as_deref()];
        let mut sets = sets.into_iter().flatten().filter(|set| !set.is_empty());
        let (first, second) = (sets.next(), sets.next());
        let shortest = first.iter().chain(&second).map(|set| set.shortest()).min();
        match (first, second) {
            // Decoding makes no text longer: a shorter one than any form holds none.
            _ if shortest.is_none_or(|shortest| text.len() < shortest.max(1)) => Vec::new(),
            (Some(first), Some(second)) => self.find_in(&[first, second], text, 0, None),
            (Some(first), None) => self.find_in(&[first], text, 0, None),
            (None, _) => Vec::new(),
        }
    }

    fn find_in(&self, sets: &[&Known], text: &[u8], depth: usize, within: Option<Encoding>) -> Vec<Edit> {
        let mask = |piece: &[u8]| self.mask(piece);
        let mut edits: Vec<Edit> = sets.iter().flat_map(|set| set.find(text, &mask)).collect();
        if depth < DEPTH {
            let spaces = sets.iter().any(|set| set.spaces);
            for encoding in [Encoding::Json, Encoding::Percent, Encoding::Form] {
                // Nobody form-encodes twice without percent signs.
                let again = within == Some(Encoding::Form) && encoding == Encoding::Form;
                if again || !encoding.applies(text, spaces) {
                    continue;
                }
                let decoded = encoding.decode(text, false);
                let found = self.find_in(sets, &decoded, depth + 1, Some(encoding));
                if !found.is_empty() {
                    edits.append(&mut recode::translate(encoding, text, &decoded, &found));
                }
            }
        }
        let mut edits = edits::resolve(text, edits, mask);
        edits.sort_unstable_by_key(|edit| edit.start);
        edits
    }

    fn apply<'a>(&self, text: &'a [u8], edits: &[Edit]) -> Cow<'a, [u8]> {
        if !edits.is_empty() {
            self.replaced.fetch_add(edits.len() as u64, Ordering::Relaxed);
            // Edits do not say whose they are; a second search is needed only until the first secret.
            if !self.has_seen_secret() && self.has_secret(text) {
                self.secret_seen.store(true, Ordering::Relaxed);
            }
        }
        edits::apply(text, edits)
    }

    /// Whether a text has one of the values that this was made with, in whatever form.
    fn has_secret(&self, text: &[u8]) -> bool {
        if self.base.is_empty() || text.len() < self.base.shortest() {
            return self.base.token(text).is_some();
        }
        !self.find_in(&[&self.base], text, 0, None).is_empty()
    }
}

/// What was made of a text is one, unless it was a mixture of encodings that nobody writes.
fn to_text<'a>(bytes: Cow<'_, [u8]>, text: &'a str) -> Cow<'a, str> {
    match bytes {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(bytes) => Cow::Owned(
            String::from_utf8(bytes)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        ),
    }
}

/// Whether `token` may be what stands in a trace for `value`, by length, kinds of characters and places of punctuation.
/// For whoever compares a replay with a recording without the key: a header that carries credentials and that the guest
/// wrote from its own constants is a token in the recording, and nothing says of which value. Not for anything else:
/// values that differ may look alike.
pub fn may_stand_for(token: &str, value: &str) -> bool {
    derive::may_stand_for(token, value)
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokenizer({:?}, {:?})", self.key, self.policy)
    }
}

#[cfg(test)]
mod tests;
