//! The task between the queue and Redis.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longshore_proto::event::DebugEvent;
use longshore_service::lifecycle::Tasks;
use rand::RngExt as _;
use redis::Client;
use tokio_util::sync::CancellationToken;

use super::config::DebugConfig;
use super::course::Course;
use super::entry::Entry;
use super::metrics::DebugMetrics;
use super::queue::{Bounds, Queue};
use super::sink::{FIELDS_BYTES, Layout, Sink};
use crate::events::EventSink;

/// How long a batch that is not full waits for more.
const GATHER: Duration = Duration::from_millis(20);

/// Bytes of a pipeline: some 60 entries. Pipelines of 192 KiB and batches of 1,000 events made no difference that shows.
const PIPELINE_BYTES: usize = 64 << 10;

/// How often an idle connection is asked for a sign of life, so that a dead one is found before a batch is lost on it.
const PING_EVERY: Duration = Duration::from_secs(1);

/// Pauses between attempts to connect: doubled from the first to the last, each drawn from its upper half, so that
/// workers do not come back all at once.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Publishes debug events. Cheap to clone; [`EventSink::emit`] never waits and never fails.
#[derive(Clone)]
pub struct Publisher(Option<Arc<Shared>>);

struct Shared {
    queue: Arc<Queue>,
    metrics: DebugMetrics,
    layout: Layout,
    timeout: Duration,
    /// Write what waits, then end.
    stop: CancellationToken,
    /// The task has ended.
    ended: CancellationToken,
}

