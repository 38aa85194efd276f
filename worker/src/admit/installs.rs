//! Installs that change while their calls run here. A shim stops the calls that it has placed; this reaches those of NATS clients without one, and
//! those of a shim that has just died.

use std::sync::Arc;

use longshore_proto::{ExtensionId, TenantId};
use longshore_registry::{Change, InstallFollower};
use tokio::sync::broadcast::error::RecvError;

use super::Admission;

impl Admission {
    /// Stops the runs of installs that are disabled or removed, for as long as the follower lives.
    pub async fn follow_installs(self: Arc<Self>, follower: InstallFollower) {
        let mut changes = follower.changes();
        loop {
            match changes.recv().await {
                Ok(change) if change.stops_calls() => self.stop_runs_of(&change),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => follower.recheck(self.running_extensions()).await,
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// The extensions that run here now, each once.
    pub fn running_extensions(&self) -> Vec<(TenantId, ExtensionId)> {
        let mut running: Vec<_> =
            self.runs.lock().values().map(|run| (run.tenant.clone(), run.extension.clone())).collect();
        running.sort();
        running.dedup();
        running
    }

    fn stop_runs_of(&self, change: &Change) {
        let stopped = {
            let runs = self.runs.lock();
            let meant =
                runs.values().filter(|r| r.tenant == change.tenant && r.extension == change.extension);
            meant.inspect(|run| run.token.cancel()).count()
        };
        if stopped > 0 {
            let happened = if change.now.is_some() { "disabled" } else { "removed" };
            tracing::info!(tenant = %change.tenant, extension = %change.extension, stopped,
                "the install was {happened}: its runs are stopped");
        }
    }
}
