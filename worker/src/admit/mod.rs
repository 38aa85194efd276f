//! Admission: subscriptions, slots, answers, leaving. [`table`] decides, without I/O; the rest of this folder is its
//! I/O, on a runtime and a thread of its own, so that busy guests cannot make a worker look lost.

mod announce;
mod answer;
mod control;
mod health;
mod installs;
mod intake;
mod offers;
mod plain;
mod run;
pub mod table;
mod warm;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use bytes::Bytes;
use longshore_proto::call::CallMessage;
use longshore_proto::frame::{CallRef, Chunk, Reply, WorkerFrame};
use longshore_proto::wire::{self, PROTOCOL_VERSION};
use longshore_proto::{BootId, ExtensionId, PoolName, TenantId, subject};
use longshore_service::nats::{Outbox, Outgoing, Routes, Watcher};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::execute::Executor;
use crate::metrics::WorkerMetrics;
use answer::KeptAnswer;
use table::{Table, TableConfig};

pub use announce::announcements;
pub use intake::{Subscriptions, serve};

/// Who this worker is and what it may hold.
#[derive(Debug, Clone)]
pub struct AdmitConfig {
    /// This start of this process.
    pub boot: BootId,
    /// The pool that it belongs to.
    pub pool: PoolName,
    /// The operator's name for it: a label in announcements and logs.
    pub name: String,
    /// Slots, ids, bytes of kept answers.
    pub table: TableConfig,
}

/// What arrives at an inbox token of this worker.
#[derive(Clone)]
enum Route {
    /// Chunks of a request body that is being fetched.
    Chunks(mpsc::Sender<Chunk>),
    /// Requests for the body of a kept answer.
    Body(CallRef, Bytes),
}

/// How to stop a run, and whose it is.
struct Stoppable {
    token: CancellationToken,
    tenant: TenantId,
    extension: ExtensionId,
}

impl Stoppable {
    fn of(call: &CallMessage, token: CancellationToken) -> Self {
        let context = &call.run.context;
        Self { token, tenant: context.tenant.clone(), extension: context.extension.clone() }
    }
}

/// The worker's half of the dispatch protocol.
pub struct Admission {
    boot: BootId,
    config: AdmitConfig,
    table: Mutex<Table<KeptAnswer>>,
    /// How to stop the runs in the table.
    runs: Mutex<HashMap<CallRef, Stoppable>>,
    /// Bundles that are being made ready ahead of their calls.
    warming: Arc<Semaphore>,
    routes: Routes<Route>,
    outbox: Outbox,
    link: Watcher,
    executor: Arc<Executor>,
    guests: tokio::runtime::Handle,
    tracker: TaskTracker,
    metrics: WorkerMetrics,
    started: Instant,
    announced: AtomicU64,
    /// Something worth announcing at once has changed: leaving, or unwell.
    announce_now: Notify,
    /// A slot was promised for 20 ms: somebody has to look when that is over.
    promised: Notify,
}

impl Admission {
    /// Admission for a worker that runs its guests on `guests`.
    pub fn new(
        config: AdmitConfig,
        executor: Arc<Executor>,
        outbox: Outbox,
        link: Watcher,
        guests: tokio::runtime::Handle,
        metrics: WorkerMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            boot: config.boot,
            table: Mutex::new(Table::new(config.table)),
            config,
            runs: Mutex::default(),
            warming: Arc::new(Semaphore::new(warm::AT_A_TIME)),
            routes: Routes::default(),
            outbox,
            link,
            executor,
            guests,
            tracker: TaskTracker::new(),
            metrics,
            started: Instant::now(),
            announced: AtomicU64::new(0),
            announce_now: Notify::new(),
            promised: Notify::new(),
        })
    }

    /// This process's id in subjects and frames.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// Runs now.
    pub fn running(&self) -> u32 {
        self.table.lock().running()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Says something to a shim. Lost if there is no connection: the shim will ask.
    fn say(&self, to: &str, frame: Reply) {
        if let Some(payload) = self.frame(frame) {
            self.publish(to, payload);
        }
    }

    fn publish(&self, to: &str, payload: Bytes) {
        self.outbox.send(Outgoing::new(to.to_owned(), payload));
    }

    fn frame(&self, frame: Reply) -> Option<Bytes> {
        let free = self.table.lock().free();
        let frame = WorkerFrame { v: PROTOCOL_VERSION, worker: self.boot, free, frame };
        match wire::encode(&frame) {
            Ok(payload) => Some(Bytes::from(payload)),
            Err(error) => {
                tracing::error!(error = %longshore_service::errors::chain(&error), "a frame cannot be encoded");
                None
            }
        }
    }

    /// Offers free slots to whom was bounced; with nobody remembered and the house no longer full, says so to all.
    fn offer(&self, was_full: bool) {
        let mut offered = false;
        loop {
            let next = self.table.lock().next_offer(self.now_ms());
            let Some(who) = next else { break };
            offered = true;
            self.metrics.offers.inc();
            self.say(&who.inbox, Reply::Offer { tenant: who.tenant });
        }
        if offered {
            self.promised.notify_one();
        } else if was_full {
            let free = self.table.lock().free();
            let notice = longshore_proto::frame::FreeNotice { worker: self.boot, free };
            if let Ok(payload) = wire::encode(&notice) {
                self.publish(&subject::free(&self.config.pool), payload.into());
            }
        }
    }

    /// Stops a run; its outcome is `cancelled`.
    fn stop(&self, call: CallRef) {
        if let Some(run) = self.runs.lock().get(&call) {
            run.token.cancel();
        }
    }
}
