//! Bundles, keys and signatures on disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use longshore_bundle::ArchiveLimits;
use longshore_bundle::archive::{UnpackError, content_hash};
use longshore_bundle::signature::{KeyId, SigningKey, manifest_of};
use longshore_proto::ContentHash;
use longshore_proto::manifest::Manifest;

use crate::exit::{Exit, Failure};
use crate::output::Output;

/// A private key is a line of base64; its file may hold words about it.
const KEY_BYTES: u64 = 64 << 10;

/// A file's bytes, up to a limit. `what` and the path are in the failure, its bytes never.
pub fn read(path: &Path, what: &str, limit: u64) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| {
        let message = format!("cannot read {what} {}: {error}", path.display());
        if error.kind() == io::ErrorKind::NotFound {
            Failure::not_found("file_not_found", message)
        } else {
            Failure::new(Exit::Failed, "file_unreadable", message)
        }
    };
    // Looked at first: opening a fifo would wait for a writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is no file")));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(failed(io::Error::other(format!("it is larger than {limit} bytes"))));
    }
    Ok(bytes)
}

/// What is signed: a bundle's hash and manifest, the whole archive checked as a worker would.
pub fn bundle(path: &Path) -> Result<(ContentHash, Option<Manifest>), Failure> {
    let limits = ArchiveLimits::default();
    let archive = read(path, "the bundle", limits.archive_bytes)?;
    let manifest = manifest_of(&*archive, &limits).map_err(|error| match error {
        UnpackError::Refused(reason) => Failure::invalid(
            "archive_refused",
            format!(
                "{} is no bundle that a worker accepts: {}",
                path.display(),
                longshore_bundle::chain(&reason)
            ),
        )
        .hint("pack it with `longshore pack`"),
        UnpackError::Io(error) => {
            Failure::new(Exit::Failed, "file_unreadable", format!("cannot read {}: {error}", path.display()))
        }
    })?;
    Ok((content_hash(&archive), manifest))
}

/// Where a bundle's signature lies unless said otherwise: `x.tar.zst` has `x.sig` beside it.
pub fn signature_path(bundle: &Path) -> PathBuf {
    let name = bundle.file_name().unwrap_or_default().to_string_lossy();
    bundle.with_file_name(format!("{}.sig", name.strip_suffix(".tar.zst").unwrap_or(&name)))
}

/// A private key, and the id that `keygen` wrote above it.
pub fn signing_key(path: &Path, out: &Output) -> Result<(SigningKey, Option<KeyId>), Failure> {
    let bytes = zeroize::Zeroizing::new(read(path, "the key", KEY_BYTES)?);
    let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
    if mode & 0o022 != 0 {
        let message = format!("others may write {}: the key in it may not be yours", path.display());
        return Err(Failure::new(Exit::NotPermitted, "key_exposed", message)
            .hint(format!("chmod 600 {}, and look at what is in it", path.display())));
    }
    if mode & 0o044 != 0 {
        // No failure: secrets are mounted like that into containers, where nobody else is.
        out.note(format!("note: others on this machine may read {}: chmod 600 it", path.display()));
    }
    let invalid = |problem: String| Failure::invalid("key_invalid", format!("{}: {problem}", path.display()));
    let text = std::str::from_utf8(&bytes).map_err(|_| invalid("it is no text".to_owned()))?;
    let (words, pem) = text.split_at(text.find("-----BEGIN").unwrap_or(0));
    let key = SigningKey::from_pem(pem).map_err(|error| invalid(error.to_string()))?;
    let named = words.lines().find_map(|line| line.strip_prefix("Key-Id:"));
    let id = named.map(|id| id.trim().parse()).transpose();
    Ok((key, id.map_err(|error| invalid(format!("Key-Id: {error}")))?))
}

/// Writes a new file that only its owner may read, or that everybody may; one that exists is never touched.
pub fn create(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| {
            let _ = std::fs::remove_file(path);
        })
    });
    written.map_err(|error| {
        let failure = Failure::new(
            Exit::Failed,
            "file_unwritable",
            format!("cannot write {}: {error}", path.display()),
        );
        if error.kind() == io::ErrorKind::AlreadyExists {
            return failure.hint("a key is never overwritten: choose another --key-id or --out");
        }
        failure
    })
}

/// Writes a file or takes the place of one, all or nothing.
pub fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.persist(path).map_err(|error| error.error)
    };
    write().map(drop).map_err(|error| {
        Failure::new(Exit::Failed, "file_unwritable", format!("cannot write {}: {error}", path.display()))
    })
}
