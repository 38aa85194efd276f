//! An install: which bundle a tenant runs for an extension, and what it grants. The registry that keeps them is the
//! gateway's; here is what both sides of it read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::call::SecretEnvelope;
use crate::capability::CapabilitySet;
use crate::ids::{ContentHash, ExtensionId, PoolName, TenantId};
use crate::limits::Limits;

/// tenant x extension -> bundle, rights and limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Install {
    /// The install's own id.
    pub install_id: String,
    /// The tenant.
    pub tenant: TenantId,
    /// The extension.
    pub extension: ExtensionId,
    /// The bundle in force.
    pub content_hash: ContentHash,
    /// The installed version's id.
    pub version_id: String,
    /// Configuration for the guest.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Granted capabilities.
    #[serde(default)]
    pub capabilities: CapabilitySet,
    /// Sealed secrets.
    #[serde(default)]
    pub secrets: Option<SecretEnvelope>,
    /// Limits of its runs.
    #[serde(default)]
    pub limits: Limits,
    /// What its runs may reach, besides the worker's own list; see [`crate::Run::egress`].
    #[serde(default)]
    pub egress: Option<Vec<String>>,
    /// The workers that run it.
    #[serde(default)]
    pub pool: PoolName,
    /// Its tenant's turns in the waiting room, relative to 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// Whether it may be called.
    #[serde(default = "yes")]
    pub enabled: bool,
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
    }
}
