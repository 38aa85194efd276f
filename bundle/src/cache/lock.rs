//! Locks between processes.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Whether the name still means the file that we hold open.
pub(super) fn still_there(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn taken(result: Result<(), TryLockError>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// An exclusive lock on a name. The file is removed with it, or there would be one for every hash ever asked for;
/// whoever waited for the removed file notices by [`still_there`].
#[derive(Debug)]
pub(super) struct NameLock {
    path: PathBuf,
    file: File,
}

impl NameLock {
    /// Takes the lock if nobody has it.
    pub fn try_take(path: PathBuf) -> io::Result<Option<Self>> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)?;
            if !taken(file.try_lock())? {
                return Ok(None);
            }
            if still_there(&file, &path)? {
                return Ok(Some(Self { path, file }));
            }
        }
    }
}

impl Drop for NameLock {
    fn drop(&mut self) {
        // Removed while still held: a file that others find under this name is never one that we let go.
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

/// Opens a file and shares it. None if it is gone or somebody has it alone.
pub(super) fn share(path: &Path) -> io::Result<Option<File>> {
    lock_existing(path, File::try_lock_shared)
}

/// Opens a file and takes it alone. None if it is gone or anybody has it.
pub(super) fn own(path: &Path) -> io::Result<Option<File>> {
    lock_existing(path, File::try_lock)
}

fn lock_existing(path: &Path, lock: impl Fn(&File) -> Result<(), TryLockError>) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    Ok((taken(lock(&file))? && still_there(&file, path)?).then_some(file))
}