impl Publisher {
    /// Starts the task on the current runtime; without an address events go nowhere. Redis may be down: the task
    /// keeps trying for ever.
    ///
    /// The task is a background task of `tasks`: executions emit until the end of the drain, so whoever waited for
    /// the last of them then calls [`Publisher::close`].
    ///
    /// # Errors
    /// The address is none; [`DebugConfig`]'s own check has refused such a one already.
    pub fn start(
        config: &DebugConfig,
        metrics: DebugMetrics,
        tasks: &Tasks,
    ) -> Result<Self, redis::RedisError> {
        let Some(client) = config.address().transpose()? else {
            return Ok(Self(None));
        };
        // `rediss://` needs it.
        longshore_service::tls::install_provider();
        let bounds = Bounds {
            events: config.queue_events.get(),
            bytes: config.queue_bytes.as_usize(),
            event_bytes: config.max_event_bytes.as_usize(),
        };
        let layout = Layout {
            prefix: config.prefix.as_str().into(),
            maxlen: config.maxlen.get(),
            firehose: config
                .firehose
                .then(|| (DebugEvent::firehose_key(&config.prefix).into(), config.firehose_maxlen.get())),
        };
        let shared = Arc::new(Shared {
            queue: Arc::new(Queue::new(bounds, metrics.clone())),
            metrics,
            layout,
            timeout: config.timeout.get(),
            stop: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        let task = shared.clone();
        tasks.spawn_background("debug-publisher", async move {
            // Also when the task panics: nobody waits for it in vain.
            let _ended = task.ended.clone().drop_guard();
            task.run(client).await;
        });
        Ok(Self(Some(shared)))
    }

    /// Writes what waits, for `patience` at most, and ends the task. Events emitted afterwards are not written.
    pub async fn close(&self, patience: Duration) {
        let Some(shared) = &self.0 else { return };
        shared.stop.cancel();
        if tokio::time::timeout(patience, shared.ended.cancelled()).await.is_err() {
            tracing::warn!(
                events = shared.queue.len(),
                "debug events are left behind: Redis did not take them in time"
            );
        }
    }
}

impl EventSink for Publisher {
    fn emit(&self, event: DebugEvent) {
        if let Some(course) = self.for_run() {
            course.emit(event);
        }
    }

    fn for_run(&self) -> Option<Arc<dyn EventSink>> {
        let shared = self.0.as_ref()?;
        Some(Arc::new(Course::new(Arc::clone(&shared.queue))))
    }

    /// Without an address nothing becomes of the events, so nobody need record arguments and results for them.
    fn is_watched(&self) -> bool {
        self.0.is_some()
    }
}

/// Why publishing on a connection ended.
enum Ended {
    /// All is written and nobody wants more.
    Stopped,
    /// The connection is of no more use.
    Lost(redis::RedisError),
}

impl Shared {
    async fn run(&self, client: Client) {
        let mut pause = BACKOFF.0;
        // A server that stays away is said once, not at each attempt.
        let mut said = false;
        loop {
            // A connection that takes batches, not one that merely opens, ends the growth of the pause.
            let cause = match Sink::connect(&client, self.layout.clone(), self.timeout).await {
                Ok(sink) => {
                    self.metrics.connected.set(1);
                    tracing::info!("debug events go to Redis");
                    let began = tokio::time::Instant::now();
                    let ended = self.publish(sink).await;
                    self.metrics.connected.set(0);
                    if began.elapsed() > BACKOFF.1 {
                        pause = BACKOFF.0;
                    }
                    said = false;
                    match ended {
                        Ended::Stopped => return,
                        Ended::Lost(cause) => cause,
                    }
                }
                Err(cause) => cause,
            };
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(error = %cause, "Redis takes no debug events; trying on");
            }
            let stopping = self.stop.is_cancelled();
            let share = rand::rng().random_range(0.5..=1.0);
            tokio::select! {
                () = tokio::time::sleep(if stopping { BACKOFF.0 } else { pause.mul_f64(share) }) => {}
                // What waits gets another chance at once; whoever closes bounds how many more.
                () = self.stop.cancelled(), if !stopping => {}
            }
            if self.stop.is_cancelled() && self.queue.is_empty() {
                return;
            }
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    async fn publish(&self, mut sink: Sink) -> Ended {
        loop {
            if self.queue.is_empty() {
                if self.stop.is_cancelled() {
                    return Ended::Stopped;
                }
                tokio::select! {
                    () = self.queue.filled.notified() => {}
                    () = self.stop.cancelled() => {}
                    () = tokio::time::sleep(PING_EVERY) => {
                        if let Err(cause) = sink.ping().await {
                            return Ended::Lost(cause);
                        }
                    }
                }
                continue;
            }
            if !self.queue.is_due() && !self.stop.is_cancelled() {
                tokio::select! {
                    () = self.queue.batch.notified() => {}
                    () = self.stop.cancelled() => {}
                    () = tokio::time::sleep(GATHER) => {}
                }
            }
            if let Err(cause) = self.batch(&mut sink).await {
                return Ended::Lost(cause);
            }
        }
    }

    async fn batch(&self, sink: &mut Sink) -> Result<(), redis::RedisError> {
        // Should this future be dropped at the end of the process, the batch goes with it, as the process does.
        let entries = self.queue.take(now_ms());
        let mut result = Ok(());
        let mut pipelines = entries.chunk_by(pipelines(PIPELINE_BYTES));
        while let Some(pipeline) = pipelines.next() {
            let answers = match sink.write(pipeline).await {
                Ok(answers) => answers,
                Err(cause) => {
                    pipeline.iter().chain(pipelines.flatten()).for_each(|entry| self.lose(entry));
                    return Err(cause);
                }
            };
            for (entry, answer) in pipeline.iter().zip(answers) {
                match answer {
                    // An announcement is an entry, too.
                    Ok(()) => {
                        let _ = self.metrics.published.inc_by(entry.count.events.max(1));
                    }
                    // Somebody keeps something else under this key. To announce it there would fail as well, for ever.
                    Err(refused) if refused.code() == Some("WRONGTYPE") => {
                        let _ = self.metrics.dropped.inc_by(entry.count.events.max(1));
                    }
                    // A server that takes nothing (read-only, out of memory) is as good as gone: events wait for a better
                    // one instead of being lost at the speed at which they come.
                    Err(refused) => {
                        self.lose(entry);
                        result = Err(refused);
                    }
                }
            }
        }
        result
    }

    fn lose(&self, entry: &Entry) {
        self.queue.lose(entry.event.origin.clone(), entry.count);
    }
}

/// For `chunk_by`: whether the second of two neighbours still belongs into the pipeline of the first.
fn pipelines(max: usize) -> impl FnMut(&Entry, &Entry) -> bool {
    let mut bytes = 0;
    move |first, second| {
        bytes += FIELDS_BYTES + first.bytes();
        let fits = bytes + FIELDS_BYTES + second.bytes() <= max;
        if !fits {
            bytes = 0;
        }
        fits
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
