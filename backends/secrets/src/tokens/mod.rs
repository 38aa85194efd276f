//! Keyed tokens in place of secrets, in what is recorded of a run (`longshore_proto::trace`).
//!
//! A trace must hold no secret and yet be fit for a replay. So a secret is not cut out: it is replaced by a token that
//! has its length and alphabet, is equal wherever the secret is equal, and stands in the same form: where the secret was
//! in base64, hex, percent-encoding or JSON escapes, the token is. The replayed guest is given the token, does
//! with it what it did with the secret, and its output is the recorded one, byte for byte, unless it derived something
//! else (a signature, a hash) from it. What a token looks like and tells: `derive`.
//!
//! For whoever records:
//! * One [`Tokenizer`] for each run, made before anything is recorded. It learns: what a header or a field by policy
//!   gave away (a caller's bearer token) is replaced wherever it appears *later*, too, such as in an
//!   answer that repeats it. So the request's head and body go through it before the rest.
//! * Headers go through [`Tokenizer::header`], bodies through [`Tokenizer::body`], decoded arguments and results through
//!   [`Tokenizer::value`], everything else (guest output in one piece, URLs, messages) through
//!   [`Tokenizer::bytes`] and [`Tokenizer::text`]. What `secrets.get` answers goes through [`Tokenizer::secret`], which also
//!   replaces values that are too short to be searched for.

mod derive;
mod key;
mod policy;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use longshore_proto::trace::Redaction;
use zeroize::Zeroizing;

pub use key::TokenKey;
pub use policy::Policy;

/// Replaces secrets by tokens in what is recorded of one run.
pub struct Tokenizer {
    key: TokenKey,
    values: Vec<(Zeroizing<String>, String)>,
    policy: Arc<Policy>,
}

impl Tokenizer {
    /// One for these secret values and this policy.
    pub fn new<'v>(key: &TokenKey, values: impl IntoIterator<Item = &'v str>, policy: Arc<Policy>) -> Self {
        let token =
            |value: &str| String::from_utf8_lossy(&derive::token(key, value.as_bytes(), 0)).into_owned();
        let values = values.into_iter().filter(|value| value.len() >= crate::redact::MIN_BYTES);
        let values = values.map(|value| (Zeroizing::new(value.to_owned()), token(value))).collect();
        Self { key: key.clone(), values, policy }
    }

    /// What the header of a trace says about its tokens.
    pub fn redaction(&self) -> Redaction {
        Redaction { policy: self.policy.id().to_owned(), key: self.key.id().to_owned() }
    }

    /// Whether [`Self::text`] and [`Self::bytes`] leave everything as it is, as things stand: there is no secret and
    /// no regular expression, and nothing has been learned.
    pub fn is_idle(&self) -> bool {
        self.values.is_empty()
    }

    /// A text with tokens in place of secrets.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for (value, token) in &self.values {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), token));
            }
        }
        text
    }

    /// Bytes, text or not, with tokens in place of secrets; as many as they were, unless an escape of JSON became
    /// a letter.
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match std::str::from_utf8(bytes) {
            Ok(text) => match self.text(text) {
                Cow::Borrowed(_) => Cow::Borrowed(bytes),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
            Err(_) => Cow::Borrowed(bytes),
        }
    }

    /// The token of a whole value, such as the answer of `secrets.get`, however short it is.
    pub fn secret(&self, value: &str) -> String {
        String::from_utf8_lossy(&derive::token(&self.key, value.as_bytes(), 0)).into_owned()
    }

    /// The value of a header: a token if the header is one that carries credentials, else as [`Self::text`].
    pub fn header<'a>(&self, name: &str, value: &'a str) -> Cow<'a, str> {
        if name.eq_ignore_ascii_case("authorization") {
            return Cow::Owned(self.secret(value));
        }
        self.text(value)
    }

    /// A body: fields by policy if it is JSON, else as [`Self::bytes`]. Whatever is not replaced keeps its bytes.
    pub fn body<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        self.bytes(body)
    }

    /// Replaces in every text and binary of a value. A map of `name` and `value` and an array of two texts are a header;
    /// what stands under the key `body` is a body.
    pub fn value(&self, value: &mut rmpv::Value) {
        match value {
            rmpv::Value::String(text) => {
                if let Some(Cow::Owned(replaced)) = text.as_str().map(|text| self.text(text)) {
                    *text = replaced.into();
                }
            }
            rmpv::Value::Binary(bytes) => {
                if let Cow::Owned(replaced) = self.bytes(bytes) {
                    *bytes = replaced;
                }
            }
            rmpv::Value::Array(values) => values.iter_mut().for_each(|value| self.value(value)),
            rmpv::Value::Map(fields) => {
                for (key, value) in fields {
                    self.value(key);
                    self.value(value);
                }
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokenizer({:?}, {:?})", self.key, self.policy)
    }
}
