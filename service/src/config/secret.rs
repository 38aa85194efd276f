//! Strings that are never printed.

use std::fmt;

use subtle::ConstantTimeEq;

use super::FromSetting;

/// What is printed in place of a secret.
pub(super) const REDACTED: &str = "[redacted]";

/// A password, key or token. `Debug` and `Display` print `[redacted]`.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself; only for handing it to whom it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in time that depends on the lengths only, for tokens that callers present.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl FromSetting for Secret {
    const SECRET: bool = true;

    fn expected() -> String {
        "a secret".to_owned()
    }
    fn parse(raw: &str) -> Option<Self> {
        Some(Self::new(raw))
    }
    fn show(&self) -> String {
        REDACTED.to_owned()
    }
    fn show_raw(_raw: &str) -> String {
        REDACTED.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "[redacted] [redacted] Some([redacted])"
        );
        assert_eq!(secret.show(), "[redacted]");
        assert_eq!(Secret::show_raw("hunter2"), "[redacted]");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn only_the_same_bytes_match() {
        let secret = Secret::new("hunter2");
        assert!(secret.matches(b"hunter2"));
        for wrong in [&b""[..], b"hunter", b"hunter3", b"hunter22"] {
            assert!(!secret.matches(wrong));
        }
    }
}
