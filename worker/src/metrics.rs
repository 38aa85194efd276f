//! What a worker counts. Names are documented in docs/operating.md.

use longshore_proto::frame::BusyReason;
use longshore_service::metrics::prometheus_client::encoding::EncodeLabelSet;
use longshore_service::metrics::prometheus_client::metrics::counter::Counter;
use longshore_service::metrics::prometheus_client::metrics::family::Family;
use longshore_service::metrics::prometheus_client::metrics::gauge::Gauge;
use longshore_service::metrics::prometheus_client::metrics::histogram::Histogram;
use longshore_service::metrics::{LATENCY_BUCKETS, Metrics};

use crate::admit::table::Table;
use crate::job::Outcome;

/// Labels of an outcome. Never a tenant: a label value is a time series for ever.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    code: &'static str,
    fault: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// See the module.
#[derive(Clone)]
pub struct WorkerMetrics {
    /// Calls admitted.
    pub admitted: Counter,
    /// Freed slots offered to shims that had been told `busy`.
    pub offers: Counter,
    /// Messages that no well-behaved peer sends.
    pub refused_messages: Counter,
    busy: Family<ReasonLabels, Counter>,
    outcomes: Family<OutcomeLabels, Counter>,
    handler_seconds: Histogram,
    prepare_seconds: Histogram,
    cpu_seconds: Counter<f64, std::sync::atomic::AtomicU64>,
    slots_free: Gauge,
    running: Gauge,
    answers_kept: Gauge,
    answer_bytes: Gauge,
}

impl WorkerMetrics {
    /// Registers all of them.
    pub fn register(m: &Metrics) -> Self {
        Self {
            admitted: m.register("worker_admitted", "Calls admitted", Counter::default()),
            offers: m.register(
                "worker_offers",
                "Freed slots offered to shims that were told busy",
                Counter::default(),
            ),
            refused_messages: m.register(
                "worker_refused_messages",
                "Messages refused: undecodable, or with reply subjects of somebody else",
                Counter::default(),
            ),
            busy: m.register("worker_busy", "Calls told busy, by reason", Family::default()),
            outcomes: m.register(
                "worker_outcomes",
                "Ended executions, by error code and fault",
                Family::default(),
            ),
            handler_seconds: m.register(
                "worker_handler_seconds",
                "Time in the guest's handler",
                Histogram::new(LATENCY_BUCKETS.iter().copied()),
            ),
            prepare_seconds: m.register(
                "worker_prepare_seconds",
                "Time from admission to the handler: fetch, compile, instantiate",
                Histogram::new(LATENCY_BUCKETS.iter().copied()),
            ),
            cpu_seconds: m.register("worker_guest_cpu_seconds", "CPU time of guests", Counter::default()),
            slots_free: m.register("worker_slots_free", "Slots without a run", Gauge::default()),
            running: m.register("worker_running", "Executions running", Gauge::default()),
            answers_kept: m.register(
                "worker_answers_kept",
                "Answers that no shim has acknowledged yet",
                Gauge::default(),
            ),
            answer_bytes: m.register("worker_answer_bytes", "Bytes of these answers", Gauge::default()),
        }
    }

    /// The counter of one reason.
    pub fn busy(&self, reason: BusyReason) -> Counter {
        let reason = match reason {
            BusyReason::Full => "full",
            BusyReason::Share => "share",
            BusyReason::Leaving => "leaving",
        };
        self.busy.get_or_create(&ReasonLabels { reason }).clone()
    }

    /// An execution ended.
    pub fn finished(&self, outcome: &Outcome) {
        let labels = match &outcome.result {
            Ok(_) => OutcomeLabels { code: "ok", fault: "none" },
            Err(e) => OutcomeLabels { code: e.code.as_str(), fault: e.code.fault().as_str() },
        };
        self.outcomes.get_or_create(&labels).inc();
        let seconds = |us: u64| us as f64 / 1e6;
        self.handler_seconds.observe(seconds(outcome.usage.handler_us));
        self.prepare_seconds.observe(seconds(outcome.usage.prepare_us));
        self.cpu_seconds.inc_by(seconds(outcome.usage.cpu_us));
    }

