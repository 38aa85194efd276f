//! Calls by `/v1/execute` name bundle and rights themselves. One that names an install of this fleet's registry is
//! refused all the same while that install is disabled, and after it was removed.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use longshore_proto::call::CaptureLevel;
use longshore_proto::{CallError, ErrorCode, ExecutionId, ExtensionId, RunContext, TenantId};
use longshore_registry::{Change, Lookup, Registry};
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;

use super::runs;

/// Removed installs that are remembered. Callers that keep what they know of an install do so for seconds or minutes; a gateway
/// that has restarted meanwhile takes the call, and the worker finds the bundle or does not.
const MAX_REMOVED: usize = 10_000;

/// See the module. For a registry that answers from memory.
pub struct InstallGate {
    registry: Arc<dyn Registry>,
    removed: Mutex<Removed>,
}

#[derive(Default)]
struct Removed {
    set: HashSet<(TenantId, ExtensionId)>,
    /// In the order of removal; may name some that were installed again.
    order: VecDeque<(TenantId, ExtensionId)>,
}

impl Removed {
    fn note(&mut self, change: &Change) {
        let key = (change.tenant.clone(), change.extension.clone());
        if change.now.is_some() {
            self.set.remove(&key);
            return;
        }
        if self.set.insert(key.clone()) {
            self.order.push_back(key);
        }
        while self.order.len() > MAX_REMOVED {
            if let Some(oldest) = self.order.pop_front() {
                self.set.remove(&oldest);
            }
        }
    }
}

impl InstallGate {
    /// Asks `registry`; [`Self::follow`] must run beside it.
    pub fn new(registry: Arc<dyn Registry>) -> Arc<Self> {
        Arc::new(Self { registry, removed: Mutex::default() })
    }

    /// Notes what is removed, for as long as the registry lives.
    pub async fn follow(self: Arc<Self>) {
        let mut changes = self.registry.changes();
        loop {
            match changes.recv().await {
                Ok(change) => self.removed.lock().note(&change),
                // What was missed is not refused: the note is a kindness to callers, rights do not hang on it.
                Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "changes of installs were missed"),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Whether the install was removed while this gateway ran, and not made again.
    pub fn was_removed(&self, tenant: &TenantId, extension: &ExtensionId) -> bool {
        self.removed.lock().set.contains(&(tenant.clone(), extension.clone()))
    }

    /// What is published of a call of `/v1/execute` is decided by the install that it belongs to, if this fleet keeps it.
    pub async fn capture(&self, context: &RunContext, execution: ExecutionId) -> CaptureLevel {
        match self.registry.find(&context.tenant, context.extension.as_str()).await {
            Ok(Lookup::Found(install)) if install.extension == context.extension => {
                runs::capture_of(&install, execution)
            }
            _ => CaptureLevel::default(),
        }
    }

    /// Lets a call pass that names no install, an enabled one, or one that the registry does not know: callers with a registry of
    /// their own have others.
    ///
    /// # Errors
    /// `extension_not_available`.
    pub async fn check(&self, context: &RunContext) -> Result<(), CallError> {
        let Some(install) = &context.install_id else { return Ok(()) };
        let refused = |why: &str| Err(CallError::new(ErrorCode::ExtensionNotAvailable, why));
        match self.registry.find(&context.tenant, install).await {
            Ok(Lookup::Found(found)) if found.extension == context.extension && !found.enabled => {
                refused("the install is disabled")
            }
            Ok(Lookup::Absent) if self.was_removed(&context.tenant, &context.extension) => {
                refused("the install was removed")
            }
            // A registry that does not answer refuses nothing here: this route worked before there was one.
            _ => Ok(()),
        }
    }
}
