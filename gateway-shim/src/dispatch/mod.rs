//! From an admitted HTTP call to an answer: waiting room, choice, in flight (docs/architecture.md). [`machine`]
//! decides, without I/O; the rest of this folder is its I/O.

mod api;
mod control;
mod fetch;
mod intake;
pub mod machine;
mod metrics;
mod perform;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use longshore_proto::fleet::Warmed;
use longshore_proto::frame::{CallRef, Chunk};
use longshore_proto::{BootId, CallError, ErrorCode, ExecutionId, SendNo, subject};
use longshore_service::nats::{Outbox, RouteGuard, Routes, Watcher};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::http::{Dispatch, Fleet};
use machine::{CallMeta, Machine, MachineConfig, Output};

pub use api::{Answer, AnswerBody, Call, CallResult};
pub use intake::{Subscriptions, serve};
pub use machine::StopErrors;
pub use metrics::DispatchMetrics;

/// What arrives at an inbox token of this shim.
#[derive(Debug, Clone)]
enum Route {
    /// Frames about one send, or the server's word that nobody listens there.
    Send(CallRef),
    /// Answers to questions, and offers.
    Fleet,
    /// Chunks of an answer that is being fetched.
    Chunks(mpsc::Sender<Chunk>),
    /// Requests for the body of a call.
    Body(Bytes),
    /// Workers that have made a bundle ready.
    Warmed(mpsc::Sender<Warmed>),
}

/// A call that has no answer yet.
struct Pending {
    call: Arc<Call>,
    answer: oneshot::Sender<CallResult>,
    since: std::time::Instant,
    /// The request body, where it does not fit into the message: served for as long as the call lives.
    body: Option<RouteGuard<Route>>,
}

/// The shim's half of the dispatch protocol. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher(Arc<Shared>);

struct Shared {
    boot: BootId,
    machine: Mutex<Machine>,
    pending: Mutex<HashMap<ExecutionId, Pending>>,
    /// Reply subjects of sends that are not settled.
    sends: Mutex<HashMap<SendNo, RouteGuard<Route>>>,
    /// How to stop fetches, and the responses that must be reset with an error rather than ended.
    fetches: Mutex<HashMap<CallRef, fetch::Handle>>,
    routes: Routes<Route>,
    /// Where status reports and offers arrive.
    fleet_inbox: RouteGuard<Route>,
    outbox: Outbox,
    link: Watcher,
    tracker: TaskTracker,
    metrics: DispatchMetrics,
    started: Instant,
}

impl Dispatcher {
    /// A dispatcher that publishes through `outbox`; [`serve`] feeds it with what arrives.
    pub fn new(config: MachineConfig, outbox: Outbox, link: Watcher, metrics: DispatchMetrics) -> Self {
        let boot = BootId::random();
        let routes = Routes::default();
        let seed = u64::from_le_bytes(std::array::from_fn(|i| boot.as_bytes().get(i).copied().unwrap_or(0)));
        Self(Arc::new(Shared {
            boot,
            machine: Mutex::new(Machine::new(config, boot, seed, 0)),
            pending: Mutex::default(),
            sends: Mutex::default(),
            fetches: Mutex::default(),
            fleet_inbox: routes.add(Route::Fleet),
            routes,
            outbox,
            link,
            tracker: TaskTracker::new(),
            metrics,
            started: Instant::now(),
        }))
    }

    /// This process's id in subjects and frames.
    pub fn boot(&self) -> BootId {
        self.0.boot
    }

    /// Resolves when 3 s of uninterrupted listening have passed, and the fleet is known.
    pub async fn has_listened(&self) {
        while !self.listens() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Whether 3 s of uninterrupted listening have passed.
    pub fn listens(&self) -> bool {
        self.0.machine.lock().has_listened(self.0.now_ms())
    }

    /// Waits for streamed answers that are still on their way, and acknowledges all answers, so that no worker waits
    /// for a shim that has left.
    pub async fn finish(&self) {
        self.0.tracker.close();
        self.0.tracker.wait().await;
        self.0.step(Machine::farewell);
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn at_ms(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.started);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Feeds the machine and does what it says.
    fn step(self: &Arc<Self>, input: impl FnOnce(&mut Machine, u64)) {
        let now = self.now_ms();
        let outputs: Vec<Output> = {
            let mut machine = self.machine.lock();
            input(&mut machine, now);
            machine.take_outputs().collect()
        };
        // Performed without the lock: encoding a call takes longer than deciding about it. Two threads may so
        // publish in another order than decided; the protocol is proven against reordering.
        for output in outputs {
            self.perform(output);
        }
    }

    /// Where status reports and offers for this shim go.
    fn fleet_subject(&self) -> String {
        subject::shim_inbox(self.boot, self.fleet_inbox.token())
    }
}

impl Dispatch for Dispatcher {
    async fn call(&self, call: Call) -> CallResult {
        let shared = &self.0;
        let (execution, answer_by) = (call.execution, Instant::from_std(call.answer_by));
        let meta = CallMeta {
            tenant: call.run.context.tenant.clone(),
            extension: call.run.context.extension.clone(),
            pool: call.pool.clone(),
            component: call.run.context.content_hash,
            safe: call.is_safe(),
            weight: call.weight,
            answer_by_ms: shared.at_ms(answer_by),
        };
        let (sender, mut answer) = oneshot::channel();
        let body = perform::body_to_keep(&call).map(|bytes| shared.routes.add(Route::Body(bytes)));
        let submitted = std::time::Instant::now();
        let pending = Pending { call: Arc::new(call), answer: sender, since: submitted, body };
        if shared.pending.lock().insert(execution, pending).is_some() {
            // 128 random bits, made by the caller of this function: a bug there, not a coincidence.
            return Err(CallError::new(ErrorCode::Internal, "an execution id was used twice"));
        }
        // Dropped with this future when the caller goes away.
        let abandon = Abandon { shared: Arc::clone(shared), execution };
        shared.step(|machine, now| machine.submit(now, execution, meta));
        let result = tokio::select! {
            result = &mut answer => result,
            () = tokio::time::sleep_until(answer_by) => {
                shared.step(Machine::expire);
                answer.await
            }
        };
        drop(abandon);
        shared.metrics.dispatched(submitted.elapsed());
        result.unwrap_or_else(|_| Err(CallError::new(ErrorCode::Internal, "the dispatcher lost the call")))
    }

    fn fleet(&self) -> Fleet {
        let counts = self.0.machine.lock().counts(self.0.now_ms());
        Fleet { nats_connected: self.0.link.is_connected(), workers: counts.workers }
    }
}

/// Takes a call out of the machine when nobody waits for it any more. After an answer there is nothing left to take.
struct Abandon {
    shared: Arc<Shared>,
    execution: ExecutionId,
}

impl Drop for Abandon {
    fn drop(&mut self) {
        let unanswered = self.shared.pending.lock().remove(&self.execution).is_some();
        if unanswered {
            let execution = self.execution;
            self.shared.step(|machine, _| machine.abandon(execution));
        }
    }
}
