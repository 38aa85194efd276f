//! Why a trace is not used. A trace that is read wrongly is worse than none: whoever replays it would look for a
//! difference that never was.

use longshore_proto::{ContentHash, ExecutionId};

use crate::container::MAX_PACKED_BYTES;

/// What is wrong with a trace, or with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Something else.
    #[error("this is no trace: it does not begin as one")]
    NotATrace,
    /// Written by a newer build.
    #[error("the trace has schema version {found}; this build reads versions up to {known}: use a newer one")]
    FutureSchema {
        /// Its version.
        found: u16,
        /// The newest that can be read.
        known: u16,
    },
    /// The end is missing.
    #[error("the trace is truncated: {found} bytes of {expected}")]
    Truncated {
        /// Its own word.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// Something follows the end.
    #[error("{bytes} bytes follow the end of the trace")]
    Surplus {
        /// How many.
        bytes: u64,
    },
    /// Two traces in one.
    #[error("two traces were joined: another one begins at {place}")]
    Spliced {
        /// Where.
        place: String,
    },
    /// More than this build reads.
    #[error("the trace is too large: {what} over {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The digest at the end is another one than that of the bytes.
    #[error("the digest is wrong: the trace was changed after it was packed")]
    Digest,
    /// zstd does not read it, or its records overlap the end.
    #[error("the packed records cannot be read: {reason}")]
    Frame {
        /// Why.
        reason: String,
    },
    /// A record is no record.
    #[error("record {seq} cannot be decoded: {reason}")]
    Undecodable {
        /// Its place.
        seq: u32,
        /// Why.
        reason: String,
    },
    /// A number is missing.
    #[error("record {expected} is missing; record {found} stands in its place")]
    Gap {
        /// The number that should come.
        expected: u32,
        /// The one that comes.
        found: u32,
    },
    /// The number comes later.
    #[error("records are out of order: {found} stands in the place of {expected}")]
    Swapped {
        /// The number that should come.
        expected: u32,
        /// The one that comes.
        found: u32,
    },
    /// A number comes twice.
    #[error("record {seq} is there twice")]
    Doubled {
        /// Which.
        seq: u32,
    },
    /// Numbers are right but a record is not the one that was written.
    #[error("the rolling hash is wrong: a record was changed, or belongs to another trace")]
    RollingHash,
    /// The first record is no header.
    #[error("the header is missing")]
    NoHeader,
    /// The second record is no request.
    #[error("the request is missing")]
    NoRequest,
    /// The last record is no trailer.
    #[error("the trailer is missing: the trace was not finished")]
    NoTrailer,
    /// A record that may be there once is there again.
    #[error("record {seq} is a second {what}")]
    Repeated {
        /// Its place.
        seq: u32,
        /// `request`, `response`, `failure`, `stream 3`.
        what: String,
    },
    /// The header's version is not the container's.
    #[error("the header says schema version {header}, the file {container}")]
    SchemaMismatch {
        /// In the header.
        header: u16,
        /// At the beginning of the bytes.
        container: u16,
    },
    /// The trailer counts otherwise.
    #[error("the trailer counts {expected} records before it; there are {found}")]
    Count {
        /// The trailer's word.
        expected: u32,
        /// What there is.
        found: u32,
    },
    /// Calls are numbered from 0 without a gap, in the order of their beginnings.
    #[error("host call {found} begins where call {expected} should")]
    CallNumber {
        /// The number that should come.
        expected: u32,
        /// The one that comes.
        found: u32,
    },
    /// A call ends that never began.
    #[error("host call {call} ends without having begun")]
    EndWithoutStart {
        /// Which.
        call: u32,
    },
    /// A call ends again.
    #[error("host call {call} ends twice")]
    EndedTwice {
        /// Which.
        call: u32,
    },
    /// A payload is not there.
    #[error("payload {sha256} is missing")]
    PayloadMissing {
        /// Which.
        sha256: ContentHash,
    },
    /// A payload has other bytes.
    #[error("payload {sha256} was changed: its bytes have another digest")]
    PayloadDigest {
        /// Which.
        sha256: ContentHash,
    },
    /// A payload is longer or shorter than the trace says.
    #[error("payload {sha256} has {found} bytes; the trace says {expected}")]
    PayloadLength {
        /// Which.
        sha256: ContentHash,
        /// The trace's word.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// A payload that no record names.
    #[error("payload {sha256} belongs to no record of the trace")]
    ForeignPayload {
        /// Which.
        sha256: ContentHash,
    },
    /// The bundle is another one.
    #[error("the bundle is {found}; the run had {expected}")]
    ForeignBundle {
        /// The header's.
        expected: ContentHash,
        /// What there is.
        found: ContentHash,
    },
    /// The component is another one.
    #[error("the component is {found}; the run had {expected}")]
    ForeignComponent {
        /// The header's.
        expected: ContentHash,
        /// What there is.
        found: ContentHash,
    },
    /// Redis no longer has all entries: the stream was trimmed by its bound, or by hand.
    #[error("the stream was trimmed: {found} of {expected} entries of the trace are left")]
    Trimmed {
        /// As the index says.
        expected: u32,
        /// What there is.
        found: u32,
    },
    /// The index names a stream that is gone.
    #[error("the index knows the trace, but its stream is gone: it expired or was removed")]
    StreamGone,
    /// An entry of the stream is not the one that the index names.
    #[error("entry {entry} of the stream belongs elsewhere: {reason}")]
    ForeignEntry {
        /// Its id.
        entry: String,
        /// Why.
        reason: String,
    },
    /// The index entry itself cannot be read.
    #[error("the index of the trace cannot be read: {reason}")]
    Index {
        /// Why.
        reason: String,
    },
    /// The trace is of another run than the one asked for.
    #[error("the trace is of run {found}, attempt {attempt}; asked for was {expected}")]
    ForeignRun {
        /// Asked for.
        expected: ExecutionId,
        /// The header's.
        found: ExecutionId,
        /// The header's attempt.
        attempt: u32,
    },
    /// An exported file is broken.
    #[error("the file cannot be read: {reason}")]
    File {
        /// Why.
        reason: String,
    },
}

impl Damage {
    /// A packed trace over [`MAX_PACKED_BYTES`].
    pub(crate) const fn packed_too_large() -> Self {
        Self::TooLarge { what: "packed bytes", limit: MAX_PACKED_BYTES as u64 }
    }
}
