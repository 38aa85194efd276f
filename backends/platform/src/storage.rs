//! Records of the platform's key-value storage.
//!
//! # Values
//! The platform stores JSON. What is written here is base64 text with the mark `{"encoding": "base64-bytes"}` in the metadata,
//! as the platform's runner writes it. What is read is decoded only where something says that it is base64: that mark, or an
//! object with `_bytes_b64`. The runner also guesses: a string without a mark that happens to decode is taken for base64,
//! which turns a record `"test"` that the platform's own pages wrote into three bytes of noise. Everything that a runner ever
//! wrote has the mark, so nothing needs the guess; an unmarked string is its UTF-8 text.
//!
//! # Pages
//! The guest interface returns no cursor, so a guest passes the last key of the page it has. The platform's cursor is base64url
//! of `{"key": ...}`, and its next page starts *after* that key; the one it hands out names the first record that it has not
//! returned, which is thereby never returned. So its cursors are not used: one is made of the guest's key in the same
//! encoding, and each page is one request, wherever it is. A platform that has mended its cursor understands it just as well.
//! Should a platform change the encoding, it answers 400 to ours, or hands out cursors that do not look like ours, or starts
//! again with a record that was there before: each is an error and not a silent gap.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::Api;
use crate::{Caller, Platform, PlatformError, Problem};

/// Records of a page: the platform's maximum (its default is 25).
pub const PAGE: usize = 100;
/// Bytes of a value: what fits into the platform's 64 KiB of JSON, base64 and quotes included.
pub const MAX_VALUE_BYTES: usize = (64 * 1024 - 2) / 4 * 3;
/// Longest namespace, as JavaScript counts characters.
const MAX_NAMESPACE: usize = 128;
/// Longest key, as JavaScript counts characters.
const MAX_KEY: usize = 256;
/// Largest integer that the platform's numbers hold exactly.
const MAX_REVISION: u64 = (1 << 53) - 1;
/// What marks base64 in the metadata.
const BASE64_BYTES: &str = "base64-bytes";

/// A record: `storage-entry` of the guest interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// The namespace.
    pub namespace: String,
    /// The key.
    pub key: String,
    /// The bytes.
    pub value: Vec<u8>,
    /// Counts the writes of this record.
    pub revision: Option<u64>,
}

/// Some records of a namespace, in the platform's order of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// At most [`PAGE`].
    pub items: Vec<StoredValue>,
    /// The cursor of the next page, which is the last key of this one; absent when this is the last.
    pub next_cursor: Option<String>,
}

#[derive(Serialize)]
#[serde(tag = "operation", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Operation<'a> {
    Get {
        namespace: &'a str,
        key: &'a str,
    },
    Put {
        namespace: &'a str,
        key: &'a str,
        value: String,
        metadata: Metadata<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        if_revision: Option<u64>,
    },
    Delete {
        namespace: &'a str,
        key: &'a str,
    },
    List {
        namespace: &'a str,
        include_values: bool,
        include_metadata: bool,
        limit: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    },
}

#[derive(Serialize)]
struct Metadata<'a> {
    encoding: &'a str,
}

#[derive(Deserialize)]
struct Record {
    key: String,
    revision: Option<u64>,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    metadata: Value,
}

#[derive(Deserialize)]
struct Written {
    revision: Option<u64>,
}

#[derive(Deserialize)]
struct Deleted {
    success: bool,
}

#[derive(Deserialize)]
struct Listed {
    items: Vec<Record>,
    #[serde(rename = "nextCursor", alias = "next_cursor")]
    next_cursor: Option<String>,
}

impl Platform {
    /// Reads a record.
    ///
    /// # Errors
    /// [`PlatformError::NotFound`] when there is none.
    pub async fn storage_get(
        &self,
        caller: &Caller<'_>,
        namespace: &str,
        key: &str,
    ) -> Result<StoredValue, PlatformError> {
        check(namespace, Some(key))?;
        let record: Record = self.call(Api::Storage, caller, &Operation::Get { namespace, key }).await?;
        // A caller gets what it asked for or nothing.
        if record.key != key {
            return Err(PlatformError::Malformed("another record"));
        }
        record.decode(namespace)
    }

