//! Answers with large bodies: fetched from the worker window by window, and handed on as they come.

use std::sync::Arc;

use bytes::Bytes;
use longshore_proto::call::RemoteBody;
use longshore_proto::frame::CallRef;
use longshore_proto::{Body, CallError, ExecutionId, RunResponse, subject};
use longshore_service::nats::transfer::{CHUNK_QUEUE, Incoming, TransferError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Answer, AnswerBody, Route, Shared};

/// Parts that wait for the caller to read on.
const PARTS: usize = 4;

/// A fetch under way. Dropping it stops the fetch.
pub(super) struct Handle {
    _stop: DropGuard,
    /// Where the parts go; an error here resets the response.
    parts: mpsc::Sender<Result<Bytes, CallError>>,
}

/// Why a fetch ended early.
enum Broken {
    /// Nobody reads the response any more.
    CallerGone,
    /// Another answer is given, or the call is over.
    NotWanted,
    /// The body did not come.
    Transfer(TransferError),
}

impl Shared {
    pub(super) fn fetch(self: &Arc<Self>, call: CallRef, response: RunResponse) {
        let Body::Remote(remote) = response.body else { return };
        let deadline = self.pending.lock().get(&call.execution).map(|p| p.call.answer_by);
        let Some(deadline) = deadline else { return };
        let stop = CancellationToken::new();
        let (parts, receiver) = mpsc::channel(PARTS);
        self.fetches.lock().insert(call, Handle { _stop: stop.clone().drop_guard(), parts: parts.clone() });
        let head = Answer {
            status: response.status,
            headers: response.headers,
            body: AnswerBody::Stream { len: remote.len, parts: receiver },
            trailers: response.trailers,
        };
        let shared = Arc::clone(self);
        self.tracker.spawn(async move {
            let work = shared.fetch_and_hand_on(call, remote, head, parts, Instant::from_std(deadline));
            // A stopped fetch says nothing more: the machine has decided what the caller gets.
            if let Some(Err(error)) = stop.run_until_cancelled(work).await {
                match error {
                    Broken::CallerGone => shared.step(|machine, _| machine.abandon(call.execution)),
                    Broken::NotWanted => {}
                    Broken::Transfer(error) => {
                        tracing::warn!(execution = %call.execution, %error, "an answer could not be fetched");
                        shared.step(|machine, now| machine.fetch_failed(now, call));
                    }
                }
            }
            shared.fetches.lock().remove(&call);
        });
    }

    async fn fetch_and_hand_on(
        self: &Arc<Self>,
        call: CallRef,
        remote: RemoteBody,
        head: Answer,
        parts: mpsc::Sender<Result<Bytes, CallError>>,
        deadline: Instant,
    ) -> Result<(), Broken> {
        if !subject::is_under(&remote.source, subject::WORKER_INBOX) {
            return Err(Broken::Transfer(TransferError::Gone));
        }
        let (chunk_sender, chunks) = mpsc::channel(CHUNK_QUEUE);
        let guard = self.routes.add(Route::Chunks(chunk_sender));
        let incoming = Incoming {
            inbox: subject::shim_inbox(self.boot, guard.token()),
            source: remote.source,
            len: remote.len,
            chunks,
            deadline,
        };
        let (sender, mut received) = mpsc::channel::<Bytes>(PARTS);
        let receive = async {
            let result = incoming.receive(&self.outbox, &sender).await;
            drop(sender);
            result.map_err(|error| match error {
                TransferError::Abandoned => Broken::NotWanted,
                error => Broken::Transfer(error),
            })
        };
        let hand_on = async {
            let mut head = Some(head);
            while let Some(part) = received.recv().await {
                // The answer is given with its first bytes: until then, another attempt's may still win.
                if let Some(head) = head.take() {
                    let mut committed = false;
                    self.step(|machine, _| committed = machine.commit(call));
                    if !committed {
                        return Err(Broken::NotWanted);
                    }
                    self.answer(call.execution, Ok(head));
                }
                if parts.send(Ok(part)).await.is_err() {
                    return Err(Broken::CallerGone);
                }
            }
            Ok(())
        };
        // Whichever fails first ends both: a caller who is gone must not leave the fetch waiting for it.
        tokio::try_join!(receive, hand_on)?;
        self.step(|machine, _| machine.fetched(call));
        Ok(())
    }

    /// Breaks a response whose first bytes have left.
    pub(super) fn reset(&self, execution: ExecutionId, error: CallError) {
        self.metrics.resets.inc();
        let handle = {
            let mut fetches = self.fetches.lock();
            let call = fetches.keys().find(|call| call.execution == execution).copied();
            call.and_then(|call| fetches.remove(&call))
        };
        let Some(handle) = handle else { return };
        // The caller may not be reading just now: wait for room rather than ending the stream as if it were complete
        // (the length is known to the reader, so even a plain end would be noticed).
        let Handle { _stop: stop, parts } = handle;
        drop(stop);
        self.tracker.spawn(async move {
            let _ = parts.send(Err(error)).await;
        });
    }
}
