//! The subscription loop. It does nothing but admit, answer questions and hand on chunks: whatever takes time is
//! spawned, because a full buffer drops messages.

use std::sync::Arc;

use async_nats::{Client, Message, Subscriber};
use futures::StreamExt as _;
use longshore_proto::call::{CallMessage, SHIM_HEADER};
use longshore_proto::frame::{CallRef, Chunk, Fetch, Reply, ShimAnnouncement};
use longshore_proto::{CallError, ErrorCode, subject, wire};
use longshore_service::nats::{ListenError, subscribe, transfer};
use tokio_util::sync::CancellationToken;

use super::table::{Admission as Decision, Arrival};
use super::{Admission, Route};

/// All that a worker listens to.
pub struct Subscriptions {
    calls: Subscriber,
    shared: Subscriber,
    control: Subscriber,
    everybody: Subscriber,
    inbox: Subscriber,
    shims: Subscriber,
}

impl Subscriptions {
    /// Subscribes. The server sees them in this order, after the connection stands.
    pub async fn open(admission: &Admission, client: &Client) -> Result<Self, ListenError> {
        let (pool, boot) = (&admission.config.pool, admission.boot);
        Ok(Self {
            inbox: subscribe(client, subject::worker_inbox_all(boot), None).await?,
            shims: subscribe(client, "fleet.shim.*".to_owned(), None).await?,
            control: subscribe(client, subject::control(pool, boot), None).await?,
            everybody: subscribe(client, subject::control_all(pool), None).await?,
            calls: subscribe(client, subject::exec(pool, boot), None).await?,
            shared: subscribe(client, subject::exec_any(pool), Some(subject::WORKERS_GROUP)).await?,
        })
    }

    async fn close(mut self) {
        let Self { calls, shared, control, everybody, inbox, shims } = &mut self;
        for subscriber in [calls, shared, control, everybody, inbox, shims] {
            if let Err(error) = subscriber.unsubscribe().await {
                tracing::debug!(%error, "could not unsubscribe");
            }
        }
    }
}

/// Serves until `closed`, then unsubscribes.
pub async fn serve(
    admission: Arc<Admission>,
    mut subscriptions: Subscriptions,
    closed: CancellationToken,
) -> Result<(), ListenError> {
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(100));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut generation = admission.link.state().generation;
    loop {
        // `biased`: questions and cancels are few and must not wait behind a flood of calls.
        let ended = tokio::select! {
            biased;
            () = closed.cancelled() => {
                subscriptions.close().await;
                return Ok(());
            }
            _ = tick.tick() => {
                let state = admission.link.state();
                if state.generation != generation {
                    generation = state.generation;
                    let now = admission.now_ms();
                    admission.table.lock().link_restored(now);
                }
                if state.connected {
                    admission.tick();
                }
                false
            }
            message = subscriptions.control.next() => message.map(|m| admission.control(&m)).is_none(),
            message = subscriptions.inbox.next() => message.map(|m| admission.inbox(&m)).is_none(),
            message = subscriptions.everybody.next() => message.map(|m| admission.asked(&m)).is_none(),
            message = subscriptions.shims.next() => message.map(|m| admission.shim_announced(&m)).is_none(),
            message = subscriptions.calls.next() => message.map(|m| admission.call(m)).is_none(),
            message = subscriptions.shared.next() => message.map(|m| admission.plain_call(m)).is_none(),
        };
        if ended {
            return Err(ListenError::Ended);
        }
    }
}

