//! What the platform answers, checked. Unknown fields are ignored; what is used has limits of its own further on.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Response, StatusCode};
use longshore_proto::call::{CaptureLevel, SecretEnvelope};
use longshore_proto::install::{Install, InstalledVersion};
use longshore_proto::{Capability, CapabilitySet, ContentHash, ExtensionId, LimitSet, PoolName, TenantId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::PlatformFault;
use crate::seam::HostTarget;

/// The longest id that is no [`TenantId`] or [`ExtensionId`].
const MAX_ID: usize = 256;

#[derive(Deserialize)]
struct Valid {
    valid: bool,
}

#[derive(Deserialize)]
struct Host {
    #[serde(alias = "tenantId")]
    tenant_id: TenantId,
    #[serde(alias = "extensionId")]
    extension_id: ExtensionId,
    #[serde(alias = "contentHash")]
    content_hash: ContentHash,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    tenant_id: Option<String>,
    registry_id: Option<String>,
    extension_slug: Option<String>,
    install_id: Option<String>,
    version_id: Option<String>,
    version: Option<String>,
    content_hash: Option<String>,
    #[serde(default)]
    config: Option<Map<String, Value>>,
    #[serde(default)]
    providers: Option<Vec<Value>>,
    secrets_version: Option<Value>,
    secret_envelope: Option<Map<String, Value>>,
    updated_at: Option<Value>,
    #[serde(alias = "isEnabled")]
    enabled: Option<bool>,
}

fn parse<T: DeserializeOwned>(body: &Bytes, what: &'static str) -> Result<T, PlatformFault> {
    serde_json::from_slice(body).map_err(|_| PlatformFault::Malformed(what))
}

/// A status that is none of the expected ones.
fn unexpected(status: StatusCode, credential: &'static str) -> PlatformFault {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => PlatformFault::NotAccepted(status, credential),
        _ => PlatformFault::Status(status),
    }
}

/// Whether a 404 says that there is no such thing. One without these words comes from something on the way, or from an address that is
/// no platform's: no refusal.
fn says(body: &Bytes, words: &[&str]) -> bool {
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else { return false };
    ["code", "error", "message"]
        .iter()
        .filter_map(|field| body.get(*field)?.as_str())
        .any(|text| words.contains(&text.to_ascii_lowercase().replace([' ', '-'], "_").as_str()))
}

/// The answer to `/api/installs/validate`.
pub(super) fn valid(answer: &Response<Bytes>) -> Result<bool, PlatformFault> {
    match answer.status() {
        StatusCode::OK => Ok(parse::<Valid>(answer.body(), "no `valid`")?.valid),
        status => Err(unexpected(status, "ALGA_AUTH_KEY")),
    }
}

/// The answer to `/api/installs/lookup-by-host`.
pub(super) fn host(answer: &Response<Bytes>) -> Result<Option<HostTarget>, PlatformFault> {
    match answer.status() {
        StatusCode::OK => {
            let found: Host = parse(answer.body(), "no tenant_id, extension_id and content_hash")?;
            Ok(Some(HostTarget {
                tenant: found.tenant_id,
                extension: found.extension_id,
                content_hash: found.content_hash,
            }))
        }
        StatusCode::NOT_FOUND
            if says(
                answer.body(),
                &["not_found", "host_not_found", "install_not_found", "domain_not_found"],
            ) =>
        {
            Ok(None)
        }
        status => Err(unexpected(status, "ALGA_AUTH_KEY")),
    }
}

