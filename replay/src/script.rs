//! A trace taken apart for the one who plays it: calls by number, clocks and random numbers in the order in which they
//! were read, streams by number, and the end.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use longshore_proto::trace::{
    Clock, Entry, Header, Payload, RandomSource, Record, StreamKind, Trailer, Unreplayable,
};
use longshore_proto::{ContentHash, ErrorCode};
use sha2::{Digest as _, Sha256};

/// A payload, if the trace has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// All of it.
    Whole(Bytes),
    /// So many bytes were left out when it was recorded.
    Cut(u64),
}

impl Content {
    /// The bytes, if they are there.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(bytes) => Some(bytes),
            Self::Cut(_) => None,
        }
    }
}

/// A recorded host call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `storage.get`.
    pub function: String,
    /// MessagePack.
    pub args: Content,
    /// None: it was under way when the run ended.
    pub answer: Option<Answer>,
}

/// What came of a host call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `ok`, the WIT's error or `denied`.
    pub outcome: String,
    /// MessagePack.
    pub result: Content,
    /// Microseconds.
    pub duration_us: u64,
    /// For the operator.
    pub note: Option<String>,
}

/// What the guest answered, or why it did not.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// It answered.
    Response {
        /// 200 to 599.
        status: u16,
        /// In the guest's order.
        headers: Vec<(String, String)>,
        /// None and empty differ.
        body: Option<Content>,
        /// Of `wasi:http`.
        trailers: Vec<(String, String)>,
    },
    /// It did not.
    Failure {
        /// The code that the caller got.
        code: ErrorCode,
        /// Its words.
        message: String,
    },
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// Who ran what.
    pub header: Header,
    /// The request's body.
    pub body: Option<Bytes>,
    /// By number.
    pub calls: Vec<Call>,
    /// Readings of each clock, in order.
    pub clocks: HashMap<Clock, Vec<u64>>,
    /// What each source gave, read by read.
    pub randoms: HashMap<RandomSource, Vec<Vec<u8>>>,
    /// What went through each stream.
    pub streams: BTreeMap<u32, (StreamKind, Content)>,
    /// How it ended.
    pub end: End,
    /// What it cost.
    pub trailer: Trailer,
    /// Microseconds from the last thing that the trace tells of the guest to its end.
    pub tail_us: u64,
}

/// The trace is whole, but no run can be had from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// The recorder said so.
    #[error("the trace cannot be replayed: {reason}")]
    Unreplayable {
        /// Its words.
        reason: String,
    },
    /// Bytes that stand beside the trace.
    #[error("a payload of {bytes} bytes is missing (sha256 {sha256})")]
    PayloadMissing {
        /// Which.
        sha256: String,
        /// Its length.
        bytes: u64,
    },
    /// They are not those that the trace names.
    #[error("a payload is not what the trace recorded (sha256 {sha256})")]
    PayloadWrong {
        /// Which.
        sha256: String,
    },
    /// It has no response and no failure, or a call without a beginning: written by a build that is none of ours.
    #[error("the trace makes no sense: {0}")]
    Senseless(&'static str),
}

/// Payloads that stand beside a trace.
pub type Payloads = BTreeMap<ContentHash, Bytes>;

impl Script {
    /// From the records of a trace whose proof holds.
    ///
    /// # Errors
    /// A payload is missing or another, or the trace cannot be replayed at all.
    pub fn new(records: &[Record], payloads: &Payloads) -> Result<Self, ScriptError> {
        let mut made = Parts::default();
        for record in records {
            made.take(record, payloads)?;
        }
        made.finish()
    }

    /// From where on nothing is recorded, and why.
    pub fn unreplayable(&self) -> Option<&Unreplayable> {
        self.trailer.unreplayable.as_ref()
    }
}

#[derive(Default)]
struct Parts {
    header: Option<Header>,
    body: Option<Content>,
    calls: Vec<Call>,
    clocks: HashMap<Clock, Vec<u64>>,
    randoms: HashMap<RandomSource, Vec<Vec<u8>>>,
    streams: BTreeMap<u32, (StreamKind, Content)>,
    end: Option<End>,
    trailer: Option<Trailer>,
    last_us: u64,
    end_us: u64,
}

