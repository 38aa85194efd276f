//! Values that are searched for, and their tokens.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::redact::MIN_BYTES;
use crate::redact::forms::{Form, Kind, MAX_LINES, pieces};
use crate::redact::search::Search;

use super::TokenKey;
use super::derive;
use super::edits::{Edit, Left, disjoint};

/// How often a token is drawn again that contains a value: what stands for a secret must not be taken for one.
const DRAWS: u32 = 16;
/// How far the alphabet of a piece of base64 or hex is looked for to both sides.
const ALPHABET_REACH: usize = 256;

/// A value, or a line of one.
struct Piece {
    value: Zeroizing<Vec<u8>>,
    token: Vec<u8>,
}

/// A set of values.
pub(crate) struct Known {
    search: Option<Search>,
    pieces: Vec<Piece>,
    /// There are too many to search for: everything counts as secret. Out of reach of what an envelope may hold.
    everything: bool,
    /// Some value has a space.
    pub(super) spaces: bool,
}

/// A digit of base64 that holds bits of a value and of its neighbour.
struct Shared {
    at: usize,
    mask: u8,
    bits: u8,
}

struct Hit<'f> {
    form: &'f Form,
    start: usize,
    end: usize,
}

impl Known {
    /// These values with tokens under this key.
    pub(crate) fn new<'v>(key: &TokenKey, values: impl IntoIterator<Item = &'v str>) -> Self {
        let values = values.into_iter().filter(|value| value.len() >= MIN_BYTES);
        let mut known = Self::of(values.map(|value| (value, derive::token(key, value.as_bytes(), 0))));
        for at in 0..known.pieces.len() {
            for draw in 1..DRAWS {
                let Some(Piece { value, token }) = known.pieces.get(at) else { break };
                if !known.occurs(token) {
                    break;
                }
                let again = derive::token(key, value, draw);
                if let Some(piece) = known.pieces.get_mut(at) {
                    piece.token = again;
                }
            }
        }
        known
    }

    /// These values with their tokens, which are as long.
    pub(super) fn of<'v>(values: impl IntoIterator<Item = (&'v str, Vec<u8>)>) -> Self {
        let (mut parts, mut forms) = (Vec::new(), Vec::new());
        let mut lines = MAX_LINES;
        let mut spaces = false;
        for (value, token) in values {
            spaces |= value.contains(' ');
            for place in pieces(value, &mut lines) {
                let value = value.as_bytes().get(place.clone()).unwrap_or_default();
                // Byte for byte beside its value: a line's token is the line of the token.
                let token = token.get(place).unwrap_or_default().to_vec();
                Form::add_all(value, parts.len(), &mut forms);
                parts.push(Piece { value: Zeroizing::new(value.to_vec()), token });
            }
        }
        if forms.is_empty() {
            return Self { search: None, pieces: parts, everything: false, spaces };
        }
        let search = Search::new(forms);
        Self { everything: search.is_err(), search: search.ok(), pieces: parts, spaces }
    }

    /// Whether nothing can be found.
    pub(super) fn is_empty(&self) -> bool {
        self.search.is_none() && !self.everything
    }

    /// Bytes of the shortest text in which anything can be found.
    pub(super) fn shortest(&self) -> usize {
        self.search.as_ref().map_or(0, Search::shortest)
    }

    /// The token of a whole value; none if it is not one of these.
    pub(super) fn token(&self, value: &[u8]) -> Option<&[u8]> {
        self.pieces.iter().find(|piece| *piece.value == value).map(|piece| piece.token.as_slice())
    }

    /// Whether this is the token of one of them.
    pub(super) fn is_token(&self, text: &[u8]) -> bool {
        self.pieces.iter().any(|piece| piece.token == text)
    }

    /// Whether a form of any value is in the text as it is.
    pub(super) fn occurs(&self, text: &[u8]) -> bool {
        let mut found = self.everything;
        if let Some(search) = &self.search {
            let rest = search.scan(text, false, |_, _, _| found = true);
            found |= rest.is_some();
        }
        found
    }

    /// The edits that put tokens in place of the values in the text as it is: disjoint, in no order. `mask` replaces
    /// what must go and has no token of its own.
    pub(super) fn find(&self, text: &[u8], mask: &impl Fn(&[u8]) -> Vec<u8>) -> Vec<Edit> {
        if self.everything {
            return vec![Edit { start: 0, end: text.len(), new: mask(text) }];
        }
        let Some(search) = &self.search else { return Vec::new() };
        let mut hits: Vec<Hit<'_>> = Vec::new();
        let rest = search.scan(text, false, |form, start, end| {
            // Of those that begin at one place, the longest: secrets that begin alike could fill the memory. The window's
            // end decides when a hit is reported, so they are near each other.
            let near = hits.iter_mut().rev().take(crate::redact::WINDOW);
            match near.into_iter().find(|hit| hit.start == start) {
                Some(hit) if hit.end < end => *hit = Hit { form, start, end },
                Some(_) => {}
                None => hits.push(Hit { form, start, end }),
            }
        });
        let mut edits = Vec::new();
        if let Some(start) = rest {
            let cut = hits.iter().filter(|hit| hit.end > start).map(|hit| hit.start).min();
            let start = cut.map_or(start, |cut| cut.min(start));
            edits.push(Edit { start, end: text.len(), new: mask(text.get(start..).unwrap_or_default()) });
            hits.retain(|hit| hit.end <= start);
        }
        let spans: Vec<(usize, usize)> = hits.iter().map(|hit| (hit.start, hit.end)).collect();
        let mut shared = Vec::new();
        for Left { index, start, end } in disjoint(&spans) {
            let Some(hit) = hits.get(index) else { continue };
            let whole = (hit.start, hit.end) == (start, end);
            let new = if whole { self.form(hit, text, &mut shared) } else { None };
            let new = new.unwrap_or_else(|| mask(text.get(start..end).unwrap_or_default()));
            edits.push(Edit { start, end, new });
        }
        share(text, shared, &mut edits);
        edits
    }

    /// The form of the token that belongs to a hit.
    fn form(&self, hit: &Hit<'_>, text: &[u8], shared: &mut Vec<Shared>) -> Option<Vec<u8>> {
        let piece = self.pieces.get(hit.form.owner)?;
        Some(match hit.form.kind {
            Kind::Raw => piece.token.clone(),
            Kind::Hex { .. } if is_upper(text, hit.start, hit.end) => {
                hex::encode_upper(&piece.token).into_bytes()
            }
            Kind::Hex { .. } => hex::encode(&piece.token).into_bytes(),
            Kind::Base64 { before, url } => {
                let url = url || is_url(text, hit.start, hit.end);
                let (from, to) = ((before * 8).div_ceil(6), (before + piece.value.len()) * 8 / 6);
                let (old, new) = (digits(before, &piece.value, url), digits(before, &piece.token, url));
                let mut edge = |at: Option<usize>, digit: usize, mask: u8| {
                    let number = |digits: &[u8]| digits.get(digit).and_then(|digit| number(*digit));
                    let (Some(at), Some(old), Some(new)) = (at, number(&old), number(&new)) else { return };
                    // Another number there: the text was cut off, and the digit belongs to somebody else.
                    let here = text.get(at).and_then(|digit| self::number(*digit));
                    if here.is_some_and(|here| here & mask == old & mask) {
                        shared.push(Shared { at, mask, bits: new & mask });
                    }
                };
                if before > 0 {
                    edge(hit.start.checked_sub(1), from - 1, (1 << (6 * from - 8 * before)) - 1);
                }
                let more = (before + piece.value.len()) * 8 % 6;
                if more > 0 {
                    edge(Some(hit.end), to, !((1 << (6 - more)) - 1) & 63);
                }
                new.get(from..to)?.to_vec()
            }
        })
    }
}

