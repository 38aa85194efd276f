//! What is counted about schedules. Names are documented in docs/operating.md.

use longshore_schedules::scheduler::{Fired, Observer};
use longshore_service::metrics::Metrics;
use longshore_service::metrics::prometheus_client::metrics::counter::Counter;
use longshore_service::metrics::prometheus_client::metrics::family::Family;
use longshore_service::metrics::prometheus_client::metrics::gauge::Gauge;

/// See the module.
#[derive(Clone)]
pub struct ScheduleMetrics {
    fired: Family<[(&'static str, &'static str); 1], Counter>,
    leader: Gauge,
}

impl ScheduleMetrics {
    /// Registers them.
    pub fn register(m: &Metrics) -> Self {
        let metrics = Self {
            fired: m.register(
                "schedules_fired",
                "Due times of schedules that this gateway has dealt with, by outcome: success, failed, lost or released",
                Family::default(),
            ),
            leader: m.register("schedules_leader", "1 while this gateway fires the schedules", Gauge::default()),
        };
        for outcome in Fired::ALL {
            drop(metrics.fired.get_or_create(&[("outcome", outcome.as_str())]));
        }
        metrics
    }
}

impl Observer for ScheduleMetrics {
    fn fired(&self, outcome: Fired) {
        self.fired.get_or_create(&[("outcome", outcome.as_str())]).inc();
    }

    fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}
