//! What is asked of this shim's calls from outside: operators list and stop them, the registry stops those of an install that
//! was disabled or removed, and whoever installs a bundle has the workers make it ready.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use longshore_proto::fleet::{
    CallFilter, CallState, CallStatus, MAX_LISTED_CALLS, ShimCalls, ShimCancelled, ToShims, ToWorkers, Warm,
    Warmed,
};
use longshore_proto::wire::{self, PROTOCOL_VERSION};
use longshore_proto::{CallError, ErrorCode, ExecutionId, ExtensionId, PoolName, TenantId, subject};
use longshore_registry::{Change, Lookup, Registry};
use longshore_service::nats::Outgoing;
use tokio::sync::{broadcast, mpsc};

use super::machine::StopErrors;
use super::{Dispatcher, Route};

/// Answers of workers that nobody has looked at yet; a pool has fewer.
const WARM_QUEUE: usize = 256;

impl Dispatcher {
    /// The calls without an answer, the oldest first.
    pub fn calls(&self, tenant: Option<&TenantId>) -> ShimCalls {
        let now = self.0.now_ms();
        let mut calls: Vec<CallStatus> = {
            let machine = self.0.machine.lock();
            let held = machine.held().filter(|call| tenant.is_none_or(|t| *t == call.meta.tenant));
            held.map(|call| CallStatus {
                execution: call.execution,
                tenant: call.meta.tenant.clone(),
                extension: call.meta.extension.clone(),
                pool: call.meta.pool.clone(),
                request_id: None,
                method: String::new(),
                state: call.state,
                age_ms: 0,
                left_ms: call.meta.answer_by_ms.saturating_sub(now),
                attempts: call.attempts,
                worker: call.worker,
            })
            .collect()
        };
        // After the machine's lock: the two are never held together.
        let pending = self.0.pending.lock();
        for call in &mut calls {
            if let Some(pending) = pending.get(&call.execution) {
                call.age_ms = u64::try_from(pending.since.elapsed().as_millis()).unwrap_or(u64::MAX);
                call.request_id = pending.call.run.context.request_id.clone();
                call.method = pending.call.run.http.method.clone();
            }
        }
        drop(pending);
        calls.sort_by_key(|call| std::cmp::Reverse(call.age_ms));
        let more = calls.len().saturating_sub(MAX_LISTED_CALLS) as u64;
        calls.truncate(MAX_LISTED_CALLS);
        ShimCalls { v: PROTOCOL_VERSION, shim: self.boot(), calls, more }
    }

    /// Stops calls: their callers get `errors`, their workers are told to stop.
    pub fn stop(&self, filter: &CallFilter, errors: &StopErrors) -> ShimCancelled {
        let mut done = ShimCancelled { v: PROTOCOL_VERSION, shim: self.boot(), waiting: 0, running: 0 };
        self.0.step(|machine, _| {
            let meant: Vec<ExecutionId> = machine
                .held()
                .filter(|call| filter.matches(call.execution, &call.meta.tenant, &call.meta.extension))
                .map(|call| call.execution)
                .collect();
            for execution in meant {
                match machine.stop(execution, errors) {
                    Some(CallState::Waiting) => done.waiting += 1,
                    Some(CallState::Running) => done.running += 1,
                    None => {}
                }
            }
        });
        done
    }

    /// Has all workers of a pool fetch and compile a bundle; their answers, as many as came within `budget`.
    pub async fn warm(&self, pool: &PoolName, warm: Warm, budget: Duration) -> Vec<Warmed> {
        let shared = &self.0;
        let expected = shared.machine.lock().workers_of(shared.now_ms(), pool);
        let Ok(payload) = wire::encode(&ToWorkers::Warm(warm)) else { return Vec::new() };
        let (sender, mut answers) = mpsc::channel(WARM_QUEUE);
        let guard = shared.routes.add(Route::Warmed(sender));
        let reply = subject::shim_inbox(shared.boot, guard.token());
        shared.outbox.send(Outgoing::new(subject::control_all(pool), payload).with_reply(reply));
        let mut warmed: Vec<Warmed> = Vec::new();
        let collect = async {
            while warmed.len() < expected
                && let Some(answer) = answers.recv().await
            {
                if warmed.iter().all(|known| known.worker != answer.worker) {
                    warmed.push(answer);
                }
            }
        };
        // What is here when the time is over is the answer.
        let _ = tokio::time::timeout(budget, collect).await;
        warmed
    }

