//! Announcements: who was heard lately.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use async_nats::Subscriber;
use bytes::Bytes;
use futures::StreamExt as _;
use longshore_proto::frame::{ShimAnnouncement, WorkerAnnouncement};
use longshore_proto::{BootId, PoolName, wire};
use longshore_service::nats::ListenError;
use parking_lot::Mutex;

use super::SILENT;
use crate::api::{Fleet, PoolView, ShimView, WorkerView};

/// More processes than a fleet has; what is above is somebody making ids up.
const MAX_HEARD: usize = 10_000;

/// Who was heard. Cheap to clone.
#[derive(Clone)]
pub struct Heard(Arc<Inner>);

struct Inner {
    began: Instant,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    workers: HashMap<BootId, (WorkerAnnouncement, Instant)>,
    shims: HashMap<BootId, (ShimAnnouncement, Instant)>,
}

impl Known {
    fn forget(&mut self, now: Instant) {
        let lately = |at: Instant| now.saturating_duration_since(at) <= SILENT;
        self.workers.retain(|_, (_, at)| lately(*at));
        self.shims.retain(|_, (_, at)| lately(*at));
    }

    fn hear(&mut self, subject: &str, payload: &[u8], now: Instant) {
        if self.workers.len() + self.shims.len() >= MAX_HEARD {
            self.forget(now);
            if self.workers.len() + self.shims.len() >= MAX_HEARD {
                return;
            }
        }
        // A round trip's probe and a newer version's announcement are no news.
        if subject.starts_with("fleet.shim.") {
            let Ok(shim) = wire::decode::<ShimAnnouncement>(payload) else { return };
            self.shims.insert(shim.shim, (shim, now));
            return;
        }
        let Ok(worker) = wire::decode::<WorkerAnnouncement>(payload) else { return };
        match self.workers.get_mut(&worker.worker) {
            // An old one that comes late says only that it was there.
            Some((known, at)) if worker.number < known.number => *at = now,
            _ => drop(self.workers.insert(worker.worker, (worker, now))),
        }
    }
}

impl Default for Heard {
    fn default() -> Self {
        Self(Arc::new(Inner { began: Instant::now(), known: Mutex::default() }))
    }
}

impl Heard {
    /// Listens until the client ends.
    ///
    /// # Errors
    /// That it has ended.
    pub async fn listen(self, mut announcements: Subscriber) -> Result<(), ListenError> {
        while let Some(message) = announcements.next().await {
            self.hear(&message.subject, &message.payload);
        }
        Err(ListenError::Ended)
    }

    fn hear(&self, subject: &str, payload: &Bytes) {
        self.0.known.lock().hear(subject, payload, Instant::now());
    }

    /// Workers of a pool that take calls: their ids and names.
    pub fn workers(&self, pool: &PoolName) -> BTreeMap<BootId, String> {
        let mut known = self.0.known.lock();
        known.forget(Instant::now());
        let serving = known.workers.values().filter(|(worker, _)| worker.pool == *pool && !worker.leaving);
        serving.map(|(worker, _)| (worker.worker, worker.name.clone())).collect()
    }

    /// Gateways, those that are leaving included: they still have calls.
    pub fn shims(&self) -> Vec<BootId> {
        let mut known = self.0.known.lock();
        known.forget(Instant::now());
        known.shims.keys().copied().collect()
    }

    /// For how long has it been listened, if not yet long enough to know everybody?
    pub fn listening(&self) -> std::time::Duration {
        self.0.began.elapsed()
    }

