//! The loop: it only keeps state. Whatever waits (for NATS, for a run) is a task of its own and reports back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::{Operation, Watch};
use futures::StreamExt as _;
use longshore_service::errors::chain;
use longshore_service::nats::Watcher;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Fired, Job, LOOK, Observer, Runner, SchedulerConfig};
use crate::firing::{ClaimAnswer, Effect, Firing, LOST, Now};
use crate::lease::{self, Lease, Stored};
use crate::standalone::{
    Bucket, Claim, Claimed, Ending, KvError, LEASES, LastStatus, Record, ScheduleStore, Settled, Written,
};
use crate::unix_ms;

/// Between two attempts to watch.
const WATCH_AGAIN: Duration = Duration::from_secs(2);

/// Before the lease is read again that somebody else has written: replicas may be behind.
const LEASE_AGAIN: Duration = Duration::from_millis(100);

/// How late after its deadline a run is taken for stuck. It answers by itself well before.
const STUCK: Duration = Duration::from_millis(500);

/// What a task reports.
enum Report {
    Prepared(Result<(), KvError>),
    LeaseRead(Result<Option<(Stored, u64)>, KvError>),
    LeaseWritten { sent_ms: u64, result: Result<Written, KvError> },
    Watching(Result<Box<Watch>, KvError>),
    Claimed { key: String, result: Result<Claimed, KvError> },
    Ran { key: String, result: Result<(), String> },
    Settled { key: String, ending: Ending, result: Result<Settled, KvError> },
}

pub(super) struct Driver<R, O> {
    started: Instant,
    link: Watcher,
    store: Arc<ScheduleStore>,
    leases: Arc<Bucket>,
    runner: Arc<R>,
    observer: O,
    lease: Lease,
    lease_at: Instant,
    lease_busy: bool,
    prepared: bool,
    firing: Firing,
    /// What claims gave, until it runs.
    records: HashMap<String, Record>,
    watch: Option<Box<Watch>>,
    watch_at: Instant,
    watch_busy: bool,
    tasks: JoinSet<Report>,
    led: bool,
    leaving: bool,
    gave_up: bool,
    /// The last thing that went wrong, so that it is logged once and not each second.
    trouble: Option<String>,
    unreadable: HashMap<String, u64>,
}

impl<R: Runner, O: Observer> Driver<R, O> {
    pub(super) fn new(
        client: async_nats::Client,
        link: Watcher,
        config: SchedulerConfig,
        runner: R,
        observer: O,
    ) -> Self {
        let now = Instant::now();
        observer.leads(false);
        Self {
            started: now,
            store: Arc::new(ScheduleStore::making(client.clone(), link.clone())),
            leases: Arc::new(Bucket::new(LEASES, client, link.clone(), true)),
            link,
            runner: Arc::new(runner),
            observer,
            lease: Lease::new(config.name.clone()),
            lease_at: now,
            lease_busy: false,
            prepared: false,
            firing: Firing::new(config.name, config.max_runs),
            records: HashMap::new(),
            watch: None,
            watch_at: now,
            watch_busy: false,
            tasks: JoinSet::new(),
            led: false,
            leaving: false,
            gave_up: false,
            trouble: None,
            unreadable: HashMap::new(),
        }
    }

    fn now(&self) -> Now {
        Now { wall_ms: unix_ms(), mono_ms: self.mono_ms() }
    }

    fn mono_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn at(&self, mono_ms: u64) -> Instant {
        self.started + Duration::from_millis(mono_ms)
    }

