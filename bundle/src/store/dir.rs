//! A folder as a bundle store: for development, tests, and read-only images with bundles baked in.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{BundleStore, Content, Opened, StoreError};
use crate::key::ObjectKey;

/// A folder. Reading never writes, so a read-only mount will do.
#[derive(Debug, Clone)]
pub struct DirStore {
    root: PathBuf,
}

impl DirStore {
    /// The store in `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// A missing file in a present folder is a definite no; in a missing folder it says only that nothing is mounted.
    async fn missing_or(&self, error: io::Error) -> StoreError {
        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
            return match tokio::fs::metadata(&self.root).await {
                Ok(root) if root.is_dir() => StoreError::NotFound,
                Ok(_) => StoreError::Folder { source: io::ErrorKind::NotADirectory.into() },
                Err(source) => StoreError::Folder { source },
            };
        }
        StoreError::Folder { source: error }
    }
}

/// Writes beside, then renames: a reader sees the old object or the new one.
fn write(path: &Path, content: Content) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(folder)?;
    let beside = folder.join(format!(".put-{:032x}", rand::random::<u128>()));
    let written = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&beside)?;
        match content {
            Content::Bytes(bytes) => io::Write::write_all(&mut file, &bytes)?,
            Content::File(from) => drop(io::copy(&mut std::fs::File::open(from)?, &mut file)?),
        }
        file.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[async_trait]
impl BundleStore for DirStore {
    async fn exists_object(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        match tokio::fs::metadata(self.path(key)).await {
            Ok(found) => Ok(found.is_file()),
            Err(error) => match self.missing_or(error).await {
                StoreError::NotFound => Ok(false),
                error => Err(error),
            },
        }
    }

    async fn open_object(&self, key: &ObjectKey) -> Result<Opened, StoreError> {
        let path = self.path(key);
        // Looked at first: opening a fifo would wait for a writer.
        let found = match tokio::fs::metadata(&path).await {
            Ok(found) => found,
            Err(error) => return Err(self.missing_or(error).await),
        };
        if !found.is_file() {
            return Err(StoreError::NotFound);
        }
        match tokio::fs::File::open(&path).await {
            Ok(file) => Ok(Opened { len: Some(found.len()), body: Box::pin(file) }),
            Err(error) => Err(self.missing_or(error).await),
        }
    }

    async fn put_object(&self, key: &ObjectKey, content: Content) -> Result<(), StoreError> {
        let path = self.path(key);
        tokio::task::spawn_blocking(move || write(&path, content))
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|source| StoreError::Folder { source })
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let mut entries =
            tokio::fs::read_dir(&self.root).await.map_err(|source| StoreError::Folder { source })?;
        entries.next_entry().await.map(drop).map_err(|source| StoreError::Folder { source })
    }

    async fn ensure_bucket(&self) -> Result<(), StoreError> {
        tokio::fs::create_dir_all(&self.root).await.map_err(|source| StoreError::Folder { source })
    }

    fn describe(&self) -> String {
        format!("folder {}", self.root.display())
    }

    fn url(&self, key: &ObjectKey) -> String {
        format!("file://{}", self.path(key).display())
    }
}
