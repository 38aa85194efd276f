//! Durations and sizes with their units in the type.

use std::fmt;
use std::time::Duration;

use super::FromSetting;

/// A duration whose plain number means milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub Duration);

/// A duration whose plain number means seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub Duration);

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl Millis {
    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Seconds {
    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl ByteSize {
    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes, or the largest number that this machine can address.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromSetting for Millis {
    fn expected() -> String {
        "milliseconds, or a duration such as 500ms, 10s or 2m".to_owned()
    }
    fn parse(raw: &str) -> Option<Self> {
        parse_duration(raw, Some(Duration::from_millis(1))).map(Self)
    }
    fn show(&self) -> String {
        show_duration(self.0)
    }
}

impl FromSetting for Seconds {
    fn expected() -> String {
        "seconds, or a duration such as 500ms, 10s or 2m".to_owned()
    }
    fn parse(raw: &str) -> Option<Self> {
        parse_duration(raw, Some(Duration::from_secs(1))).map(Self)
    }
    fn show(&self) -> String {
        show_duration(self.0)
    }
}

impl FromSetting for ByteSize {
    fn expected() -> String {
        "bytes, or a size such as 512KiB, 64MiB or 10GiB".to_owned()
    }
    fn parse(raw: &str) -> Option<Self> {
        let (number, unit) = split(raw)?;
        let factor = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return None,
        };
        number.checked_mul(factor).map(Self)
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A whole number and the unit after it. `None` when there is no number or it does not fit 64 bits.
fn split(raw: &str) -> Option<(u64, &str)> {
    let raw = raw.trim();
    let digits = raw.find(|c: char| !c.is_ascii_digit()).unwrap_or(raw.len());
    let (number, unit) = raw.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

pub(super) fn parse_duration(raw: &str, plain: Option<Duration>) -> Option<Duration> {
    let (number, unit) = split(raw)?;
    let millis = match unit {
        "" => u64::try_from(plain?.as_millis()).ok()?,
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

pub(super) fn show_duration(duration: Duration) -> String {
    match duration.as_millis() {
        millis if millis % 1_000 == 0 => format!("{}s", millis / 1_000),
        millis => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_number_has_the_unit_of_its_type() {
        assert_eq!(Millis::parse("5000").unwrap().get(), Duration::from_secs(5));
        assert_eq!(Seconds::parse("5").unwrap().get(), Duration::from_secs(5));
        assert_eq!(Duration::parse("5"), None, "a bare duration has no unit to fall back to");
    }

    #[test]
    fn durations_take_units_and_refuse_the_rest() {
        for (raw, millis) in [("500ms", 500), ("10s", 10_000), (" 2m ", 120_000), ("1 h", 3_600_000)] {
            assert_eq!(Millis::parse(raw).unwrap().get(), Duration::from_millis(millis), "{raw}");
        }
        for raw in ["", "s", "-1s", "1.5s", "10 sec", "10S", "1s500ms", "99999999999999999999s"] {
            assert_eq!(Millis::parse(raw), None, "{raw}");
        }
    }

    #[test]
    fn sizes_take_binary_units_and_refuse_the_rest() {
        for (raw, bytes) in
            [("0", 0), ("512", 512), ("512KiB", 524_288), ("64MiB", 67_108_864), ("10GiB", 10 << 30)]
        {
            assert_eq!(ByteSize::parse(raw).unwrap().bytes(), bytes, "{raw}");
        }
        for raw in ["", "KiB", "64MB", "64mib", "-1", "1.5GiB", "18446744073709551615KiB"] {
            assert_eq!(ByteSize::parse(raw), None, "{raw}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same_value() {
        for bytes in [0, 1, 1024, 1536, 64 << 20, 10 << 30] {
            assert_eq!(ByteSize::parse(&ByteSize(bytes).show()), Some(ByteSize(bytes)));
        }
        for millis in [0, 1, 1_000, 1_500, 60_000] {
            let value = Millis(Duration::from_millis(millis));
            assert_eq!(Millis::parse(&value.show()), Some(value));
        }
    }
}
