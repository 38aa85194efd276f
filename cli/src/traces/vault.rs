//! Where fetched runs are kept, in the user's cache folder: traces by id, payloads and bundles by digest, so that a hundred runs of one bundle need it
//! once. Readable by the user alone. Whatever is read is proven by its reader: a cache may be changed by anybody who can write there.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use bytes::Bytes;
use longshore_proto::{ContentHash, ExecutionId, TenantId};

use crate::author::run::cache_root;

/// As long as a fleet keeps them unless it is told otherwise.
const MAX_AGE: Duration = Duration::from_secs(7 * 86_400);
/// Bundles of 12 MB and a few thousand traces. What is older goes first.
const MAX_BYTES: u64 = 2 << 30;

/// The folder.
pub struct Vault {
    root: PathBuf,
    /// Where there is no cache folder: gone when this is.
    temporary: Option<tempfile::TempDir>,
}

impl Vault {
    /// The user's. What is too old is removed.
    ///
    /// # Errors
    /// There is neither a cache folder nor a temporary one.
    pub fn open() -> anyhow::Result<Self> {
        let kept = cache_root().map(|root| root.join("replay"));
        if let Some(root) = kept.filter(|root| make(root).is_ok()) {
            let vault = Self { root, temporary: None };
            vault.sweep(MAX_AGE, MAX_BYTES);
            return Ok(vault);
        }
        // A read-only home, as in CI: everything is fetched each time.
        let dir = tempfile::tempdir().context("no temporary folder")?;
        Ok(Self { root: dir.path().to_owned(), temporary: Some(dir) })
    }

    /// Where compiled components are kept: shared with `call --bundle`.
    pub fn compiled(&self) -> PathBuf {
        match (&self.temporary, self.root.parent()) {
            (None, Some(parent)) => parent.to_owned(),
            _ => self.root.join("compiled"),
        }
    }

    /// A packed trace, as it was kept.
    pub fn trace(&self, tenant: &TenantId, execution: ExecutionId, attempt: Option<u32>) -> Option<Bytes> {
        read(&self.trace_path(tenant, execution, attempt))
    }

    /// Keeps one.
    pub fn keep_trace(&self, tenant: &TenantId, execution: ExecutionId, attempt: Option<u32>, bytes: &[u8]) {
        write(&self.trace_path(tenant, execution, attempt), bytes);
    }

    /// Removes the kept runs of a tenant that was purged, and every object: these do not say whose they are, a payload is the
    /// tenant's, too, and a bundle that others still use is fetched again. Makes no folder.
    ///
    /// # Errors
    /// Something is still there; where.
    pub fn forget(tenant: &TenantId) -> std::io::Result<()> {
        match cache_root() {
            Some(root) => forget_in(&root.join("replay"), tenant),
            None => Ok(()),
        }
    }

    /// A payload or a bundle, if it is still what its name says.
    pub fn object(&self, sha256: ContentHash) -> Option<Bytes> {
        read(&self.object_path(sha256)).filter(|bytes| longshore_trace::digest(bytes) == sha256)
    }

    /// Keeps one.
    pub fn keep_object(&self, sha256: ContentHash, bytes: &[u8]) {
        write(&self.object_path(sha256), bytes);
    }

    fn trace_path(&self, tenant: &TenantId, execution: ExecutionId, attempt: Option<u32>) -> PathBuf {
        let attempt = attempt.map_or_else(String::new, |attempt| format!(".{attempt}"));
        traces_of(&self.root, tenant).join(format!("{execution}{attempt}"))
    }

    fn object_path(&self, sha256: ContentHash) -> PathBuf {
        self.root.join("objects").join(sha256.hex())
    }

