//! PAX extended headers: records `LENGTH KEY=VALUE\n`, the length counting itself.
//!
//! Read here because the tar crate splits records at line breaks, and macOS writes extended attributes whose bytes
//! hold line breaks.

use super::ArchiveError;

/// What matters of one header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    /// Replaces the entry's name.
    pub path: Option<Vec<u8>>,
    /// Replaces the entry's size.
    pub size: Option<u64>,
    /// The entry is a sparse file.
    pub sparse: bool,
}

/// Reads the records; a later record of the same key wins, as POSIX has it.
pub(super) fn parse(mut data: &[u8]) -> Result<Pax, ArchiveError> {
    const BAD: ArchiveError = ArchiveError::Header("a PAX header is malformed");
    let mut pax = Pax::default();
    while !data.is_empty() {
        let space = data.iter().take(20).position(|b| *b == b' ').ok_or(BAD)?;
        let (digits, _) = data.split_at(space);
        let len: usize = std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()).ok_or(BAD)?;
        let (record, rest) = data.split_at_checked(len).ok_or(BAD)?;
        let record = record.get(space + 1..).and_then(|r| r.strip_suffix(b"\n")).ok_or(BAD)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or(BAD)?;
        let (key, value) = record.split_at(equals);
        let value = value.get(1..).unwrap_or_default();
        match key {
            b"path" => pax.path = Some(value.to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).ok_or(BAD)?;
                pax.size = Some(size);
            }
            key if key.starts_with(b"GNU.sparse.") => pax.sparse = true,
            _ => {}
        }
        data = rest;
    }
    Ok(pax)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_by_length_so_that_a_value_may_hold_anything() {
        let pax = parse(b"17 path=ui/a.html\n20 SCHILY.xattr.a=\n\n\n11 size=42\n");
        assert!(pax.is_err(), "a length that does not fit its record");
        let pax = parse(b"18 path=ui/a.html\n21 SCHILY.xattr.a=\n\n\n11 size=42\n").unwrap();
        assert_eq!(pax, Pax { path: Some(b"ui/a.html".to_vec()), size: Some(42), sparse: false });
        assert!(parse(b"22 GNU.sparse.major=1\n").unwrap().sparse);
    }

    #[test]
    fn a_malformed_header_is_refused() {
        for bad in [
            &b"x"[..],
            b"5 a=b",
            b"99 a=b\n",
            b"6 ab\n\n",
            b"0 a=b\n",
            b"1 a=b\n",
            b"-6 a=b\n",
            b"8 size=x\n",
        ] {
            assert!(parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
