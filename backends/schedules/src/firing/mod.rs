//! What is run when. A state machine without I/O: it is told what is stored, who leads and what time it is, and says
//! what to do; [`crate::scheduler`] does it. The simulation in this folder runs several against one store.
//!
//! The life of a run: due -> claimed by compare-and-set -> run -> ended by compare-and-set. Only the claim makes it
//! ours, so nothing here has to be right about who leads for a due time to be run at most once. A claim whose holder
//! is gone is ended as failed when the run has certainly ended too, and never run again: it may have run.

mod queue;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use crate::standalone::{Claim, Ending, LastStatus, Seen};
use queue::Queue;

/// Schedules that are kept track of; a bound against a bucket that somebody fills.
const MAX_TRACKED: usize = 500_000;

/// What a claim may last longer than the call: repeated attempts within the minute, and writing the end.
const EXTRA_MS: u64 = 70_000;

/// A call is not begun with less than this of its claim left.
const LEAST_MS: u64 = 1_000;

/// After a failed operation.
const RETRY_MS: u64 = 1_000;

/// What a run is told that its guest cannot know.
pub(crate) const LOST: &str = "the scheduler was lost during the run; it may have run";

/// Both clocks of this process.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Milliseconds since 1970; may jump.
    pub wall_ms: i64,
    /// Milliseconds since some start; never goes back.
    pub mono_ms: u64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Take the due time; answered by [`Firing::claimed`] or [`Firing::claim_failed`].
    Claim { key: String, claim: Claim },
    /// Make the call and have an answer before `until_ms` of the monotonic clock; answered by [`Firing::ended`].
    Run { key: String, until_ms: u64 },
    /// End the claim; answered by [`Firing::settled`] or [`Firing::settle_failed`].
    Settle { key: String, claim: Claim, ending: Ending },
}

/// The answer to [`Effect::Claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClaimAnswer {
    /// It is ours.
    Mine,
    /// It is as this says.
    Changed(Seen),
    /// Deleted.
    Gone,
}

#[derive(Debug)]
enum Stage {
    Claiming { retry_ms: Option<u64> },
    Running,
    Settling { ending: Ending, retry_ms: Option<u64> },
}

/// A run of this process, from the attempt to claim it to its recorded end.
#[derive(Debug)]
struct Run {
    claim: Claim,
    tenant: String,
    /// When it must have ended.
    until_ms: u64,
    stage: Stage,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Firing {
    me: String,
    max_runs: usize,
    lead_until_ms: Option<u64>,
    seen: HashMap<String, Seen>,
    queue: Queue,
    runs: HashMap<String, Run>,
    /// Claims of others (or of a former life), and since when they have been known.
    orphans: HashMap<String, (Claim, u64)>,
    effects: Vec<Effect>,
    claims: u64,
    overflow: bool,
}

impl Firing {
    /// One for the gateway of this name, which runs at most so many at once.
    pub(crate) fn new(me: impl Into<String>, max_runs: usize) -> Self {
        Self {
            me: me.into(),
            max_runs: max_runs.max(1),
            lead_until_ms: None,
            seen: HashMap::new(),
            queue: Queue::default(),
            runs: HashMap::new(),
            orphans: HashMap::new(),
            effects: Vec::new(),
            claims: 0,
            overflow: false,
        }
    }

    /// What is to be done since the last time.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Until when this process leads, if it does.
    pub(crate) fn lead(&mut self, until_ms: Option<u64>) {
        self.lead_until_ms = until_ms;
    }

    fn leads(&self, now: Now) -> bool {
        self.lead_until_ms.is_some_and(|until| now.mono_ms < until)
    }

    /// Runs that have not ended, their claims and ends included.
    pub(crate) fn active(&self) -> usize {
        self.runs.len()
    }

    /// Whether there were more schedules than are kept track of.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflow
    }

    /// Everything known of the store is old: it will be told again. Runs of this process stay.
    pub(crate) fn forget(&mut self) {
        self.seen.clear();
        self.queue = Queue::default();
        self.overflow = false;
    }

