//! A trace that has been proven.

use std::collections::BTreeMap;

use bytes::Bytes;
use longshore_proto::trace::{Entry, Header, Payload, Record, StreamKind, Trailer};
use longshore_proto::{ContentHash, ExecutionId, TenantId};
use sha2::{Digest as _, Sha256};

use crate::damage::Damage;

/// A whole trace, made by [`crate::unpack`] alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    records: Vec<Record>,
    calls: Vec<Call>,
    // Copies of what stands in the records: given out without a question whether it is there.
    header: Box<Header>,
    body: Option<Payload>,
    trailer: Trailer,
}

/// A host call with its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// 0, 1, 2, ...
    pub call: u32,
    /// The record of its beginning.
    pub seq: u32,
    /// When it began.
    pub at_us: u64,
    /// `storage.get`.
    pub function: String,
    /// A MessagePack map by name.
    pub args: Payload,
    /// None: it was under way when the run ended.
    pub end: Option<End>,
}

/// The end of a host call; see [`Entry::CallEnd`].
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// Its record.
    pub seq: u32,
    /// `ok`, an error's name, `denied`.
    pub outcome: String,
    /// MessagePack.
    pub result: Payload,
    /// Microseconds.
    pub duration_us: u64,
    /// Words for the operator.
    pub note: Option<String>,
}

/// A stream of the sandbox's border; see [`Entry::Stream`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stream<'t> {
    /// Its number.
    pub stream: u32,
    /// What it is.
    pub kind: StreamKind,
    /// All that went through it.
    pub content: &'t Payload,
}

impl Trace {
    pub(crate) fn new(records: Vec<Record>, calls: Vec<Call>) -> Option<Self> {
        let header = match &records.first()?.entry {
            Entry::Header(header) => header.clone(),
            _ => return None,
        };
        let body = match &records.get(1)?.entry {
            Entry::Request { body } => body.clone(),
            _ => return None,
        };
        let trailer = match &records.last()?.entry {
            Entry::Trailer(trailer) => trailer.clone(),
            _ => return None,
        };
        Some(Self { records, calls, header, body, trailer })
    }

    /// All of it, in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Who ran what.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Which run.
    pub fn execution(&self) -> ExecutionId {
        self.header.execution
    }

    /// Whose.
    pub fn tenant(&self) -> &TenantId {
        &self.header.run.context.tenant
    }

    /// None and empty differ.
    pub fn request_body(&self) -> Option<&Payload> {
        self.body.as_ref()
    }

    /// The end.
    pub fn trailer(&self) -> &Trailer {
        &self.trailer
    }

    /// Host calls in the order of their beginnings: the call with number n is at index n.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Streams in the order of their records.
    pub fn streams(&self) -> impl Iterator<Item = Stream<'_>> {
        self.records.iter().filter_map(|record| match &record.entry {
            Entry::Stream { stream, kind, content } => Some(Stream { stream: *stream, kind: *kind, content }),
            _ => None,
        })
    }

    /// The guest's answer ([`Entry::Response`]), if there is one.
    pub fn response(&self) -> Option<&Entry> {
        self.records.iter().map(|record| &record.entry).find(|entry| matches!(entry, Entry::Response { .. }))
    }

    /// Why there is none ([`Entry::Failure`]), if so.
    pub fn failure(&self) -> Option<&Entry> {
        self.records.iter().map(|record| &record.entry).find(|entry| matches!(entry, Entry::Failure { .. }))
    }

    /// Payloads that are kept elsewhere, with their lengths.
    ///
    /// # Errors
    /// Two records say different lengths of one payload.
    pub fn stored_payloads(&self) -> Result<BTreeMap<ContentHash, u64>, Damage> {
        let mut stored = BTreeMap::new();
        for payload in self.records.iter().filter_map(|record| payload_of(&record.entry)) {
            let Payload::Stored { sha256, bytes } = payload else { continue };
            let known = *stored.entry(*sha256).or_insert(*bytes);
            if known != *bytes {
                return Err(Damage::PayloadLength { sha256: *sha256, expected: known, found: *bytes });
            }
        }
        Ok(stored)
    }

    /// Proves that all payloads that are kept elsewhere are here, unchanged, and no others.
    ///
    /// # Errors
    /// One is missing, changed, cut or foreign.
    pub fn check_payloads(&self, payloads: &BTreeMap<ContentHash, Bytes>) -> Result<(), Damage> {
        let stored = self.stored_payloads()?;
        for (sha256, expected) in &stored {
            let bytes = payloads.get(sha256).ok_or(Damage::PayloadMissing { sha256: *sha256 })?;
            check_payload(*sha256, *expected, bytes)?;
        }
        match payloads.keys().find(|sha256| !stored.contains_key(sha256)) {
            Some(sha256) => Err(Damage::ForeignPayload { sha256: *sha256 }),
            None => Ok(()),
        }
    }

    /// Proves that an archive is the bundle that ran.
    ///
    /// # Errors
    /// It is another one.
    pub fn check_bundle(&self, archive: &[u8]) -> Result<(), Damage> {
        let (expected, found) = (self.header.run.context.content_hash, digest(archive));
        if expected == found { Ok(()) } else { Err(Damage::ForeignBundle { expected, found }) }
    }

    /// Proves that a component is the one that ran.
    ///
    /// # Errors
    /// It is another one.
    pub fn check_component(&self, component: &[u8]) -> Result<(), Damage> {
        let (expected, found) = (self.header.component, digest(component));
        if expected == found { Ok(()) } else { Err(Damage::ForeignComponent { expected, found }) }
    }
}

/// Proves that `bytes` are the payload that a record speaks of: length first, because a cut payload and a changed one
/// are different news.
///
/// # Errors
/// They are not.
pub fn check_payload(sha256: ContentHash, expected: u64, bytes: &[u8]) -> Result<(), Damage> {
    let found = bytes.len() as u64;
    if found != expected {
        return Err(Damage::PayloadLength { sha256, expected, found });
    }
    if digest(bytes) == sha256 { Ok(()) } else { Err(Damage::PayloadDigest { sha256 }) }
}

/// The SHA-256 of bytes: how payloads, bundles and components are named.
pub fn digest(bytes: &[u8]) -> ContentHash {
    ContentHash::from_bytes(Sha256::digest(bytes).into())
}

fn payload_of(entry: &Entry) -> Option<&Payload> {
    match entry {
        Entry::Request { body } | Entry::Response { body, .. } => body.as_ref(),
        Entry::CallStart { args: payload, .. }
        | Entry::CallEnd { result: payload, .. }
        | Entry::Stream { content: payload, .. } => Some(payload),
        Entry::Header(_)
        | Entry::Clock { .. }
        | Entry::Random { .. }
        | Entry::Failure { .. }
        | Entry::Trailer(_) => None,
    }
}
