//! `Range` (RFC 9110, 14): one range of bytes. Several, another unit or nonsense is answered as if nothing had been asked.

use std::ops::Range;

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// 200.
    All,
    /// 206.
    Part(Range<u64>),
    /// 416.
    Outside,
}

/// Reads a `range` header against a file of `len` bytes.
pub(super) fn wanted(header: &str, len: u64) -> Wanted {
    let Some((unit, set)) = header.split_once('=') else { return Wanted::All };
    let Some((first, last)) = set.trim().split_once('-') else { return Wanted::All };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Wanted::All;
    }
    match (number(first), number(last)) {
        // The last so many.
        (Some(None), Some(Some(count))) if count > 0 && len > 0 => {
            Wanted::Part(len.saturating_sub(count)..len)
        }
        (Some(None), Some(Some(_))) => Wanted::Outside,
        (Some(Some(start)), Some(end)) => {
            if end.is_some_and(|end| end < start) {
                return Wanted::All;
            }
            let end = end.map_or(len, |end| end.saturating_add(1).min(len));
            if start < len { Wanted::Part(start..end) } else { Wanted::Outside }
        }
        _ => Wanted::All,
    }
}

/// `Some(None)` for an empty text, None for what is no number. One too large to count is larger than any file.
#[expect(clippy::option_option, reason = "absent, present and wrong are three things")]
fn number(text: &str) -> Option<Option<u64>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(None);
    }
    text.bytes().all(|b| b.is_ascii_digit()).then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_of_bytes_is_understood() {
        for (header, range) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-99", 0..10),
            ("bytes=3-", 3..10),
            ("bytes=-3", 7..10),
            ("bytes=-99", 0..10),
            ("BYTES = 2-4", 2..5),
            ("bytes=9-18446744073709551615", 9..10),
            ("bytes=0-99999999999999999999999", 0..10),
        ] {
            assert_eq!(wanted(header, 10), Wanted::Part(range), "{header}");
        }
    }

    #[test]
    fn a_range_behind_the_end_is_outside() {
        for header in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(wanted(header, 10), Wanted::Outside, "{header}");
        }
        assert_eq!(wanted("bytes=0-", 0), Wanted::Outside);
        assert_eq!(wanted("bytes=-5", 0), Wanted::Outside);
    }

    #[test]
    fn what_is_no_single_range_asks_for_everything() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-3",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=a-b",
            "bytes=+1-2",
        ] {
            assert_eq!(wanted(header, 10), Wanted::All, "{header}");
        }
    }
}
