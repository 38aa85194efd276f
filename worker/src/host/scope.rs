//! What the host functions of one run share: who runs, with which rights, and what stands behind them.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use longshore_egress::EgressRules;
use longshore_proto::manifest::{Endpoint, Manifest};
use longshore_proto::{ExecutionId, Run};
use longshore_secrets::Secrets;

use super::backends::Backends;
use super::record::RunRecord;
use crate::engine::meter::Meter;
use crate::limits::RunLimits;

/// See the module. Everything in it was checked before the guest started.
pub struct RunScope {
    /// Names the run.
    pub execution: ExecutionId,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// Who, which bundle, which rights.
    pub run: Arc<Run>,
    /// What the run leaves behind.
    pub record: Arc<RunRecord>,
    /// What it may use.
    pub limits: RunLimits,
    /// Its clocks.
    pub meter: Arc<Meter>,
    /// When its answer must be ready.
    pub deadline: Instant,
    /// The install's secrets, opened.
    pub secrets: Arc<Secrets>,
    /// What the install lets it reach; none: the worker's list alone decides.
    pub egress: Option<EgressRules>,
    /// What the bundle says of itself, if it says anything.
    pub manifest: Option<Arc<Manifest>>,
    /// What capabilities stand on.
    pub backends: Arc<Backends>,
}

impl RunScope {
    /// The install's id; none when the call names none or a blank one.
    pub fn install(&self) -> Option<&str> {
        self.run.context.install_id.as_deref().map(str::trim).filter(|id| !id.is_empty())
    }

    /// The caller's id for its request.
    pub fn request_id(&self) -> Option<&str> {
        self.run.context.request_id.as_deref()
    }

    /// The routes that the bundle declares.
    pub fn endpoints(&self) -> &[Endpoint] {
        self.manifest.as_ref().and_then(|m| m.api.as_ref()).map_or(&[], |api| &api.endpoints)
    }

    /// Logs for the operator that a backend failed. Guests get the short error of the WIT.
    pub fn upstream_failed(&self, error: &dyn std::error::Error) {
        let cause = longshore_service::errors::chain(error).to_string();
        // What the other side said may have been cut.
        tracing::warn!(error = %self.record.redact_cut(&cause), "a capability's backend failed");
    }

    /// Whether the secrets have expired since the run began.
    pub fn secrets_expired(&self) -> bool {
        self.secrets.is_expired(SystemTime::now())
    }
}
