//! What arrives: frames, announcements, chunks. One task, nothing slow in it: a full buffer drops messages.

use std::time::Duration;

use async_nats::{Client, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use longshore_proto::fleet::Warmed;
use longshore_proto::frame::{
    CallRef, Chunk, Fetch, FreeNotice, Reply, ShimAnnouncement, WorkerAnnouncement, WorkerFrame,
};
use longshore_proto::wire::{self, PROTOCOL_VERSION};
use longshore_proto::{CallError, ErrorCode, subject};
use longshore_service::nats::{ListenError, Outgoing, subscribe, transfer};
use tokio_util::sync::CancellationToken;

use super::machine::TICK_MS;
use super::{Dispatcher, Route};

/// All that a shim listens to.
pub struct Subscriptions {
    replies: Subscriber,
    fleet: Subscriber,
    free: Subscriber,
    operators: Subscriber,
}

impl Subscriptions {
    /// Subscribes, on the connection on which calls are published: only there does the server say that nobody listens.
    pub async fn open(dispatcher: &Dispatcher, client: &Client) -> Result<Self, ListenError> {
        Ok(Self {
            replies: subscribe(client, subject::shim_inbox_all(dispatcher.boot()), None).await?,
            fleet: subscribe(client, subject::FLEET.to_owned(), None).await?,
            free: subscribe(client, subject::FREE_ALL.to_owned(), None).await?,
            operators: subscribe(client, subject::CONTROL_SHIMS.to_owned(), None).await?,
        })
    }
}

/// Feeds the dispatcher until `closed`.
pub async fn serve(
    dispatcher: Dispatcher,
    mut subscriptions: Subscriptions,
    leaving: CancellationToken,
    closed: CancellationToken,
) -> Result<(), ListenError> {
    let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut announce = tokio::time::interval(Duration::from_secs(1));
    announce.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut generation = 0;
    loop {
        let ended = tokio::select! {
            biased;
            () = closed.cancelled() => return Ok(()),
            _ = tick.tick() => {
                dispatcher.follow_link(&mut generation);
                dispatcher.tick();
                false
            }
            _ = announce.tick() => {
                dispatcher.announce(leaving.is_cancelled());
                false
            }
            message = subscriptions.replies.next() => message.map(|m| dispatcher.reply(m)).is_none(),
            message = subscriptions.fleet.next() => message.map(|m| dispatcher.announced(&m)).is_none(),
            message = subscriptions.free.next() => message.map(|m| dispatcher.freed(&m)).is_none(),
            message = subscriptions.operators.next() => message.map(|m| dispatcher.asked(&m)).is_none(),
        };
        if ended {
            return Err(ListenError::Ended);
        }
    }
}

impl Dispatcher {
    /// Tells the machine about a connection that came, went, or came back.
    fn follow_link(&self, generation: &mut u64) {
        let state = self.0.link.state();
        let changed = state.generation != *generation;
        let was_connected = self.0.machine.lock().is_connected();
        if changed || state.connected != was_connected {
            *generation = state.generation;
            self.0.step(|machine, now| machine.link(now, state.connected));
        }
    }

    fn tick(&self) {
        self.0.step(|machine, now| machine.tick(now));
        let counts = self.0.machine.lock().counts(self.0.now_ms());
        self.0.metrics.counts(counts);
    }

    fn announce(&self, leaving: bool) {
        let announcement = ShimAnnouncement {
            v: PROTOCOL_VERSION,
            shim: self.boot(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            leaving,
        };
        if let Ok(payload) = wire::encode(&announcement) {
            self.0.outbox.send(Outgoing::new(subject::fleet_shim(self.boot()), payload));
        }
    }

    fn announced(&self, message: &Message) {
        // Shims announce themselves on the same tree, and connections are probed there.
        if message.subject.starts_with("fleet.shim.") || message.subject.starts_with("fleet.sync.") {
            return;
        }
        match wire::decode::<WorkerAnnouncement>(&message.payload) {
            // A worker can only speak of itself and its pool: the subject is what NATS has permitted.
            Ok(a) if *message.subject == *subject::fleet_worker(&a.pool, a.worker) => {
                self.0.step(|machine, now| machine.announced(now, &a));
            }
            _ => self.refuse("an announcement that makes no sense"),
        }
    }

    fn freed(&self, message: &Message) {
        match wire::decode::<FreeNotice>(&message.payload) {
            Ok(notice) => self.0.step(|machine, now| machine.free_notice(now, &notice)),
            Err(_) => self.refuse("a notice of free slots that makes no sense"),
        }
    }

    fn reply(&self, message: Message) {
        let Some(route) = subject::inbox_token(&message.subject).and_then(|token| self.0.routes.get(token))
        else {
            return self.stale(&message);
        };
        match route {
            Route::Send(call) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                self.0.metrics.no_responders.inc();
                self.0.step(|machine, now| machine.no_responders(now, call));
            }
            // A question to which nobody listened proves nothing.
            Route::Fleet if message.status.is_some() => {}
            Route::Send(call) => self.frame(&message.payload, Some(call)),
            Route::Fleet => self.frame(&message.payload, None),
            Route::Chunks(to) => {
                if let Ok(chunk) = wire::decode::<Chunk>(&message.payload) {
                    // Full: it was asked for twice; the receiver asks for what it misses.
                    let _ = to.try_send(chunk);
                }
            }
            Route::Body(body) => self.serve_body(&message, Some(&body)),
            // Nobody of that pool listens.
            Route::Warmed(_) if message.status.is_some() => {}
            Route::Warmed(to) => {
                if let Ok(warmed) = wire::decode::<Warmed>(&message.payload) {
                    // Full: more answers than there are workers.
                    let _ = to.try_send(warmed);
                }
            }
        }
    }

    /// A frame counts only for the send whose secret reply subject it was sent to.
    fn frame(&self, payload: &[u8], expected: Option<CallRef>) {
        let Ok(frame) = wire::decode::<WorkerFrame>(payload) else {
            // Of a newer worker, perhaps the answer itself: waiting for it would be in vain.
            self.refuse("a frame that cannot be decoded");
            if let Some(call) = expected {
                let error =
                    CallError::new(ErrorCode::Internal, "the worker's answer cannot be read by this shim");
                self.0.step(|machine, _| machine.abandon(call.execution));
                self.0.answer(call.execution, Err(error));
            }
            return;
        };
        let about = match &frame.frame {
            Reply::Taken(call)
            | Reply::Busy { call, .. }
            | Reply::Result { call, .. }
            | Reply::Failed { call, .. } => Some(*call),
            Reply::Status { .. } | Reply::Offer { .. } => None,
        };
        if about != expected {
            return self.refuse("a frame about another call than its reply subject");
        }
        if matches!(frame.frame, Reply::Busy { .. }) {
            self.0.metrics.bounced.inc();
        }
        self.0.step(|machine, now| machine.frame(now, frame));
    }

    /// Nobody waits there any more: a late frame, or a worker that asks for a body of a call that is over.
    fn stale(&self, message: &Message) {
        if message.reply.is_some() {
            self.serve_body(message, None);
        }
    }

    fn serve_body(&self, message: &Message, body: Option<&Bytes>) {
        let reply = message.reply.as_deref().filter(|r| subject::is_under(r, subject::WORKER_INBOX));
        if let (Ok(Fetch::Range { offset, len }), Some(reply)) = (wire::decode(&message.payload), reply) {
            transfer::serve(body, offset, len, reply, &self.0.outbox);
        }
    }

    pub(super) fn refuse(&self, why: &'static str) {
        self.0.metrics.refused_messages.inc();
        tracing::warn!(why, "a message was refused");
    }
}
