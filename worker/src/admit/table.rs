//! The admission table: a state machine without I/O. One value under one lock decides admission, status and
//! acknowledgement, because "unknown" is a proof (design, step 4) only if nothing can be admitted between looking
//! and saying so.
//!
//! Times are milliseconds of the worker's own monotonic clock.

use std::collections::HashMap;
use std::sync::Arc;

use longshore_proto::frame::{AskedCall, BusyReason, CallRef, Question, RunStatus};
use longshore_proto::{BootId, Fault, SendNo, TenantId};

use super::health::Health;
use super::offers::{Bounced, Offers};

/// Ids are remembered this long after the call's deadline, if no question acknowledges them before.
const REMEMBER_MS: u64 = 60_000;
/// An answer is kept this long after the call's deadline, if nobody acknowledges it.
const KEEP_ANSWER_MS: u64 = 10_000;
/// A tenant that was told `busy` is taken to be waiting for this long.
const WAITING_MS: u64 = 1_000;
/// A shim that has said nothing for so long is gone: its callers are answered by nobody.
const SHIM_GONE_MS: u64 = 10_000;
/// Longest possible budget (300 s) and then some: after this silence, nothing of a shim can still be on its way.
const FORGET_SHIM_MS: u64 = 600_000;
/// More shims than any fleet has; each costs some hundred bytes.
const MAX_SHIMS: usize = 4_096;

/// What bounds the table.
#[derive(Debug, Clone, Copy)]
pub struct TableConfig {
    /// Executions at a time.
    pub slots: u32,
    /// Ids remembered at a time: running, kept, refused. Some 200 bytes each.
    pub max_entries: usize,
    /// Bytes of answers kept for shims that have not acknowledged them. A tenant may hold a quarter.
    pub max_answer_bytes: usize,
}

impl Default for TableConfig {
    fn default() -> Self {
        Self { slots: 8, max_entries: 100_000, max_answer_bytes: 256 * 1024 * 1024 }
    }
}

/// A call as admission sees it.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Which send.
    pub call: CallRef,
    /// Whose.
    pub tenant: TenantId,
    /// From which shim, and where offers to it go; none for a plain NATS client.
    pub shim: Option<(BootId, Arc<str>)>,
    /// What was left of its time when it was written.
    pub budget_ms: u64,
}

/// What admission says.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission<A> {
    /// A slot is held for it: say `taken` and run it.
    Run,
    /// Say `busy`: it has not run and never will under this send.
    Busy(BusyReason),
    /// The same send again, and it is running: say `taken`.
    Running,
    /// The same send again, and this is its answer.
    Done(Arc<A>),
    /// The same send again, and its answer is no longer kept: say nothing.
    Over,
}

/// The answer to a question.
#[derive(Debug)]
pub struct Report<A> {
    /// One entry for each call that was asked about.
    pub calls: Vec<(CallRef, RunStatus)>,
    /// Answers to send again.
    pub resend: Vec<Arc<A>>,
    /// Runs that the shim no longer wants.
    pub cancel: Vec<CallRef>,
}

#[derive(Debug)]
enum State<A> {
    Running {
        tenant: TenantId,
    },
    Kept {
        tenant: TenantId,
        answer: Arc<A>,
        bytes: usize,
        until_ms: u64,
    },
    Over,
    /// Told `busy`, or cancelled before it arrived: a second copy of the message must not run either.
    Refused,
}

#[derive(Debug)]
struct Entry<A> {
    state: State<A>,
    shim: Option<BootId>,
    deadline_ms: u64,
}

#[derive(Debug)]
struct Shim {
    /// Every send up to here that has no entry is over or was never wanted: refuse it should it still arrive.
    floor: SendNo,
    heard_ms: u64,
    gone: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Table<A> {
    config: TableConfig,
    entries: HashMap<CallRef, Entry<A>>,
    shims: HashMap<BootId, Shim>,
    running: u32,
    running_by_tenant: HashMap<TenantId, u32>,
    kept_bytes: usize,
    kept_by_tenant: HashMap<TenantId, usize>,
    told_busy: HashMap<TenantId, u64>,
    offers: Offers,
    health: Health,
    leaving: bool,
}

impl<A> Table<A> {
    /// An empty table.
    pub fn new(config: TableConfig) -> Self {
        Self {
            config,
            entries: HashMap::new(),
            shims: HashMap::new(),
            running: 0,
            running_by_tenant: HashMap::new(),
            kept_bytes: 0,
            kept_by_tenant: HashMap::new(),
            told_busy: HashMap::new(),
            offers: Offers::default(),
            health: Health::default(),
            leaving: false,
        }
    }

