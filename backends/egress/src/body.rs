//! Bodies on their way out and in, each under its limit.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::{BoxError, EgressError, Part, Wait};
use crate::pool::Lease;

/// A body that a guest sends.
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// Bytes that are all there, as a body. An empty one is no body.
pub fn full(bytes: Bytes) -> RequestBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// How the sending of a body went, seen from where the answer is read.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    done: AtomicBool,
    fault: Mutex<Option<EgressError>>,
}

impl Upload {
    /// Why sending stopped, once.
    pub(crate) fn take_fault(&self) -> Option<EgressError> {
        self.fault.lock().take()
    }

    /// Whether the body is out, so that the connection can carry another request.
    fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

/// A guest's body under its limit and, when it announced one, of exactly that length. Pieces after the announced length
/// are not asked for any more.
pub(crate) struct SentBody {
    inner: RequestBody,
    sent: u64,
    limit: usize,
    announced: Option<u64>,
    upload: Arc<Upload>,
}

impl SentBody {
    /// # Errors
    /// When the body is known to be too long, or to differ from what the headers announce.
    pub(crate) fn new(inner: RequestBody, announced: Option<u64>, limit: usize) -> Result<Self, EgressError> {
        let exact = inner.size_hint().exact();
        if exact.or(announced).is_some_and(|length| length > limit as u64) {
            return Err(EgressError::TooLarge { what: Part::RequestBody, limit });
        }
        match (exact, announced) {
            // HEAD and GET requests of the guest's may repeat a length without having a body; that is not sent.
            (Some(length), Some(announced)) if length != announced && length != 0 => {
                Err(EgressError::InvalidHeader("content-length is not the body's length"))
            }
            (Some(_), _) => Ok(Self { inner, sent: 0, limit, announced: None, upload: Arc::default() }),
            (None, announced) => Ok(Self { inner, sent: 0, limit, announced, upload: Arc::default() }),
        }
    }

    pub(crate) fn upload(&self) -> Arc<Upload> {
        self.upload.clone()
    }

    /// Records why sending stops. The reason goes to the caller through [`Upload`]; the connection only has to break.
    fn fail(&self, fault: EgressError) -> BoxError {
        let text = fault.to_string();
        *self.upload.fault.lock() = Some(fault);
        text.into()
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(self.fail(EgressError::RequestBody(error))))),
            None if self.announced.is_some_and(|length| self.sent < length) => {
                let fault = EgressError::RequestBody("shorter than its content-length".into());
                return Poll::Ready(Some(Err(self.fail(fault))));
            }
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref() {
            self.sent = self.sent.saturating_add(data.len() as u64);
            if self.sent > self.limit as u64 {
                let fault = EgressError::TooLarge { what: Part::RequestBody, limit: self.limit };
                return Poll::Ready(Some(Err(self.fail(fault))));
            }
            if self.announced.is_some_and(|length| self.sent > length) {
                let fault = EgressError::RequestBody("longer than its content-length".into());
                return Poll::Ready(Some(Err(self.fail(fault))));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map_or_else(|| self.inner.size_hint(), SizeHint::with_exact)
    }
}

impl Drop for SentBody {
    /// hyper drops a body when it is sent. When it gives one up, the connection is lost as well.
    fn drop(&mut self) {
        self.upload.done.store(true, Ordering::Release);
    }
}

/// The body of an answer: no more bytes than the limit, no later than the end of the exchange. It holds its connection,
/// and with it the tenant's permit; once it is read to its end the connection is there for the next request, and when it
/// is dropped earlier the connection is closed.
pub struct ResponseBody {
    inner: Incoming,
    lease: Option<Lease>,
    upload: Arc<Upload>,
    left: usize,
    limit: usize,
    end: Pin<Box<Sleep>>,
    total: Duration,
    pause: Option<(Duration, Pin<Box<Sleep>>)>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Done,
}

/// What a body needs to know about its exchange.
pub(crate) struct Exchange {
    pub(crate) lease: Lease,
    pub(crate) upload: Arc<Upload>,
    /// Bytes.
    pub(crate) limit: usize,
    pub(crate) end: Instant,
    /// What `end` is the end of, for the error.
    pub(crate) total: Duration,
    pub(crate) between_bytes: Option<Duration>,
}

impl ResponseBody {
    pub(crate) fn new(inner: Incoming, exchange: Exchange) -> Self {
        let Exchange { lease, upload, limit, end, total, between_bytes } = exchange;
        let pause =
            between_bytes.filter(|wait| *wait < total).map(|wait| (wait, Box::pin(tokio::time::sleep(wait))));
        let mut body = Self {
            inner,
            lease: Some(lease),
            upload,
            left: limit,
            limit,
            end: Box::pin(sleep_until(end)),
            total,
            pause,
            state: State::Reading,
        };
        if body.inner.is_end_stream() {
            body.finish();
        }
        body
    }

    /// Reads the rest.
    ///
    /// # Errors
    /// [`EgressError::TooLarge`], [`EgressError::Timeout`] or [`EgressError::Body`].
    pub async fn collect(mut self) -> Result<Bytes, EgressError> {
        let mut all = BytesMut::new();
        while let Some(frame) = self.frame().await {
            if let Ok(data) = frame?.into_data() {
                all.extend_from_slice(&data);
            }
        }
        Ok(all.freeze())
    }

    fn finish(&mut self) {
        self.state = State::Done;
        if let Some(lease) = self.lease.take() {
            // An answer may come before the request is out; such a connection cannot take another one yet.
            if self.upload.is_done() { lease.give_back() } else { drop(lease) }
        }
    }

    fn fail(&mut self, error: EgressError) -> Poll<Option<Result<Frame<Bytes>, EgressError>>> {
        self.state = State::Done;
        self.lease = None;
        Poll::Ready(Some(Err(self.upload.take_fault().unwrap_or(error))))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = EgressError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EgressError>>> {
        if self.state == State::Done {
            return Poll::Ready(None);
        }
        // Before the data: a server that always has one more byte must not outrun the clock.
        if self.end.as_mut().poll(cx).is_ready() {
            let after = self.total;
            return self.fail(EgressError::Timeout { what: Wait::Total, after });
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                let Some(left) = self.left.checked_sub(length) else {
                    let limit = self.limit;
                    return self.fail(EgressError::TooLarge { what: Part::ResponseBody, limit });
                };
                self.left = left;
                if let Some((wait, sleep)) = &mut self.pause {
                    sleep.as_mut().reset(Instant::now() + *wait);
                }
                if self.inner.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.fail(EgressError::Body(error.into())),
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let late = match &mut self.pause {
                    Some((wait, sleep)) => sleep.as_mut().poll(cx).is_ready().then_some(*wait),
                    None => None,
                };
                match late {
                    Some(after) => self.fail(EgressError::Timeout { what: Wait::BetweenBytes, after }),
                    None => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Done
    }

    fn size_hint(&self) -> SizeHint {
        if self.state == State::Done { SizeHint::with_exact(0) } else { self.inner.size_hint() }
    }
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBody")
            .field("state", &self.state)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
