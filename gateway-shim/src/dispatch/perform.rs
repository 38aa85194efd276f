//! What the machine decides, done.

use std::sync::Arc;

use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use longshore_proto::call::{CallMessage, RemoteBody, SHIM_HEADER, ShimHeader};
use longshore_proto::frame::{CallRef, Control};
use longshore_proto::limits::INLINE_BYTES;
use longshore_proto::wire::{self, PROTOCOL_VERSION};
use longshore_proto::{Body, CallError, ErrorCode, ExecutionId, RunResponse, subject};
use longshore_service::nats::Outgoing;

use super::machine::Output;
use super::{Answer, AnswerBody, Call, CallResult, Route, Shared};

/// What the frame around a body may take at most: header fields are limited to 256 KiB, and the rest is ids.
const ENVELOPE_BYTES: usize = 4 * 1024;

/// The body of a call whose message would be above 512 KiB: it stays here and the worker fetches it.
pub(super) fn body_to_keep(call: &Call) -> Option<Bytes> {
    let body = call.body.as_ref()?;
    let around = call.run.header_bytes() + ENVELOPE_BYTES;
    (body.len() + around > INLINE_BYTES).then(|| body.clone())
}

impl Shared {
    pub(super) fn perform(self: &Arc<Self>, output: Output) {
        match output {
            Output::Send { worker, pool, call, attempt, budget_ms } => {
                self.send(subject::exec(&pool, worker), call, attempt, budget_ms);
            }
            Output::Ask { worker, pool, question } => {
                self.control(&subject::control(&pool, worker), &Control::Question(question));
            }
            Output::Cancel { worker, pool, call } => {
                self.metrics.cancelled.inc();
                self.control(&subject::control(&pool, worker), &Control::Cancel { shim: self.boot, call });
            }
            Output::Decline { worker, pool } => {
                self.control(&subject::control(&pool, worker), &Control::Decline { shim: self.boot });
            }
            Output::Answer { execution, result } => self.answer(execution, result.map(|r| full(*r))),
            Output::Fetch { call, response } => self.fetch(call, *response),
            Output::StopFetch { call } => {
                // Dropping the handle stops the task.
                self.fetches.lock().remove(&call);
            }
            Output::Reset { execution, error } => self.reset(execution, error),
            Output::Forget { call } => {
                self.sends.lock().remove(&call.send);
            }
        }
    }

    /// Gives the caller its answer.
    pub(super) fn answer(&self, execution: ExecutionId, result: CallResult) {
        if let Some(pending) = self.pending.lock().remove(&execution) {
            // The receiver may have gone in this moment: nobody wants the answer then.
            let _ = pending.answer.send(result);
        }
    }

    fn send(self: &Arc<Self>, to: String, call: CallRef, attempt: u32, budget_ms: u64) {
        let found = self
            .pending
            .lock()
            .get(&call.execution)
            .map(|p| (Arc::clone(&p.call), p.body.as_ref().map(|g| g.token())));
        // Answered or abandoned meanwhile: the machine has already forgotten it too.
        let Some((request, kept)) = found else { return };
        let body = match (kept, &request.body) {
            (Some(token), Some(bytes)) => {
                let source = subject::shim_inbox(self.boot, token);
                Body::Remote(RemoteBody { source, len: bytes.len() as u64 })
            }
            (_, body) => Body::inline(body.clone()),
        };
        let message = CallMessage {
            v: PROTOCOL_VERSION,
            execution: call.execution,
            attempt,
            send: call.send,
            shim: Some(ShimHeader { id: self.boot, inbox: self.fleet_subject() }),
            budget_ms,
            safe: request.is_safe(),
            run: request.run.clone(),
            body,
        };
        let payload = match wire::encode(&message) {
            Ok(payload) => payload,
            Err(error) => {
                tracing::error!(error = %longshore_service::errors::chain(&error), "a call cannot be encoded");
                let execution = call.execution;
                self.step(|machine, _| machine.abandon(execution));
                return self.answer(
                    execution,
                    Err(CallError::new(ErrorCode::Internal, "the call cannot be encoded")),
                );
            }
        };
        let guard = self.routes.add(Route::Send(call));
        let reply = subject::shim_inbox(self.boot, guard.token());
        self.sends.lock().insert(call.send, guard);
        self.metrics.sent.inc();
        let mut outgoing = Outgoing::new(to, payload).with_reply(reply);
        outgoing.headers = Some(self.headers(&request.trace));
        self.outbox.send(outgoing);
    }

    fn headers(&self, trace: &[(String, String)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(SHIM_HEADER, self.boot.to_string());
        for (name, value) in trace {
            // From the caller's HTTP headers, so it cannot hold a line break; a strange name is left out all the same.
            if let (Ok(name), Ok(value)) =
                (name.parse::<async_nats::HeaderName>(), value.parse::<HeaderValue>())
            {
                headers.insert(name, value);
            }
        }
        headers
    }

    fn control(&self, to: &str, message: &Control) {
        if let Ok(payload) = wire::encode(message) {
            self.outbox.send(Outgoing::new(to.to_owned(), payload).with_reply(self.fleet_subject()));
        }
    }
}

fn full(response: RunResponse) -> Answer {
    let body = match response.body {
        Body::Inline(bytes) => Some(bytes),
        // The machine fetches remote bodies before it answers.
        Body::None | Body::Remote(_) => None,
    };
    Answer {
        status: response.status,
        headers: response.headers,
        body: AnswerBody::Full(body),
        trailers: response.trailers,
    }
}
