//! What is replaced by tokens besides the secrets of an install.
//!
//! ```json
//! {
//!   "headers": ["x-session"],
//!   "json_paths": ["$..iban", "$.customer.phone", "$.cards[*].number"],
//!   "regexes": ["\\b[0-9]{3}-[0-9]{2}-[0-9]{4}\\b", "[?&]signature=([^&\\s]+)"]
//! }
//! ```
//! All three may be left out. A file adds to what is always in force: [`super::is_sensitive_header`] and the fields
//! [`FIELDS`], anywhere in a JSON body. Of a regular expression with groups, what the groups match is replaced, else the
//! whole match.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path as FilePath;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::headers::is_sensitive_header;
use super::path::{Path, PathError, Paths};

/// Names of the fields whose strings and numbers are replaced, at any depth of a JSON body: what OAuth and log-ins use.
pub const FIELDS: [&str; 16] = [
    "accessToken",
    "access_token",
    "apiKey",
    "api_key",
    "clientSecret",
    "client_secret",
    "id_token",
    "passphrase",
    "passwd",
    "password",
    "privateKey",
    "private_key",
    "refreshToken",
    "refresh_token",
    "secret",
    "token",
];
/// Says in the id which rules of this program a trace was made with; higher when they change.
const RULES: u32 = 1;
/// Hex digits of a policy's id.
const ID_DIGITS: usize = 16;
/// Bytes of a policy file.
const MAX_FILE: u64 = 64 << 10;
/// Entries of each list. Each is looked at for every body, and each regular expression for every text.
const MAX_ENTRIES: usize = 64;
/// Bytes of an entry.
const MAX_ENTRY: usize = 512;
/// Bytes of a compiled regular expression, and of what it may keep while it searches: `(\w{100}){100}` is refused.
const MAX_REGEX: usize = 1 << 20;

/// Headers, fields of JSON bodies and regular expressions whose values are replaced by tokens.
pub struct Policy {
    id: String,
    headers: BTreeSet<String>,
    pub(super) paths: Paths,
    pub(super) regexes: Vec<Regex>,
}

/// A policy file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entries {
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    json_paths: Vec<String>,
    #[serde(default)]
    regexes: Vec<String>,
}

/// What the id is the digest of: order and doubles do not matter.
#[derive(Serialize)]
struct Canonical<'a> {
    rules: u32,
    fields: &'a [&'a str],
    headers: BTreeSet<&'a str>,
    json_paths: BTreeSet<&'a str>,
    regexes: BTreeSet<&'a str>,
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("the redaction policy cannot be read")]
    Read(#[source] io::Error),
    /// Over 64 KiB.
    #[error("the redaction policy is over {MAX_FILE} bytes")]
    TooLarge,
    /// No JSON, or not of this form; says where.
    #[error(
        "the redaction policy is not {{\"headers\": [..], \"json_paths\": [..], \"regexes\": [..]}} with lists of texts"
    )]
    Form(#[source] serde_json::Error),
    /// Over 64.
    #[error("{list} of the redaction policy has more than {MAX_ENTRIES} entries")]
    Entries {
        /// Which list.
        list: &'static str,
    },
    /// Empty, or over 512 bytes.
    #[error("{list}[{index}] of the redaction policy is empty or over {MAX_ENTRY} bytes")]
    Length {
        /// Which list.
        list: &'static str,
        /// Counted from 0.
        index: usize,
    },
    /// Not a name of a header.
    #[error("headers[{index}] of the redaction policy is no name of a header")]
    Header {
        /// Counted from 0.
        index: usize,
    },
    /// No JSON path.
    #[error("json_paths[{index}] of the redaction policy is no JSON path")]
    Path {
        /// Counted from 0.
        index: usize,
        /// Why.
        #[source]
        source: PathError,
    },
    /// No regular expression, or too large a one.
    #[error("regexes[{index}] of the redaction policy cannot be used")]
    Regex {
        /// Counted from 0.
        index: usize,
        /// Why.
        #[source]
        source: regex::Error,
    },
    /// It would match between all characters and replace nothing.
    #[error("regexes[{index}] of the redaction policy matches the empty text")]
    EmptyMatch {
        /// Counted from 0.
        index: usize,
    },
}

