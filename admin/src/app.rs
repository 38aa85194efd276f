//! What the routes work with.

use std::sync::Arc;

use longshore_access::TokenStore;
use longshore_registry::Installs;
use longshore_secrets::KeyRing;
use longshore_trace::store::TraceStore;
use tokio::sync::Mutex;

use crate::bundles::Bundles;
use crate::config::EventSettings;
use crate::events::Hub;
use crate::fleet::{AskError, Asker, Heard};
use crate::http::Failure;
use crate::ledger::Ledger;
use crate::maintenance::{Retention, TenantData};

/// Everything, shared by all requests.
pub type App = Arc<Parts>;

/// What an [`App`] is made of.
pub struct Parts {
    /// The bundle store.
    pub bundles: Bundles,
    /// The registry.
    pub installs: Installs,
    /// Tokens of callers.
    pub tokens: TokenStore,
    /// The audit stream.
    pub ledger: Ledger,
    /// Questions to workers and gateways.
    pub asker: Asker,
    /// Who is there.
    pub heard: Heard,
    /// What tenants leave in NATS.
    pub data: TenantData,
    /// Where debug events are.
    pub events: EventSettings,
    /// Debug events as they come. None without Redis.
    pub hub: Option<Arc<Hub>>,
    /// Recorded runs. None without Redis.
    pub traces: Option<TraceStore>,
    /// The keys that seal secrets.
    pub ring: Option<KeyRing>,
    /// What is kept for how long.
    pub retention: Retention,
    /// Held from reading an install to writing it: changes of one process never undo each other.
    pub changing: Mutex<()>,
    /// Held by an import, whose file is in memory.
    pub importing: Mutex<()>,
    /// Held by a collection.
    pub collecting: Mutex<()>,
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Disconnected => Self::no_nats(),
            AskError::Client(_) => Self::unavailable("NATS", &error),
        }
    }
}
