//! What is kept of a token, and where.

use longshore_proto::TenantId;
use longshore_service::nats::buckets::token;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::text::{SecretHash, TokenId};
use crate::Access;

/// The format of stored records. One with a higher number was written by a newer version for which the fields may mean something
/// else: it is not read, and its token not taken.
const VERSION: u32 = 1;

/// The longest label, in characters.
pub const MAX_LABEL_CHARS: usize = 128;
/// The most extensions that one token can be limited to.
pub const MAX_EXTENSIONS: usize = 64;
/// The longest name of an extension in that list, in bytes.
const MAX_EXTENSION_BYTES: usize = 256;

/// A token as everybody may see it: nothing in it lets anybody in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The version of the format.
    pub v: u32,
    /// Its name.
    pub id: TokenId,
    /// Whose installs its bearer may call.
    pub tenant: TenantId,
    /// What its bearer may do with them.
    pub access: Access,
    /// The extensions it is limited to, as registry ids or names; None: all of the tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Vec<String>>,
    /// It also reads the tenant's recorded runs and debug events.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub traces: bool,
    /// What people call it.
    #[serde(default)]
    pub label: String,
    /// RFC 3339, UTC, whole seconds.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// From this moment on it is refused.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// Who asked for it.
    #[serde(default)]
    pub created_by: String,
}

impl TokenRecord {
    /// Whether it is refused at `now`.
    pub fn has_expired(&self, now: OffsetDateTime) -> bool {
        now >= self.expires_at
    }
}

/// The time by the system's clock.
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// A record with the hash of its secret: as stored, and shown to nobody.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Stored {
    #[serde(flatten)]
    pub(crate) record: TokenRecord,
    hash: String,
}

/// Why a stored record is left alone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("it is not the JSON of a token")]
    Json(#[source] serde_json::Error),
    #[error("it is of version {0}, this program knows {VERSION}: update it")]
    Version(u32),
    #[error("it is stored where another token belongs")]
    Place,
    #[error("its hash is not 64 lower-case hex digits")]
    Hash,
    #[error("it lists more extensions than {MAX_EXTENSIONS}, or too long a name")]
    Extensions,
}

impl Stored {
    pub(crate) fn new(record: TokenRecord, hash: SecretHash) -> Self {
        Self { record, hash: hash.hex() }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads what is stored at `key`.
    pub(crate) fn decode(key: &str, bytes: &[u8]) -> Result<(TokenRecord, SecretHash), RecordError> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let Version { v } = serde_json::from_slice(bytes).map_err(RecordError::Json)?;
        if v != VERSION {
            return Err(RecordError::Version(v));
        }
        let stored: Self = serde_json::from_slice(bytes).map_err(RecordError::Json)?;
        // A record of one tenant at the key of another would outlive the removal of its own.
        if key != key_of(&stored.record.tenant, stored.record.id) {
            return Err(RecordError::Place);
        }
        if !stored.record.extensions.as_deref().is_none_or(fits) {
            return Err(RecordError::Extensions);
        }
        let hash = SecretHash::from_hex(&stored.hash).ok_or(RecordError::Hash)?;
        Ok((stored.record, hash))
    }
}

/// Whether a list of extensions is within bounds: at least one, no empty name.
pub(crate) fn fits(extensions: &[String]) -> bool {
    (1..=MAX_EXTENSIONS).contains(&extensions.len())
        && extensions.iter().all(|name| (1..=MAX_EXTENSION_BYTES).contains(&name.len()))
}

pub(crate) const fn version() -> u32 {
    VERSION
}

/// Where a token is kept: `<tenant>.<id>`.
pub(crate) fn key_of(tenant: &TenantId, id: TokenId) -> String {
    format!("{}.{id}", token(tenant.as_str()))
}

/// Where all of a tenant's are.
pub(crate) fn filter_of(tenant: &TenantId) -> String {
    format!("{}.*", token(tenant.as_str()))
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    fn record(tenant: &str) -> (TokenRecord, SecretHash) {
        let (_, id, hash) = text::issue();
        let record = TokenRecord {
            v: VERSION,
            id,
            tenant: tenant.parse().unwrap(),
            access: Access::Write,
            extensions: None,
            traces: true,
            label: "ci".to_owned(),
            created_at: OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap(),
            expires_at: OffsetDateTime::from_unix_timestamp(1_700_000_060).unwrap(),
            created_by: "operator".to_owned(),
        };
        (record, hash)
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_unknown_fields_do_no_harm() {
        let (record, hash) = record("t.1");
        let key = key_of(&record.tenant, record.id);
        let mut json: serde_json::Value =
            serde_json::from_slice(&Stored::new(record.clone(), hash).encode().unwrap()).unwrap();
        json["added_later"] = 1.into();
        let (read, read_hash) = Stored::decode(&key, json.to_string().as_bytes()).unwrap();
        assert_eq!(read, record);
        assert!(read_hash == hash);
        assert_eq!(json["expires_at"], "2023-11-14T22:14:20Z");
        json.as_object_mut().unwrap().remove("traces");
        let (before, _) = Stored::decode(&key, json.to_string().as_bytes()).unwrap();
        assert!(!before.traces, "one that was made before there was such a right does not have it");
    }

    #[test]
    fn it_expires_at_its_second() {
        let (record, _) = record("t");
        assert!(!record.has_expired(record.expires_at - time::Duration::seconds(1)));
        assert!(record.has_expired(record.expires_at));
    }

    #[test]
    fn what_cannot_be_understood_is_not_a_token() {
        let (record, hash) = record("t");
        let key = key_of(&record.tenant, record.id);
        let good: serde_json::Value =
            serde_json::from_slice(&Stored::new(record.clone(), hash).encode().unwrap()).unwrap();
        let with = |name: &str, value: serde_json::Value| {
            let mut json = good.clone();
            json[name] = value;
            json.to_string()
        };
        let bad = [
            String::new(),
            "{}".to_owned(),
            "null".to_owned(),
            with("v", 2.into()),
            with("v", 0.into()),
            with("tenant", "u".into()),
            with("tenant", "t/../u".into()),
            with("id", "00".into()),
            with("access", "admin".into()),
            with("hash", "".into()),
            with("hash", hash.hex().to_uppercase().into()),
            with("expires_at", serde_json::Value::Null),
            with("expires_at", "tomorrow".into()),
            with("traces", "yes".into()),
            with("extensions", serde_json::json!([])),
            with("extensions", serde_json::json!([""])),
            with("extensions", vec!["x"; MAX_EXTENSIONS + 1].into()),
        ];
        for text in bad {
            assert!(Stored::decode(&key, text.as_bytes()).is_err(), "{text}");
        }
        Stored::decode(&key, good.to_string().as_bytes()).unwrap();
        let elsewhere = key_of(&"u".parse().unwrap(), record.id);
        assert!(matches!(Stored::decode(&elsewhere, good.to_string().as_bytes()), Err(RecordError::Place)));
    }

    #[test]
    fn two_tenants_never_share_keys() {
        let filters = ["t", "t.u", "t-u", "t_u", "T"].map(|tenant| filter_of(&tenant.parse().unwrap()));
        for (at, filter) in filters.iter().enumerate() {
            assert_eq!(filter.split('.').count(), 2, "{filter}");
            assert!(filters[at + 1..].iter().all(|other| other != filter));
        }
    }

    #[test]
    fn a_record_shows_no_hash() {
        let (record, hash) = record("t");
        let shown = format!("{record:?} {}", serde_json::to_string(&record).unwrap());
        assert!(!shown.contains(&hash.hex()), "{shown}");
    }
}
