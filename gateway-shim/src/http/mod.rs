//! The HTTP side: `POST /v1/execute` (interop 2) and what operators ask, on a server with every resource bounded.
//!
//! ```text
//! server (connections, timeouts, drain) -> router -> execute: auth, body, JSON -> Dispatch -> envelope
//! ```
//! The dispatcher is behind [`Dispatch`]; dropping the future of [`Dispatch::call`] means that the caller went away.

pub(crate) mod budget;
mod config;
mod conn;
mod envelope;
pub(crate) mod execute;
mod health;
pub(crate) mod ingest;
pub(crate) mod metrics;
pub(crate) mod record;
mod router;
mod sealing;
mod server;

use crate::dispatch::{Call, CallResult};

pub use budget::BodyBudget;
pub use config::{ExecuteAuth, HttpConfig};
pub(crate) use envelope::ReplyLost;
pub use execute::MAX_JSON_BYTES;
pub use health::{Probe, health};
pub use metrics::HttpMetrics;
pub use router::{App, router};
pub use sealing::Sealer;
pub use server::{Peer, Server};

/// Names the execution, in the envelope's headers and on the transport.
pub const EXECUTION_ID: &str = "x-longshore-execution-id";

/// What the HTTP side asks of the dispatcher.
pub trait Dispatch: Send + Sync + 'static {
    /// Runs a call. It answers by `call.answer_by` at the latest; a streamed body may end later. Dropping the future
    /// cancels the call.
    fn call(&self, call: Call) -> impl Future<Output = CallResult> + Send;

    /// What `/healthz` says about the fleet.
    fn fleet(&self) -> Fleet;
}

/// The fleet as the dispatcher sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fleet {
    /// The connection to NATS stands.
    pub nats_connected: bool,
    /// Workers heard and not leaving.
    pub workers: usize,
}
