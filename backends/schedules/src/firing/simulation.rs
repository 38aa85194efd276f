//! Several gateways, one store, and everything that goes wrong between them, in virtual time and from a seed: clocks that
//! stand minutes apart and run at different speeds, answers that get lost, watches that lag and come out of order, processes that
//! stop, die and come back, a store that is away, guests that change their schedules in the middle of it.
//!
//! Always: a due time is sent at most once, two runs of a schedule never overlap, two never hold the lease. After the trouble: nothing that was due is left.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::lease::{Lease, Stored, TURN_MS};
use crate::standalone::Record;
use crate::standalone::record_for_tests;

const NODES: usize = 3;
const SCHEDULES: usize = 12;
const TROUBLE_MS: u64 = 60 * 60_000;
const QUIET_MS: u64 = 30 * 60_000;
/// Noon of an ordinary day.
const START_WALL_MS: i64 = 1_780_000_200_000;

#[derive(Debug, Clone)]
enum Op {
    LeaseRead,
    LeaseWrite { revision: u64, value: Stored },
    Claim { key: String, claim: Claim },
    Settle { key: String, claim: Claim, ending: Ending },
}

#[derive(Debug)]
enum Reply {
    LeaseIs(Option<(Stored, u64)>),
    LeaseWritten(u64),
    LeaseConflict,
    Claimed(String, ClaimAnswer),
    Settled(String, Option<Seen>),
    Lost(Op),
}

#[derive(Debug)]
enum Event {
    Tick,
    Reply { sent_mono: u64, reply: Reply },
    Watch { key: String, seen: Option<Seen>, revision: u64 },
    RunEnd { key: String },
}

enum Happening {
    At(usize, u64, Event),
    Arrive(usize, u64, u64, Op),
    Fault,
    Guest,
}

struct Node {
    epoch: u64,
    alive: bool,
    paused_until: u64,
    wall_skew_ms: i64,
    /// Parts in a thousand by which its clocks run fast.
    fast: i64,
    lease: Lease,
    next_turn: u64,
    lease_busy: bool,
    firing: Firing,
}

