//! Limits of an archive, and the readers that hold them.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::rc::Rc;

use super::ArchiveError;

/// What an archive may grow to. The defaults fit every bundle that the existing platform accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Compressed bytes: 200 MiB, the existing server's upload cap (interop 5.1).
    pub archive_bytes: u64,
    /// Bytes after decompression, tar's own headers included: 1 GiB. Five times the archive cap is what WebAssembly
    /// and JavaScript compress to; more would let one bundle push all others out of a cache.
    pub unpacked_bytes: u64,
    /// Files, folders (implied ones too), links and hidden entries: 20,000. A UI with every source map has hundreds.
    pub entries: u32,
    /// Bytes of a name: 512.
    pub path_bytes: usize,
    /// Segments of a name: 32.
    pub depth: usize,
    /// Unpacked to compressed bytes: 200. Text compresses 10 to 30 times; only padding gets far above.
    pub ratio: u64,
    /// Unpacked bytes before the ratio counts: 16 MiB, so that a small file of zeros is no crime.
    pub ratio_from: u64,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self {
            archive_bytes: 200 << 20,
            unpacked_bytes: 1 << 30,
            entries: 20_000,
            path_bytes: 512,
            depth: 32,
            ratio: 200,
            ratio_from: 16 << 20,
        }
    }
}

/// zstd windows up to 128 MiB, which is `zstd --ultra -22` and what zstd itself decodes unasked. Larger ones
/// (`--long=31`) would cost memory before a limit on bytes could speak.
pub(super) const WINDOW_LOG_MAX: u32 = 27;

/// What both readers of one unpacking have counted. Errors travel here, not through `io::Error`, because the layers
/// between (zstd, tar) wrap and reword what passes through them.
#[derive(Debug, Default)]
pub(super) struct Meter {
    compressed: Cell<u64>,
    unpacked: Cell<u64>,
    breach: RefCell<Option<ArchiveError>>,
    io: RefCell<Option<io::Error>>,
}

impl Meter {
    /// Bytes after decompression so far.
    pub fn unpacked(&self) -> u64 {
        self.unpacked.get()
    }

    /// What a read error really was.
    pub fn explain(&self, error: io::Error) -> super::UnpackError {
        if let Some(breach) = self.breach.take() {
            return breach.into();
        }
        match self.io.take() {
            Some(io) => super::UnpackError::Io(io),
            None => ArchiveError::Damaged { source: error }.into(),
        }
    }

    fn breach(&self, error: ArchiveError) -> io::Error {
        let text = error.to_string();
        *self.breach.borrow_mut() = Some(error);
        io::Error::other(text)
    }
}

/// Counts compressed bytes and tells a failing disk from a damaged archive.
pub(super) struct CompressedReader<R> {
    pub inner: R,
    pub meter: Rc<Meter>,
    pub limit: u64,
}

impl<R: Read> Read for CompressedReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = match self.inner.read(buf) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let again = io::Error::new(error.kind(), "the archive file cannot be read");
                *self.meter.io.borrow_mut() = Some(error);
                return Err(again);
            }
        };
        let total = self.meter.compressed.get().saturating_add(n as u64);
        self.meter.compressed.set(total);
        if total > self.limit {
            return Err(self.meter.breach(ArchiveError::ArchiveTooLarge { limit: self.limit }));
        }
        Ok(n)
    }
}

/// Counts what comes out of the decoder. Stops a bomb within one buffer of its limit.
pub(super) struct UnpackedReader<R> {
    pub inner: R,
    pub meter: Rc<Meter>,
    pub limits: ArchiveLimits,
}

impl<R: Read> Read for UnpackedReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        let total = self.meter.unpacked.get().saturating_add(n as u64);
        self.meter.unpacked.set(total);
        let ArchiveLimits { unpacked_bytes, ratio, ratio_from, .. } = self.limits;
        if total > unpacked_bytes {
            return Err(self.meter.breach(ArchiveError::UnpackedTooLarge { limit: unpacked_bytes }));
        }
        if total > ratio_from && total > self.meter.compressed.get().saturating_mul(ratio) {
            return Err(self.meter.breach(ArchiveError::Ratio { limit: ratio }));
        }
        Ok(n)
    }
}
