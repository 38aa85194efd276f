//! From text to typed values. Nothing is guessed: what is not expected is refused.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::units;

/// A type that a setting can have.
pub trait FromSetting: Sized {
    /// Its values are never printed.
    const SECRET: bool = false;
    /// The flag alone means true.
    const SWITCH: bool = false;
    /// It has a value when nothing is set and there is no default.
    const OPTIONAL: bool = false;

    /// What a value looks like, to follow "expected" in an error and to stand in the documentation.
    fn expected() -> String;

    /// Reads a value; `None` when it is not as [`expected`](FromSetting::expected).
    fn parse(raw: &str) -> Option<Self>;

    /// The value when nothing is set and there is no default; `None` means the setting is required.
    fn absent() -> Option<Self> {
        None
    }

    /// The value as printed.
    fn show(&self) -> String;

    /// An offending text as printed in an error.
    fn show_raw(raw: &str) -> String {
        format!("{raw:?}")
    }
}

/// Finds `raw` among fixed words.
pub fn parse_choice<T: Copy>(raw: &str, choices: &[(&str, T)]) -> Option<T> {
    let raw = raw.trim();
    choices.iter().find(|(word, _)| *word == raw).map(|(_, value)| *value)
}

impl<T: FromSetting> FromSetting for Option<T> {
    const SECRET: bool = T::SECRET;
    const SWITCH: bool = T::SWITCH;
    const OPTIONAL: bool = true;

    fn expected() -> String {
        T::expected()
    }
    fn parse(raw: &str) -> Option<Self> {
        T::parse(raw).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
    fn show_raw(raw: &str) -> String {
        T::show_raw(raw)
    }
}

/// A comma-separated list; blanks around the items and empty items are ignored.
impl<T: FromSetting> FromSetting for Vec<T> {
    const SECRET: bool = T::SECRET;
    const OPTIONAL: bool = true;

    fn expected() -> String {
        format!("a comma-separated list, each item {}", T::expected())
    }
    fn parse(raw: &str) -> Option<Self> {
        raw.split(',').map(str::trim).filter(|item| !item.is_empty()).map(T::parse).collect()
    }
    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
    fn show(&self) -> String {
        self.iter().map(T::show).collect::<Vec<_>>().join(",")
    }
    fn show_raw(raw: &str) -> String {
        T::show_raw(raw)
    }
}

impl FromSetting for String {
    fn expected() -> String {
        "text".to_owned()
    }
    fn parse(raw: &str) -> Option<Self> {
        Some(raw.to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl FromSetting for bool {
    const SWITCH: bool = true;

    fn expected() -> String {
        "`true` or `false` (also 1/0, yes/no, on/off)".to_owned()
    }
    fn parse(raw: &str) -> Option<Self> {
        match raw.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Some(true),
            "0" | "false" | "no" | "off" => Some(false),
            _ => None,
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl FromSetting for PathBuf {
    fn expected() -> String {
        "a path".to_owned()
    }
    fn parse(raw: &str) -> Option<Self> {
        Some(PathBuf::from(raw))
    }
    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl FromSetting for SocketAddr {
    fn expected() -> String {
        "an address such as 127.0.0.1:8080".to_owned()
    }
    fn parse(raw: &str) -> Option<Self> {
        raw.trim().parse().ok()
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

/// Any absolute URL; the user and password in it are never printed.
impl FromSetting for Url {
    fn expected() -> String {
        "a URL such as http://host:port/path".to_owned()
    }
    fn parse(raw: &str) -> Option<Self> {
        raw.trim().parse().ok()
    }
    fn show(&self) -> String {
        redact_url(self.as_str())
    }
    fn show_raw(raw: &str) -> String {
        format!("{:?}", redact_url(raw))
    }
}

/// A NATS server; credentials in it are never printed.
impl FromSetting for async_nats::ServerAddr {
    fn expected() -> String {
        "a server such as nats://127.0.0.1:4222 or tls://host:4222".to_owned()
    }
    fn parse(raw: &str) -> Option<Self> {
        raw.trim().parse().ok().filter(|addr: &Self| matches!(addr.scheme(), "nats" | "tls"))
    }
    fn show(&self) -> String {
        redact_url(self.as_url_str())
    }
    fn show_raw(raw: &str) -> String {
        format!("{:?}", redact_url(raw))
    }
}

/// Replaces user and password of each URL in `raw` (text, since it may not be a valid URL): what stands before the last `@` of an authority.
pub(crate) fn redact_url(raw: &str) -> String {
    let one = |url: &str| {
        let start = url.find("://").map_or(0, |at| at + 3);
        let (scheme, rest) = url.split_at_checked(start).unwrap_or(("", url));
        match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}[redacted]@{host}"),
            None => url.to_owned(),
        }
    };
    raw.split(',').map(one).collect::<Vec<_>>().join(",")
}

impl FromSetting for Duration {
    fn expected() -> String {
        "a duration such as 500ms, 10s or 2m".to_owned()
    }
    fn parse(raw: &str) -> Option<Self> {
        units::parse_duration(raw, None)
    }
    fn show(&self) -> String {
        units::show_duration(*self)
    }
}

macro_rules! numbers {
    ($($ty:ty => $expected:expr),* $(,)?) => {$(
        impl FromSetting for $ty {
            fn expected() -> String {
                $expected.to_owned()
            }
            fn parse(raw: &str) -> Option<Self> {
                raw.trim().parse().ok()
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

numbers! {
    u8 => "a whole number from 0 to 255",
    u16 => "a whole number from 0 to 65535",
    u32 => "a whole number",
    u64 => "a whole number",
    usize => "a whole number",
    NonZeroU16 => "a whole number from 1 to 65535",
    NonZeroU32 => "a whole number above 0",
    NonZeroU64 => "a whole number above 0",
    NonZeroUsize => "a whole number above 0",
}
