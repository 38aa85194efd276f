//! The tape of a run: what its host functions take from and give to the outside, written down or read back.
//!
//! A host function that depends on anything but the guest's own data goes through the run's [`Tape`]: live, it does what it always does;
//! recording, that is also written into the trace; replaying, the player answers and nothing outside is touched.

use std::sync::Arc;

use bytes::Bytes;
use longshore_proto::trace::{Clock, RandomSource, StreamKind};
use longshore_proto::wire;

use super::recorder::{BegunCall, Recorder};

/// What a run's host functions do with what they see.
#[derive(Clone, Default)]
pub enum Tape {
    /// Nothing.
    #[default]
    Off,
    /// It is recorded.
    Recording(Arc<Recorder>),
    /// It comes from a trace.
    Replaying(Arc<dyn Player>),
}

/// Answers host functions in place of the world. Implemented by `longshore-replay`. Called from the threads that run guests; every call is in
/// the guest's order.
pub trait Player: Send + Sync {
    /// A host call: the function, and its arguments as MessagePack (a map by name).
    fn call(&self, function: &str, args: &[u8]) -> Played;
    /// A clock was read; nanoseconds.
    fn clock(&self, clock: Clock) -> u64;
    /// Random bytes were asked for.
    fn random(&self, source: RandomSource, length: usize) -> Vec<u8>;
    /// The next `length` bytes of a stream that the guest reads.
    fn read(&self, stream: u32, length: usize) -> Bytes;
    /// The guest wrote to a stream.
    fn wrote(&self, stream: u32, kind: StreamKind, bytes: &[u8]);
    /// The replay ends here, and why: [`Played::End`] was answered, or what was answered is no result of that function.
    fn ended(&self, why: &str);
}

/// What a player answers to a host call.
#[derive(Debug, Clone, PartialEq)]
pub enum Played {
    /// The result as MessagePack.
    Result(Bytes),
    /// The recorded run ended while this call was under way, or here: so does this one.
    End(String),
}

/// Bytes of an ordinary value: taken at once.
const USUAL: usize = 256;

/// Values as they stand in traces: MessagePack with named fields, bytes as bytes. What cannot be written is a bug of ours and becomes nil,
/// which no replay takes for an answer.
pub(super) fn encode<T: serde::Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL);
    encode_onto(&mut bytes, value);
    bytes
}

fn encode_onto<T: serde::Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) {
    let from = bytes.len();
    let mut writer = rmp_serde::Serializer::new(&mut *bytes)
        .with_struct_map()
        .with_bytes(rmp_serde::config::BytesMode::ForceIterables);
    if value.serialize(&mut writer).is_err() {
        bytes.truncate(from);
        bytes.push(0xc0);
    }
}

/// The arguments of a host call as a map by name.
#[derive(Default)]
pub(super) struct Args {
    count: u8,
    fields: Vec<u8>,
}

impl Args {
    /// One more; a call has at most fifteen, which a map's first byte can say.
    pub(super) fn add<T: serde::Serialize + ?Sized>(mut self, name: &str, value: &T) -> Self {
        self.count += 1;
        encode_onto(&mut self.fields, name);
        encode_onto(&mut self.fields, value);
        self
    }

    /// As MessagePack.
    pub(super) fn encoded(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.fields.len() + 1);
        bytes.push(0x80 | (self.count & 0x0f));
        bytes.extend(self.fields);
        bytes
    }
}

/// What becomes of a host call.
pub(super) enum Turn<T> {
    /// It is done for real, and its end told to this recorder.
    Live(Option<(Arc<Recorder>, BegunCall)>),
    /// The trace had this.
    Played(T),
}

impl Tape {
    /// Whether anything is written or read.
    pub fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }

    /// A host call begins.
    ///
    /// # Errors
    /// The replayed run ends here; why.
    pub(super) fn turn<T: serde::de::DeserializeOwned>(
        &self,
        function: &'static str,
        args: impl FnOnce(Args) -> Args,
    ) -> Result<Turn<T>, String> {
        match self {
            Self::Off => Ok(Turn::Live(None)),
            Self::Recording(recorder) => {
                let call = recorder.begin_encoded(function, args(Args::default()).encoded());
                Ok(Turn::Live(Some((Arc::clone(recorder), call))))
            }
            Self::Replaying(player) => match player.call(function, &args(Args::default()).encoded()) {
                Played::Result(result) => wire::decode(&result).map(Turn::Played).map_err(|error| {
                    let why = longshore_service::errors::chain(&error).to_string();
                    format!("{function} has no such result: {why}")
                }),
                Played::End(why) => Err(why),
            },
        }
    }
}
