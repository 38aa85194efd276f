//! What happens because time passes: questions, lost workers, deadlines.

use longshore_proto::frame::{AskedCall, Question};
use longshore_proto::wire::PROTOCOL_VERSION;
use longshore_proto::{BootId, CallError, ErrorCode, ExecutionId, SendNo};

use super::call::{Progress, SendState, call_ref};
use super::{Machine, Output, no_workers};

/// The driver ticks this often.
pub const TICK_MS: u64 = 50;
/// A tick so much later than the last: this process was stopped or starved and could not hear anybody.
const LATE_TICK_MS: u64 = TICK_MS + 500;
/// One question to each worker this often, whatever the connections say.
const ASK_EVERY_MS: u64 = 2_000;
/// No `taken` or `busy` for so long: ask at once.
const UNDECIDED_MS: u64 = 1_000;

impl Machine {
    /// To be called every [`TICK_MS`].
    pub fn tick(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.last_tick_ms) > LATE_TICK_MS {
            self.workers.restart_listening(now_ms);
        }
        self.last_tick_ms = now_ms;
        self.expire(now_ms);
        if !self.connected {
            return;
        }
        for worker in self.workers.lost(now_ms) {
            self.worker_lost(now_ms, worker);
        }
        self.refuse_deserted(now_ms);
        self.ask(now_ms);
        self.pump_all(now_ms);
    }

    /// Answers the calls whose time is up. The driver calls it at each deadline too: a tick may be 50 ms late, which
    /// is all the margin that a short call has.
    pub fn expire(&mut self, now_ms: u64) {
        let due: Vec<ExecutionId> =
            self.calls.iter().filter(|(_, c)| now_ms >= c.meta.answer_by_ms).map(|(id, _)| *id).collect();
        for execution in due {
            let Some(call) = self.calls.get(&execution) else { continue };
            match call.progress {
                Progress::Committed(_) => {
                    let error = CallError::new(ErrorCode::Timeout, "the answer was cut off at the deadline");
                    self.outputs.push_back(Output::Reset { execution, error });
                    self.settle(execution);
                }
                // A safe call may wait again while a lost attempt has perhaps run: it has not timed out in a guest.
                Progress::Waiting => {
                    let error =
                        CallError::new(ErrorCode::Overloaded, "no slot became free before the deadline");
                    self.finish(execution, Err(error));
                }
                Progress::Sent | Progress::Fetching(_) => {
                    let error =
                        CallError::new(ErrorCode::Timeout, "the deadline passed before the worker answered");
                    self.finish(execution, Err(error));
                }
            }
        }
    }

    fn refuse_deserted(&mut self, now_ms: u64) {
        let deserted: Vec<_> = self
            .rooms
            .iter()
            .filter(|(pool, room)| room.len() > 0 && self.is_deserted(now_ms, pool))
            .map(|(pool, room)| (pool.clone(), room.all()))
            .collect();
        for (pool, calls) in deserted {
            for execution in calls {
                self.finish(execution, Err(no_workers(&pool)));
            }
        }
    }

    /// Questions that are due: every 2 s where this shim has calls (or answers to acknowledge), at once where an
    /// admission is overdue.
    fn ask(&mut self, now_ms: u64) {
        let mut overdue: Vec<BootId> = Vec::new();
        for call in self.calls.values() {
            let late = call
                .sends
                .iter()
                .filter(|s| s.state == SendState::Sent && now_ms >= s.sent_ms + UNDECIDED_MS);
            overdue.extend(late.map(|s| s.worker));
        }
        let due: Vec<BootId> = self
            .workers
            .iter()
            .filter(|w| {
                let since = now_ms.saturating_sub(w.asked_ms);
                let regular = since >= ASK_EVERY_MS && (!w.sends.is_empty() || w.acknowledge);
                let early = since >= UNDECIDED_MS && overdue.contains(&w.id);
                regular || early
            })
            .map(|w| w.id)
            .collect();
        for worker in due {
            self.ask_worker(now_ms, worker);
        }
    }

    /// The last word before leaving: every worker may forget the answers that have been given.
    pub fn farewell(&mut self, now_ms: u64) {
        let owing: Vec<BootId> = self.workers.iter().filter(|w| w.acknowledge).map(|w| w.id).collect();
        for worker in owing {
            self.ask_worker(now_ms, worker);
        }
    }

    fn ask_worker(&mut self, now_ms: u64, worker_id: BootId) {
        let number = self.next_question;
        let Some(worker) = self.workers.get_mut(worker_id) else { return };
        self.next_question += 1;
        worker.asked(now_ms, number);
        let pool = worker.pool.clone();
        let mut calls = Vec::new();
        for (execution, call) in &self.calls {
            let budget_ms = call.meta.answer_by_ms.saturating_sub(now_ms);
            // Lost attempts too: if the worker is back, its answer is still welcome.
            let there = call.sends.iter().filter(|s| s.worker == worker_id);
            calls.extend(there.map(|s| AskedCall { call: call_ref(*execution, s.number), budget_ms }));
        }
        let question = Question {
            v: PROTOCOL_VERSION,
            shim: self.shim,
            number,
            // Everything sent so far: what is not listed is settled.
            up_to: SendNo(self.next_send - 1),
            calls,
        };
        self.outputs.push_back(Output::Ask { worker: worker_id, pool, question });
    }
}
