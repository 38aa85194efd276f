//! Events on their way to Redis: bounded in number and bytes, filled without waiting, with a count of what was lost.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use longshore_proto::event::{Data, DebugEvent, Kind, Level, Origin, Stream};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::course::Course;
use super::entry::{Count, Entry};
use super::metrics::DebugMetrics;

/// Events of a batch, about: what a run has waiting is taken at once.
pub(super) const BATCH_EVENTS: usize = 500;

/// Streams whose losses are counted apart; the losses of more are counted together.
const MAX_LOSING_STREAMS: usize = 1_024;

/// Bounds of the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub events: usize,
    pub bytes: usize,
    pub event_bytes: usize,
}

/// What waits.
#[derive(Debug)]
pub(super) enum Item {
    /// A run has something.
    Run(Course),
    /// So many events of this origin were lost here.
    Lost { origin: Option<Arc<Origin>>, count: u64 },
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    /// Events that wait, in whatever run.
    events: AtomicUsize,
    /// What they weigh.
    bytes: AtomicUsize,
    bounds: Bounds,
    metrics: DebugMetrics,
    /// There is something.
    pub(super) filled: Notify,
    /// See [`Self::is_due`].
    pub(super) batch: Notify,
}

/// Tenant and extension; none for what belongs to nobody, and for those above [`MAX_LOSING_STREAMS`].
type Loser = Option<(String, String)>;

#[derive(Debug, Default)]
struct Inner {
    items: VecDeque<Item>,
    /// Not announced yet, by tenant and extension.
    lost: HashMap<Loser, (Option<Arc<Origin>>, u64)>,
}

impl Queue {
    pub(super) fn new(bounds: Bounds, metrics: DebugMetrics) -> Self {
        Self {
            inner: Mutex::default(),
            events: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            bounds,
            metrics,
            filled: Notify::new(),
            batch: Notify::new(),
        }
    }

    /// Takes room for an event that weighs `cost`; false if there is none.
    pub(super) fn hold(&self, cost: usize) -> bool {
        let (events, bytes) = (self.events.fetch_add(1, Relaxed), self.bytes.fetch_add(cost, Relaxed));
        if events >= self.bounds.events || bytes + cost > self.bounds.bytes {
            self.free(1, cost);
            return false;
        }
        let (few, light) = self.due();
        // Said once, by the one that makes it so.
        if events + 1 == few || (bytes < light && bytes + cost >= light) {
            self.batch.notify_one();
        }
        true
    }

