//! What becomes one entry of a stream: an event, or what a run's own course has made of events that meet in a batch.
//!
//! An entry costs Redis 5 µs and this process as much again, whatever is in it. Beside what its guest prints, a run has two events when it
//! begins, one for each host call, and two when it ends. So what follows another of them shares its entry: an entry is an event with all its fields;
//! its message has a further line for each event that shares it, and the field `more` has the rest of them
//! ([`longshore_proto::event::parts`] takes it apart). Lines of the guest, and how a run ended, always begin an entry: they are what others look for.

use std::fmt::Write as _;
use std::sync::Arc;

use longshore_proto::event::{Data, DebugEvent, Kind};

use super::queue::Count;

/// Bytes of what a shared event has beside message and data: time, kind, names.
const SHARED: usize = 80;

/// How far back an event looks for its run's last entry: as many runs as write at a time, and their lines.
const NEAR: usize = 32;

/// Room for further events that is taken at once.
const MORE_BYTES: usize = 512;

/// One entry to write.
pub(super) struct Entry {
    pub event: DebugEvent,
    /// How many events share it.
    pub count: Count,
    /// The further events: a JSON array, or nothing.
    pub more: String,
    /// Bytes of messages and data.
    bytes: usize,
}

/// The entries of a batch. `max` are the bytes that messages and data of one entry may have.
pub(super) fn entries(batch: impl IntoIterator<Item = (DebugEvent, Count)>, max: usize) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for (event, count) in batch {
        // Runs are told apart by the origin that their events share.
        let run = event.origin.as_ref().map(Arc::as_ptr);
        let same = |entry: &&mut Entry| run.is_some() && entry.event.origin.as_ref().map(Arc::as_ptr) == run;
        match entries.iter_mut().rev().take(NEAR).find(same) {
            Some(entry) if entry.takes(&event, max) => entry.add(&event, count),
            _ => entries.push(Entry::of(event, count)),
        }
    }
    entries.iter_mut().for_each(Entry::close);
    entries
}

/// Whether others may share an entry with such an event, and whether it may share theirs.
const fn shares(kind: Kind) -> (bool, bool) {
    match kind {
        Kind::Context | Kind::HandlerStart | Kind::HostCall | Kind::Usage => (true, true),
        Kind::Response | Kind::Error => (true, false),
        Kind::Log | Kind::Stdout | Kind::Stderr | Kind::Dropped => (false, false),
    }
}

impl Entry {
    fn of(event: DebugEvent, count: Count) -> Self {
        Self { bytes: size(&event), event, count, more: String::new() }
    }

    /// Bytes of messages and data.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Level and truncation are those of the whole entry, and a message is told from the next by its line.
    fn takes(&self, event: &DebugEvent, max: usize) -> bool {
        let one_line = |event: &DebugEvent| !event.message.contains(['\n', '\r']);
        shares(self.event.kind).0
            && shares(event.kind).1
            && event.level <= self.event.level
            && !self.event.truncated
            && !event.truncated
            && (!self.more.is_empty() || one_line(&self.event))
            && one_line(event)
            && self.bytes + SHARED + size(event) <= max
    }

    fn add(&mut self, event: &DebugEvent, count: Count) {
        self.bytes += SHARED + size(event);
        self.count = Count { events: self.count.events + count.events, lost: self.count.lost + count.lost };
        self.event.message.push('\n');
        self.event.message.push_str(&event.message);
        if self.more.is_empty() {
            self.more.reserve(MORE_BYTES);
            self.more.push('[');
        } else {
            self.more.push(',');
        }
        // A string takes whatever is written to it.
        let _ = write!(self.more, "{{\"at_ms\":{},\"kind\":\"{}\"", event.at_ms, event.kind.as_str());
        if event.level != self.event.level {
            let _ = write!(self.more, ",\"level\":\"{}\"", event.level.as_str());
        }
        if let Some(data) = &event.data {
            self.more.push_str(",\"data\":");
            self.more.push_str(data.as_str());
        }
        self.more.push('}');
    }