/// The digits of a value that has so many zero bytes before it.
fn digits(before: usize, value: &[u8], url: bool) -> Zeroizing<Vec<u8>> {
    let mut padded = Zeroizing::new(vec![0; before + value.len()]);
    if let Some(place) = padded.get_mut(before..) {
        place.copy_from_slice(value);
    }
    let engine = if url { URL_SAFE_NO_PAD } else { STANDARD_NO_PAD };
    Zeroizing::new(engine.encode(&*padded).into_bytes())
}

/// Edits for digits that several share: each sets its own bits.
fn share(text: &[u8], mut shared: Vec<Shared>, edits: &mut Vec<Edit>) {
    if shared.is_empty() {
        return;
    }
    shared.sort_by_key(|shared| shared.at);
    edits.sort_unstable_by_key(|edit| edit.start);
    let mut more = Vec::new();
    let mut rest = shared.as_slice();
    while let Some(first) = rest.first() {
        let (same, others) = rest.split_at(rest.partition_point(|shared| shared.at == first.at));
        rest = others;
        let Some(old) = text.get(first.at).and_then(|digit| number(*digit)) else { continue };
        let new = same.iter().fold(old, |value, shared| (value & !shared.mask) | shared.bits);
        // Inside another hit, which has replaced it already.
        let next = edits.partition_point(|edit| edit.start <= first.at);
        let inside = next.checked_sub(1).and_then(|at| edits.get(at)).is_some_and(|edit| edit.end > first.at);
        if new != old && !inside {
            let url = is_url(text, first.at, first.at + 1);
            more.push(Edit { start: first.at, end: first.at + 1, new: vec![digit(new, url)] });
        }
    }
    edits.append(&mut more);
}

/// What a digit of base64 stands for, in either alphabet.
fn number(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

fn digit(number: u8, url: bool) -> u8 {
    match number {
        0..26 => b'A' + number,
        26..52 => b'a' + number - 26,
        52..62 => b'0' + number - 52,
        62 if url => b'-',
        62 => b'+',
        _ if url => b'_',
        _ => b'/',
    }
}

/// Whether the base64 around these digits is that for URLs: the nearest digit that tells does. Without one, the token's
/// alphabet is the standard one; only tokens beyond ASCII have such digits where their values have none.
fn is_url(text: &[u8], start: usize, end: usize) -> bool {
    let tell = |digit: &u8| match digit {
        b'-' | b'_' => Some(true),
        b'+' | b'/' => Some(false),
        _ => None,
    };
    nearest(text, start, end, |digit| number(*digit).is_some(), tell).unwrap_or(false)
}

/// Whether the hex around these digits has upper-case letters. Without any, the token's are lower case.
fn is_upper(text: &[u8], start: usize, end: usize) -> bool {
    let tell = |digit: &u8| digit.is_ascii_alphabetic().then(|| digit.is_ascii_uppercase());
    nearest(text, start, end, u8::is_ascii_hexdigit, tell).unwrap_or(false)
}

/// What the first digit that tells says: of those inside, after, before.
fn nearest(
    text: &[u8],
    start: usize,
    end: usize,
    is_digit: impl Fn(&u8) -> bool,
    tell: impl Fn(&u8) -> Option<bool>,
) -> Option<bool> {
    let inside = text.get(start..end).unwrap_or_default().iter().find_map(&tell);
    let digits = |digit: &&u8| is_digit(digit);
    let after = text.get(end..).unwrap_or_default().iter().take(ALPHABET_REACH).take_while(digits);
    let before = text.get(..start).unwrap_or_default().iter().rev().take(ALPHABET_REACH).take_while(digits);
    inside.or_else(|| after.chain(before).find_map(tell))
}
