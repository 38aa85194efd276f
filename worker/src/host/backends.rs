//! What capabilities stand on, one set for the process.

use std::sync::Arc;
use std::time::Duration;

use longshore_egress::Egress;
use longshore_platform::{Platform, UiProxy};
use longshore_schedules::Schedules;
use longshore_secrets::Opener;
use longshore_service::metrics::prometheus_client::encoding::EncodeLabelSet;
use longshore_service::metrics::prometheus_client::metrics::counter::Counter;
use longshore_service::metrics::prometheus_client::metrics::family::Family;
use longshore_service::metrics::prometheus_client::metrics::histogram::Histogram;
use longshore_service::metrics::{LATENCY_BUCKETS, Metrics};
use longshore_storage::Storage;

/// What is absent is not configured; the functions that need it say so.
pub struct Backends {
    /// Requests to hosts that a guest chooses.
    pub egress: Egress,
    /// Opens secret envelopes.
    pub secrets: Opener,
    /// Key-value storage.
    pub storage: Option<Arc<dyn Storage>>,
    /// Schedules.
    pub schedules: Option<Arc<dyn Schedules>>,
    /// The platform's internal API: invoicing, clients, services.
    pub platform: Option<Platform>,
    /// The platform's routes for user interfaces.
    pub ui_proxy: Option<UiProxy>,
    /// Counts of host calls.
    pub metrics: HostMetrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    function: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FunctionLabels {
    function: &'static str,
}

/// Counts of host calls. Names are documented in docs/operating.md.
#[derive(Clone)]
pub struct HostMetrics {
    calls: Family<CallLabels, Counter>,
    seconds: Family<FunctionLabels, Histogram, fn() -> Histogram>,
}

impl Default for HostMetrics {
    /// Counts that nobody reads.
    fn default() -> Self {
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        Self { calls: Family::default(), seconds }
    }
}

impl HostMetrics {
    /// Registers all of them.
    pub fn register(metrics: &Metrics) -> Self {
        let Self { calls, seconds } = Self::default();
        Self {
            calls: metrics.register("worker_host_calls", "Ended host calls, by function and outcome", calls),
            seconds: metrics.register("worker_host_call_seconds", "Time in host calls, by function", seconds),
        }
    }

    pub(super) fn ended(&self, function: &'static str, outcome: &'static str, took: Duration) {
        self.calls.get_or_create(&CallLabels { function, outcome }).inc();
        self.seconds.get_or_create(&FunctionLabels { function }).observe(took.as_secs_f64());
    }
}

fn histogram() -> Histogram {
    Histogram::new(LATENCY_BUCKETS.iter().copied())
}
