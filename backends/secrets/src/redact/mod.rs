//! Finding secrets in texts that are shown, logged, recorded or answered, and putting `[redacted]` in their place.
//!
//! Found are: the value itself; its base64, standard and URL-safe, padded or not, also inside the base64 of a longer
//! text; its hex, all lower or all upper case; and each of these percent-encoded, form-encoded or JSON-escaped, in any
//! mixture and case, twice over too; of a value of several lines, each line of [`MIN_LINE_BYTES`] bytes as well. Not found are values of fewer than [`MIN_BYTES`] bytes (removing every `a` would
//! leave nothing to read) and what a guest encodes in a way of its own: this keeps secrets out of outputs by mistake,
//! not by intent; an extension that shall not leak a value gets a handle instead.
//!
//! The time is linear in the text, whatever secrets and text are: comparing has a budget, and what is left of the text
//! when it is used up is redacted as a whole.

pub(crate) mod decode;
pub(crate) mod forms;
pub(crate) mod search;

use std::borrow::Cow;
use std::fmt;

use zeroize::Zeroizing;

use decode::Encoding;
pub use forms::MIN_LINE_BYTES;
use forms::{Form, MAX_LINES, pieces};
use search::Search as Forms;
pub use search::WINDOW;

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";
/// Bytes of the shortest value that is searched for.
pub const MIN_BYTES: usize = 4;
/// How often a text may be encoded one upon the other.
pub(crate) const DEPTH: usize = 2;

type Span = (usize, usize);

/// Removes the values of one set of secrets from texts.
pub struct Redactor {
    search: Search,
    /// Some value has a space.
    spaces: bool,
    /// Bytes of the shortest form. Decoding makes no text longer, so a shorter text holds no secret, however it is
    /// encoded; most of what is looked at are such texts (names of fields, ids, numbers).
    shortest: usize,
}

enum Search {
    /// There are no values.
    Nothing,
    /// There are too many to search for: everything is secret. Out of reach of what an envelope may hold.
    Everything,
    Forms(Box<Forms>),
}

impl Redactor {
    /// One that leaves every text as it is.
    pub fn empty() -> Self {
        Self { search: Search::Nothing, spaces: false, shortest: 0 }
    }

