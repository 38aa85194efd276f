//! What is counted of `/api/ext`. Names are documented in docs/operating.md.

use longshore_service::metrics::{LATENCY_BUCKETS, Metrics};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::http::metrics::RouteMetrics;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GatewayMetrics(pub(super) RouteMetrics);

impl GatewayMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        Self(RouteMetrics {
            route: "api_ext",
            requests: metrics.register(
                "shim_gateway_requests",
                "Requests to /api/ext by how they ended: ok, an error code, client_gone or reset",
                Family::default(),
            ),
            seconds: metrics.register(
                "shim_gateway_request_seconds",
                "Time from the header of a request to /api/ext to the end of its answer",
                Histogram::new(LATENCY_BUCKETS),
            ),
            in_flight: metrics.register(
                "shim_gateway_requests_in_flight",
                "Requests to /api/ext that are not answered yet",
                Gauge::default(),
            ),
        })
    }
}
