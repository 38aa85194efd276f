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

mod decode;
mod forms;

use std::borrow::Cow;
use std::fmt;

use aho_corasick::automaton::Automaton as _;
use aho_corasick::{Anchored, nfa::contiguous};
use zeroize::Zeroizing;

use decode::Encoding;
use forms::Form;

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";
/// Bytes of the shortest value that is searched for.
pub const MIN_BYTES: usize = 4;
/// Bytes of the shortest line of a value of several lines that is searched for on its own: what a guest prints arrives
/// line by line, and a private key in PEM is never seen whole.
pub const MIN_LINE_BYTES: usize = 8;
/// Lines of all values that are searched for on their own: some twenty private keys.
const MAX_LINES: usize = 1024;
/// Bytes of each form that the automaton knows; a match is then compared with the whole form. Whole forms would take
/// 100 MB for the largest envelope, and the automaton cannot be wiped: it holds no more of a value than this.
pub const WINDOW: usize = 16;
/// Bytes compared for each byte of text before the rest counts as secret; ordinary texts need less than one.
const WORK_PER_BYTE: usize = 64;
/// The same for a text of any length.
const WORK: usize = 64 * 1024;
/// How often a text may be encoded one upon the other.
const DEPTH: usize = 2;

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
    Forms {
        automaton: Box<contiguous::NFA>,
        /// For each pattern of the automaton, the forms that begin with it.
        groups: Vec<Vec<usize>>,
        /// Sorted.
        forms: Vec<Form>,
    },
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
            Form::add_all(value.as_bytes(), &mut forms);
            if value.contains(char::is_control) {
                // At every control character, and not only at the ends of lines: where texts of others are shown, these are
                // replaced by blanks, and the value is not whole any more.
                let pieces = value.split(char::is_control);
                let long = pieces.map(str::trim).filter(|line| line.len() >= MIN_LINE_BYTES);
                for line in long.take(lines) {
                    lines -= 1;
                    Form::add_all(line.as_bytes(), &mut forms);
                }
            }
        }
        if forms.is_empty() {
            return Self::empty();
        }
        forms.sort_unstable_by(|a, b| a.bytes.as_slice().cmp(&b.bytes));
        forms.dedup_by(|other, kept| {
            let same = other.bytes == kept.bytes;
            if same {
                kept.left |= other.left;
                kept.right |= other.right;
            }
            same
        });
        let shortest = forms.iter().map(|form| form.bytes.len()).min().unwrap_or_default();
        let (mut patterns, mut groups): (Vec<&[u8]>, Vec<Vec<usize>>) = (Vec::new(), Vec::new());
        for (at, form) in forms.iter().enumerate() {
            let window = form.bytes.get(..WINDOW).unwrap_or(&form.bytes);
            // Sorted: forms that begin alike are neighbours.
            match groups.last_mut() {
                Some(group) if patterns.last() == Some(&window) => group.push(at),
                _ => {
                    patterns.push(window);
                    groups.push(vec![at]);
                }
            }
        }
        let built = contiguous::NFA::builder().prefilter(false).build(&patterns);
        let search = match built {
            Ok(automaton) => Search::Forms { automaton: Box::new(automaton), groups, forms },
            Err(_) => Search::Everything,
        };
        Self { search, spaces, shortest }
    }

    /// Whether every text stays as it is.
    pub fn is_empty(&self) -> bool {
        matches!(self.search, Search::Nothing)
    }

    /// Bytes held, about.
    pub(crate) fn memory(&self) -> usize {
        match &self.search {
            Search::Nothing | Search::Everything => 0,
            Search::Forms { automaton, groups, forms } => {
                let forms = forms.iter().map(|form| form.bytes.len() + 64).sum::<usize>();
                automaton.memory_usage() + groups.len() * 32 + forms
            }
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
            Search::Forms { .. } if !cut && text.len() < self.shortest => Vec::new(),
            Search::Forms { .. } => self.find_in(text, cut, 0, None),
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
        let Search::Forms { automaton, groups, forms } = &self.search else { return };
        let Ok(mut state) = automaton.start_state(Anchored::No) else { return };
        let mut budget = text.len().saturating_mul(WORK_PER_BYTE).saturating_add(WORK);
        for (at, byte) in text.iter().enumerate() {
            state = automaton.next_state(Anchored::No, state, *byte);
            if !(automaton.is_special(state) && automaton.is_match(state)) {
                continue;
            }
            for index in 0..automaton.match_len(state) {
                let pattern = automaton.match_pattern(state, index);
                let start = at + 1 - automaton.pattern_len(pattern);
                let here = text.get(start..).unwrap_or_default();
                let group = groups.get(pattern.as_usize()).into_iter().flatten();
                for form in group.filter_map(|at| forms.get(*at)) {
                    let same = form.bytes.iter().zip(here).take_while(|(a, b)| a == b).count();
                    budget = budget.saturating_sub(same + 1);
                    if budget == 0 {
                        spans.push((start, text.len()));
                        return;
                    }
                    if same == form.bytes.len() || (cut && same == here.len()) {
                        spans.push(form.around(text, start, start + same));
                    }
                }
            }
        }
        if cut {
            spans.extend(last_piece(text, forms));
        }
    }
}

/// The last bytes of a text where they are the beginning of a form; longer ones than a window have been found already.
fn last_piece(text: &[u8], forms: &[Form]) -> Option<Span> {
    for length in (MIN_BYTES..WINDOW).rev() {
        let Some(start) = text.len().checked_sub(length) else { continue };
        let piece = text.get(start..).unwrap_or_default();
        let first = forms.partition_point(|form| form.bytes.as_slice() < piece);
        if let Some(form) = forms.get(first)
            && form.bytes.starts_with(piece)
        {
            return Some(form.around(text, start, text.len()));
        }
    }
    None
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
