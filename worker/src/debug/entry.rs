//! What becomes one entry of a stream: an event, or what a run has done without printing while it waited to be written.
//!
//! An entry costs Redis 5 µs and this process as much again, whatever is in it. Beside what its guest prints, a run has two events when it
//! begins, one for each host call, and two when it ends. So what follows another event shares its entry: an entry is an event with all its
//! fields, and the field `more` has the rest of them ([`longshore_proto::event::parts`] takes it apart). Where the first is the run's own, too,
//! the entry's message has a further line for each; a line of the guest stays what it is, and messages of what shares its entry stand in `more`.
//! Lines of the guest, and why a run failed, always begin an entry: they are what others look for.

use longshore_proto::event::{Data, DebugEvent, Kind};

/// Bytes of what a shared event has beside message and data, at most: time, kind, level, names.
const SHARED: usize = 80;

/// Room for further events that is taken at once.
const MORE_BYTES: usize = 512;

/// One entry to write.
#[derive(Debug)]
pub(super) struct Entry {
    pub event: DebugEvent,
    /// How many events share it.
    pub count: Count,
    /// What they take of the room of the queue.
    pub cost: usize,
    /// The further events: a JSON array, or nothing.
    pub more: String,
    /// When the last of them was.
    at_ms: u64,
    /// Bytes of messages and data.
    bytes: usize,
}

/// Events that did not arrive: how many there were, and how many are gone with them (an announcement of losses is no event, and was of
/// some).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub events: u64,
    pub lost: u64,
}

/// Whether others may share an entry with such an event, and whether it may share theirs.
const fn shares(kind: Kind) -> (bool, bool) {
    match kind {
        Kind::Context | Kind::HandlerStart | Kind::HostCall | Kind::Response | Kind::Usage => (true, true),
        Kind::Error | Kind::Log | Kind::Stdout | Kind::Stderr => (true, false),
        Kind::Dropped => (false, false),
    }
}

/// Whether a guest has printed it: its message is the guest's alone.
const fn is_printed(kind: Kind) -> bool {
    matches!(kind, Kind::Log | Kind::Stdout | Kind::Stderr)
}

impl Entry {
    /// Of an event that takes `cost` of the room of the queue.
    pub(super) fn of(event: DebugEvent, cost: usize) -> Self {
        Self {
            at_ms: event.at_ms,
            bytes: size(&event),
            event,
            count: Count { events: 1, lost: 1 },
            cost,
            more: String::new(),
        }
    }

    /// Of the announcement that so many events were lost.
    pub(super) fn of_losses(event: DebugEvent, lost: u64) -> Self {
        Self { count: Count { events: 0, lost }, ..Self::of(event, 0) }
    }

    /// Bytes of messages and data.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Level and truncation are those of the whole entry. A message is told from the next by its line, unless it stands in `more`.
    /// `max` are the bytes that messages and data of one entry may have.
    pub(super) fn takes(&self, event: &DebugEvent, max: usize) -> bool {
        let one_line = |event: &DebugEvent| !event.message.contains(['\n', '\r']);
        shares(self.event.kind).0
            && shares(event.kind).1
            && event.level <= self.event.level
            && !self.event.truncated
            && !event.truncated
            && (is_printed(self.event.kind)
                || (!self.more.is_empty() || one_line(&self.event)) && one_line(event))
            && self.bytes + SHARED + size(event) <= max
    }

    /// An event shares it from now on; see [`Self::takes`].
    pub(super) fn add(&mut self, event: &DebugEvent, cost: usize) {
        let before = self.event.message.len() + self.more.len();
        self.cost += cost;
        self.count = Count { events: self.count.events + 1, lost: self.count.lost + 1 };
        if self.more.is_empty() {
            self.more.reserve(MORE_BYTES);
        }
        self.more.push(if self.more.is_empty() { '[' } else { ',' });
        let mut object = Object { text: &mut self.more, next: "{" };
        if event.at_ms != self.at_ms {
            object.field("at_ms", &[itoa::Buffer::new().format(event.at_ms)]);
        }
        if event.kind != Kind::HostCall {
            object.field("kind", &["\"", event.kind.as_str(), "\""]);
        }
        if event.level != self.event.level {
            object.field("level", &["\"", event.level.as_str(), "\""]);
        }
        if is_printed(self.event.kind) {
            // A text can always be written.
            object.field("message", &[&serde_json::to_string(&event.message).unwrap_or_default()]);
        } else {
            self.event.message.push('\n');
            self.event.message.push_str(&event.message);
        }
        if let Some(data) = &event.data {
            object.field("data", &[data.as_str()]);
        }
        object.end();
        self.at_ms = event.at_ms;
        self.bytes += self.event.message.len() + self.more.len() - before;
    }

    /// As it is written.
    pub(super) fn closed(mut self) -> Self {
        if !self.more.is_empty() {
            self.more.push(']');
        }
        self
    }
}

/// A JSON object as it is written.
struct Object<'t> {
    text: &'t mut String,
    /// What comes before the next field.
    next: &'static str,
}

impl Object<'_> {
    /// A field whose value is JSON, in pieces: a format string would cost five times as much, for each host call.
    fn field(&mut self, name: &str, value: &[&str]) {
        self.text.extend([self.next, "\"", name, "\":"]);
        self.text.extend(value.iter().copied());
        self.next = ",";
    }

    fn end(self) {
        self.text.push_str(if self.next == "{" { "{}" } else { "}" });
    }
}

fn size(event: &DebugEvent) -> usize {
    event.message.len() + event.data.as_ref().map_or(0, Data::len)
}
