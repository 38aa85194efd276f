//! What all workers of a pool are told at once: to make a bundle ready ahead of its calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Message;
use bytes::Bytes;
use longshore_proto::fleet::{ToWorkers, Warm, Warmed};
use longshore_proto::wire::PROTOCOL_VERSION;
use longshore_proto::{CallError, ErrorCode, subject, wire};

use super::Admission;

/// Bundles that are made ready at a time: compiling has a bounded pool of its own, and calls that wait for it go before.
pub(super) const AT_A_TIME: usize = 4;

/// A component of 12 MB takes 9 s of CPU with Cranelift; whoever waits longer than this has gone.
const LIMIT: Duration = Duration::from_secs(120);

impl Admission {
    /// A message to the whole pool. Only shims and operators may publish there.
    pub(super) fn asked(self: &Arc<Self>, message: &Message) {
        let reply = message.reply.as_deref().filter(|r| {
            subject::is_under(r, subject::SHIM_INBOX) || subject::is_under(r, subject::ADMIN_INBOX)
        });
        let Some(reply) = reply else {
            return self
                .refuse_message("a message to the pool without a shim's or an operator's reply subject");
        };
        match wire::decode::<ToWorkers>(&message.payload) {
            Ok(ToWorkers::Warm(warm)) => self.warm(warm, reply.to_owned()),
            Err(_) => self.refuse_message("a message to the pool that cannot be decoded"),
        }
    }

    fn warm(self: &Arc<Self>, warm: Warm, reply: String) {
        let Ok(permit) = Arc::clone(&self.warming).try_acquire_owned() else {
            let busy = CallError::new(
                ErrorCode::Overloaded,
                format!("{AT_A_TIME} bundles are being made ready here already"),
            );
            return self.warmed(&reply, Some(busy), Duration::ZERO);
        };
        let admission = Arc::clone(self);
        let began = Instant::now();
        // On the guests' runtime, as a call would do it; a fetch or compile that is under way goes on when this ends.
        self.guests.spawn(self.tracker.track_future(async move {
            let ready = admission.executor.warm(&warm.tenant, &warm.extension, &warm.content_hash);
            let error = match tokio::time::timeout(LIMIT, ready).await {
                Ok(result) => result.err(),
                Err(_) => Some(ErrorCode::TimeoutCompiling.into()),
            };
            drop(permit);
            admission.warmed(&reply, error, began.elapsed());
        }));
    }

    fn warmed(&self, reply: &str, error: Option<CallError>, took: Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let answer = Warmed { v: PROTOCOL_VERSION, worker: self.boot, error, took_ms };
        if let Ok(payload) = wire::encode(&answer) {
            self.publish(reply, Bytes::from(payload));
        }
    }
}
