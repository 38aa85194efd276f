//! Names of entries.

use super::{ArchiveError, ArchiveLimits};

/// A name that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// Plain segments joined by `/`; empty for the archive's own folder (`./`).
    pub path: String,
    /// Some segment starts with a dot.
    pub hidden: bool,
}

/// The beginning of a name, for messages: names reach 256 KiB before they are refused.
pub(super) fn shown(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw.get(..120).unwrap_or(raw)).into_owned()
}

/// Checks a raw name. `.` and empty segments are dropped (`./a//b/` is `a/b`), so that one file has one spelling and
/// the search for duplicates cannot be deceived.
pub(crate) fn check(raw: &[u8], limits: &ArchiveLimits) -> Result<Name, ArchiveError> {
    let bad = |problem| ArchiveError::Name { name: shown(raw), problem };
    let too_long =
        || ArchiveError::NameTooLong { name: shown(raw), bytes: limits.path_bytes, depth: limits.depth };
    if raw.is_empty() {
        return Err(bad("is empty"));
    }
    if raw.len() > limits.path_bytes {
        return Err(too_long());
    }
    let text = std::str::from_utf8(raw).map_err(|_| bad("is not UTF-8"))?;
    if text.starts_with('/') {
        return Err(bad("is absolute"));
    }
    if text.contains('\0') {
        return Err(bad("holds a NUL"));
    }
    // `\` is a separator elsewhere, and a line break forges log lines.
    if text.contains(|c: char| c == '\\' || c.is_control()) {
        return Err(bad("holds a backslash or control character"));
    }
    let segments: Vec<&str> = text.split('/').filter(|s| !matches!(*s, "" | ".")).collect();
    if segments.contains(&"..") {
        return Err(bad("leaves the archive's folder"));
    }
    // 255 bytes is what a file system takes for one segment.
    if segments.len() > limits.depth || segments.iter().any(|s| s.len() > 255) {
        return Err(too_long());
    }
    Ok(Name { hidden: segments.iter().any(|s| s.starts_with('.')), path: segments.join("/") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(raw: &str) -> Result<Name, ArchiveError> {
        check(raw.as_bytes(), &ArchiveLimits::default())
    }

    #[test]
    fn a_name_has_one_spelling() {
        for raw in ["a/b", "./a/b", "././a//b/", "a/./b"] {
            assert_eq!(checked(raw).unwrap(), Name { path: "a/b".into(), hidden: false }, "{raw}");
        }
        assert_eq!(checked("./").unwrap().path, "");
        assert_eq!(checked("ü/…").unwrap().path, "ü/…");
    }

    #[test]
    fn a_segment_with_a_leading_dot_is_hidden() {
        for raw in [".DS_Store", "ui/._x", ".git/config", "./.x", "a/...", "a/.ready"] {
            assert!(checked(raw).unwrap().hidden, "{raw}");
        }
        assert!(!checked("a.b/c..d").unwrap().hidden);
    }

    #[test]
    fn a_name_that_could_leave_or_deceive_is_refused() {
        for raw in ["", "/a", "//a", "..", "../a", "a/../b", "a/..", ".x/../../a", "a\\..\\b", "a\0b", "a\nb"]
        {
            assert!(checked(raw).is_err(), "{raw:?}");
        }
        assert!(check(b"a\xff", &ArchiveLimits::default()).is_err());
    }

    #[test]
    fn a_name_too_long_or_deep_is_refused() {
        assert!(matches!(checked(&"a/".repeat(300)), Err(ArchiveError::NameTooLong { .. })));
        assert!(matches!(checked(&"a/".repeat(33)), Err(ArchiveError::NameTooLong { .. })));
        assert!(matches!(checked(&"a".repeat(256)), Err(ArchiveError::NameTooLong { .. })));
        assert!(checked(&"a/".repeat(32)).is_ok());
    }
}
