//! Traces of recorded runs on their way to Redis and the bundle store, without ever holding up an execution.
//!
//! ```text
//! take (threads of guests) -> queue (bounded, never waits) -> one task: packs, payloads to the bundle store, batches to Redis
//! ```
//! Unlike events, a trace may be sent twice: the store knows it by execution and attempt. So a batch without an answer is tried again, for as
//! long as it takes; meanwhile the queue fills, and what finds no room is dropped and counted.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use longshore_bundle::BundleStore;
use longshore_proto::BootId;
use longshore_proto::trace::EngineInfo;
use longshore_secrets::tokens::{Policy, TokenKey};
use longshore_service::config::{ByteSize, ConfigErrors};
use longshore_service::errors::chain;
use longshore_service::lifecycle::Tasks;
use longshore_service::metrics::Metrics;
use longshore_trace::{Packed, TraceStore, TraceStoreError, payloads};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::config::DebugConfig;
use crate::host::recorder::Recorded;
use crate::recording::{Pack, Recording, TraceSink};

/// Traces that go to Redis in one round trip.
const BATCH: usize = 64;
/// How long a batch that is not full waits for more. Each batch costs two changes of threads and a call of Redis' script, which is most of what
/// a small trace costs.
const GATHER: Duration = Duration::from_millis(20);
/// How long the bundle store may take for one payload. Longer than Redis: payloads have up to 64 MiB.
const PAYLOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Pauses between attempts: doubled from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// What a waiting trace weighs besides what it holds: its recorder, the answer, its place in the queue.
const TRACE_COST: usize = 2 << 10;

longshore_service::settings! {
    /// How runs are recorded. Traces go to the Redis of the debug events (`RUNNER_DEBUG_REDIS_URL`), large payloads to the bundle store.
    pub struct RecordingConfig, group "Recording", validate check {
        /// Bytes that the trace of one run may hold before it is packed; what is over is left out, and the trace says after which host call.
        pub max_run_bytes: ByteSize = "8MiB", env "LONGSHORE_TRACE_MAX_RUN_BYTES";
        /// Traces that wait for Redis at most; more are dropped and counted.
        pub queue_traces: NonZeroUsize = "2000", env "LONGSHORE_TRACE_QUEUE_TRACES";
        /// Bytes of waiting traces at most.
        pub queue_bytes: ByteSize = "64MiB", env "LONGSHORE_TRACE_QUEUE_BYTES";
        /// A key file (`longshore keys`): equal secrets get equal tokens in the traces of all workers that have it. Unset: a key of this process alone.
        pub key_file: Option<PathBuf>, env "LONGSHORE_REDACT_KEY_FILE";
        /// What else than secrets is replaced by tokens: JSON paths of bodies, header names, regular expressions. Unset: the built-in policy.
        pub policy_file: Option<PathBuf>, env "LONGSHORE_REDACT_POLICY_FILE";
    }
}

fn check(config: &RecordingConfig, errors: &mut ConfigErrors) {
    if config.max_run_bytes.bytes() < 1 << 20 {
        errors.invalid("LONGSHORE_TRACE_MAX_RUN_BYTES", config.max_run_bytes, "at least 1MiB");
    }
    if config.queue_bytes.bytes() < config.max_run_bytes.bytes() {
        errors.other("LONGSHORE_TRACE_QUEUE_BYTES is less than LONGSHORE_TRACE_MAX_RUN_BYTES: no large trace would ever be kept");
    }
    if let Err(error) = config.redaction() {
        errors.other(error);
    }
}

impl RecordingConfig {
    /// The key and the policy of tokens.
    ///
    /// # Errors
    /// In words that name the setting: a file is missing or is not what it must be.
    pub fn redaction(&self) -> Result<(TokenKey, Arc<Policy>), String> {
        let key = match &self.key_file {
            Some(path) => TokenKey::load(path).map_err(|error| {
                format!("LONGSHORE_REDACT_KEY_FILE ({}): {}", path.display(), chain(&error))
            })?,
            None => TokenKey::random(),
        };
        let policy = match &self.policy_file {
            Some(path) => Policy::load(path).map_err(|error| {
                format!("LONGSHORE_REDACT_POLICY_FILE ({}): {}", path.display(), chain(&error))
            })?,
            None => Policy::standard(),
        };
        Ok((key, Arc::new(policy)))
    }

    /// How this process records into `sink`.
    ///
    /// # Errors
    /// As [`Self::redaction`].
    pub fn recording(
        &self,
        sink: Arc<dyn TraceSink>,
        worker: BootId,
        engine: EngineInfo,
    ) -> Result<Recording, String> {
        let (key, policy) = self.redaction()?;
        Ok(Recording { sink, key, policy, max_run_bytes: self.max_run_bytes.as_usize(), worker, engine })
    }
}