    /// One for these values.
    pub fn new<'v>(values: impl IntoIterator<Item = &'v str>) -> Self {
        let mut forms = Vec::new();
        let mut spaces = false;
        let mut lines = MAX_LINES;
        for value in values.into_iter().filter(|value| value.len() >= MIN_BYTES) {
            spaces |= value.contains(' ');
            for piece in pieces(value, &mut lines) {
                Form::add_all(value.as_bytes().get(piece).unwrap_or_default(), 0, &mut forms);
            }
        }
        if forms.is_empty() {
            return Self::empty();
        }
        match Forms::new(forms) {
            Ok(forms) => Self { shortest: forms.shortest(), search: Search::Forms(Box::new(forms)), spaces },
            Err(_) => Self { search: Search::Everything, spaces, shortest: 0 },
        }
    }

    /// Whether every text stays as it is.
    pub fn is_empty(&self) -> bool {
        matches!(self.search, Search::Nothing)
    }

    /// Bytes held, about.
    pub(crate) fn memory(&self) -> usize {
        match &self.search {
            Search::Nothing | Search::Everything => 0,
            Search::Forms(forms) => forms.memory(),
        }
    }

    /// The text without secrets.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        replace_text(text, self.find(text.as_bytes(), false))
    }

    /// The text without secrets, of one that was cut off at its end: a last piece of at least [`MIN_BYTES`] bytes that
    /// is the beginning of a secret goes, too.
    pub fn redact_cut<'a>(&self, text: &'a str) -> Cow<'a, str> {
        replace_text(text, self.find(text.as_bytes(), true))
    }

    /// The bytes without secrets.
    pub fn redact_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let spans = self.find(bytes, false);
        if spans.is_empty() { Cow::Borrowed(bytes) } else { Cow::Owned(replace(bytes, &spans)) }
    }

    /// Removes secrets from all texts of a JSON value: keys, strings, and numbers whose digits are a secret.
    pub fn redact_json(&self, value: &mut serde_json::Value) {
        use serde_json::Value;
        if self.is_empty() {
            return;
        }
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => {
                if let Cow::Owned(text) = self.redact(&number.to_string()) {
                    *value = Value::String(text);
                }
            }
            Value::String(text) => {
                if let Cow::Owned(redacted) = self.redact(text) {
                    drop(Zeroizing::new(std::mem::replace(text, redacted)));
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.redact_json(value)),
            Value::Object(fields) => {
                fields.values_mut().for_each(|value| self.redact_json(value));
                let keys: Vec<(String, String)> = fields
                    .keys()
                    .filter_map(|key| match self.redact(key) {
                        Cow::Owned(redacted) => Some((key.clone(), redacted)),
                        Cow::Borrowed(_) => None,
                    })
                    .collect();
                for (key, mut redacted) in keys {
                    let Some(value) = fields.remove(&key) else { continue };
                    // Two keys may become one; neither value goes.
                    while fields.contains_key(&redacted) {
                        redacted.push('_');
                    }
                    fields.insert(redacted, value);
                }
            }
        }
    }

    /// Where secrets are: sorted, apart.
    fn find(&self, text: &[u8], cut: bool) -> Vec<Span> {
        match &self.search {
            Search::Nothing => Vec::new(),
            Search::Everything if text.is_empty() => Vec::new(),
            Search::Everything => vec![(0, text.len())],
            // Of a secret that was cut off, less than a form may be there.
            Search::Forms(_) if !cut && text.len() < self.shortest => Vec::new(),
            Search::Forms(_) => self.find_in(text, cut, 0, None),
        }
    }

    fn find_in(&self, text: &[u8], cut: bool, depth: usize, within: Option<Encoding>) -> Vec<Span> {
        let mut spans = Vec::new();
        self.scan(text, cut, &mut spans);
        if depth < DEPTH {
            for encoding in [Encoding::Json, Encoding::Percent, Encoding::Form] {
                // Nobody form-encodes twice without percent signs.
                let again = within == Some(Encoding::Form) && encoding == Encoding::Form;
                if again || !encoding.applies(text, self.spaces) {
                    continue;
                }
                let decoded = encoding.decode(text, cut);
                let mut found = self.find_in(&decoded, cut, depth + 1, Some(encoding));
                encoding.translate(text, cut, &mut found);
                spans.append(&mut found);
            }
        }
        merge(spans)
    }

    fn scan(&self, text: &[u8], cut: bool, spans: &mut Vec<Span>) {
        let Search::Forms(forms) = &self.search else { return };
        let rest = forms.scan(text, cut, |form, start, end| spans.push(form.around(text, start, end)));
        spans.extend(rest.map(|start| (start, text.len())));
    }
}

fn merge(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for (start, end) in spans {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

fn replace(text: &[u8], spans: &[Span]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + spans.len() * REDACTED.len());
    let mut from = 0;
    for (start, end) in spans {
        out.extend_from_slice(text.get(from..*start).unwrap_or_default());
        out.extend_from_slice(REDACTED.as_bytes());
        from = *end;
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    out
}

fn replace_text(text: &str, mut spans: Vec<Span>) -> Cow<'_, str> {
    if spans.is_empty() {
        return Cow::Borrowed(text);
    }
    // A form of text begins and ends between characters; what a mixture of encodings may give is widened to them.
    for (start, end) in &mut spans {
        *start = text.floor_char_boundary(*start);
        *end = text.ceil_char_boundary(*end);
    }
    let bytes = replace(text.as_bytes(), &merge(spans));
    Cow::Owned(String::from_utf8(bytes).unwrap_or_else(|_| REDACTED.to_owned()))
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

#[cfg(test)]
mod tests;
