//! From the text of a request's path to what is asked for. Everything here comes from a stranger.

use longshore_proto::{ContentHash, ExtensionId};
use percent_encoding::percent_decode_str;

use super::media;

/// Bytes of a decoded path below the hash, and folders in it: more than any archive may hold (512 bytes).
const MAX_PATH: usize = 1024;
const MAX_DEPTH: usize = 32;

/// Why a path asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathError {
    /// 400 `invalid content hash`.
    Hash,
    /// 400 `invalid path`.
    Path,
    /// 404: no id of an extension, or not even two segments.
    Nothing,
}

/// What a path below `/ext-ui/` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Registry id, install id, name or slug.
    pub extension: ExtensionId,
    /// Which bundle.
    pub hash: ContentHash,
    /// What follows `~` in a first segment that begins with it, which may be a signature.
    pub signature: Option<String>,
    /// What of the bundle.
    pub tail: Tail,
    /// How many folders deep the path is below the hash: so many `../` lead back.
    pub depth: usize,
}

/// What of a bundle's pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tail {
    /// `…/{hash}` (or `…/~{signature}`) without the slash that relative addresses need.
    Bare,
    /// `…/{hash}/`: the entry.
    Entry,
    /// A checked relative path: plain segments joined by `/`.
    File(String),
}

/// Reads what follows `/ext-ui/`, not decoded yet: an encoded slash must not become a separator.
pub(super) fn parse(raw: &str) -> Result<Target, PathError> {
    let mut parts = raw.splitn(3, '/');
    let (Some(extension), Some(hash)) = (parts.next(), parts.next()) else { return Err(PathError::Nothing) };
    let extension = decoded(extension).and_then(|text| text.parse().ok()).ok_or(PathError::Nothing)?;
    let hash = decoded(hash).and_then(|text| text.parse().ok()).ok_or(PathError::Hash)?;
    let target = |signature, tail, depth| Target { extension, hash, signature, tail, depth };
    let Some(tail) = parts.next() else { return Ok(target(None, Tail::Bare, 0)) };
    let depth = tail.matches('/').count();
    if let Some(signed) = tail.strip_prefix('~') {
        let (signature, rest) =
            signed.split_once('/').map_or((signed, None), |(sign, rest)| (sign, Some(rest)));
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !signature.is_empty() && plain(signature) {
            let tail = rest.map_or(Ok(Tail::Bare), file)?;
            return Ok(target(Some(signature.to_owned()), tail, depth));
        }
    }
    Ok(target(None, file(tail)?, depth))
}

