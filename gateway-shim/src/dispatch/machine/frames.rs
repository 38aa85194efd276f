//! What workers say, and what follows from it.

use longshore_proto::frame::{BusyReason, CallRef, FreeNotice, Reply, RunStatus, WorkerFrame};
use longshore_proto::{Body, BootId, CallError, ErrorCode, RunResponse, SendNo};

use super::call::{MAX_ATTEMPTS, Progress, SendState, call_ref};
use super::{Machine, Output};

impl Machine {
    /// A frame has arrived on a reply subject of this shim.
    pub fn frame(&mut self, now_ms: u64, frame: WorkerFrame) {
        let worker_id = frame.worker;
        if let Some(worker) = self.workers.get_mut(worker_id) {
            worker.hear(now_ms, frame.free);
        }
        let offered = matches!(frame.frame, Reply::Offer { .. });
        match frame.frame {
            Reply::Taken(call) => self.taken(worker_id, call),
            Reply::Busy { call, reason } => self.busy(now_ms, worker_id, call, reason),
            Reply::Result { call, response } => self.result(worker_id, call, response),
            Reply::Failed { call, error } => self.failed(worker_id, call, error),
            Reply::Status { question, calls } => {
                if let Some(worker) = self.workers.get_mut(worker_id) {
                    worker.answered(question);
                }
                for (call, status) in calls {
                    self.status(now_ms, worker_id, call, status);
                }
            }
            Reply::Offer { tenant } => {
                if let Some(worker) = self.workers.get_mut(worker_id) {
                    worker.has_offered();
                    worker.unpark(&tenant);
                }
            }
        }
        let Some((pool, before)) = self.workers.get(worker_id).map(|w| (w.pool.clone(), w.undecided)) else {
            return;
        };
        self.pump(now_ms, &pool);
        let unused = self.workers.get(worker_id).is_some_and(|w| w.undecided <= before);
        if offered && unused && self.connected {
            self.outputs.push_back(Output::Decline { worker: worker_id, pool });
        }
    }

    /// A worker has free slots and nobody to offer them to.
    pub fn free_notice(&mut self, now_ms: u64, notice: &FreeNotice) {
        let Some(worker) = self.workers.get_mut(notice.worker) else { return };
        worker.hear(now_ms, notice.free);
        worker.unpark_all();
        let pool = worker.pool.clone();
        self.pump(now_ms, &pool);
    }

    /// The server had nobody subscribed to the subject of this send: proof that it has not run. (The same to a
    /// question proves nothing, and never gets here.)
    pub fn no_responders(&mut self, now_ms: u64, call: CallRef) {
        let Some(worker_id) = self.worker_of(call) else { return };
        // It may have left, or be about to reconnect: its next announcement tells.
        self.has_not_run_then(now_ms, worker_id, call, |worker| {
            worker.full();
            // Nor is it worth knocking there before then.
            worker.remembers_us(now_ms);
        });
    }

    fn worker_of(&self, call: CallRef) -> Option<BootId> {
        Some(self.calls.get(&call.execution)?.send(call.send)?.worker)
    }

    /// Only the worker that a send went to can say something about it.
    fn is_from(&self, worker_id: BootId, call: CallRef) -> bool {
        self.worker_of(call) == Some(worker_id)
    }

    fn taken(&mut self, worker_id: BootId, call: CallRef) {
        if !self.is_from(worker_id, call) {
            return;
        }
        self.decided(call);
        let component = self.calls.get(&call.execution).map(|c| c.meta.component);
        if let (Some(worker), Some(component)) = (self.workers.get_mut(worker_id), component) {
            worker.has_run(component);
        }
    }

    /// A send is known to have been taken: it no longer counts against the estimate.
    fn decided(&mut self, call: CallRef) {
        let Some(send) = self.calls.get_mut(&call.execution).and_then(|c| c.send_mut(call.send)) else {
            return;
        };
        let before = std::mem::replace(&mut send.state, SendState::Taken);
        let worker_id = send.worker;
        if before == SendState::Sent
            && let Some(worker) = self.workers.get_mut(worker_id)
        {
            worker.undecided = worker.undecided.saturating_sub(1);
        }
    }

