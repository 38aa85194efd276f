//! The tape of a run: what its host functions take from and give to the outside, written down or read back.
//!
//! A host function that depends on anything but the guest's own data goes through the run's [`Tape`]: live, it does what it always does;
//! recording, that is also written into the trace; replaying, the player answers and nothing outside is touched.

use std::sync::Arc;

use bytes::Bytes;
use longshore_proto::trace::{Clock, RandomSource, StreamKind};

/// What a run's host functions do with what they see.
#[derive(Clone, Default)]
pub enum Tape {
    /// Nothing.
    #[default]
    Off,
    /// It is recorded.
    Recording(Arc<super::recorder::Recorder>),
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
}

/// What a player answers to a host call.
#[derive(Debug, Clone, PartialEq)]
pub enum Played {
    /// The result as MessagePack.
    Result(Bytes),
    /// The recorded run ended while this call was under way, or here: so does this one.
    End(String),
}
