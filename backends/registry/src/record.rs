//! An install in its bucket: key `<tenant>.<extension>`, value JSON with a version. Unknown fields are ignored, so that an older build reads
//! what a newer one writes.

use longshore_proto::install::Install;
use longshore_proto::{ExtensionId, TenantId};
use longshore_service::nats::buckets::{part, token};
use serde::{Deserialize, Serialize};

use crate::MAX_RECORD_BYTES;

/// The version that this build writes.
const VERSION: u16 = 1;

/// Why a stored record cannot be used. Nothing of it is quoted: an install's configuration is its tenant's.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or a field is missing or of the wrong kind.
    #[error("not the JSON of an install (line {line}, column {column})")]
    Json {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// Larger than any that is written.
    #[error("{0} bytes are more than an install has")]
    TooLarge(usize),
    /// It says it is another's.
    #[error("the record is of another tenant or extension than its key")]
    Key,
}

#[derive(Serialize)]
struct Written<'a> {
    v: u16,
    #[serde(flatten)]
    install: &'a Install,
}

#[derive(Deserialize)]
struct Read {
    #[serde(flatten)]
    install: Install,
}

/// The key of a tenant's install of an extension.
pub fn install_key(tenant: &TenantId, extension: &ExtensionId) -> String {
    format!("{}.{}", token(tenant.as_str()), token(extension.as_str()))
}

/// Whose a key is; `None` for what [`install_key`] never makes.
pub(crate) fn owner(key: &str) -> Option<(TenantId, ExtensionId)> {
    let (tenant, extension) = key.split_once('.')?;
    Some((part(tenant)?.parse().ok()?, part(extension)?.parse().ok()?))
}

pub(crate) fn encode(install: &Install) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Written { v: VERSION, install })
}

pub(crate) fn decode(key: &str, value: &[u8]) -> Result<Install, RecordError> {
    if value.len() > MAX_RECORD_BYTES {
        return Err(RecordError::TooLarge(value.len()));
    }
    let read: Read = serde_json::from_slice(value)
        .map_err(|error| RecordError::Json { line: error.line(), column: error.column() })?;
    let install = read.install;
    if install_key(&install.tenant, &install.extension) == key { Ok(install) } else { Err(RecordError::Key) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An install of `publisher.name`.
    pub(crate) fn install(tenant: &str, extension: &str, publisher: &str, name: &str) -> Install {
        let json = serde_json::json!({
            "install_id": format!("i-{tenant}-{extension}"), "tenant": tenant, "extension": extension,
            "version_id": "v1", "version": "1.0.0", "content_hash": "11".repeat(32), "name": name, "publisher": publisher,
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_install_is_read_as_it_was_written_and_a_newer_builds_fields_are_ignored() {
        let mut install = install("t.1", "e", "Alga", "a.b");
        install.config.insert("k".into(), "v".into());
        let key = install_key(&install.tenant, &install.extension);
        assert_eq!(key, "t=2E1.e");
        assert_eq!(owner(&key), Some((install.tenant.clone(), install.extension.clone())));
        let bytes = encode(&install).unwrap();
        assert_eq!(decode(&key, &bytes).unwrap(), install);
        let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["v"], 1);
        json["v"] = 9.into();
        json["colour"] = "red".into();
        assert_eq!(decode(&key, json.to_string().as_bytes()).unwrap(), install);
    }

    #[test]
    fn a_record_under_anothers_key_is_refused() {
        let bytes = encode(&install("t-1", "e", "a", "b")).unwrap();
        assert!(matches!(decode("t-2.e", &bytes), Err(RecordError::Key)));
    }

    #[test]
    fn what_is_no_install_is_an_error_that_quotes_nothing() {
        let mut json: serde_json::Value =
            serde_json::from_slice(&encode(&install("t", "e", "a", "b")).unwrap()).unwrap();
        json["weight"] = "canary-81".into();
        for bad in [b"".as_slice(), b"{}", b"[]", b"\xff", json.to_string().as_bytes()] {
            let error = decode("t.e", bad).unwrap_err();
            assert!(
                matches!(error, RecordError::Json { .. }) && !error.to_string().contains("canary"),
                "{error}"
            );
        }
        assert!(matches!(decode("t.e", &vec![b' '; MAX_RECORD_BYTES + 1]), Err(RecordError::TooLarge(_))));
    }

    #[test]
    fn a_key_that_nobody_makes_has_no_owner() {
        for bad in ["", "t", "t.", ".e", "t.e.x", "t.=", "=.e", "t.*", "a=2F.e"] {
            assert_eq!(owner(bad), None, "{bad}");
        }
    }
}
