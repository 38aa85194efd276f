//! Schedules of an install: kept, checked, and fired when they are due.
//!
//! [`Schedules`] is what the scheduler interface of the guest ABI stands on (interop 1.2, 1.3). Two backends: the
//! platform's API ([`PlatformSchedules`]), which fires its schedules itself, and [`NatsSchedules`], which keeps them in a
//! JetStream KV bucket; those the fleet fires: [`firing`] decides (no I/O, clocks passed in), [`scheduler`] does.
//!
//! # Who fires
//! One gateway holds a lease ([`lease`]). It claims a due schedule by compare-and-set before it sends the call, so that a
//! due time is run at most once whoever believes to be the leader; the lease only keeps many gateways from trying.

pub mod firing;
pub mod lease;
mod model;
mod platform;
pub mod scheduler;
mod standalone;
pub mod timetable;
mod validate;

pub use model::{
    EndpointInfo, NewSchedule, Schedule, ScheduleChange, Schedules, SchedulesError, Scope, WriteError,
};
pub use platform::PlatformSchedules;
pub use standalone::{
    Claim, KvError, LastRun, LastStatus, NatsSchedules, Record, ScheduleStore, StandaloneConfig,
    bucket_settings,
};
pub use validate::{MAX_NAME_CHARS, MAX_PAYLOAD_CHARS};

/// Schedules that an install may have (the existing server's limit, interop 6.3).
pub const MAX_SCHEDULES: usize = 50;

/// What an error of another crate becomes before it is kept as a source.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Milliseconds since 1970, as records keep times.
pub(crate) fn unix_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
