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

use super::network::{Agenda, Event, Fault, FetchStep, ToShim, ToWorker};

/// How bad the network is.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    loss: f64,
    duplicate: f64,
    max_delay_ms: u64,
    links: u32,
    cuts: u32,
    pauses: u32,
    kills: u32,
    shim_kills: u32,
    leaves: u32,
    calls: u32,
    max_run_ms: u64,
    min_budget_ms: u64,
}

impl Faults {
    pub fn none() -> Self {
        Self {
            loss: 0.0,
            duplicate: 0.0,
            max_delay_ms: 3,
            links: 0,
            cuts: 0,
            pauses: 0,
            kills: 0,
            shim_kills: 0,
            leaves: 0,
            calls: 60,
            max_run_ms: 300,
            min_budget_ms: 20_000,
        }
    }

    pub fn lossy(seed: u64) -> Self {
        Self {
            loss: [0.01, 0.1, 0.3][(seed % 3) as usize],
            duplicate: [0.0, 0.2, 0.5][(seed / 3 % 3) as usize],
            max_delay_ms: [5, 300, 3_000][(seed / 9 % 3) as usize],
            max_run_ms: 3_000,
            min_budget_ms: 500,
            ..Self::none()
        }
    }

    pub fn wild(seed: u64) -> Self {
        Self {
            links: 4,
            cuts: 3,
            pauses: 2,
            kills: 2,
            shim_kills: (seed % 2) as u32,
            leaves: 1,
            ..Self::lossy(seed)
        }
    }

    pub fn leaving() -> Self {
        Self { leaves: 4, ..Self::none() }
    }

    pub fn reconnects() -> Self {
        Self { links: 6, max_run_ms: 2_000, ..Self::none() }
    }
}