    fn close(&mut self) {
        if !self.more.is_empty() {
            self.more.push(']');
        }
    }
}

fn size(event: &DebugEvent) -> usize {
    event.message.len() + event.data.as_ref().map_or(0, Data::len)
}

#[cfg(test)]
mod tests {
    use longshore_proto::event::{Level, Origin, Stream};
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

    fn entries(batch: impl IntoIterator<Item = DebugEvent>, max: usize) -> Vec<Entry> {
        super::entries(batch.into_iter().map(|event| (event, Count { events: 1, lost: 1 })), max)
    }

    fn shown(entries: &[Entry]) -> Vec<(&str, u64)> {
        entries.iter().map(|entry| (entry.event.message.as_str(), entry.count.events)).collect()
    }

    #[test]
    fn what_a_run_does_shares_an_entry_and_what_its_guest_prints_does_not() {
        let (a, b) = (run(1), run(2));
        let batch = [
            event(&a, Kind::Context, "begin"),
            event(&a, Kind::HandlerStart, "handler"),
            event(&a, Kind::HostCall, "x"),
            event(&b, Kind::HostCall, "other"),
            event(&a, Kind::HostCall, "y"),
            event(&a, Kind::Log, "line"),
            event(&a, Kind::Stdout, "line"),
            event(&a, Kind::HostCall, "z"),
            event(&a, Kind::Response, "200"),
            event(&a, Kind::Usage, "used"),
            event(&b, Kind::Error, "failed"),
            event(&b, Kind::Usage, "used"),
        ];
        let entries = entries(batch, 8_192);
        assert_eq!(
            shown(&entries),
            [
                ("begin\nhandler\nx\ny", 4),
                ("other", 1),
                ("line", 1),
                ("line", 1),
                ("z", 1),
                ("200\nused", 2),
                ("failed\nused", 2),
            ]
        );
        let more = |entry: &Entry| serde_json::from_str::<serde_json::Value>(&entry.more).unwrap();
        let call = |name: &str| json!({ "at_ms": 7, "kind": "host_call", "data": { "name": name } });
        let start = json!({ "at_ms": 7, "kind": "handler_start" });
        assert_eq!(more(&entries[0]), json!([start, call("x"), call("y")]));
        assert_eq!((entries[1].more.as_str(), entries[2].more.as_str()), ("", ""));
    }

    #[test]
    fn an_entry_takes_as_many_events_as_it_has_room_for_and_the_next_takes_the_rest() {
        let a = run(1);
        let one = size(&event(&a, Kind::HostCall, "call"));
        let batch = (0..5).map(|_| event(&a, Kind::HostCall, "call"));
        let entries = entries(batch, 2 * one + SHARED);
        assert_eq!(entries.iter().map(|entry| entry.count.events).collect::<Vec<_>>(), [2, 2, 1]);
    }

    #[test]
    fn an_event_that_is_graver_or_cut_or_of_several_lines_has_an_entry_of_its_own() {
        let a = run(1);
        let call = |message| event(&a, Kind::HostCall, message);
        let grave = DebugEvent { level: Level::Warn, ..call("grave") };
        let cut = DebugEvent { truncated: true, ..call("cut") };
        let finer = DebugEvent { level: Level::Trace, ..call("finer") };
        let entries = entries([call("a"), grave, finer, cut, call("b"), call("c\nd"), call("e")], 8_192);
        assert_eq!(
            shown(&entries),
            [("a", 1), ("grave\nfiner", 2), ("cut", 1), ("b", 1), ("c\nd", 1), ("e", 1)]
        );
        assert!(entries[1].more.contains("\"level\":\"trace\""), "{}", entries[1].more);
    }

    #[test]
    fn events_of_nobody_are_entries_of_their_own() {
        let a = run(1);
        let nobody = || DebugEvent { origin: None, ..event(&a, Kind::Dropped, "lost") };
        assert_eq!(shown(&entries([nobody(), nobody()], 8_192)), [("lost", 1), ("lost", 1)]);
    }
}