    /// Decides about a call that has arrived.
    pub fn admit(&mut self, now_ms: u64, arrival: &Arrival) -> Admission<A> {
        if let Some(entry) = self.entries.get(&arrival.call) {
            return match &entry.state {
                State::Running { .. } => Admission::Running,
                State::Kept { answer, .. } => Admission::Done(Arc::clone(answer)),
                State::Over => Admission::Over,
                State::Refused => Admission::Busy(BusyReason::Full),
            };
        }
        let shim = arrival.shim.as_ref().map(|(id, _)| *id);
        if let Some(id) = shim {
            if !self.hear_shim(now_ms, id) {
                return Admission::Busy(BusyReason::Full);
            }
            if self.shims.get(&id).is_some_and(|s| arrival.call.send <= s.floor) {
                return Admission::Busy(BusyReason::Full);
            }
        }
        let deadline_ms = now_ms.saturating_add(arrival.budget_ms);
        let decision = self.decide(now_ms, arrival, shim);
        if self.entries.len() < self.config.max_entries {
            let state = match decision {
                Ok(()) => State::Running { tenant: arrival.tenant.clone() },
                Err(_) => State::Refused,
            };
            // A plain client's refusal needs no memory: the queue group delivers a message once, and nobody sends it again.
            if decision.is_ok() || shim.is_some() {
                self.entries.insert(arrival.call, Entry { state, shim, deadline_ms });
            }
        }
        match decision {
            Ok(()) => {
                self.running += 1;
                *self.running_by_tenant.entry(arrival.tenant.clone()).or_default() += 1;
                if let Some(id) = shim {
                    self.offers.used(id);
                }
                Admission::Run
            }
            Err(reason) => {
                if reason != BusyReason::Leaving {
                    self.told_busy.insert(arrival.tenant.clone(), now_ms);
                    if let Some((id, inbox)) = &arrival.shim {
                        let who =
                            Bounced { shim: *id, tenant: arrival.tenant.clone(), inbox: Arc::clone(inbox) };
                        self.offers.remember(now_ms, who);
                    }
                }
                Admission::Busy(reason)
            }
        }
    }

    fn decide(&self, now_ms: u64, arrival: &Arrival, shim: Option<BootId>) -> Result<(), BusyReason> {
        if self.leaving {
            return Err(BusyReason::Leaving);
        }
        if self.entries.len() >= self.config.max_entries || !self.has_room_for_answers(&arrival.tenant) {
            return Err(BusyReason::Full);
        }
        let reserved_for_others = self.offers.reserved_for_others(now_ms, shim);
        let free = self.free().saturating_sub(reserved_for_others);
        if free == 0 {
            return Err(BusyReason::Full);
        }
        if self.is_over_share(now_ms, &arrival.tenant, free) { Err(BusyReason::Share) } else { Ok(()) }
    }

    /// Whether a tenant has what it may have, with so many slots free for it.
    fn is_over_share(&self, now_ms: u64, tenant: &TenantId, free: u32) -> bool {
        let mine = self.running_by_tenant.get(tenant).copied().unwrap_or(0);
        // The last slot is kept for tenants with nothing running here: a newcomer never waits for a long run of
        // somebody who already has seven.
        let last = free == 1 && self.config.slots > 1;
        mine > 0 && (last || self.somebody_else_waits(now_ms, tenant) && mine >= self.share(now_ms))
    }

    fn has_room_for_answers(&self, tenant: &TenantId) -> bool {
        let held = self.kept_by_tenant.get(tenant).copied().unwrap_or(0);
        self.kept_bytes < self.config.max_answer_bytes && held < self.config.max_answer_bytes / 4
    }

    fn somebody_else_waits(&self, now_ms: u64, tenant: &TenantId) -> bool {
        self.told_busy.iter().any(|(other, at)| other != tenant && now_ms < at + WAITING_MS)
    }

    /// Slots divided by the tenants that run or wait here, rounded up, at least 1.
    fn share(&self, now_ms: u64) -> u32 {
        let waiting = self
            .told_busy
            .iter()
            .filter(|(tenant, at)| {
                now_ms < **at + WAITING_MS && !self.running_by_tenant.contains_key(*tenant)
            })
            .count();
        let contenders = (self.running_by_tenant.len() + waiting).max(1);
        self.config.slots.div_ceil(u32::try_from(contenders).unwrap_or(u32::MAX)).max(1)
    }

