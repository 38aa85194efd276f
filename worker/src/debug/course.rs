//! The events of one run, from where they happen to the queue.
//!
//! A run's events wait here, in the entries that they become, and the queue knows that something waits. So threads of guests that publish at the
//! same time do not meet at one lock, and the publisher finds entries instead of making them: 20 host calls cost it 31 µs when each was an
//! event of the queue.

use std::sync::Arc;

use longshore_proto::event::{Data, DebugEvent, truncate};
use parking_lot::Mutex;

use super::entry::Entry;
use super::queue::{Item, Queue};
use crate::events::EventSink;

/// What an event weighs besides message and data: its struct, its fields, its place in the queue.
pub(super) const EVENT_COST: usize = 256;

/// Takes the events of one run, in their order. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Course(Arc<Run>);

#[derive(Debug)]
struct Run {
    queue: Arc<Queue>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: Vec<Entry>,
    /// The queue knows of them.
    queued: bool,
}

impl Course {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self(Arc::new(Run { queue, waiting: Mutex::default() }))
    }

    /// What waits. What comes from now on is told to the queue again.
    pub(super) fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.0.waiting.lock()).entries
    }
}

impl EventSink for Course {
    /// Takes an event, cut to its limit, or counts it as lost. Never waits but for locks under which nothing waits.
    fn emit(&self, mut event: DebugEvent) {
        let Run { queue, waiting } = &*self.0;
        let max = queue.event_bytes();
        let data = cut(&mut event, max);
        let cost = EVENT_COST + event.message.len() + data;
        if !queue.hold(cost) {
            return queue.refuse(event.origin);
        }
        let known = {
            let mut waiting = waiting.lock();
            match waiting.entries.last_mut() {
                Some(entry) if entry.takes(&event, max) => entry.add(&event, cost),
                _ => waiting.entries.push(Entry::of(event, cost)),
            }
            std::mem::replace(&mut waiting.queued, true)
        };
        // Without the lock: the publisher comes the other way.
        if !known {
            queue.push(Item::Run(self.clone()));
        }
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
    // The text that was cut off would still be held. A little more than there is room for is in the cost.
    if event.message.capacity() > event.message.len() + EVENT_COST {
        event.message.shrink_to_fit();
    }
    data
}

#[cfg(test)]
mod tests {
    use longshore_proto::event::{Kind, Level, Origin, Stream};
    use longshore_proto::{ContentHash, ExecutionId};
    use serde_json::json;

    use super::super::metrics::DebugMetrics;
    use super::super::queue::Bounds;
    use super::*;

    const BOUNDS: Bounds = Bounds { events: 1_000, bytes: 1 << 20, event_bytes: 8_192 };

    fn queue(bounds: Bounds) -> Arc<Queue> {
        Arc::new(Queue::new(bounds, DebugMetrics::default()))
    }

    fn event(kind: Kind, message: &str) -> DebugEvent {
        DebugEvent {
            origin: Some(Arc::new(Origin {
                tenant: "t".parse().unwrap(),
                extension: "e".parse().unwrap(),
                install: None,
                request: None,
                version: None,
                content_hash: ContentHash::from_bytes([1; 32]),
                execution: ExecutionId::from_bytes([1; 16]),
                attempt: 1,
            })),
            at_ms: 7,
            level: Level::Debug,
            stream: Stream::Log,
            kind,
            message: message.to_owned(),
            truncated: false,
            data: (kind == Kind::HostCall).then(|| Data::of(&json!({ "name": message })).unwrap()),
        }
    }

    fn of_bytes(bytes: usize) -> Data {
        Data::from_object(format!("{{\"y\":\"{}\"}}", "y".repeat(bytes - 8)))
    }

    fn shown(entries: &[Entry]) -> Vec<(&str, u64)> {
        entries.iter().map(|entry| (entry.event.message.as_str(), entry.count.events)).collect()
    }

