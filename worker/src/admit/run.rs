//! One admitted call, from the slot that it holds to the answer that is kept for its shim.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use bytes::Bytes;
use longshore_proto::call::{CallMessage, RemoteBody};
use longshore_proto::frame::CallRef;
use longshore_proto::limits::{INLINE_BYTES, MAX_BODY_BYTES};
use longshore_proto::{Body, CallError, ErrorCode, subject};
use longshore_service::nats::transfer::{self, CHUNK_QUEUE, Incoming, TransferError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::answer::KeptAnswer;
use super::{Admission, Route, Stoppable};
use crate::job::{Job, Outcome};

/// A slot in use. Whatever happens to the run, a panic included, the slot is given back and the shim gets an answer.
struct Held {
    admission: Arc<Admission>,
    call: CallRef,
    reply: String,
    done: bool,
}

impl Held {
    fn finish(mut self, outcome: Outcome) {
        self.done = true;
        self.admission.finish(self.call, &self.reply, outcome);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.done {
            let error =
                CallError::new(ErrorCode::Internal, "the run broke off; the worker's log has the cause");
            let outcome = Outcome { result: Err(error), usage: Default::default() };
            self.admission.finish(self.call, &self.reply, outcome);
        }
    }
}

impl Admission {
    /// Runs an admitted call on the guests' runtime.
    pub(super) fn start(self: &Arc<Self>, call: CallMessage, reply: String, headers: Option<HeaderMap>) {
        let reference = CallRef { execution: call.execution, send: call.send };
        let cancel = CancellationToken::new();
        self.runs.lock().insert(reference, Stoppable::of(&call, cancel.clone()));
        let held = Held { admission: Arc::clone(self), call: reference, reply, done: false };
        let admission = Arc::clone(self);
        let deadline = Instant::now() + Duration::from_millis(call.budget_ms);
        let span = run_span(&call, headers.as_ref());
        let run = async move {
            let outcome = admission.run_call(call, deadline, cancel, subject::SHIM_INBOX).await;
            held.finish(outcome);
        };
        self.guests.spawn(self.tracker.track_future(run.instrument(span)));
    }

    /// Fetches the body if it was left with the sender, and executes.
    pub(super) async fn run_call(
        &self,
        call: CallMessage,
        deadline: Instant,
        cancel: CancellationToken,
        body_from: &str,
    ) -> Outcome {
        let body = match call.body {
            Body::None => Ok(None),
            Body::Inline(bytes) if bytes.len() <= 2 * INLINE_BYTES => Ok(Some(bytes)),
            Body::Inline(_) => {
                Err(CallError::new(ErrorCode::PayloadTooLarge, "an inline body over its limit"))
            }
            Body::Remote(remote) => self.fetch_body(remote, deadline, &cancel, body_from).await.map(Some),
        };
        let body = match body {
            Ok(body) => body,
            Err(error) => return Outcome { result: Err(error), usage: Default::default() },
        };
        let job = Job {
            execution: call.execution,
            attempt: call.attempt,
            run: Arc::new(call.run),
            body,
            deadline,
            cancel,
            player: None,
        };
        self.executor.execute(job).await
    }

    async fn fetch_body(
        &self,
        remote: RemoteBody,
        deadline: Instant,
        cancel: &CancellationToken,
        body_from: &str,
    ) -> Result<Bytes, CallError> {
        if remote.len > MAX_BODY_BYTES {
            return Err(CallError::new(
                ErrorCode::PayloadTooLarge,
                format!("the body is over {MAX_BODY_BYTES} bytes"),
            ));
        }
        if !subject::is_under(&remote.source, body_from) {
            return Err(CallError::new(
                ErrorCode::InvalidRequest,
                "the body is said to be where no sender keeps one",
            ));
        }
        let (sender, chunks) = mpsc::channel(CHUNK_QUEUE);
        let guard = self.routes.add(Route::Chunks(sender));
        let incoming = Incoming {
            inbox: subject::worker_inbox(self.boot, guard.token()),
            source: remote.source,
            len: remote.len,
            chunks,
            deadline: deadline.into(),
        };
        tokio::select! {
            result = transfer::receive_all(incoming, &self.outbox) => result.map_err(|error| match error {
                TransferError::Gone => CallError::new(ErrorCode::Cancelled, "the shim no longer has the request body"),
                TransferError::Deadline { .. } | TransferError::Abandoned => {
                    CallError::new(ErrorCode::TimeoutFetching, format!("the request body: {error}"))
                }
            }),
            () = cancel.cancelled() => Err(ErrorCode::Cancelled.into()),
        }
    }

    /// The run is over and its instance dropped: keep the answer, free the slot, answer, offer the slot.
    fn finish(&self, call: CallRef, reply: &str, outcome: Outcome) {
        let fault = outcome.result.as_ref().err().map(|e| e.code.fault());
        self.metrics.finished(&outcome);
        self.runs.lock().remove(&call);
        let (answer, bytes) =
            KeptAnswer::new(self.boot, &self.routes, call, reply.to_owned(), outcome.result);
        let answer = Arc::new(answer);
        let was_full = {
            let mut table = self.table.lock();
            let was_full = table.free() == 0;
            table.finish(self.now_ms(), call, Some((Arc::clone(&answer), bytes)), fault);
            was_full
        };
        self.say(&answer.reply, answer.frame.clone());
        self.offer(was_full);
    }
}

/// The span of a run, under the shim's if the message says so.
pub(super) fn run_span(call: &CallMessage, headers: Option<&HeaderMap>) -> tracing::Span {
    let span = tracing::info_span!(
        "run",
        execution = %call.execution,
        send = %call.send,
        tenant = %call.run.context.tenant,
        extension = %call.run.context.extension,
    );
    if let Some(headers) = headers {
        longshore_service::telemetry::set_parent(&span, |name| {
            headers.get(name).map(|v| v.as_str().to_owned())
        });
    }
    span
}
