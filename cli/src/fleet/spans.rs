//! Spans of time on the command line: `90d`, `12h`, `30m`, `45s`; and times of day.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

/// Parses a span: a number and `s`, `m`, `h` or `d`; more than ten years is a typing error.
///
/// # Errors
/// What was expected.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is no span of time: expected a number and s, m, h or d, such as 12h");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(expected()),
    };
    let outside = || format!("{text:?} is outside of what makes sense: 1s to 3653d (ten years)");
    let number: u64 = number.parse().map_err(|_| outside())?;
    let seconds =
        number.checked_mul(unit).filter(|s| (1..=3_653 * 86_400).contains(s)).ok_or_else(outside)?;
    Ok(Duration::from_secs(seconds))
}

/// A time: RFC 3339, or a span before now. Gives RFC 3339 in UTC.
///
/// # Errors
/// What was expected.
pub fn parse_since(text: &str) -> Result<String, String> {
    let time = match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.to_utc(),
        Err(_) => {
            let span = parse_span(text).map_err(|_| {
                format!(
                    "{text:?}: expected a time such as 2026-01-31T12:00:00Z, or a span before now such as 12h"
                )
            })?;
            Utc::now() - span
        }
    };
    Ok(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// `1.2 s`, `3 min`.
pub fn show_millis(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..120_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => format!("{} min", millis / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        assert_eq!(parse_span("90d").unwrap().as_secs(), 90 * 86_400);
        assert_eq!(parse_span("45s").unwrap().as_secs(), 45);
        for bad in ["", "5", "h", "0s", "-5m", "1.5h", "5w", "5 m", "99999999999999999999d", "4000d"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
        for outside in ["99999999999999999999d", "4000d", "0s"] {
            assert!(parse_span(outside).unwrap_err().contains("outside"), "{outside}");
        }
    }

    #[test]
    fn a_time_may_be_named_or_counted_back_from_now() {
        assert_eq!(parse_since("2026-01-31T12:00:00+01:00").unwrap(), "2026-01-31T11:00:00Z");
        assert!(parse_since("1h").unwrap().ends_with('Z'));
        assert!(parse_since("yesterday").unwrap_err().contains("2026-01-31T12:00:00Z"));
    }

    #[test]
    fn times_are_shown_as_people_say_them() {
        assert_eq!([999, 1_250, 119_999, 180_000].map(show_millis), ["999 ms", "1.2 s", "119.9 s", "3 min"]);
    }
}
