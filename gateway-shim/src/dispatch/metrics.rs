//! What the dispatcher counts. Names are documented in docs/operating.md.

use std::time::Duration;

use longshore_service::metrics::prometheus_client::metrics::counter::Counter;
use longshore_service::metrics::prometheus_client::metrics::gauge::Gauge;
use longshore_service::metrics::prometheus_client::metrics::histogram::Histogram;
use longshore_service::metrics::{LATENCY_BUCKETS, Metrics};

use super::machine::Counts;

/// See the module.
#[derive(Clone)]
pub struct DispatchMetrics {
    /// Calls sent to workers, repeated sends included.
    pub sent: Counter,
    /// Sends answered `busy`.
    pub bounced: Counter,
    /// Sends to workers that were gone.
    pub no_responders: Counter,
    /// Cancels sent.
    pub cancelled: Counter,
    /// Responses broken after their first bytes had left.
    pub resets: Counter,
    /// Messages that no well-behaved peer sends.
    pub refused_messages: Counter,
    waiting: Gauge,
    in_flight: Gauge,
    workers: Gauge,
    dispatch_seconds: Histogram,
}

impl DispatchMetrics {
    /// Registers all of them.
    pub fn register(m: &Metrics) -> Self {
        Self {
            sent: m.register(
                "shim_sent",
                "Calls sent to workers, repeated sends included",
                Counter::default(),
            ),
            bounced: m.register("shim_bounced", "Sends that a worker answered with busy", Counter::default()),
            no_responders: m.register(
                "shim_no_responders",
                "Sends to workers that were gone",
                Counter::default(),
            ),
            cancelled: m.register("shim_cancels", "Cancels sent to workers", Counter::default()),
            resets: m.register(
                "shim_resets",
                "Responses broken after their first bytes had left",
                Counter::default(),
            ),
            refused_messages: m.register(
                "shim_refused_messages",
                "Messages refused: undecodable, or about somebody else's call",
                Counter::default(),
            ),
            waiting: m.register("shim_waiting", "Calls that wait for a slot", Gauge::default()),
            in_flight: m.register("shim_in_flight", "Calls with a worker", Gauge::default()),
            workers: m.register(
                "shim_workers",
                "Workers heard within 3 s that are not leaving",
                Gauge::default(),
            ),
            dispatch_seconds: m.register(
                "shim_dispatch_seconds",
                "Time from the end of the HTTP request to the answer's first bytes",
                Histogram::new(LATENCY_BUCKETS.iter().copied()),
            ),
        }
    }

    /// A call was answered.
    pub fn dispatched(&self, after: Duration) {
        self.dispatch_seconds.observe(after.as_secs_f64());
    }

    /// What the machine holds.
    pub fn counts(&self, counts: Counts) {
        let value = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.waiting.set(value(counts.waiting));
        self.in_flight.set(value(counts.in_flight));
        self.workers.set(value(counts.workers));
    }
}