    /// Writes a record and returns its new revision. With `if_revision`, only over exactly that one.
    ///
    /// # Errors
    /// [`PlatformError::Conflict`] when another revision, or none, is stored.
    pub async fn storage_put(
        &self,
        caller: &Caller<'_>,
        namespace: &str,
        key: &str,
        value: &[u8],
        if_revision: Option<u64>,
    ) -> Result<Option<u64>, PlatformError> {
        check(namespace, Some(key))?;
        if value.len() > MAX_VALUE_BYTES {
            return Err(PlatformError::Invalid { field: "value", rule: "must have at most 49,149 bytes" });
        }
        // The platform would round it, perhaps to a revision that exists.
        if if_revision.is_some_and(|r| r > MAX_REVISION) {
            return Err(PlatformError::Conflict(Problem::default()));
        }
        let metadata = Metadata { encoding: BASE64_BYTES };
        let put = Operation::Put { namespace, key, value: STANDARD.encode(value), metadata, if_revision };
        let written: Written = self.call(Api::Storage, caller, &put).await?;
        Ok(written.revision)
    }

    /// Deletes a record.
    ///
    /// # Errors
    /// [`PlatformError::NotFound`] when there is none. (The platform answers `success: false`, which its runner takes for a
    /// conflict.)
    pub async fn storage_delete(
        &self,
        caller: &Caller<'_>,
        namespace: &str,
        key: &str,
    ) -> Result<(), PlatformError> {
        check(namespace, Some(key))?;
        let deleted: Deleted = self.call(Api::Storage, caller, &Operation::Delete { namespace, key }).await?;
        if deleted.success { Ok(()) } else { Err(PlatformError::NotFound(Problem::default())) }
    }

    /// The records after `cursor`, which is the last key of the page before; from the first one without.
    ///
    /// # Errors
    /// As every operation.
    pub async fn storage_list(
        &self,
        caller: &Caller<'_>,
        namespace: &str,
        cursor: Option<&str>,
    ) -> Result<Page, PlatformError> {
        // The platform takes an empty one for none, too.
        let after = cursor.filter(|c| !c.is_empty());
        check(namespace, after)?;
        let list = Operation::List {
            namespace,
            include_values: true,
            include_metadata: true,
            limit: PAGE,
            cursor: after.map(encode_cursor),
        };
        let listed: Listed = self.call(Api::Storage, caller, &list).await?;
        if listed.items.len() > PAGE {
            return Err(PlatformError::Malformed("more records than were asked for"));
        }
        if let Some(after) = after {
            let own = listed.next_cursor.as_deref().is_none_or(is_cursor);
            if !own || listed.items.iter().any(|r| r.key == after) {
                return Err(PlatformError::Malformed("its cursors are of an unknown kind"));
            }
        }
        let more = listed.next_cursor.is_some();
        let items = listed.items.into_iter().map(|r| r.decode(namespace)).collect::<Result<Vec<_>, _>>()?;
        let next_cursor = items.last().filter(|_| more).map(|last| last.key.clone());
        Ok(Page { items, next_cursor })
    }
}

impl Record {
    fn decode(self, namespace: &str) -> Result<StoredValue, PlatformError> {
        let marked = self.metadata.get("encoding").and_then(Value::as_str) == Some(BASE64_BYTES);
        let bytes =
            |text: &str| STANDARD.decode(text).map_err(|_| PlatformError::Malformed("a value is not base64"));
        let wrapped = self.value.get("_bytes_b64").and_then(Value::as_str);
        let value = match (&self.value, wrapped) {
            (Value::String(text), _) if marked => bytes(text)?,
            (_, Some(text)) => bytes(text)?,
            (Value::String(text), _) => text.clone().into_bytes(),
            (json, _) => json.to_string().into_bytes(),
        };
        Ok(StoredValue { namespace: namespace.to_owned(), key: self.key, value, revision: self.revision })
    }
}

/// The platform's limits, checked before anything is sent.
fn check(namespace: &str, key: Option<&str>) -> Result<(), PlatformError> {
    let invalid = |field, rule| Err(PlatformError::Invalid { field, rule });
    if !(1..=MAX_NAMESPACE).contains(&namespace.encode_utf16().count()) {
        return invalid("namespace", "must have 1 to 128 characters");
    }
    // Its database cannot hold them.
    if namespace.contains('\0') {
        return invalid("namespace", "must not have a null character");
    }
    let Some(key) = key else { return Ok(()) };
    if !(1..=MAX_KEY).contains(&key.encode_utf16().count()) {
        return invalid("key", "must have 1 to 256 characters");
    }
    if key.contains(['/', '\0']) {
        return invalid("key", "must have neither a slash nor a null character");
    }
    Ok(())
}

