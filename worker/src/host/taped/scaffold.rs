//! Until the recorder and the scope have them: inherent methods come before these.
use longshore_proto::trace::{Clock, RandomSource, StreamKind};
use serde::Serialize;

use crate::engine::meter::Stop;
use crate::host::recorder::Recorder;
use crate::host::scope::RunScope;
use crate::host::tape::Tape;

static OFF: Tape = Tape::Off;

pub(super) trait ScopeTape {
    fn tape_of(&self) -> &Tape;
    fn replay_ended(&self, why: String) -> Stop;
}

impl ScopeTape for RunScope {
    fn tape_of(&self) -> &Tape {
        &OFF
    }
    fn replay_ended(&self, _why: String) -> Stop {
        Stop::Cancelled
    }
}

pub(super) trait Recording {
    fn begin_call(&self, _function: &str, _args: &impl Serialize) -> u32 {
        0
    }
    fn end_call(&self, _call: u32, _outcome: &str, _result: &impl Serialize, _note: Option<String>) {}
    fn clock(&self, _clock: Clock, _ns: u64) {}
    fn random(&self, _source: RandomSource, _bytes: &[u8]) {}
    fn new_stream(&self, _kind: StreamKind) -> u32 {
        2
    }
    fn stream_bytes(&self, _stream: u32, _bytes: &[u8]) {}
}

impl Recording for Recorder {}