    /// A run is over and its instance dropped: the slot is free. `bytes` is what keeping the answer costs. The
    /// answer of a plain client's call is not kept: it is sent once.
    pub fn finish(
        &mut self,
        now_ms: u64,
        call: CallRef,
        answer: Option<(Arc<A>, usize)>,
        fault: Option<Fault>,
    ) {
        let Some(entry) = self.entries.get_mut(&call) else { return };
        let State::Running { tenant } = &entry.state else { return };
        let tenant = tenant.clone();
        self.health.outcome(fault == Some(Fault::Platform));
        let until_ms = entry.deadline_ms.max(now_ms) + KEEP_ANSWER_MS;
        entry.state = State::Over;
        match (answer, entry.shim) {
            (Some((answer, bytes)), Some(_)) => {
                self.kept_bytes += bytes;
                *self.kept_by_tenant.entry(tenant.clone()).or_default() += bytes;
                entry.state = State::Kept { tenant: tenant.clone(), answer, bytes, until_ms };
            }
            (_, None) => {
                self.entries.remove(&call);
            }
            (None, Some(_)) => {}
        }
        self.running = self.running.saturating_sub(1);
        if let Some(n) = self.running_by_tenant.get_mut(&tenant) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.running_by_tenant.remove(&tenant);
            }
        }
    }

    /// Answers a question, forgets what it acknowledges, and from now on refuses what it asks for in vain.
    pub fn question(&mut self, now_ms: u64, question: &Question) -> Report<A> {
        let mut report = Report {
            calls: Vec::with_capacity(question.calls.len()),
            resend: Vec::new(),
            cancel: Vec::new(),
        };
        if !self.hear_shim(now_ms, question.shim) {
            return report;
        }
        if let Some(shim) = self.shims.get_mut(&question.shim) {
            shim.floor = shim.floor.max(question.up_to);
        }
        let listed: std::collections::HashSet<CallRef> = question.calls.iter().map(|c| c.call).collect();
        let mut settled: Vec<CallRef> = self
            .entries
            .iter()
            .filter(|(call, entry)| {
                entry.shim == Some(question.shim) && call.send <= question.up_to && !listed.contains(*call)
            })
            .map(|(call, _)| *call)
            .collect();
        settled.sort_unstable();
        for call in settled {
            if matches!(self.entries.get(&call).map(|e| &e.state), Some(State::Running { .. })) {
                report.cancel.push(call);
            } else {
                self.forget(call);
            }
        }
        for AskedCall { call, .. } in &question.calls {
            let status = match self.entries.get(call).map(|e| &e.state) {
                Some(State::Running { .. }) => RunStatus::Running,
                Some(State::Kept { answer, .. }) => {
                    report.resend.push(Arc::clone(answer));
                    RunStatus::Done
                }
                Some(State::Over) => RunStatus::AnswerDropped,
                // The floor refuses it if it has no entry; an entry that says refused stays.
                Some(State::Refused) | None => RunStatus::Unknown,
            };
            report.calls.push((*call, status));
        }
        report
    }

    /// The caller is gone. True: the run is to be stopped. A call that has not arrived yet is refused when it does.
    pub fn cancel(&mut self, now_ms: u64, shim: BootId, call: CallRef) -> bool {
        if !self.hear_shim(now_ms, shim) {
            return false;
        }
        match self.entries.get(&call) {
            Some(Entry { state: State::Running { .. }, shim: Some(owner), .. }) => *owner == shim,
            Some(_) => false,
            None => {
                if self.entries.len() < self.config.max_entries {
                    let deadline_ms = now_ms + longshore_proto::limits::MAX_TIMEOUT_MS;
                    self.entries.insert(call, Entry { state: State::Refused, shim: Some(shim), deadline_ms });
                }
                false
            }
        }
    }

    /// A shim does not want the slot that it was offered.
    pub fn decline(&mut self, shim: BootId) {
        self.offers.used(shim);
    }

    /// The shim has all of a large answer: its bytes need not wait for the next question.
    pub fn release(&mut self, call: CallRef) {
        if matches!(self.entries.get(&call).map(|e| &e.state), Some(State::Kept { .. })) {
            self.drop_answer(call);
        }
    }

    /// Any message of a shim is a sign of life. False: too many shims are known already.
    pub fn hear_shim(&mut self, now_ms: u64, id: BootId) -> bool {
        if let Some(shim) = self.shims.get_mut(&id) {
            shim.heard_ms = now_ms;
            shim.gone = false;
            return true;
        }
        if self.shims.len() >= MAX_SHIMS {
            return false;
        }
        self.shims.insert(id, Shim { floor: SendNo(0), heard_ms: now_ms, gone: false });
        true
    }

    /// The connection is back: nobody could be heard while it was away.
    pub fn link_restored(&mut self, now_ms: u64) {
        for shim in self.shims.values_mut() {
            shim.heard_ms = now_ms;
        }
    }

    /// Forgets what is due. Returns the runs of shims that have been silent for 10 s: nobody waits for their answers.
    pub fn tick(&mut self, now_ms: u64) -> Vec<CallRef> {
        let due: Vec<(CallRef, bool)> = self
            .entries
            .iter()
            .filter_map(|(call, entry)| match &entry.state {
                State::Running { .. } => None,
                State::Kept { until_ms, .. } if now_ms >= *until_ms => Some((*call, false)),
                State::Kept { .. } => None,
                State::Over | State::Refused => {
                    (now_ms >= entry.deadline_ms + REMEMBER_MS).then_some((*call, true))
                }
            })
            .collect();
        for (call, forget) in due {
            if forget { self.forget(call) } else { self.drop_answer(call) }
        }
        self.told_busy.retain(|_, at| now_ms < *at + WAITING_MS);
        let mut gone = Vec::new();
        for (id, shim) in &mut self.shims {
            if !shim.gone && now_ms >= shim.heard_ms + SHIM_GONE_MS {
                shim.gone = true;
                gone.push(*id);
            }
        }
        self.shims.retain(|_, shim| now_ms < shim.heard_ms + FORGET_SHIM_MS);
        let overdue = self.entries.values().any(|e| {
            matches!(e.state, State::Running { .. }) && now_ms >= e.deadline_ms.saturating_add(1_000)
        });
        self.health.set_overdue(overdue);
        let orphan = |e: &Entry<A>| {
            matches!(e.state, State::Running { .. }) && e.shim.is_some_and(|id| gone.contains(&id))
        };
        let mut orphans: Vec<CallRef> =
            self.entries.iter().filter(|(_, e)| orphan(e)).map(|(call, _)| *call).collect();
        orphans.sort_unstable();
        orphans
    }

    /// Whom to offer a free slot, if there is one and somebody was bounced who would get it; call again until none.
    pub fn next_offer(&mut self, now_ms: u64) -> Option<Bounced> {
        if self.leaving {
            return None;
        }
        let mut offers = std::mem::take(&mut self.offers);
        let who = offers.next(now_ms, self.free(), |tenant, left| !self.is_over_share(now_ms, tenant, left));
        self.offers = offers;
        who
    }

    /// When a reserved slot falls free again, so that the next one in turn can have it.
    pub fn next_reservation_end(&self) -> Option<u64> {
        self.offers.next_end()
    }

    /// From now on every call is told `busy leaving`.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// It takes no more calls.
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Slots without a run. Reserved ones count: they are free for somebody.
    pub fn free(&self) -> u32 {
        self.config.slots.saturating_sub(self.running)
    }

    /// Runs now.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Answers that no shim has acknowledged yet.
    pub fn unacknowledged(&self) -> usize {
        self.entries.values().filter(|e| matches!(e.state, State::Kept { .. })).count()
    }

    /// Bytes of kept answers.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Whether it should be chosen last.
    pub fn unwell(&self) -> bool {
        self.health.unwell()
    }

    fn drop_answer(&mut self, call: CallRef) {
        let Some(entry) = self.entries.get_mut(&call) else { return };
        if let State::Kept { tenant, bytes, .. } = std::mem::replace(&mut entry.state, State::Over) {
            self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
            if let Some(held) = self.kept_by_tenant.get_mut(&tenant) {
                *held = held.saturating_sub(bytes);
                if *held == 0 {
                    self.kept_by_tenant.remove(&tenant);
                }
            }
        }
    }

    fn forget(&mut self, call: CallRef) {
        self.drop_answer(call);
        self.entries.remove(&call);
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
