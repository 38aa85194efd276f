//! Which installs there are: one seam ([`Registry`]), two keepers. Standalone they are in a JetStream key-value bucket that
//! every process watches ([`NatsRegistry`]); beside an existing platform its HTTP API is asked ([`PlatformRegistry`], interop 6.1, 6.2).
//!
//! The admin service alone writes ([`Installs`]), and records what it did ([`Audit`]). Workers, which may not watch, hear of changes
//! through [`InstallFollower`].

pub mod audit;
mod bucket;
mod follow;
mod index;
mod installs;
mod nats;
mod platform;
mod record;
mod seam;

pub use audit::{Audit, AuditError, AuditEvent, AuditKind, AuditPage, AuditQuery};
pub use bucket::{INSTALLS, UI_HINTS, audit_settings, installs_settings, ui_hints_settings};
pub use follow::InstallFollower;
pub use installs::{
    Installs, InstallsError, MAX_CONFIG_BYTES, MAX_HOSTS, MAX_INSTALLS, MAX_RECORD_BYTES, Outcome, Refused,
    Stored,
};
pub use nats::{InstallPage, NatsRegistry, RegistryMetrics};
pub use platform::{PlatformConfig, PlatformConfigError, PlatformFault, PlatformRegistry};
pub use record::{RecordError, install_key};
pub use seam::{Change, HostTarget, Lookup, Registry, RegistryError};
