//! Shims, workers, callers and the network between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gateway_shim::dispatch::machine::{CallMeta, Machine, MachineConfig, Output};
use longshore_proto::call::RemoteBody;
use longshore_proto::frame::{CallRef, FreeNotice, Reply, WorkerAnnouncement, WorkerFrame};
use longshore_proto::{
    Body, BootId, CallError, ContentHash, ErrorCode, ExecutionId, PoolName, RunResponse, TenantId,
};
use longshore_worker::admit::table::{Admission, Arrival, Table, TableConfig};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

pub use faults::{Faults, Totals};

use super::network::{Agenda, Event, Fault, FetchStep, ToShim, ToWorker};

mod faults;
mod plan;
mod shim_side;
mod worker_side;

struct Shim {
    id: BootId,
    machine: Machine,
    alive: bool,
    paused: bool,
    connected: bool,
    cut: bool,
}

struct Worker {
    id: BootId,
    table: Table<Reply>,
    alive: bool,
    connected: bool,
    cut: bool,
    leaving_since: Option<u64>,
    announcements: u64,
    running: BTreeMap<CallRef, (usize, u64)>,
}

#[derive(Debug, Clone)]
enum End {
    Ok,
    Failed(ErrorCode),
    Reset,
}

struct Caller {
    shim: usize,
    safe: bool,
    abandoned: bool,
    answers: Vec<End>,
    runs: u32,
}

pub struct World {
    seed: u64,
    faults: Faults,
    rng: SmallRng,
    agenda: Agenda,
    now: u64,
    shims: Vec<Shim>,
    workers: Vec<Worker>,
    callers: BTreeMap<ExecutionId, Caller>,
    fetching: BTreeSet<CallRef>,
}

