//! `manifest.json` of a bundle, version 2 (interop 9.1): as much as running, routing and serving needs. The strict
//! check of every field is for packing; here an unknown field is ignored, so that a newer bundle still runs.

use serde::{Deserialize, Serialize};

use crate::limits::LimitSet;

/// The component of a bundle whose manifest names no other.
pub const DEFAULT_ENTRY: &str = "dist/main.wasm";

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// Reverse-domain name.
    pub name: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// Semantic version.
    pub version: String,
    /// `wasm-js@1` in existing bundles; informational.
    #[serde(default)]
    pub runtime: String,
    /// What it asks for.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Its pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ui: Option<Ui>,
    /// Its routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
    /// The most that its runs may use; installs, calls and workers can only lower it.
    #[serde(default)]
    pub limits: LimitSet,
    /// The component, when it is not `dist/main.wasm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
}

/// The pages of an extension.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ui {
    /// `iframe`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The first page.
    #[serde(default)]
    pub entry: String,
    /// Where the host shows it.
    #[serde(default)]
    pub hooks: serde_json::Value,
}

/// The routes of an extension.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Api {
    /// Each method and path.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Endpoint {
    /// In capitals.
    pub method: String,
    /// With `:param` segments.
    pub path: String,
    /// Informational: the component dispatches itself.
    #[serde(default)]
    pub handler: String,
    /// Whether a call may run twice although its method promises nothing: the fleet then moves it when a worker is lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or a field of the wrong kind; says line and column.
    #[error("manifest.json is invalid")]
    Json(#[source] serde_json::Error),
    /// `entry` would leave the bundle.
    #[error("manifest.json: entry `{0}` is no relative path inside the bundle")]
    Entry(String),
}

impl Manifest {
    /// Reads one.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(json).map_err(ManifestError::Json)?;
        let entry = manifest.entry();
        let plain = |s: &str| !s.is_empty() && !s.starts_with('.') && !s.contains(['\\', '\0']);
        if entry.split('/').all(plain) { Ok(manifest) } else { Err(ManifestError::Entry(entry.to_owned())) }
    }

    /// The component's path in the bundle.
    pub fn entry(&self) -> &str {
        let entry = self.entry.as_deref().unwrap_or(DEFAULT_ENTRY);
        entry.strip_prefix("./").unwrap_or(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_outside_the_bundle_is_refused() {
        for entry in ["../x.wasm", "/x.wasm", "a/../../x", "a//b", ".hidden/x", "a\\b"] {
            let json = serde_json::json!({"name": "a.b", "version": "1.0.0", "entry": entry}).to_string();
            assert!(matches!(Manifest::parse(json.as_bytes()), Err(ManifestError::Entry(_))), "{entry}");
        }
    }

    #[test]
    fn the_component_is_main_wasm_unless_the_manifest_names_another() {
        let entry = |json: &str| Manifest::parse(json.as_bytes()).unwrap().entry().to_owned();
        assert_eq!(entry(r#"{"name":"a.b","version":"1.0.0","unknown":{}}"#), "dist/main.wasm");
        assert_eq!(entry(r#"{"name":"a.b","version":"1.0.0","entry":"./out/m.wasm"}"#), "out/m.wasm");
    }
}
