//! Workers, gateways and their calls.

use longshore_proto::{ExecutionId, ExtensionId, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Who announces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fleet {
    /// Pools with workers, by name.
    pub pools: Vec<PoolView>,
    /// Gateways.
    pub shims: Vec<ShimView>,
    /// For how long announcements have been listened to, in milliseconds: each comes once a second.
    pub listening_ms: u64,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// Slots of all its workers.
    pub slots: u64,
    /// Those without a run.
    pub free: u64,
    /// Its workers, by name.
    pub workers: Vec<WorkerView>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerView {
    /// Its boot id.
    pub worker: String,
    /// Its name.
    pub name: String,
    /// Its program's version, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How many runs at once.
    pub slots: u64,
    /// How many more now.
    pub free: u64,
    /// Whether it takes no more calls.
    pub leaving: bool,
    /// Whether its runs have failed lately for reasons of its own.
    pub unwell: bool,
    /// Milliseconds since it was heard last.
    pub age_ms: u64,
}

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShimView {
    /// Its boot id.
    pub shim: String,
    /// Its program's version, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether it takes no more calls.
    pub leaving: bool,
    /// Milliseconds since it was heard last.
    pub age_ms: u64,
}

/// Whose calls.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct CallsQuery {
    /// Of this tenant. Absent: of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)]
    pub tenant: Option<TenantId>,
}

/// Calls that have no answer yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallList {
    /// The calls, the oldest first.
    pub calls: Vec<CallView>,
    /// How many there are besides.
    pub more: u64,
    /// Gateways that have answered.
    pub shims: u64,
    /// Gateways that announce themselves and have not.
    pub silent_shims: Vec<String>,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallView {
    /// Names it, for `cancel`.
    pub execution: String,
    /// The gateway that has it.
    pub shim: String,
    /// Whose.
    pub tenant: String,
    /// The extension's registry id.
    pub extension: String,
    /// The pool.
    pub pool: String,
    /// The caller's id for its request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The method.
    pub method: String,
    /// `waiting` or `running`.
    pub state: String,
    /// Milliseconds since it was admitted.
    pub age_ms: u64,
    /// Milliseconds until it must have an answer.
    pub left_ms: u64,
    /// How often it was given to a worker.
    pub attempts: u32,
    /// Which worker has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}

/// Which calls to stop: those that match all that is given. Nothing given is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(min_properties = 1)]
pub struct CancelRequest {
    /// This one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[0-9a-f]{32}$")]
    pub execution: Option<ExecutionId>,
    /// Of this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)]
    pub tenant: Option<TenantId>,
    /// Of this extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^\\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length = 128)]
    pub extension: Option<ExtensionId>,
}

/// What was stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallsCancelled {
    /// Calls that waited.
    pub waiting: u64,
    /// Calls that ran.
    pub running: u64,
    /// Gateways that have answered.
    pub shims: u64,
    /// Gateways that announce themselves and have not.
    pub silent_shims: Vec<String>,
}
