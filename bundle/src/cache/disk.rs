//! The cache folder (interop 5.3): `<hex>/bundle/**`, `<hex>/bundle/.ready`, `<hex>/ui/**`, `tmp/`; and beside them
//! `<hex>/meta.json` and `locks/`.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use longshore_proto::ContentHash;
use longshore_proto::manifest::{DEFAULT_ENTRY, Manifest, ManifestError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::lock::{self, NameLock};
use super::{Bundle, CacheError, ComponentFile, Skipped, pages};
use crate::archive::{ArchiveError, ArchiveLimits, Target, UnpackError, unpack};
use crate::signature::SIGNATURE_BYTES;
use crate::stats::CacheStats;

/// A manifest is a page of JSON; 1 MiB is more than any.
pub(crate) const MANIFEST_BYTES: u64 = 1 << 20;

/// What unpacking found out once. Unknown fields are ignored and new ones get defaults: processes of two releases
/// share a folder during a rollout.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Meta {
    hash: ContentHash,
    #[serde(default)]
    component: Option<MetaComponent>,
    #[serde(default)]
    skipped: Skipped,
    #[serde(default)]
    pub bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct MetaComponent {
    /// As the manifest names it.
    path: String,
    len: u64,
    digest: ContentHash,
}

/// The folder of one cache.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    stats: Arc<CacheStats>,
}

/// Where one fetch works; removed with everything in it.
#[derive(Debug)]
pub(super) struct Workspace(PathBuf);

impl Workspace {
    pub fn archive(&self) -> PathBuf {
        self.0.join("bundle.tar.zst")
    }
    fn out(&self) -> PathBuf {
        self.0.join("out")
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The hash that a name in the cache folder begins with: `<hex>` itself, or `<hex>.anything` in `tmp/`.
fn hash_of(name: &std::ffi::OsStr) -> Option<ContentHash> {
    let name = name.to_str()?;
    let (hex, rest) = name.split_at_checked(64)?;
    if rest.is_empty() || rest.starts_with('.') { hex.parse().ok() } else { None }
}

impl Disk {
    /// Makes or takes the folder, and cleans what crashed processes left.
    pub fn open(root: &Path, stats: Arc<CacheStats>) -> Result<Self, CacheError> {
        let failed = |source| CacheError::Folder { path: root.to_owned(), source };
        folder(root).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        let failed = |source| CacheError::Folder { path: root.clone(), source };
        let found = root.metadata().map_err(failed)?;
        let (owner, us) = (found.uid(), rustix::process::geteuid().as_raw());
        if owner == us {
            // The default is in /tmp, where the umask decides who may write.
            std::fs::set_permissions(&root, Permissions::from_mode(0o700)).map_err(failed)?;
        } else if owner == 0 {
            // A volume that a container runtime made: root's word counts anyway.
            tracing::debug!(root = %root.display(), "the cache folder belongs to root; its mode is left alone");
        } else {
            return Err(CacheError::Owner { path: root, owner });
        }
        for sub in ["tmp", "locks"] {
            folder(&root.join(sub)).map_err(failed)?;
        }
        let disk = Self { root: root.clone(), stats };
        // Found here rather than by the first call.
        let trial = disk.workspace(ContentHash::from_bytes([0; 32])).map_err(failed)?;
        drop(trial);
        disk.clean().map_err(failed)?;
        Ok(disk)
    }

    pub fn entry(&self, hash: ContentHash) -> PathBuf {
        self.root.join(hash.hex())
    }

    pub fn meta(&self, hash: ContentHash) -> PathBuf {
        self.entry(hash).join("meta.json")
    }

    pub fn lock_path(&self, name: &str) -> PathBuf {
        self.root.join("locks").join(name)
    }

    /// The right to fetch, replace or remove a bundle, if nobody has it.
    pub fn try_lock(&self, hash: ContentHash) -> io::Result<Option<NameLock>> {
        NameLock::try_take(self.lock_path(&hash.hex()))
    }

    /// Unpacked bundles, ready or not.
    pub fn entries(&self) -> io::Result<Vec<ContentHash>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            if name.len() == 64 {
                found.extend(hash_of(&name));
            }
        }
        Ok(found)
    }