impl Admission {
    /// A call addressed to this worker: only shims may publish there.
    fn call(self: &Arc<Self>, message: Message) {
        if is_stored(&message) {
            return self.refuse_message("a call out of a stream: calls are never stored");
        }
        let Some(reply) = message.reply.as_deref().filter(|r| subject::is_under(r, subject::SHIM_INBOX))
        else {
            return self.refuse_message("a call without a shim's reply subject");
        };
        let reply = reply.to_owned();
        let call: CallMessage = match wire::decode(&message.payload) {
            Ok(call) => call,
            Err(error) => return self.undecodable(&message.payload, &reply, &error),
        };
        let Some(shim) = &call.shim else { return self.refuse_message("a call that names no shim") };
        let own = format!("{}{}.", subject::SHIM_INBOX, shim.id);
        if !subject::is_under(&shim.inbox, &own) || !subject::is_under(&reply, &own) {
            return self.refuse_message("a call with a reply subject of somebody else");
        }
        let reference = CallRef { execution: call.execution, send: call.send };
        let arrival = Arrival {
            call: reference,
            tenant: call.run.context.tenant.clone(),
            shim: Some((shim.id, shim.inbox.as_str().into())),
            budget_ms: call.budget_ms.min(longshore_proto::limits::MAX_TIMEOUT_MS),
        };
        let decision = self.table.lock().admit(self.now_ms(), &arrival);
        match decision {
            Decision::Run => {
                self.metrics.admitted.inc();
                self.say(&reply, Reply::Taken(reference));
                self.start(call, reply, message.headers);
            }
            Decision::Running => self.say(&reply, Reply::Taken(reference)),
            Decision::Busy(reason) => {
                self.metrics.busy(reason).inc();
                self.say(&reply, Reply::Busy { call: reference, reason });
                // Bounced while a slot was promised to somebody who did not come: look again when that ends.
                self.promised.notify_one();
            }
            Decision::Done(answer) => self.say(&answer.reply, answer.frame.clone()),
            Decision::Over => {}
        }
    }

    /// A newer shim's message that this build cannot read still gets an answer, if it can be told which call it is.
    fn undecodable(&self, payload: &[u8], reply: &str, error: &wire::WireError) {
        #[derive(serde::Deserialize)]
        struct Names {
            execution: longshore_proto::ExecutionId,
            send: longshore_proto::SendNo,
        }
        tracing::warn!(error = %longshore_service::errors::chain(error), "a call cannot be decoded");
        self.metrics.refused_messages.inc();
        if let Ok(Names { execution, send }) = wire::decode::<Names>(payload) {
            let error = CallError::new(ErrorCode::InvalidRequest, "this worker cannot read the call message");
            self.say(reply, Reply::Failed { call: CallRef { execution, send }, error });
        }
    }

    pub(super) fn refuse_message(&self, why: &'static str) {
        self.metrics.refused_messages.inc();
        tracing::warn!(why, "a message was refused");
    }

    /// A call on the pool's queue group, from a NATS client without a shim.
    fn plain_call(self: &Arc<Self>, message: Message) {
        if is_stored(&message) {
            return self.refuse_message("a call out of a stream: calls are never stored");
        }
        if message.headers.as_ref().is_some_and(|h| h.get(SHIM_HEADER).is_some()) {
            return self.refuse_message("a shim's call on the queue group: shims address a worker");
        }
        self.start_plain(message);
    }

    fn shim_announced(&self, message: &Message) {
        let Ok(announcement) = wire::decode::<ShimAnnouncement>(&message.payload) else { return };
        let now = self.now_ms();
        self.table.lock().hear_shim(now, announcement.shim);
    }

    fn inbox(&self, message: &Message) {
        let Some(route) = subject::inbox_token(&message.subject).and_then(|token| self.routes.get(token))
        else {
            // A body that is no longer kept: whoever asks should stop.
            if let (Ok(Fetch::Range { offset, len }), Some(reply)) =
                (wire::decode(&message.payload), shim_reply(message))
            {
                transfer::serve(None, offset, len, reply, &self.outbox);
            }
            return;
        };
        match route {
            Route::Chunks(to) => {
                if let Ok(chunk) = wire::decode::<Chunk>(&message.payload) {
                    // Full: it was asked for again, or the sender sends what nobody asked for.
                    let _ = to.try_send(chunk);
                }
            }
            Route::Body(call, body) => match (wire::decode::<Fetch>(&message.payload), shim_reply(message)) {
                (Ok(Fetch::Range { offset, len }), Some(reply)) => {
                    transfer::serve(Some(&body), offset, len, reply, &self.outbox);
                }
                (Ok(Fetch::Done), _) => self.table.lock().release(call),
                _ => self.refuse_message("a request for a body that makes no sense"),
            },
        }
    }
}

/// Whether JetStream delivers what somebody has stored. Entries of `storage` are bytes that a guest chose, and the server
/// would hand them to any subject that a reader names; `deploy/nats.conf` gives nobody that right, and this is the
/// second lock.
fn is_stored(message: &Message) -> bool {
    message.headers.as_ref().is_some_and(|headers| headers.get("Nats-Stream").is_some())
}

fn shim_reply(message: &Message) -> Option<&str> {
    message.reply.as_deref().filter(|r| subject::is_under(r, subject::SHIM_INBOX))
}
