//! The worker's executor with everything that a host call passes: its linker, its metrics, its publisher of debug
//! events with a Redis behind it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use longshore_egress::{Egress, EgressConfig, EgressRules, SystemResolver};
use longshore_proto::event::DebugEvent;
use longshore_service::lifecycle::Tasks;
use longshore_service::metrics::Metrics;
use longshore_worker::debug::{DebugConfig, DebugMetrics, Publisher};
use longshore_worker::engine::config::EngineConfig;
use longshore_worker::events::EventSink;
use longshore_worker::execute::{Executor, ExecutorConfig};
use longshore_worker::host::backends::{Backends, HostMetrics};

use super::Round;
use super::subject::{AtHand, Subject};
use crate::redis::Redis;

/// How long Redis may take to get all events of one measurement.
const WRITTEN: Duration = Duration::from_secs(60);
/// Between two looks whether it has.
const POLL: Duration = Duration::from_millis(2);

/// See the module.
pub struct Gated {
    executor: Executor,
    sink: Arc<Switch>,
    metrics: Metrics,
    subject: Arc<Subject>,
    // They end in this order.
    _tasks: Tasks,
    _redis: Redis,
}

/// One executor for both sides: off it is what a worker without Redis has.
struct Switch {
    publisher: Publisher,
    on: AtomicBool,
}

impl EventSink for Switch {
    fn emit(&self, event: DebugEvent) {
        if self.on.load(Relaxed) {
            self.publisher.emit(event);
        }
    }

    fn is_watched(&self) -> bool {
        self.on.load(Relaxed) && self.publisher.is_watched()
    }

    fn for_run(&self) -> Option<Arc<dyn EventSink>> {
        self.is_watched().then(|| self.publisher.for_run())?
    }
}

impl Gated {
    /// Starts Redis and what writes to it.
    pub async fn start(subject: Arc<Subject>) -> anyhow::Result<Self> {
        let redis = Redis::start(subject.folder()).await?;
        let (metrics, tasks) = (Metrics::new("bench"), Tasks::new());
        let settings = BTreeMap::from([("RUNNER_DEBUG_REDIS_URL".to_owned(), redis.url())]);
        let config = DebugConfig::load(&settings, ["longshore-bench".to_owned()])?;
        let publisher = Publisher::start(&config, DebugMetrics::register(&metrics), &tasks)?;
        let sink = Arc::new(Switch { publisher, on: AtomicBool::new(false) });
        let rules = EgressRules::from_variable::<&str>(&[]).context("egress")?;
        let egress = EgressConfig { rules, ..EgressConfig::default() };
        let backends = Backends {
            egress: Egress::new(egress, Arc::new(SystemResolver))?,
            secrets: subject.opener()?,
            storage: Some(Arc::new(AtHand)),
            schedules: None,
            platform: None,
            ui_proxy: None,
            metrics: HostMetrics::register(&metrics),
        };
        let engine = EngineConfig { slots: 1, ..EngineConfig::new(subject.folder()) };
        let mut config = ExecutorConfig::new(engine);
        config.maxima.host_calls = u64::MAX;
        let source = Arc::clone(&subject);
        let executor = Executor::new(config, source, Arc::clone(&sink) as _, Arc::new(backends))?;
        Ok(Self { executor, sink, metrics, subject, _tasks: tasks, _redis: redis })
    }

    /// One measurement, with or without debug events.
    pub async fn run(&self, function: &str, watched: bool) -> anyhow::Result<Round> {
        self.sink.on.store(watched, Relaxed);
        let outcome = self.executor.execute(self.subject.job(function)).await;
        let answer = outcome.result?;
        self.subject.check(answer.status, answer.body.as_deref())?;
        let (usage, calls) = (outcome.usage, self.subject.calls as f64);
        anyhow::ensure!(usage.host_calls == self.subject.calls, "{} host calls counted", usage.host_calls);
        let ns = |us: u64| us as f64 * 1e3 / calls;
        Ok(Round { ns: ns(usage.handler_us), cpu_ns: ns(usage.cpu_us) })
    }

    /// Waits until Redis has all events so far: the next measurement should not pay for the last one.
    pub async fn written(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.metric("longshore_worker_debug_queue_events")? > 0 {
            anyhow::ensure!(began.elapsed() < WRITTEN, "Redis does not take the debug events");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits for the last events; gives how many were lost.
    pub async fn end(&self) -> anyhow::Result<u64> {
        self.written().await?;
        self.sink.publisher.close(WRITTEN).await;
        self.metric("longshore_worker_debug_dropped_total")
    }

    fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let page = self.metrics.render()?;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.with_context(|| format!("there is no metric {name}"))
    }
}