    /// A message to all shims.
    pub(super) fn asked(&self, message: &Message) {
        let Some(reply) = message.reply.as_deref().filter(|r| subject::is_under(r, subject::ADMIN_INBOX))
        else {
            return self.refuse("a question to all shims without an operator's reply subject");
        };
        let answer = match wire::decode::<ToShims>(&message.payload) {
            Ok(ToShims::Calls { tenant }) => wire::encode(&self.calls(tenant.as_ref())),
            Ok(ToShims::Cancel(filter)) => {
                let stopped = CallError::new(ErrorCode::Cancelled, "an operator stopped the call");
                let errors = StopErrors {
                    waiting: CallError::new(
                        ErrorCode::Cancelled,
                        "an operator stopped the call before it ran",
                    ),
                    running: stopped,
                };
                let done = self.stop(&filter, &errors);
                tracing::info!(?filter, waiting = done.waiting, running = done.running, "calls were stopped");
                wire::encode(&done)
            }
            Err(_) => return self.refuse("a question to all shims that cannot be decoded"),
        };
        match answer {
            Ok(payload) => {
                self.0.outbox.send(Outgoing::new(reply.to_owned(), payload));
            }
            Err(error) => {
                tracing::error!(error = %longshore_service::errors::chain(&error), "an answer to an operator cannot be encoded");
            }
        }
    }

    /// Stops the calls of installs that are disabled or removed, for as long as this process lives.
    pub async fn follow_installs(
        self,
        registry: Arc<dyn Registry>,
        mut changes: broadcast::Receiver<Change>,
    ) {
        loop {
            match changes.recv().await {
                Ok(change) if change.stops_calls() => self.stop_calls_of(&change),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => self.look_again(&*registry).await,
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn stop_calls_of(&self, change: &Change) {
        let happened = if change.now.is_some() { "disabled" } else { "removed" };
        let filter = CallFilter {
            tenant: Some(change.tenant.clone()),
            extension: Some(change.extension.clone()),
            execution: None,
        };
        let code = if change.now.is_some() {
            ErrorCode::ExtensionNotAvailable
        } else {
            ErrorCode::ExtensionNotFound
        };
        let errors = StopErrors {
            waiting: CallError::new(code, format!("the install was {happened}")),
            running: CallError::new(
                ErrorCode::Cancelled,
                format!("the install was {happened} while the call ran"),
            ),
        };
        let done = self.stop(&filter, &errors);
        if done.waiting + done.running > 0 {
            tracing::info!(tenant = %change.tenant, extension = %change.extension, waiting = done.waiting,
                running = done.running, "the install was {happened}: its calls were stopped");
        }
    }

    /// Changes were missed: every install with a call here is looked up. One that the registry does not know may never have been
    /// there (`/v1/execute` needs none), so only what is known to be disabled is stopped.
    async fn look_again(&self, registry: &dyn Registry) {
        let mut held: Vec<(TenantId, ExtensionId)> = {
            let machine = self.0.machine.lock();
            machine.held().map(|call| (call.meta.tenant.clone(), call.meta.extension.clone())).collect()
        };
        held.sort();
        held.dedup();
        for (tenant, extension) in held {
            if let Ok(Lookup::Found(install)) = registry.find(&tenant, extension.as_str()).await
                && !install.enabled
            {
                self.stop_calls_of(&Change { tenant, extension, now: Some(install) });
            }
        }
    }
}
