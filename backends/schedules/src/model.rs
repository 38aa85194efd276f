//! The seam between the worker's glue and the backends. Fields follow the WIT (interop 1.2).

use std::collections::BTreeMap;

use async_trait::async_trait;
use longshore_proto::Run;
use longshore_proto::manifest::Endpoint;

use crate::BoxError;

/// Whose schedules: what the glue knows about the run that asks.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The run that asks. Its tenant owns the schedules, and a standalone schedule keeps a copy of what its own runs need.
    pub run: &'a Run,
    /// The install. Never empty: without one the capability is denied before a backend is asked.
    pub install: &'a str,
    /// What the bundle's manifest declares.
    pub endpoints: &'a [Endpoint],
}

/// A schedule as its guest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// A UUID.
    pub id: String,
    /// The path that is called.
    pub endpoint_path: String,
    /// `GET` or `POST`.
    pub endpoint_method: String,
    /// For people.
    pub name: Option<String>,
    /// Five fields.
    pub cron: String,
    /// IANA.
    pub timezone: String,
    /// Whether it fires.
    pub enabled: bool,
    /// JSON text; the body of the call.
    pub payload: Option<String>,
    /// RFC 3339: when its last run began.
    pub last_run_at: Option<String>,
    /// `success`, `failed` or, while a run is under way, `running`.
    pub last_run_status: Option<String>,
    /// Why the last run failed.
    pub last_error: Option<String>,
    /// RFC 3339.
    pub created_at: Option<String>,
}

/// What a guest may schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointInfo {
    /// The same for the same install, method and path.
    pub id: String,
    /// In capitals.
    pub method: String,
    /// With its parameters.
    pub path: String,
    /// As the manifest says.
    pub handler: String,
    /// GET or POST, and no parameters in the path.
    pub schedulable: bool,
}

/// A schedule to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewSchedule {
    /// `path` or `METHOD path`.
    pub endpoint: String,
    /// Five fields.
    pub cron: String,
    /// IANA; UTC if absent.
    pub timezone: Option<String>,
    /// True if absent.
    pub enabled: Option<bool>,
    /// For people.
    pub name: Option<String>,
    /// JSON text: an object or an array.
    pub payload: Option<String>,
}

/// A change of a schedule; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduleChange {
    /// `path` or `METHOD path`.
    pub endpoint: Option<String>,
    /// Five fields.
    pub cron: Option<String>,
    /// IANA.
    pub timezone: Option<String>,
    /// Whether it fires.
    pub enabled: Option<bool>,
    /// Empty: no name any more.
    pub name: Option<String>,
    /// JSON text; empty: no payload any more (interop 1.2).
    pub payload: Option<String>,
}

/// Why schedules cannot be read; one variant for each case of the WIT's `scheduler-error`.
#[derive(Debug, thiserror::Error)]
pub enum SchedulesError {
    /// There is no such install or schedule.
    #[error("not found")]
    NotFound,
    /// The request makes no sense.
    #[error("validation failed: {0}")]
    Validation(String),
    /// Over a limit.
    #[error("quota exceeded: {0}")]
    Quota(String),
    /// Not allowed.
    #[error("denied")]
    Denied,
    /// The backend failed.
    #[error("schedules are not available")]
    Internal(#[source] BoxError),
}

/// Why a schedule was not made, changed or deleted. The message is for the guest; the source is for the log.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct WriteError {
    /// What is wrong.
    pub message: String,
    /// What is wrong with which field, by the field's name in the WIT.
    pub field_errors: BTreeMap<String, String>,
    /// The backend's failure, if that was the reason.
    #[source]
    pub source: Option<BoxError>,
}

impl WriteError {
    /// One that only has a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), field_errors: BTreeMap::new(), source: None }
    }

    /// Nothing of the cause is shown to the guest.
    pub fn internal(cause: impl Into<BoxError>) -> Self {
        Self { source: Some(cause.into()), ..Self::new("schedules are not available") }
    }

    /// From what is wrong with each field.
    pub fn fields(field_errors: BTreeMap<String, String>) -> Self {
        let parts: Vec<_> = field_errors.iter().map(|(field, why)| format!("{field}: {why}")).collect();
        Self { message: format!("validation failed: {}", parts.join("; ")), field_errors, source: None }
    }
}

/// The schedules of installs.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// All of the install, oldest first.
    async fn list(&self, scope: &Scope<'_>) -> Result<Vec<Schedule>, SchedulesError>;
    /// One, if there is one with this id.
    async fn get(&self, scope: &Scope<'_>, id: &str) -> Result<Option<Schedule>, SchedulesError>;
    /// Makes one and gives its id, a UUID.
    async fn create(&self, scope: &Scope<'_>, new: NewSchedule) -> Result<String, WriteError>;
    /// Changes one.
    async fn update(&self, scope: &Scope<'_>, id: &str, change: ScheduleChange) -> Result<(), WriteError>;
    /// Deletes one. A run of it that is under way ends undisturbed.
    async fn delete(&self, scope: &Scope<'_>, id: &str) -> Result<(), WriteError>;
    /// What may be scheduled.
    async fn endpoints(&self, scope: &Scope<'_>) -> Result<Vec<EndpointInfo>, SchedulesError>;
}
