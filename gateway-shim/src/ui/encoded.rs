//! Compressed copies of assets: made on first demand, kept in the cache folder beside the bundles.
//!
//! `<EXT_CACHE_ROOT>/ui-encoded/<sha256 of the plain bytes>.<coding>`. Named by content, so bundles and processes share them, and none
//! is ever out of date. Only this module writes there (the folder is closed to other users, copies appear by rename alone); what a
//! bundle brings along as `app.js.br` is a file like any other and never sent in place of `app.js`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use moka::future::Cache;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::files::{Asset, blocking, open_plain};
use super::metrics::UiMetrics;
use super::negotiate::Encoding;

/// Below it, headers weigh as much as what is saved.
const LEAST: u64 = 1024;
/// Above it, compression takes seconds; such files are rarely text.
const MOST: u64 = 32 << 20;
/// Copies that are known, each about 150 bytes.
const KNOWN: u64 = 100_000;
/// How long "not worth it" and "there" are believed without looking.
const BELIEVED: Duration = Duration::from_secs(3600);
/// Compressions at once: two keep two cores busy, and calls need them too.
const AT_ONCE: usize = 2;
/// How long a request waits for a copy before it gets the plain bytes; the copy is finished all the same.
const PATIENCE: Duration = Duration::from_secs(4);
/// Work of a process that has died.
const STALE: Duration = Duration::from_secs(600);
/// Static files are compressed once and sent often; these are the last levels before time explodes for a percent.
const BROTLI_LEVEL: i32 = 9;
const ZSTD_LEVEL: i32 = 15;

/// The copies.
#[derive(Clone)]
pub(super) struct Encoded {
    folder: Arc<Path>,
    max_bytes: u64,
    /// The length of a copy; None: it would save too little, or cannot be made.
    known: Cache<([u8; 32], Encoding), Option<u64>>,
    turns: Arc<Semaphore>,
    used: Arc<AtomicU64>,
    metrics: UiMetrics,
}

impl Encoded {
    /// Opens the folder and counts what is in it.
    pub(super) async fn open(cache_root: &Path, max_bytes: u64, metrics: UiMetrics) -> io::Result<Self> {
        let folder: Arc<Path> = cache_root.join("ui-encoded").into();
        let place = folder.clone();
        let used = blocking(move || {
            DirBuilder::new().recursive(true).mode(0o700).create(&place)?;
            sweep(&place, max_bytes)
        });
        let used = Arc::new(AtomicU64::new(used.await?));
        Ok(Self {
            folder,
            max_bytes,
            known: Cache::builder().max_capacity(KNOWN).time_to_live(BELIEVED).build(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            used,
            metrics,
        })
    }

    /// The compressed copy of an asset, made if need be; None: send the plain bytes.
    pub(super) async fn get(&self, asset: &Asset, encoding: Encoding) -> Option<(Arc<File>, u64)> {
        if !(LEAST..=MOST).contains(&asset.len) {
            return None;
        }
        let key = (asset.digest, encoding);
        let known = match self.known.get(&key).await {
            Some(known) => known,
            None => {
                let (this, asset) = (self.clone(), asset.clone());
                // A task of its own: who asks next finds the copy, also when this caller goes away.
                let making =
                    tokio::spawn(async move { this.known.get_with(key, this.make(asset, encoding)).await });
                tokio::time::timeout(PATIENCE, making).await.ok()?.ok()?
            }
        };
        let expected = known?;
        let path = self.path(&asset.digest, encoding);
        match blocking(move || open_plain(&path)).await {
            Ok((file, len)) if len == expected => Some((Arc::new(file), len)),
            _ => {
                // Swept, by us or by another process.
                self.known.invalidate(&key).await;
                None
            }
        }
    }

    fn path(&self, digest: &[u8; 32], encoding: Encoding) -> PathBuf {
        self.folder.join(format!("{}.{}", hex::encode(digest), encoding.as_str()))
    }

    async fn make(&self, asset: Asset, encoding: Encoding) -> Option<u64> {
        let _turn = self.turns.acquire().await.ok()?;
        let path = self.path(&asset.digest, encoding);
        let (folder, max_bytes, used) = (self.folder.clone(), self.max_bytes, self.used.clone());
        let metrics = self.metrics.clone();
        let made = blocking(move || {
            if let Ok((_, len)) = open_plain(&path) {
                return Ok(Some(len));
            }
            let made = write(&folder, &path, &asset, encoding)?;
            if let Some(len) = made {
                metrics.encoded.inc();
                if used.fetch_add(len, Relaxed).saturating_add(len) > max_bytes {
                    used.store(sweep(&folder, max_bytes)?, Relaxed);
                }
            }
            Ok(made)
        });
        match made.await {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(%error, "a UI asset cannot be compressed; it is sent as it is");
                None
            }
        }
    }
}

