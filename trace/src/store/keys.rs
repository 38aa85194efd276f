//! Names of a tenant's four keys, and the row that the index has for each trace.

use longshore_proto::trace::Summary;
use longshore_proto::{ExecutionId, TenantId, wire};

use crate::damage::Damage;

/// One tenant's keys. The braces make them neighbours in a cluster, where a script may touch one slot only.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// The stream of chunks: fields `x` (execution.attempt), `n` (`2/3`), `d` (bytes).
    pub stream: String,
    /// A hash: `execution.attempt` to a row ([`Row`]); `execution` to its newest attempt where that is not the first.
    pub index: String,
    /// A sorted set of `execution.attempt` by start time.
    pub list: String,
    /// Bytes of the traces in the stream and of their rows.
    pub total: String,
}

impl Keys {
    pub(super) fn of(prefix: &str, tenant: &TenantId) -> Self {
        let key = |kind: char| format!("{prefix}{kind}:{{{tenant}}}");
        Self { stream: key('t'), index: key('i'), list: key('l'), total: key('b') }
    }

    /// In the order of the scripts.
    pub(super) fn all(&self) -> [&str; 4] {
        [&self.stream, &self.index, &self.list, &self.total]
    }
}

/// `execution.attempt`.
pub(super) fn name(execution: ExecutionId, attempt: u32) -> String {
    format!("{execution}.{attempt}")
}

/// What the index says of a trace: `FIRST LAST CHUNKS COST BYTES DIGEST SUMMARY`, the summary as MessagePack. Text in
/// front, because the scripts read it and write the ids, which only Redis knows.
#[derive(Debug)]
pub(super) struct Row {
    pub first: StreamId,
    pub last: StreamId,
    pub chunks: u32,
    pub bytes: u64,
    /// The digest at the end of the packed trace.
    pub digest: [u8; 32],
    pub summary: Summary,
}

/// An id of a stream's entry; ordered as Redis orders them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId(u64, u64);

impl StreamId {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (millis, number) = text.split_once('-')?;
        Some(Self(millis.parse().ok()?, number.parse().ok()?))
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl Row {
    /// What the caller of the script knows: from `BYTES` on.
    pub(super) fn rest(bytes: &[u8], summary: &Summary) -> Result<Vec<u8>, wire::WireError> {
        let digest = bytes.last_chunk::<32>().copied().unwrap_or_default();
        let mut rest = format!("{} {} ", bytes.len(), hex::encode(digest)).into_bytes();
        rest.extend(wire::encode(summary)?);
        Ok(rest)
    }

    /// Reads a row.
    pub(super) fn parse(row: &[u8]) -> Result<Self, Damage> {
        let broken = |reason: &str| Damage::Index { reason: reason.to_owned() };
        let mut parts = row.splitn(7, |byte| *byte == b' ');
        let mut text = || parts.next().and_then(|part| std::str::from_utf8(part).ok());
        let mut id = || text().and_then(StreamId::parse);
        let (Some(first), Some(last)) = (id(), id()) else { return Err(broken("it names no entries")) };
        let chunks = text().and_then(|n| n.parse().ok());
        let _cost = text();
        let bytes = text().and_then(|n| n.parse().ok());
        let mut digest = [0; 32];
        let known = text().is_some_and(|digits| hex::decode_to_slice(digits, &mut digest).is_ok());
        let (Some(chunks), Some(bytes), true) = (chunks, bytes, known) else {
            return Err(broken("a number or the digest is missing"));
        };
        let summary = parts.next().and_then(|summary| wire::decode(summary).ok());
        let summary = summary.ok_or_else(|| broken("the summary cannot be decoded"))?;
        Ok(Self { first, last, chunks, bytes, digest, summary })
    }
}