impl Parts {
    fn take(&mut self, record: &Record, payloads: &Payloads) -> Result<(), ScriptError> {
        match &record.entry {
            Entry::Header(header) => self.header = Some(header.as_ref().clone()),
            Entry::Request { body } => {
                self.body = body.as_ref().map(|body| content(body, payloads)).transpose()?;
            }
            Entry::CallStart { call, function, args } => {
                self.last_us = record.at_us;
                if usize::try_from(*call).ok() != Some(self.calls.len()) {
                    return Err(ScriptError::Senseless("calls are not numbered in order"));
                }
                let args = content(args, payloads)?;
                self.calls.push(Call { function: function.to_string(), args, answer: None });
            }
            Entry::CallEnd { call, outcome, result, duration_us, note } => {
                self.last_us = record.at_us;
                let at = usize::try_from(*call).unwrap_or(usize::MAX);
                let begun = self.calls.get_mut(at);
                let begun = begun.ok_or(ScriptError::Senseless("a call ends that did not begin"))?;
                begun.answer = Some(Answer {
                    outcome: outcome.to_string(),
                    result: content(result, payloads)?,
                    duration_us: *duration_us,
                    note: note.clone(),
                });
            }
            Entry::Clock { clock, ns } => {
                self.last_us = record.at_us;
                self.clocks.entry(*clock).or_default().push(*ns);
            }
            Entry::Random { source, bytes } => {
                self.last_us = record.at_us;
                self.randoms.entry(*source).or_default().push(bytes.clone());
            }
            Entry::Stream { stream, kind, content: bytes } => {
                self.streams.insert(*stream, (*kind, content(bytes, payloads)?));
            }
            Entry::Response { status, headers, body, trailers } => {
                self.end = Some(End::Response {
                    status: *status,
                    headers: headers.clone(),
                    body: body.as_ref().map(|body| content(body, payloads)).transpose()?,
                    trailers: trailers.clone(),
                });
            }
            Entry::Failure { code, message, detail: _ } => {
                self.end = Some(End::Failure { code: *code, message: message.clone() });
            }
            Entry::Trailer(trailer) => {
                self.end_us = record.at_us;
                self.trailer = Some(trailer.clone());
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Script, ScriptError> {
        let header = self.header.ok_or(ScriptError::Senseless("it has no header"))?;
        let trailer = self.trailer.ok_or(ScriptError::Senseless("it has no trailer"))?;
        if let Some(Unreplayable { after_call: None, reason }) = &trailer.unreplayable {
            return Err(ScriptError::Unreplayable { reason: reason.clone() });
        }
        let body = match self.body {
            None => None,
            Some(Content::Whole(bytes)) => Some(bytes),
            Some(Content::Cut(bytes)) => {
                let reason = format!("the request's body of {bytes} bytes was left out when it was recorded");
                return Err(ScriptError::Unreplayable { reason });
            }
        };
        Ok(Script {
            header,
            body,
            calls: self.calls,
            clocks: self.clocks,
            randoms: self.randoms,
            streams: self.streams,
            end: self.end.ok_or(ScriptError::Senseless("it has neither response nor failure"))?,
            trailer,
            tail_us: self.end_us.saturating_sub(self.last_us),
        })
    }
}

fn content(payload: &Payload, payloads: &Payloads) -> Result<Content, ScriptError> {
    match payload {
        Payload::Inline(bytes) => Ok(Content::Whole(bytes.clone())),
        Payload::Cut { bytes } => Ok(Content::Cut(*bytes)),
        Payload::Stored { sha256, bytes } => {
            let missing = || ScriptError::PayloadMissing { sha256: sha256.hex(), bytes: *bytes };
            let found = payloads.get(sha256).ok_or_else(missing)?;
            let digest: [u8; 32] = Sha256::digest(found).into();
            if digest != *sha256.as_bytes() || found.len() as u64 != *bytes {
                return Err(ScriptError::PayloadWrong { sha256: sha256.hex() });
            }
            Ok(Content::Whole(found.clone()))
        }
    }
}
