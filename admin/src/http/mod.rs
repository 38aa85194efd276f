//! The HTTP side: what every route has in common.

mod auth;
mod extract;
mod failure;
mod request;
mod server;

pub use auth::{Actor, Gate};
pub use extract::{Json, Path, Query};
pub use failure::Failure;
pub use request::{HttpMetrics, Watch, watch};
pub use server::serve;

pub(crate) use auth::admit;
pub(crate) use extract::body;

use longshore_service::metrics::Metrics;

/// Registers the metrics of the admin API, as the process does when it starts: a test compares them with the documentation.
pub fn register_metrics(metrics: &Metrics) {
    HttpMetrics::register(metrics);
    Gate::register(metrics);
}
