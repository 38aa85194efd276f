//! `.lstrace`: a run in one file that can be replayed anywhere. A tar of `trace`, `payloads/HEX` in the order of their
//! names, and `bundle.tar.zst`; the same bytes from the same run.
//!
//! A file may come from anybody. Nothing is unpacked to disk, names and types of entries are a closed list, and every
//! digest is checked before anything is given out.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::str::FromStr as _;

use bytes::Bytes;
use longshore_proto::ContentHash;

use crate::container::MAX_PACKED_BYTES;
use crate::damage::Damage;
use crate::payloads::MAX_PAYLOAD_BYTES;
use crate::trace::Trace;

/// The largest file.
pub const MAX_FILE_BYTES: u64 = 512 << 20;

const TRACE: &str = "trace";
const PAYLOADS: &str = "payloads/";
const BUNDLE: &str = "bundle.tar.zst";

/// What a file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// The packed trace.
    pub trace: Bytes,
    /// Those that the trace names and does not hold.
    pub payloads: BTreeMap<ContentHash, Bytes>,
    /// The archive that ran. Without it the run can be looked at, but not replayed.
    pub bundle: Option<Bytes>,
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is damaged, or no such file.
    #[error("the file is damaged")]
    Damaged(#[source] Damage),
    /// The disk or the connection failed.
    #[error("the file cannot be read")]
    Io(#[source] io::Error),
}

impl Exported {
    /// Proves that everything belongs together.
    ///
    /// # Errors
    /// The trace is damaged; a payload is missing, changed or foreign; the bundle is another one.
    pub fn check(&self) -> Result<Trace, Damage> {
        let trace = crate::unpack(&self.trace)?;
        trace.check_payloads(&self.payloads)?;
        if let Some(bundle) = &self.bundle {
            trace.check_bundle(bundle)?;
        }
        Ok(trace)
    }
}

/// Whether bytes begin as a packed trace does, without the file around it: whoever saved what the API gave has one.
pub fn is_bare(bytes: &[u8]) -> bool {
    bytes.starts_with(crate::container::MAGIC)
}

/// Writes a file. What is written is not checked: [`Exported::check`] is.
///
/// # Errors
/// Writing fails.
pub fn write(exported: &Exported, to: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(to);
    let mut entry = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes)
    };
    entry(TRACE, &exported.trace)?;
    for (sha256, bytes) in &exported.payloads {
        entry(&format!("{PAYLOADS}{}", sha256.hex()), bytes)?;
    }
    if let Some(bundle) = &exported.bundle {
        entry(BUNDLE, bundle)?;
    }
    tar.into_inner()?.flush()
}

/// Reads a file and proves all of it.
///
/// # Errors
/// It is no such file, is damaged, or cannot be read.
pub fn read(from: impl Read) -> Result<(Exported, Trace), FileError> {
    let mut bytes = Vec::new();
    from.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(FileError::Io)?;
    read_bytes(&Bytes::from(bytes)).map_err(FileError::Damaged)
}

/// [`read`] from memory, without copying.
///
/// # Errors
/// It is no such file, or is damaged.
pub fn read_bytes(bytes: &Bytes) -> Result<(Exported, Trace), Damage> {
    let length = bytes.len() as u64;
    if length > MAX_FILE_BYTES {
        return Err(Damage::TooLarge { what: "bytes of the file", limit: MAX_FILE_BYTES });
    }
    let mut archive = tar::Archive::new(io::Cursor::new(bytes));
    let mut exported = Exported::default();
    let (mut seen, mut last) = (None, 0);
    {
        // Raw, because otherwise the crate reads long names of any size into memory; no name here is long.
        let entries = archive.entries().map_err(|error| broken(error.to_string()))?.raw(true);
        for entry in entries {
            let entry = entry.map_err(|error| broken(error.to_string()))?;
            let path = entry.path_bytes();
            let name = std::str::from_utf8(&path).map_err(|_| broken("a name is no text".to_owned()))?;
            if entry.header().entry_type() != tar::EntryType::Regular {
                return Err(broken(format!("`{}` is no plain file", name.escape_debug())));
            }
            let (at, size) = (entry.raw_file_position(), entry.size());
            let end = at.checked_add(size).filter(|end| *end <= length);
            let end =
                end.ok_or_else(|| Damage::Truncated { expected: at.saturating_add(size), found: length })?;
            // Both are at most `length`.
            let range = usize::try_from(at).unwrap_or_default()..usize::try_from(end).unwrap_or_default();
            last = end;
            place(&mut exported, &mut seen, name, bytes.slice(range))?;
        }
    }
    if exported.trace.is_empty() {
        return Err(broken("there is no `trace` in it".to_owned()));
    }
    ended(bytes, last)?;
    let trace = exported.check()?;
    Ok((exported, trace))
}

/// Puts an entry where it belongs. They come in one order only, so that a second one of a name is out of order.
fn place(
    exported: &mut Exported,
    seen: &mut Option<(u8, String)>,
    name: &str,
    bytes: Bytes,
) -> Result<(), Damage> {
    let foreign = || broken(format!("`{}` does not belong there", name.escape_debug()));
    let too_large = |what, limit: u64| Damage::TooLarge { what, limit };
    let (rank, limit, what) = match name {
        TRACE => (0, MAX_PACKED_BYTES as u64, "bytes of the trace"),
        BUNDLE => (2, MAX_FILE_BYTES, "bytes of the bundle"),
        _ if name.starts_with(PAYLOADS) => (1, MAX_PAYLOAD_BYTES, "bytes of a payload"),
        _ => return Err(foreign()),
    };
    let here = Some((rank, name.to_owned()));
    if *seen >= here || (seen.is_none() && rank != 0) {
        return Err(foreign());
    }
    *seen = here;
    if bytes.len() as u64 > limit {
        return Err(too_large(what, limit));
    }
    match name.strip_prefix(PAYLOADS) {
        None if rank == 0 => exported.trace = bytes,
        None => exported.bundle = Some(bytes),
        Some(digits) => {
            let sha256 = ContentHash::from_str(digits).ok().filter(|hash| hash.hex() == digits);
            exported.payloads.insert(sha256.ok_or_else(foreign)?, bytes);
        }
    }
    Ok(())
}

/// After the last entry, which ends at `end`, tar has two blocks of zeros, and maybe more; without them the file was
/// cut between two entries.
fn ended(bytes: &[u8], end: u64) -> Result<(), Damage> {
    let found = bytes.len() as u64;
    let expected = end.next_multiple_of(512).saturating_add(1_024);
    if found < expected || !found.is_multiple_of(512) {
        return Err(Damage::Truncated { expected: expected.max(found.next_multiple_of(512)), found });
    }
    let rest = usize::try_from(end).ok().and_then(|end| bytes.get(end..)).unwrap_or_default();
    if rest.iter().any(|byte| *byte != 0) {
        return Err(broken("something follows its end".to_owned()));
    }
    Ok(())
}

const fn broken(reason: String) -> Damage {
    Damage::File { reason }
}