/// Metrics of the trace publisher. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct TraceMetrics {
    published: Counter,
    dropped: Counter,
    queue_traces: Gauge,
    queue_bytes: Gauge,
}

impl TraceMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            published: metrics.register(
                "worker_traces_published",
                "Traces of recorded runs written to Redis",
                Counter::default(),
            ),
            dropped: metrics.register(
                "worker_traces_dropped",
                "Traces lost: the queue was full, they were too large, Redis or the bundle store refused them, or the process ended first",
                Counter::default(),
            ),
            queue_traces: metrics.register(
                "worker_traces_queue",
                "Traces that wait for Redis",
                Gauge::default(),
            ),
            queue_bytes: metrics.register(
                "worker_traces_queue_bytes",
                "Bytes of traces that wait for Redis",
                Gauge::default(),
            ),
        }
    }
}

/// Publishes traces. Cheap to clone; [`TraceSink::take`] never waits and never fails.
#[derive(Clone)]
pub struct TracePublisher(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    bounds: (usize, usize),
    /// There is something.
    filled: Notify,
    /// See [`Shared::is_due`].
    full: Notify,
    metrics: TraceMetrics,
    /// Write what waits, then end.
    stop: CancellationToken,
    /// End now, whatever waits.
    abandon: CancellationToken,
    /// The task has ended.
    ended: CancellationToken,
}

#[derive(Default)]
struct Queue {
    traces: VecDeque<(Pack, usize)>,
    bytes: usize,
    /// Taken out, and neither published nor dropped yet.
    under_way: usize,
}

/// Where traces go.
struct Stores {
    traces: TraceStore,
    payloads: Arc<dyn BundleStore>,
}

impl TracePublisher {
    /// Starts the task on the current runtime; none where debug events are off, since there is no Redis then.
    ///
    /// # Errors
    /// The address of Redis is none; [`DebugConfig`]'s own check has refused such a one already.
    pub fn start(
        config: &RecordingConfig,
        debug: &DebugConfig,
        settings: &longshore_trace::TraceSettings,
        payloads: Arc<dyn BundleStore>,
        metrics: TraceMetrics,
        tasks: &Tasks,
    ) -> Result<Option<Self>, redis::RedisError> {
        let Some(client) = debug.address().transpose()? else { return Ok(None) };
        // `rediss://` needs it.
        longshore_service::tls::install_provider();
        let stores = Stores { traces: TraceStore::new(client, settings), payloads };
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            bounds: (config.queue_traces.get(), config.queue_bytes.as_usize()),
            filled: Notify::new(),
            full: Notify::new(),
            metrics,
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        let task = Arc::clone(&shared);
        tasks.spawn_background("trace-publisher", async move {
            // Also when the task panics or is dropped: nobody waits for it in vain, and what it leaves is counted.
            let _ends = Ends(&task);
            let _ = task.abandon.run_until_cancelled(task.run(&stores)).await;
        });
        Ok(Some(Self(shared)))
    }

    /// Writes what waits, for `patience` at most, and ends the task. Traces that are left, and those that come afterwards, are dropped and
    /// counted; one that is on its way then may arrive all the same.
    pub async fn close(&self, patience: Duration) {
        self.0.stop.cancel();
        if tokio::time::timeout(patience, self.0.ended.cancelled()).await.is_err() {
            self.0.abandon.cancel();
            self.0.end();
        }
    }
}

impl TraceSink for TracePublisher {
    fn take(&self, bytes: usize, pack: Pack) {
        let shared = &self.0;
        let cost = bytes.saturating_add(TRACE_COST);
        let (first, due) = {
            let mut queue = shared.queue.lock();
            let (traces, limit) = shared.bounds;
            // What is dropped is dropped without the lock: a trace may hold megabytes.
            if queue.traces.len() >= traces
                || queue.bytes.saturating_add(cost) > limit
                || shared.ended.is_cancelled()
            {
                drop(queue);
                shared.metrics.dropped.inc();
                return;
            }
            queue.bytes += cost;
            queue.traces.push_back((pack, cost));
            shared.show(&queue);
            (queue.traces.len() == 1, shared.is_due(&queue))
        };
        if first {
            shared.filled.notify_one();
        }
        if due {
            shared.full.notify_one();
        }
    }
}

