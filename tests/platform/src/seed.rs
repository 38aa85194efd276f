//! What a stub platform holds at its start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Largest seed file, in bytes.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// A seed file. Every part may be left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Seed {
    /// The installs that exist. Empty: whichever is asked for.
    pub installs: Vec<String>,
    /// Users who may read neither clients nor services.
    pub denied_users: Vec<String>,
    /// The tenant's clients.
    pub clients: Vec<Client>,
    /// What the tenant sells.
    pub services: Vec<Service>,
    /// The endpoints of every extension, for schedules.
    pub endpoints: Vec<Endpoint>,
    /// The number of the first invoice.
    pub first_invoice_number: u32,
    /// On the subtotal of every invoice.
    pub tax_percent: f64,
    /// Records of every install, namespace to key to value, as the platform's own pages write them: plain JSON without a mark.
    pub storage: BTreeMap<String, BTreeMap<String, Value>>,
    /// Collections behind `/api/v1/`, name to items.
    pub rest: BTreeMap<String, Vec<Value>>,
    /// What tenants have installed, for the registry's routes.
    pub registry: Vec<RegistryInstall>,
}

/// An install as the registry knows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryInstall {
    /// Whose.
    pub tenant: String,
    /// The registry id.
    pub extension: String,
    /// `publisher.name`.
    pub slug: String,
    /// The install's own id.
    pub install_id: String,
    /// The version's id.
    pub version_id: String,
    /// The bundle in force, with or without `sha256:`.
    pub content_hash: String,
    /// Other bundles that are valid for it.
    #[serde(default)]
    pub other_bundles: Vec<String>,
    /// Its configuration.
    #[serde(default)]
    pub config: BTreeMap<String, Value>,
    /// What it grants.
    #[serde(default)]
    pub providers: Vec<String>,
    /// Its secrets, sealed.
    #[serde(default)]
    pub secret_envelope: Option<Value>,
    /// Host names that lead to its pages.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Client {
    /// A UUID.
    pub client_id: String,
    /// The name.
    pub client_name: String,
    /// `company` or `individual`.
    #[serde(default)]
    pub client_type: Option<String>,
    /// Whether the client is no longer one.
    #[serde(default)]
    pub is_inactive: bool,
    /// ISO 4217.
    #[serde(default)]
    pub default_currency_code: Option<String>,
    /// A user's id.
    #[serde(default)]
    pub account_manager_id: Option<String>,
    /// That user's name.
    #[serde(default)]
    pub account_manager_name: Option<String>,
    /// Where invoices go.
    #[serde(default)]
    pub billing_email: Option<String>,
}

/// A service or product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// A UUID.
    pub service_id: String,
    /// The name.
    pub service_name: String,
    /// `service` or `product`.
    pub item_kind: String,
    /// `fixed`, `hourly` or `usage`.
    pub billing_method: String,
    /// Its type's id.
    #[serde(default)]
    pub service_type_id: Option<String>,
    /// Its type's name.
    #[serde(default)]
    pub service_type_name: Option<String>,
    /// In minor units.
    #[serde(default)]
    pub default_rate: f64,
    /// What a quantity of one is.
    pub unit_of_measure: String,
    /// Whether it is still sold.
    #[serde(default = "yes")]
    pub is_active: bool,
    /// Stock keeping unit.
    #[serde(default)]
    pub sku: Option<String>,
}

/// An endpoint of an extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// Its id.
    pub id: String,
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// What of the extension answers it.
    #[serde(default)]
    pub handler: String,
}

fn yes() -> bool {
    true
}

/// Why a seed file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// It cannot be read.
    #[error("the seed file {} cannot be read", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// It is over 8 MiB.
    #[error("the seed file {} is over {MAX_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
    /// It is not what it should be; the source says where.
    #[error("the seed file {} is malformed", .0.display())]
    Malformed(PathBuf, #[source] serde_json::Error),
}

impl Seed {
    /// The seed that comes with Longshore: a small service company.
    pub fn sample() -> Self {
        // A test parses it.
        serde_json::from_str(Self::sample_json()).unwrap_or_default()
    }

    /// [`Seed::sample`] as a file, to begin one's own with.
    pub fn sample_json() -> &'static str {
        include_str!("../seed.json")
    }

    /// Reads a seed file.
    ///
    /// # Errors
    /// It cannot be read or is malformed.
    pub fn load(path: &Path) -> Result<Self, SeedError> {
        let read = |e| SeedError::Read(path.to_owned(), e);
        if std::fs::metadata(path).map_err(read)?.len() > MAX_BYTES {
            return Err(SeedError::TooLarge(path.to_owned()));
        }
        let text = std::fs::read(path).map_err(read)?;
        serde_json::from_slice(&text).map_err(|e| SeedError::Malformed(path.to_owned(), e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::is_uuid;

    #[test]
    fn the_sample_is_complete() {
        let sample: Seed = serde_json::from_str(Seed::sample_json()).unwrap();
        assert_eq!(sample, Seed::sample());
        assert!(sample.clients.len() > 3 && sample.services.len() > 3 && sample.endpoints.len() > 3);
        assert!(sample.clients.iter().all(|c| is_uuid(&c.client_id)));
        assert!(sample.services.iter().all(|s| is_uuid(&s.service_id)));
        assert!(sample.endpoints.iter().all(|e| is_uuid(&e.id)));
        assert!(sample.clients.iter().any(|c| c.is_inactive) && sample.services.iter().any(|s| !s.is_active));
    }

    #[test]
    fn a_misspelt_part_is_an_error_and_not_ignored() {
        assert!(serde_json::from_str::<Seed>(r#"{"client": []}"#).is_err());
        assert_eq!(serde_json::from_str::<Seed>("{}").unwrap(), Seed::default());
    }
}
