//! Unpacks an archive into two fresh folders: `ui/**` into one, everything else into the other.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::walk::{Report, Sink, walk};
use super::{ArchiveLimits, UnpackError};

/// Above this many files one `syncfs` is cheaper than an `fsync` of each; below, it would wait for everything else
/// that the machine has to write.
const FSYNC_FILES: usize = 512;

/// Where an archive goes. Both folders must not exist, and nobody else may write where they will be: then no link
/// can be on the way, because unpacking makes none.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Everything but `ui/**`.
    pub bundle: &'a Path,
    /// `ui/**`, without the prefix. Made only if there is any.
    pub ui: &'a Path,
}

struct Folders<'a> {
    target: Target<'a>,
    /// All folders made, for fsync.
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Folders<'_> {
    /// `path` is checked: plain segments only.
    fn place(&self, path: &str) -> PathBuf {
        match path.strip_prefix("ui/") {
            Some(rest) => self.target.ui.join(rest),
            None => self.target.bundle.join(path),
        }
    }

    fn make(&mut self, folder: PathBuf) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&folder)?;
        self.folders.push(folder);
        Ok(())
    }

    fn sync(self) -> io::Result<()> {
        if self.files.len() > FSYNC_FILES {
            let any = File::open(self.target.bundle)?;
            return rustix::fs::syncfs(&any).map_err(Into::into);
        }
        for path in self.files.iter().chain(self.folders.iter().rev()) {
            File::open(path)?.sync_all()?;
        }
        Ok(())
    }
}

impl Sink for Folders<'_> {
    type File = File;

    fn folder(&mut self, path: &str) -> io::Result<()> {
        let folder = if path == "ui" { self.target.ui.to_owned() } else { self.place(path) };
        self.make(folder)
    }

    fn file(&mut self, path: &str) -> io::Result<Self::File> {
        let path = self.place(path);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o444)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)?;
        self.files.push(path);
        Ok(file)
    }
}

/// Unpacks and waits until all of it is on disk. Blocking.
///
/// # Errors
/// The archive breaks a rule, or the disk failed. The folders are then partly there, for the caller to remove.
pub fn unpack(reader: impl Read, limits: &ArchiveLimits, target: Target<'_>) -> Result<Report, UnpackError> {
    let mut folders = Folders { target, folders: Vec::new(), files: Vec::new() };
    folders.make(target.bundle.to_owned()).map_err(UnpackError::Io)?;
    let report = walk(BufReader::with_capacity(128 << 10, reader), limits, &mut folders)?;
    folders.sync().map_err(UnpackError::Io)?;
    Ok(report)
}
