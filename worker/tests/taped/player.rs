//! Plays a trace strictly: every entry in its place, every argument to the byte.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use longshore_proto::ContentHash;
use longshore_proto::trace::{Clock, Entry, Payload, RandomSource, Record, StreamKind};
use longshore_worker::host::tape::{Played, Player};
use parking_lot::Mutex;

pub struct Strict {
    state: Mutex<State>,
}

struct State {
    /// What is still to come, in order.
    entries: std::vec::IntoIter<Entry>,
    streams: HashMap<u32, (StreamKind, Bytes)>,
    wrote: BTreeMap<u32, Vec<u8>>,
    /// The first thing that was not as recorded.
    broken: Option<String>,
}

impl Strict {
    pub fn new(records: &[Record], payloads: &BTreeMap<ContentHash, Bytes>) -> Self {
        let whole = |payload: &Payload| match payload {
            Payload::Inline(bytes) => bytes.clone(),
            Payload::Stored { sha256, .. } => payloads[sha256].clone(),
            Payload::Cut { .. } => panic!("a payload was cut"),
        };
        let mut streams = HashMap::new();
        let mut entries = Vec::new();
        for record in records {
            match &record.entry {
                Entry::Stream { stream, kind, content } => {
                    streams.insert(*stream, (*kind, whole(content)));
                }
                Entry::CallStart { call, function, args } => entries.push(Entry::CallStart {
                    call: *call,
                    function: function.clone(),
                    args: Payload::Inline(whole(args)),
                }),
                Entry::CallEnd { call, outcome, result, duration_us, note } => entries.push(Entry::CallEnd {
                    call: *call,
                    outcome: outcome.clone(),
                    result: Payload::Inline(whole(result)),
                    duration_us: *duration_us,
                    note: note.clone(),
                }),
                Entry::Clock { .. } | Entry::Random { .. } => entries.push(record.entry.clone()),
                _ => {}
            }
        }
        let state = State { entries: entries.into_iter(), streams, wrote: BTreeMap::new(), broken: None };
        Self { state: Mutex::new(state) }
    }

    /// Panics unless all of the trace was played, and nothing else.
    pub fn finish(&self) {
        let mut state = self.state.lock();
        assert_eq!(state.broken.take(), None);
        let left: Vec<_> = state.entries.by_ref().map(|entry| shown(&entry)).collect();
        assert!(left.is_empty(), "not played: {left:#?}");
        for (stream, (kind, content)) in &state.streams {
            if *kind != StreamKind::Input {
                let wrote = state.wrote.get(stream).map_or(&[][..], Vec::as_slice);
                assert!(wrote == content, "stream {stream} ({kind:?}): {} of {}", wrote.len(), content.len());
            }
        }
    }
}

fn shown(entry: &Entry) -> String {
    match entry {
        Entry::CallStart { function, args: Payload::Inline(args), .. } => {
            format!("{function} {}", values(args))
        }
        other => format!("{other:?}"),
    }
}

pub fn values(msgpack: &[u8]) -> String {
    longshore_proto::wire::decode::<serde_json::Value>(msgpack)
        .map_or_else(|_| format!("{msgpack:?}"), |value| value.to_string())
}

impl State {
    fn breaks(&mut self, what: String, expected: Option<&Entry>) {
        let expected = expected.map_or_else(|| "the end".to_owned(), shown);
        self.broken.get_or_insert_with(|| format!("the guest did {what}, the trace has {expected}"));
    }
}

/// Why a replay ends with the recorded run.
const OVER: &str = "the recorded run ended in this call";

impl Player for Strict {
    fn call(&self, function: &str, args: &[u8]) -> Played {
        let mut state = self.state.lock();
        let next = state.entries.next();
        if let Some(Entry::CallStart { call, function: recorded, args: Payload::Inline(recorded_args) }) =
            &next
            && recorded == function
            && recorded_args == args
        {
            let call = *call;
            return match state.entries.next() {
                Some(Entry::CallEnd { call: ended, result: Payload::Inline(result), .. })
                    if ended == call =>
                {
                    Played::Result(result)
                }
                None => Played::End(OVER.to_owned()),
                other => {
                    state.breaks(format!("{function}, whose end is missing"), other.as_ref());
                    Played::End("broken".to_owned())
                }
            };
        }
        state.breaks(format!("{function} {}", values(args)), next.as_ref());
        Played::End("broken".to_owned())
    }

    fn clock(&self, clock: Clock) -> u64 {
        let mut state = self.state.lock();
        let next = state.entries.next();
        match &next {
            Some(Entry::Clock { clock: recorded, ns }) if *recorded == clock => *ns,
            other => {
                state.breaks(format!("read the clock {clock:?}"), other.as_ref());
                0
            }
        }
    }

    fn random(&self, source: RandomSource, length: usize) -> Vec<u8> {
        let mut state = self.state.lock();
        let next = state.entries.next();
        match &next {
            Some(Entry::Random { source: recorded, bytes })
                if *recorded == source && bytes.len() == length =>
            {
                bytes.clone()
            }
            other => {
                state.breaks(format!("read {length} random bytes of {source:?}"), other.as_ref());
                vec![0; length]
            }
        }
    }

    fn read(&self, stream: u32, length: usize) -> Bytes {
        let mut state = self.state.lock();
        match state.streams.get_mut(&stream) {
            Some((StreamKind::Input, content)) if content.len() >= length => content.split_to(length),
            _ => {
                state.breaks(format!("read {length} bytes of stream {stream}"), None);
                Bytes::from(vec![0; length])
            }
        }
    }

    fn wrote(&self, stream: u32, _kind: StreamKind, bytes: &[u8]) {
        self.state.lock().wrote.entry(stream).or_default().extend_from_slice(bytes);
    }

    fn ended(&self, why: &str) {
        // Said by this player itself; anything else is a result that the host could not read.
        if why != OVER {
            self.state.lock().broken.get_or_insert_with(|| why.to_owned());
        }
    }
}