/// Writes a copy; None if it would save less than a twentieth.
fn write(folder: &Path, path: &Path, asset: &Asset, encoding: Encoding) -> io::Result<Option<u64>> {
    let draft = Draft(folder.join(format!(".{:032x}", rand::random::<u128>())));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft.0)?;
    let mut source = Hashing { file: &asset.file, at: 0, hasher: Sha256::new() };
    let file = encode(&mut source, file, encoding)?;
    // The name promises these bytes.
    if <[u8; 32]>::from(source.hasher.finalize()) != asset.digest || source.at != asset.len {
        return Err(io::Error::other("the file has changed while it was read"));
    }
    let len = file.metadata()?.len();
    if len > asset.len / 20 * 19 {
        return Ok(None);
    }
    file.sync_all()?;
    std::fs::rename(&draft.0, path)?;
    Ok(Some(len))
}

fn encode(source: &mut impl Read, file: File, encoding: Encoding) -> io::Result<File> {
    let mut file = match encoding {
        Encoding::Brotli => {
            let params = brotli::enc::BrotliEncoderParams { quality: BROTLI_LEVEL, ..Default::default() };
            let mut file = file;
            brotli::BrotliCompress(source, &mut file, &params)?;
            file
        }
        Encoding::Zstd => {
            let mut encoder = zstd::Encoder::new(file, ZSTD_LEVEL)?;
            io::copy(source, &mut encoder)?;
            encoder.finish()?
        }
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::best());
            io::copy(source, &mut encoder)?;
            encoder.finish()?
        }
    };
    file.flush()?;
    Ok(file)
}

/// A file from its beginning, without moving a position that others share, hashed as it is read.
struct Hashing<'a> {
    file: &'a File,
    at: u64,
    hasher: Sha256,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.hasher.update(buffer.get(..read).unwrap_or_default());
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}

