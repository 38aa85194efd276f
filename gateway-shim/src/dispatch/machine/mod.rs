//! The shim's half of the dispatch protocol: a state machine without I/O (docs/architecture.md, steps 1 to 10).
//!
//! Inputs are method calls with the time in milliseconds of one monotonic clock; outputs are collected and taken
//! with [`Machine::take_outputs`]. Randomness is seeded, so that a simulated network of thousands of seeds can
//! check, on every one: each call gets exactly one answer, and an unsafe call never runs twice.

mod call;
mod frames;
mod stop;
mod timers;
mod waiting;
mod workers;

use std::collections::{BTreeMap, HashSet, VecDeque};

use longshore_proto::frame::{CallRef, Question, WorkerAnnouncement};
use longshore_proto::{BootId, CallError, ErrorCode, ExecutionId, PoolName, RunResponse, SendNo};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use call::{Call, Progress, Send, SendState, call_ref};
use waiting::WaitingRoom;
use workers::Workers;

pub use call::CallMeta;
pub use stop::{HeldCall, StopErrors};
pub use timers::TICK_MS;

/// The worker gets so much less time than the shim has, so that its own, finer timeout arrives first.
const REPLY_MS: u64 = 20;

/// What bounds the machine.
#[derive(Debug, Clone)]
pub struct MachineConfig {
    /// Waiting calls of one tenant and extension.
    pub max_waiting_per_extension: usize,
    /// Waiting calls in all; a tenant may hold a quarter.
    pub max_waiting: usize,
    /// Pools whose calls wait for a worker instead of being refused with `no_workers`: they scale from zero.
    pub hold_pools: HashSet<PoolName>,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self { max_waiting_per_extension: 256, max_waiting: 4_096, hold_pools: HashSet::new() }
    }
}

/// What the I/O has to do.
#[derive(Debug)]
pub enum Output {
    /// Publish the call to this worker.
    Send {
        /// To whom.
        worker: BootId,
        /// Its pool.
        pool: PoolName,
        /// Which send.
        call: CallRef,
        /// 1 for the first.
        attempt: u32,
        /// What is left of the call's time.
        budget_ms: u64,
    },
    /// Publish a question.
    Ask {
        /// To whom.
        worker: BootId,
        /// Its pool.
        pool: PoolName,
        /// The question.
        question: Question,
    },
    /// Publish a cancel.
    Cancel {
        /// To whom.
        worker: BootId,
        /// Its pool.
        pool: PoolName,
        /// Which send.
        call: CallRef,
    },
    /// Publish that an offered slot is not needed.
    Decline {
        /// To whom.
        worker: BootId,
        /// Its pool.
        pool: PoolName,
    },
    /// The call is over and this is its answer. Exactly one of these, or [`Output::Reset`], or the end of a
    /// committed fetch, ends every call.
    Answer {
        /// Which call.
        execution: ExecutionId,
        /// The answer.
        result: Result<Box<RunResponse>, CallError>,
    },
    /// Begin to fetch the body of this answer; see [`Machine::commit`].
    Fetch {
        /// Whose answer.
        call: CallRef,
        /// The answer without its body.
        response: Box<RunResponse>,
    },
    /// Stop fetching: another answer was given, or nobody waits.
    StopFetch {
        /// Whose answer.
        call: CallRef,
    },
    /// Bytes have left for the caller and the rest will not come: break the response.
    Reset {
        /// Which call.
        execution: ExecutionId,
        /// Why.
        error: CallError,
    },
    /// Nothing refers to this send any more: its reply subject can be forgotten.
    Forget {
        /// Which send.
        call: CallRef,
    },
}

/// What the machine holds, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Calls in the waiting room.
    pub waiting: usize,
    /// Calls with a worker.
    pub in_flight: usize,
    /// Workers heard within 3 s that are not leaving.
    pub workers: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    config: MachineConfig,
    shim: BootId,
    rng: SmallRng,
    connected: bool,
    last_tick_ms: u64,
    next_send: u64,
    next_question: u64,
    // Ordered maps: a seed has to repeat the same run.
    calls: BTreeMap<ExecutionId, Call>,
    rooms: BTreeMap<PoolName, WaitingRoom>,
    waiting: usize,
    workers: Workers,
    outputs: VecDeque<Output>,
}