    /// A schedule is as this says.
    pub(crate) fn observe(&mut self, now: Now, key: &str, seen: Seen) {
        if self.seen.get(key).is_some_and(|known| known.revision >= seen.revision) {
            return;
        }
        if self.seen.len() >= MAX_TRACKED && !self.seen.contains_key(key) {
            self.overflow = true;
            return;
        }
        self.drop_from_queue(key);
        match &seen.running {
            Some(claim) if !self.runs.get(key).is_some_and(|run| run.claim.is_same(claim)) => {
                let known = self.orphans.get(key).is_some_and(|(known, _)| known.is_same(claim));
                if !known {
                    self.orphans.insert(key.to_owned(), (claim.clone(), now.mono_ms));
                }
            }
            _ => drop(self.orphans.remove(key)),
        }
        if seen.running.is_none()
            && !self.runs.contains_key(key)
            && let Some(next) = seen.next_ms
        {
            self.queue.add(&seen.tenant, next, key);
        }
        self.seen.insert(key.to_owned(), seen);
    }

    /// A schedule was deleted.
    pub(crate) fn removed(&mut self, key: &str, revision: u64) {
        if self.seen.get(key).is_none_or(|known| known.revision < revision) {
            self.gone(key);
        }
    }

    fn gone(&mut self, key: &str) {
        self.drop_from_queue(key);
        self.seen.remove(key);
        self.orphans.remove(key);
    }

    fn drop_from_queue(&mut self, key: &str) {
        if let Some(seen) = self.seen.get(key)
            && let Some(next) = seen.next_ms
        {
            self.queue.remove(&seen.tenant, next, key);
        }
    }

    /// Time has passed, or something has changed: begins what is due.
    pub(crate) fn step(&mut self, now: Now) {
        self.retry(now);
        if !self.leads(now) {
            return;
        }
        self.bury(now);
        self.queue.ripen(now.wall_ms);
        while self.runs.len() < self.max_runs {
            let free = self.max_runs - self.runs.len();
            let runs = &self.runs;
            let running = |tenant: &str| runs.values().filter(|run| run.tenant == tenant).count();
            // The last place is for a tenant that has nothing running, as the last slot of a worker is: long runs of one
            // tenant must not make the others late.
            let may = |tenant: &str| free > 1 || self.max_runs == 1 || running(tenant) == 0;
            let Some((tenant, due_ms, key)) = self.queue.take(may) else { break };
            self.claim(now, tenant, due_ms, key);
        }
    }

    fn claim(&mut self, now: Now, tenant: String, due_ms: i64, key: String) {
        let timeout_ms = self.seen.get(&key).map_or(0, |seen| seen.timeout_ms);
        let budget_ms = timeout_ms.min(longshore_proto::limits::MAX_TIMEOUT_MS) + EXTRA_MS;
        self.claims += 1;
        let (holder, number) = (self.me.clone(), self.claims);
        let claim = Claim { holder, number, due_ms, at_ms: now.wall_ms, budget_ms };
        self.effects.push(Effect::Claim { key: key.clone(), claim: claim.clone() });
        // Counted from before the claim is written: nobody who finds it can count from earlier.
        let until_ms = now.mono_ms + budget_ms;
        self.runs.insert(key, Run { claim, tenant, until_ms, stage: Stage::Claiming { retry_ms: None } });
    }

    /// Ends claims whose runs have certainly ended, and whose holders would have said so.
    fn bury(&mut self, now: Now) {
        let over = |(claim, since): &(Claim, u64)| {
            // Beyond the budget: what clocks may differ in speed, and the holder's chance to write the end itself.
            let budget = claim.budget_ms.min(longshore_proto::limits::MAX_TIMEOUT_MS + EXTRA_MS);
            now.mono_ms >= since + budget + budget / 20 + 5_000
        };
        let dead: Vec<_> =
            self.orphans.iter().filter(|(_, orphan)| over(orphan)).map(|(k, _)| k.clone()).collect();
        for key in dead {
            if self.runs.contains_key(&key) {
                continue;
            }
            let (Some((claim, _)), Some(seen)) = (self.orphans.remove(&key), self.seen.get(&key)) else {
                continue;
            };
            let ending = Ending::Finish(LastStatus::Failed, Some(LOST.to_owned()));
            let tenant = seen.tenant.clone();
            self.settle(
                now,
                key,
                Run { claim, tenant, until_ms: now.mono_ms, stage: Stage::Running },
                ending,
            );
        }
    }

    fn settle(&mut self, _now: Now, key: String, run: Run, ending: Ending) {
        self.effects.push(Effect::Settle {
            key: key.clone(),
            claim: run.claim.clone(),
            ending: ending.clone(),
        });
        self.runs.insert(key, Run { stage: Stage::Settling { ending, retry_ms: None }, ..run });
    }

