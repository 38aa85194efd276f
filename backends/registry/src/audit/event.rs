//! Events.

use std::fmt;
use std::str::FromStr;

use longshore_proto::{ExtensionId, TenantId, Token};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The version that this build writes.
const VERSION: u16 = 1;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// What was done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum AuditKind { $($(#[$doc])* $variant,)* }

        impl AuditKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The spelling in events, in queries and, after `audit.`, in subjects.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl FromStr for AuditKind {
            type Err = UnknownKind;
            fn from_str(text: &str) -> Result<Self, UnknownKind> {
                match text { $($text => Ok(Self::$variant),)* _ => Err(UnknownKind) }
            }
        }
    };
}

kinds! {
    /// An install was made.
    InstallCreated = "install.created",
    /// An install was changed.
    InstallUpdated = "install.updated",
    /// An install was removed.
    InstallRemoved = "install.removed",
    /// An install may not be called any more.
    InstallDisabled = "install.disabled",
    /// An install may be called again.
    InstallEnabled = "install.enabled",
    /// An earlier version is in force again.
    InstallRolledBack = "install.rolled_back",
    /// What an install may do was changed.
    GrantChanged = "grant.changed",
    /// A token was made.
    TokenCreated = "token.created",
    /// A token holds no longer.
    TokenRevoked = "token.revoked",
    /// A bundle was stored.
    BundleUploaded = "bundle.uploaded",
    /// A bundle was removed.
    BundleRemoved = "bundle.removed",
    /// A signature was stored beside a bundle.
    SignatureAdded = "signature.added",
    /// A recording was switched on, or another one.
    RecordingOn = "recording_on",
    /// A recording was switched off before its end.
    RecordingOff = "recording_off",
    /// A recorded run, or the list of them, was read.
    TraceRead = "trace_read",
    /// What a recorded run needs to be had again was read: its payloads or its bundle.
    TraceExported = "trace_exported",
    /// A recorded run was put back.
    TraceImported = "trace_imported",
    /// Debug events were read.
    EventsRead = "events_read",
    /// Calls were stopped.
    CallsCancelled = "calls.cancelled",
    /// All that a tenant had was removed.
    TenantPurged = "tenant.purged",
    /// What is no longer needed was removed.
    GcRan = "gc.ran",
}

/// A kind that this build does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of audit event")]
pub struct UnknownKind;

impl fmt::Display for AuditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for AuditKind {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for AuditKind {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One mutation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// The version of the writer.
    #[serde(default)]
    pub v: u16,
    /// Random; the stream keeps one event of an id.
    pub id: String,
    /// When; RFC 3339, UTC, by the clock of the admin service.
    pub time: String,
    /// What was done.
    pub kind: AuditKind,
    /// Whose, if it is one tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Of which extension, if it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension: Option<ExtensionId>,
    /// Who did it: the name of a credential, never the credential.
    pub actor: String,
    /// Before and after, names and hashes. No secret, no token, no value of a configuration that is one.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
}

impl AuditEvent {
    /// An event of now.
    pub fn new(kind: AuditKind, actor: impl Into<String>) -> Self {
        Self {
            v: VERSION,
            id: Token::random().to_string(),
            // A year of four digits always can be written.
            time: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            kind,
            tenant: None,
            extension: None,
            actor: actor.into(),
            details: serde_json::Value::Null,
        }
    }

    /// Whose.
    pub fn tenant(mut self, tenant: &TenantId) -> Self {
        self.tenant = Some(tenant.clone());
        self
    }

    /// Of which extension.
    pub fn extension(mut self, extension: &ExtensionId) -> Self {
        self.extension = Some(extension.clone());
        self
    }

    /// Whatever else is to be known, without secrets.
    pub fn details(mut self, details: serde_json::Value) -> Self {
        self.details = details;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_can_stand_in_a_subject_and_is_read_back() {
        let mut seen = std::collections::BTreeSet::new();
        for kind in AuditKind::ALL {
            let mut tokens = kind.as_str().split('.');
            assert!(tokens.all(|token| {
                !token.is_empty() && token.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            }));
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            assert!(seen.insert(kind.as_str()));
        }
        assert_eq!("install.*".parse::<AuditKind>(), Err(UnknownKind));
    }

    #[test]
    fn an_event_survives_json() {
        let event = AuditEvent::new(AuditKind::InstallCreated, "admin")
            .tenant(&"t".parse().unwrap())
            .extension(&"e".parse().unwrap())
            .details(serde_json::json!({"content_hash": "00"}));
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["kind"], "install.created");
        assert_eq!(serde_json::from_value::<AuditEvent>(json).unwrap(), event);
    }
}
