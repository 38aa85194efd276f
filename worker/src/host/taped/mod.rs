//! Functions of WASI 0.2 for runs with a tape: what depends on the outside is recorded, or comes from the trace.
//!
//! They shadow the functions of wasmtime in a linker that only taped runs use, so that other runs pay nothing. Each is
//! recorded as the guest sees it, in the order of its calls: what goes on beside the guest (a request under way, a
//! body that arrives) becomes visible to it through `poll`, `get`, `read` and `check-write` alone, and what these gave
//! is what the trace has. A replay therefore needs neither time nor order of anything but the guest's own calls. The
//! resources of a replay are wasmtime's own, made by the same functions in the same order, so that handles have the
//! same numbers; those that stand for the outside are never asked anything.
//!
//! Not on the tape, because the trace has it already or because nothing but the guest decides it: the environment, the
//! configuration, stdin (empty), stdout and stderr (their bytes are streams 0 and 1), the body of the request, and the
//! body of the guest's own answer. The last is a channel to the host with two places, of which the guest can see whether
//! it is full; [`output`] makes that independent of the host's timing.

mod clocks;
mod codes;
pub(super) mod http;
mod output;
mod poll;
mod random;
mod streams;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use longshore_proto::trace::StreamKind;
use longshore_proto::wire;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasmtime::component::Linker;

use super::RunState;
use super::recorder::{BegunCall, Recorder};
use super::scope::RunScope;
use super::tape::{Played, Tape, encode};

/// The numbers below are stdout and stderr.
const FIRST_STREAM: u32 = 2;

/// Puts the functions of this module in the place of wasmtime's. For a clone of the linker that other runs use.
///
/// # Errors
/// wasmtime's, when a function cannot be defined: a bug.
pub fn shadow(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    clocks::shadow(linker)?;
    random::shadow(linker)?;
    poll::shadow(linker)?;
    streams::shadow(linker)?;
    output::shadow(linker)?;
    http::shadow(linker)
}

/// What is known of resources beside what wasmtime's table has: each by its place in the table. Places are used again;
/// every function that makes a resource of a kind that is looked up here therefore writes or removes the note of its
/// place.
#[derive(Default)]
pub(super) struct Notes {
    notes: HashMap<u32, Note>,
    /// The next stream's number, in a replay.
    next_stream: Option<u32>,
}

/// See [`Notes`]. No note: it is the guest's own, and deterministic.
#[derive(Clone)]
enum Note {
    /// A response from outside, its body, the body's stream and its trailers: the stream's number.
    Answer(u32),
    /// A request to the outside, its body and the body's stream: the stream's number.
    Request(u32),
    /// The guest's own response, its body and the body's stream: whether the host reads it.
    Response(Arc<AtomicBool>),
    /// A request under way.
    Sent(http::Sent),
    /// A pollable.
    Waits(Wait),
}

/// What a pollable waits for.
#[derive(Clone)]
enum Wait {
    /// Time or the network; in words that name it, in which nothing is from the guest or from outside: nobody looks
    /// for secrets there.
    Outside(String),
    /// Nothing: it is ready.
    Never,
    /// Room in the guest's own response.
    Response(Arc<AtomicBool>),
}

impl Notes {
    fn put(&mut self, rep: u32, note: Option<Note>) {
        match note {
            Some(note) => self.notes.insert(rep, note),
            None => self.notes.remove(&rep),
        };
    }

    fn get(&self, rep: u32) -> Option<&Note> {
        self.notes.get(&rep)
    }

    fn answer(&self, rep: u32) -> Option<u32> {
        match self.get(rep) {
            Some(Note::Answer(stream)) => Some(*stream),
            _ => None,
        }
    }

    fn request(&self, rep: u32) -> Option<u32> {
        match self.get(rep) {
            Some(Note::Request(stream)) => Some(*stream),
            _ => None,
        }
    }

    fn response(&self, rep: u32) -> Option<Arc<AtomicBool>> {
        match self.get(rep) {
            Some(Note::Response(is_read)) => Some(Arc::clone(is_read)),
            _ => None,
        }
    }

    /// A number that the trace has given to a stream.
    fn seen(&mut self, stream: u32) {
        let next = self.next_stream.get_or_insert(FIRST_STREAM);
        *next = (*next).max(stream.saturating_add(1));
    }
}