    pub(super) async fn serve(mut self, drain: CancellationToken, force: CancellationToken) {
        loop {
            self.turn();
            if self.leaving && self.firing.active() == 0 && !self.lease_busy {
                return;
            }
            let wake = self.wake();
            tokio::select! {
                () = force.cancelled() => return,
                () = drain.cancelled(), if !self.leaving => self.leave(),
                Some(report) = self.tasks.join_next() => self.report(report),
                entry = next(&mut self.watch) => self.watched(entry),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// Nothing new is begun; another gateway may take over at once.
    fn leave(&mut self) {
        self.leaving = true;
        if !self.lease_busy {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        if let Some((value, revision)) = self.lease.give_up() {
            self.gave_up = true;
            self.write_lease(value, revision);
        }
    }

    /// The value; of a failure, a line in the log when it is another than the last.
    fn healed<T>(&mut self, result: Result<T, KvError>) -> Option<T> {
        match result {
            Ok(value) => {
                if self.trouble.take().is_some() {
                    tracing::info!("the schedules can be reached again");
                }
                Some(value)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    fn failed(&mut self, error: &KvError) {
        let text = chain(error).to_string();
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!(error = %text, "the schedules cannot be reached; it is tried again");
            self.trouble = Some(text);
        }
    }

    /// When there is something to do at the latest.
    fn wake(&self) -> Instant {
        let now = Instant::now();
        let step = self.firing.next_step_ms(self.now()).map_or(now + LOOK, |ms| self.at(ms));
        // A lease that ends is noticed by the look.
        let lease = if self.lease_busy { now + LOOK } else { self.lease_at.max(now) };
        step.min(lease).min(now + LOOK)
    }

    /// Everything that the present state asks for.
    fn turn(&mut self) {
        let now = self.now();
        if !self.leaving {
            self.keep_lease(now);
        }
        let leads = !self.leaving && self.lease.is_held(now.mono_ms);
        if leads != self.led {
            self.led = leads;
            self.observer.leads(leads);
            if leads {
                tracing::info!("this gateway fires the schedules");
            } else {
                tracing::info!(
                    active = self.firing.active(),
                    "this gateway does not fire schedules any more"
                );
            }
        }
        // Before the watch has told anything there is nothing to fire; what it told stays true while it is made anew.
        self.firing.lead(if leads { self.lease.held_until() } else { None });
        self.keep_watch(leads);
        self.firing.step(now);
        for effect in self.firing.take_effects() {
            self.perform(effect);
        }
    }

    fn keep_lease(&mut self, now: Now) {
        if self.lease_busy || Instant::now() < self.lease_at || !self.link.is_connected() {
            return;
        }
        self.lease_busy = true;
        self.lease_at = Instant::now() + Duration::from_millis(lease::TURN_MS);
        if !self.prepared {
            // Every gateway sees to it that there is a bucket for the workers, whoever fires.
            let store = Arc::clone(&self.store);
            self.tasks.spawn(async move { Report::Prepared(store.prepare().await) });
            return;
        }
        match self.lease.wants(now.mono_ms) {
            Some(revision) => self.write_lease(self.lease.value(), revision),
            None => {
                let leases = Arc::clone(&self.leases);
                self.tasks.spawn(async move { Report::LeaseRead(read_lease(&leases).await) });
            }
        }
    }

    fn write_lease(&mut self, value: Stored, revision: u64) {
        let (leases, sent_ms) = (Arc::clone(&self.leases), self.mono_ms());
        self.lease_busy = true;
        self.tasks.spawn(async move {
            // Two texts: they always encode.
            let value = serde_json::to_vec(&value).unwrap_or_default();
            Report::LeaseWritten { sent_ms, result: leases.put(lease::KEY, value, revision).await }
        });
    }

    fn keep_watch(&mut self, leads: bool) {
        if !leads {
            // Only one reads them all. Runs of this process end without it.
            if self.watch.take().is_some() {
                self.firing.forget();
                self.unreadable.clear();
            }
            return;
        }
        if self.watch.is_none() && !self.watch_busy && Instant::now() >= self.watch_at {
            self.watch_busy = true;
            let store = Arc::clone(&self.store);
            self.tasks.spawn(async move { Report::Watching(store.watch().await.map(Box::new)) });
        }
    }

    fn watched(&mut self, entry: Option<Result<async_nats::jetstream::kv::Entry, String>>) {
        let now = self.now();
        match entry {
            Some(Ok(entry)) if entry.operation != Operation::Put => {
                self.firing.removed(&entry.key, entry.revision);
                self.unreadable.remove(&entry.key);
            }
            Some(Ok(entry)) => match Record::decode(&entry.value) {
                Ok(record) => self.firing.observe(now, &entry.key, record.seen(entry.revision)),
                Err(error) => {
                    self.firing.removed(&entry.key, entry.revision);
                    let known = self.unreadable.insert(entry.key.clone(), entry.revision);
                    if known != Some(entry.revision) {
                        let error = chain(&error);
                        tracing::warn!(key = entry.key, %error, "a stored schedule cannot be read; it is not fired");
                    }
                }
            },
            ended => {
                let why = ended.and_then(Result::err).unwrap_or_else(|| "it ended".to_owned());
                tracing::warn!(why, "the watch of the schedules broke; it is begun again");
                self.watch = None;
                self.watch_at = Instant::now() + WATCH_AGAIN;
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Claim { key, claim } => {
                let store = Arc::clone(&self.store);
                self.tasks.spawn(async move {
                    let result = store.claim(&key, &claim).await;
                    Report::Claimed { key, result }
                });
            }
            Effect::Run { key, until_ms } => self.run(key, self.at(until_ms)),
            Effect::Settle { key, claim, ending } => self.settle(key, claim, ending),
        }
    }

    fn run(&mut self, key: String, until: Instant) {
        let Some(record) = self.records.remove(&key) else {
            // A claim whose record is gone cannot be run, and nobody but this process could have taken it.
            tracing::error!(key, "a claimed schedule has no record");
            return self.firing.ended(self.now(), &key, Some("internal".to_owned()));
        };
        let runner = Arc::clone(&self.runner);
        tracing::debug!(schedule = record.id, tenant = %record.tenant, "firing");
        self.tasks.spawn(async move {
            // A task of its own, so that a panic is one failed run.
            let job = Job { record, until };
            let mut call = JoinSet::new();
            call.spawn(async move { runner.run(job).await });
            // Dropping the set cancels the call.
            let result = match tokio::time::timeout_at(until + STUCK, call.join_next()).await {
                Ok(Some(Ok(result))) => result,
                Ok(_) => Err("internal".to_owned()),
                Err(_) => Err("timeout".to_owned()),
            };
            Report::Ran { key, result }
        });
    }

    fn settle(&mut self, key: String, claim: Claim, ending: Ending) {
        self.records.remove(&key);
        let store = Arc::clone(&self.store);
        self.tasks.spawn(async move {
            let result = store.settle(&key, &claim, &ending).await;
            Report::Settled { key, ending, result }
        });
    }

    fn report(&mut self, report: Result<Report, JoinError>) {
        let now = self.now();
        let report = match report {
            Ok(report) => report,
            // Nothing in these tasks panics: the runner has a task of its own.
            Err(error) => return tracing::error!(%error, "a task of the scheduler failed"),
        };
        match report {
            Report::Prepared(result) => {
                self.lease_busy = false;
                if self.healed(result).is_some() {
                    self.prepared = true;
                    self.lease_at = Instant::now();
                }
            }
            Report::LeaseRead(result) => {
                self.lease_busy = false;
                if let Some(found) = self.healed(result) {
                    self.lease.read(now.mono_ms, found);
                    if self.lease.wants(now.mono_ms).is_some() {
                        self.lease_at = Instant::now();
                    }
                }
            }
            Report::LeaseWritten { sent_ms, result } => {
                self.lease_busy = false;
                match self.healed(result) {
                    // The giving up itself.
                    Some(Written::Done(_)) if self.gave_up => {}
                    Some(Written::Done(revision)) => {
                        self.lease.written(sent_ms, now.mono_ms, revision);
                        // It was under way when the end began.
                        if self.leaving {
                            self.give_up();
                        }
                    }
                    Some(Written::Conflict) => {
                        self.lease.conflict();
                        self.lease_at = Instant::now() + LEASE_AGAIN;
                    }
                    None => {}
                }
            }
            Report::Watching(result) => {
                self.watch_busy = false;
                match self.healed(result) {
                    Some(watch) => {
                        self.firing.forget();
                        self.watch = Some(watch);
                    }
                    None => self.watch_at = Instant::now() + WATCH_AGAIN,
                }
            }
            Report::Claimed { key, result } => self.claimed(now, key, result),
            Report::Ran { key, result } => self.firing.ended(now, &key, result.err()),
            Report::Settled { key, ending, result } => self.settled(now, key, &ending, result),
        }
    }

    fn claimed(&mut self, now: Now, key: String, result: Result<Claimed, KvError>) {
        let answer = match result {
            Ok(Claimed::Mine(record)) => {
                self.records.insert(key.clone(), *record);
                ClaimAnswer::Mine
            }
            Ok(Claimed::Changed(seen)) => ClaimAnswer::Changed(seen),
            Ok(Claimed::Gone) => ClaimAnswer::Gone,
            Err(KvError::Record { source, .. }) => {
                tracing::warn!(key, error = %chain(&source), "a stored schedule cannot be read; it is not fired");
                ClaimAnswer::Gone
            }
            Err(error) => {
                self.failed(&error);
                return self.firing.claim_failed(now, &key);
            }
        };
        self.firing.claimed(now, &key, answer);
    }

    fn settled(&mut self, now: Now, key: String, ending: &Ending, result: Result<Settled, KvError>) {
        let seen = match result {
            Ok(Settled::Now(seen)) => Some(seen),
            Ok(Settled::Gone) => None,
            Err(KvError::Record { source, .. }) => {
                tracing::warn!(key, error = %chain(&source), "a stored schedule cannot be read; its run has ended");
                None
            }
            Err(error) => {
                self.failed(&error);
                return self.firing.settle_failed(now, &key);
            }
        };
        let outcome = match ending {
            Ending::Release => Fired::Released,
            Ending::Finish(LastStatus::Success, _) => Fired::Success,
            Ending::Finish(LastStatus::Failed, Some(why)) if why == LOST => Fired::Lost,
            Ending::Finish(LastStatus::Failed, _) => Fired::Failed,
        };
        self.observer.fired(outcome);
        self.firing.settled(now, &key, seen);
        if self.firing.overflowed() {
            tracing::error!("there are more schedules than one gateway keeps track of; some are not fired");
        }
    }
}

async fn read_lease(leases: &Bucket) -> Result<Option<(Stored, u64)>, KvError> {
    let Some((bytes, revision)) = leases.get(lease::KEY).await? else { return Ok(None) };
    let held_by = |holder: &str| Stored { holder: holder.to_owned(), ttl_ms: lease::TTL_MS };
    let stored = match bytes {
        // Somebody has deleted it.
        None => held_by(""),
        // What cannot be read is replaced after a lease's time.
        Some(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|_| held_by("?")),
    };
    Ok(Some((stored, revision)))
}

/// The next entry of a watch, if there is one.
async fn next(watch: &mut Option<Box<Watch>>) -> Option<Result<async_nats::jetstream::kv::Entry, String>> {
    match watch {
        Some(watch) => Some(watch.next().await?.map_err(|error| chain(&error).to_string())),
        None => std::future::pending().await,
    }
}
