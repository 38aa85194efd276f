//! Deterministic ids: the same extension has the same id on every machine.
//!
//! UUIDv5 in the DNS namespace over `publisher/name`, as the existing platform's publishing tool makes them.

use uuid::Uuid;

use crate::manifest::Manifest;

/// The publisher of a manifest that names none.
pub const NO_PUBLISHER: &str = "local-dev";

/// The ids of one extension.
#[derive(Debug, PartialEq, Eq)]
pub struct ExtensionIds {
    /// The registry id, which is the extension id of calls and object keys.
    pub extension: Uuid,
    /// This version of it.
    pub version: Uuid,
    publisher: String,
    name: String,
}

impl ExtensionIds {
    /// The ids of the extension that `manifest` describes.
    pub fn of(manifest: &Manifest) -> Self {
        let publisher = manifest.publisher.as_deref().filter(|p| !p.is_empty()).unwrap_or(NO_PUBLISHER);
        let name = format!("{publisher}/{}", manifest.name);
        let id = |text: &str| Uuid::new_v5(&Uuid::NAMESPACE_DNS, text.as_bytes());
        Self {
            extension: id(&name),
            version: id(&format!("{name}/{}", manifest.version)),
            publisher: publisher.to_owned(),
            name,
        }
    }

    /// Who made it.
    pub fn publisher(&self) -> &str {
        &self.publisher
    }

    /// The id of its install for a tenant.
    pub fn install(&self, tenant: &str) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_DNS, format!("{tenant}/{}", self.name).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(publisher: Option<&str>, name: &str) -> Manifest {
        Manifest {
            name: name.to_owned(),
            publisher: publisher.map(str::to_owned),
            version: "0.1.1".to_owned(),
            ..Manifest::default()
        }
    }

    #[test]
    fn ids_are_those_of_the_existing_publishing_tool() {
        let ids = ExtensionIds::of(&manifest(Some("Alga"), "com.alga.sample.hello-world"));
        assert_eq!(ids.extension.to_string(), "3b8b0204-25d9-57d0-951b-3ed518145469");
        assert_eq!(ids.version.to_string(), "d1164241-1ba8-525c-bcee-689e6fa1a534");
    }

    #[test]
    fn an_extension_without_a_publisher_belongs_to_local_dev() {
        assert_eq!(
            ExtensionIds::of(&manifest(None, "a.b")),
            ExtensionIds::of(&manifest(Some("local-dev"), "a.b"))
        );
        assert_eq!(ExtensionIds::of(&manifest(Some(""), "a.b")), ExtensionIds::of(&manifest(None, "a.b")));
    }

    #[test]
    fn each_tenant_has_an_install_of_its_own() {
        let ids = ExtensionIds::of(&manifest(None, "a.b"));
        assert_ne!(ids.install("t-1"), ids.install("t-2"));
    }
}
