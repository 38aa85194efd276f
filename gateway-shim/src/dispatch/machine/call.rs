//! One call in the machine: where its attempts are and what is known of them.

use longshore_proto::frame::CallRef;
use longshore_proto::{BootId, ContentHash, ExtensionId, PoolName, SendNo, TenantId};

/// At most two more attempts after the first was lost.
pub(super) const MAX_ATTEMPTS: u32 = 3;

/// A call as the machine needs it; the request itself stays with the I/O.
#[derive(Debug, Clone)]
pub struct CallMeta {
    /// Whose.
    pub tenant: TenantId,
    /// Which extension.
    pub extension: ExtensionId,
    /// Which workers may run it.
    pub pool: PoolName,
    /// What will run: workers that have run it are preferred.
    pub component: ContentHash,
    /// Whether it may run twice.
    pub safe: bool,
    /// Turns of its tenant.
    pub weight: u32,
    /// When the caller must have its answer, on the machine's clock.
    pub answer_by_ms: u64,
}

/// What is known of one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SendState {
    /// Written; neither taken nor refused yet.
    Sent,
    /// Running, as far as is known.
    Taken,
    /// Its worker is lost; if it turns up again with the answer, the better.
    Lost,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Send {
    pub(super) number: SendNo,
    pub(super) worker: BootId,
    pub(super) state: SendState,
    pub(super) sent_ms: u64,
}

/// How far the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// In the waiting room.
    Waiting,
    /// With one worker or two.
    Sent,
    /// An answer with a large body is being fetched; nothing has left for the caller.
    Fetching(SendNo),
    /// Bytes of this send's answer have left for the caller: no other answer can be given.
    Committed(SendNo),
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) meta: CallMeta,
    pub(super) progress: Progress,
    /// Sends that are not proven not to have run.
    pub(super) sends: Vec<Send>,
    /// Attempts that were sent and not refused.
    pub(super) attempts: u32,
    pub(super) lost_by: Vec<BootId>,
}

impl Call {
    pub(super) fn new(meta: CallMeta) -> Self {
        Self { meta, progress: Progress::Waiting, sends: Vec::new(), attempts: 0, lost_by: Vec::new() }
    }

    pub(super) fn send(&self, number: SendNo) -> Option<&Send> {
        self.sends.iter().find(|s| s.number == number)
    }

    pub(super) fn send_mut(&mut self, number: SendNo) -> Option<&mut Send> {
        self.sends.iter_mut().find(|s| s.number == number)
    }

    /// A send that may still bring the answer by itself.
    pub(super) fn is_alive(&self) -> bool {
        self.sends.iter().any(|s| s.state != SendState::Lost)
    }
}

/// `(execution, send)` of a send.
pub(super) fn call_ref(execution: longshore_proto::ExecutionId, number: SendNo) -> CallRef {
    CallRef { execution, send: number }
}
