//! Bodies that do not fit into a message. The receiver asks for ranges (its credit) and gets chunks on a private
//! inbox; the sender keeps no state about it, so a lost or reordered chunk is repaired by asking again, and a new
//! attempt fetches the same body from the start. What a transfer holds in memory is its window, on both sides.

use std::time::Duration;

use bytes::Bytes;
use longshore_proto::frame::{Chunk, Fetch};
use longshore_proto::limits::{CHUNK_BYTES, WINDOW_BYTES};
use longshore_proto::wire;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::outbox::{Outbox, Outgoing};

/// No chunk for so long: ask again for what is missing.
const STALLED: Duration = Duration::from_millis(500);
/// Chunks that may wait for the receiver: two windows, because a range that was asked for twice arrives twice.
pub const CHUNK_QUEUE: usize = 2 * WINDOW_BYTES / CHUNK_BYTES + 2;

/// Why a body did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The sender no longer has it.
    #[error("the sender no longer has the body")]
    Gone,
    /// It was not all here in time.
    #[error("the deadline passed with {received} of {len} bytes received")]
    Deadline {
        /// So far.
        received: u64,
        /// In all.
        len: u64,
    },
    /// Nobody takes the bytes any more.
    #[error("the receiver of the bytes is gone")]
    Abandoned,
}

/// A body to receive.
#[derive(Debug)]
pub struct Incoming {
    /// The subject that answers [`Fetch`].
    pub source: String,
    /// Our inbox subject: where the chunks arrive.
    pub inbox: String,
    /// The body's length in bytes.
    pub len: u64,
    /// What arrives at the inbox, in the order of arrival.
    pub chunks: mpsc::Receiver<Chunk>,
    /// When to give up.
    pub deadline: Instant,
}

impl Incoming {
    /// Receives all of it, in order, into `parts`; tells the sender when it is done.
    pub async fn receive(
        mut self,
        outbox: &Outbox,
        parts: &mpsc::Sender<Bytes>,
    ) -> Result<(), TransferError> {
        let (mut received, mut asked) = (0u64, 0u64);
        let mut last = Instant::now();
        while received < self.len {
            if asked - received <= WINDOW_BYTES as u64 / 2 && asked < self.len {
                asked += self.ask(outbox, asked, WINDOW_BYTES as u64 - (asked - received));
            }
            let until = (last + STALLED).min(self.deadline);
            match timeout_at(until, self.chunks.recv()).await {
                Ok(Some(chunk)) if chunk.gone => return Err(TransferError::Gone),
                Ok(Some(chunk)) if chunk.offset == received && !chunk.data.is_empty() => {
                    let room = usize::try_from(self.len - received).unwrap_or(usize::MAX);
                    let data = chunk.data.slice(..chunk.data.len().min(room));
                    received += data.len() as u64;
                    let sent = tokio::time::timeout_at(self.deadline, parts.send(data)).await;
                    match sent {
                        Ok(Ok(())) => last = Instant::now(),
                        Ok(Err(_)) => return Err(TransferError::Abandoned),
                        Err(_) => return Err(TransferError::Deadline { received, len: self.len }),
                    }
                }
                // Twice, or out of order after a loss: what is missing is asked for again below.
                Ok(Some(chunk)) if chunk.offset > received => {
                    asked = received;
                    self.drain();
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(TransferError::Abandoned),
                Err(_) if Instant::now() >= self.deadline => {
                    return Err(TransferError::Deadline { received, len: self.len });
                }
                Err(_) => {
                    asked = received;
                    last = Instant::now();
                }
            }
        }
        self.send(outbox, &Fetch::Done);
        Ok(())
    }

    fn ask(&self, outbox: &Outbox, offset: u64, len: u64) -> u64 {
        let len = len.min(self.len - offset);
        self.send(outbox, &Fetch::Range { offset, len });
        len
    }

    fn send(&self, outbox: &Outbox, fetch: &Fetch) {
        if let Ok(payload) = wire::encode(fetch) {
            outbox.send(Outgoing::new(self.source.clone(), payload).with_reply(self.inbox.clone()));
        }
    }

    /// Chunks behind a gap are useless: they will be asked for again.
    fn drain(&mut self) {
        while self.chunks.try_recv().is_ok() {}
    }
}

/// Receives a body into one buffer of at most `len` bytes.
pub async fn receive_all(incoming: Incoming, outbox: &Outbox) -> Result<Bytes, TransferError> {
    let len = incoming.len;
    let (sender, mut parts) = mpsc::channel::<Bytes>(4);
    let mut body = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    let collect = async {
        while let Some(part) = parts.recv().await {
            body.extend_from_slice(&part);
        }
    };
    let receive = async move {
        let result = incoming.receive(outbox, &sender).await;
        drop(sender);
        result
    };
    let ((), result) = tokio::join!(collect, receive);
    result.map(|()| Bytes::from(body))
}

/// Answers a request for a range of `body` (none: it is gone) with chunks to `inbox`, which the caller has checked.
pub fn serve(body: Option<&Bytes>, offset: u64, len: u64, inbox: &str, outbox: &Outbox) {
    let send = |chunk: &Chunk| {
        wire::encode(chunk).is_ok_and(|payload| outbox.send(Outgoing::new(inbox.to_owned(), payload)))
    };
    let Some(body) = body else {
        send(&Chunk { offset, data: Bytes::new(), gone: true });
        return;
    };
    let Ok(start) = usize::try_from(offset) else { return };
    let wanted = usize::try_from(len).unwrap_or(usize::MAX).min(WINDOW_BYTES);
    let end = start.saturating_add(wanted).min(body.len());
    let mut at = start;
    while at < end {
        let next = (at + CHUNK_BYTES).min(end);
        if !send(&Chunk { offset: at as u64, data: body.slice(at..next), gone: false }) {
            // No room: the receiver asks again.
            return;
        }
        at = next;
    }
}