/// The answer to `install-config`.
pub(super) fn install(
    answer: &Response<Bytes>,
    tenant: &TenantId,
    reference: &str,
) -> Result<Option<Install>, PlatformFault> {
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND if says(answer.body(), &["install_not_found"]) => return Ok(None),
        status => return Err(unexpected(status, "the runner token")),
    }
    let config: Config = parse(answer.body(), "no install")?;
    if config.tenant_id.as_deref().is_some_and(|id| id != tenant.as_str()) {
        return Err(PlatformFault::Another("tenant"));
    }
    let id = |text: Option<String>, what| {
        let text = text.filter(|text| !text.is_empty()).ok_or(PlatformFault::Incomplete(what))?;
        let plain = text.len() <= MAX_ID && text.bytes().all(|byte| byte.is_ascii_graphic());
        if plain { Ok(text) } else { Err(PlatformFault::Malformed("an id is none")) }
    };
    let install_id = id(config.install_id, "install id")?;
    let content_hash = id(config.content_hash, "content hash")?;
    let content_hash =
        content_hash.parse().map_err(|_| PlatformFault::Malformed("the content hash is none"))?;
    let extension = id(config.registry_id, "registry id")?;
    let extension: ExtensionId =
        extension.parse().map_err(|_| PlatformFault::Malformed("the registry id is none"))?;
    let slug = config.extension_slug.unwrap_or_default().to_lowercase();
    let named = [install_id.to_lowercase(), extension.as_str().to_lowercase(), slug.clone()];
    if !named.iter().any(|name| name == reference) {
        return Err(PlatformFault::Another("extension"));
    }
    // A slug is `publisher.name`.
    let (publisher, name) = slug.split_once('.').unwrap_or(("", &slug));
    let updated_at = config.updated_at.map(text).unwrap_or_default();
    let version = InstalledVersion {
        content_hash,
        version_id: config.version_id.unwrap_or_default(),
        version: config.version.unwrap_or_default(),
        name: name.to_owned(),
        publisher: publisher.to_owned(),
        requested: Vec::new(),
        endpoints: None,
        ui: None,
        signed_by: None,
        installed_at: updated_at.clone(),
    };
    Ok(Some(Install {
        install_id,
        tenant: tenant.clone(),
        extension,
        enabled: config.enabled.unwrap_or(true),
        version,
        previous: Vec::new(),
        config: texts(config.config.unwrap_or_default()),
        capabilities: capabilities(&config.providers.unwrap_or_default()),
        secrets: envelope(config.secret_envelope, config.secrets_version)?,
        secret_names: Vec::new(),
        limits: LimitSet::default(),
        egress: None,
        pool: PoolName::default(),
        weight: 1,
        capture: CaptureLevel::default(),
        recording: None,
        hosts: Vec::new(),
        created_at: updated_at.clone(),
        updated_at,
    }))
}

