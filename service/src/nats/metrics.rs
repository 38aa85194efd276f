//! What is counted about connections.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::Metrics;

/// Counters of all connections of a process, labelled with the connection's name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NatsMetrics {
    pub(super) connected: Family<Labels, Gauge>,
    pub(super) connects: Family<Labels, Counter>,
    pub(super) failed_attempts: Family<Labels, Counter>,
    pub(super) slow_consumers: Family<Labels, Counter>,
    pub(super) refused: Family<Labels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Labels {
    pub(super) connection: String,
}

impl NatsMetrics {
    /// Registers `longshore_nats_...`; once a process.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            connected: metrics.register("nats_connected", "1 while connected to NATS", Family::default()),
            connects: metrics.register("nats_connects", "Connections made to NATS", Family::default()),
            failed_attempts: metrics.register(
                "nats_failed_attempts",
                "Attempts to connect to NATS that failed",
                Family::default(),
            ),
            slow_consumers: metrics.register(
                "nats_slow_consumer_drops",
                "Messages dropped because a subscription's buffer was full",
                Family::default(),
            ),
            refused: metrics.register(
                "nats_refusals",
                "Logins, publications and subscriptions that NATS refused",
                Family::default(),
            ),
        }
    }
}