/// What came of a simulation.
#[derive(Debug, Default, Clone, Copy)]
pub struct Totals {
    pub calls: u64,
    pub ok: u64,
    pub failed: u64,
    pub lost: u64,
    pub resets: u64,
    pub abandoned: u64,
    pub runs: u64,
    pub second_runs_of_safe_calls: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, o: Self) {
        self.calls += o.calls;
        self.ok += o.ok;
        self.failed += o.failed;
        self.lost += o.lost;
        self.resets += o.resets;
        self.abandoned += o.abandoned;
        self.runs += o.runs;
        self.second_runs_of_safe_calls += o.second_runs_of_safe_calls;
    }
}

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

    fn plan_calls(&mut self) {
        for n in 0..self.faults.calls {
            let execution = ExecutionId::from_bytes((self.seed as u128 * 1_000 + n as u128).to_be_bytes());
            let at = self.rng.random_range(10..FAULTS_UNTIL_MS);
            let shim = self.rng.random_range(0..SHIMS);
            let budget = self.rng.random_range(self.faults.min_budget_ms..self.faults.min_budget_ms + 10_000);
            let safe = self.rng.random_bool(0.5);
            let tenant: TenantId = ["a", "b", "c"][self.rng.random_range(0..3usize)].parse().unwrap();
            let meta = CallMeta {
                tenant,
                extension: "e".parse().unwrap(),
                pool: PoolName::default(),
                component: ContentHash::from_bytes([self.rng.random_range(0..3u8); 32]),
                safe,
                weight: 1,
                answer_by_ms: at + budget,
            };
            self.callers
                .insert(execution, Caller { shim, safe, abandoned: false, answers: Vec::new(), runs: 0 });
            self.agenda.at(at, Event::Submit(shim, execution, Box::new(meta)));
            self.agenda.at(at + budget, Event::ShimDeadline(shim));
            if self.rng.random_bool(0.05) {
                let later = self.rng.random_range(0..2_000);
                self.agenda.at(at + later, Event::Abandon(shim, execution));
            }
        }
    }

    fn plan_faults(&mut self) {
        let f = self.faults;
        let for_a_while = |world: &mut Self, on: fn(usize, bool) -> Fault, many: usize, max_ms: u64| {
            let who = world.rng.random_range(0..many);
            let from = world.rng.random_range(100..FAULTS_UNTIL_MS - max_ms);
            let until = from + world.rng.random_range(10..max_ms);
            // Links are told as "is it up", the others as "is it broken".
            let begin = !matches!(on(0, true), Fault::ShimLink(..) | Fault::WorkerLink(..));
            world.agenda.at(from, Event::Fault(on(who, begin)));
            world.agenda.at(until, Event::Fault(on(who, !begin)));
        };
        for n in 0..f.links {
            let max_ms = if f.kills == 0 { 2_000 } else { 6_000 };
            let on = if n % 2 == 0 { Fault::ShimLink } else { Fault::WorkerLink };
            for_a_while(self, on, if n % 2 == 0 { SHIMS } else { WORKERS }, max_ms);
        }
        for n in 0..f.cuts {
            let on = if n % 2 == 0 { Fault::WorkerCut } else { Fault::ShimCut };
            for_a_while(self, on, if n % 2 == 0 { WORKERS } else { SHIMS }, 8_000);
        }
        for _ in 0..f.pauses {
            for_a_while(self, Fault::ShimPause, SHIMS, 5_000);
        }
        for _ in 0..f.kills {
            let at = self.rng.random_range(100..FAULTS_UNTIL_MS);
            let who = self.rng.random_range(0..WORKERS);
            self.agenda.at(at, Event::Fault(Fault::KillWorker(who)));
            self.agenda.at(at + 500, Event::Fault(Fault::StartWorker));
        }
        if f.shim_kills > 0 {
            self.agenda.at(self.rng.random_range(5_000..FAULTS_UNTIL_MS), Event::Fault(Fault::KillShim(0)));
        }
        for n in 0..f.leaves {
            let at = 1_000 + u64::from(n) * 4_000 + self.rng.random_range(0..1_000);
            self.agenda.at(at, Event::Fault(Fault::StartWorker));
            self.agenda.at(at + 1_500, Event::Fault(Fault::LeaveWorker(n as usize)));
        }
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
                            self.to_worker(shim, worker, ToWorker::ShimAlive(id));
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

    fn to_worker(&mut self, shim: usize, worker: usize, message: ToWorker) {
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

    fn to_shim(&mut self, worker: usize, shim: BootId, message: ToShim) {
        let Some(shim) = self.shims.iter().position(|s| s.id == shim) else { return };
        let w = &self.workers[worker];
        if w.alive && w.connected && !w.cut && !self.shims[shim].cut {
            self.deliver(Event::ToShim(shim, message));
        }
    }

    fn to_all_shims(&mut self, worker: usize, message: ToShim) {
        for id in self.shims.iter().map(|s| s.id).collect::<Vec<_>>() {
            self.to_shim(worker, id, message.clone());
        }
    }

    // === the shim's driver ===

    fn shim_hears(&mut self, shim: usize, message: ToShim) {
        let now = self.now;
        let s = &mut self.shims[shim];
        if !s.alive || !s.connected || s.cut {
            return;
        }
        if s.paused {
            // The socket's buffer keeps it until the process goes on.
            return self.agenda.at(now + 100, Event::ToShim(shim, message));
        }
        match message {
            ToShim::Frame(frame) => s.machine.frame(now, *frame),
            ToShim::Announcement(a) => s.machine.announced(now, &a),
            ToShim::Free(notice) => s.machine.free_notice(now, &notice),
            ToShim::NoResponders(call) => s.machine.no_responders(now, call),
        }
        self.drain(shim);
    }

    fn drain(&mut self, shim: usize) {
        for output in self.shims[shim].machine.take_outputs().collect::<Vec<_>>() {
            self.perform(shim, output);
        }
    }

    fn perform(&mut self, shim: usize, output: Output) {
        let id = self.shims[shim].id;
        match output {
            Output::Send { worker, call, budget_ms, .. } => {
                let tenant: TenantId =
                    ["a", "b", "c"][usize::from(call.execution.as_bytes()[15]) % 3].parse().unwrap();
                let arrival = Arrival { call, tenant, shim: Some((id, "_R.shim.x".into())), budget_ms };
                let to = self.worker_index(worker);
                self.to_worker(shim, to, ToWorker::Call(arrival, call));
            }
            Output::Ask { worker, question, .. } => {
                let to = self.worker_index(worker);
                self.to_worker(shim, to, ToWorker::Question(question));
            }
            Output::Cancel { worker, call, .. } => {
                let to = self.worker_index(worker);
                self.to_worker(shim, to, ToWorker::Cancel(id, call));
            }
            Output::Decline { worker, .. } => {
                let to = self.worker_index(worker);
                self.to_worker(shim, to, ToWorker::Decline(id));
            }
            Output::Answer { execution, result } => {
                let end = result.map_or_else(|e| End::Failed(e.code), |_| End::Ok);
                self.callers.get_mut(&execution).unwrap().answers.push(end);
            }
            Output::Reset { execution, .. } => {
                self.callers.get_mut(&execution).unwrap().answers.push(End::Reset)
            }
            Output::Fetch { call, .. } => {
                self.fetching.insert(call);
                self.agenda.at(self.now + 5, Event::FetchStep(shim, call, FetchStep::First));
            }
            Output::StopFetch { call } => {
                self.fetching.remove(&call);
            }
            Output::Forget { .. } => {}
        }
    }

    fn worker_index(&self, id: BootId) -> usize {
        self.workers.iter().position(|w| w.id == id).unwrap()
    }

    fn fetch_step(&mut self, shim: usize, call: CallRef, step: FetchStep) {
        let now = self.now;
        if !self.shims[shim].alive || !self.fetching.contains(&call) {
            return;
        }
        let again = |world: &mut Self| world.agenda.at(now + 200, Event::FetchStep(shim, call, step));
        let s = &self.shims[shim];
        if s.paused || s.cut || !s.connected {
            return again(self);
        }
        let holder = (0..self.workers.len()).find(|n| {
            let question = longshore_proto::frame::Question {
                v: 1,
                shim: s.id,
                number: 0,
                up_to: longshore_proto::SendNo(0),
                calls: vec![longshore_proto::frame::AskedCall { call, budget_ms: 1 }],
            };
            let w = &mut self.workers[*n];
            w.alive && w.connected && !w.cut && !w.table.question(now, &question).resend.is_empty()
        });
        let Some(holder) = holder else { return again(self) };
        match step {
            FetchStep::First => {
                if self.shims[shim].machine.commit(call) {
                    let later = self.rng.random_range(1..1_500);
                    self.agenda.at(now + later, Event::FetchStep(shim, call, FetchStep::Last));
                }
            }
            FetchStep::Last => {
                self.fetching.remove(&call);
                self.shims[shim].machine.fetched(call);
                self.workers[holder].table.release(call);
                self.callers.get_mut(&call.execution).unwrap().answers.push(End::Ok);
            }
        }
        self.drain(shim);
    }

    // === the worker's driver ===

    fn say(&mut self, worker: usize, shim: BootId, frame: Reply) {
        let w = &self.workers[worker];
        let frame = WorkerFrame { v: 1, worker: w.id, free: w.table.free(), frame };
        self.to_shim(worker, shim, ToShim::Frame(Box::new(frame)));
    }

    fn worker_hears(&mut self, worker: usize, message: ToWorker) {
        let now = self.now;
        let w = &mut self.workers[worker];
        if !w.alive || !w.connected || w.cut {
            return;
        }
        match message {
            ToWorker::Call(arrival, call) => {
                let shim = arrival.shim.as_ref().unwrap().0;
                match w.table.admit(now, &arrival) {
                    Admission::Run => {
                        let run_ms = self.rng.random_range(1..=self.faults.max_run_ms).min(arrival.budget_ms);
                        let caller = self.callers.get_mut(&call.execution).unwrap();
                        caller.runs += 1;
                        w.running.insert(call, (caller.shim, now + arrival.budget_ms));
                        self.agenda.at(now + run_ms, Event::RunEnds(worker, call));
                        self.say(worker, shim, Reply::Taken(call));
                    }
                    Admission::Running => self.say(worker, shim, Reply::Taken(call)),
                    Admission::Busy(reason) => self.say(worker, shim, Reply::Busy { call, reason }),
                    Admission::Done(answer) => self.say(worker, shim, (*answer).clone()),
                    Admission::Over => {}
                }
                if let Some(end) = self.workers[worker].table.next_reservation_end() {
                    self.agenda.at(end, Event::ReservationEnds(worker));
                }
            }
            ToWorker::Question(question) => {
                let report = w.table.question(now, &question);
                self.say(
                    worker,
                    question.shim,
                    Reply::Status { question: question.number, calls: report.calls },
                );
                for answer in report.resend {
                    self.say(worker, question.shim, (*answer).clone());
                }
                for call in report.cancel {
                    self.run_ends(worker, call, Some(ErrorCode::Cancelled));
                }
            }
            ToWorker::Cancel(shim, call) => {
                if w.table.cancel(now, shim, call) {
                    self.run_ends(worker, call, Some(ErrorCode::Cancelled));
                }
            }
            ToWorker::Decline(shim) => {
                w.table.decline(shim);
                self.offer(worker, true);
            }
            ToWorker::ShimAlive(shim) => {
                w.table.hear_shim(now, shim);
            }
        }
    }

    fn run_ends(&mut self, worker: usize, call: CallRef, error: Option<ErrorCode>) {
        let now = self.now;
        let w = &mut self.workers[worker];
        if !w.alive {
            return;
        }
        let Some((shim, deadline)) = w.running.remove(&call) else { return };
        let error = error.or((now >= deadline).then_some(ErrorCode::Timeout));
        let large = self.rng.random_bool(0.2);
        let frame = match error {
            Some(code) => Reply::Failed { call, error: CallError::from(code) },
            None => {
                let body = if large {
                    Body::Remote(RemoteBody { source: "_R.worker.x".into(), len: 9 })
                } else {
                    Body::None
                };
                Reply::Result {
                    call,
                    response: Box::new(RunResponse { status: 200, headers: Vec::new(), body }),
                }
            }
        };
        let was_full = w.table.free() == 0;
        w.table.finish(now, call, Some((Arc::new(frame.clone()), 100)), None);
        let shim = self.shims[shim].id;
        self.say(worker, shim, frame);
        self.offer(worker, was_full);
    }

    fn offer(&mut self, worker: usize, was_full: bool) {
        let now = self.now;
        if !self.workers[worker].alive {
            return;
        }
        let mut offered = false;
        while let Some(who) = self.workers[worker].table.next_offer(now) {
            offered = true;
            self.say(worker, who.shim, Reply::Offer { tenant: who.tenant });
        }
        if offered {
            if let Some(end) = self.workers[worker].table.next_reservation_end() {
                self.agenda.at(end, Event::ReservationEnds(worker));
            }
        } else if was_full && self.workers[worker].leaving_since.is_none() {
            let w = &self.workers[worker];
            let notice = FreeNotice { worker: w.id, free: w.table.free() };
            self.to_all_shims(worker, ToShim::Free(notice));
        }
    }

    fn worker_tick(&mut self, worker: usize) {
        let now = self.now;
        let w = &mut self.workers[worker];
        if !w.alive {
            return;
        }
        let orphans = if w.connected { w.table.tick(now) } else { Vec::new() };
        if let Some(since) = w.leaving_since {
            let settled = w.running.is_empty() && (w.table.unacknowledged() == 0 || now >= since + 5_000);
            if settled && now >= since + 3_000 {
                w.alive = false;
            }
        }
        for call in orphans {
            self.run_ends(worker, call, Some(ErrorCode::Cancelled));
        }
        self.agenda.at(now + 100, Event::WorkerTick(worker));
    }

    fn announce(&mut self, worker: usize) {
        let w = &mut self.workers[worker];
        w.announcements += 1;
        let announcement = WorkerAnnouncement {
            v: 1,
            worker: w.id,
            pool: PoolName::default(),
            name: String::new(),
            version: String::new(),
            number: w.announcements,
            slots: 3,
            free: w.table.free(),
            load_percent: 0,
            leaving: w.leaving_since.is_some(),
            unwell: w.table.unwell(),
        };
        self.to_all_shims(worker, ToShim::Announcement(announcement));
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
