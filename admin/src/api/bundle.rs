//! Bundles.

use longshore_proto::{ContentHash, ExtensionId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What an upload must be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UploadQuery {
    /// The hash that the bytes must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, pattern = "^(sha256:)?[0-9a-fA-F]{64}$")]
    pub content_hash: Option<ContentHash>,
    /// The extension's id, where it is not the one that follows from publisher and name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)]
    pub extension: Option<ExtensionId>,
}

/// An uploaded bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BundleUploaded {
    /// Whose.
    pub tenant: String,
    /// The extension's registry id.
    pub extension: String,
    /// The version's id.
    pub version_id: String,
    /// The id that its install for this tenant has or will have.
    pub install_id: String,
    /// `sha256:` and 64 hex digits.
    pub content_hash: String,
    /// The key in the store.
    pub object_key: String,
    /// Bytes of the archive.
    pub size: u64,
    /// The manifest's `name`.
    pub name: String,
    /// The manifest's `publisher`.
    pub publisher: String,
    /// The manifest's `version`.
    pub version: String,
    /// What the manifest asks for.
    pub requested: Vec<String>,
    /// Whether it has a component.
    pub has_component: bool,
    /// Whether it has pages.
    pub has_ui: bool,
    /// The manifest as it is in the archive.
    pub manifest: serde_json::Value,
    /// Its signature.
    pub signature: SignatureView,
    /// False: the store had it already.
    pub stored: bool,
    /// What somebody should know, such as entries that were skipped.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What is known of a bundle's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignatureView {
    /// In one word.
    pub state: SignatureState,
    /// The key that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Why it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A signature's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignatureState {
    /// There is none.
    Unsigned,
    /// Made by a trusted key.
    Valid,
    /// There is one that does not count: `reason` says why.
    Refused,
    /// There may be one; this service has no keys to check it with.
    Unchecked,
}

/// Which bundles.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct BundleQuery {
    /// What `next` of the page before said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 1024)]
    pub cursor: Option<String>,
    /// At most so many (1 to 1000, which is the default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// A page of a tenant's bundles, by extension and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BundleList {
    /// The bundles.
    pub bundles: Vec<BundleView>,
    /// Where the next page begins. A page may be empty and have a next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A bundle in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BundleView {
    /// The extension's registry id.
    pub extension: String,
    /// `sha256:` and 64 hex digits.
    pub content_hash: String,
    /// The key in the store.
    pub object_key: String,
    /// Bytes of the archive.
    pub size: u64,
    /// When it was written, RFC 3339; absent where the store does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// Whether the tenant's install runs it.
    pub in_force: bool,
    /// Whether the tenant's install may roll back to it.
    pub previous: bool,
}

/// A bundle that was removed from the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BundleRemoved {
    /// How many objects: the archive, its manifest, its signature.
    pub objects: u64,
}

/// A stored signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignatureStored {
    /// The key in the store.
    pub object_key: String,
    /// What it is worth here.
    pub signature: SignatureView,
}
