//! What happens on a connection, seen from below HTTP: enough to tell a slow header, an answer that nobody reads and
//! an idle connection apart. hyper's own header timeout runs between requests too, so that it would have to be as
//! long as an idle connection may live, and its detection of HTTP/2 has no timeout at all.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Limits of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For a request's header, from its first byte; for the first request, from the start of the connection.
    pub header: Duration,
    /// For an answer of which nothing is read.
    pub write: Duration,
    /// Without a request.
    pub idle: Duration,
}

impl Limits {
    /// How often a connection is looked at: a limit is kept to a quarter more.
    pub(super) fn tick(&self) -> Duration {
        let least = self.header.min(self.write).min(self.idle);
        (least / 4).clamp(Duration::from_millis(5), Duration::from_secs(3))
    }
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Its header or its reading took too long.
    Slow,
    /// There was nothing to do.
    Idle,
}

/// One connection's state. Moments are milliseconds since its start plus one; 0 means none.
#[derive(Debug)]
pub(super) struct Activity {
    started: Instant,
    busy: AtomicUsize,
    requests: AtomicBool,
    http2: AtomicBool,
    idle_since: AtomicU64,
    header_since: AtomicU64,
    write_blocked_since: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            busy: AtomicUsize::new(0),
            requests: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            idle_since: AtomicU64::new(1),
            header_since: AtomicU64::new(0),
            write_blocked_since: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn since(&self, moment: &AtomicU64) -> Option<Duration> {
        let moment = moment.load(Ordering::Relaxed);
        (moment != 0).then(|| Duration::from_millis(self.now().saturating_sub(moment)))
    }

    /// A request's header is complete; the guard lives until its answer has been given.
    pub(super) fn request(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.requests.store(true, Ordering::Relaxed);
        self.header_since.store(0, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// Whether the connection has outlived a limit.
    pub(super) fn overdue(&self, limits: &Limits) -> Option<Overdue> {
        if self.since(&self.write_blocked_since).is_some_and(|blocked| blocked > limits.write) {
            return Some(Overdue::Slow);
        }
        if self.busy.load(Ordering::Relaxed) > 0 {
            return None;
        }
        if !self.requests.load(Ordering::Relaxed) {
            return (self.started.elapsed() > limits.header).then_some(Overdue::Slow);
        }
        if self.since(&self.header_since).is_some_and(|waiting| waiting > limits.header) {
            return Some(Overdue::Slow);
        }
        self.since(&self.idle_since).is_some_and(|idle| idle > limits.idle).then_some(Overdue::Idle)
    }

    fn read(&self, bytes: &[u8]) {
        if bytes.is_empty() || self.busy.load(Ordering::Relaxed) > 0 {
            return;
        }
        if !self.requests.load(Ordering::Relaxed) && bytes.starts_with(b"PRI") {
            self.http2.store(true, Ordering::Relaxed);
        }
        // Between requests HTTP/2 has pings and window updates, which begin no request.
        if !self.http2.load(Ordering::Relaxed) {
            let now = self.now();
            let _ = self.header_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn wrote<T>(&self, result: &Poll<T>) {
        match result {
            Poll::Ready(_) => self.write_blocked_since.store(0, Ordering::Relaxed),
            Poll::Pending => {
                let moment = &self.write_blocked_since;
                let _ = moment.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that tells [`Activity`] what it does.
pub(super) struct Watched<T> {
    io: T,
    activity: Arc<Activity>,
}

impl<T> Watched<T> {
    pub(super) fn new(io: T, activity: Arc<Activity>) -> Self {
        Self { io, activity }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        self.activity.read(buf.filled().get(before..).unwrap_or_default());
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.activity.wrote(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.activity.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        header: Duration::from_secs(10),
        write: Duration::from_secs(30),
        idle: Duration::from_secs(120),
    };

    async fn after(seconds: u64) {
        tokio::time::advance(Duration::from_millis(seconds * 1_000 + 10)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_must_bring_a_request_in_time_even_if_it_drips() {
        let activity = Activity::new();
        for byte in [b"P", b"O", b"S"] {
            after(3).await;
            activity.read(byte);
            assert_eq!(activity.overdue(&LIMITS), None);
        }
        after(2).await;
        assert_eq!(activity.overdue(&LIMITS), Some(Overdue::Slow));
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_silence_is_allowed_and_a_slow_header_is_not() {
        let activity = Activity::new();
        let busy = activity.request();
        after(1_000).await;
        assert_eq!(activity.overdue(&LIMITS), None, "a call may take its time");
        drop(busy);
        after(100).await;
        assert_eq!(activity.overdue(&LIMITS), None);
        activity.read(b"P");
        after(9).await;
        assert_eq!(activity.overdue(&LIMITS), None);
        after(1).await;
        assert_eq!(activity.overdue(&LIMITS), Some(Overdue::Slow));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_and_pings_begin_no_request() {
        let activity = Activity::new();
        activity.read(b"PRI * HTTP/2.0\r\n");
        drop(activity.request());
        after(60).await;
        activity.read(b"ping");
        after(50).await;
        assert_eq!(activity.overdue(&LIMITS), None);
        after(11).await;
        assert_eq!(activity.overdue(&LIMITS), Some(Overdue::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_ends_the_connection() {
        let activity = Activity::new();
        let _busy = activity.request();
        activity.wrote::<()>(&Poll::Pending);
        after(20).await;
        activity.wrote(&Poll::Ready(()));
        activity.wrote::<()>(&Poll::Pending);
        after(20).await;
        assert_eq!(activity.overdue(&LIMITS), None, "a byte was read in between");
        after(11).await;
        assert_eq!(activity.overdue(&LIMITS), Some(Overdue::Slow));
    }
}