/// As the platform's own callers make texts of values (interop 3.5).
fn text(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn texts(map: Map<String, Value>) -> BTreeMap<String, String> {
    map.into_iter().map(|(key, value)| (key, text(value))).collect()
}

/// Those that are known (interop 3.5); the rest is not granted.
fn capabilities(providers: &[Value]) -> CapabilitySet {
    let mut set = CapabilitySet::default();
    for name in providers.iter().filter_map(Value::as_str) {
        let name = name.trim().to_ascii_lowercase();
        if let Some(known) = Capability::ALL.iter().find(|capability| capability.as_str() == name) {
            set.insert(*known);
        }
    }
    set
}

fn envelope(
    envelope: Option<Map<String, Value>>,
    secrets_version: Option<Value>,
) -> Result<Option<SecretEnvelope>, PlatformFault> {
    let Some(mut envelope) = envelope else { return Ok(None) };
    let mut field = |snake: &str, camel: &str| {
        let value = envelope.remove(snake).or_else(|| envelope.remove(camel))?;
        (!value.is_null()).then(|| text(value))
    };
    let ciphertext_b64 = field("ciphertext_b64", "ciphertextB64").filter(|text| !text.is_empty());
    Ok(Some(SecretEnvelope {
        // Without it the secrets would silently be missing.
        ciphertext_b64: ciphertext_b64
            .ok_or(PlatformFault::Malformed("a secret envelope without ciphertext"))?,
        algorithm: field("algorithm", "algorithm"),
        version: field("version", "version").or_else(|| secrets_version.filter(|v| !v.is_null()).map(text)),
        expires_at: field("expires_at", "expiresAt"),
        key_path: field("key_path", "keyPath"),
        mount: field("mount", "mount"),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HASH: &str = "c4bf05d95138f23599c175b28ad6460cd268ad0e498f581526af9e8097318201";

    fn answer(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
        Response::builder().status(status).body(body.into()).unwrap()
    }

    fn config() -> Value {
        json!({
            "tenantId": "t", "extensionSlug": "Alga.hello", "installId": "i-1", "versionId": "v-1", "registryId": "e-1",
            "contentHash": format!("sha256:{HASH}"), "config": {"a": null, "b": 1, "c": {"x": true}, "d": "text"},
            "providers": ["cap:http.fetch", "cap:brand.new", 7, " CAP:Storage.KV "], "configVersion": 3, "secretsVersion": "s-9",
            "secretEnvelope": {"ciphertext_b64": "vault:v1:x", "algorithm": "vault-transit", "key_path": "k", "version": null},
            "updatedAt": "2026-01-01T00:00:00.000Z", "somethingNew": [1, 2]
        })
    }

    fn read(config: &Value) -> Result<Option<Install>, PlatformFault> {
        install(&answer(200, config.to_string()), &"t".parse().unwrap(), "alga.hello")
    }

    #[test]
    fn an_install_is_read_as_the_platforms_own_callers_read_it() {
        let install = read(&config()).unwrap().unwrap();
        assert_eq!(install.version.content_hash.hex(), HASH);
        let texts: Vec<_> = install.config.values().map(String::as_str).collect();
        assert_eq!(texts, ["", "1", r#"{"x":true}"#, "text"]);
        assert_eq!(install.capabilities, CapabilitySet::parse(["cap:http.fetch", "cap:storage.kv"]).unwrap());
        let secrets = install.secrets.as_ref().unwrap();
        assert_eq!((secrets.version.as_deref(), secrets.key_path.as_deref()), (Some("s-9"), Some("k")));
        assert_eq!((install.version.slug(), install.enabled), ("alga.hello".to_owned(), true));
        assert!(install.version.endpoints.is_none(), "the bundle's manifest has them");
    }

    #[test]
    fn a_hash_may_be_bare_and_optional_parts_may_be_missing() {
        let bare = json!({"extensionSlug": "alga.hello", "installId": "i", "registryId": "e", "contentHash": HASH.to_uppercase(),
            "config": null, "providers": null, "secretEnvelope": null});
        let install = read(&bare).unwrap().unwrap();
        assert_eq!(install.version.content_hash.hex(), HASH);
        assert!(install.secrets.is_none() && install.config.is_empty());
    }

    #[test]
    fn what_is_about_another_or_misses_what_is_needed_is_an_error_and_no_refusal() {
        let with = |field: &str, value: Value| {
            let mut config = config();
            config[field] = value;
            read(&config).unwrap_err()
        };
        assert!(matches!(with("tenantId", "u".into()), PlatformFault::Another("tenant")));
        assert!(matches!(with("extensionSlug", "alga.other".into()), PlatformFault::Another("extension")));
        for (field, value) in [
            ("contentHash", Value::Null),
            ("contentHash", "".into()),
            ("installId", Value::Null),
            ("registryId", Value::Null),
        ] {
            assert!(matches!(with(field, value), PlatformFault::Incomplete(_)), "{field}");
        }
        for (field, value) in [
            ("contentHash", json!("sha256:abc")),
            ("registryId", json!("a/../b")),
            ("installId", json!("a b")),
            ("installId", json!("x".repeat(257))),
            ("config", json!([1])),
            ("secretEnvelope", json!({"algorithm": "x"})),
        ] {
            assert!(matches!(with(field, value), PlatformFault::Malformed(_)), "{field}");
        }
    }

    #[test]
    fn only_a_404_that_says_so_is_a_refusal() {
        let tenant = "t".parse().unwrap();
        let ask = |status, body: &'static str| install(&answer(status, body), &tenant, "x");
        assert!(matches!(ask(404, r#"{"error":"install_not_found"}"#), Ok(None)));
        assert!(matches!(ask(404, r#"{"code":"install_not_found","error":"x"}"#), Ok(None)));
        for (status, body) in [
            (404, "<html>"),
            (404, "{}"),
            (404, r#"{"error":"Route not found"}"#),
            (500, ""),
            (501, r#"{"code":"EE_REQUIRED"}"#),
            (302, ""),
            (204, ""),
        ] {
            assert!(matches!(ask(status, body), Err(PlatformFault::Status(_))), "{status} {body}");
        }
        assert!(matches!(ask(401, ""), Err(PlatformFault::NotAccepted(..))));
        assert!(matches!(ask(200, "{\"install"), Err(PlatformFault::Malformed(_))));
    }

    #[test]
    fn a_host_is_found_not_found_or_unknown() {
        let found = json!({"tenant_id": "t", "extension_id": "e", "content_hash": format!("sha256:{HASH}")});
        assert_eq!(host(&answer(200, found.to_string())).unwrap().unwrap().content_hash.hex(), HASH);
        assert_eq!(host(&answer(404, r#"{"error":"not_found"}"#)).unwrap(), None);
        assert_eq!(host(&answer(404, r#"{"error":"Not found"}"#)).unwrap(), None);
        for (status, body) in
            [(404, "nope"), (400, r#"{"error":"missing_host"}"#), (500, "{}"), (200, "{}"), (200, "[]")]
        {
            assert!(host(&answer(status, body)).is_err(), "{status} {body}");
        }
    }

    #[test]
    fn a_bundle_is_valid_invalid_or_unknown() {
        assert!(valid(&answer(200, r#"{"valid":true}"#)).unwrap());
        assert!(!valid(&answer(200, r#"{"valid":false}"#)).unwrap());
        for (status, body) in [
            (500, r#"{"valid":false}"#),
            (400, r#"{"valid":false}"#),
            (200, "{}"),
            (200, r#"{"valid":"yes"}"#),
            (200, ""),
        ] {
            assert!(valid(&answer(status, body)).is_err(), "{status} {body}");
        }
    }
}
