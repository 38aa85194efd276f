//! Metrics in the OpenMetrics text format, with documented names.
//!
//! Everything of Longshore's own is named `longshore_...`; what any process has (`process_...`) keeps its usual name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
pub use prometheus_client;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds for the time a call or a part of it takes: from a warm call (below 1 ms) to the longest allowed (300 s).
pub const LATENCY_BUCKETS: [f64; 18] = [
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0, 30.0,
    100.0, 300.0,
];

const PREFIX: &str = "longshore";

/// The metrics of a process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Inner>>);

struct Inner {
    process: Registry,
    own: Registry,
    documented: BTreeMap<String, String>,
}

impl Metrics {
    /// Metrics of a process with this role; `process_...` and `longshore_build_info{role,version}` are there from the start.
    pub fn new(role: &'static str) -> Self {
        let mut process = Registry::default();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        process.register_collector(Box::new(Process { started }));
        let inner = Inner { process, own: Registry::with_prefix(PREFIX), documented: BTreeMap::new() };
        let metrics = Self(Arc::new(Mutex::new(inner)));
        metrics.register(
            "build",
            "Role and version of this process",
            SharedInfo(Arc::new(Info::new(vec![("role", role), ("version", env!("CARGO_PKG_VERSION"))]))),
        );
        metrics
    }

    /// Registers `longshore_<name>` (a counter's name gets `_total` when rendered) and returns the metric.
    ///
    /// A name can be registered once; a second one would make the whole page unreadable, so it is logged and not exported.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        let mut inner = self.0.lock();
        if inner.documented.contains_key(&format!("{PREFIX}_{name}")) {
            tracing::error!(name, "a metric of this name is registered already; this one is not exported");
            return metric;
        }
        inner.documented.insert(format!("{PREFIX}_{name}"), help.to_owned());
        // The library ends the text with a full stop itself.
        inner.own.register(name, help.trim_end_matches('.'), metric.clone());
        metric
    }

    /// Name and help of everything registered, sorted by name, for documentation.
    pub fn documented(&self) -> Vec<(String, String)> {
        self.0.lock().documented.iter().map(|(name, help)| (name.clone(), help.clone())).collect()
    }

    /// The page for `/metrics`, to be sent as [`CONTENT_TYPE`].
    pub fn render(&self) -> Result<String, fmt::Error> {
        let inner = self.0.lock();
        let mut page = String::new();
        text::encode_registry(&mut page, &inner.process)?;
        text::encode_registry(&mut page, &inner.own)?;
        text::encode_eof(&mut page)?;
        Ok(page)
    }
}

/// `Info` cannot be cloned, which [`Metrics::register`] asks for.
#[derive(Clone, Debug)]
struct SharedInfo(Arc<Info<Vec<(&'static str, &'static str)>>>);

impl EncodeMetric for SharedInfo {
    fn encode(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
    fn metric_type(&self) -> prometheus_client::metrics::MetricType {
        self.0.metric_type()
    }
}

/// What the system says about this process, asked at each scrape.
#[derive(Debug)]
struct Process {
    started: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut put = |name: &str, help: &str, metric: &dyn DynMetric| metric.put(&mut encoder, name, help);
        put(
            "process_start_time_seconds",
            "Start of the process, in seconds since 1970",
            &ConstGauge::new(self.started),
        )?;
        // A system without /proc has no values; a wrong one would be worse than none.
        if let Some(rss) = resident_bytes() {
            put("process_resident_memory_bytes", "Memory in use", &ConstGauge::new(rss))?;
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            put("process_open_fds", "Open file descriptors", &ConstGauge::new(entries.count() as u64))?;
        }
        if let Some((threads, cpu)) = threads_and_cpu() {
            put("process_threads", "Threads", &ConstGauge::new(threads))?;
            put("process_cpu_seconds", "CPU time used", &ConstCounter::new(cpu))?;
        }
        Ok(())
    }
}

/// Lets one closure write gauges of several number types.
trait DynMetric {
    fn put(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result;
}

impl<M: EncodeMetric> DynMetric for M {
    fn put(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result {
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn threads_and_cpu() -> Option<(u64, f64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may contain blanks; counting starts after it, at field 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = number(14)? + number(15)?;
    Some((number(20)?, ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    #[test]
    fn own_metrics_have_the_prefix_and_process_metrics_their_usual_names() {
        let metrics = Metrics::new("worker");
        let calls: Counter = metrics.register("calls", "Calls answered.", Counter::default());
        calls.inc_by(3);
        let page = metrics.render().unwrap();
        for line in [
            "longshore_calls_total 3",
            "# HELP longshore_calls Calls answered.",
            "longshore_build_info{role=\"worker\",version=\"0.1.0\"} 1",
            "# TYPE process_start_time_seconds gauge",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is missing in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
        for name in [
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_threads",
            "process_cpu_seconds_total",
        ] {
            let line = page.lines().find(|l| l.starts_with(&format!("{name} "))).expect(name);
            let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(value >= 0.0, "{line}");
        }
    }

    #[test]
    fn a_second_metric_of_the_same_name_does_not_spoil_the_page() {
        let metrics = Metrics::new("shim");
        let first: Gauge = metrics.register("waiting", "Calls waiting", Gauge::default());
        let second: Gauge = metrics.register("waiting", "Calls waiting", Gauge::default());
        first.set(1);
        second.set(2);
        let page = metrics.render().unwrap();
        assert_eq!(
            page.lines().filter(|l| l.starts_with("longshore_waiting ")).collect::<Vec<_>>(),
            ["longshore_waiting 1"]
        );
    }

    #[test]
    fn documentation_lists_every_registered_name() {
        let metrics = Metrics::new("shim");
        metrics.register("waiting", "Calls waiting", Gauge::<i64>::default());
        let names: Vec<_> = metrics.documented().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["longshore_build", "longshore_waiting"]);
    }
}