    #[test]
    fn what_a_run_does_shares_an_entry_and_what_its_guest_prints_begins_one() {
        let course = Course::new(queue(BOUNDS));
        for (kind, message) in [
            (Kind::Context, "begin"),
            (Kind::HandlerStart, "handler"),
            (Kind::HostCall, "x"),
            (Kind::HostCall, "y"),
            (Kind::Log, "line"),
            (Kind::Stdout, "line"),
            (Kind::HostCall, "z"),
            (Kind::Response, "200"),
            (Kind::Usage, "used"),
            (Kind::Error, "failed"),
            (Kind::Usage, "used"),
        ] {
            course.emit(event(kind, message));
        }
        let entries: Vec<_> = course.take().into_iter().map(Entry::closed).collect();
        assert_eq!(
            shown(&entries),
            [("begin\nhandler\nx\ny", 4), ("line", 1), ("line", 4), ("failed\nused", 2),]
        );
        let more = |entry: &Entry| serde_json::from_str::<serde_json::Value>(&entry.more).unwrap();
        let call = |name: &str| json!({ "data": { "name": name } });
        let start = json!({ "kind": "handler_start" });
        assert_eq!(more(&entries[0]), json!([start, call("x"), call("y")]));
        assert_eq!(entries[1].more, "");
        // A line stays as it is.
        let end = |kind: &str, message: &str| json!({ "kind": kind, "message": message });
        let z = json!({ "message": "z", "data": { "name": "z" } });
        assert_eq!(more(&entries[2]), json!([z, end("response", "200"), end("usage", "used")]));
    }

    #[test]
    fn an_entry_takes_as_many_events_as_it_has_room_for_and_the_next_takes_the_rest() {
        let one = "call".len() + of_bytes("{\"name\":\"call\"}".len()).len();
        let course = Course::new(queue(Bounds { event_bytes: 2 * one + 80, ..BOUNDS }));
        (0..5).for_each(|_| course.emit(event(Kind::HostCall, "call")));
        let counts: Vec<_> = course.take().iter().map(|entry| entry.count.events).collect();
        assert_eq!(counts, [2, 2, 1]);
    }

    #[test]
    fn an_event_that_is_graver_or_cut_or_of_several_lines_has_an_entry_of_its_own() {
        let course = Course::new(queue(BOUNDS));
        let call = |message| event(Kind::HostCall, message);
        let grave = DebugEvent { level: Level::Warn, ..call("grave") };
        let cut = DebugEvent { truncated: true, ..call("cut") };
        let finer = DebugEvent { level: Level::Trace, ..call("finer") };
        for event in [call("a"), grave, finer, cut, call("b"), call("c\nd"), call("e")] {
            course.emit(event);
        }
        let entries = course.take();
        let expected = [("a", 1), ("grave\nfiner", 2), ("cut", 1), ("b", 1), ("c\nd", 1), ("e", 1)];
        assert_eq!(shown(&entries), expected);
        assert!(entries[1].more.contains("\"level\":\"trace\""), "{}", entries[1].more);
    }

    #[test]
    fn what_comes_after_the_publisher_was_there_begins_an_entry_and_is_found_again() {
        let queue = queue(BOUNDS);
        let course = Course::new(Arc::clone(&queue));
        course.emit(event(Kind::Context, "begin"));
        course.emit(event(Kind::HandlerStart, "handler"));
        assert_eq!(shown(&queue.take(0)), [("begin\nhandler", 2)]);
        assert!(queue.is_empty());
        course.emit(event(Kind::HostCall, "x"));
        assert_eq!(shown(&queue.take(0)), [("x", 1)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn message_and_data_share_the_limit_of_an_event() {
        let mut long = event(Kind::Log, &"é".repeat(600));
        cut(&mut long, 1_001);
        assert_eq!((long.message.len(), long.truncated), (1_000, true));

        let mut both = event(Kind::Log, &"x".repeat(1_000));
        both.data = Some(of_bytes(300));
        cut(&mut both, 1_000);
        assert_eq!((both.message.len(), both.truncated), (700, true));
        assert!(both.message.capacity() <= both.message.len() + EVENT_COST);

        let mut data = event(Kind::Log, "m");
        data.data = Some(of_bytes(1_000));
        cut(&mut data, 1_000);
        assert_eq!(data.data, Data::of(&json!({ "left_out_bytes": 1_000 })));
        assert!(data.truncated);

        let mut short = event(Kind::Log, "m");
        cut(&mut short, 1_000);
        assert!(!short.truncated);
    }
}
