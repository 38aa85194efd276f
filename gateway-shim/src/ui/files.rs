//! Files of unpacked bundles: opened, measured, hashed once, streamed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use longshore_proto::ContentHash;
use moka::future::Cache;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::metrics::UiMetrics;

/// What is remembered of files: about 200 bytes and the path each.
const REMEMBERED_BYTES: u64 = 32 << 20;
/// Files read for their hash at once.
const HASHING: usize = 4;
/// What is read at a time, and so what a body holds in memory.
const CHUNK: usize = 64 * 1024;
/// Bodies on their way at once, each with a chunk in memory. They end by themselves: nobody may stop reading for 30 s.
const BODIES: usize = 1024;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// No file of this name; a folder is none.
    #[error("no such file")]
    Missing,
    /// Over `EXT_STATIC_MAX_FILE_BYTES`.
    #[error("asset too large")]
    TooLarge,
    /// As many bodies as this process sends at a time are on their way.
    #[error("too many assets are being sent")]
    Busy,
    /// The cache folder fails.
    #[error("the file cannot be read")]
    Io(#[source] io::Error),
}

/// An open file and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Asset {
    pub file: Arc<File>,
    pub len: u64,
    /// SHA-256 of its bytes.
    pub digest: [u8; 32],
}

/// The files of all bundles.
#[derive(Clone)]
pub(super) struct Files {
    digests: Cache<(ContentHash, Box<str>, u64), [u8; 32]>,
    hashing: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    metrics: UiMetrics,
}

/// Blocking work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Opens a plain file. A link is not followed: unpacking makes none, so one is somebody's attempt.
pub(super) fn open_plain(path: &Path) -> io::Result<(File, u64)> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let found = file.metadata()?;
    if found.is_file() { Ok((file, found.len())) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// No such file, however the system says it.
fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::NotFound | Kind::NotADirectory | Kind::IsADirectory | Kind::InvalidFilename)
        // `O_NOFOLLOW` on a link.
        || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

fn digest(file: &File, len: u64) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut at = 0;
    let mut buffer = vec![0; CHUNK];
    while at < len {
        let read = file.read_at(&mut buffer, at)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        hasher.update(part);
        at = at.saturating_add(part.len() as u64);
    }
    Ok(hasher.finalize().into())
}

impl Files {
    pub(super) fn new(metrics: UiMetrics) -> Self {
        let weight = |(_, path, _): &(ContentHash, Box<str>, u64), _: &[u8; 32]| {
            u32::try_from(200 + path.len()).unwrap_or(u32::MAX)
        };
        Self {
            digests: Cache::builder().max_capacity(REMEMBERED_BYTES).weigher(weight).build(),
            hashing: Arc::new(Semaphore::new(HASHING)),
            bodies: Arc::new(Semaphore::new(BODIES)),
            metrics,
        }
    }

    /// Opens the file at a checked path below `root`. Its digest is computed once, however many ask at the same time.
    pub(super) async fn open(
        &self,
        bundle: ContentHash,
        root: &Path,
        path: &str,
        max: Option<u64>,
    ) -> Result<Asset, FileError> {
        let place = root.join(path);
        let opened = blocking(move || open_plain(&place)).await;
        let (file, len) = match opened {
            Ok((file, len)) => (Arc::new(file), len),
            Err(error) if is_missing(&error) => return Err(FileError::Missing),
            Err(error) => return Err(FileError::Io(error)),
        };
        if max.is_some_and(|max| len > max) {
            return Err(FileError::TooLarge);
        }
        // With the length in it: should a file be changed after all, it is another one.
        let key = (bundle, Box::from(path), len);
        let compute = async {
            let _turn = self.hashing.acquire().await.map_err(io::Error::other)?;
            self.metrics.hashed.inc();
            let file = file.clone();
            blocking(move || digest(&file, len)).await
        };
        let digest = self.digests.try_get_with(key, compute).await;
        let digest =
            digest.map_err(|error| FileError::Io(io::Error::new(error.kind(), error.to_string())))?;
        Ok(Asset { file, len, digest })
    }

    /// A body of some bytes of a file, read as it is sent.
    pub(super) async fn body(&self, file: Arc<File>, start: u64, len: u64) -> Result<Body, FileError> {
        if len == 0 {
            return Ok(Body::empty());
        }
        let permit = self.bodies.clone().try_acquire_owned().map_err(|_| FileError::Busy)?;
        let mut rest = Rest { file, at: start, left: len, permit };
        if len <= CHUNK as u64 {
            let (part, _) = rest.next().await.map_err(FileError::Io)?;
            return Ok(Body::from(part));
        }
        let parts = futures::stream::try_unfold(rest, |mut rest| async move {
            if rest.left == 0 {
                return Ok::<_, io::Error>(None);
            }
            let (part, file) = rest.next().await?;
            rest.file = file;
            Ok(Some((part, rest)))
        });
        Ok(Body::from_stream(parts))
    }
}

/// What is still to be sent.
struct Rest {
    file: Arc<File>,
    at: u64,
    left: u64,
    #[expect(dead_code, reason = "held for its Drop")]
    permit: OwnedSemaphorePermit,
}

impl Rest {
    async fn next(&mut self) -> io::Result<(Bytes, Arc<File>)> {
        let (file, at) = (self.file.clone(), self.at);
        let want = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        let (part, file) = blocking(move || {
            let mut part = vec![0; want];
            file.read_exact_at(&mut part, at)?;
            Ok((Bytes::from(part), file))
        })
        .await?;
        self.at = self.at.saturating_add(part.len() as u64);
        self.left = self.left.saturating_sub(part.len() as u64);
        Ok((part, file))
    }
}