    /// All of them.
    pub fn view(&self) -> Fleet {
        let now = Instant::now();
        let mut known = self.0.known.lock();
        known.forget(now);
        let age =
            |at: Instant| u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
        let mut pools: BTreeMap<String, PoolView> = BTreeMap::new();
        for (worker, at) in known.workers.values() {
            let pool = pools.entry(worker.pool.to_string()).or_insert_with(|| PoolView {
                name: worker.pool.to_string(),
                slots: 0,
                free: 0,
                workers: Vec::new(),
            });
            pool.slots += u64::from(worker.slots);
            pool.free += u64::from(worker.free);
            pool.workers.push(WorkerView {
                worker: worker.worker.to_string(),
                name: worker.name.clone(),
                version: (!worker.version.is_empty()).then(|| worker.version.clone()),
                slots: u64::from(worker.slots),
                free: u64::from(worker.free),
                leaving: worker.leaving,
                unwell: worker.unwell,
                age_ms: age(*at),
            });
        }
        let mut pools: Vec<PoolView> = pools.into_values().collect();
        for pool in &mut pools {
            pool.workers.sort_by(|a, b| (&a.name, &a.worker).cmp(&(&b.name, &b.worker)));
        }
        let mut shims: Vec<ShimView> = known
            .shims
            .values()
            .map(|(shim, at)| ShimView {
                shim: shim.shim.to_string(),
                version: (!shim.version.is_empty()).then(|| shim.version.clone()),
                leaving: shim.leaving,
                age_ms: age(*at),
            })
            .collect();
        shims.sort_by(|a, b| a.shim.cmp(&b.shim));
        let listening_ms = u64::try_from(self.listening().as_millis()).unwrap_or(u64::MAX);
        Fleet { pools, shims, listening_ms }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn worker(id: u8, pool: &str, number: u64, free: u32) -> WorkerAnnouncement {
        WorkerAnnouncement {
            v: 1,
            worker: BootId::from_bytes([id; 16]),
            pool: pool.parse().unwrap(),
            name: format!("w{id}"),
            version: String::new(),
            number,
            slots: 8,
            free,
            load_percent: 0,
            leaving: false,
            unwell: false,
        }
    }

    fn hear(heard: &Heard, subject: &str, message: &impl serde::Serialize) {
        heard.hear(subject, &wire::encode(message).unwrap().into());
    }

    #[test]
    fn a_pool_is_the_sum_of_its_workers_and_late_announcements_change_nothing() {
        let heard = Heard::default();
        hear(&heard, "fleet.default.a", &worker(1, "default", 2, 8));
        hear(&heard, "fleet.default.a", &worker(1, "default", 1, 0));
        hear(&heard, "fleet.default.b", &worker(2, "default", 1, 3));
        hear(&heard, "fleet.gpu.c", &worker(3, "gpu", 1, 1));
        let fleet = heard.view();
        let sums: Vec<_> = fleet.pools.iter().map(|p| (p.name.as_str(), p.slots, p.free)).collect();
        assert_eq!(sums, [("default", 16, 11), ("gpu", 8, 1)]);
        assert_eq!(heard.workers(&PoolName::default()).len(), 2);
    }

    #[test]
    fn a_worker_that_leaves_is_shown_but_not_waited_for() {
        let heard = Heard::default();
        hear(&heard, "fleet.default.a", &WorkerAnnouncement { leaving: true, ..worker(1, "default", 1, 8) });
        assert!(heard.workers(&PoolName::default()).is_empty());
        assert!(heard.view().pools[0].workers[0].leaving);
    }

    #[test]
    fn what_cannot_be_read_is_no_announcement() {
        let heard = Heard::default();
        heard.hear("fleet.sync.x", &Bytes::from_static(b"\x00\x01"));
        heard.hear("fleet.shim.x", &Bytes::from_static(b"nonsense"));
        assert!(heard.view().pools.is_empty() && heard.shims().is_empty());
    }

    #[test]
    fn who_is_silent_for_three_seconds_is_forgotten() {
        let mut known = Known::default();
        let then = Instant::now();
        known.hear("fleet.default.a", &wire::encode(&worker(1, "default", 1, 8)).unwrap(), then);
        known.forget(then + SILENT);
        assert_eq!(known.workers.len(), 1);
        known.forget(then + SILENT + Duration::from_millis(1));
        assert!(known.workers.is_empty());
    }
}
