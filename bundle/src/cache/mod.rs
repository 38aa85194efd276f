//! Verified, unpacked bundles on this machine.
//!
//! # Three layers
//! Memory holds open bundles; the folder holds unpacked ones, shared by every process on the machine; the store holds
//! the archives. A get that memory can answer makes no system call. Every other get runs in a task of its own, one
//! per key, that outlives the caller: a call that times out while its bundle is fetched leaves the fetch running.
//!
//! # Between processes
//! All coordination is `flock`, which the kernel releases when a process dies. A fetch holds `locks/<hex>` alone, so
//! a bundle is downloaded once per machine. An open [`Bundle`] holds its `meta.json` shared; eviction needs both
//! alone, so what anybody uses stays. After every lock the file is looked at again by name: it may have been
//! replaced while we waited.
//!
//! # What holds a bundle open
//! Memory alone would pin everything it remembers against the eviction of other processes. So memory gives a bundle
//! up once nobody else in this process has held it for a minute; the next get opens it from disk in about 100 us.
//! Whoever keeps an `Arc<Bundle>` pins the folder: hold it while files are read, not for the life of a process.

mod disk;
mod evict;
mod fetch;
mod get;
mod lock;
mod memory;
mod pages;
mod rights;
mod signed;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use longshore_proto::ContentHash;
use longshore_proto::manifest::Manifest;
use serde::{Deserialize, Serialize};

pub(crate) use disk::MANIFEST_BYTES;
pub use get::BundleCache;
pub use pages::Pages;

use crate::archive::ArchiveLimits;
use crate::stats::CacheStats;

/// How long answers are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// That a tenant's own key exists: 10 minutes.
    pub right: Duration,
    /// That it exists, once more, when the store was silent on being asked again: 15 s. Repeats while it is silent.
    pub right_on_trust: Duration,
    /// How long a get waits for the store when a remembered right has run out: 1 s.
    pub right_patience: Duration,
    /// That it does not exist, or has the wrong bytes: 2 s, so that an upload is soon seen.
    pub not_found: Duration,
    /// That the store or this machine's cache failed: 750 ms.
    pub unreachable: Duration,
    /// That the archive is refused: 30 s. The hash fixes the bytes, so it will be refused again.
    pub refused: Duration,
    /// That its signature does not count, or that it has none: 5 s, so that one that is added is soon seen. Where that
    /// only costs a warning, twelve times as long.
    pub unsigned: Duration,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            right: Duration::from_secs(600),
            right_on_trust: Duration::from_secs(15),
            right_patience: Duration::from_secs(1),
            not_found: Duration::from_secs(2),
            unreachable: Duration::from_millis(750),
            refused: Duration::from_secs(30),
            unsigned: Duration::from_secs(5),
        }
    }
}

/// How the cache behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// `EXT_CACHE_ROOT`. Made if absent; closed to other users. May be shared by processes of one user.
    pub root: PathBuf,
    /// `EXT_CACHE_MAX_BYTES`: unpacked bytes kept on disk. What is in use stays, even above.
    pub max_bytes: u64,
    /// Bytes of manifests and paths kept in memory.
    pub memory_bytes: u64,
    /// What an archive may hold.
    pub limits: ArchiveLimits,
    /// How long answers are remembered.
    pub memory: Memory,
    /// One fetch with everything in it: waiting for its turn, download, unpacking. 120 s.
    pub fetch_timeout: Duration,
    /// Silence in the middle of a download before it counts as broken off: 10 s.
    pub idle_timeout: Duration,
    /// How long memory holds a bundle that nobody uses: 60 s.
    pub idle_release: Duration,
}

impl CacheConfig {
    /// 8 GiB on disk and 16 MiB of memory, everything else as documented at the fields.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            max_bytes: 8 << 30,
            memory_bytes: 16 << 20,
            limits: ArchiveLimits::default(),
            memory: Memory::default(),
            fetch_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(10),
            idle_release: Duration::from_secs(60),
        }
    }
}

/// Why the cache folder cannot be used. The start ends with it.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It cannot be made, read or written.
    #[error("EXT_CACHE_ROOT {} cannot be used", path.display())]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// It belongs to another user, who could put other files in place of verified ones.
    #[error("EXT_CACHE_ROOT {} belongs to user {owner}, not to the user of this process", path.display())]
    Owner {
        /// Which folder.
        path: PathBuf,
        /// Its owner's numeric id.
        owner: u32,
    },
}

/// Entries of an archive that were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Skipped {
    /// With a segment that starts with a dot.
    pub hidden: u32,
    /// Symbolic and hard links.
    pub links: u32,
}

/// The component of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub len: u64,
    /// SHA-256 of its bytes, computed once when it was unpacked.
    pub digest: ContentHash,
}

/// An unpacked bundle. While it is held, no process removes its files.
#[derive(Debug)]
pub struct Bundle {
    hash: ContentHash,
    root: PathBuf,
    manifest: Option<Arc<Manifest>>,
    component: Option<ComponentFile>,
    ui_root: Option<PathBuf>,
    pages: Option<Pages>,
    skipped: Skipped,
    bytes: u64,
    /// `meta.json`, locked shared. Its mtime is the time of the last use.
    lock: File,
    stats: Arc<CacheStats>,
}

impl Bundle {
    /// SHA-256 of the archive it came from.
    pub const fn hash(&self) -> ContentHash {
        self.hash
    }
    /// The folder with everything but `ui/**`.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// `manifest.json`. None where there is none or it cannot be read: the existing platform runs such bundles too.
    pub const fn manifest(&self) -> Option<&Arc<Manifest>> {
        self.manifest.as_ref()
    }
    /// The manifest's `entry`, else `dist/main.wasm`. None in a bundle of UI files alone.
    pub const fn component(&self) -> Option<&ComponentFile> {
        self.component.as_ref()
    }
    /// The folder with `ui/**`, prefix stripped. None if there is none.
    pub fn ui_root(&self) -> Option<&Path> {
        self.ui_root.as_deref()
    }
    /// What is served to browsers. None if there is nothing.
    pub const fn pages(&self) -> Option<&Pages> {
        self.pages.as_ref()
    }
    /// What was left out when it was unpacked.
    pub const fn skipped(&self) -> Skipped {
        self.skipped
    }
    /// Bytes on disk, each file rounded up to 4 KiB.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.stats.open_bundles.fetch_sub(1, Relaxed);
    }
}