/// One segment, decoded once. None for what is no text.
fn decoded(raw: &str) -> Option<String> {
    // The decoder leaves `%` alone where no two hex digits follow; here that is a mistake, or somebody decoding twice.
    let mut rest = raw;
    while let Some(at) = rest.find('%') {
        let digits = rest.get(at + 1..at + 3)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        rest = rest.get(at + 3..)?;
    }
    percent_decode_str(raw).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// Checks a path (interop 4.1): absolute, hidden, `..`, backslashes, control characters, a trailing dot and extensions that no
/// page needs are refused; repeated slashes collapse.
fn file(raw: &str) -> Result<Tail, PathError> {
    if raw.is_empty() {
        return Ok(Tail::Entry);
    }
    if raw.starts_with('/') || raw.len() > 3 * MAX_PATH {
        return Err(PathError::Path);
    }
    let mut path = String::new();
    let mut depth = 0;
    for segment in raw.split('/').filter(|segment| !segment.is_empty()) {
        let segment = decoded(segment).ok_or(PathError::Path)?;
        let unsafe_char = |c: char| c.is_control() || matches!(c, '/' | '\\');
        if segment.is_empty() || segment.starts_with('.') || segment.contains(unsafe_char) {
            return Err(PathError::Path);
        }
        depth += 1;
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(&segment);
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    if path.is_empty() || path.len() > MAX_PATH || depth > MAX_DEPTH || media::of(name).is_none() {
        return Err(PathError::Path);
    }
    Ok(Tail::File(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "c4bf05d95138f23599c175b28ad6460cd268ad0e498f581526af9e8097318201";

    fn tail(raw: &str) -> Result<Tail, PathError> {
        parse(&format!("e-1/{HEX}/{raw}")).map(|target| target.tail)
    }

    #[test]
    fn a_hash_is_taken_in_every_spelling_of_the_callers() {
        for spelling in [
            HEX.to_owned(),
            HEX.to_uppercase(),
            format!("sha256:{HEX}"),
            format!("sha256%3A{HEX}"),
            format!("SHA256%3a{}", HEX.to_uppercase()),
        ] {
            let target = parse(&format!("e-1/{spelling}/index.html")).unwrap();
            assert_eq!(target.hash.hex(), HEX, "{spelling}");
        }
        for bad in
            ["sha256:", "sha256:abc", "sha256%253A", &HEX[1..], "..", "%2e%2e", "sha512:00", "sha256:%zz"]
        {
            assert_eq!(parse(&format!("e-1/{bad}/index.html")), Err(PathError::Hash), "{bad}");
        }
    }

    #[test]
    fn what_is_no_extension_is_nothing() {
        for bad in ["", "e-1", "e%2f1/x/y", "%2e%2e/x/y", "e*/x/y", "ä/x/y", "/x/y"] {
            assert_eq!(parse(bad), Err(PathError::Nothing), "{bad}");
        }
        assert_eq!(parse(&format!("com.alga.x/{HEX}/a.js")).unwrap().extension.as_str(), "com.alga.x");
    }

    #[test]
    fn an_empty_tail_is_the_entry_and_none_wants_a_slash() {
        assert_eq!(tail(""), Ok(Tail::Entry));
        assert_eq!(parse(&format!("e-1/{HEX}")).unwrap().tail, Tail::Bare);
    }

    #[test]
    fn plain_paths_are_taken_as_they_are() {
        for (raw, path) in [
            ("index.html", "index.html"),
            ("assets/app.js", "assets/app.js"),
            ("assets//app.js", "assets/app.js"),
            ("a/b/", "a/b"),
            ("settings/users", "settings/users"),
            ("a%20b.css", "a b.css"),
            ("%C3%A4.svg", "ä.svg"),
            ("x%25y.txt", "x%y.txt"),
        ] {
            assert_eq!(tail(raw), Ok(Tail::File(path.to_owned())), "{raw}");
        }
    }

    #[test]
    fn a_hostile_path_is_refused() {
        let long = "a".repeat(MAX_PATH + 1);
        let deep = "a/".repeat(MAX_DEPTH + 1);
        for bad in [
            "/etc/passwd",
            "../secret.json",
            "a/../../b.js",
            "%2e%2e/b.js",
            "a/%2e/b.js",
            ".git/config",
            "a/.env",
            "a%2fb.js",
            "a%5cb.js",
            "a\\b.js",
            "a%00.js",
            "a%0d%0a.js",
            "a%7f.js",
            "a%C2%85.js",
            "a%ff.js",
            "a%2",
            "a%zz.js",
            "%",
            "x.php",
            "x.js.",
            "x.html%00.png",
            "%2f%2f.js",
            long.as_str(),
            deep.as_str(),
        ] {
            assert_eq!(tail(bad), Err(PathError::Path), "{bad}");
        }
    }

    #[test]
    fn a_signature_is_the_first_segment_and_counts_as_a_folder() {
        let target = parse(&format!("e-1/{HEX}/~abc_-9/assets/app.js")).unwrap();
        assert_eq!(target.signature.as_deref(), Some("abc_-9"));
        assert_eq!((target.tail, target.depth), (Tail::File("assets/app.js".to_owned()), 2));
        assert_eq!(parse(&format!("e-1/{HEX}/~abc/")).unwrap().tail, Tail::Entry);
        assert_eq!(parse(&format!("e-1/{HEX}/~abc")).unwrap().tail, Tail::Bare);
        assert_eq!(parse(&format!("e-1/{HEX}/~abc//x.js")), Err(PathError::Path));
        // A file may be called so.
        assert_eq!(tail("~a.js"), Ok(Tail::File("~a.js".to_owned())));
    }
}