/// The platform's cursor for the page after `key`.
fn encode_cursor(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::json!({ "key": key }).to_string())
}

/// Whether this is a cursor as [`encode_cursor`] makes them.
fn is_cursor(cursor: &str) -> bool {
    #[derive(Deserialize)]
    struct Cursor {
        #[serde(rename = "key")]
        _key: String,
    }
    URL_SAFE_NO_PAD.decode(cursor).is_ok_and(|json| serde_json::from_slice::<Cursor>(&json).is_ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(record: Value) -> Result<Vec<u8>, PlatformError> {
        serde_json::from_value::<Record>(record).unwrap().decode("ns").map(|r| r.value)
    }

    #[test]
    fn a_value_is_decoded_only_where_something_says_that_it_is_base64() {
        for (record, expected) in [
            (
                json!({"key": "k", "value": "AAEC", "metadata": {"encoding": "base64-bytes"}}),
                &b"\0\x01\x02"[..],
            ),
            (json!({"key": "k", "value": "", "metadata": {"encoding": "base64-bytes"}}), b""),
            (json!({"key": "k", "value": {"_bytes_b64": "AAEC"}}), b"\0\x01\x02"),
            // Decodes as base64, and is text that a page of the platform wrote.
            (json!({"key": "k", "value": "test", "metadata": {}}), b"test"),
            (json!({"key": "k", "value": "AAEC"}), b"AAEC"),
            (json!({"key": "k", "value": "AAEC", "metadata": null}), b"AAEC"),
            (json!({"key": "k", "value": "AAEC", "metadata": {"encoding": "text"}}), b"AAEC"),
            (json!({"key": "k", "value": {"a": [1, 2.5, "x"]}}), br#"{"a":[1,2.5,"x"]}"#),
            (json!({"key": "k", "value": 7}), b"7"),
            (json!({"key": "k", "value": null}), b"null"),
            (json!({"key": "k"}), b"null"),
            // The mark is about strings.
            (json!({"key": "k", "value": [1], "metadata": {"encoding": "base64-bytes"}}), b"[1]"),
        ] {
            assert_eq!(decode(record.clone()).unwrap(), expected, "{record}");
        }
    }

    #[test]
    fn a_marked_value_that_is_not_base64_is_malformed() {
        for value in [json!("!!"), json!("AAE"), json!({"_bytes_b64": "?"})] {
            let record = json!({"key": "k", "value": value, "metadata": {"encoding": "base64-bytes"}});
            assert!(matches!(decode(record), Err(PlatformError::Malformed(_))));
        }
    }

    #[test]
    fn names_outside_the_platforms_limits_are_refused() {
        let (long_namespace, long_key) = ("n".repeat(129), "k".repeat(257));
        for (namespace, key) in [
            ("", "k"),
            (long_namespace.as_str(), "k"),
            ("n\0", "k"),
            ("n", ""),
            ("n", long_key.as_str()),
            ("n", "a/b"),
            ("n", "../x"),
            ("n", "k\0"),
        ] {
            assert!(
                matches!(check(namespace, Some(key)), Err(PlatformError::Invalid { .. })),
                "{namespace:?} {key:?}"
            );
        }
        // Counted as JavaScript does: an emoji is two.
        assert!(check(&"n".repeat(128), Some(&"😀".repeat(128))).is_ok());
        assert!(check("n", Some(&"😀".repeat(129))).is_err());
    }

    #[test]
    fn the_largest_value_fits_into_the_platforms_limit_and_one_byte_more_does_not() {
        assert!(STANDARD.encode(vec![0; MAX_VALUE_BYTES]).len() + 2 <= 64 * 1024);
        assert!(STANDARD.encode(vec![0; MAX_VALUE_BYTES + 1]).len() + 2 > 64 * 1024);
        assert_eq!(MAX_VALUE_BYTES, 49_149);
    }

    #[test]
    fn a_cursor_is_the_platforms_whatever_the_key() {
        assert_eq!(encode_cursor("k1"), "eyJrZXkiOiJrMSJ9");
        for key in ["k", "\"}", "é😀", "a b", "\\"] {
            assert!(is_cursor(&encode_cursor(key)));
        }
        for other in ["", "k1", "e30", "eyJvZmZzZXQiOjF9", "!!"] {
            assert!(!is_cursor(other), "{other}");
        }
    }
}