impl Machine {
    /// A machine that is not connected yet.
    pub fn new(config: MachineConfig, shim: BootId, seed: u64, now_ms: u64) -> Self {
        let mut workers = Workers::default();
        workers.restart_listening(now_ms);
        Self {
            config,
            shim,
            rng: SmallRng::seed_from_u64(seed),
            connected: false,
            last_tick_ms: now_ms,
            next_send: 1,
            next_question: 1,
            calls: BTreeMap::new(),
            rooms: BTreeMap::new(),
            waiting: 0,
            workers,
            outputs: VecDeque::new(),
        }
    }

    /// What there is to do, in order.
    pub fn take_outputs(&mut self) -> impl Iterator<Item = Output> + use<> {
        std::mem::take(&mut self.outputs).into_iter()
    }

    /// A new call. It is sent at once if a worker seems free, else it waits.
    pub fn submit(&mut self, now_ms: u64, execution: ExecutionId, meta: CallMeta) {
        if self.calls.contains_key(&execution) {
            return;
        }
        let (pool, tenant) = (meta.pool.clone(), meta.tenant.clone());
        if self.is_deserted(now_ms, &pool) {
            return self.refuse(execution, no_workers(&pool));
        }
        let room = self.rooms.entry(pool.clone()).or_default();
        room.push((&tenant, &meta.extension), execution, meta.weight, false);
        self.waiting += 1;
        let extension = meta.extension.clone();
        self.calls.insert(execution, Call::new(meta));
        self.pump(now_ms, &pool);
        // Limits are for those who wait, so they are looked at only after trying to place the call.
        let still_waits = self.calls.get(&execution).is_some_and(|c| c.progress == Progress::Waiting);
        if !still_waits {
            return;
        }
        let held = self.rooms.values().map(|r| r.of_tenant(&tenant)).sum::<usize>();
        let room = self.rooms.entry(pool).or_default();
        let error = if room.of_extension(&tenant, &extension) > self.config.max_waiting_per_extension {
            Some(CallError::new(
                ErrorCode::QueueFull,
                format!("{} calls of this extension wait already", self.config.max_waiting_per_extension),
            ))
        } else if held > self.config.max_waiting / 4 {
            Some(CallError::new(ErrorCode::QueueFull, "this tenant holds a quarter of the waiting places"))
        } else if self.waiting > self.config.max_waiting {
            Some(CallError::new(ErrorCode::Overloaded, "all waiting places are taken"))
        } else {
            None
        };
        if let Some(error) = error {
            self.finish(execution, Err(error));
        }
    }

    /// The caller is gone: nobody wants the answer.
    pub fn abandon(&mut self, execution: ExecutionId) {
        self.settle(execution);
    }

    /// The connection is up (again) or down.
    pub fn link(&mut self, now_ms: u64, connected: bool) {
        self.connected = connected;
        if connected {
            self.workers.restart_listening(now_ms);
            self.pump_all(now_ms);
        }
    }

    /// The last that [`Self::link`] was told.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// A worker has announced itself.
    pub fn announced(&mut self, now_ms: u64, announcement: &WorkerAnnouncement) {
        self.workers.announced(now_ms, announcement);
        self.pump(now_ms, &announcement.pool);
    }

    /// What there is, for metrics and readiness.
    pub fn counts(&self, now_ms: u64) -> Counts {
        let workers = self
            .workers
            .iter()
            .filter(|w| !w.leaving && self.workers.silence_ms(now_ms, w) < workers::SILENT_MS);
        Counts {
            waiting: self.waiting,
            in_flight: self.calls.len().saturating_sub(self.waiting),
            workers: workers.count(),
        }
    }

    /// Workers of a pool, heard within 3 s and not leaving.
    pub fn workers_of(&self, now_ms: u64, pool: &PoolName) -> usize {
        let here = |w: &&workers::Worker| {
            w.pool == *pool && !w.leaving && self.workers.silence_ms(now_ms, w) < workers::SILENT_MS
        };
        self.workers.iter().filter(here).count()
    }

    /// Whether 3 s of uninterrupted listening have passed: only then "no worker" means something.
    pub fn has_listened(&self, now_ms: u64) -> bool {
        self.connected && self.workers.knows(now_ms)
    }

    /// No worker was heard in 3 s of uninterrupted listening.
    fn is_deserted(&self, now_ms: u64, pool: &PoolName) -> bool {
        self.connected
            && !self.config.hold_pools.contains(pool)
            && self.workers.knows(now_ms)
            && !self.workers.any(now_ms, pool)
    }

