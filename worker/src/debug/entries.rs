//! What becomes one entry of a stream: an event, or all host calls of a run that meet in a batch.
//!
//! An entry costs Redis 5 µs and this process as much again, whatever is in it, and a busy handler calls its host twenty times in
//! a fraction of the time that a batch gathers. So neighbouring calls of one run share an entry: its message has a line for each, its data
//! all of them. Whatever else a run publishes stays an entry of its own, in the run's order.

use std::collections::HashMap;
use std::sync::Arc;

use longshore_proto::event::{Data, DebugEvent, Kind, Origin};

/// Bytes of a call's time and of what stands between two.
const TIME: usize = 24;

/// One entry to write, with the places of its events in the batch.
pub(super) struct Entry {
    pub event: DebugEvent,
    pub of: Vec<usize>,
    /// Bytes of messages and data.
    bytes: usize,
    /// Of host calls: their data so far.
    calls: Option<String>,
}

/// The entries of a batch. `max` are the bytes that message and data of one entry may have.
pub(super) fn entries(batch: impl IntoIterator<Item = DebugEvent>, max: usize) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    // The last entry of each run. Runs are told apart by the origin that their events share.
    let mut last: HashMap<*const Origin, usize> = HashMap::new();
    for (at, event) in batch.into_iter().enumerate() {
        let run = event.origin.as_ref().map(Arc::as_ptr);
        let open = run.and_then(|run| last.get(&run)).and_then(|&entry| entries.get_mut(entry));
        match open {
            Some(entry) if entry.takes(&event, max) => entry.add(at, event),
            _ => {
                if let Some(run) = run {
                    last.insert(run, entries.len());
                }
                entries.push(Entry::of(at, event));
            }
        }
    }
    entries.iter_mut().for_each(Entry::close);
    entries
}

impl Entry {
    fn of(at: usize, mut event: DebugEvent) -> Self {
        let bytes = size(&event);
        let calls = (event.kind == Kind::HostCall).then(|| {
            let mut calls = String::with_capacity(2 * bytes + 64);
            calls.push_str("{\"calls\":[");
            add_call(&mut calls, event.at_ms, event.data.take());
            calls
        });
        Self { event, of: vec![at], bytes, calls }
    }

    fn takes(&self, event: &DebugEvent, max: usize) -> bool {
        self.calls.is_some() && event.kind == Kind::HostCall && self.bytes + size(event) <= max
    }

    fn add(&mut self, at: usize, event: DebugEvent) {
        self.bytes += size(&event);
        self.of.push(at);
        self.event.level = self.event.level.max(event.level);
        self.event.truncated |= event.truncated;
        self.event.message.push('\n');
        self.event.message.push_str(&event.message);
        if let Some(calls) = &mut self.calls {
            calls.push(',');
            add_call(calls, event.at_ms, event.data);
        }
    }

    fn close(&mut self) {
        if let Some(mut calls) = self.calls.take() {
            calls.push_str("]}");
            self.event.data = Some(Data::from_object(calls));
        }
    }
}

fn size(event: &DebugEvent) -> usize {
    let time = if event.kind == Kind::HostCall { TIME } else { 0 };
    time + event.message.len() + event.data.as_ref().map_or(0, Data::len)
}

/// A call as an object of its own, with its time: the entry has that of the first one.
fn add_call(calls: &mut String, at_ms: u64, data: Option<Data>) {
    calls.push_str("{\"at_ms\":");
    calls.push_str(itoa::Buffer::new().format(at_ms));
    if let Some(fields) = data.as_ref().map(Data::fields).filter(|fields| !fields.is_empty()) {
        calls.push(',');
        calls.push_str(fields);
    }
    calls.push('}');
}

#[cfg(test)]
mod tests {
    use longshore_proto::event::{Level, Stream};
    use longshore_proto::{ContentHash, ExecutionId};
    use serde_json::json;

    use super::*;

    fn run(number: u8) -> Arc<Origin> {
        Arc::new(Origin {
            tenant: "t".parse().unwrap(),
            extension: "e".parse().unwrap(),
            install: None,
            request: None,
            version: None,
            content_hash: ContentHash::from_bytes([1; 32]),
            execution: ExecutionId::from_bytes([number; 16]),
            attempt: 1,
        })
    }

    fn event(run: &Arc<Origin>, kind: Kind, message: &str) -> DebugEvent {
        DebugEvent {
            origin: Some(Arc::clone(run)),
            at_ms: 7,
            level: Level::Debug,
            stream: Stream::Log,
            kind,
            message: message.to_owned(),
            truncated: false,
            data: (kind == Kind::HostCall).then(|| Data::of(&json!({ "name": message })).unwrap()),
        }
    }

    fn shown(entries: &[Entry]) -> Vec<(&str, Vec<usize>)> {
        entries.iter().map(|entry| (entry.event.message.as_str(), entry.of.clone())).collect()
    }

    #[test]
    fn neighbouring_host_calls_of_a_run_share_an_entry_and_nothing_else_does() {
        let (a, b) = (run(1), run(2));
        let batch = [
            event(&a, Kind::Context, "begin"),
            event(&a, Kind::HostCall, "x"),
            event(&b, Kind::HostCall, "other"),
            event(&a, Kind::HostCall, "y"),
            event(&a, Kind::Log, "line"),
            event(&a, Kind::Log, "line"),
            event(&a, Kind::HostCall, "z"),
        ];
        let entries = entries(batch, 8_192);
        assert_eq!(
            shown(&entries),
            [
                ("begin", vec![0]),
                ("x\ny", vec![1, 3]),
                ("other", vec![2]),
                ("line", vec![4]),
                ("line", vec![5]),
                ("z", vec![6])
            ]
        );
        let data = |entry: &Entry| entry.event.data.as_ref().map(Data::value);
        let call = |name: &str| json!({ "at_ms": 7, "name": name });
        assert_eq!(data(&entries[1]), Some(json!({ "calls": [call("x"), call("y")] })));
        assert_eq!(data(&entries[2]), Some(json!({ "calls": [call("other")] })));
        assert_eq!(data(&entries[3]), None);
    }

    #[test]
    fn an_entry_takes_as_many_calls_as_it_has_room_for_and_the_next_takes_the_rest() {
        let a = run(1);
        let one = size(&event(&a, Kind::HostCall, "call"));
        let batch = (0..5).map(|_| event(&a, Kind::HostCall, "call"));
        let entries = entries(batch, 2 * one);
        assert_eq!(entries.iter().map(|entry| entry.of.len()).collect::<Vec<_>>(), [2, 2, 1]);
    }

    #[test]
    fn a_call_whose_details_are_missing_is_still_a_call() {
        let a = run(1);
        let bare = DebugEvent { data: None, ..event(&a, Kind::HostCall, "x") };
        let empty = DebugEvent { data: Data::of(&json!({})), ..event(&a, Kind::HostCall, "y") };
        let entries = entries([bare, empty], 8_192);
        let data = entries[0].event.data.as_ref().unwrap().value();
        assert_eq!(data, json!({ "calls": [{ "at_ms": 7 }, { "at_ms": 7 }] }));
    }

    #[test]
    fn events_of_nobody_are_entries_of_their_own() {
        let a = run(1);
        let nobody = || DebugEvent { origin: None, ..event(&a, Kind::Dropped, "lost") };
        assert_eq!(shown(&entries([nobody(), nobody()], 8_192)), [("lost", vec![0]), ("lost", vec![1])]);
    }
}
