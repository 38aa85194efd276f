//! The frames of the reply protocol (docs/architecture.md, "The dispatch protocol"). Every frame, question, refusal
//! and cancel names (execution, send), so that nothing can be mistaken for an answer to another send.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::call::RunResponse;
use crate::error::CallError;
use crate::ids::{BootId, ExecutionId, PoolName, SendNo};

/// One send of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallRef {
    /// The call.
    pub execution: ExecutionId,
    /// The send.
    pub send: SendNo,
}

/// A worker's message to the reply subject of a send, or (status, offer) to the subject that the shim gave for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerFrame {
    /// The version of the writer.
    #[serde(default)]
    pub v: u16,
    /// Who speaks.
    pub worker: BootId,
    /// Free slots now; every frame carries it, so that a shim's estimate is fresh without extra messages.
    pub free: u32,
    /// What it says.
    pub frame: Reply,
}

/// What a worker says to a shim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Admitted: a slot is held and the run has begun.
    Taken(CallRef),
    /// Not admitted, and proof that this send has not run and never will.
    Busy {
        /// Which send.
        call: CallRef,
        /// Why.
        reason: BusyReason,
    },
    /// The run is over and this is its answer.
    Result {
        /// Which send.
        call: CallRef,
        /// The guest's response.
        response: Box<RunResponse>,
    },
    /// The run is over, or was refused, and this is why.
    Failed {
        /// Which send.
        call: CallRef,
        /// Why.
        error: CallError,
    },
    /// The answer to a question.
    Status {
        /// Which question.
        question: u64,
        /// One entry for each call that the question listed.
        calls: Vec<(CallRef, RunStatus)>,
    },
    /// A slot is free and kept for this shim for 20 ms: the shim was told `busy` before, for this tenant.
    Offer {
        /// For whom it was told `busy`; it may send another tenant's call, if that one's turn is first.
        tenant: crate::ids::TenantId,
    },
}

/// Why a worker did not take a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusyReason {
    /// No slot, no room for answers, or the table of admitted ids is full.
    Full,
    /// The tenant holds its share of the slots while another tenant waits, or the last slot is kept for tenants with
    /// nothing running here.
    Share,
    /// The worker is leaving.
    Leaving,
}

/// What a worker knows of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Admitted and not over.
    Running,
    /// Over; the answer is sent again right after this.
    Done,
    /// Over; the answer is no longer kept.
    AnswerDropped,
    /// Never admitted, and from now on refused: proof that it has not run.
    Unknown,
}

/// A shim's message to one worker on `ctl.<pool>.<worker>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// "How are these?", every 2 s and when an admission is overdue.
    Question(Question),
    /// The caller is gone, or another attempt has won.
    Cancel {
        /// The shim that asks.
        shim: BootId,
        /// Which send.
        call: CallRef,
    },
    /// "No, thank you" to an offer: the call has found another place. Without it the slot would stand empty for the
    /// rest of its 20 ms, and a shim that waits at four workers would waste three slots for each call.
    Decline {
        /// The shim that was offered a slot.
        shim: BootId,
    },
}

/// One question about all calls of a shim at one worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// The version of the writer.
    #[serde(default)]
    pub v: u16,
    /// The shim that asks.
    pub shim: BootId,
    /// Counts this shim's questions.
    pub number: u64,
    /// Every send of this shim to this worker with a number up to this one that is not listed is acknowledged: its
    /// answer may be forgotten. Without the bound, a question that overtakes a call would drop that call's answer.
    pub up_to: SendNo,
    /// The sends that the shim still waits for.
    pub calls: Vec<AskedCall>,
}

/// A send in a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedCall {
    /// Which send.
    pub call: CallRef,
    /// What is left of its time: a worker that does not know the send refuses it that long, and at least 60 s.
    pub budget_ms: u64,
}

/// A worker's announcement, each second and at each change that matters, on `fleet.<pool>.<worker>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerAnnouncement {
    /// The version of the writer.
    #[serde(default)]
    pub v: u16,
    /// Who.
    pub worker: BootId,
    /// In which pool.
    pub pool: PoolName,
    /// The operator's name for it: a label, never an address.
    #[serde(default)]
    pub name: String,
    /// The build.
    #[serde(default)]
    pub version: String,
    /// Counts announcements, so that an old one never overwrites a newer one.
    #[serde(default)]
    pub number: u64,
    /// Slots in all.
    pub slots: u32,
    /// Slots free now.
    pub free: u32,
    /// Load of the process: CPU seconds used per second, in percent of one core.
    #[serde(default)]
    pub load_percent: u32,
    /// Takes no more calls.
    #[serde(default)]
    pub leaving: bool,
    /// Runs are overdue, or half of the last 20 outcomes were platform faults: chosen last.
    #[serde(default)]
    pub unwell: bool,
}

/// A shim's announcement, each second, on `fleet.shim.<shim>`: a worker cancels the runs of a shim that it has not
/// heard for 10 s.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShimAnnouncement {
    /// The version of the writer.
    #[serde(default)]
    pub v: u16,
    /// Who.
    pub shim: BootId,
    /// The build.
    #[serde(default)]
    pub version: String,
    /// Takes no more calls.
    #[serde(default)]
    pub leaving: bool,
}

/// "I have free slots and nobody to offer them to", on `free.<pool>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FreeNotice {
    /// Who.
    pub worker: BootId,
    /// How many.
    pub free: u32,
}

/// The receiver of a remote body asks its sender for a part; the chunks go to the reply subject of this message.
/// The sender keeps no state for it: asking again is how a lost chunk is repaired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fetch {
    /// Send these bytes in chunks of at most [`crate::limits::CHUNK_BYTES`]: the receiver's credit.
    Range {
        /// From this byte.
        offset: u64,
        /// So many bytes.
        len: u64,
    },
    /// All is here: the sender may forget the body.
    Done,
}

/// A part of a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Where it belongs.
    pub offset: u64,
    /// The bytes; empty when the sender no longer has the body.
    #[serde(with = "crate::call::bytes_as_bin")]
    pub data: Bytes,
    /// The sender has no such body (any more): stop asking.
    #[serde(default)]
    pub gone: bool,
}