/// A host call that has begun.
enum Step<R> {
    /// It has to be done.
    Live(Call),
    /// The trace has what came of it.
    Played(R),
}

/// A host call under way. One that is dropped without its end is one that the run's end has cut off.
struct Call(Option<(Arc<Recorder>, BegunCall)>);

impl Call {
    fn end(self, outcome: &'static str, result: &impl Serialize) {
        self.end_with(outcome, result, None);
    }

    fn end_with(self, outcome: &'static str, result: &impl Serialize, note: Option<String>) {
        if let Some((recorder, call)) = self.0 {
            recorder.end_call(call, outcome, result, note);
        }
    }
}

/// Begins a host call.
///
/// # Errors
/// The replayed run ends here.
fn step<R: DeserializeOwned>(
    scope: &RunScope,
    function: &'static str,
    args: &impl Serialize,
) -> wasmtime::Result<Step<R>> {
    match &scope.tape {
        Tape::Off => Ok(Step::Live(Call(None))),
        Tape::Recording(recorder) => {
            let call = recorder.begin_call(function, args);
            Ok(Step::Live(Call(Some((Arc::clone(recorder), call)))))
        }
        Tape::Replaying(player) => match player.call(function, &encode(args)) {
            Played::Result(result) => match wire::decode(&result) {
                Ok(result) => Ok(Step::Played(result)),
                Err(error) => {
                    let why = longshore_service::errors::chain(&error);
                    Err(ended(scope, format!("{function} has no such result: {why}")))
                }
            },
            Played::End(why) => Err(ended(scope, why)),
        },
    }
}

/// The error that ends a replay where its trace ends.
fn ended(scope: &RunScope, why: String) -> wasmtime::Error {
    scope.replay_ended(why).into()
}

impl RunState {
    fn step<R: DeserializeOwned>(
        &self,
        function: &'static str,
        args: &impl Serialize,
    ) -> wasmtime::Result<Step<R>> {
        step(&self.scope, function, args)
    }

    /// The number of a stream that begins now.
    fn new_stream(&mut self, kind: StreamKind) -> u32 {
        if let Tape::Recording(recorder) = &self.scope.tape {
            return recorder.new_stream(kind);
        }
        let next = self.taped.next_stream.get_or_insert(FIRST_STREAM);
        let stream = *next;
        *next = next.saturating_add(1);
        stream
    }

    /// Bytes have gone through a stream of the guest's.
    fn went_through(&self, stream: u32, bytes: &[u8]) {
        match &self.scope.tape {
            Tape::Off => {}
            Tape::Recording(recorder) => recorder.stream_bytes(stream, bytes),
            Tape::Replaying(player) => player.wrote(stream, StreamKind::Output, bytes),
        }
    }
}

/// A field of a header or trailer: text where it is text, so that secrets are found in it and people can read it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum FieldValue {
    Text(String),
    Bytes(serde_bytes::ByteBuf),
}