    /// Removes work that was cut off: that of a hash whose lock nobody holds.
    fn clean(&self) -> io::Result<()> {
        let mut removed = 0u32;
        for entry in std::fs::read_dir(self.root.join("tmp"))? {
            let entry = entry?;
            // Names of another making are left alone.
            let Some(hash) = hash_of(&entry.file_name()) else { continue };
            let Some(_lock) = self.try_lock(hash)? else { continue };
            let path = entry.path();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let gone = if is_dir { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            match gone {
                Ok(()) => removed = removed.saturating_add(1),
                // Another process that starts now cleans too.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if removed > 0 {
            tracing::info!(removed, "cleaned up unfinished work in the bundle cache");
        }
        Ok(())
    }

    /// A fresh folder in `tmp/`. Only with the hash's lock held, by which [`Self::clean`] tells work from leftovers.
    pub fn workspace(&self, hash: ContentHash) -> io::Result<Workspace> {
        let path = self.root.join("tmp").join(format!("{}.{:016x}", hash.hex(), rand::random::<u64>()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Workspace(path))
    }

    /// Moves a bundle out of sight and deletes it. Only with the hash's lock held.
    pub fn remove(&self, hash: ContentHash) -> io::Result<()> {
        let trash = self.workspace(hash)?;
        std::fs::rename(self.entry(hash), trash.0.join("evicted"))?;
        std::fs::remove_dir_all(&trash.0)
    }

    /// Opens an unpacked bundle and marks it used. None if it is not there, not complete, or being removed.
    pub fn lookup(&self, hash: ContentHash) -> io::Result<Option<Bundle>> {
        let entry = self.entry(hash);
        let Some(mut lock) = lock::share(&self.meta(hash))? else { return Ok(None) };
        let mut text = Vec::new();
        lock.read_to_end(&mut text)?;
        let Ok(meta) = serde_json::from_slice::<Meta>(&text) else { return Ok(None) };
        let root = entry.join("bundle");
        if meta.hash != hash || !root.join(".ready").is_file() {
            return Ok(None);
        }
        let component = meta.component.map(|c| ComponentFile {
            path: place(&entry, &c.path),
            len: c.len,
            digest: c.digest,
        });
        if let Some(component) = &component {
            // Cleaners of /tmp remove files by age, one by one.
            if !std::fs::metadata(&component.path).is_ok_and(|found| found.len() == component.len) {
                return Ok(None);
            }
        }
        let manifest = read_manifest(&root)?.and_then(|text| Manifest::parse(&text).ok()).map(Arc::new);
        let ui = entry.join("ui");
        let pages =
            pages::find(manifest.as_deref(), &root, &ui, component.as_ref().map(|c| c.path.as_path()));
        // Not being able to record the use makes eviction less apt, no more.
        let _ = lock.set_modified(SystemTime::now());
        self.stats.open_bundles.fetch_add(1, Relaxed);
        Ok(Some(Bundle {
            hash,
            root,
            manifest,
            component,
            ui_root: ui.is_dir().then_some(ui),
            pages,
            skipped: meta.skipped,
            bytes: meta.bytes,
            lock,
            stats: self.stats.clone(),
        }))
    }

    /// Unpacks a downloaded archive and puts it in place: all or nothing. Blocking, and only with the hash's lock.
    pub fn install(
        &self,
        hash: ContentHash,
        work: &Workspace,
        limits: &ArchiveLimits,
        _lock: &NameLock,
    ) -> Result<(), UnpackError> {
        let io = UnpackError::Io;
        let out = work.out();
        DirBuilder::new().mode(0o700).create(&out).map_err(io)?;
        let (bundle, ui) = (out.join("bundle"), out.join("ui"));
        let archive = File::open(work.archive()).map_err(io)?;
        let report = unpack(archive, limits, Target { bundle: &bundle, ui: &ui })?;
        let skipped = Skipped { hidden: report.hidden, links: report.links };
        if skipped != Skipped::default() {
            tracing::info!(%hash, hidden = skipped.hidden, links = skipped.links, "left out of the bundle");
        }
        let component = component(&out, &bundle, hash)?;
        let meta = Meta { hash, component, skipped, bytes: report.bytes };
        let meta = serde_json::to_vec(&meta).map_err(|error| io(error.into()))?;
        write_synced(&out.join("meta.json"), &meta).map_err(io)?;
        // Last: with the marker, everything is there.
        write_synced(&bundle.join(".ready"), b"ok").map_err(io)?;
        sync_folder(&bundle).and_then(|()| sync_folder(&out)).map_err(io)?;
        self.make_way(hash).map_err(io)?;
        std::fs::rename(&out, self.entry(hash)).and_then(|()| sync_folder(&self.root)).map_err(io)
    }

    /// Whatever is under this name is not usable, or `lookup` would have found it.
    fn make_way(&self, hash: ContentHash) -> io::Result<()> {
        if std::fs::symlink_metadata(self.entry(hash)).is_err() {
            return Ok(());
        }
        let meta = self.meta(hash);
        let _own = match lock::own(&meta)? {
            None if meta.exists() => {
                return Err(io::Error::other("an incomplete copy is in use by another process"));
            }
            own => own,
        };
        self.remove(hash)
    }
}

/// The signature that was kept beside an unpacked bundle.
impl Disk {
    fn signature(&self, hash: ContentHash) -> PathBuf {
        self.entry(hash).join("bundle.sig")
    }

    /// None if there is none that can be read. It proves nothing before it is verified.
    pub fn kept_signature(&self, hash: ContentHash) -> Option<Vec<u8>> {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).ok()?;
        let file =
            std::fs::OpenOptions::new().read(true).custom_flags(flags).open(self.signature(hash)).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(SIGNATURE_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Keeps a verified signature for the next start and for other processes. Only while the bundle is held, which
    /// keeps its folder.
    pub fn keep_signature(&self, hash: ContentHash, bytes: &[u8]) -> io::Result<()> {
        let beside = self.entry(hash).join(format!(".bundle.sig.{:016x}", rand::random::<u64>()));
        let kept = write_synced(&beside, bytes).and_then(|()| std::fs::rename(&beside, self.signature(hash)));
        if kept.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        kept
    }
}

impl Bundle {
    /// Records a use for the eviction of all processes.
    pub(super) fn touch(&self) {
        let _ = self.lock.set_modified(SystemTime::now());
    }

    /// What it weighs in memory: paths and manifest, the latter about three times its text.
    pub(super) fn weight(&self) -> u32 {
        let manifest = self.manifest.as_ref().map_or(0, |m| {
            let endpoints = m.api.as_ref().map_or(0, |api| api.endpoints.len());
            let hooks = m.ui.as_ref().map_or(0, |ui| ui.hooks.to_string().len() * 3);
            m.capabilities.len() * 64 + endpoints * 192 + hooks
        });
        u32::try_from(2048 + manifest).unwrap_or(u32::MAX)
    }
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// A checked path of the archive in the unpacked folders.
fn place(entry: &Path, path: &str) -> PathBuf {
    match path.strip_prefix("ui/") {
        Some(rest) => entry.join("ui").join(rest),
        None => entry.join("bundle").join(path),
    }
}

fn read_manifest(bundle: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(bundle.join("manifest.json")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(MANIFEST_BYTES + 1).read_to_end(&mut text)?;
    Ok((text.len() as u64 <= MANIFEST_BYTES).then_some(text))
}

/// Finds the component and hashes it. A manifest that is no JSON is as good as none, because the existing platform
/// reads none; one whose entry points outside is an attempt.
fn component(out: &Path, bundle: &Path, hash: ContentHash) -> Result<Option<MetaComponent>, UnpackError> {
    let manifest = match read_manifest(bundle).map_err(UnpackError::Io)? {
        None => None,
        Some(text) => match Manifest::parse(&text) {
            Ok(manifest) => Some(manifest),
            Err(source @ ManifestError::Entry(_)) => return Err(ArchiveError::Manifest { source }.into()),
            Err(error) => {
                tracing::warn!(%hash, error = crate::chain(&error), "manifest.json is ignored");
                None
            }
        },
    };
    let path = manifest.as_ref().map_or(DEFAULT_ENTRY, Manifest::entry);
    let mut file = match File::open(place(out, path)) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        // A name that no file system takes is a component that is not there.
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => return Ok(None),
        Err(error) => return Err(UnpackError::Io(error)),
    };
    if !file.metadata().map_err(UnpackError::Io)?.is_file() {
        return Ok(None);
    }
    let mut hasher = Sha256::new();
    let mut buf = [0; 64 << 10];
    let mut len = 0u64;
    loop {
        match file.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(buf.get(..n).unwrap_or_default());
                len = len.saturating_add(n as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(UnpackError::Io(error)),
        }
    }
    let digest = ContentHash::from_bytes(hasher.finalize().into());
    Ok(Some(MetaComponent { path: path.to_owned(), len, digest }))
}
