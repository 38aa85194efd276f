//! Calls without a shim (design, step 11): a NATS client asks the pool's queue group and gets exactly one reply, a
//! result or an error, with everything inline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Message;
use bytes::Bytes;
use longshore_proto::call::CallMessage;
use longshore_proto::frame::{CallRef, Reply};
use longshore_proto::limits::{INLINE_BYTES, MAX_TIMEOUT_MS};
use longshore_proto::{Body, CallError, ErrorCode, RunResponse, subject, wire};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::run::run_span;
use super::table::{Admission as Decision, Arrival};
use super::{Admission, Stoppable};
use crate::job::Outcome;

impl Admission {
    pub(super) fn start_plain(self: &Arc<Self>, message: Message) {
        // Without a reply subject nobody would hear of the run; with one of another prefix, somebody else would.
        let Some(reply) = message.reply.as_deref().filter(|r| subject::is_under(r, subject::CALLER_INBOX))
        else {
            self.metrics.refused_messages.inc();
            tracing::warn!("a call on the queue group has no reply subject under {}", subject::CALLER_INBOX);
            return;
        };
        let reply = reply.to_owned();
        let call: CallMessage = match wire::decode(&message.payload) {
            Ok(call) => call,
            Err(error) => {
                let call = CallRef {
                    execution: longshore_proto::ExecutionId::from_bytes([0; 16]),
                    send: Default::default(),
                };
                let why = CallError::new(
                    ErrorCode::InvalidRequest,
                    longshore_service::errors::chain(&error).to_string(),
                );
                return self.say(&reply, Reply::Failed { call, error: why });
            }
        };
        let reference = CallRef { execution: call.execution, send: call.send };
        if call.shim.is_some() || matches!(call.body, Body::Remote(_)) {
            let error = CallError::new(ErrorCode::InvalidRequest, "without a shim, bodies are inline");
            return self.say(&reply, Reply::Failed { call: reference, error });
        }
        let budget_ms = call.budget_ms.min(MAX_TIMEOUT_MS);
        let arrival =
            Arrival { call: reference, tenant: call.run.context.tenant.clone(), shim: None, budget_ms };
        let decision = self.table.lock().admit(self.now_ms(), &arrival);
        match decision {
            Decision::Run => self.run_plain(call, reference, reply, message, budget_ms),
            Decision::Busy(_) => {
                let error =
                    CallError::new(ErrorCode::Overloaded, "this worker has no free slot for this tenant");
                self.say(&reply, Reply::Failed { call: reference, error });
            }
            // The same execution id is running here: the client has sent it twice.
            Decision::Running | Decision::Done(_) | Decision::Over => {
                let error = CallError::new(ErrorCode::InvalidRequest, "this execution id is in use");
                self.say(&reply, Reply::Failed { call: reference, error });
            }
        }
    }

    fn run_plain(
        self: &Arc<Self>,
        call: CallMessage,
        reference: CallRef,
        reply: String,
        message: Message,
        budget_ms: u64,
    ) {
        self.metrics.admitted.inc();
        let cancel = CancellationToken::new();
        self.runs.lock().insert(reference, Stoppable::of(&call, cancel.clone()));
        let span = run_span(&call, message.headers.as_ref());
        let deadline = Instant::now() + Duration::from_millis(budget_ms);
        let admission = Arc::clone(self);
        let run = async move {
            let release = Released { admission: Arc::clone(&admission), call: reference };
            let outcome = admission.run_call(call, deadline, cancel, subject::CALLER_INBOX).await;
            admission.metrics.finished(&outcome);
            let frame = inline_frame(reference, outcome);
            drop(release);
            admission.say(&reply, frame);
        };
        self.guests.spawn(self.tracker.track_future(run.instrument(span)));
    }
}

/// Gives the slot back, whatever happened.
struct Released {
    admission: Arc<Admission>,
    call: CallRef,
}

impl Drop for Released {
    fn drop(&mut self) {
        let admission = &self.admission;
        admission.runs.lock().remove(&self.call);
        let was_full = {
            let mut table = admission.table.lock();
            let was_full = table.free() == 0;
            table.finish(admission.now_ms(), self.call, None, None);
            was_full
        };
        admission.offer(was_full);
    }
}

fn inline_frame(call: CallRef, outcome: Outcome) -> Reply {
    match outcome.result {
        Ok(r) if r.body.as_ref().map_or(0, Bytes::len) > INLINE_BYTES => {
            let error = CallError::new(
                ErrorCode::ResponseTooLarge,
                format!("without a shim, an answer has at most {INLINE_BYTES} bytes"),
            );
            Reply::Failed { call, error }
        }
        Ok(r) => {
            let response = RunResponse {
                status: r.status,
                headers: r.headers,
                body: Body::inline(r.body),
                trailers: r.trailers,
            };
            Reply::Result { call, response: Box::new(response) }
        }
        Err(error) => Reply::Failed { call, error },
    }
}
