//! The data folder: where everything is kept, readable by its owner alone, used by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Whether a process holds the folder now.
pub(super) fn is_held(path: &Path) -> bool {
    let lock = File::open(path.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The data folder of a running `longshore dev`; the lock ends with it.
pub(super) struct DataDir {
    root: PathBuf,
    /// As the user named it, for lines that he may copy.
    shown: PathBuf,
    lock: File,
}

impl DataDir {
    /// Makes the folder (0700) and locks it.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data folder {}", path.display()))?;
        // It may have been there with other rights.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot close {} to others", path.display()))?;
        let root = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
        let lock = Self::lock(&root)?;
        let this = Self { root, shown: path.to_owned(), lock };
        for part in ["nats", "redis", "s3", "cache", "logs"] {
            this.part(part)?;
        }
        Ok(this)
    }

    fn lock(root: &Path) -> anyhow::Result<File> {
        let path = root.join("lock");
        let mut options = OpenOptions::new();
        let mut lock = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {
                lock.set_len(0).and_then(|()| write!(lock, "process {}", std::process::id()))?;
                Ok(lock)
            }
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Read only to say more; without it the message still says what to do.
                let _ = lock.take(200).read_to_string(&mut owner);
                let owner = if owner.is_empty() { String::new() } else { format!(" ({owner})") };
                anyhow::bail!(
                    "another `longshore dev` is running in {}{owner}: end it by Ctrl-C first, or start this one with `--data DIR --ports auto`",
                    root.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// Notes in the lock file where this process answers, for the message that a second one prints.
    pub(super) fn announce(&mut self, url: &str) {
        let written = self
            .lock
            .set_len(0)
            .and_then(|()| self.lock.rewind())
            .and_then(|()| write!(self.lock, "process {}, {url}", std::process::id()));
        // Only a nicer message is lost.
        drop(written);
    }

    /// A folder inside, made (0700) if it is not there.
    pub(super) fn part(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.root.join(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// A file or folder inside, as an absolute path.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The same as the user would type it.
    pub(super) fn shown(&self, name: &str) -> PathBuf {
        self.shown.join(name)
    }

    /// Removes a file that only means something while this process runs.
    pub(super) fn forget(&self, name: &str) {
        // Not there is as good; anything else leaves a file that points to nothing, which its readers can tell.
        let _ = std::fs::remove_file(self.path(name));
    }

    /// Writes a file that only its owner reads.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        let write = || -> std::io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(content)
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_who_holds_the_folder_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut first = DataDir::open(&data).unwrap();
        first.announce("http://127.0.0.1:8085");
        let error = DataDir::open(&data).map(|_| ()).unwrap_err().to_string();
        let owner = format!("(process {}, http://127.0.0.1:8085)", std::process::id());
        assert!(error.contains("another `longshore dev`") && error.contains(&owner), "{error}");
        assert!(is_held(&data));
        drop(first);
        assert!(!is_held(&data) && !is_held(&dir.path().join("none")));
        assert!(DataDir::open(&data).is_ok());
    }

    #[test]
    fn an_open_folder_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let file = data.write("x.json", b"{}").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(dir.path()), mode(&file), mode(&data.path("logs"))), (0o700, 0o600, 0o700));
    }
}
