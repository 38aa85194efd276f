//! What operators and the registry ask of the machine: which calls there are, and to stop some.

use longshore_proto::fleet::CallState;
use longshore_proto::{BootId, CallError, ExecutionId};

use super::call::{CallMeta, Progress, SendState};
use super::{Machine, Output};

/// A call that has no answer yet.
#[derive(Debug, Clone)]
pub struct HeldCall<'a> {
    /// Names the call.
    pub execution: ExecutionId,
    /// What the machine knows of it.
    pub meta: &'a CallMeta,
    /// How far it is.
    pub state: CallState,
    /// Attempts that were sent and not refused.
    pub attempts: u32,
    /// Who has it, as far as is known.
    pub worker: Option<BootId>,
}

/// What the callers of stopped calls are told.
#[derive(Debug, Clone)]
pub struct StopErrors {
    /// Of one that has certainly not run.
    pub waiting: CallError,
    /// Of one that runs, or may have run.
    pub running: CallError,
}

impl Machine {
    /// All calls without an answer.
    pub fn held(&self) -> impl Iterator<Item = HeldCall<'_>> {
        self.calls.iter().map(|(execution, call)| HeldCall {
            execution: *execution,
            meta: &call.meta,
            state: state(call.progress),
            attempts: call.attempts,
            worker: call.sends.iter().rev().find(|s| s.state != SendState::Lost).map(|s| s.worker),
        })
    }

    /// Ends a call with an error: its place is given up, its workers are told. None: there is no such call any more.
    pub fn stop(&mut self, execution: ExecutionId, errors: &StopErrors) -> Option<CallState> {
        let call = self.calls.get(&execution)?;
        let was = state(call.progress);
        // A safe call that waits again while a lost attempt has perhaps run is not one that has not run.
        let unsent = was == CallState::Waiting && call.sends.is_empty();
        let error = if unsent { errors.waiting.clone() } else { errors.running.clone() };
        if matches!(call.progress, Progress::Committed(_)) {
            self.outputs.push_back(Output::Reset { execution, error });
            self.settle(execution);
        } else {
            self.finish(execution, Err(error));
        }
        Some(was)
    }
}

fn state(progress: Progress) -> CallState {
    match progress {
        Progress::Waiting => CallState::Waiting,
        Progress::Sent | Progress::Fetching(_) | Progress::Committed(_) => CallState::Running,
    }
}
