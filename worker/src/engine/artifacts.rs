//! Compiled artifacts on disk: `<cache root>/artifacts/<engine fingerprint>/<component digest>.cwasm`.
//!
//! An artifact is machine code that the worker will run, so a file is believed only if its last 40 bytes are a mark
//! and the BLAKE3 hash, keyed with a secret of this cache, of fingerprint, digest and contents. The hash sits in the
//! file itself, so that one rename replaces both. Writers of several processes agree through lock files; readers need none.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wasmtime::component::Component;

use super::trusted;

/// The SHA-256 of a component's bytes.
pub type Digest = [u8; 32];

const MARK: &[u8; 8] = b"LSHART01";
const TRAILER: u64 = 8 + 32;
/// A temporary file this old belongs to a process that died while writing it.
const STALE: Duration = Duration::from_secs(3_600);
/// Lock files are shared by all digests with the same first byte, so that their number is bounded: removing a lock
/// file that somebody waits for would split the lock.
const LOCKS: &str = "locks";

/// The artifacts of one engine fingerprint under a cache root.
#[derive(Debug)]
pub struct ArtifactStore {
    root: PathBuf,
    fingerprint: String,
    key: [u8; 32],
    max_bytes: u64,
}

/// A component that was taken from its artifact.
pub struct Loaded {
    /// Ready to link.
    pub component: Component,
    /// Length of its artifact.
    pub bytes: u64,
}