impl FieldValue {
    fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(serde_bytes::ByteBuf::from(bytes)),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Headers or trailers, in order.
type Fields = Vec<(String, FieldValue)>;

fn fields(map: &::http::HeaderMap) -> Fields {
    map.iter().map(|(name, value)| (name.as_str().to_owned(), FieldValue::new(value.as_bytes()))).collect()
}

/// None: a name or a value is none of HTTP.
fn header_map(fields: &Fields) -> Option<::http::HeaderMap> {
    let mut map = ::http::HeaderMap::with_capacity(fields.len().min(64));
    for (name, value) in fields {
        let name = ::http::HeaderName::from_bytes(name.as_bytes()).ok()?;
        map.try_append(name, ::http::HeaderValue::from_bytes(value.as_bytes()).ok()?).ok()?;
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use wasmtime::component::LinkerInstance;

    use super::*;

    /// Every function that is shadowed, by the interface's name in wasmtime's linker.
    const SHADOWED: [(&str, &[&str]); 14] = [
        ("wasi:clocks/wall-clock@0.2.12", &["now", "resolution"]),
        (
            "wasi:clocks/monotonic-clock@0.2.12",
            &["now", "resolution", "subscribe-instant", "subscribe-duration"],
        ),
        ("wasi:random/random@0.2.12", &["get-random-bytes", "get-random-u64"]),
        ("wasi:random/insecure@0.2.12", &["get-insecure-random-bytes", "get-insecure-random-u64"]),
        ("wasi:random/insecure-seed@0.2.12", &["insecure-seed"]),
        ("wasi:io/poll@0.2.12", &["poll", "[method]pollable.block", "[method]pollable.ready"]),
        (
            "wasi:io/streams@0.2.12",
            &[
                "[method]input-stream.read",
                "[method]input-stream.blocking-read",
                "[method]input-stream.skip",
                "[method]input-stream.blocking-skip",
                "[method]input-stream.subscribe",
                "[method]output-stream.check-write",
                "[method]output-stream.write",
                "[method]output-stream.blocking-write-and-flush",
                "[method]output-stream.flush",
                "[method]output-stream.blocking-flush",
                "[method]output-stream.write-zeroes",
                "[method]output-stream.blocking-write-zeroes-and-flush",
                "[method]output-stream.splice",
                "[method]output-stream.blocking-splice",
                "[method]output-stream.subscribe",
            ],
        ),
        ("wasi:io/error@0.2.12", &["[method]error.to-debug-string"]),
        ("wasi:cli/stdin@0.2.12", &["get-stdin"]),
        ("wasi:cli/stdout@0.2.12", &["get-stdout"]),
        ("wasi:cli/stderr@0.2.12", &["get-stderr"]),
        ("wasi:http/outgoing-handler@0.2.12", &["handle"]),
        (
            "wasi:http/types@0.2.12",
            &[
                "[method]future-incoming-response.get",
                "[method]future-incoming-response.subscribe",
                "[method]future-trailers.get",
                "[method]future-trailers.subscribe",
                "[method]incoming-request.consume",
                "[method]incoming-response.consume",
                "[method]incoming-body.stream",
                "[static]incoming-body.finish",
                "[method]outgoing-request.body",
                "[method]outgoing-response.body",
                "[method]outgoing-body.write",
                "[static]outgoing-body.finish",
                "[static]response-outparam.set",
            ],
        ),
        // Nothing of the configuration depends on the outside.
        ("wasi:config/store@0.2.0-rc.1", &[]),
    ];

    fn is_defined(instance: &mut LinkerInstance<'_, RunState>, function: &str) -> bool {
        instance.func_wrap(function, |_, (): ()| Ok(())).is_err()
    }

    /// A version that wasmtime does not know would be a second interface beside its own.
    #[test]
    fn what_is_shadowed_is_what_wasmtime_defines() {
        let engine = wasmtime::Engine::default();
        let mut linker = crate::host::linker(&engine, false).unwrap();
        for (interface, functions) in SHADOWED {
            let mut instance = linker.instance(interface).unwrap();
            for function in functions {
                assert!(is_defined(&mut instance, function), "wasmtime has no {interface} {function}");
            }
        }
    }

    #[test]
    fn every_function_of_the_list_is_shadowed() {
        let mut linker = Linker::new(&wasmtime::Engine::default());
        shadow(&mut linker).unwrap();
        linker.allow_shadowing(false);
        for (interface, functions) in SHADOWED {
            for function in functions {
                let mut instance = linker.instance(interface).unwrap();
                assert!(is_defined(&mut instance, function), "{interface} {function} is not shadowed");
            }
        }
    }

    #[test]
    fn headers_come_back_as_they_were_and_others_are_none() {
        let mut map = ::http::HeaderMap::new();
        for value in [&b"one"[..], b"gr\xfcn", b""] {
            map.append("x-a", ::http::HeaderValue::from_bytes(value).unwrap());
        }
        let written = wire::encode(&fields(&map)).unwrap();
        let read: Fields = wire::decode(&written).unwrap();
        assert_eq!(header_map(&read), Some(map));
        assert_eq!(header_map(&vec![("a b".to_owned(), FieldValue::new(b"1"))]), None);
        assert_eq!(header_map(&vec![("a".to_owned(), FieldValue::new(b"1\r\nb: 2"))]), None);
    }

    #[test]
    fn a_stream_that_the_trace_has_numbered_is_not_numbered_again() {
        let mut notes = Notes::default();
        notes.seen(4);
        notes.seen(3);
        assert_eq!(notes.next_stream, Some(5));
    }
}
