//! What a shim knows of the workers: free slots, questions that are out, signs of life, and the choice between them.

use std::collections::{BTreeMap, HashSet};

use longshore_proto::frame::WorkerAnnouncement;
use longshore_proto::{BootId, ContentHash, PoolName, SendNo, TenantId};
use rand::RngExt as _;
use rand::rngs::SmallRng;

/// So long unheard is silence.
pub(super) const SILENT_MS: u64 = 3_000;
/// A question is unanswered after so long: far more than a round trip, and less than the 2 s between questions.
const UNANSWERED_MS: u64 = 900;
/// Announcements or not: so many unanswered questions in a row are a lost worker.
const UNANSWERED_QUESTIONS: usize = 3;
/// A worker with none of our calls is forgotten after so long.
const FORGET_MS: u64 = 10_000;
/// A worker remembers for 2 s whom it has bounced; a knock is repeated before that.
const REGISTERED_MS: u64 = 1_500;
/// Components that a worker is remembered to have run. A set of so many digests is 32 KiB.
const REMEMBERED_COMPONENTS: usize = 1_024;

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: BootId,
    pub(super) pool: PoolName,
    pub(super) slots: u32,
    free_heard: u32,
    /// Sends that it has neither taken nor refused.
    pub(super) undecided: u32,
    pub(super) heard_ms: u64,
    announcement: u64,
    pub(super) leaving: bool,
    pub(super) unwell: bool,
    /// Questions without an answer: (number, when).
    questions: Vec<(u64, u64)>,
    pub(super) asked_ms: u64,
    parked: HashSet<TenantId>,
    /// It has bounced us and not offered a slot since: it knows that we wait.
    registered_ms: Option<u64>,
    components: HashSet<ContentHash>,
    /// Our calls there, with their tenants: what a question lists.
    pub(super) sends: BTreeMap<SendNo, TenantId>,
    /// A call there has ended since the last question: ask soon, so that the worker can drop its answer.
    pub(super) acknowledge: bool,
}

impl Worker {
    fn new(now_ms: u64, id: BootId, pool: PoolName) -> Self {
        Self {
            id,
            pool,
            slots: 0,
            free_heard: 0,
            undecided: 0,
            heard_ms: now_ms,
            announcement: 0,
            leaving: false,
            unwell: false,
            questions: Vec::new(),
            asked_ms: 0,
            parked: HashSet::new(),
            registered_ms: None,
            components: HashSet::new(),
            sends: BTreeMap::new(),
            acknowledge: false,
        }
    }

    /// Last count heard, less own sends not answered since.
    pub(super) fn free_estimate(&self) -> u32 {
        self.free_heard.saturating_sub(self.undecided)
    }

    /// A frame says how many slots are free.
    pub(super) fn hear(&mut self, now_ms: u64, free: u32) {
        self.heard_ms = now_ms;
        self.free_heard = free;
    }

    /// It is full for now.
    pub(super) fn full(&mut self) {
        self.free_heard = 0;
    }

    /// It has told us `busy`, and will offer us a slot in turn.
    pub(super) fn remembers_us(&mut self, now_ms: u64) {
        self.registered_ms = Some(now_ms);
    }

    /// It has offered: our turn is used up.
    pub(super) fn has_offered(&mut self) {
        self.registered_ms = None;
    }

    /// A tenant is over its share there: wait for one of its calls there to end, or for the next announcement.
    pub(super) fn park(&mut self, tenant: TenantId) {
        self.parked.insert(tenant);
    }

    pub(super) fn unpark(&mut self, tenant: &TenantId) {
        self.parked.remove(tenant);
    }

    /// Slots are free there, and nobody it knows of could take them.
    pub(super) fn unpark_all(&mut self) {
        self.parked.clear();
        self.registered_ms = None;
    }

    pub(super) fn has_run(&mut self, component: ContentHash) {
        if self.components.len() >= REMEMBERED_COMPONENTS {
            self.components.clear();
        }
        self.components.insert(component);
    }

    pub(super) fn asked(&mut self, now_ms: u64, number: u64) {
        self.questions.push((number, now_ms));
        self.asked_ms = now_ms;
        self.acknowledge = false;
    }

    /// An answer to a question answers all earlier ones.
    pub(super) fn answered(&mut self, number: u64) {
        self.questions.retain(|(n, _)| *n > number);
    }

    fn unanswered(&self, now_ms: u64) -> usize {
        self.questions.iter().filter(|(_, at)| now_ms >= at + UNANSWERED_MS).count()
    }
}

/// All workers that were heard lately.
#[derive(Debug, Default)]
pub(super) struct Workers {
    by_id: BTreeMap<BootId, Worker>,
    /// Since when this shim has listened without interruption.
    listening_ms: u64,
}