/// What a look at the disk gave.
pub enum Found {
    /// A good artifact.
    Yes(Loaded),
    /// None.
    No,
    /// One that is not believed, and why.
    Refused(String),
}

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The folder cannot be made.
    #[error("the artifact folder {path} cannot be used", path = .0.display())]
    Folder(PathBuf, #[source] io::Error),
    /// The key cannot be read or made.
    #[error("the artifact key {path} cannot be used", path = .0.display())]
    Key(PathBuf, #[source] io::Error),
    /// Others can read the key or write into the folder: they could make the worker run any code.
    #[error("{path} is open to other users (mode {mode:o}, owner {owner}); it must belong to this user alone: remove it and start again", path = .path.display())]
    Exposed {
        /// What.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        owner: u32,
    },
}

impl ArtifactStore {
    /// Opens, and makes what is missing: folders 0700, the key 0600.
    pub fn open(cache_root: &Path, fingerprint: &str, max_bytes: u64) -> Result<Self, ArtifactError> {
        let root = cache_root.join("artifacts");
        for folder in [root.clone(), root.join(LOCKS), root.join(fingerprint)] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(|e| ArtifactError::Folder(folder.clone(), e))?;
            private(&folder, |e| ArtifactError::Folder(folder.clone(), e))?;
        }
        let key = key(&root.join("key"))?;
        let store = Self { root, fingerprint: fingerprint.to_owned(), key, max_bytes };
        store.sweep();
        Ok(store)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(&self.fingerprint).join(format!("{}.cwasm", hex::encode(digest)))
    }

    fn hasher(&self, digest: &Digest) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(self.fingerprint.as_bytes()).update(digest);
        hasher
    }

    /// Opens, checks and maps the artifact of a component. Blocks for the time of hashing it: about 20 ms for 40 MB.
    pub fn load(&self, engine: &wasmtime::Engine, digest: &Digest) -> io::Result<Found> {
        let mut file = match OpenOptions::new().read(true).custom_flags(nofollow()).open(self.path(digest)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::No),
            Err(e) => return Err(e),
        };
        let length = file.metadata()?.len();
        let Some(content) = length.checked_sub(TRAILER) else {
            return Ok(Found::Refused(format!("it has only {length} bytes")));
        };
        let mut hasher = self.hasher(digest);
        hasher.update_reader((&mut file).take(content))?;
        let mut trailer = [0; TRAILER as usize];
        file.read_exact(&mut trailer)?;
        let (mark, hash) = trailer.split_at(MARK.len());
        // Comparing two `blake3::Hash` takes the same time wherever they differ.
        if mark != MARK || blake3::Hash::from_slice(hash).ok() != Some(hasher.finalize()) {
            return Ok(Found::Refused("its keyed hash does not fit".to_owned()));
        }
        let component = match trusted::map(engine, &file) {
            Some(component) => component,
            None => {
                let mut bytes = Vec::new();
                file.seek(SeekFrom::Start(0))?;
                (&mut file).take(content).read_to_end(&mut bytes)?;
                if self.hasher(digest).update(&bytes).finalize() != hasher.finalize() {
                    return Ok(Found::Refused("it changed while it was read".to_owned()));
                }
                trusted::load(engine, &bytes)
            }
        };
        match component {
            Ok(component) => {
                // The modification time says when it was last used; a read-only folder may keep the old one.
                let _ = file.set_modified(SystemTime::now());
                Ok(Found::Yes(Loaded { component, bytes: content }))
            }
            Err(e) => Ok(Found::Refused(format!("{e:#}"))),
        }
    }

    /// Writes an artifact beside its place and renames it, then makes room. The mode is that of a temporary file: 0600.
    pub fn save(&self, digest: &Digest, artifact: &[u8]) -> io::Result<Evicted> {
        let path = self.path(digest);
        let mut file =
            tempfile::Builder::new().prefix(".tmp-").tempfile_in(path.parent().unwrap_or(&self.root))?;
        file.write_all(artifact)?;
        file.write_all(MARK)?;
        file.write_all(self.hasher(digest).update(artifact).finalize().as_bytes())?;
        // A machine that loses power may leave an empty file under the name: its hash would not fit, so no fsync.
        file.persist(&path).map_err(|e| e.error)?;
        Ok(self.make_room(&path))
    }

    /// Holds off other processes (and threads) that want to compile the same component; released on drop.
    pub fn lock(&self, digest: &Digest) -> io::Result<File> {
        let stripe = digest.first().copied().unwrap_or_default();
        let path = self.root.join(LOCKS).join(format!("{stripe:02x}"));
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        file.lock()?;
        Ok(file)
    }

    /// Removes the least recently used artifacts until the limit is kept; a removed file stays mapped where it runs.
    fn make_room(&self, keep: &Path) -> Evicted {
        let mut files = self.files();
        let mut total: u64 = files.iter().map(|f| f.bytes).sum();
        files.sort_by_key(|f| f.used);
        let mut evicted = 0;
        for file in files {
            if total <= self.max_bytes {
                break;
            }
            if file.path != keep && fs::remove_file(&file.path).is_ok() {
                total = total.saturating_sub(file.bytes);
                evicted += 1;
            }
        }
        Evicted(evicted)
    }

    /// All artifacts, of every fingerprint. Files that vanish meanwhile are somebody else's eviction.
    fn files(&self) -> Vec<ArtifactFile> {
        let folders = entries(&self.root).filter(|e| e.path().is_dir());
        folders
            .flat_map(|folder| entries(&folder.path()))
            .filter(|file| file.path().extension().is_some_and(|e| e == "cwasm"))
            .filter_map(|file| {
                let meta = file.metadata().ok()?;
                Some(ArtifactFile { path: file.path(), bytes: meta.len(), used: meta.modified().ok()? })
            })
            .collect()
    }

    fn sweep(&self) {
        let folder = self.root.join(&self.fingerprint);
        for file in entries(&folder).filter(|f| f.file_name().to_string_lossy().starts_with(".tmp-")) {
            let old = file.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if old.is_some_and(|age| age > STALE) {
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

/// How many artifacts had to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evicted(pub u64);

struct ArtifactFile {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok)
}

fn nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

/// The key of the cache. Made under another name and linked, so that of several processes that start at once one
/// wins and all read the same; a link never replaces what is there.
fn key(path: &Path) -> Result<[u8; 32], ArtifactError> {
    let failed = |e| ArtifactError::Key(path.to_owned(), e);
    if !path.try_exists().map_err(failed)? {
        let folder = path.parent().unwrap_or(path);
        let mut file = tempfile::Builder::new().prefix(".key-").tempfile_in(folder).map_err(failed)?;
        file.write_all(&rand::random::<[u8; 32]>()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        match fs::hard_link(file.path(), path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(e)),
            _ => {}
        }
    }
    private(path, failed)?;
    let mut key = [0; 32];
    let mut file = OpenOptions::new().read(true).custom_flags(nofollow()).open(path).map_err(failed)?;
    file.read_exact(&mut key).map_err(failed)?;
    Ok(key)
}

fn private(path: &Path, failed: impl FnOnce(io::Error) -> ArtifactError) -> Result<(), ArtifactError> {
    let meta = fs::metadata(path).map_err(failed)?;
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 == 0 && meta.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(ArtifactError::Exposed { path: path.to_owned(), mode, owner: meta.uid() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store(root: &Path, max_bytes: u64) -> ArtifactStore {
        ArtifactStore::open(root, "f", max_bytes).unwrap()
    }

    #[test]
    fn processes_that_share_a_root_share_its_key_which_only_their_user_can_read() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(store(root.path(), 0).key, store(root.path(), 0).key);
        let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().mode() & 0o777;
        assert_eq!((mode("artifacts"), mode("artifacts/key"), mode("artifacts/f")), (0o700, 0o600, 0o700));
    }

    #[test]
    fn a_key_that_others_can_read_stops_the_start() {
        let root = tempfile::tempdir().unwrap();
        drop(store(root.path(), 0));
        let key = root.path().join("artifacts/key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let error = ArtifactStore::open(root.path(), "f", 0).unwrap_err();
        assert!(error.to_string().contains("mode 640"), "{error}");
    }

    #[test]
    fn the_least_recently_used_artifacts_go_first_and_never_the_one_just_written() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path(), 2 * (100 + TRAILER));
        for (digest, age) in [([1; 32], 30), ([2; 32], 20)] {
            assert_eq!(store.save(&digest, &[0; 100]).unwrap(), Evicted(0));
            let used = SystemTime::now() - Duration::from_secs(age);
            File::open(store.path(&digest)).unwrap().set_modified(used).unwrap();
        }
        assert_eq!(store.save(&[3; 32], &[0; 100]).unwrap(), Evicted(1));
        let there = |n: u8| store.path(&[n; 32]).exists();
        assert_eq!((there(1), there(2), there(3)), (false, true, true));
        assert_eq!(store.save(&[4; 32], &[0; 400]).unwrap(), Evicted(2));
        assert!(there(4));
    }

    #[test]
    fn what_a_dead_process_left_half_written_is_swept() {
        let root = tempfile::tempdir().unwrap();
        drop(store(root.path(), 0));
        let (old, new) = (root.path().join("artifacts/f/.tmp-old"), root.path().join("artifacts/f/.tmp-new"));
        for path in [&old, &new] {
            fs::write(path, b"x").unwrap();
        }
        File::open(&old).unwrap().set_modified(SystemTime::now() - STALE * 2).unwrap();
        drop(store(root.path(), 0));
        assert_eq!((old.exists(), new.exists()), (false, true));
    }
}
