//! The buckets and the stream of installs, as the admin service makes them.

use std::time::Duration;

use longshore_service::nats::buckets::Settings;

use crate::MAX_RECORD_BYTES;

/// The bucket of the installs.
pub const INSTALLS: &str = "longshore-installs";
/// The bucket in which gateways tell each other for whom they serve the pages of a bundle.
pub const UI_HINTS: &str = "longshore-ui-hints";

/// Each is raised when a setting changes on which code relies.
const INSTALLS_VERSION: u32 = 1;
const UI_HINTS_VERSION: u32 = 1;
const AUDIT_VERSION: u32 = 1;

const MIB: u64 = 1024 * 1024;

/// How long a hint is good for without being given again.
const HINT_AGE: Duration = Duration::from_secs(7 * 86_400);
/// A year and what it takes to look back at one.
const AUDIT_AGE: Duration = Duration::from_secs(400 * 86_400);

/// The installs: 1 GiB is a quarter of a million at the usual 4 KiB. Subject and headers are in a message's size.
pub fn installs_settings(replicas: usize) -> Settings {
    let message = u32::try_from(MAX_RECORD_BYTES).unwrap_or(u32::MAX).saturating_add(8 * 1024);
    Settings::bucket(INSTALLS, INSTALLS_VERSION)
        .describe("Longshore: installs")
        .replicas(replicas)
        .max_bytes(1024 * MIB)
        .max_message_bytes(message)
}

/// The hints, which may get lost: they run out, and a full bucket refuses new ones.
pub fn ui_hints_settings(replicas: usize) -> Settings {
    Settings::bucket(UI_HINTS, UI_HINTS_VERSION)
        .describe("Longshore: for whom the pages of a bundle are served")
        .replicas(replicas)
        .max_bytes(64 * MIB)
        .max_message_bytes(4 * 1024)
        .max_age(HINT_AGE)
}

/// The audit stream: full, it drops its oldest events.
pub fn audit_settings(replicas: usize) -> Settings {
    Settings::stream(crate::audit::STREAM, "audit.>", AUDIT_VERSION)
        .describe("Longshore: who changed what")
        .replicas(replicas)
        .max_bytes(1024 * MIB)
        .max_message_bytes(128 * 1024)
        .max_age(AUDIT_AGE)
}
