//! One download: open, stream to disk while hashing, verify, unpack.

use std::sync::Arc;
use std::time::Duration;

use longshore_proto::ContentHash;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::disk::{Disk, Workspace};
use super::lock::NameLock;
use super::rights::Rights;
use super::{Bundle, CacheConfig};
use crate::archive::{ArchiveError, UnpackError};
use crate::error::BundleError;
use crate::key::BundleKey;
use crate::stats::CacheStats;
use crate::store::{BundleStore, Opened, StoreError};

/// A download that breaks off in the middle starts again this often. Before the first byte the store itself retries.
const TRIES: u32 = 2;

/// Unpacking at the same time in one process: each may take a 128 MiB window, and two keep two cores busy.
pub(super) const UNPACKING: usize = 2;

/// What a fetch needs of its cache.
pub(super) struct Fetcher {
    pub config: CacheConfig,
    pub disk: Arc<Disk>,
    pub store: Arc<dyn BundleStore>,
    pub rights: Rights,
    pub stats: Arc<CacheStats>,
    pub unpacking: Arc<tokio::sync::Semaphore>,
}

/// A store's answer as a bundle's error.
pub(super) fn store_failed(url: String, source: StoreError) -> BundleError {
    match source {
        StoreError::NotFound => BundleError::NotFound { url },
        source => BundleError::StoreUnreachable { url, source },
    }
}

fn unpack_failed(error: UnpackError) -> BundleError {
    match error {
        UnpackError::Refused(reason) => BundleError::Refused { reason },
        UnpackError::Io(source) => BundleError::Cache { doing: "unpack", source },
    }
}

/// Blocking work off the async threads. Goes on when the caller is dropped.
pub(super) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, BundleError> + Send + 'static,
) -> Result<T, BundleError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(BundleError::Cache { doing, source: std::io::Error::other(error) }),
    }
}

impl Fetcher {
    pub async fn lookup(&self, hash: ContentHash) -> Result<Option<Bundle>, BundleError> {
        let disk = self.disk.clone();
        blocking("open a bundle", move || disk.lookup(hash).map_err(BundleError::cache("open a bundle")))
            .await
    }

    /// Waits until no other process, and no other key's task in this one, fetches the same bytes.
    pub async fn lock(&self, hash: ContentHash) -> Result<NameLock, BundleError> {
        let failed = BundleError::cache("lock a bundle");
        // Asked again and again: a blocking lock would hold a thread for each waiting bundle and know no deadline.
        let mut pause = Duration::from_millis(2);
        loop {
            match self.disk.try_lock(hash) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => tokio::time::sleep(pause).await,
                Err(error) => return Err(failed(error)),
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Downloads, verifies and unpacks. Holding the tenant's own object in hand is the proof of its right.
    pub async fn fetch(&self, key: &BundleKey, lock: NameLock) -> Result<(), BundleError> {
        CacheStats::add(&self.stats.fetches, 1);
        let hash = key.hash;
        let disk = self.disk.clone();
        let work = blocking("make a work folder", move || {
            disk.workspace(hash).map_err(BundleError::cache("make a work folder"))
        });
        let work = work.await?;
        let mut tries = 1;
        let computed = loop {
            match self.download(key, &work).await {
                Err(BundleError::StoreUnreachable { source: StoreError::Unreachable { source }, .. })
                    if tries < TRIES && source.is::<BrokenOff>() =>
                {
                    tries += 1;
                    tracing::debug!(key = %key, error = %source, "download starts again");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                other => break other?,
            }
        };
        if computed != key.hash {
            return Err(BundleError::HashMismatch { expected: key.hash, computed });
        }
        self.rights.grant(key).await;
        let permit = self.unpacking.clone().acquire_owned().await;
        let (disk, limits) = (self.disk.clone(), self.config.limits);
        // The lock goes along: if the task is dropped in the middle, nobody else may start before this has ended.
        blocking("unpack", move || {
            let _permit = permit;
            let installed = disk.install(hash, &work, &limits, &lock).map_err(unpack_failed);
            // Before the lock: without it, work would look like a leftover.
            drop(work);
            drop(lock);
            installed
        })
        .await
    }

    async fn download(&self, key: &BundleKey, work: &Workspace) -> Result<ContentHash, BundleError> {
        let failed = |source| store_failed(self.store.url(&key.object_key()), source);
        let limit = self.config.limits.archive_bytes;
        let too_large = || BundleError::Refused { reason: ArchiveError::ArchiveTooLarge { limit } };
        let Opened { len, mut body } = self.store.open(key).await.map_err(failed)?;
        if len.is_some_and(|len| len > limit) {
            return Err(too_large());
        }
        let write = |source| BundleError::Cache { doing: "write the archive", source };
        let mut file = tokio::fs::File::create(work.archive()).await.map_err(write)?;
        let mut hasher = Sha256::new();
        let mut buf = vec![0; 128 << 10];
        let mut got = 0u64;
        loop {
            let read = tokio::time::timeout(self.config.idle_timeout, body.read(&mut buf)).await;
            let n = match read {
                Ok(Ok(n)) => n,
                Ok(Err(error)) => return Err(failed(StoreError::unreachable(BrokenOff(Some(error))))),
                Err(_) => return Err(failed(StoreError::unreachable(BrokenOff(None)))),
            };
            let Some(part) = buf.get(..n).filter(|part| !part.is_empty()) else { break };
            got = got.saturating_add(n as u64);
            if got > limit {
                return Err(too_large());
            }
            hasher.update(part);
            file.write_all(part).await.map_err(write)?;
        }
        file.flush().await.map_err(write)?;
        CacheStats::add(&self.stats.fetched_bytes, got);
        if len.is_some_and(|len| len != got) {
            let short = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, format!("{got} bytes came"));
            return Err(failed(StoreError::unreachable(BrokenOff(Some(short)))));
        }
        Ok(ContentHash::from_bytes(hasher.finalize().into()))
    }
}

/// The body stopped in the middle.
#[derive(Debug)]
struct BrokenOff(Option<std::io::Error>);

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "the download broke off",
            None => "the download stood still",
        })
    }
}

impl std::error::Error for BrokenOff {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.as_ref().map(|error| error as _)
    }
}
