//! A trace: everything that crossed the border of one run, in order, so that the run can be had again without any server.
//!
//! A trace is a list of [`Record`]s numbered from 0 without a gap. The first is [`Entry::Header`], the second
//! [`Entry::Request`], the last [`Entry::Trailer`], whose hash covers all before it: a reader proves that nothing is
//! missing, reordered, doubled or changed. How the records are packed into bytes, and what is checked when they are
//! read, is `longshore-trace`; golden files in `tests/` hold the spelling.
//!
//! Nothing in a trace is a secret: values were replaced by keyed tokens of the same length and alphabet before they
//! came here ([`Redaction`]).

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::call::Run;
use crate::error::ErrorCode;
use crate::ids::{BootId, ContentHash, ExecutionId};
use crate::limits::LimitSet;

/// The schema that this build writes. A reader refuses newer ones: a trace read wrongly is worse than none.
pub const TRACE_VERSION: u16 = 1;

/// Bytes of a payload that stand in the record itself; larger ones are in the bundle store, by digest.
pub const MAX_INLINE_BYTES: usize = 64 << 10;

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// 0, 1, 2, ...
    pub seq: u32,
    /// Microseconds since the run began.
    pub at_us: u64,
    /// What happened.
    pub entry: Entry,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Who ran what, with which rights. Always first.
    Header(Box<Header>),
    /// The request's body; its head is in [`Header::run`]. Always second.
    Request {
        /// None and empty differ.
        body: Option<Payload>,
    },
    /// A host call begins.
    CallStart {
        /// 0, 1, 2, ... in the order of beginnings.
        call: u32,
        /// `storage.get`, `wasi:io/poll.poll`.
        function: Cow<'static, str>,
        /// The arguments as MessagePack: a map by name.
        args: Payload,
    },
    /// A host call is over. A call without an end was under way when the run ended.
    CallEnd {
        /// Which.
        call: u32,
        /// `ok`, the WIT's name of the error, or `denied`.
        outcome: Cow<'static, str>,
        /// What the guest got, as MessagePack.
        result: Payload,
        /// Microseconds.
        duration_us: u64,
        /// Words for the operator, such as why an upstream failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// The guest read a clock.
    Clock {
        /// Which.
        clock: Clock,
        /// Nanoseconds: since 1970 (wall), since some moment before the run (monotonic).
        ns: u64,
    },
    /// The guest read random numbers.
    Random {
        /// Which source.
        source: RandomSource,
        /// What it got.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// The whole of what went through a stream of the sandbox's border (`wasi:io/streams`, stdout, stderr), written
    /// when the run ends. Reads and writes name their stream and their length; what they carried stands here, in one
    /// piece, because a secret that was cut in two by a read would not be recognised in either half.
    Stream {
        /// The number that reads and writes have.
        stream: u32,
        /// What it is.
        kind: StreamKind,
        /// What went through it.
        content: Payload,
    },
    /// What the guest answered.
    Response {
        /// 200 to 599.
        status: u16,
        /// In the guest's order.
        headers: Vec<(String, String)>,
        /// None and empty differ.
        body: Option<Payload>,
        /// Of `wasi:http`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        trailers: Vec<(String, String)>,
    },
    /// Why there is no answer.
    Failure {
        /// The code that the caller got.
        code: ErrorCode,
        /// Its words.
        message: String,
        /// What the log has: the trap and its backtrace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// The end. Always last.
    Trailer(Trailer),
}

/// Who ran what, with which rights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// See [`TRACE_VERSION`].
    pub v: u16,
    /// The run.
    pub execution: ExecutionId,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// Ids, configuration, request head, granted capabilities, user: as the guest saw them, redacted, and without the
    /// envelope of secrets.
    pub run: Arc<Run>,
    /// SHA-256 of the component.
    pub component: ContentHash,
    /// What ran it.
    pub engine: EngineInfo,
    /// The limits in force.
    pub limits: LimitSet,
    /// What replaced secrets.
    pub redaction: Redaction,
    /// Unix milliseconds.
    pub started_at_ms: u64,
    /// Which worker.
    pub worker: BootId,
}

/// What ran a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// wasmtime's version, `48.0.8`.
    pub wasmtime: String,
    /// `cranelift` or `winch`.
    pub compiler: String,
    /// The name of the engine's compiled artifacts: everything that decides about its code.
    pub fingerprint: String,
}

/// What replaced secrets by tokens. Equal secrets have equal tokens under one key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Redaction {
    /// Names the policy: the beginning of the digest of its text.
    pub policy: String,
    /// Names the key, without telling anything of it.
    pub key: String,
}

/// Clocks of WASI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// `wasi:clocks/wall-clock`.
    Wall,
    /// `wasi:clocks/monotonic-clock`.
    Monotonic,
}

/// Sources of random numbers in WASI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RandomSource {
    /// `wasi:random/random`.
    Secure,
    /// `wasi:random/insecure`.
    Insecure,
    /// `wasi:random/insecure-seed`: 16 bytes, little endian.
    Seed,
}

/// What a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// The guest's stdout.
    Stdout,
    /// The guest's stderr.
    Stderr,
    /// One that the guest reads.
    Input,
    /// One that the guest writes.
    Output,
}

/// Bytes that a record speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// At most [`MAX_INLINE_BYTES`].
    Inline(Bytes),
    /// In the bundle store.
    Stored {
        /// SHA-256.
        sha256: ContentHash,
        /// Its length.
        bytes: u64,
    },
    /// Left out: the trace would have been too large. The run cannot be replayed beyond this record.
    Cut {
        /// How many they were.
        bytes: u64,
    },
}

/// The end of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trailer {
    /// `ok`, or the error's code.
    pub outcome: String,
    /// CPU time, microseconds.
    pub cpu_us: u64,
    /// Linear memory at its peak, bytes.
    pub peak_memory_bytes: u64,
    /// Host calls, those that log included.
    pub host_calls: u64,
    /// Requests to hosts that the guest chose.
    pub outbound_requests: u64,
    /// Time in the handler, microseconds.
    pub handler_us: u64,
    /// Records before this one.
    pub records: u32,
    /// The rolling hash over them; see `longshore-trace`.
    pub hash: ContentHash,
    /// Whether the guest was given a secret's value (as its token stands here): what it made of it cannot be told
    /// from the token.
    #[serde(default)]
    pub secrets_read: bool,
    /// Why the run cannot be replayed to its end; none: it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreplayable: Option<Unreplayable>,
}

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreplayable {
    /// The last host call up to which it can; none: nothing can.
    pub after_call: Option<u32>,
    /// In words.
    pub reason: String,
}

/// What a list of traces says of each, and what a replayer must know before it fetches one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The run.
    pub execution: ExecutionId,
    /// Its attempt.
    pub attempt: u32,
    /// The extension's registry id.
    pub extension: crate::ids::ExtensionId,
    /// The bundle.
    pub content_hash: ContentHash,
    /// The caller's id for its request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// `GET /path`, without the query.
    pub request: String,
    /// `ok`, or the error's code.
    pub outcome: String,
    /// Of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Unix milliseconds.
    pub started_at_ms: u64,
    /// Microseconds in the handler.
    pub handler_us: u64,
    /// Host calls.
    pub host_calls: u64,
    /// Bytes of the packed trace.
    pub bytes: u64,
    /// Whether it can be replayed to its end.
    pub replayable: bool,
    /// See [`Trailer::secrets_read`].
    #[serde(default)]
    pub secrets_read: bool,
}
