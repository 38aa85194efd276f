//! The bytes around the records: `LSTRACE\0`, the schema's version (u16), the frame's length (u64), one zstd frame of
//! records, each behind its length (u32), and the SHA-256 of all before it. Numbers are little endian.
//!
//! The length stands in front because a cut trace and a changed one are different news. Beside the digest, which tells
//! damage, the records hold a hash of their own ([`rolling`]) that tells records of another trace.

use bytes::Bytes;
use longshore_proto::ContentHash;
use longshore_proto::trace::TRACE_VERSION;
use sha2::{Digest as _, Sha256};

use crate::damage::Damage;

/// What a trace begins with.
pub const MAGIC: &[u8; 8] = b"LSTRACE\0";
const HEAD: usize = MAGIC.len() + 2 + 8;
const DIGEST: usize = 32;

/// The largest trace, packed.
pub const MAX_PACKED_BYTES: usize = 64 << 20;
/// The largest trace, unpacked: what a few packed bytes can be blown up to.
pub const MAX_UNPACKED_BYTES: usize = 64 << 20;
/// The most records: half a million of them are about 60 MiB once decoded.
pub const MAX_RECORDS: u32 = 1 << 19;

/// Level 1 packs the 18 KiB of a run with 40 host calls into 3.0 KiB in 30 µs; level 3 takes a third longer and gives no
/// less, because what repeats is near.
const LEVEL: i32 = 1;

/// What the rolling hash begins with.
const ROLLING: &[u8] = b"longshore-trace/1";

/// A container as it lies, before any record was looked at.
#[derive(Debug)]
pub struct Opened {
    /// The schema's version, not newer than [`TRACE_VERSION`].
    pub version: u16,
    /// Records, each behind its length.
    pub frame: Vec<u8>,
}

/// Packs records, each behind its length, as they are: nothing is checked. [`crate::Packer`] is what recorders use;
/// this is for tools and tests that make damaged traces.
///
/// # Errors
/// zstd fails, which it does for want of memory only.
pub fn seal(version: u16, frame: &[u8]) -> std::io::Result<Bytes> {
    let packed = compress(frame)?;
    let mut bytes = Vec::with_capacity(HEAD + packed.len() + DIGEST);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&(packed.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&packed);
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    Ok(Bytes::from(bytes))
}

/// Proves length and digest and unpacks the frame, which may have `limit` bytes.
///
/// # Errors
/// The bytes are not those that [`seal`] made, or more than may be.
pub fn open(bytes: &[u8], limit: usize) -> Result<Opened, Damage> {
    let known = bytes.get(..MAGIC.len().min(bytes.len())).unwrap_or_default();
    if known.is_empty() || !MAGIC.starts_with(known) {
        return Err(Damage::NotATrace);
    }
    let found = bytes.len() as u64;
    let truncated = |expected: u64| Damage::Truncated { expected, found };
    let least = (HEAD + DIGEST) as u64;
    let version = number(bytes, MAGIC.len(), 2).ok_or_else(|| truncated(least))?;
    let version = u16::try_from(version).unwrap_or_default();
    if version > TRACE_VERSION {
        return Err(Damage::FutureSchema { found: version, known: TRACE_VERSION });
    }
    if version == 0 {
        return Err(Damage::NotATrace);
    }
    let length = number(bytes, MAGIC.len() + 2, 8).ok_or_else(|| truncated(least))?;
    let expected = length.saturating_add(least);
    if expected > MAX_PACKED_BYTES as u64 {
        return Err(Damage::packed_too_large());
    }
    if found < expected {
        return Err(truncated(expected));
    }
    // It fits: it is no more than the bytes there are.
    let (whole, surplus) =
        bytes.split_at_checked(usize::try_from(expected).unwrap_or(usize::MAX)).unwrap_or((bytes, &[]));
    if surplus.starts_with(MAGIC) {
        return Err(Damage::Spliced { place: format!("byte {expected}") });
    }
    if !surplus.is_empty() {
        return Err(Damage::Surplus { bytes: surplus.len() as u64 });
    }
    let (covered, digest) = whole.split_at_checked(whole.len() - DIGEST).unwrap_or_default();
    if Sha256::digest(covered).as_slice() != digest {
        return Err(Damage::Digest);
    }
    let frame = decompress(covered.get(HEAD..).unwrap_or_default(), limit)?;
    Ok(Opened { version, frame })
}

/// The records of a frame.
///
/// # Errors
/// A length goes beyond the end, or there are more than [`MAX_RECORDS`].
pub fn split(mut frame: &[u8]) -> Result<Vec<&[u8]>, Damage> {
    let mut records = Vec::new();
    while !frame.is_empty() {
        if records.len() >= MAX_RECORDS as usize {
            return Err(Damage::TooLarge { what: "records", limit: u64::from(MAX_RECORDS) });
        }
        let cut = || Damage::Frame { reason: format!("record {} goes beyond the end", records.len()) };
        let length = number(frame, 0, 4).ok_or_else(cut)?;
        let rest = frame.get(4..).unwrap_or_default();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (record, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        records.push(record);
        frame = rest;
    }
    Ok(records)
}

/// The rolling hash: h = SHA-256(h, length, record) over all records, from SHA-256 of a name on.
pub fn rolling<'r>(records: impl IntoIterator<Item = &'r [u8]>) -> ContentHash {
    let mut hash: [u8; 32] = Sha256::digest(ROLLING).into();
    for record in records {
        let mut next = Sha256::new();
        next.update(hash);
        next.update(u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
        next.update(record);
        hash = next.finalize().into();
    }
    ContentHash::from_bytes(hash)
}

/// `width` bytes at `at`, little endian.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let digits = bytes.get(at..at.checked_add(width)?)?;
    Some(digits.iter().rev().fold(0_u64, |number, digit| number << 8 | u64::from(*digit)))
}

fn compress(frame: &[u8]) -> std::io::Result<Vec<u8>> {
    thread_local! {
        // A new context for each trace costs another 20 µs, twice what packing a small one takes.
        static CONTEXT: std::cell::RefCell<Option<zstd::bulk::Compressor<'static>>> = const { std::cell::RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|kept| {
        let compressor = match kept {
            Some(compressor) => compressor,
            None => kept.insert(zstd::bulk::Compressor::new(LEVEL)?),
        };
        compressor.compress(frame)
    })
}

fn decompress(packed: &[u8], limit: usize) -> Result<Vec<u8>, Damage> {
    let frame = |reason: String| Damage::Frame { reason };
    // Without a size it was not written here; with one, memory is asked for once and never more than that.
    let size = match zstd::zstd_safe::get_frame_content_size(packed) {
        Ok(Some(size)) => size,
        Ok(None) | Err(_) => return Err(frame("it is no zstd frame of known size".to_owned())),
    };
    if size > limit as u64 {
        return Err(Damage::TooLarge { what: "unpacked bytes", limit: limit as u64 });
    }
    // Other frames behind the first would be unpacked with it, up to the first one's size.
    match zstd::zstd_safe::find_frame_compressed_size(packed) {
        Ok(length) if length == packed.len() => {}
        _ => return Err(frame("it is not one zstd frame".to_owned())),
    }
    let bytes = zstd::bulk::decompress(packed, usize::try_from(size).unwrap_or(limit))
        .map_err(|error| frame(error.to_string()))?;
    if bytes.len() as u64 != size {
        return Err(frame(format!("{} bytes came out instead of {size}", bytes.len())));
    }
    Ok(bytes)
}