struct World {
    rng: StdRng,
    now: u64,
    order: u64,
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: HashMap<u64, Happening>,
    nodes: Vec<Node>,
    lease: Option<(Stored, u64)>,
    records: BTreeMap<String, (Record, u64)>,
    revision: u64,
    store_away_until: u64,
    /// (key, due) -> sent
    sent: HashSet<(String, i64)>,
    busy_until: HashMap<String, u64>,
    claims: HashMap<(usize, u64, String), Claim>,
    runs: usize,
    lost: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            now: 0,
            order: 0,
            heap: BinaryHeap::new(),
            happenings: HashMap::new(),
            nodes: Vec::new(),
            lease: None,
            records: BTreeMap::new(),
            revision: 0,
            store_away_until: 0,
            sent: HashSet::new(),
            busy_until: HashMap::new(),
            claims: HashMap::new(),
            runs: 0,
            lost: 0,
        };
        for i in 0..SCHEDULES {
            let cron = ["*/5 * * * *", "1-59/7 * * * *", "30 * * * *", "*/6 * * * *"][i % 4];
            let record = Record {
                tenant: format!("t{}", i % 3).parse().unwrap(),
                cron: cron.into(),
                id: format!("id{i}"),
                ..record_for_tests(0)
            };
            let next_ms = record.next_after(START_WALL_MS);
            world.write(&format!("k{i}"), Some(Record { next_ms, ..record }));
        }
        for i in 0..NODES {
            let node = world.fresh(i, 0);
            world.nodes.push(node);
            world.boot(i);
        }
        world.later(1_000, Happening::Fault);
        world.later(1_500, Happening::Guest);
        world
    }

    fn fresh(&mut self, i: usize, epoch: u64) -> Node {
        let me = format!("n{i}.{epoch}");
        Node {
            epoch,
            alive: true,
            paused_until: 0,
            wall_skew_ms: self.rng.random_range(-180_000..180_000),
            fast: self.rng.random_range(-8..8),
            lease: Lease::new(me.clone()),
            next_turn: 0,
            lease_busy: false,
            firing: Firing::new(me, 4),
        }
    }

    /// A process begins: its watch tells it all that there is.
    fn boot(&mut self, i: usize) {
        let all: Vec<_> = self.records.iter().map(|(k, (r, rev))| (k.clone(), r.seen(*rev), *rev)).collect();
        for (key, seen, revision) in all {
            self.watch_one(i, key, Some(seen), revision);
        }
        self.send_node(i, 1, Event::Tick);
    }

    fn later(&mut self, after: u64, happening: Happening) {
        self.order += 1;
        self.heap.push(Reverse((self.now + after, self.order)));
        self.happenings.insert(self.order, happening);
    }

    fn send_node(&mut self, i: usize, after: u64, event: Event) {
        let epoch = self.nodes[i].epoch;
        self.later(after, Happening::At(i, epoch, event));
    }

    fn watch_one(&mut self, i: usize, key: String, seen: Option<Seen>, revision: u64) {
        let lag = if self.rng.random_bool(0.1) { 3_000 } else { 50 };
        let after = self.rng.random_range(1..lag);
        self.send_node(i, after, Event::Watch { key, seen, revision });
    }

    fn write(&mut self, key: &str, record: Option<Record>) -> u64 {
        self.revision += 1;
        let revision = self.revision;
        let seen = record.as_ref().map(|r| r.seen(revision));
        match record {
            Some(record) => drop(self.records.insert(key.to_owned(), (record, revision))),
            None => drop(self.records.remove(key)),
        }
        for i in 0..self.nodes.len() {
            self.watch_one(i, key.to_owned(), seen.clone(), revision);
        }
        revision
    }

    fn mono(&self, i: usize) -> u64 {
        let now = i64::try_from(self.now).unwrap();
        // Each process counts from another moment.
        u64::try_from(now + now * self.nodes[i].fast / 1_000).unwrap() + 1_000_000 * i as u64
    }

    fn clocks(&self, i: usize) -> Now {
        let wall_ms = START_WALL_MS + i64::try_from(self.now).unwrap() + self.nodes[i].wall_skew_ms;
        Now { wall_ms, mono_ms: self.mono(i) }
    }

    fn trouble(&self) -> bool {
        self.now < TROUBLE_MS
    }

    fn run(&mut self) {
        while let Some(Reverse((at, order))) = self.heap.pop() {
            if at > TROUBLE_MS + QUIET_MS {
                return;
            }
            self.now = at;
            match self.happenings.remove(&order).unwrap() {
                Happening::At(i, epoch, event) => self.node_event(i, epoch, event),
                Happening::Arrive(i, epoch, sent_mono, op) => self.arrive(i, epoch, sent_mono, op),
                Happening::Fault => self.fault(),
                Happening::Guest => self.guest(),
            }
        }
    }

    fn node_event(&mut self, i: usize, epoch: u64, event: Event) {
        let node = &self.nodes[i];
        if !node.alive || node.epoch != epoch {
            return;
        }
        if node.paused_until > self.now {
            let wait = node.paused_until - self.now;
            return self.later(wait, Happening::At(i, epoch, event));
        }
        let now = self.clocks(i);
        let node = &mut self.nodes[i];
        match event {
            Event::Tick => {
                let after = self.rng.random_range(50..600);
                self.send_node(i, after, Event::Tick);
            }
            Event::Watch { key, seen: Some(seen), .. } => node.firing.observe(now, &key, seen),
            Event::Watch { key, seen: None, revision } => node.firing.removed(&key, revision),
            Event::RunEnd { key } => {
                let failed = self.rng.random_bool(0.1).then(|| "status 500".to_owned());
                node.firing.ended(now, &key, failed);
            }
            Event::Reply { sent_mono, reply } => match reply {
                Reply::LeaseIs(found) => {
                    node.lease_busy = false;
                    node.lease.read(now.mono_ms, found);
                    if node.lease.wants(now.mono_ms).is_some() {
                        node.next_turn = 0;
                    }
                }
                Reply::LeaseWritten(revision) => {
                    node.lease_busy = false;
                    node.lease.written(sent_mono, now.mono_ms, revision);
                }
                Reply::LeaseConflict => {
                    node.lease_busy = false;
                    node.lease.conflict();
                }
                Reply::Claimed(key, answer) => node.firing.claimed(now, &key, answer),
                Reply::Settled(key, seen) => node.firing.settled(now, &key, seen),
                Reply::Lost(Op::Claim { key, .. }) => node.firing.claim_failed(now, &key),
                Reply::Lost(Op::Settle { key, .. }) => node.firing.settle_failed(now, &key),
                Reply::Lost(_) => node.lease_busy = false,
            },
        }
        self.drive(i);
    }

    fn drive(&mut self, i: usize) {
        let now = self.clocks(i);
        let holds = |j: &usize| self.nodes[*j].alive && self.nodes[*j].lease.is_held(self.mono(*j));
        let holders: Vec<_> = (0..NODES).filter(holds).collect();
        assert!(holders.len() <= 1, "{holders:?} hold the lease at {}", self.now);
        let node = &mut self.nodes[i];
        let mut op = None;
        if !node.lease_busy && now.mono_ms >= node.next_turn {
            node.lease_busy = true;
            node.next_turn = now.mono_ms + TURN_MS;
            op = Some(match node.lease.wants(now.mono_ms) {
                Some(revision) => Op::LeaseWrite { revision, value: node.lease.value() },
                None => Op::LeaseRead,
            });
        }
        node.firing.lead(node.lease.held_until());
        node.firing.step(now);
        let effects = node.firing.take_effects();
        if let Some(op) = op {
            self.send(i, op);
        }
        for effect in effects {
            match effect {
                Effect::Claim { key, claim } => {
                    let epoch = self.nodes[i].epoch;
                    self.claims.insert((i, epoch, key.clone()), claim.clone());
                    self.send(i, Op::Claim { key, claim });
                }
                Effect::Settle { key, claim, ending } => {
                    self.lost +=
                        usize::from(ending == Ending::Finish(LastStatus::Failed, Some(LOST.to_owned())));
                    self.send(i, Op::Settle { key, claim, ending });
                }
                Effect::Run { key, until_ms } => self.execute(i, now, key, until_ms),
            }
        }
    }

    /// The call is sent. It runs at a worker whatever becomes of this process, but never beyond its deadline.
    fn execute(&mut self, i: usize, now: Now, key: String, until_ms: u64) {
        let claim = self.claims[&(i, self.nodes[i].epoch, key.clone())].clone();
        assert!(self.sent.insert((key.clone(), claim.due_ms)), "{key} due {} was sent twice", claim.due_ms);
        let busy = self.busy_until.get(&key).copied().unwrap_or(0);
        assert!(busy <= self.now, "{key}: a run until {busy} overlaps one at {}", self.now);
        let most = (until_ms - now.mono_ms) * 1_000 / u64::try_from(1_000 + self.nodes[i].fast).unwrap();
        let usual = self.rng.random_range(20..3_000);
        let takes = if self.rng.random_bool(0.15) { most } else { usual.min(most) };
        self.busy_until.insert(key.clone(), self.now + takes);
        self.runs += 1;
        self.send_node(i, takes + 5, Event::RunEnd { key });
    }

    fn send(&mut self, i: usize, op: Op) {
        let (sent_mono, epoch) = (self.mono(i), self.nodes[i].epoch);
        let lossy = self.trouble() && self.rng.random_bool(0.05);
        // What is lost on its way there may also just be very late.
        let delay = self.rng.random_range(1..20);
        if lossy && self.rng.random_bool(0.5) {
            if self.rng.random_bool(0.5) {
                let late = self.rng.random_range(100..20_000);
                self.later(late, Happening::Arrive(NODES, epoch, sent_mono, op.clone()));
            }
            self.send_node(i, 5_000, Event::Reply { sent_mono, reply: Reply::Lost(op) });
        } else if lossy {
            self.later(delay, Happening::Arrive(NODES, epoch, sent_mono, op.clone()));
            self.send_node(i, 5_000, Event::Reply { sent_mono, reply: Reply::Lost(op) });
        } else {
            self.later(delay, Happening::Arrive(i, epoch, sent_mono, op));
        }
    }

    /// At the store. The node `NODES` is nobody: the answer is lost.
    fn arrive(&mut self, i: usize, epoch: u64, sent_mono: u64, op: Op) {
        let reply = if self.store_away_until > self.now { Reply::Lost(op) } else { self.apply(op) };
        if i < NODES && self.nodes[i].epoch == epoch {
            let after = self.rng.random_range(1..20);
            self.send_node(i, after, Event::Reply { sent_mono, reply });
        }
    }

    fn apply(&mut self, op: Op) -> Reply {
        match op {
            Op::LeaseRead => Reply::LeaseIs(self.lease.clone()),
            Op::LeaseWrite { revision, value } => {
                if self.lease.as_ref().map_or(0, |(_, at)| *at) != revision {
                    return Reply::LeaseConflict;
                }
                self.revision += 1;
                self.lease = Some((value, self.revision));
                Reply::LeaseWritten(self.revision)
            }
            Op::Claim { key, claim } => {
                let answer = match self.records.get(&key).cloned() {
                    None => ClaimAnswer::Gone,
                    Some((record, _)) if record.holds(&claim) => ClaimAnswer::Mine,
                    Some((record, revision)) => match record.claim(&claim) {
                        None => ClaimAnswer::Changed(record.seen(revision)),
                        Some(taken) => {
                            self.write(&key, Some(taken));
                            ClaimAnswer::Mine
                        }
                    },
                };
                Reply::Claimed(key, answer)
            }
            Op::Settle { key, claim, ending } => {
                let Some((record, revision)) = self.records.get(&key).cloned() else {
                    return Reply::Settled(key, None);
                };
                let settled = match &ending {
                    Ending::Release => record.release(&claim),
                    Ending::Finish(status, error) => record.finish(&claim, *status, error.as_deref()),
                };
                let seen = match settled {
                    None => record.seen(revision),
                    Some(settled) => {
                        let revision = self.write(&key, Some(settled.clone()));
                        settled.seen(revision)
                    }
                };
                Reply::Settled(key, Some(seen))
            }
        }
    }

    fn fault(&mut self) {
        if !self.trouble() {
            for i in 0..NODES {
                if !self.nodes[i].alive {
                    self.restart(i);
                }
            }
            return;
        }
        let after = self.rng.random_range(5_000..90_000);
        self.later(after, Happening::Fault);
        let i = self.rng.random_range(0..NODES);
        match self.rng.random_range(0..4) {
            0 => self.nodes[i].alive = false,
            1 => self.nodes[i].paused_until = self.now + self.rng.random_range(1_000..150_000),
            2 => self.store_away_until = self.now + self.rng.random_range(1_000..60_000),
            _ if !self.nodes[i].alive => self.restart(i),
            _ => {}
        }
    }

    fn restart(&mut self, i: usize) {
        let epoch = self.nodes[i].epoch + 1;
        self.nodes[i] = self.fresh(i, epoch);
        self.boot(i);
    }

    fn guest(&mut self) {
        if !self.trouble() {
            return;
        }
        let after = self.rng.random_range(20_000..200_000);
        self.later(after, Happening::Guest);
        let i = self.rng.random_range(0..SCHEDULES);
        let key = format!("k{i}");
        let wall = START_WALL_MS + i64::try_from(self.now).unwrap();
        let Some((mut record, _)) = self.records.get(&key).cloned() else { return };
        match self.rng.random_range(0..4) {
            0 if i == 0 => drop(self.write(&key, None)),
            1 => {
                record.enabled = !record.enabled;
                record.next_ms = record.next_after(wall);
                self.write(&key, Some(record));
            }
            _ => {
                record.cron =
                    ["*/5 * * * *", "*/7 * * * *", "3-59/9 * * * *"][self.rng.random_range(0..3)].into();
                record.next_ms = record.next_after(wall);
                self.write(&key, Some(record));
            }
        }
    }
}

#[test]
fn no_due_time_is_sent_twice_no_runs_overlap_and_nothing_due_is_left() {
    let (mut runs, mut lost) = (0, 0);
    for seed in 0..150 {
        let mut world = World::new(seed);
        world.run();
        let wall = START_WALL_MS + i64::try_from(world.now).unwrap();
        for (key, (record, _)) in &world.records {
            // Whichever gateway leads may be three minutes behind, and a run may be under way.
            let late = record.next_ms.is_some_and(|next| next < wall - 200_000) && record.running.is_none();
            assert!(!late, "seed {seed}: {key} was left behind: {record:?}");
            if let Some(claim) = &record.running {
                let budget = i64::try_from(claim.budget_ms).unwrap();
                assert!(claim.due_ms > wall - 2 * budget - 200_000, "seed {seed}: {key} is stuck: {claim:?}");
            }
        }
        runs += world.runs;
        lost += world.lost;
    }
    // The trouble was real: runs happened, and some were lost with their gateway.
    assert!(runs > 10_000, "{runs}");
    assert!(lost > 50, "{lost}");
}