    /// What the table holds.
    pub(crate) fn table<A>(&self, table: &Table<A>) {
        self.slots_free.set(i64::from(table.free()));
        self.running.set(i64::from(table.running()));
        self.answers_kept.set(i64::try_from(table.unacknowledged()).unwrap_or(i64::MAX));
        self.answer_bytes.set(i64::try_from(table.kept_bytes()).unwrap_or(i64::MAX));
    }
}

/// Counters of the bundle cache and the engine, copied once a second: both keep plain atomics of their own.
#[derive(Clone)]
pub struct CacheMetrics {
    hits: Gauge,
    fetches: Gauge,
    failures: Gauge,
    evictions: Gauge,
    disk_bytes: Gauge,
    signatures_refused: Gauge,
    signatures_warned: Gauge,
    compiles: Gauge,
    artifacts_loaded: Gauge,
}

impl CacheMetrics {
    /// Registers all of them.
    pub fn register(m: &Metrics) -> Self {
        let gauge = |name: &str, help: &str| m.register(name, help, Gauge::default());
        Self {
            hits: gauge("worker_bundle_hits", "Bundles found in memory or on disk, since the start"),
            fetches: gauge("worker_bundle_fetches", "Bundles downloaded, since the start"),
            failures: gauge("worker_bundle_failures", "Bundles that could not be had, since the start"),
            evictions: gauge("worker_bundle_evictions", "Bundles removed from disk, since the start"),
            disk_bytes: gauge("worker_bundle_disk_bytes", "Bytes of unpacked bundles on disk"),
            signatures_refused: gauge(
                "worker_signatures_refused",
                "Times a bundle was refused for its signature, since the start",
            ),
            signatures_warned: gauge(
                "worker_signatures_warned",
                "Bundles that run although their signature does not count, since the start",
            ),
            compiles: gauge("worker_compiles", "Components compiled, since the start"),
            artifacts_loaded: gauge(
                "worker_artifacts_loaded",
                "Compiled artifacts taken from disk, since the start",
            ),
        }
    }

    /// Copies for ever.
    pub async fn follow(
        self,
        cache: std::sync::Arc<longshore_bundle::BundleCache>,
        executor: std::sync::Arc<crate::execute::Executor>,
    ) {
        let mut every = tokio::time::interval(std::time::Duration::from_secs(1));
        loop {
            every.tick().await;
            let value = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            let (bundles, engine) = (cache.stats().snapshot(), executor.stats());
            self.hits.set(value(bundles.hits + bundles.disk_hits));
            self.fetches.set(value(bundles.fetches));
            self.failures.set(value(bundles.failures));
            self.evictions.set(value(bundles.evictions));
            self.disk_bytes.set(value(bundles.disk_bytes));
            self.signatures_refused.set(value(bundles.signatures_refused));
            self.signatures_warned.set(value(bundles.signatures_warned));
            self.compiles.set(value(engine.compiles));
            self.artifacts_loaded.set(value(engine.artifact_hits));
        }
    }
}

/// Counters of outbound requests, copied once a second.
#[derive(Clone)]
pub struct EgressMetrics {
    open: Gauge,
    opened: Gauge,
    reused: Gauge,
    refused: Family<ReasonLabels, Gauge>,
}

impl EgressMetrics {
    /// Registers all of them.
    pub fn register(m: &Metrics) -> Self {
        let gauge = |name: &str, help: &str| m.register(name, help, Gauge::default());
        Self {
            open: gauge(
                "worker_egress_connections",
                "Connections to hosts that guests chose, idle ones included",
            ),
            opened: gauge("worker_egress_opened", "Such connections made, since the start"),
            reused: gauge(
                "worker_egress_reused",
                "Outbound requests on a connection of an earlier one, since the start",
            ),
            refused: m.register(
                "worker_egress_refused",
                "Outbound requests refused, by reason, since the start",
                Family::default(),
            ),
        }
    }

    /// Copies for ever.
    pub async fn follow(self, backends: std::sync::Arc<crate::host::backends::Backends>) {
        let mut every = tokio::time::interval(std::time::Duration::from_secs(1));
        loop {
            every.tick().await;
            let value = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            let stats = backends.egress.stats();
            self.open.set(value(stats.open));
            self.opened.set(value(stats.opened));
            self.reused.set(value(stats.reused));
            for (refusal, count) in stats.refused {
                self.refused.get_or_create(&ReasonLabels { reason: refusal.as_str() }).set(value(count));
            }
        }
    }
}
