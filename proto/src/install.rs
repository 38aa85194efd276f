//! An install: which bundle a tenant runs for an extension, and what it grants. `longshore-registry` keeps them; here is
//! what every process reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::call::{CaptureLevel, SecretEnvelope};
use crate::capability::CapabilitySet;
use crate::ids::{ContentHash, ExecutionId, ExtensionId, PoolName, TenantId};
use crate::limits::LimitSet;
use crate::manifest::{Endpoint, Manifest, Ui};

/// tenant x extension -> bundle, rights and limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Install {
    /// The install's own id: UUIDv5 over `tenant/publisher/name`, see [`crate::extension_ids::ExtensionIds`].
    pub install_id: String,
    /// The tenant.
    pub tenant: TenantId,
    /// The extension's registry id.
    pub extension: ExtensionId,
    /// Whether it may be called.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The version in force.
    #[serde(flatten)]
    pub version: InstalledVersion,
    /// Earlier versions, the newest first; at most [`MAX_PREVIOUS`]. `rollback` puts the first back in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<InstalledVersion>,
    /// Configuration for the guest.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Granted capabilities: a subset of what the manifest asks for, and the three that everybody has.
    #[serde(default)]
    pub capabilities: CapabilitySet,
    /// Sealed secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SecretEnvelope>,
    /// Names of the secrets, sorted; never their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_names: Vec<String>,
    /// Limits of its runs; the lowest of worker, manifest, call and this one holds.
    #[serde(default)]
    pub limits: LimitSet,
    /// What its runs may reach, besides the worker's own list; see [`crate::Run::egress`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<String>>,
    /// The workers that run it.
    #[serde(default)]
    pub pool: PoolName,
    /// Its tenant's turns in the waiting room, relative to 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// What is published of its runs.
    #[serde(default)]
    pub capture: CaptureLevel,
    /// Traces for a while, on top of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording>,
    /// Host names, lower-cased and without port, whose `GET /` leads to its pages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// When it was made, and when it was changed last; RFC 3339, UTC.
    #[serde(default)]
    pub created_at: String,
    /// See [`Self::created_at`].
    #[serde(default)]
    pub updated_at: String,
}

/// Traces of an install's runs for a while (`longshore record on`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// Until when, in Unix milliseconds.
    pub until_ms: u64,
    /// Of a million runs so many; all by default.
    #[serde(default = "million")]
    pub sample_ppm: u32,
    /// Only those that fail.
    #[serde(default)]
    pub errors_only: bool,
    /// Who switched it on.
    #[serde(default)]
    pub by: String,
}

impl Install {
    /// What is published of one run. Every process that asks about the same run gets the same answer while the
    /// install stays as it is: the sample is drawn from the run's id, which is random.
    pub fn capture_of(&self, execution: ExecutionId, now_ms: u64) -> CaptureLevel {
        let Some(recording) = self.recording.as_ref().filter(|r| now_ms < r.until_ms) else {
            return self.capture;
        };
        let drawn = execution.as_bytes().iter().take(8).fold(0_u64, |n, byte| (n << 8) | u64::from(*byte));
        match (drawn % 1_000_000 < u64::from(recording.sample_ppm), recording.errors_only) {
            _ if self.capture == CaptureLevel::Record => CaptureLevel::Record,
            (true, false) => CaptureLevel::Record,
            (true, true) => CaptureLevel::RecordErrors,
            (false, _) => self.capture,
        }
    }
}

fn million() -> u32 {
    1_000_000
}

/// How many earlier versions an install remembers.
pub const MAX_PREVIOUS: usize = 10;

/// One version of an extension as it was installed: what its manifest says to those who never see the bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstalledVersion {
    /// The bundle.
    pub content_hash: ContentHash,
    /// The version's id: UUIDv5 over `publisher/name/version`.
    pub version_id: String,
    /// The manifest's `version`.
    #[serde(default)]
    pub version: String,
    /// The manifest's `name`.
    #[serde(default)]
    pub name: String,
    /// The manifest's `publisher`, `local-dev` where it names none.
    #[serde(default)]
    pub publisher: String,
    /// What the manifest asks for; what is granted is [`Install::capabilities`].
    #[serde(default)]
    pub requested: Vec<String>,
    /// Declared routes. None where they are not known here (the platform's registry): the bundle's manifest has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<Endpoint>>,
    /// Its pages, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ui: Option<Ui>,
    /// The id of the key whose signature was verified when it was installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// When it was put in force; RFC 3339, UTC.
    #[serde(default)]
    pub installed_at: String,
}