/// The task, while it is there.
struct Ends<'s>(&'s Shared);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Shared {
    /// Takes no more, and counts what is left as lost. Again, it finds nothing.
    fn end(&self) {
        // First, and asked for behind the lock: what comes from now on is refused, so nothing is left uncounted.
        self.ended.cancel();
        let left = {
            let mut queue = self.queue.lock();
            let left = std::mem::take(&mut *queue);
            self.show(&queue);
            left
        };
        let traces = left.traces.len() + left.under_way;
        if traces > 0 {
            self.metrics.dropped.inc_by(traces as u64);
            tracing::warn!(traces, "traces are left behind: they were not written before the process ended");
        }
    }

    /// So many of those that are under way have come to their end, this many of them lost.
    fn settle(&self, traces: usize, lost: usize) {
        let mut queue = self.queue.lock();
        // None: the end came first, and has counted them.
        let lost = lost.min(queue.under_way);
        queue.under_way = queue.under_way.saturating_sub(traces);
        self.metrics.dropped.inc_by(lost as u64);
    }

    /// Whether to wait for more would be to lose it: there is a whole batch, or half of what has room.
    fn is_due(&self, queue: &Queue) -> bool {
        let (traces, bytes) = self.bounds;
        queue.traces.len() >= BATCH.min(traces.div_ceil(2)) || queue.bytes >= bytes / 2
    }

    fn show(&self, queue: &Queue) {
        self.metrics.queue_traces.set(i64::try_from(queue.traces.len()).unwrap_or(i64::MAX));
        self.metrics.queue_bytes.set(i64::try_from(queue.bytes).unwrap_or(i64::MAX));
    }

    async fn run(&self, stores: &Stores) {
        let mut pause = BACKOFF.0;
        loop {
            let (waiting, due) = {
                let queue = self.queue.lock();
                (!queue.traces.is_empty(), self.is_due(&queue))
            };
            if !waiting {
                if self.stop.is_cancelled() {
                    return;
                }
                tokio::select! {
                    () = self.filled.notified() => {}
                    () = self.stop.cancelled() => {}
                }
                continue;
            }
            if !due && !self.stop.is_cancelled() {
                tokio::select! {
                    () = self.full.notified() => {}
                    () = self.stop.cancelled() => {}
                    () = tokio::time::sleep(GATHER) => {}
                }
            }
            let batch = self.next();
            let mut batch = self.packed(stores, batch).await;
            while !batch.is_empty() {
                match stores.traces.publish_all(&batch).await {
                    Ok(results) => {
                        self.count(&results);
                        batch.clear();
                        pause = BACKOFF.0;
                    }
                    Err(error) => {
                        tracing::warn!(
                            error = chain(&error).to_string(),
                            traces = batch.len(),
                            "traces wait for Redis"
                        );
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(BACKOFF.1);
                    }
                }
            }
        }
    }

    /// The next traces, out of the queue.
    fn next(&self) -> Vec<Pack> {
        let mut queue = self.queue.lock();
        let count = queue.traces.len().min(BATCH);
        let taken: Vec<_> = queue.traces.drain(..count).collect();
        let bytes: usize = taken.iter().map(|(_, cost)| cost).sum();
        queue.bytes = queue.bytes.saturating_sub(bytes);
        queue.under_way += count;
        self.show(&queue);
        taken.into_iter().map(|(pack, _)| pack).collect()
    }

    /// Packs them, off the threads that serve others, and puts their payloads where they belong: a trace that is in the list has them.
    async fn packed(&self, stores: &Stores, batch: Vec<Pack>) -> Vec<Packed> {
        let count = batch.len();
        let packing =
            tokio::task::spawn_blocking(move || batch.into_iter().map(|pack| pack()).collect::<Vec<_>>());
        let Ok(recorded) = packing.await else {
            tracing::error!(traces = count, "packing traces ended early");
            self.settle(count, count);
            return Vec::new();
        };
        let mut packed = Vec::with_capacity(count);
        for recorded in recorded {
            let kept = match recorded {
                Ok(recorded) => put(stores, recorded).await,
                Err(error) => Err(error.to_string()),
            };
            match kept {
                Ok(trace) => packed.push(trace),
                Err(error) => {
                    tracing::warn!(error, "a trace is dropped");
                    self.settle(1, 1);
                }
            }
        }
        packed
    }

    fn count(&self, results: &[Result<bool, TraceStoreError>]) {
        let mut lost = 0;
        for result in results {
            match result {
                Ok(_) => {
                    self.metrics.published.inc();
                }
                // Refused by a server that is there: too large, no memory, read-only. It would refuse it again.
                Err(error) => {
                    tracing::warn!(error = chain(error).to_string(), "a trace is refused");
                    lost += 1;
                }
            }
        }
        self.settle(results.len(), lost);
    }
}

