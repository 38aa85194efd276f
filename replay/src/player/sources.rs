//! Clocks, random numbers and streams of a replay.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use longshore_proto::trace::{Clock, RandomSource, StreamKind};
use sha2::{Digest as _, Sha256};

use crate::script::{Content, Script};

/// What a clock goes on by when the trace has no more readings: a guest that waits for time to pass must see it pass.
const TICK_NS: u64 = 1_000_000;
/// Bytes kept of one stream that the guest writes.
const MAX_WRITTEN: usize = 64 << 20;
/// Bytes of one read of random numbers; the worker bounds them too.
const MAX_RANDOM: usize = 64 << 20;

/// Readings of a clock, or of random numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reads {
    /// In the trace.
    pub recorded: u64,
    /// In the replay.
    pub replayed: u64,
    /// The first that asked for another length than recorded.
    pub other_length: Option<u64>,
}

/// What the guest wrote to a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What it is.
    pub kind: StreamKind,
    /// The beginning of it.
    pub bytes: Vec<u8>,
    /// What is not kept.
    pub more: u64,
}

pub(super) struct Sources {
    clocks: BTreeMap<&'static str, Reads>,
    last: HashMap<Clock, u64>,
    randoms: BTreeMap<&'static str, Reads>,
    offsets: HashMap<u32, usize>,
    written: BTreeMap<u32, Written>,
}

fn clock_name(clock: Clock) -> &'static str {
    match clock {
        Clock::Wall => "wasi:clocks/wall-clock.now",
        Clock::Monotonic => "wasi:clocks/monotonic-clock.now",
    }
}

fn random_name(source: RandomSource) -> &'static str {
    match source {
        RandomSource::Secure => "wasi:random/random",
        RandomSource::Insecure => "wasi:random/insecure",
        RandomSource::Seed => "wasi:random/insecure-seed",
    }
}

fn recorded(count: usize) -> Reads {
    Reads { recorded: count as u64, ..Reads::default() }
}

impl Sources {
    pub(super) fn new(script: &Script) -> Self {
        Self {
            clocks: script
                .clocks
                .iter()
                .map(|(clock, all)| (clock_name(*clock), recorded(all.len())))
                .collect(),
            last: HashMap::new(),
            randoms: script.randoms.iter().map(|(s, all)| (random_name(*s), recorded(all.len()))).collect(),
            offsets: HashMap::new(),
            written: BTreeMap::new(),
        }
    }

    /// What was counted and written, once.
    #[expect(clippy::type_complexity, reason = "three maps that are taken apart at once")]
    pub(super) fn take(
        &mut self,
    ) -> (BTreeMap<&'static str, Reads>, BTreeMap<&'static str, Reads>, BTreeMap<u32, Written>) {
        (self.clocks.clone(), self.randoms.clone(), std::mem::take(&mut self.written))
    }

    pub(super) fn clock(&mut self, script: &Script, clock: Clock) -> u64 {
        let reads = self.clocks.entry(clock_name(clock)).or_default();
        let at = usize::try_from(reads.replayed).unwrap_or(usize::MAX);
        reads.replayed += 1;
        let known = script.clocks.get(&clock).and_then(|all| all.get(at)).copied();
        let first = match clock {
            Clock::Wall => script.header.started_at_ms.saturating_mul(1_000_000),
            Clock::Monotonic => 0,
        };
        let last = self.last.entry(clock).or_insert(first);
        *last = known.unwrap_or_else(|| last.saturating_add(TICK_NS));
        *last
    }

    pub(super) fn random(&mut self, script: &Script, source: RandomSource, length: usize) -> Vec<u8> {
        let reads = self.randoms.entry(random_name(source)).or_default();
        let ordinal = reads.replayed;
        let at = usize::try_from(ordinal).unwrap_or(usize::MAX);
        reads.replayed += 1;
        let mut bytes = script.randoms.get(&source).and_then(|all| all.get(at)).cloned().unwrap_or_default();
        if bytes.len() != length && ordinal < reads.recorded {
            reads.other_length.get_or_insert(ordinal);
        }
        let length = length.min(MAX_RANDOM);
        let mut block = 0u64;
        // Not random, but the same in every replay of this trace.
        while bytes.len() < length {
            let mut digest = Sha256::new();
            digest.update(script.trailer.hash.as_bytes());
            digest.update(random_name(source));
            digest.update(ordinal.to_le_bytes());
            digest.update(block.to_le_bytes());
            bytes.extend_from_slice(&digest.finalize());
            block += 1;
        }
        bytes.truncate(length);
        bytes
    }

    pub(super) fn read(&mut self, script: &Script, stream: u32, length: usize) -> Bytes {
        let Some((_, Content::Whole(content))) = script.streams.get(&stream) else { return Bytes::new() };
        let offset = self.offsets.entry(stream).or_default();
        let from = (*offset).min(content.len());
        let to = from.saturating_add(length).min(content.len());
        *offset = to;
        content.slice(from..to)
    }

    pub(super) fn wrote(&mut self, stream: u32, kind: StreamKind, bytes: &[u8]) {
        let written =
            self.written.entry(stream).or_insert_with(|| Written { kind, bytes: Vec::new(), more: 0 });
        let room = MAX_WRITTEN.saturating_sub(written.bytes.len()).min(bytes.len());
        let (kept, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        written.bytes.extend_from_slice(kept);
        written.more = written.more.saturating_add(rest.len() as u64);
    }
}