impl Policy {
    /// The one that is in force when there is no file.
    pub fn standard() -> Self {
        // Without entries of a file, nothing can be wrong.
        Self::of(Entries::default()).unwrap_or_else(|_| Self::bare())
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// It is missing, too large, or something in it is wrong: [`PolicyError`] says what.
    pub fn load(path: &FilePath) -> Result<Self, PolicyError> {
        let mut text = Vec::new();
        let file = File::open(path).map_err(PolicyError::Read)?;
        file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(PolicyError::Read)?;
        Self::parse(&text)
    }

    /// Reads the text of a policy file.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        if text.len() as u64 > MAX_FILE {
            return Err(PolicyError::TooLarge);
        }
        Self::of(serde_json::from_slice(text).map_err(PolicyError::Form)?)
    }

    fn bare() -> Self {
        Self { id: String::new(), headers: BTreeSet::new(), paths: Paths::default(), regexes: Vec::new() }
    }

    fn of(entries: Entries) -> Result<Self, PolicyError> {
        let lists = [
            ("headers", &entries.headers),
            ("json_paths", &entries.json_paths),
            ("regexes", &entries.regexes),
        ];
        for (list, texts) in lists {
            if texts.len() > MAX_ENTRIES {
                return Err(PolicyError::Entries { list });
            }
            let length = |text: &String| !(1..=MAX_ENTRY).contains(&text.len());
            if let Some(index) = texts.iter().position(length) {
                return Err(PolicyError::Length { list, index });
            }
        }
        let mut policy = Self::bare();
        for (index, name) in entries.headers.iter().enumerate() {
            let name = http::HeaderName::try_from(name.as_str());
            let name = name.map_err(|_| PolicyError::Header { index })?;
            policy.headers.insert(name.as_str().to_owned());
        }
        for (index, text) in entries.json_paths.iter().enumerate() {
            policy.paths.add(Path::parse(text).map_err(|source| PolicyError::Path { index, source })?);
        }
        FIELDS.iter().for_each(|name| policy.paths.add_field(name));
        for (index, text) in entries.regexes.iter().enumerate() {
            let built = RegexBuilder::new(text).size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX).build();
            let regex = built.map_err(|source| PolicyError::Regex { index, source })?;
            if regex.is_match(b"") {
                return Err(PolicyError::EmptyMatch { index });
            }
            policy.regexes.push(regex);
        }
        let canonical = Canonical {
            rules: RULES,
            fields: &FIELDS,
            headers: policy.headers.iter().map(String::as_str).collect(),
            json_paths: entries.json_paths.iter().map(String::as_str).collect(),
            regexes: entries.regexes.iter().map(String::as_str).collect(),
        };
        let text = serde_json::to_vec(&canonical).map_err(PolicyError::Form)?;
        policy.id = hex::encode(Sha256::digest(text)).chars().take(ID_DIGITS).collect();
        Ok(policy)
    }

    /// Names it: the beginning of the SHA-256 of its canonical text. It goes into every trace.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the value of a header of that name, in any case, is replaced.
    pub fn is_sensitive(&self, name: &str) -> bool {
        is_sensitive_header(name)
            || (!self.headers.is_empty() && self.headers.contains(&name.to_ascii_lowercase()))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::standard()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Policy({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn refused(text: &str) -> String {
        let error = Policy::parse(text.as_bytes()).unwrap_err();
        match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        }
    }

    #[test]
    fn a_policy_is_named_by_what_it_says_and_not_by_how() {
        let standard = Policy::standard();
        assert_eq!(standard.id().len(), 16);
        assert_eq!(Policy::parse(b"{}").unwrap().id(), standard.id());
        let a = Policy::parse(br#"{"headers":["X-A","x-b"],"json_paths":["$.a","$.b"]}"#).unwrap();
        let b =
            Policy::parse(br#"{"json_paths": ["$.b", "$.a", "$.a"], "headers": ["x-b", "x-a"]}"#).unwrap();
        assert_eq!(a.id(), b.id());
        assert_ne!(a.id(), standard.id());
        assert_eq!(format!("{a:?}"), format!("Policy({})", a.id()));
        assert!(a.is_sensitive("x-A") && a.is_sensitive("Authorization") && !a.is_sensitive("x-c"));
    }

    #[test]
    fn what_is_wrong_in_a_policy_is_named() {
        let many = format!(r#"{{"headers":[{}]}}"#, vec![r#""x""#; 65].join(","));
        let long = format!(r#"{{"regexes":["{}"]}}"#, "x".repeat(513));
        for (text, words) in [
            ("{", "line 1"),
            ("{\n \"header\": []}", "line 2 column 9"),
            (r#"{"headers": "x"}"#, "line 1"),
            (r#"{"headers": ["a", "b c"]}"#, "headers[1]"),
            (r#"{"headers": [""]}"#, "headers[0] of the redaction policy is empty"),
            (
                r#"{"json_paths": ["$.a", "$.b["]}"#,
                "json_paths[1] of the redaction policy is no JSON path: at byte 3",
            ),
            (r#"{"regexes": ["a", "(b"]}"#, "regexes[1] of the redaction policy cannot be used: "),
            (r#"{"regexes": ["((\\w{99}){99}){99}"]}"#, "size limit"),
            (r#"{"regexes": ["a*"]}"#, "regexes[0] of the redaction policy matches the empty text"),
            (&many, "headers of the redaction policy has more than 64"),
            (&long, "regexes[0] of the redaction policy is empty or over 512"),
            (&" ".repeat(65 << 10), "over 65536 bytes"),
        ] {
            let error = refused(text);
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn a_policy_is_read_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.json");
        assert!(matches!(Policy::load(&path), Err(PolicyError::Read(_))));
        std::fs::write(&path, r#"{"regexes": ["a+"]}"#).unwrap();
        assert_eq!(Policy::load(&path).unwrap().regexes.len(), 1);
        std::fs::write(&path, " ".repeat(65 << 10)).unwrap();
        assert!(matches!(Policy::load(&path), Err(PolicyError::TooLarge)));
    }
}