/// Puts a trace's payloads into the bundle store.
async fn put(stores: &Stores, recorded: Recorded) -> Result<Packed, String> {
    let Recorded { packed, payloads: large } = recorded;
    for bytes in large.into_values() {
        let putting = payloads::put(&*stores.payloads, &packed.tenant, bytes);
        match tokio::time::timeout(PAYLOAD_TIMEOUT, putting).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(chain(&error).to_string()),
            Err(_) => return Err("the bundle store did not take a payload in time".to_owned()),
        }
    }
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use longshore_trace::PackError;

    use super::*;

    fn publisher(traces: usize, bytes: usize) -> TracePublisher {
        TracePublisher(Arc::new(Shared {
            queue: Mutex::default(),
            bounds: (traces, bytes),
            filled: Notify::new(),
            full: Notify::new(),
            metrics: TraceMetrics::default(),
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
            ended: CancellationToken::new(),
        }))
    }

    fn never() -> Pack {
        Box::new(|| Err(PackError::NoHeader))
    }

    #[test]
    fn a_full_queue_drops_and_counts_what_comes() {
        let publisher = publisher(3, 1 << 20);
        (0..5).for_each(|_| publisher.take(100, never()));
        assert_eq!(publisher.0.metrics.dropped.get(), 2);
        assert_eq!(publisher.0.metrics.queue_traces.get(), 3);
        assert_eq!(publisher.0.next().len(), 3);
        assert_eq!(publisher.0.metrics.queue_bytes.get(), 0);
        publisher.take(100, never());
        assert_eq!(publisher.0.metrics.dropped.get(), 2, "there is room again");
    }

    #[test]
    fn a_trace_that_alone_has_more_bytes_than_the_queue_is_dropped() {
        let publisher = publisher(3, 10_000);
        publisher.take(20_000, never());
        publisher.take(5_000, never());
        assert_eq!(publisher.0.metrics.dropped.get(), 1);
        assert_eq!(publisher.0.metrics.queue_traces.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_when_the_process_ends_is_counted_once() {
        let publisher = publisher(10, 1 << 20);
        (0..5).for_each(|_| publisher.take(100, never()));
        // Some are on their way to a Redis that does not answer.
        assert_eq!(publisher.0.next().len(), 5);
        (0..3).for_each(|_| publisher.take(100, never()));
        publisher.0.settle(1, 1);
        assert_eq!(publisher.0.metrics.dropped.get(), 1);
        publisher.close(Duration::from_secs(1)).await;
        assert_eq!(publisher.0.metrics.dropped.get(), 8);
        assert_eq!(publisher.0.metrics.queue_traces.get(), 0);
        // What comes to its end afterwards has been counted, and what comes now is refused.
        publisher.0.settle(4, 4);
        drop(Ends(&publisher.0));
        assert_eq!(publisher.0.metrics.dropped.get(), 8);
        publisher.take(100, never());
        assert_eq!(publisher.0.metrics.dropped.get(), 9);
    }

    #[tokio::test]
    async fn a_task_that_has_written_everything_leaves_nothing_to_count() {
        let publisher = publisher(10, 1 << 20);
        publisher.take(100, never());
        assert_eq!(publisher.0.next().len(), 1);
        publisher.0.count(&[Ok(true)]);
        drop(Ends(&publisher.0));
        publisher.close(Duration::from_secs(60)).await;
        assert_eq!((publisher.0.metrics.published.get(), publisher.0.metrics.dropped.get()), (1, 0));
    }

    #[test]
    fn nothing_is_taken_when_nobody_publishes_any_more() {
        let publisher = publisher(3, 1 << 20);
        publisher.0.ended.cancel();
        publisher.take(100, never());
        assert_eq!(publisher.0.metrics.dropped.get(), 1);
    }

    #[test]
    fn the_documented_settings_are_read_and_wrong_files_are_named() {
        let load = |pairs: &[(&str, &str)]| {
            let env: std::collections::BTreeMap<String, String> =
                pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            RecordingConfig::load(&env, ["worker".to_owned()]).map_err(|e| e.to_string())
        };
        let config = load(&[]).unwrap();
        assert_eq!((config.max_run_bytes.bytes(), config.queue_traces.get()), (8 << 20, 2_000));
        for name in ["LONGSHORE_REDACT_KEY_FILE", "LONGSHORE_REDACT_POLICY_FILE"] {
            let error = load(&[(name, "/nowhere/at/all")]).unwrap_err();
            assert!(error.contains(name) && error.contains("/nowhere/at/all"), "{error}");
        }
        let error = load(&[("LONGSHORE_TRACE_QUEUE_BYTES", "4MiB")]).unwrap_err();
        assert!(error.contains("LONGSHORE_TRACE_QUEUE_BYTES"), "{error}");
    }
}
