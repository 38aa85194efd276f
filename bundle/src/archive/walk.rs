//! Reads an archive entry by entry and hands what is allowed to a sink.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::rc::Rc;

use tar::EntryType;

use super::limits::{CompressedReader, Meter, UnpackedReader, WINDOW_LOG_MAX};
use super::name::{self, Name};
use super::pax::{self, Pax};
use super::{ArchiveError, ArchiveLimits, UnpackError};

/// Bytes of a GNU long name or PAX header: they are read into memory. Extended attributes of macOS take tens of KiB.
const EXTENSION_BYTES: u64 = 256 << 10;

/// Takes what an archive holds. Names are checked, unique, and come after their folders.
pub trait Sink {
    /// A file being written.
    type File: Write;

    /// Makes a folder. Its parent was made before.
    ///
    /// # Errors
    /// Whatever this machine's disk says; ends the walk.
    fn folder(&mut self, path: &str) -> io::Result<()>;

    /// Opens a file. Its folder was made before.
    ///
    /// # Errors
    /// Whatever this machine's disk says; ends the walk.
    fn file(&mut self, path: &str) -> io::Result<Self::File>;

    /// Learns of an entry that is left out. Nothing to do for who only unpacks.
    fn skipped(&mut self, _path: &str, _why: Skipped) {}
}

/// Why an entry of an archive is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Skipped {
    /// A segment of its name starts with a dot.
    Hidden,
    /// A hard or symbolic link.
    Link,
}

/// What a walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Files handed over.
    pub files: u32,
    /// Their bytes, each file rounded up to 4 KiB as a disk does.
    pub bytes: u64,
    /// Hidden entries left out.
    pub hidden: u32,
    /// Links left out.
    pub links: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
}

struct Walk<'a, S> {
    sink: &'a mut S,
    limits: ArchiveLimits,
    meter: Rc<Meter>,
    seen: HashMap<String, Kind>,
    entries: u32,
    report: Report,
    long_name: Option<Vec<u8>>,
    pax: Option<Pax>,
}

/// Reads a whole `tar.zst`: to the end of the compressed stream, so that a cut or padded archive is noticed.
///
/// # Errors
/// The archive breaks a rule, or the sink or the reader failed. What the sink was given by then is the caller's to
/// throw away.
pub fn walk<S: Sink>(reader: impl Read, limits: &ArchiveLimits, sink: &mut S) -> Result<Report, UnpackError> {
    let meter = Rc::new(Meter::default());
    let compressed = CompressedReader { inner: reader, meter: meter.clone(), limit: limits.archive_bytes };
    let mut decoder = zstd::Decoder::new(compressed).map_err(UnpackError::Io)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(UnpackError::Io)?;
    let unpacked = UnpackedReader { inner: decoder, meter: meter.clone(), limits: *limits };

    let mut archive = tar::Archive::new(unpacked);
    let mut walk = Walk {
        sink,
        limits: *limits,
        meter: meter.clone(),
        seen: HashMap::new(),
        entries: 0,
        report: Report::default(),
        long_name: None,
        pax: None,
    };
    // Raw, because otherwise the crate reads long names and PAX headers of any size into memory itself.
    for entry in archive.entries().map_err(|error| meter.explain(error))?.raw(true) {
        walk.entry(entry.map_err(|error| meter.explain(error))?)?;
    }
    let report = walk.finish()?;
    drain(archive.into_inner(), &meter)?;
    Ok(report)
}

/// After tar's end there is only padding. Anything else would be seen by one reader of this archive and not by another.
fn drain(mut rest: impl Read, meter: &Meter) -> Result<(), UnpackError> {
    let mut buf = [0; 16 << 10];
    loop {
        match rest.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(n) if buf.iter().take(n).all(|b| *b == 0) => {}
            Ok(_) => return Err(ArchiveError::Header("there are bytes after the end of the archive").into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(meter.explain(error)),
        }
    }
}

/// What an entry of this type is called when it may not be there.
fn special(kind: EntryType) -> &'static str {
    match kind.as_byte() {
        b'3' => "a character device",
        b'4' => "a block device",
        b'6' => "a fifo",
        b'S' => "a sparse file",
        _ => "of an unknown kind",
    }
}

