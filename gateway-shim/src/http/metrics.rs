//! Metrics of the HTTP side.

use longshore_service::metrics::{LATENCY_BUCKETS, Metrics};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// `ok`, an error code, `http_<status>`, `client_gone` or `reset`.
    pub code: &'static str,
}

/// What is counted of the calls of one route. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RouteMetrics {
    /// As the log names it.
    pub(crate) route: &'static str,
    pub(crate) requests: Family<OutcomeLabel, Counter>,
    pub(crate) seconds: Histogram,
    pub(crate) in_flight: Gauge,
}

/// Metrics of the HTTP side. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    pub(super) execute: RouteMetrics,
    pub(super) body_bytes: Gauge,
    pub(super) connections: Gauge,
    pub(super) refused: Counter,
    pub(super) timed_out: Counter,
    pub(super) accept_errors: Counter,
}

impl HttpMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let execute = RouteMetrics {
            route: "execute",
            requests: metrics.register(
                "shim_requests",
                "Requests to /v1/execute by how they ended: ok, an error code, http_<status>, client_gone or reset",
                Family::default(),
            ),
            seconds: metrics.register(
                "shim_request_seconds",
                "Time from a request's header to the end of its answer",
                Histogram::new(LATENCY_BUCKETS),
            ),
            in_flight: metrics.register(
                "shim_requests_in_flight",
                "Requests to /v1/execute that are not answered yet",
                Gauge::default(),
            ),
        };
        Self {
            execute,
            body_bytes: metrics.register(
                "shim_body_bytes_in_flight",
                "Bytes of bodies held, and 4 KiB for each request",
                Gauge::default(),
            ),
            connections: metrics.register("shim_connections", "Open connections", Gauge::default()),
            refused: metrics.register(
                "shim_connections_refused",
                "Connections closed at once because there were too many",
                Counter::default(),
            ),
            timed_out: metrics.register(
                "shim_connections_timed_out",
                "Connections closed because a header did not arrive or an answer was not read in time",
                Counter::default(),
            ),
            accept_errors: metrics.register(
                "shim_accept_errors",
                "Connections that could not be accepted, usually for want of file descriptors",
                Counter::default(),
            ),
        }
    }
}
