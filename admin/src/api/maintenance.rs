//! Purge, garbage collection and audit.

use longshore_proto::TenantId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Removes everything of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeRequest {
    /// The tenant's id once more.
    #[schema(max_length = 128)]
    pub confirm: String,
}

/// How much was removed, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Removed {
    /// Installs, with their config, grants and access.
    pub installs: u64,
    /// Secrets of those.
    pub secrets: u64,
    /// Tokens.
    pub tokens: u64,
    /// Schedules.
    pub schedules: u64,
    /// Entries of `storage`.
    pub storage_entries: u64,
    /// What gateways remember of pages.
    pub ui_hints: u64,
    /// Objects of bundles: archives, manifests, signatures.
    pub bundle_objects: u64,
    /// Other objects: staging leftovers, compiled artifacts, recorded bodies.
    pub other_objects: u64,
    /// Bytes of all objects.
    pub bytes: u64,
    /// Streams of debug events in Redis.
    pub debug_streams: u64,
    /// Recorded runs in Redis.
    #[serde(default)]
    pub recorded_runs: u64,
}

/// What a purge has removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurgeResponse {
    /// Whose.
    pub tenant: String,
    /// How much.
    pub removed: Removed,
    /// What could not be removed, and why; a second purge does what is left.
    pub left: Vec<String>,
}

/// Removes what nobody can use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GcRequest {
    /// Only says what would be removed.
    #[serde(default)]
    #[schema(default = false)]
    pub dry_run: bool,
}

/// What a collection has removed, or would remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GcResponse {
    /// Whether nothing was touched.
    pub dry_run: bool,
    /// How much.
    pub removed: Removed,
    /// Keys, at most 1,000 of them.
    pub keys: Vec<String>,
    /// Keys that are not listed.
    pub more: u64,
    /// Objects that were looked at.
    pub seen: u64,
    /// What could not be removed, and why.
    pub left: Vec<String>,
}

macro_rules! kind_names {
    ($($variant:ident = $text:tt,)*) => {
        /// Every kind of event, for the document.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
        pub enum AuditKindName {
            $(#[doc = $text] #[serde(rename = $text)] $variant,)*
        }
        #[cfg(test)]
        const KIND_NAMES: &[&str] = &[$($text,)*];
    };
}

kind_names! {
    InstallCreated = "install.created",
    InstallUpdated = "install.updated",
    InstallRemoved = "install.removed",
    InstallDisabled = "install.disabled",
    InstallEnabled = "install.enabled",
    InstallRolledBack = "install.rolled_back",
    GrantChanged = "grant.changed",
    TokenCreated = "token.created",
    TokenRevoked = "token.revoked",
    BundleUploaded = "bundle.uploaded",
    BundleRemoved = "bundle.removed",
    SignatureAdded = "signature.added",
    RecordingOn = "recording_on",
    RecordingOff = "recording_off",
    TraceRead = "trace_read",
    TraceExported = "trace_exported",
    TraceImported = "trace_imported",
    EventsRead = "events_read",
    CallsCancelled = "calls.cancelled",
    TenantPurged = "tenant.purged",
    GcRan = "gc.ran",
}

/// Which events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// From this time on, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(format = DateTime)]
    pub since: Option<String>,
    /// Of this kind, such as `install.created`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<AuditKindName>, inline)]
    pub kind: Option<String>,
    /// Of this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)]
    pub tenant: Option<TenantId>,
    /// At most so many (1 to 1000; 100 by default), the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// Events, the oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditList {
    /// The events.
    pub events: Vec<AuditView>,
    /// False: there may be older ones that match.
    #[serde(default)]
    pub complete: bool,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// RFC 3339.
    pub time: String,
    /// What happened, such as `install.created`.
    pub kind: String,
    /// To whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The extension's registry id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
    /// Who did it.
    pub actor: String,
    /// What else; never a secret.
    pub details: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use longshore_registry::AuditKind;

    use super::*;

    #[test]
    fn the_document_has_every_kind_of_event() {
        let kinds: Vec<&str> = AuditKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(kinds, KIND_NAMES);
    }
}
