//! Time of one run: wall time, CPU time, cancellation. Two places look at them. The epoch callback, each 10 ms of a
//! guest that computes, ends it with a trap, whose backtrace shows where it was; the wrapper around the run's future
//! ends one that waits in a host call, by dropping it.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use longshore_proto::ErrorCode;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A limit that ends a run; as an error it travels through wasmtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The deadline has passed.
    #[error("the deadline has passed")]
    Deadline,
    /// The caller went away or an operator stopped the run.
    #[error("the call was cancelled")]
    Cancelled,
    /// Too much CPU time.
    #[error("the CPU time is used up")]
    CpuTime,
    /// Too many host calls.
    #[error("the host calls are used up")]
    HostCalls,
    /// Too many outbound requests.
    #[error("the outbound requests are used up")]
    OutboundRequests,
    /// A replay has come to where its trace ends: it never is the outcome of a call.
    #[error("the trace ends here")]
    ReplayEnded,
}

impl Stop {
    /// As the caller is told.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Deadline => ErrorCode::Timeout,
            Self::Cancelled | Self::ReplayEnded => ErrorCode::Cancelled,
            Self::CpuTime => ErrorCode::CpuTime,
            Self::HostCalls => ErrorCode::HostCalls,
            Self::OutboundRequests => ErrorCode::OutboundRequests,
        }
    }
}

/// The clocks of one run.
#[derive(Debug)]
pub struct Meter {
    deadline: Instant,
    cancel: CancellationToken,
    cpu_limit_ns: u64,
    /// Said by a host function that cannot end the run itself.
    stopped: OnceLock<Stop>,
    /// CPU time of the polls that have ended.
    cpu_ns: AtomicU64,
    /// The thread's CPU clock when the current poll began. Only the polling thread reads it meaningfully.
    poll_began_ns: AtomicU64,
}

impl Meter {
    /// With a deadline, a way to cancel and, perhaps, a limit of CPU time.
    pub fn new(deadline: Instant, cancel: CancellationToken, cpu_limit: Option<Duration>) -> Self {
        let cpu_limit_ns = cpu_limit.map_or(u64::MAX, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
        Self {
            deadline,
            cancel,
            cpu_limit_ns,
            stopped: OnceLock::new(),
            cpu_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
        }
    }

    /// CPU time of the polls so far, in microseconds.
    pub fn cpu_us(&self) -> u64 {
        self.cpu_ns.load(Relaxed) / 1_000
    }

    /// Ends the run at its next tick, or when it waits or returns. The first reason counts.
    pub fn stop(&self, stop: Stop) {
        let _ = self.stopped.set(stop);
    }

    /// The limit that is broken, if any; `polling` when called from within a poll.
    pub fn broken(&self, polling: bool) -> Option<Stop> {
        if let Some(stop) = self.stopped.get() {
            return Some(*stop);
        }
        if self.cancel.is_cancelled() {
            return Some(Stop::Cancelled);
        }
        let this_poll =
            if polling { thread_cpu_ns().saturating_sub(self.poll_began_ns.load(Relaxed)) } else { 0 };
        if self.cpu_ns.load(Relaxed).saturating_add(this_poll) > self.cpu_limit_ns {
            return Some(Stop::CpuTime);
        }
        (Instant::now() >= self.deadline).then_some(Stop::Deadline)
    }

    /// Runs a future under this meter: its output, or the limit that ended it. It has been dropped when this returns.
    pub fn run<F: Future>(self: Arc<Self>, future: F) -> Metered<F> {
        let sleep = Box::pin(tokio::time::sleep_until(self.deadline.into()));
        let cancelled = Box::pin(self.cancel.clone().cancelled_owned());
        Metered { future: Box::pin(future), meter: self, sleep, cancelled }
    }
}

/// The CPU clock of the thread that asks, in nanoseconds.
fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec)
        .unwrap_or_default()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(now.tv_nsec).unwrap_or_default())
}

/// A future whose polls are measured.
pub struct Metered<F> {
    future: Pin<Box<F>>,
    meter: Arc<Meter>,
    sleep: Pin<Box<Sleep>>,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<F: Future> Future for Metered<F> {
    type Output = Result<F::Output, Stop>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let began = thread_cpu_ns();
        this.meter.poll_began_ns.store(began, Relaxed);
        let polled = this.future.as_mut().poll(cx);
        this.meter.cpu_ns.fetch_add(thread_cpu_ns().saturating_sub(began), Relaxed);
        if let Poll::Ready(output) = polled {
            return Poll::Ready(this.meter.stopped.get().map_or(Ok(output), |stop| Err(*stop)));
        }
        if let Some(stop) = this.meter.broken(false) {
            return Poll::Ready(Err(stop));
        }
        // Both are asked, so that both know whom to wake.
        let slept = this.sleep.as_mut().poll(cx).is_ready();
        if this.cancelled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Stop::Cancelled));
        }
        if slept { Poll::Ready(Err(Stop::Deadline)) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(wait: Duration, cpu: Option<Duration>) -> (Arc<Meter>, CancellationToken) {
        let cancel = CancellationToken::new();
        (Arc::new(Meter::new(Instant::now() + wait, cancel.clone(), cpu)), cancel)
    }

    #[tokio::test]
    async fn what_waits_for_ever_ends_at_its_deadline() {
        let (meter, _cancel) = meter(Duration::from_millis(20), None);
        assert_eq!(meter.run(std::future::pending::<()>()).await, Err(Stop::Deadline));
    }

    #[tokio::test]
    async fn what_waits_for_ever_ends_when_it_is_cancelled() {
        let (meter, cancel) = meter(Duration::from_secs(60), None);
        let (ended, ()) = tokio::join!(meter.run(std::future::pending::<()>()), async { cancel.cancel() });
        assert_eq!(ended, Err(Stop::Cancelled));
    }

    #[tokio::test]
    async fn cpu_time_is_counted_over_all_polls_and_waiting_costs_none() {
        let (free, _cancel) = meter(Duration::from_secs(60), Some(Duration::from_millis(20)));
        let waited = Arc::clone(&free).run(tokio::time::sleep(Duration::from_millis(60))).await;
        assert_eq!(waited, Ok(()));
        assert!(free.cpu_us() < 20_000);

        let (burnt, _cancel) = meter(Duration::from_secs(60), Some(Duration::from_millis(20)));
        let burning = async {
            loop {
                let until = Instant::now() + Duration::from_millis(3);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                tokio::task::yield_now().await;
            }
        };
        let ended: Result<(), Stop> = Arc::clone(&burnt).run(burning).await;
        assert_eq!(ended, Err(Stop::CpuTime));
        assert!(burnt.cpu_us() >= 20_000);
    }
}
