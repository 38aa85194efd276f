//! What operators' programs say to all shims or all workers at once, and what those answer. On [`subject::control_all`]
//! and [`subject::CONTROL_SHIMS`]; every answer goes to the reply subject of the question.
//!
//! [`subject::control_all`]: crate::subject::control_all
//! [`subject::CONTROL_SHIMS`]: crate::subject::CONTROL_SHIMS

use serde::{Deserialize, Serialize};

use crate::error::CallError;
use crate::ids::{BootId, ContentHash, ExecutionId, ExtensionId, PoolName, TenantId};

/// To all workers of a pool, on `ctl.<pool>.all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToWorkers {
    /// Fetch and compile a bundle, so that its first call does not wait for it. Each worker answers [`Warmed`].
    Warm(Warm),
}

/// What to make ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warm {
    /// The version of the writer.
    #[serde(default)]
    pub v: u16,
    /// Whose copy in the bundle store.
    pub tenant: TenantId,
    /// Which extension.
    pub extension: ExtensionId,
    /// Which bundle.
    pub content_hash: ContentHash,
}

/// A worker's answer to [`ToWorkers::Warm`], when the component is compiled or cannot be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Warmed {
    /// The version of the writer.
    #[serde(default)]
    pub v: u16,
    /// Who answers.
    pub worker: BootId,
    /// None: ready. A bundle of pages alone has nothing to compile and is ready too.
    #[serde(default)]
    pub error: Option<CallError>,
    /// How long it took, in milliseconds; 0 when it was ready before.
    #[serde(default)]
    pub took_ms: u64,
}

/// To all shims, on `ctl.shim.all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToShims {
    /// Which calls are waiting or running? Each shim answers [`ShimCalls`].
    Calls {
        /// Only this tenant's.
        tenant: Option<TenantId>,
    },
    /// Stops calls: waiting ones are refused, running ones stopped. Each shim answers [`ShimCancelled`].
    Cancel(CallFilter),
}

/// Which calls. What is absent matches all; a filter without any part matches none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CallFilter {
    /// This one.
    #[serde(default)]
    pub execution: Option<ExecutionId>,
    /// Of this tenant.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// Of this extension.
    #[serde(default)]
    pub extension: Option<ExtensionId>,
}

impl CallFilter {
    /// Whether a call is meant.
    pub fn matches(&self, execution: ExecutionId, tenant: &TenantId, extension: &ExtensionId) -> bool {
        let any = self.execution.is_some() || self.tenant.is_some() || self.extension.is_some();
        any && self.execution.is_none_or(|e| e == execution)
            && self.tenant.as_ref().is_none_or(|t| t == tenant)
            && self.extension.as_ref().is_none_or(|e| e == extension)
    }
}

/// How many calls one [`ShimCalls`] lists; the rest is counted.
pub const MAX_LISTED_CALLS: usize = 1000;

/// A shim's calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShimCalls {
    /// The version of the writer.
    #[serde(default)]
    pub v: u16,
    /// Who answers.
    pub shim: BootId,
    /// At most [`MAX_LISTED_CALLS`], the oldest first.
    pub calls: Vec<CallStatus>,
    /// How many are not listed.
    #[serde(default)]
    pub more: u64,
}

/// One call that has no answer yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallStatus {
    /// Names the call.
    pub execution: ExecutionId,
    /// Whose.
    pub tenant: TenantId,
    /// Which extension.
    pub extension: ExtensionId,
    /// The pool.
    pub pool: PoolName,
    /// The caller's id for its request.
    #[serde(default)]
    pub request_id: Option<String>,
    /// The method, as the caller spelled it.
    pub method: String,
    /// How far it is.
    pub state: CallState,
    /// Milliseconds since it was admitted.
    pub age_ms: u64,
    /// Milliseconds until it must have an answer.
    pub left_ms: u64,
    /// How often it was given to a worker.
    #[serde(default)]
    pub attempts: u32,
    /// Which worker has it, as far as is known.
    #[serde(default)]
    pub worker: Option<BootId>,
}

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// In the waiting room.
    Waiting,
    /// With a worker.
    Running,
}

/// What a shim has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimCancelled {
    /// The version of the writer.
    #[serde(default)]
    pub v: u16,
    /// Who answers.
    pub shim: BootId,
    /// Calls that waited.
    pub waiting: u64,
    /// Calls that ran.
    pub running: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_without_any_part_stops_nothing() {
        let (execution, tenant, extension) =
            (ExecutionId::random(), "t".parse().unwrap(), "e".parse().unwrap());
        let filter = |tenant: Option<&str>| CallFilter {
            tenant: tenant.map(|t| t.parse().unwrap()),
            ..CallFilter::default()
        };
        assert!(!filter(None).matches(execution, &tenant, &extension));
        assert!(filter(Some("t")).matches(execution, &tenant, &extension));
        assert!(!filter(Some("other")).matches(execution, &tenant, &extension));
    }
}
