//! The seam between admission and execution: an admitted call goes in, its outcome comes out.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use longshore_proto::{CallError, ExecutionId, Run};
use tokio_util::sync::CancellationToken;

use crate::host::tape::Player;

/// An admitted call with its body at hand.
pub struct Job {
    /// Names the call.
    pub execution: ExecutionId,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// What to run.
    pub run: Arc<Run>,
    /// The request body; none and empty differ.
    pub body: Option<Bytes>,
    /// When the answer must be ready: fetching, compiling and host calls included.
    pub deadline: Instant,
    /// Set when the caller is gone or an operator stops the run.
    pub cancel: CancellationToken,
    /// Answers in place of everything outside: a replay. None for every call that anybody waits for.
    pub player: Option<Arc<dyn Player>>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("execution", &self.execution)
            .field("attempt", &self.attempt)
            .field("replayed", &self.player.is_some())
            .finish_non_exhaustive()
    }
}

/// What came of a job. The instance has been dropped when this is returned.
#[derive(Debug)]
pub struct Outcome {
    /// The guest's answer, or why there is none.
    pub result: Result<GuestResponse, CallError>,
    /// What it cost.
    pub usage: Usage,
}

/// The guest's answer, already checked: status 200 to 599, no body with 204 and 304, size within the limit.
#[derive(Debug, Clone, PartialEq)]
pub struct GuestResponse {
    /// 200 to 599.
    pub status: u16,
    /// In the guest's order and spelling.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<Bytes>,
    /// What a `wasi:http` guest sent after its body.
    pub trailers: Vec<(String, String)>,
}

/// What an execution used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU time of the guest in microseconds: the thread's clock around its polls.
    pub cpu_us: u64,
    /// The most linear memory that the instance held, in bytes.
    pub peak_memory_bytes: u64,
    /// Host calls made.
    pub host_calls: u64,
    /// Requests sent to hosts that the guest chose.
    pub outbound_requests: u64,
    /// Time from the start of the job until the handler was called, in microseconds: fetch, compile, instantiate.
    pub prepare_us: u64,
    /// Time in the handler, in microseconds.
    pub handler_us: u64,
    /// What the guest computed, in units of fuel; of an engine that counts it
    /// ([`fuel`](crate::engine::config::EngineConfig::fuel)). A run that trapped may lack its last few hundred.
    pub fuel: Option<u64>,
}
