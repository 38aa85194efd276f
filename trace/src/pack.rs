//! Recording: entries in, one packed trace out.

use bytes::Bytes;
use longshore_proto::TenantId;
use longshore_proto::trace::{Entry, Header, Record, Summary, TRACE_VERSION, Trailer, Unreplayable};

use crate::Damage;
use crate::container::{self, MAX_PACKED_BYTES, MAX_RECORDS, MAX_UNPACKED_BYTES};
use crate::trace::Trace;

/// Room that is left for the trailer and what a recorder writes at the end of a run, when [`Packer::is_full`] says
/// that no more host calls fit.
const RESERVE: usize = 4 << 20;

/// Bytes of a small run's frame: taken at once.
const USUAL: usize = 4 << 10;

/// Numbers and keeps the entries of one run. It costs one encoding an entry; hashing and packing wait for
/// [`Packer::finish`], because a trace that is only wanted of failures is mostly thrown away.
#[derive(Default)]
pub struct Packer {
    frame: Vec<u8>,
    records: u32,
    head: Option<Head>,
    status: Option<u16>,
    broken: Option<PackError>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer")
            .field("records", &self.records)
            .field("bytes", &self.frame.len())
            .finish_non_exhaustive()
    }
}

/// What the list says of a run, from its header.
struct Head {
    tenant: TenantId,
    summary: Summary,
}

/// What the recorder knows at the end; the rest of the trailer is counted here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrailerParts {
    /// See [`Trailer`], here and below.
    pub outcome: String,
    /// Microseconds.
    pub cpu_us: u64,
    /// Bytes.
    pub peak_memory_bytes: u64,
    /// A count.
    pub host_calls: u64,
    /// A count.
    pub outbound_requests: u64,
    /// Microseconds.
    pub handler_us: u64,
    /// Whether the guest was given a secret.
    pub secrets_read: bool,
    /// What is missing.
    pub unreplayable: Option<Unreplayable>,
}

/// A trace, packed, and what a list says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// Whose.
    pub tenant: TenantId,
    /// What [`crate::unpack`] reads.
    pub bytes: Bytes,
    /// For the list.
    pub summary: Summary,
}

impl Packed {
    /// From a packed trace, such as one that is imported, with what was proven of it.
    ///
    /// # Errors
    /// It is damaged.
    pub fn open(bytes: Bytes) -> Result<(Self, Trace), Damage> {
        let trace = crate::unpack(&bytes)?;
        let Head { tenant, mut summary } = Head::of(trace.header());
        let status = trace.response().and_then(|entry| match entry {
            Entry::Response { status, .. } => Some(*status),
            _ => None,
        });
        fill(&mut summary, status, trace.trailer());
        summary.bytes = bytes.len() as u64;
        Ok((Self { tenant, bytes, summary }, trace))
    }
}

fn fill(summary: &mut Summary, status: Option<u16>, trailer: &Trailer) {
    summary.outcome.clone_from(&trailer.outcome);
    summary.status = status;
    summary.handler_us = trailer.handler_us;
    summary.host_calls = trailer.host_calls;
    summary.replayable = trailer.unreplayable.is_none();
    summary.secrets_read = trailer.secrets_read;
}

/// Why there is no trace of a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The first entry was no header: a bug of the recorder.
    #[error("the recorder began without a header")]
    NoHeader,
    /// More than a reader takes.
    #[error("the trace is too large: {what} over {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// An entry cannot be written.
    #[error("record {seq} cannot be encoded: {reason}")]
    Encode {
        /// Its number.
        seq: u32,
        /// Why.
        reason: String,
    },
    /// zstd refused.
    #[error("the trace cannot be packed: {reason}")]
    Pack {
        /// Why.
        reason: String,
    },
}

impl Packer {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what happened `at_us` microseconds after the run's beginning; gives its number. The first entry is the
    /// header. Never fails: what cannot be kept makes [`Packer::finish`] fail.
    pub fn push(&mut self, at_us: u64, entry: Entry) -> u32 {
        let seq = self.records;
        match &entry {
            Entry::Header(header) if seq == 0 => self.head = Some(Head::of(header)),
            Entry::Response { status, .. } => self.status = Some(*status),
            _ => {}
        }
        if self.broken.is_none() {
            self.broken = self.write(&Record { seq, at_us, entry }).err();
        }
        self.records = self.records.saturating_add(1);
        seq
    }

