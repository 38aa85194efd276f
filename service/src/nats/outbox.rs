//! What is to be published, on its way to the client. `publish` waits when the connection is down and 2,048 commands
//! are queued, so whoever must not wait (admission, frames) puts messages here: bounded in messages and bytes, and
//! over that a message is dropped and counted. The protocol repairs a lost message by asking; it could not repair a
//! deaf worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use async_nats::{Client, HeaderMap, Subject};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::Watcher;

/// Messages that may wait.
const MAX_MESSAGES: usize = 65_536;
/// Bytes that may wait: a hundred calls of the largest size that travels in one message.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// A message to publish.
#[derive(Debug)]
pub struct Outgoing {
    /// To.
    pub subject: Subject,
    /// Where an answer goes.
    pub reply: Option<Subject>,
    /// Headers.
    pub headers: Option<HeaderMap>,
    /// Content.
    pub payload: Bytes,
}

impl Outgoing {
    /// A plain message.
    pub fn new(subject: impl Into<Subject>, payload: impl Into<Bytes>) -> Self {
        Self { subject: subject.into(), reply: None, headers: None, payload: payload.into() }
    }

    /// With a reply subject.
    pub fn with_reply(mut self, reply: impl Into<Subject>) -> Self {
        self.reply = Some(reply.into());
        self
    }
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// Takes messages without waiting. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
}

impl Outbox {
    /// An outbox and the task that empties it; the task ends when every outbox is gone. Nothing is published while
    /// disconnected: what would arrive after the reconnect is what somebody has asked about meanwhile.
    pub fn new(client: Client, link: Watcher) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, mut messages) = mpsc::channel::<Outgoing>(MAX_MESSAGES);
        let shared = Arc::new(Shared::default());
        let outbox = Self { queue, shared: Arc::clone(&shared) };
        let task = async move {
            while let Some(message) = messages.recv().await {
                shared.bytes.fetch_sub(message.payload.len(), Relaxed);
                if !link.is_connected() {
                    shared.dropped.fetch_add(1, Relaxed);
                    continue;
                }
                if let Err(error) = publish(&client, message).await {
                    shared.dropped.fetch_add(1, Relaxed);
                    tracing::warn!(error = %crate::errors::chain(&error), "a message could not be published");
                }
            }
        };
        (outbox, task)
    }

    /// Puts a message in line. False: there is no room, and it is dropped.
    pub fn send(&self, message: Outgoing) -> bool {
        let bytes = message.payload.len();
        if self.shared.bytes.fetch_add(bytes, Relaxed) + bytes <= MAX_BYTES
            && self.queue.try_send(message).is_ok()
        {
            return true;
        }
        self.shared.bytes.fetch_sub(bytes, Relaxed);
        self.shared.dropped.fetch_add(1, Relaxed);
        false
    }

    /// Messages dropped so far: no room, or disconnected.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }
}

async fn publish(client: &Client, m: Outgoing) -> Result<(), async_nats::PublishError> {
    match (m.reply, m.headers) {
        (None, None) => client.publish(m.subject, m.payload).await,
        (None, Some(headers)) => client.publish_with_headers(m.subject, headers, m.payload).await,
        (Some(reply), None) => client.publish_with_reply(m.subject, reply, m.payload).await,
        (Some(reply), Some(headers)) => {
            client.publish_with_reply_and_headers(m.subject, reply, headers, m.payload).await
        }
    }
}
