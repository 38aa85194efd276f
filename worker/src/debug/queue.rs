//! Events on their way to Redis: bounded in number and bytes, filled without waiting, with a count of what was lost.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use longshore_proto::event::{Data, DebugEvent, Kind, Level, Origin, Stream, truncate};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::metrics::DebugMetrics;

/// A batch: one pipeline to Redis.
pub(super) const BATCH_EVENTS: usize = 500;

/// What an event weighs besides message and data: its struct, its fields, its place in the queue.
const EVENT_COST: usize = 256;

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
    Event(DebugEvent),
    /// So many events of this origin were lost here.
    Lost {
        origin: Option<Arc<Origin>>,
        count: u64,
    },
}

/// Events that did not arrive: how many there were, and how many are gone with them (an announcement of losses is no event, and was of
/// some).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub events: u64,
    pub lost: u64,
}

impl Item {
    pub(super) fn count(&self) -> Count {
        match self {
            Self::Event(_) => Count { events: 1, lost: 1 },
            Self::Lost { count, .. } => Count { events: 0, lost: *count },
        }
    }

    /// As it is written.
    pub(super) fn into_event(self, now_ms: u64) -> DebugEvent {
        match self {
            Self::Event(event) => event,
            Self::Lost { origin, count } => DebugEvent {
                origin,
                at_ms: now_ms,
                level: Level::Warn,
                stream: Stream::Log,
                kind: Kind::Dropped,
                message: format!("{count} debug events were lost before this one"),
                truncated: false,
                data: Some(Data::from_object(format!("{{\"count\":{count}}}"))),
            },
        }
    }
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
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
    /// With what each weighs: weighing an event means writing its data, and guests wait for this lock.
    items: VecDeque<(Item, usize)>,
    bytes: usize,
    /// Not announced yet, by tenant and extension.
    lost: HashMap<Loser, (Option<Arc<Origin>>, u64)>,
}

impl Queue {
    pub(super) fn new(bounds: Bounds, metrics: DebugMetrics) -> Self {
        Self { inner: Mutex::default(), bounds, metrics, filled: Notify::new(), batch: Notify::new() }
    }

    /// Takes an event, cut to its limit, or counts it as lost. Never waits but for the lock, under which nothing waits.
    pub(super) fn push(&self, mut event: DebugEvent) {
        let data = cut(&mut event, self.bounds.event_bytes);
        let cost = EVENT_COST + event.message.len() + data;
        let (first, due) = {
            let mut inner = self.inner.lock();
            if inner.items.len() >= self.bounds.events || inner.bytes + cost > self.bounds.bytes {
                self.metrics.dropped.inc();
                inner.lose(event.origin, 1);
                return;
            }
            inner.bytes += cost;
            inner.items.push_back((Item::Event(event), cost));
            self.show(&inner);
            (inner.items.len() == 1, self.due(&inner))
        };
        if first {
            self.filled.notify_one();
        }
        if due {
            self.batch.notify_one();
        }
    }

    /// Whether to wait for more would be to lose it: there is a whole batch, or half of what has room.
    pub(super) fn is_due(&self) -> bool {
        self.due(&self.inner.lock())
    }

    fn due(&self, inner: &Inner) -> bool {
        inner.items.len() >= BATCH_EVENTS.min(self.bounds.events.div_ceil(2))
            || inner.bytes >= self.bounds.bytes / 2
    }

    /// The next batch; empty when there is nothing. Losses so far are announced behind what was taken before them.
    pub(super) fn take(&self) -> Vec<Item> {
        let mut inner = self.inner.lock();
        let lost = std::mem::take(&mut inner.lost);
        let announced = lost.into_values().map(|(origin, count)| (Item::Lost { origin, count }, 0));
        inner.items.extend(announced);
        let count = inner.items.len().min(BATCH_EVENTS);
        let mut freed = 0;
        let taken = inner.items.drain(..count).inspect(|(_, cost)| freed += cost);
        let batch: Vec<Item> = taken.map(|(item, _)| item).collect();
        inner.bytes = inner.bytes.saturating_sub(freed);
        self.show(&inner);
        batch
    }

    /// What Redis did not take. It is announced with the next batch; a lost announcement loses nothing new.
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

    pub(super) fn len(&self) -> usize {
        self.inner.lock().items.len()
    }