impl<S: Sink> Walk<'_, S> {
    fn entry<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), UnpackError> {
        let kind = entry.header().entry_type();
        let size = entry.header().entry_size().map_err(|source| ArchiveError::Damaged { source })?;
        if size > self.limits.unpacked_bytes.saturating_sub(self.meter.unpacked()) {
            return Err(ArchiveError::UnpackedTooLarge { limit: self.limits.unpacked_bytes }.into());
        }
        if kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions() {
            return self.extension(kind, size, &mut entry);
        }
        if kind.is_pax_global_extensions() {
            // `git archive` leaves its commit here. A name or size for all entries is nothing a packer writes.
            let pax = pax::parse(&self.small(size, &mut entry)?)?;
            return if pax == Pax::default() {
                Ok(())
            } else {
                Err(ArchiveError::Header("a global PAX header names a path or size").into())
            };
        }

        let raw = self.name(&entry, size)?;
        let name = name::check(&raw, &self.limits)?;
        self.count()?;
        // Before V7 tar had a kind for folders it wrote a slash at the end.
        let is_folder = kind.is_dir() || (kind.is_file() && raw.ends_with(b"/"));
        let is_link = kind.is_symlink() || kind.is_hard_link();
        if !(is_folder || is_link || kind.is_file() || kind.is_contiguous()) {
            return Err(ArchiveError::Special { name: name::shown(&raw), kind: special(kind) }.into());
        }
        if !kind.is_file() && !kind.is_contiguous() && size != 0 || is_folder && size != 0 {
            return Err(ArchiveError::Header("a folder or link has content").into());
        }
        match name {
            Name { hidden: true, path } => {
                self.report.hidden = self.report.hidden.saturating_add(1);
                self.sink.skipped(&path, Skipped::Hidden);
            }
            Name { path, .. } if is_link => {
                self.report.links = self.report.links.saturating_add(1);
                self.sink.skipped(&path, Skipped::Link);
            }
            Name { path, .. } if is_folder => self.folders(&path)?,
            Name { path, .. } if path.is_empty() => {
                let problem = "names the archive's own folder";
                return Err(ArchiveError::Name { name: name::shown(&raw), problem }.into());
            }
            Name { path, .. } => self.file(path, size, &mut entry)?,
        }
        Ok(())
    }

    /// A header that describes the next entry. One of each at most: a chain of them would be work without entries.
    fn extension(&mut self, kind: EntryType, size: u64, entry: &mut impl Read) -> Result<(), UnpackError> {
        let data = self.small(size, entry)?;
        if kind.is_gnu_longlink() {
            return self.count();
        }
        let twice = if kind.is_gnu_longname() {
            // The name ends with a NUL.
            let name = data.strip_suffix(b"\0").unwrap_or(&data).to_vec();
            self.long_name.replace(name).is_some()
        } else {
            self.pax.replace(pax::parse(&data)?).is_some()
        };
        if twice { Err(ArchiveError::Header("two headers describe the same entry").into()) } else { Ok(()) }
    }

    fn small(&self, size: u64, entry: &mut impl Read) -> Result<Vec<u8>, UnpackError> {
        if size > EXTENSION_BYTES {
            return Err(ArchiveError::Header("a long name or PAX header is larger than 256 KiB").into());
        }
        let mut data = Vec::new();
        entry.read_to_end(&mut data).map_err(|error| self.meter.explain(error))?;
        if data.len() as u64 == size { Ok(data) } else { Err(cut_short()) }
    }

    /// The name that holds: PAX, then GNU, then the header's own. Where they could mean two things to two readers, no.
    fn name<R: Read>(&mut self, entry: &tar::Entry<'_, R>, size: u64) -> Result<Vec<u8>, UnpackError> {
        let long = self.long_name.take();
        let pax = self.pax.take().unwrap_or_default();
        if pax.sparse {
            let name = pax.path.unwrap_or_default();
            return Err(ArchiveError::Special { name: name::shown(&name), kind: "a sparse file" }.into());
        }
        if pax.size.is_some_and(|pax| pax != size) {
            return Err(ArchiveError::Header("a PAX header and its entry disagree about the size").into());
        }
        match (pax.path, long) {
            (Some(pax), Some(long)) if pax != long => {
                Err(ArchiveError::Header("a PAX header and a GNU long name disagree").into())
            }
            (Some(name), _) | (None, Some(name)) => Ok(name),
            (None, None) => Ok(entry.header().path_bytes().into_owned()),
        }
    }

    fn count(&mut self) -> Result<(), UnpackError> {
        self.entries = self.entries.saturating_add(1);
        if self.entries > self.limits.entries {
            return Err(ArchiveError::TooManyEntries { limit: self.limits.entries }.into());
        }
        Ok(())
    }

    /// Makes a folder and those above it. A folder may be named again; a file in its place may not.
    fn folders(&mut self, path: &str) -> Result<(), UnpackError> {
        if path.is_empty() {
            return Ok(());
        }
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let folder = path.get(..end).unwrap_or(path);
            match self.seen.get(folder) {
                Some(Kind::Folder) => {}
                Some(Kind::File) => return Err(ArchiveError::Duplicate { name: folder.to_owned() }.into()),
                None => {
                    // A file 32 deep would otherwise make 31 inodes that nobody counts.
                    self.count()?;
                    self.seen.insert(folder.to_owned(), Kind::Folder);
                    self.sink.folder(folder).map_err(UnpackError::Io)?;
                }
            }
        }
        Ok(())
    }

    /// A name twice is refused: the first reader would run one file and the second another.
    fn file(&mut self, path: String, size: u64, entry: &mut impl Read) -> Result<(), UnpackError> {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folders(folder)?;
        }
        if self.seen.contains_key(&path) {
            return Err(ArchiveError::Duplicate { name: path }.into());
        }
        let mut file = self.sink.file(&path).map_err(UnpackError::Io)?;
        let mut buf = [0; 64 << 10];
        let mut copied = 0u64;
        loop {
            let n = match entry.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.meter.explain(error)),
            };
            file.write_all(buf.get(..n).unwrap_or_default()).map_err(UnpackError::Io)?;
            copied = copied.saturating_add(n as u64);
        }
        if copied != size {
            return Err(cut_short());
        }
        file.flush().map_err(UnpackError::Io)?;
        self.seen.insert(path, Kind::File);
        self.report.files = self.report.files.saturating_add(1);
        self.report.bytes = self.report.bytes.saturating_add(size.max(1).next_multiple_of(4096));
        Ok(())
    }

    fn finish(self) -> Result<Report, UnpackError> {
        if self.long_name.is_some() || self.pax.is_some() {
            return Err(cut_short());
        }
        Ok(self.report)
    }
}

fn cut_short() -> UnpackError {
    ArchiveError::Damaged { source: io::ErrorKind::UnexpectedEof.into() }.into()
}