    fn retry(&mut self, now: Now) {
        let leads = self.leads(now);
        let mut give_back = Vec::new();
        for (key, run) in &mut self.runs {
            match &mut run.stage {
                Stage::Claiming { retry_ms } if retry_ms.is_some_and(|at| now.mono_ms >= at) => {
                    *retry_ms = None;
                    if leads && run.until_ms > now.mono_ms + LEAST_MS {
                        let claim = run.claim.clone();
                        self.effects.push(Effect::Claim { key: key.clone(), claim });
                    } else {
                        // It may have been written: whatever was, is taken back.
                        give_back.push(key.clone());
                    }
                }
                Stage::Settling { ending, retry_ms } if retry_ms.is_some_and(|at| now.mono_ms >= at) => {
                    *retry_ms = None;
                    let (claim, ending) = (run.claim.clone(), ending.clone());
                    self.effects.push(Effect::Settle { key: key.clone(), claim, ending });
                }
                _ => {}
            }
        }
        for key in give_back {
            if let Some(run) = self.runs.remove(&key) {
                self.settle(now, key, run, Ending::Release);
            }
        }
    }

    /// The answer to a claim. One that came too late, or to a process that does not lead any more, is given back: its call
    /// has certainly not been sent.
    pub(crate) fn claimed(&mut self, now: Now, key: &str, answer: ClaimAnswer) {
        let Some(mut run) = self.runs.remove(key) else { return };
        match answer {
            ClaimAnswer::Mine if self.leads(now) && run.until_ms > now.mono_ms + LEAST_MS => {
                run.stage = Stage::Running;
                self.effects.push(Effect::Run { key: key.to_owned(), until_ms: run.until_ms });
                self.runs.insert(key.to_owned(), run);
            }
            ClaimAnswer::Mine => self.settle(now, key.to_owned(), run, Ending::Release),
            ClaimAnswer::Changed(seen) => self.refresh(now, key, Some(seen)),
            ClaimAnswer::Gone => self.refresh(now, key, None),
        }
        self.step(now);
    }

    /// Whether the claim was written is not known; it is asked again.
    pub(crate) fn claim_failed(&mut self, now: Now, key: &str) {
        if let Some(Run { stage: Stage::Claiming { retry_ms }, .. }) = self.runs.get_mut(key) {
            *retry_ms = Some(now.mono_ms + RETRY_MS);
        }
    }

    /// The run has ended.
    pub(crate) fn ended(&mut self, now: Now, key: &str, error: Option<String>) {
        let Some(run) = self.runs.remove(key) else { return };
        let status = if error.is_none() { LastStatus::Success } else { LastStatus::Failed };
        self.settle(now, key.to_owned(), run, Ending::Finish(status, error));
    }

    /// The end is written, or the schedule is gone.
    pub(crate) fn settled(&mut self, now: Now, key: &str, seen: Option<Seen>) {
        self.runs.remove(key);
        self.refresh(now, key, seen);
        self.step(now);
    }

    /// The end could not be written; it is tried until it can, whoever leads.
    pub(crate) fn settle_failed(&mut self, now: Now, key: &str) {
        if let Some(Run { stage: Stage::Settling { retry_ms, .. }, .. }) = self.runs.get_mut(key) {
            *retry_ms = Some(now.mono_ms + RETRY_MS);
        }
    }

    /// What an operation found. Taken again even if it is known: the key was busy then.
    fn refresh(&mut self, now: Now, key: &str, seen: Option<Seen>) {
        let known = self.seen.get(key).map(|known| known.revision);
        match (seen, known) {
            (None, _) => self.gone(key),
            (Some(seen), Some(known)) if seen.revision < known => {
                // The watch is ahead; what it told while the key was busy was not queued.
                if let Some(mut newer) = self.seen.remove(key) {
                    newer.revision = newer.revision.max(seen.revision);
                    self.observe(now, key, newer);
                }
            }
            (Some(seen), _) => {
                self.drop_from_queue(key);
                self.seen.remove(key);
                self.observe(now, key, seen);
            }
        }
    }

    /// When [`Self::step`] has something to do next, by the monotonic clock.
    pub(crate) fn next_step_ms(&self, now: Now) -> Option<u64> {
        let retries = self.runs.values().filter_map(|run| match run.stage {
            Stage::Claiming { retry_ms } | Stage::Settling { retry_ms, .. } => retry_ms,
            Stage::Running => None,
        });
        let due = self
            .queue
            .next_ms()
            .filter(|_| self.leads(now))
            .map(|next| now.mono_ms + u64::try_from(next.saturating_sub(now.wall_ms)).unwrap_or(0));
        retries.chain(due).min()
    }
}
