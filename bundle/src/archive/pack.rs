//! Makes archives, the same bytes from the same files: sorted, without times, owners or modes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use longshore_proto::ContentHash;
use sha2::{Digest, Sha256};

/// What the existing SDK packs with (interop 5.2). Development packs at 3, which is twenty times faster.
pub const PACK_LEVEL: i32 = 19;

/// Why a folder could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A name that is not UTF-8.
    #[error("the name {} is not UTF-8", .0.display())]
    Name(PathBuf),
    /// The encoder failed.
    #[error("cannot compress")]
    Compress(#[source] io::Error),
}

/// The hash that names an archive.
pub fn content_hash(archive: &[u8]) -> ContentHash {
    ContentHash::from_bytes(Sha256::digest(archive).into())
}

/// Packs a folder at a zstd level. Hidden files and folders are left out, and so is what is neither file nor folder.
///
/// # Errors
/// A file or folder that cannot be read.
pub fn pack_dir(dir: &Path, level: i32) -> Result<Vec<u8>, PackError> {
    let mut files = BTreeMap::new();
    collect(dir, "", &mut files)?;
    let contents = files.into_iter().map(|(name, path)| match std::fs::read(&path) {
        Ok(bytes) => Ok((name, bytes)),
        Err(source) => Err(PackError::Read { path, source }),
    });
    pack_each(contents, level)
}

/// Packs files given as name and content.
///
/// # Errors
/// A name that no tar header can hold.
pub fn pack_files<N: Into<String>, C: Into<Vec<u8>>>(
    files: impl IntoIterator<Item = (N, C)>,
    level: i32,
) -> Result<Vec<u8>, PackError> {
    let sorted: BTreeMap<String, Vec<u8>> =
        files.into_iter().map(|(name, content)| (name.into(), content.into())).collect();
    pack_each(sorted.into_iter().map(Ok), level)
}

/// Packs files in the order in which they come, which is the caller's to hold. One frame, one thread, no checksum and no size in its header, so
/// that nothing but the files, the level and the version of zstd (which is compiled in) decides the bytes.
pub(crate) fn pack_each(
    files: impl Iterator<Item = Result<(String, Vec<u8>), PackError>>,
    level: i32,
) -> Result<Vec<u8>, PackError> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level).map_err(PackError::Compress)?;
    encoder.include_checksum(false).map_err(PackError::Compress)?;
    let mut tar = tar::Builder::new(encoder);
    for file in files {
        let (name, content) = file?;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, &name, content.as_slice()).map_err(PackError::Compress)?;
    }
    let mut encoder = tar.into_inner().map_err(PackError::Compress)?;
    encoder.flush().map_err(PackError::Compress)?;
    encoder.finish().map_err(PackError::Compress)
}

fn collect(dir: &Path, prefix: &str, files: &mut BTreeMap<String, PathBuf>) -> Result<(), PackError> {
    let read = |source| PackError::Read { path: dir.to_owned(), source };
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let entry = entry.map_err(read)?;
        let name = entry.file_name().into_string().map_err(|_| PackError::Name(entry.path()))?;
        if name.starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(read)?;
        let path = format!("{prefix}{name}");
        if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() {
            files.insert(path, entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_bytes_without_hidden_ones() {
        let fill = |dir: &Path, order: &[&str]| {
            for name in order {
                let path = dir.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, name).unwrap();
            }
        };
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fill(one.path(), &["dist/main.wasm", "manifest.json", ".DS_Store", "ui/.git/x"]);
        fill(two.path(), &["manifest.json", "dist/main.wasm"]);
        std::os::unix::fs::symlink("manifest.json", two.path().join("link")).unwrap();
        let archive = pack_dir(one.path(), 3).unwrap();
        assert_eq!(archive, pack_dir(two.path(), 3).unwrap());
        let files = [("manifest.json", "manifest.json"), ("dist/main.wasm", "dist/main.wasm")];
        assert_eq!(archive, pack_files(files, 3).unwrap());
        assert_eq!(content_hash(&archive), content_hash(&archive));
    }
}