impl InstalledVersion {
    /// What `manifest` says of a bundle.
    pub fn of(manifest: &Manifest, content_hash: ContentHash) -> Self {
        let ids = crate::extension_ids::ExtensionIds::of(manifest);
        Self {
            content_hash,
            version_id: ids.version.to_string(),
            version: manifest.version.clone(),
            name: manifest.name.clone(),
            publisher: ids.publisher().to_owned(),
            requested: manifest.capabilities.clone(),
            endpoints: Some(manifest.api.as_ref().map(|api| api.endpoints.clone()).unwrap_or_default()),
            ui: manifest.ui.clone(),
            signed_by: None,
            installed_at: String::new(),
        }
    }

    /// `publisher.name` in lower case: the slug under which callers may know it.
    pub fn slug(&self) -> String {
        format!("{}.{}", self.publisher, self.name).to_lowercase()
    }
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_install_without_options_has_the_defaults() {
        let json = serde_json::json!({
            "install_id": "i", "tenant": "t", "extension": "e", "version_id": "v", "content_hash": "00".repeat(32)
        });
        let install: Install = serde_json::from_value(json).unwrap();
        assert_eq!((install.pool.as_str(), install.weight, install.enabled), ("default", 1, true));
        assert!(install.version.endpoints.is_none(), "unknown is not the same as none");
    }

    #[test]
    fn a_recording_ends_samples_and_never_takes_away_from_the_installs_own_level() {
        let json = serde_json::json!({
            "install_id": "i", "tenant": "t", "extension": "e", "version_id": "v", "content_hash": "00".repeat(32),
            "recording": {"until_ms": 1_000}
        });
        let mut install: Install = serde_json::from_value(json).unwrap();
        let run = |first: u8| ExecutionId::from_bytes([first; 16]);
        assert_eq!(
            install.capture_of(run(7), 999),
            CaptureLevel::Record,
            "all are recorded unless it says otherwise"
        );
        assert_eq!(install.capture_of(run(7), 1_000), CaptureLevel::Events, "it has ended");
        let recording = |sample_ppm, errors_only| Recording {
            until_ms: 1_000,
            sample_ppm,
            errors_only,
            by: String::new(),
        };
        install.recording = Some(recording(1_000_000, true));
        assert_eq!(install.capture_of(run(7), 0), CaptureLevel::RecordErrors);
        install.recording = Some(recording(100_000, false));
        let ids = (0..10_000_u32).map(|n| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
            ExecutionId::from_bytes(id)
        });
        let drawn = ids.filter(|id| install.capture_of(*id, 0) == CaptureLevel::Record).count();
        assert!((800..1_200).contains(&drawn), "a tenth of 10,000: {drawn}");
        install.capture = CaptureLevel::Record;
        assert_eq!(install.capture_of(run(7), 0), CaptureLevel::Record);
        install.capture = CaptureLevel::Off;
        install.recording = Some(recording(0, false));
        assert_eq!(install.capture_of(run(7), 0), CaptureLevel::Off);
    }

    #[test]
    fn a_version_carries_what_its_manifest_says() {
        let manifest =
            br#"{"name":"com.a.B","publisher":"Alga","version":"1.2.3","capabilities":["cap:http.fetch"],
            "api":{"endpoints":[{"method":"POST","path":"/x/:id","idempotent":true}]}}"#;
        let manifest = Manifest::parse(manifest).unwrap();
        let version = InstalledVersion::of(&manifest, ContentHash::from_bytes([1; 32]));
        assert_eq!(version.slug(), "alga.com.a.b");
        assert!(version.endpoints.unwrap()[0].idempotent);
        let none = InstalledVersion::of(&Manifest::default(), ContentHash::from_bytes([1; 32]));
        assert_eq!(none.endpoints, Some(Vec::new()), "known to have none");
    }
}