    fn busy(&mut self, now_ms: u64, worker_id: BootId, call: CallRef, reason: BusyReason) {
        let tenant = self.calls.get(&call.execution).map(|c| c.meta.tenant.clone());
        self.has_not_run_then(now_ms, worker_id, call, |worker| match (reason, tenant) {
            (BusyReason::Full, _) | (BusyReason::Share, None) => {
                worker.full();
                worker.remembers_us(now_ms);
            }
            (BusyReason::Share, Some(tenant)) => worker.park(tenant),
            (BusyReason::Leaving, _) => worker.leaving = true,
        });
    }

    fn has_not_run(&mut self, now_ms: u64, worker_id: BootId, call: CallRef) {
        self.has_not_run_then(now_ms, worker_id, call, |_| {});
    }

    /// Proof that a send has not run and never will. The call waits again, unless another attempt is alive.
    fn has_not_run_then(
        &mut self,
        now_ms: u64,
        worker_id: BootId,
        call: CallRef,
        note: impl FnOnce(&mut super::workers::Worker),
    ) {
        if !self.is_from(worker_id, call) {
            return;
        }
        let Some(entry) = self.calls.get_mut(&call.execution) else { return };
        let Some(position) = entry.sends.iter().position(|s| s.number == call.send) else { return };
        // A worker that has taken a send cannot prove the contrary: an old `busy` of a duplicated message, say.
        if entry.sends.get(position).is_some_and(|s| s.state == SendState::Taken) {
            return;
        }
        let send = entry.sends.swap_remove(position);
        entry.attempts = entry.attempts.saturating_sub(1);
        let waits_again = entry.progress == Progress::Sent && !entry.is_alive();
        self.drop_send(call.execution, send, false);
        // After dropping: dropping a send ends a park, and this note may begin one.
        if let Some(worker) = self.workers.get_mut(worker_id) {
            note(worker);
        }
        if waits_again {
            self.requeue(now_ms, call.execution);
        }
    }

    fn result(&mut self, worker_id: BootId, call: CallRef, response: Box<RunResponse>) {
        if !self.is_from(worker_id, call) {
            return;
        }
        self.decided(call);
        let Some(entry) = self.calls.get_mut(&call.execution) else { return };
        match (entry.progress, &response.body) {
            (Progress::Committed(_), _) => {}
            (Progress::Fetching(number), _) if number == call.send => {}
            (before, Body::Remote(_)) => {
                // Two large answers: the later one is not better than the one that is being fetched.
                if matches!(before, Progress::Fetching(_)) {
                    return;
                }
                self.leave_room(call.execution);
                if let Some(entry) = self.calls.get_mut(&call.execution) {
                    entry.progress = Progress::Fetching(call.send);
                }
                self.outputs.push_back(Output::Fetch { call, response });
            }
            (_, Body::None | Body::Inline(_)) => self.finish_by(call, Ok(response)),
        }
    }

    fn failed(&mut self, worker_id: BootId, call: CallRef, error: CallError) {
        if !self.is_from(worker_id, call) {
            return;
        }
        self.decided(call);
        match self.calls.get(&call.execution).map(|c| c.progress) {
            Some(Progress::Committed(_)) | None => {}
            Some(Progress::Fetching(number)) if number != call.send => {}
            Some(_) => self.finish_by(call, Err(error)),
        }
    }

    /// The answer of one send ends the call; the send itself needs no cancel, the others do.
    fn finish_by(&mut self, call: CallRef, result: Result<Box<RunResponse>, CallError>) {
        if let Some(entry) = self.calls.get_mut(&call.execution)
            && let Some(position) = entry.sends.iter().position(|s| s.number == call.send)
        {
            let send = entry.sends.swap_remove(position);
            self.drop_send(call.execution, send, false);
        }
        self.finish(call.execution, result);
    }

    fn status(&mut self, now_ms: u64, worker_id: BootId, call: CallRef, status: RunStatus) {
        match status {
            RunStatus::Running | RunStatus::Done => self.taken(worker_id, call),
            RunStatus::Unknown => self.has_not_run(now_ms, worker_id, call),
            RunStatus::AnswerDropped => {
                if self.is_from(worker_id, call) {
                    self.answer_is_gone(now_ms, call);
                }
            }
        }
    }

