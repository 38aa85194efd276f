//! What the HTTP side and the dispatcher say to each other.

use std::time::Instant;

use bytes::Bytes;
use longshore_proto::{CallError, ExecutionId, PoolName, Run};
use tokio::sync::mpsc;

/// One call, checked by the HTTP side.
#[derive(Debug)]
pub struct Call {
    /// Names the call; made by the HTTP side, so that even a refusal can name it.
    pub execution: ExecutionId,
    /// Which workers may run it.
    pub pool: PoolName,
    /// What to run.
    pub run: Run,
    /// The request body.
    pub body: Option<Bytes>,
    /// Whether it may run twice although its method promises nothing: its endpoint is declared `idempotent`.
    pub idempotent: bool,
    /// When the shim must have answered: the caller's timeout less the margin.
    pub answer_by: Instant,
    /// Turns of the tenant in the waiting room, relative to 1.
    pub weight: u32,
    /// `traceparent` and the like, for the message's headers.
    pub trace: Vec<(String, String)>,
}

impl Call {
    /// Whether it may run twice.
    pub fn is_safe(&self) -> bool {
        self.idempotent || self.run.http.is_safe_method()
    }
}

/// What the caller gets.
pub type CallResult = Result<Answer, CallError>;

/// A guest's answer.
#[derive(Debug)]
pub struct Answer {
    /// 200 to 599.
    pub status: u16,
    /// In the guest's order and spelling.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: AnswerBody,
    /// What a `wasi:http` guest sent after its body.
    pub trailers: Vec<(String, String)>,
}

/// The body of an answer.
#[derive(Debug)]
pub enum AnswerBody {
    /// All of it (or none).
    Full(Option<Bytes>),
    /// In order, as it is fetched from the worker; an error item means that the answer is lost and that the response
    /// to the caller must be reset, never ended as if it were complete. The stream ends after `len` bytes.
    Stream {
        /// Its length.
        len: u64,
        /// The parts.
        parts: mpsc::Receiver<Result<Bytes, CallError>>,
    },
}
