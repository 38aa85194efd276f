//! Metrics of the debug publisher.

use longshore_service::metrics::Metrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// Metrics of the debug publisher. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct DebugMetrics {
    pub(super) published: Counter,
    pub(super) dropped: Counter,
    pub(super) queue_events: Gauge,
    pub(super) queue_bytes: Gauge,
    pub(super) connected: Gauge,
}

impl DebugMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            published: metrics.register(
                "worker_debug_published",
                "Debug events written to Redis",
                Counter::default(),
            ),
            dropped: metrics.register(
                "worker_debug_dropped",
                "Debug events lost: the queue was full, or Redis was lost or refused them",
                Counter::default(),
            ),
            queue_events: metrics.register(
                "worker_debug_queue_events",
                "Debug events that wait for Redis",
                Gauge::default(),
            ),
            queue_bytes: metrics.register(
                "worker_debug_queue_bytes",
                "Bytes of debug events that wait for Redis",
                Gauge::default(),
            ),
            connected: metrics.register(
                "worker_debug_connected",
                "1 while Redis takes debug events",
                Gauge::default(),
            ),
        }
    }
}