    /// Bytes before packing.
    pub fn len(&self) -> usize {
        self.frame.len()
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Records so far.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Whether only what ends a trace still fits; a recorder then stops and says that the run cannot be replayed any
    /// further.
    pub fn is_full(&self) -> bool {
        self.broken.is_some()
            || self.frame.len() > MAX_UNPACKED_BYTES - RESERVE
            || self.records > MAX_RECORDS - 1_024
    }

    /// Adds the trailer and packs.
    ///
    /// # Errors
    /// There was no header, an entry could not be written, or it is more than a reader takes.
    pub fn finish(mut self, at_us: u64, parts: TrailerParts) -> Result<Packed, PackError> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        let Some(Head { tenant, mut summary }) = self.head.take() else { return Err(PackError::NoHeader) };
        let records = container::split(&self.frame).map_err(too_large)?;
        let hash = container::rolling(records);
        let trailer = Trailer {
            outcome: parts.outcome,
            cpu_us: parts.cpu_us,
            peak_memory_bytes: parts.peak_memory_bytes,
            host_calls: parts.host_calls,
            outbound_requests: parts.outbound_requests,
            handler_us: parts.handler_us,
            records: self.records,
            hash,
            secrets_read: parts.secrets_read,
            unreplayable: parts.unreplayable,
        };
        fill(&mut summary, self.status, &trailer);
        let seq = self.records;
        self.write(&Record { seq, at_us, entry: Entry::Trailer(trailer) })?;
        let bytes = container::seal(TRACE_VERSION, &self.frame)
            .map_err(|error| PackError::Pack { reason: error.to_string() })?;
        if bytes.len() > MAX_PACKED_BYTES {
            return Err(PackError::TooLarge { what: "packed bytes", limit: MAX_PACKED_BYTES as u64 });
        }
        summary.bytes = bytes.len() as u64;
        Ok(Packed { tenant, bytes, summary })
    }

    fn write(&mut self, record: &Record) -> Result<(), PackError> {
        if record.seq >= MAX_RECORDS {
            return Err(PackError::TooLarge { what: "records", limit: u64::from(MAX_RECORDS) });
        }
        let at = self.frame.len();
        if at == 0 {
            self.frame.reserve(USUAL);
        }
        self.frame.extend_from_slice(&[0; 4]);
        // Into the frame itself: one copy less than by a buffer of its own.
        if let Err(error) = rmp_serde::encode::write_named(&mut self.frame, record) {
            self.frame.truncate(at);
            return Err(PackError::Encode { seq: record.seq, reason: error.to_string() });
        }
        if self.frame.len() > MAX_UNPACKED_BYTES {
            self.frame.truncate(at);
            return Err(PackError::TooLarge { what: "unpacked bytes", limit: MAX_UNPACKED_BYTES as u64 });
        }
        let length = u32::try_from(self.frame.len() - at - 4).unwrap_or(u32::MAX);
        if let Some(room) = self.frame.get_mut(at..at + 4) {
            room.copy_from_slice(&length.to_le_bytes());
        }
        Ok(())
    }
}

impl Head {
    fn of(header: &Header) -> Self {
        let Header { execution, attempt, run, started_at_ms, .. } = header;
        let path = run.http.url.split(['?', '#']).next().unwrap_or_default();
        let summary = Summary {
            execution: *execution,
            attempt: *attempt,
            extension: run.context.extension.clone(),
            content_hash: run.context.content_hash,
            request_id: run.context.request_id.clone(),
            request: format!("{} {path}", run.http.method),
            outcome: String::new(),
            status: None,
            started_at_ms: *started_at_ms,
            handler_us: 0,
            host_calls: 0,
            bytes: 0,
            replayable: false,
            secrets_read: false,
        };
        Self { tenant: run.context.tenant.clone(), summary }
    }
}

fn too_large(_: Damage) -> PackError {
    PackError::TooLarge { what: "records", limit: u64::from(MAX_RECORDS) }
}