/// Faults happen until here; then the network is healed.
const FAULTS_UNTIL_MS: u64 = 20_000;
const END_MS: u64 = 60_000;
const SHIMS: usize = 2;
const WORKERS: usize = 3;

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let mut world = Self {
            seed,
            faults,
            rng: SmallRng::seed_from_u64(seed),
            agenda: Agenda::default(),
            now: 0,
            shims: Vec::new(),
            workers: Vec::new(),
            callers: BTreeMap::new(),
            fetching: BTreeSet::new(),
        };
        for n in 0..SHIMS {
            let id = BootId::from_bytes([n as u8 + 100; 16]);
            let mut machine = Machine::new(MachineConfig::default(), id, seed, 0);
            machine.link(0, true);
            world.shims.push(Shim { id, machine, alive: true, paused: false, connected: true, cut: false });
            world.agenda.at(1, Event::ShimTick(n));
            world.agenda.at(1, Event::ShimAnnounce(n));
        }
        for _ in 0..WORKERS {
            world.start_worker();
        }
        world.plan_calls();
        world.plan_faults();
        world
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    fn start_worker(&mut self) {
        let n = self.workers.len();
        self.workers.push(Worker {
            id: BootId::from_bytes([n as u8 + 1; 16]),
            table: Table::new(TableConfig { slots: 3, ..TableConfig::default() }),
            alive: true,
            connected: true,
            cut: false,
            leaving_since: None,
            announcements: 0,
            running: BTreeMap::new(),
        });
        self.agenda.at(self.now + 1, Event::WorkerTick(n));
        self.agenda.at(self.now + 1, Event::Announce(n));
    }

    pub fn run(&mut self) {
        while let Some((time, event)) = self.agenda.next() {
            if time > END_MS {
                break;
            }
            self.now = time;
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Submit(shim, execution, meta) => {
                if self.shims[shim].alive {
                    self.shims[shim].machine.submit(now, execution, *meta);
                    self.drain(shim);
                }
            }
            Event::Abandon(shim, execution) => {
                let caller = self.callers.get_mut(&execution).unwrap();
                if caller.answers.is_empty() {
                    caller.abandoned = true;
                    self.shims[shim].machine.abandon(execution);
                    self.drain(shim);
                }
            }
            Event::ToWorker(worker, message) => self.worker_hears(worker, message),
            Event::ToShim(shim, message) => self.shim_hears(shim, message),
            Event::ShimTick(shim) => {
                if self.shims[shim].alive {
                    if !self.shims[shim].paused {
                        self.shims[shim].machine.tick(now);
                        self.drain(shim);
                    }
                    self.agenda.at(now + 50, Event::ShimTick(shim));
                }
            }
            Event::ShimDeadline(shim) => {
                if self.shims[shim].alive && !self.shims[shim].paused {
                    self.shims[shim].machine.expire(now);
                    self.drain(shim);
                }
            }
            Event::ShimAnnounce(shim) => {
                if self.shims[shim].alive {
                    if self.shims[shim].connected && !self.shims[shim].paused {
                        let id = self.shims[shim].id;
                        for worker in 0..self.workers.len() {
                            self.send_to_worker(shim, worker, ToWorker::ShimAlive(id));
                        }
                    }
                    self.agenda.at(now + 1_000, Event::ShimAnnounce(shim));
                }
            }
            Event::WorkerTick(worker) => self.worker_tick(worker),
            Event::Announce(worker) => {
                if self.workers[worker].alive {
                    self.announce(worker);
                    self.agenda.at(now + 1_000, Event::Announce(worker));
                }
            }
            Event::RunEnds(worker, call) => self.run_ends(worker, call, None),
            Event::ReservationEnds(worker) => self.offer(worker, true),
            Event::FetchStep(shim, call, step) => self.fetch_step(shim, call, step),
            Event::Fault(fault) => self.fault(fault),
        }
    }

    fn fault(&mut self, fault: Fault) {
        let now = self.now;
        match fault {
            Fault::ShimLink(n, up) => {
                self.shims[n].connected = up;
                if self.shims[n].alive {
                    self.shims[n].machine.link(now, up);
                    self.drain(n);
                }
            }
            Fault::WorkerLink(n, up) => {
                self.workers[n].connected = up;
                if up {
                    self.workers[n].table.link_restored(now);
                    self.announce(n);
                }
            }
            Fault::ShimCut(n, cut) => self.shims[n].cut = cut,
            Fault::WorkerCut(n, cut) => self.workers[n].cut = cut,
            Fault::ShimPause(n, paused) => self.shims[n].paused = paused,
            Fault::KillWorker(n) => self.workers[n].alive = false,
            Fault::KillShim(n) => self.shims[n].alive = false,
            Fault::StartWorker => self.start_worker(),
            Fault::LeaveWorker(n) => {
                if self.workers[n].alive && self.workers[n].leaving_since.is_none() {
                    self.workers[n].table.leave();
                    self.workers[n].leaving_since = Some(now);
                    self.announce(n);
                }
            }
        }
    }

    // === the network ===

    fn deliver(&mut self, event: Event) {
        let faulty = self.now < FAULTS_UNTIL_MS;
        let copies = match (
            faulty && self.rng.random_bool(self.faults.loss),
            faulty && self.rng.random_bool(self.faults.duplicate),
        ) {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) => 1,
        };
        for _ in 0..copies {
            let delay = self.rng.random_range(0..=if faulty { self.faults.max_delay_ms } else { 3 });
            self.agenda.at(self.now + delay, event.clone());
        }
    }

    fn send_to_worker(&mut self, shim: usize, worker: usize, message: ToWorker) {
        let (s, w) = (&self.shims[shim], &self.workers[worker]);
        if s.cut || w.cut {
            return;
        }
        if !w.alive || !w.connected {
            // The server knows that nobody listens there.
            if let ToWorker::Call(_, call) = message {
                self.deliver(Event::ToShim(shim, ToShim::NoResponders(call)));
            }
            return;
        }
        self.deliver(Event::ToWorker(worker, message));
    }

    fn send_to_shim(&mut self, worker: usize, shim: BootId, message: ToShim) {
        let Some(shim) = self.shims.iter().position(|s| s.id == shim) else { return };
        let w = &self.workers[worker];
        if w.alive && w.connected && !w.cut && !self.shims[shim].cut {
            self.deliver(Event::ToShim(shim, message));
        }
    }

    fn send_to_all_shims(&mut self, worker: usize, message: ToShim) {
        for id in self.shims.iter().map(|s| s.id).collect::<Vec<_>>() {
            self.send_to_shim(worker, id, message.clone());
        }
    }

    // === the rules ===

    pub fn check(&self) -> Result<(), String> {
        for (execution, caller) in &self.callers {
            let told = &caller.answers;
            let shim_alive = self.shims[caller.shim].alive;
            if told.len() > 1 {
                return Err(format!("call {execution} got {} answers: {told:?}", told.len()));
            }
            if told.is_empty() && shim_alive && !caller.abandoned {
                return Err(format!(
                    "call {execution} (safe: {}) got no answer; runs: {}",
                    caller.safe, caller.runs
                ));
            }
            if !caller.safe && caller.runs > 1 {
                return Err(format!("unsafe call {execution} ran {} times", caller.runs));
            }
            match told.first() {
                Some(End::Ok) if caller.runs == 0 => {
                    return Err(format!("call {execution} was answered without a run"));
                }
                Some(End::Failed(code)) if code.retry_safe() && !caller.safe && caller.runs > 0 => {
                    return Err(format!(
                        "unsafe call {execution} has run, and was told that `{code}` is safe to retry"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub fn totals(&self) -> Totals {
        let mut t = Totals::default();
        for caller in self.callers.values() {
            t.calls += 1;
            t.runs += u64::from(caller.runs);
            t.second_runs_of_safe_calls += u64::from(caller.runs.saturating_sub(1));
            match caller.answers.first() {
                Some(End::Ok) => t.ok += 1,
                Some(End::Failed(code)) => {
                    t.failed += 1;
                    t.lost += u64::from(*code == ErrorCode::WorkerLost);
                }
                Some(End::Reset) => t.resets += 1,
                None => t.abandoned += 1,
            }
        }
        t
    }
}