    fn pump_all(&mut self, now_ms: u64) {
        let pools: Vec<PoolName> =
            self.rooms.iter().filter(|(_, r)| r.len() > 0).map(|(p, _)| p.clone()).collect();
        for pool in pools {
            self.pump(now_ms, &pool);
        }
    }

    /// Sends waiting calls while workers seem free.
    fn pump(&mut self, now_ms: u64, pool: &PoolName) {
        if !self.connected {
            return;
        }
        let Some(room) = self.rooms.get_mut(pool) else { return };
        loop {
            let (workers, calls, rng) = (&self.workers, &self.calls, &mut self.rng);
            let mut chosen = None;
            let next = room.next(|tenant, id| {
                let Some(call) = calls.get(&id) else { return false };
                chosen = workers
                    .choose(now_ms, rng, (pool, tenant, call.meta.component), &call.lost_by)
                    .or_else(|| workers.knock(now_ms, rng, (pool, tenant), &call.lost_by));
                chosen.is_some()
            });
            let (Some((tenant, execution)), Some(worker_id)) = (next, chosen) else { return };
            self.waiting = self.waiting.saturating_sub(1);
            let (Some(call), Some(worker)) =
                (self.calls.get_mut(&execution), self.workers.get_mut(worker_id))
            else {
                continue;
            };
            let number = SendNo(self.next_send);
            self.next_send += 1;
            call.progress = Progress::Sent;
            call.attempts += 1;
            call.sends.push(Send { number, worker: worker_id, state: SendState::Sent, sent_ms: now_ms });
            worker.undecided += 1;
            worker.sends.insert(number, tenant);
            self.outputs.push_back(Output::Send {
                worker: worker_id,
                pool: pool.clone(),
                call: call_ref(execution, number),
                attempt: call.attempts,
                budget_ms: call.meta.answer_by_ms.saturating_sub(now_ms + REPLY_MS).max(1),
            });
        }
    }

    /// Back to the waiting room, before the tenant's others: it has waited its turn already.
    fn requeue(&mut self, now_ms: u64, execution: ExecutionId) {
        let Some(call) = self.calls.get_mut(&execution) else { return };
        call.progress = Progress::Waiting;
        let pool = call.meta.pool.clone();
        let room = self.rooms.entry(pool.clone()).or_default();
        room.push((&call.meta.tenant, &call.meta.extension), execution, call.meta.weight, true);
        self.waiting += 1;
        self.pump(now_ms, &pool);
    }

    /// Ends a call with its answer.
    fn finish(&mut self, execution: ExecutionId, result: Result<Box<RunResponse>, CallError>) {
        if self.calls.contains_key(&execution) {
            self.outputs.push_back(Output::Answer { execution, result });
            self.settle(execution);
        }
    }

    fn refuse(&mut self, execution: ExecutionId, error: CallError) {
        self.outputs.push_back(Output::Answer { execution, result: Err(error) });
    }

    /// Forgets a call: its place, its sends, and tells every worker that may still run it.
    fn settle(&mut self, execution: ExecutionId) {
        let Some(call) = self.calls.remove(&execution) else { return };
        if call.progress == Progress::Waiting {
            let removed =
                self.rooms.get_mut(&call.meta.pool).is_some_and(|r| r.remove(&call.meta.tenant, execution));
            if removed {
                self.waiting = self.waiting.saturating_sub(1);
            }
        }
        if let Progress::Fetching(number) | Progress::Committed(number) = call.progress {
            self.outputs.push_back(Output::StopFetch { call: call_ref(execution, number) });
        }
        for send in call.sends {
            self.drop_send(execution, send, true);
        }
    }

    /// One send is settled: proven not to have run, answered, or no longer wanted.
    fn drop_send(&mut self, execution: ExecutionId, send: Send, cancel: bool) {
        let call = call_ref(execution, send.number);
        self.outputs.push_back(Output::Forget { call });
        let Some(worker) = self.workers.get_mut(send.worker) else { return };
        if let Some(tenant) = worker.sends.remove(&send.number) {
            worker.unpark(&tenant);
        }
        if send.state == SendState::Sent {
            worker.undecided = worker.undecided.saturating_sub(1);
        }
        worker.acknowledge = true;
        if cancel && self.connected {
            self.outputs.push_back(Output::Cancel { worker: send.worker, pool: worker.pool.clone(), call });
        }
    }
}

fn no_workers(pool: &PoolName) -> CallError {
    CallError::new(ErrorCode::NoWorkers, format!("no worker of pool `{pool}` was heard for 3 s"))
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