/// Removed unless it was renamed.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Removes what dead processes left, and the oldest copies if all are more than `max_bytes`, down to four fifths. Says how many bytes
/// remain.
fn sweep(folder: &Path, max_bytes: u64) -> io::Result<u64> {
    let now = SystemTime::now();
    let mut copies = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Another process may sweep too.
        let Ok(found) = entry.metadata() else { continue };
        let written = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            if now.duration_since(written).is_ok_and(|age| age > STALE) {
                let _ = std::fs::remove_file(entry.path());
            }
        } else if found.is_file() {
            copies.push((written, found.len(), entry.path()));
        }
    }
    let mut total: u64 = copies.iter().map(|(_, len, _)| *len).fold(0, u64::saturating_add);
    if total > max_bytes {
        copies.sort();
        for (_, len, path) in copies {
            if total <= max_bytes / 5 * 4 {
                break;
            }
            let _ = std::fs::remove_file(path);
            total = total.saturating_sub(len);
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use longshore_service::metrics::Metrics;

    use super::*;

    fn asset(dir: &Path, content: &[u8]) -> Asset {
        let path = dir.join(format!("{:x}", rand::random::<u64>()));
        std::fs::write(&path, content).unwrap();
        let (file, len) = open_plain(&path).unwrap();
        Asset { file: Arc::new(file), len, digest: Sha256::digest(content).into() }
    }

    async fn copies(dir: &Path, max_bytes: u64) -> Encoded {
        Encoded::open(dir, max_bytes, UiMetrics::register(&Metrics::new("shim"))).await.unwrap()
    }

    fn unpacked(file: &File, encoding: Encoding) -> Vec<u8> {
        let mut out = Vec::new();
        match encoding {
            Encoding::Brotli => drop(brotli::Decompressor::new(file, 4096).read_to_end(&mut out).unwrap()),
            Encoding::Zstd => out = zstd::decode_all(file).unwrap(),
            Encoding::Gzip => drop(flate2::read::GzDecoder::new(file).read_to_end(&mut out).unwrap()),
        }
        out
    }

    #[tokio::test]
    async fn a_copy_unpacks_to_the_asset_and_is_made_once() {
        let (root, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let copies = copies(root.path(), 1 << 20).await;
        let text = b"const answer = 42; // and so on\n".repeat(500);
        let asset = asset(files.path(), &text);
        for encoding in [Encoding::Brotli, Encoding::Zstd, Encoding::Gzip] {
            let asking = (0..8).map(|_| copies.get(&asset, encoding));
            for copy in futures::future::join_all(asking).await {
                let (file, len) = copy.unwrap();
                assert!(len < asset.len / 10);
                assert_eq!(file.metadata().unwrap().len(), len);
            }
            let (file, _) = copies.get(&asset, encoding).await.unwrap();
            assert!(unpacked(&file, encoding) == text, "{encoding:?}");
        }
        assert_eq!(copies.metrics.encoded.get(), 3);
        let other = Encoded::open(root.path(), 1 << 20, copies.metrics.clone()).await.unwrap();
        assert!(other.get(&asset, Encoding::Gzip).await.is_some());
        assert_eq!(copies.metrics.encoded.get(), 3, "another process finds it");
    }

    #[tokio::test]
    async fn what_saves_nothing_or_is_tiny_is_sent_as_it_is() {
        let (root, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let copies = copies(root.path(), 1 << 20).await;
        let noise: Vec<u8> = (0..5000).map(|_| rand::random()).collect();
        assert!(copies.get(&asset(files.path(), &noise), Encoding::Gzip).await.is_none());
        assert!(copies.get(&asset(files.path(), &[b'a'; 1000]), Encoding::Gzip).await.is_none());
        assert_eq!(std::fs::read_dir(&*copies.folder).unwrap().count(), 0, "nothing is left behind");
    }

    #[tokio::test]
    async fn copies_stay_below_their_limit_and_a_swept_one_is_made_again() {
        let (root, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let copies = copies(root.path(), 2000).await;
        let assets: Vec<Asset> = (0..20u32)
            .map(|n| {
                // Half noise, so that each copy has its weight.
                let mut text: Vec<u8> = (0..600).map(|_| rand::random()).collect();
                text.extend_from_slice(&n.to_string().into_bytes().repeat(2000));
                asset(files.path(), &text)
            })
            .collect();
        for asset in &assets {
            copies.get(asset, Encoding::Gzip).await;
        }
        let size = |folder: &Path| -> u64 {
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
        };
        assert!(size(&copies.folder) <= 2000);
        assert!(copies.used.load(Relaxed) <= 2000);
        let first = &assets[0];
        let _ = copies.get(first, Encoding::Gzip).await;
        assert!(copies.get(first, Encoding::Gzip).await.is_some());
    }

    #[tokio::test]
    async fn a_file_that_is_not_what_its_digest_says_gets_no_copy() {
        let (root, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let copies = copies(root.path(), 1 << 20).await;
        let mut changed = asset(files.path(), &[b'a'; 5000]);
        changed.digest = [9; 32];
        assert!(copies.get(&changed, Encoding::Zstd).await.is_none());
        assert_eq!(std::fs::read_dir(&*copies.folder).unwrap().count(), 0);
    }
}
