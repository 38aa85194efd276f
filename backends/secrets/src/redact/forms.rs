//! The forms of a value that are searched as they are; what can be decoded byte by byte is in [`super::decode`].

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// Bytes of the shortest line of a value of several lines that is searched for on its own: what a guest prints arrives
/// line by line, and a private key in PEM is never seen whole.
pub const MIN_LINE_BYTES: usize = 8;
/// Lines of all values that are searched for on their own: some twenty private keys.
pub(crate) const MAX_LINES: usize = 1024;

/// What was made of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Raw,
    Hex {
        upper: bool,
    },
    /// The digits that hold nothing but bits of the value.
    Base64 {
        /// How many bytes stand before the value, modulo 3.
        before: usize,
        url: bool,
    },
}

/// One text that gives a secret away.
pub(crate) struct Form {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) kind: Kind,
    /// Whose form it is: a number of whoever made it.
    pub(crate) owner: usize,
    /// The digit of base64 before it holds bits of the value, too.
    left: bool,
    /// The one after it does.
    right: bool,
}

/// Where in a value the texts are that are searched for: the whole, and its lines.
pub(crate) fn pieces(value: &str, lines: &mut usize) -> Vec<Range<usize>> {
    let mut pieces = Vec::from([Range { start: 0, end: value.len() }]);
    if value.contains(char::is_control) {
        // At every control character, and not only at the ends of lines: where texts of others are shown, these are
        // replaced by blanks, and the value is not whole any more.
        let begin = value.as_ptr() as usize;
        let long = value.split(char::is_control).map(str::trim).filter(|line| line.len() >= MIN_LINE_BYTES);
        for line in long.take(*lines) {
            *lines -= 1;
            let from = line.as_ptr() as usize - begin;
            pieces.push(from..from + line.len());
        }
    }
    pieces
}

impl Form {
    /// Adds every form of a value.
    pub(crate) fn add_all(value: &[u8], owner: usize, forms: &mut Vec<Self>) {
        let plain = |bytes: Vec<u8>, kind| {
            let bytes = Zeroizing::new(bytes);
            Self { bytes, kind, owner, left: false, right: false }
        };
        forms.push(plain(value.to_vec(), Kind::Raw));
        forms.push(plain(hex::encode(value).into_bytes(), Kind::Hex { upper: false }));
        forms.push(plain(hex::encode_upper(value).into_bytes(), Kind::Hex { upper: true }));
        for before in 0..3 {
            // Where the value stands in a longer text decides about its digits; those at the edges hold bits of the
            // neighbours and are left to `left` and `right`.
            let mut padded = Zeroizing::new(vec![0; before + value.len()]);
            if let Some(place) = padded.get_mut(before..) {
                place.copy_from_slice(value);
            }
            let (from, to) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
            for (engine, url) in [(STANDARD_NO_PAD, false), (URL_SAFE_NO_PAD, true)] {
                let digits = Zeroizing::new(engine.encode(&*padded));
                let bytes = digits.as_bytes().get(from..to).unwrap_or_default().to_vec();
                let right = !(padded.len() * 8).is_multiple_of(6);
                let kind = Kind::Base64 { before, url };
                forms.push(Self { bytes: Zeroizing::new(bytes), kind, owner, left: before > 0, right });
            }
        }
    }

    /// Takes what an equal form of another value, or at another place, says.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.left |= other.left;
        self.right |= other.right;
    }

    /// Where the form at `start` really begins and ends: with the digits of base64 that hold bits of it.
    pub(crate) fn around(&self, text: &[u8], mut start: usize, mut end: usize) -> (usize, usize) {
        let digit =
            |at: usize| text.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || b"+/-_".contains(b));
        if self.left && start > 0 && digit(start - 1) {
            start -= 1;
        }
        if self.right && digit(end) {
            end += 1;
        }
        (start, end)
    }
}