    /// The run is over and its answer will not come.
    fn answer_is_gone(&mut self, now_ms: u64, call: CallRef) {
        self.decided(call);
        let Some(entry) = self.calls.get_mut(&call.execution) else { return };
        let Some(position) = entry.sends.iter().position(|s| s.number == call.send) else { return };
        if entry.progress == Progress::Committed(call.send) {
            let error = CallError::from(ErrorCode::AnswerDropped);
            self.outputs.push_back(Output::Reset { execution: call.execution, error });
            return self.settle(call.execution);
        }
        if entry.progress == Progress::Fetching(call.send) {
            entry.progress = Progress::Sent;
            self.outputs.push_back(Output::StopFetch { call });
        }
        let send = entry.sends.swap_remove(position);
        self.drop_send(call.execution, send, false);
        self.attempt_ended(now_ms, call.execution, ErrorCode::AnswerDropped);
    }

    /// An attempt ended without an answer and may have run: a safe call gets another, an unsafe one its error.
    pub(super) fn attempt_ended(
        &mut self,
        now_ms: u64,
        execution: longshore_proto::ExecutionId,
        code: ErrorCode,
    ) {
        let Some(call) = self.calls.get(&execution) else { return };
        if !matches!(call.progress, Progress::Sent) || call.is_alive() {
            return;
        }
        if call.meta.safe && call.attempts < MAX_ATTEMPTS {
            self.requeue(now_ms, execution);
        } else {
            let attempts = call.attempts;
            self.finish(
                execution,
                Err(CallError::new(code, format!("it may have run; attempts: {attempts}"))),
            );
        }
    }

    fn leave_room(&mut self, execution: longshore_proto::ExecutionId) {
        let Some(call) = self.calls.get(&execution) else { return };
        if call.progress == Progress::Waiting
            && self.rooms.get_mut(&call.meta.pool).is_some_and(|r| r.remove(&call.meta.tenant, execution))
        {
            self.waiting = self.waiting.saturating_sub(1);
        }
    }

    /// The first bytes of a fetched answer are here and about to leave for the caller. False: the call is over or
    /// another answer is on its way; do not use them. True: from now on there is no other answer, and the other
    /// attempt is cancelled.
    pub fn commit(&mut self, call: CallRef) -> bool {
        let Some(entry) = self.calls.get_mut(&call.execution) else { return false };
        if entry.progress != Progress::Fetching(call.send) {
            return false;
        }
        entry.progress = Progress::Committed(call.send);
        let (keep, others): (Vec<_>, Vec<_>) = entry.sends.drain(..).partition(|s| s.number == call.send);
        entry.sends = keep;
        for send in others {
            self.drop_send(call.execution, send, true);
        }
        true
    }

    /// All bytes of a committed answer have been handed on: the call is over.
    pub fn fetched(&mut self, call: CallRef) {
        let Some(entry) = self.calls.get_mut(&call.execution) else { return };
        if entry.progress != Progress::Committed(call.send) {
            return;
        }
        entry.progress = Progress::Sent;
        let sends = std::mem::take(&mut entry.sends);
        for send in sends {
            self.drop_send(call.execution, send, false);
        }
        self.calls.remove(&call.execution);
    }

    /// The sender no longer has the body, or broke the rules of the transfer.
    pub fn fetch_failed(&mut self, now_ms: u64, call: CallRef) {
        if self.calls.get(&call.execution).is_some_and(
            |c| matches!(c.progress, Progress::Fetching(n) | Progress::Committed(n) if n == call.send),
        ) {
            self.answer_is_gone(now_ms, call);
        }
    }

    /// The sends of a lost worker: what can be tried again is, the rest is answered.
    pub(super) fn worker_lost(&mut self, now_ms: u64, worker_id: BootId) {
        let Some(worker) = self.workers.remove(worker_id) else { return };
        for number in worker.sends.into_keys() {
            self.send_lost(now_ms, worker_id, number);
        }
    }

    fn send_lost(&mut self, now_ms: u64, worker_id: BootId, number: SendNo) {
        let found = self.calls.iter_mut().find(|(_, c)| c.send(number).is_some());
        let Some((&execution, call)) = found else { return };
        if call.progress == Progress::Committed(number) {
            let error = CallError::new(ErrorCode::WorkerLost, "the answer was cut off");
            self.outputs.push_back(Output::Reset { execution, error });
            return self.settle(execution);
        }
        if call.progress == Progress::Fetching(number) {
            call.progress = Progress::Sent;
            self.outputs.push_back(Output::StopFetch { call: call_ref(execution, number) });
        }
        call.lost_by.push(worker_id);
        if let Some(send) = call.send_mut(number) {
            send.state = SendState::Lost;
        }
        self.attempt_ended(now_ms, execution, ErrorCode::WorkerLost);
    }
}
