//! The forms of a value that are searched as they are; what can be decoded byte by byte is in [`super::decode`].

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// One text that gives a secret away.
pub(super) struct Form {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// The digit of base64 before it holds bits of the value, too.
    pub(super) left: bool,
    /// The one after it does.
    pub(super) right: bool,
}

impl Form {
    /// Adds every form of a value.
    pub(super) fn add_all(value: &[u8], forms: &mut Vec<Self>) {
        let plain = |bytes: Vec<u8>| Self { bytes: Zeroizing::new(bytes), left: false, right: false };
        forms.push(plain(value.to_vec()));
        forms.push(plain(hex::encode(value).into_bytes()));
        forms.push(plain(hex::encode_upper(value).into_bytes()));
        for before in 0..3 {
            // Where the value stands in a longer text decides about its digits; those at the edges hold bits of the
            // neighbours and are left to `left` and `right`.
            let mut padded = Zeroizing::new(vec![0; before + value.len()]);
            if let Some(place) = padded.get_mut(before..) {
                place.copy_from_slice(value);
            }
            let (from, to) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                let digits = Zeroizing::new(engine.encode(&*padded));
                let bytes = digits.as_bytes().get(from..to).unwrap_or_default().to_vec();
                let right = !(padded.len() * 8).is_multiple_of(6);
                forms.push(Self { bytes: Zeroizing::new(bytes), left: before > 0, right });
            }
        }
    }

    /// Where the form at `start` really begins and ends: with the digits of base64 that hold bits of it.
    pub(super) fn around(&self, text: &[u8], mut start: usize, mut end: usize) -> (usize, usize) {
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
