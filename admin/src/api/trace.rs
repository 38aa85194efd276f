//! Recording runs, and what was recorded.

use longshore_proto::trace::Summary;
use longshore_proto::{ContentHash, ExtensionId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The longest recording: a day.
pub const MAX_RECORDING_MS: u64 = 24 * 3_600 * 1_000;

/// The latest moment that a query may name, Unix milliseconds: what the document's `int64` has room for.
pub const MAX_MOMENT_MS: u64 = i64::MAX.unsigned_abs();

/// Records an install's runs for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordingRequest {
    /// For how long, in milliseconds.
    #[schema(minimum = 1000, maximum = 86_400_000)]
    pub for_ms: u64,
    /// The share of runs: more than 0, at most 1. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(exclusive_minimum = 0, maximum = 1)]
    pub sample: Option<f64>,
    /// Only runs that fail are kept.
    #[serde(default)]
    pub errors_only: bool,
}

/// A recording that goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordingView {
    /// Until when; RFC 3339, UTC.
    pub until: String,
    /// The share of runs.
    pub sample: f64,
    /// Only runs that fail.
    pub errors_only: bool,
    /// Who switched it on.
    pub by: String,
}

/// Which recorded runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TracesQuery {
    /// Of this extension, by its registry id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)]
    pub extension: Option<ExtensionId>,
    /// Begun then or later, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Begun then or earlier, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Of the request with this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 256)]
    pub request_id: Option<String>,
    /// With this outcome: `ok` or an error's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 64)]
    pub outcome: Option<String>,
    /// True: those that failed; false: the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<bool>,
    /// Of this bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, pattern = "^(sha256:)?[0-9a-f]{64}$")]
    pub content_hash: Option<ContentHash>,
    /// At most so many. Absent: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 256)]
    pub cursor: Option<String>,
}

/// A page of recorded runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TraceList {
    /// The newest first. May be empty although there is a next page: so many did not match.
    #[schema(value_type = Vec<Object>)]
    pub traces: Vec<Summary>,
    /// Where the next page begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which attempt of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AttemptQuery {
    /// Absent: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1)]
    pub attempt: Option<u32>,
}

/// An imported run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceImported {
    /// The run.
    pub execution: String,
    /// Its attempt.
    pub attempt: u32,
    /// Whether it is new here.
    pub stored: bool,
}

/// Which debug events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Of this extension, by its registry id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)]
    pub extension: Option<ExtensionId>,
    /// Also those that were published since, Unix milliseconds. Absent: only those that come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Of the request with this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 256)]
    pub request: Option<String>,
    /// Of this level or a more serious one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^(trace|debug|info|warn|error)$")]
    pub level: Option<String>,
    /// Whether the answer goes on with what comes, until the caller ends it.
    #[serde(default)]
    pub follow: bool,
}