    fn free(&self, events: usize, bytes: usize) {
        self.events.fetch_sub(events, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    /// There was no room for an event.
    pub(super) fn refuse(&self, origin: Option<Arc<Origin>>) {
        self.lose(origin, Count { events: 1, lost: 1 });
    }

    /// Something waits. The lock is held for no more than that.
    pub(super) fn push(&self, item: Item) {
        let first = {
            let mut inner = self.inner.lock();
            inner.items.push_back(item);
            inner.items.len() == 1
        };
        self.show();
        if first {
            self.filled.notify_one();
        }
    }

    /// Whether to wait for more would be to lose it: there is a whole batch, or half of what has room.
    pub(super) fn is_due(&self) -> bool {
        let (events, bytes) = self.due();
        self.events.load(Relaxed) >= events || self.bytes.load(Relaxed) >= bytes
    }

    /// From how many events and bytes on.
    fn due(&self) -> (usize, usize) {
        (BATCH_EVENTS.min(self.bounds.events.div_ceil(2)), self.bounds.bytes / 2)
    }

    /// The next batch, as it is written at `now_ms`; empty when there is nothing. Losses so far are announced behind what waits already.
    pub(super) fn take(&self, now_ms: u64) -> Vec<Entry> {
        self.show();
        {
            let mut inner = self.inner.lock();
            let lost = std::mem::take(&mut inner.lost);
            inner.items.extend(lost.into_values().map(|(origin, count)| Item::Lost { origin, count }));
        }
        let mut batch = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        while events < BATCH_EVENTS {
            // Each with the lock to itself: a run's own lock is never asked for under this one.
            let Some(item) = self.inner.lock().items.pop_front() else { break };
            match item {
                Item::Run(course) => {
                    for entry in course.take() {
                        events += usize::try_from(entry.count.events).unwrap_or_default();
                        bytes += entry.cost;
                        batch.push(entry.closed());
                    }
                }
                Item::Lost { origin, count } => {
                    events += 1;
                    batch.push(Entry::of_losses(announcement(origin, count, now_ms), count));
                }
            }
        }
        let announced = batch.iter().filter(|entry| entry.count.events == 0).count();
        self.free(events - announced, bytes);
        self.show();
        batch
    }

    /// What Redis did not take, or had no room here. It is announced with the next batch; a lost announcement loses nothing new.
    pub(super) fn lose(&self, origin: Option<Arc<Origin>>, count: Count) {
        self.metrics.dropped.inc_by(count.events);
        self.inner.lock().lose(origin, count.lost);
    }

    /// Bytes that one event's message and data may have.
    pub(super) fn event_bytes(&self) -> usize {
        self.bounds.event_bytes
    }

    /// Nothing waits and nothing is to be announced.
    pub(super) fn is_empty(&self) -> bool {
        let inner = self.inner.lock();
        inner.items.is_empty() && inner.lost.is_empty()
    }

    /// Events that wait.
    pub(super) fn len(&self) -> usize {
        self.events.load(Relaxed)
    }

    fn show(&self) {
        let shown = |count: &AtomicUsize| i64::try_from(count.load(Relaxed)).unwrap_or(i64::MAX);
        self.metrics.queue_events.set(shown(&self.events));
        self.metrics.queue_bytes.set(shown(&self.bytes));
    }
}

/// What a stream is told of its losses.
fn announcement(origin: Option<Arc<Origin>>, count: u64, now_ms: u64) -> DebugEvent {
    DebugEvent {
        origin,
        at_ms: now_ms,
        level: Level::Warn,
        stream: Stream::Log,
        kind: Kind::Dropped,
        message: format!("{count} debug events were lost before this one"),
        truncated: false,
        data: Some(Data::from_object(format!("{{\"count\":{count}}}"))),
    }
}

impl Inner {
    fn lose(&mut self, origin: Option<Arc<Origin>>, count: u64) {
        let key = origin.as_ref().map(|o| (o.tenant.as_str().to_owned(), o.extension.as_str().to_owned()));
        let room = self.lost.len() < MAX_LOSING_STREAMS || self.lost.contains_key(&key);
        let (key, origin) = if room { (key, origin) } else { (None, None) };
        self.lost.entry(key).or_insert((origin, 0)).1 += count;
    }
}

#[cfg(test)]
mod tests {
    use longshore_proto::{ContentHash, ExecutionId};

    use super::super::course::EVENT_COST;
    use super::*;
    use crate::events::EventSink as _;

    /// As an event of a run of its own.
    fn push(queue: &Arc<Queue>, event: DebugEvent) {
        Course::new(Arc::clone(queue)).emit(event);
    }

    fn event(tenant: &str, message: &str) -> DebugEvent {
        DebugEvent {
            origin: Some(Arc::new(Origin {
                tenant: tenant.parse().unwrap(),
                extension: "e".parse().unwrap(),
                install: None,
                request: None,
                version: None,
                content_hash: ContentHash::from_bytes([1; 32]),
                execution: ExecutionId::from_bytes([2; 16]),
                attempt: 1,
            })),
            at_ms: 0,
            level: Level::Info,
            stream: Stream::Log,
            kind: Kind::Log,
            message: message.to_owned(),
            truncated: false,
            data: None,
        }
    }

    fn queue(events: usize, bytes: usize) -> Arc<Queue> {
        Arc::new(Queue::new(Bounds { events, bytes, event_bytes: 1_000 }, DebugMetrics::default()))
    }

    fn shown(batch: Vec<Entry>) -> Vec<(String, String)> {
        let show = |event: DebugEvent| {
            (event.origin.map_or_else(String::new, |o| o.tenant.to_string()), event.message)
        };
        batch.into_iter().map(|entry| show(entry.event)).collect()
    }

    #[test]
    fn what_does_not_fit_is_counted_for_each_stream_and_announced_behind_what_was_kept() {
        let queue = queue(2, 1 << 20);
        for (tenant, message) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("b", "5")] {
            push(&queue, event(tenant, message));
        }
        assert_eq!(queue.metrics.dropped.get(), 3);
        let mut batch = shown(queue.take(0));
        batch[2..].sort();
        let lost = |count| format!("{count} debug events were lost before this one");
        let expected = [("a", "1".into()), ("b", "2".into()), ("a", lost(2)), ("b", lost(1))];
        assert_eq!(batch, expected.map(|(t, m): (&str, String)| (t.to_owned(), m)));
        assert!(queue.is_empty());
    }

    #[test]
    fn bytes_are_bounded_and_come_back() {
        let queue = queue(1_000, 2 * (EVENT_COST + 100));
        for _ in 0..5 {
            push(&queue, event("a", &"x".repeat(100)));
        }
        assert_eq!((queue.len(), queue.metrics.dropped.get()), (2, 3));
        queue.take(0);
        assert_eq!((queue.bytes.load(Relaxed), queue.metrics.queue_bytes.get()), (0, 0));
    }

    #[test]
    fn a_batch_is_due_when_it_is_whole_or_half_of_the_room_is_gone() {
        let few = queue(5, 1 << 20);
        let due = |queue: &Arc<Queue>| {
            push(queue, event("a", "x"));
            queue.is_due()
        };
        assert_eq!([(); 3].map(|()| due(&few)), [false, false, true]);
        few.take(0);
        assert!(!few.is_due());
        let small = queue(1_000, 4 * (EVENT_COST + 1));
        assert_eq!([(); 2].map(|()| due(&small)), [false, true]);
        let large = queue(10_000, 1 << 30);
        (1..BATCH_EVENTS).for_each(|_| push(&large, event("a", "x")));
        assert!(!large.is_due() && due(&large));
    }

    #[test]
    fn a_lost_announcement_is_announced_again_and_counts_once() {
        let queue = queue(1, 1 << 20);
        push(&queue, event("a", "1"));
        push(&queue, event("a", "2"));
        for entry in queue.take(0) {
            queue.lose(entry.event.origin, entry.count);
        }
        assert_eq!(queue.metrics.dropped.get(), 2);
        assert_eq!(
            shown(queue.take(0)),
            [("a".to_owned(), "2 debug events were lost before this one".to_owned())]
        );
    }

    #[test]
    fn the_losses_of_many_streams_are_counted_together() {
        let queue = queue(1, 1 << 20);
        for n in 0..MAX_LOSING_STREAMS + 50 {
            push(&queue, event(&format!("t{n}"), ""));
        }
        let inner = queue.inner.lock();
        assert_eq!(inner.lost.len(), MAX_LOSING_STREAMS + 1);
        assert_eq!(inner.lost[&None].1, 49);
    }
}