    fn show(&self, inner: &Inner) {
        self.metrics.queue_events.set(i64::try_from(inner.items.len()).unwrap_or(i64::MAX));
        self.metrics.queue_bytes.set(i64::try_from(inner.bytes).unwrap_or(i64::MAX));
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

/// Message and data together keep to `max`. Data is for programs and half of it is of no use, so it stays whole or
/// goes whole; it may take half of the room. Gives the bytes of data that are left.
fn cut(event: &mut DebugEvent, max: usize) -> usize {
    let mut data = event.data.as_ref().map_or(0, Data::len);
    if data > max / 2 {
        let left_out = Data::from_object(format!("{{\"left_out_bytes\":{data}}}"));
        data = left_out.len();
        event.data = Some(left_out);
        event.truncated = true;
    }
    event.truncated |= truncate(&mut event.message, max.saturating_sub(data));
    // The text that was cut off would still be held.
    if event.message.capacity() > 2 * event.message.len() {
        event.message.shrink_to_fit();
    }
    data
}

#[cfg(test)]
mod tests {
    use longshore_proto::{ContentHash, ExecutionId};

    use super::*;

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

    fn of_bytes(bytes: usize) -> Data {
        Data::from_object(format!("{{\"y\":\"{}\"}}", "y".repeat(bytes - 8)))
    }

    fn queue(events: usize, bytes: usize) -> Queue {
        Queue::new(Bounds { events, bytes, event_bytes: 1_000 }, DebugMetrics::default())
    }

    fn shown(batch: Vec<Item>) -> Vec<(String, String)> {
        let show = |event: DebugEvent| {
            (event.origin.map_or_else(String::new, |o| o.tenant.to_string()), event.message)
        };
        batch.into_iter().map(|item| show(item.into_event(0))).collect()
    }

    #[test]
    fn what_does_not_fit_is_counted_for_each_stream_and_announced_behind_what_was_kept() {
        let queue = queue(2, 1 << 20);
        for (tenant, message) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("b", "5")] {
            queue.push(event(tenant, message));
        }
        assert_eq!(queue.metrics.dropped.get(), 3);
        let mut batch = shown(queue.take());
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
            queue.push(event("a", &"x".repeat(100)));
        }
        assert_eq!((queue.len(), queue.metrics.dropped.get()), (2, 3));
        queue.take();
        assert_eq!((queue.inner.lock().bytes, queue.metrics.queue_bytes.get()), (0, 0));
    }

    #[test]
    fn a_batch_is_due_when_it_is_whole_or_half_of_the_room_is_gone() {
        let few = queue(5, 1 << 20);
        let due = |queue: &Queue| {
            queue.push(event("a", "x"));
            queue.is_due()
        };
        assert_eq!([(); 3].map(|()| due(&few)), [false, false, true]);
        few.take();
        assert!(!few.is_due());
        let small = queue(1_000, 4 * (EVENT_COST + 1));
        assert_eq!([(); 2].map(|()| due(&small)), [false, true]);
        let large = queue(10_000, 1 << 30);
        (1..BATCH_EVENTS).for_each(|_| large.push(event("a", "x")));
        assert!(!large.is_due() && due(&large));
    }

    #[test]
    fn a_lost_announcement_is_announced_again_and_counts_once() {
        let queue = queue(1, 1 << 20);
        queue.push(event("a", "1"));
        queue.push(event("a", "2"));
        for item in queue.take() {
            let count = item.count();
            queue.lose(item.into_event(0).origin, count);
        }
        assert_eq!(queue.metrics.dropped.get(), 2);
        assert_eq!(
            shown(queue.take()),
            [("a".to_owned(), "2 debug events were lost before this one".to_owned())]
        );
    }

    #[test]
    fn the_losses_of_many_streams_are_counted_together() {
        let queue = queue(1, 1 << 20);
        for n in 0..MAX_LOSING_STREAMS + 50 {
            queue.push(event(&format!("t{n}"), ""));
        }
        let inner = queue.inner.lock();
        assert_eq!(inner.lost.len(), MAX_LOSING_STREAMS + 1);
        assert_eq!(inner.lost[&None].1, 49);
    }

    #[test]
    fn message_and_data_share_the_limit_of_an_event() {
        let mut long = event("a", &"é".repeat(600));
        cut(&mut long, 1_001);
        assert_eq!((long.message.len(), long.truncated), (1_000, true));

        let mut both = event("a", &"x".repeat(1_000));
        both.data = Some(of_bytes(300));
        cut(&mut both, 1_000);
        assert_eq!((both.message.len(), both.truncated), (700, true));

        let mut data = event("a", "m");
        data.data = Some(of_bytes(1_000));
        cut(&mut data, 1_000);
        assert_eq!(data.data, Data::of(&serde_json::json!({ "left_out_bytes": 1_000 })));
        assert!(data.truncated);

        let mut short = event("a", "m");
        cut(&mut short, 1_000);
        assert!(!short.truncated);
    }
}