    /// Removes what is too old, and the oldest of what is too much.
    fn sweep(&self, max_age: Duration, max_bytes: u64) {
        let mut files = Vec::new();
        collect(&self.root, 4, &mut files);
        files.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        let (now, mut sum) = (SystemTime::now(), 0_u64);
        for (used, bytes, path) in files {
            sum = sum.saturating_add(bytes);
            let old = now.duration_since(used).is_ok_and(|age| age > max_age);
            if old || sum > max_bytes {
                // Another process may have removed it.
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Where a tenant's traces are. Ids of tenants are no names of files: `..` would be one.
fn traces_of(root: &Path, tenant: &TenantId) -> PathBuf {
    root.join("traces").join(longshore_trace::digest(tenant.as_str().as_bytes()).hex())
}

/// One that is left does not keep the other.
fn forget_in(root: &Path, tenant: &TenantId) -> std::io::Result<()> {
    let left = |dir: PathBuf| match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Some(format!("{}: {error}", dir.display()))
        }
        _ => None,
    };
    let left: Vec<_> = [traces_of(root, tenant), root.join("objects")].into_iter().filter_map(left).collect();
    if left.is_empty() { Ok(()) } else { Err(std::io::Error::other(left.join(", "))) }
}

/// The files below a folder, with when they were used last and their sizes.
fn collect(dir: &Path, depth: u32, files: &mut Vec<(SystemTime, u64, PathBuf)>) {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    for entry in entries {
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() && depth > 0 {
            collect(&entry.path(), depth - 1, files);
        } else if about.is_file() {
            files.push((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len(), entry.path()));
        }
    }
}

/// Makes a folder that is the user's alone.
fn make(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn read(path: &Path) -> Option<Bytes> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).ok()?;
    let mut bytes = Vec::new();
    let most = longshore_trace::file::MAX_FILE_BYTES;
    (&file).take(most + 1).read_to_end(&mut bytes).ok()?;
    // It was used now: what nobody uses goes first.
    let _ = file.set_modified(SystemTime::now());
    (bytes.len() as u64 <= most).then(|| bytes.into())
}

/// Whole or not at all. A full disk costs the next command a download, and this one nothing.
fn write(path: &Path, bytes: &[u8]) {
    let kept = || -> std::io::Result<()> {
        let dir = path.parent().ok_or(std::io::ErrorKind::NotFound)?;
        make(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    };
    let _ = kept();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(dir: &Path) -> Vault {
        Vault { root: dir.to_owned(), temporary: None }
    }

    #[test]
    fn an_object_that_was_changed_is_not_given_out() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path());
        let sha256 = longshore_trace::digest(b"a payload");
        assert_eq!(vault.object(sha256), None);
        vault.keep_object(sha256, b"a payload");
        assert_eq!(vault.object(sha256).as_deref(), Some(&b"a payload"[..]));
        std::fs::write(vault.object_path(sha256), b"another").unwrap();
        assert_eq!(vault.object(sha256), None);
    }

    #[test]
    fn attempts_and_tenants_are_kept_apart_whatever_a_tenant_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path());
        let execution = ExecutionId::from_bytes([7; 16]);
        let (one, other): (TenantId, TenantId) = ("t1".parse().unwrap(), "..t1".parse().unwrap());
        vault.keep_trace(&one, execution, None, b"newest");
        vault.keep_trace(&one, execution, Some(1), b"first");
        assert_eq!(vault.trace(&one, execution, None).as_deref(), Some(&b"newest"[..]));
        assert_eq!(vault.trace(&one, execution, Some(1)).as_deref(), Some(&b"first"[..]));
        assert_eq!(vault.trace(&other, execution, None), None);
    }

    #[test]
    fn what_was_kept_of_a_purged_tenant_goes_and_the_runs_of_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path());
        let execution = ExecutionId::from_bytes([7; 16]);
        let (gone, other): (TenantId, TenantId) = ("gone".parse().unwrap(), "other".parse().unwrap());
        let payload = longshore_trace::digest(b"a payload of the tenant's");
        forget_in(dir.path(), &gone).unwrap();
        vault.keep_trace(&gone, execution, None, b"newest");
        vault.keep_trace(&gone, execution, Some(1), b"first");
        vault.keep_trace(&other, execution, None, b"theirs");
        vault.keep_object(payload, b"a payload of the tenant's");
        forget_in(dir.path(), &gone).unwrap();
        assert_eq!(vault.trace(&gone, execution, None), None);
        assert_eq!(vault.trace(&gone, execution, Some(1)), None);
        assert_eq!(vault.object(payload), None);
        assert_eq!(vault.trace(&other, execution, None).as_deref(), Some(&b"theirs"[..]));
        // What cannot be removed is named, and the other goes all the same.
        vault.keep_object(payload, b"a payload of the tenant's");
        let stuck = traces_of(dir.path(), &gone);
        std::fs::write(&stuck, b"no folder").unwrap();
        let error = forget_in(dir.path(), &gone).unwrap_err().to_string();
        assert!(error.contains(stuck.to_str().unwrap()) && !error.contains("objects"), "{error}");
        assert_eq!(vault.object(payload), None);
    }

    #[test]
    fn the_oldest_goes_when_there_is_too_much() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path());
        let (old, new) = (longshore_trace::digest(b"old"), longshore_trace::digest(b"new"));
        vault.keep_object(old, b"old");
        vault.keep_object(new, b"new");
        let file = std::fs::File::open(vault.object_path(old)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        vault.sweep(MAX_AGE, 4);
        assert_eq!((vault.object(old).is_some(), vault.object(new).is_some()), (false, true));
        vault.sweep(Duration::ZERO, u64::MAX);
        assert!(vault.object(new).is_none());
    }
}
