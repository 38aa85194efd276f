//! Values of options: shares, and how times are shown.

use chrono::{DateTime, SecondsFormat, Utc};

/// Parses a share: `5%`, `0.5 %` or `0.05`; more than nothing and at most all.
///
/// # Errors
/// What was expected.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let expected =
        || format!("{text:?} is no share: expected more than 0 and at most 100%, such as 5% or 0.05");
    let (number, of) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (text, 1.0),
    };
    // Rust's numbers may also be `inf`, `1e9` and `+5`: nobody means them.
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(expected());
    }
    let share = number.parse::<f64>().map_err(|_| expected())? / of;
    if share > 0.0 && share <= 1.0 { Ok(share) } else { Err(expected()) }
}

/// `5 %`.
pub fn show_share(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Unix milliseconds as RFC 3339 in UTC; what is outside of time is shown as its number.
pub fn show_time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(DateTime::<Utc>::from_timestamp_millis);
    time.map_or_else(|| ms.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// Microseconds: `840 us`, `12.3 ms`, `1.25 s`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn show_micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1_000.0),
        _ => format!("{:.2} s", us as f64 / 1_000_000.0),
    }
}

/// A time as `parse_since` gives it, in Unix milliseconds.
pub fn millis(rfc3339: &str) -> Option<u64> {
    DateTime::parse_from_rfc3339(rfc3339).ok().and_then(|time| u64::try_from(time.timestamp_millis()).ok())
}

/// At most so many characters, with a mark where some are missing.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{} ...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_or_a_fraction() {
        for (text, share) in [("5%", 0.05), ("100%", 1.0), ("0.05", 0.05), ("1", 1.0), ("0.5 %", 0.005)] {
            assert!((parse_share(text).unwrap() - share).abs() < 1e-12, "{text}");
        }
        for bad in
            ["", "%", "0", "0%", "101%", "1.01", "-5%", "5%%", "five", "inf", "NaN", "1e-3", "+5%", "1.2.3%"]
        {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_and_times_are_shown_short() {
        assert_eq!([0.05, 1.0, 0.000_1].map(show_share), ["5 %", "100 %", "0.01 %"]);
        assert_eq!([840, 12_345, 1_250_000].map(show_micros), ["840 us", "12.3 ms", "1.25 s"]);
        assert_eq!(show_time(1_793_361_600_123), "2026-10-30T12:00:00.123Z");
        assert_eq!(show_time(u64::MAX), u64::MAX.to_string());
        assert_eq!(millis("2026-10-30T12:00:00.123Z"), Some(1_793_361_600_123));
        assert_eq!((cut("aä漢b", 3), cut("abc", 3)), ("aä漢 ...".to_owned(), "abc".to_owned()));
    }
}