impl Workers {
    pub(super) fn get(&self, id: BootId) -> Option<&Worker> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: BootId) -> Option<&mut Worker> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.by_id.values()
    }

    pub(super) fn remove(&mut self, id: BootId) -> Option<Worker> {
        self.by_id.remove(&id)
    }

    /// Takes an announcement; an older one than the last is ignored but for being a sign of life.
    pub(super) fn announced(&mut self, now_ms: u64, a: &WorkerAnnouncement) {
        let worker =
            self.by_id.entry(a.worker).or_insert_with(|| Worker::new(now_ms, a.worker, a.pool.clone()));
        worker.heard_ms = now_ms;
        if a.number < worker.announcement {
            return;
        }
        worker.announcement = a.number;
        worker.free_heard = a.free;
        worker.slots = a.slots;
        worker.leaving = a.leaving;
        worker.unwell = a.unwell;
        worker.parked.clear();
    }

    /// Silence is counted from here: after a reconnect, or when the own clock jumped, nobody could be heard.
    pub(super) fn restart_listening(&mut self, now_ms: u64) {
        self.listening_ms = now_ms;
        for worker in self.by_id.values_mut() {
            worker.questions.clear();
        }
    }

    pub(super) fn silence_ms(&self, now_ms: u64, worker: &Worker) -> u64 {
        now_ms.saturating_sub(worker.heard_ms.max(self.listening_ms))
    }

    /// Whether this shim has listened long enough to know that nobody is there.
    pub(super) fn knows(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.listening_ms) >= SILENT_MS
    }

    /// Whether the pool has a worker that was heard within 3 s and is not leaving.
    pub(super) fn any(&self, now_ms: u64, pool: &PoolName) -> bool {
        self.by_id.values().any(|w| w.pool == *pool && !w.leaving && self.silence_ms(now_ms, w) < SILENT_MS)
    }

    /// Workers that are lost (with our calls there) and those to be forgotten (without).
    pub(super) fn lost(&self, now_ms: u64) -> Vec<BootId> {
        let lost = |w: &Worker| {
            let unanswered = w.unanswered(now_ms);
            let silent = self.silence_ms(now_ms, w) >= SILENT_MS && unanswered >= 1;
            let deaf = unanswered >= UNANSWERED_QUESTIONS;
            let idle = w.sends.is_empty() && self.silence_ms(now_ms, w) >= FORGET_MS;
            (!w.sends.is_empty() && (silent || deaf)) || idle
        };
        self.by_id.values().filter(|w| lost(w)).map(|w| w.id).collect()
    }

    /// A worker to knock at when none seems free: one that does not know yet that we wait. Without it, a shim that
    /// never tried is never offered anything and learns of free slots by announcements only: with three shims the p99
    /// of waiting was 216 ms instead of 10 (tests/tests/protocol/waiting.rs).
    pub(super) fn knock(
        &self,
        now_ms: u64,
        rng: &mut SmallRng,
        wanted: (&PoolName, &TenantId),
        avoid: &[BootId],
    ) -> Option<BootId> {
        let (pool, tenant) = wanted;
        let unaware = |w: &&Worker| {
            w.pool == *pool
                && !w.leaving
                && w.undecided == 0
                && w.registered_ms.is_none_or(|at| now_ms >= at + REGISTERED_MS)
                && !w.parked.contains(tenant)
                && !avoid.contains(&w.id)
                && self.silence_ms(now_ms, w) < SILENT_MS
        };
        let unaware: Vec<&Worker> = self.by_id.values().filter(unaware).collect();
        Some(unaware.get(random_below(rng, unaware.len())?)?.id)
    }

    /// Of two random workers that seem free, the one that has run this component; of equals the one with more free
    /// slots. Workers that are unwell come last. `avoid` are those that lost this very call.
    pub(super) fn choose(
        &self,
        now_ms: u64,
        rng: &mut SmallRng,
        wanted: (&PoolName, &TenantId, ContentHash),
        avoid: &[BootId],
    ) -> Option<BootId> {
        let (pool, tenant, component) = wanted;
        let fits = |w: &&Worker| {
            w.pool == *pool
                && !w.leaving
                && w.free_estimate() > 0
                && !w.parked.contains(tenant)
                && !avoid.contains(&w.id)
                && self.silence_ms(now_ms, w) < SILENT_MS
        };
        let mut well: Vec<&Worker> = self.by_id.values().filter(fits).collect();
        if well.iter().any(|w| !w.unwell) {
            well.retain(|w| !w.unwell);
        }
        let first = *well.get(random_below(rng, well.len())?)?;
        let second = *well.get(random_below(rng, well.len())?)?;
        let rank = |w: &Worker| (w.components.contains(&component), w.free_estimate());
        Some(if rank(second) > rank(first) { second.id } else { first.id })
    }
}

fn random_below(rng: &mut SmallRng, n: usize) -> Option<usize> {
    (n > 0).then(|| rng.random_range(0..n))
}
