//! A folder as a bundle store: for development, tests, and read-only images with bundles baked in.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{BundleStore, Content, ObjectInfo, ObjectPage, Opened, PAGE, StoreError};
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

/// Makes the folder and writes. A removal beside may take an empty folder away in between, hence the second and third try.
fn write_again(path: &Path, content: &Content) -> io::Result<()> {
    let mut tries = 0..2;
    loop {
        match write(path, content.clone()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries.next().is_some() => {}
            done => return done,
        }
    }
}

/// Removes a file, and the folders that are empty without it, up to the root.
fn remove(root: &Path, path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(error) => return Err(error),
    }
    let mut folder = path.parent();
    while let Some(empty) = folder.filter(|folder| *folder != root && folder.starts_with(root)) {
        if std::fs::remove_dir(empty).is_err() {
            break;
        }
        folder = empty.parent();
    }
    Ok(())
}

/// Fills a page with the files below `folder`, whose keys begin with `before` (empty, or with a trailing `/`), in the order of the
/// keys' bytes: a folder sorts as its name with the `/` behind it. True: the page is full. Links are not followed.
fn collect(
    folder: &Path,
    before: &str,
    (prefix, after): (&str, &str),
    page: &mut ObjectPage,
) -> io::Result<bool> {
    let mut entries = Vec::new();
    let found = match std::fs::read_dir(folder) {
        Ok(found) => found,
        // Removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !before.is_empty() => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in found {
        let entry = entry?;
        let kind = entry.file_type()?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if kind.is_dir() {
            entries.push((format!("{before}{name}/"), entry.path()));
        } else if kind.is_file() {
            entries.push((format!("{before}{name}"), entry.path()));
        }
    }
    entries.sort();
    for (key, path) in entries {
        if key.ends_with('/') {
            // Either may be the longer one.
            let wanted = key.starts_with(prefix) || prefix.starts_with(&key);
            let seen = key.as_str() < after && !after.starts_with(&key);
            if wanted && !seen && collect(&path, &key, (prefix, after), page)? {
                return Ok(true);
            }
            continue;
        }
        if !key.starts_with(prefix) || key.as_str() <= after {
            continue;
        }
        if page.objects.len() == PAGE {
            page.next = page.objects.last().map(|object| object.key.as_str().to_owned());
            return Ok(true);
        }
        // Gone meanwhile, or no key of ours.
        if let (Ok(meta), Ok(key)) = (std::fs::symlink_metadata(&path), ObjectKey::new(key)) {
            page.objects.push(ObjectInfo { key, size: meta.len(), modified: meta.modified().ok() });
        }
    }
    Ok(false)
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
        tokio::task::spawn_blocking(move || write_again(&path, &content))
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|source| StoreError::Folder { source })
    }

    async fn list_objects(&self, prefix: &str, after: Option<&str>) -> Result<ObjectPage, StoreError> {
        let (root, prefix, after) =
            (self.root.clone(), prefix.to_owned(), after.unwrap_or_default().to_owned());
        tokio::task::spawn_blocking(move || {
            let mut page = ObjectPage::default();
            collect(&root, "", (&prefix, &after), &mut page).map(|_| page)
        })
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(|source| StoreError::Folder { source })
    }

    async fn delete_object(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let (root, path) = (self.root.clone(), self.path(key));
        tokio::task::spawn_blocking(move || remove(&root, &path))
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn store(keys: &[&str]) -> (tempfile::TempDir, DirStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = DirStore::new(folder.path());
        for key in keys {
            let content = Content::Bytes((*key).to_owned().into());
            store.put_object(&ObjectKey::new(*key).unwrap(), content).await.unwrap();
        }
        (folder, store)
    }

    async fn listed(store: &DirStore, prefix: &str, after: Option<&str>) -> Vec<String> {
        let page = store.list_objects(prefix, after).await.unwrap();
        page.objects.iter().map(|object| object.key.to_string()).collect()
    }

    #[tokio::test]
    async fn objects_are_listed_in_the_order_of_their_keys_from_any_point_on() {
        let keys = ["a-b/x", "a/b/1", "a/b/2", "a/c", "a0", "b/1"];
        let (_folder, store) = store(&["b/1", "a0", "a/c", "a/b/2", "a/b/1", "a-b/x"]).await;
        assert_eq!(listed(&store, "", None).await, keys);
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(listed(&store, "", Some(key)).await, keys[at + 1..], "behind {key}");
        }
        assert_eq!(listed(&store, "a/", None).await, ["a/b/1", "a/b/2", "a/c"]);
        assert_eq!(listed(&store, "a/b/", Some("a/b/1")).await, ["a/b/2"]);
        assert_eq!(listed(&store, "a", Some("a/b/2")).await, ["a/c", "a0"]);
        assert!(listed(&store, "zz/", None).await.is_empty());
        let page = store.list_objects("b/", None).await.unwrap();
        assert_eq!((page.objects[0].size, page.next), (3, None));
        assert!(page.objects[0].modified.is_some());
    }

    #[tokio::test]
    async fn a_long_list_comes_in_pages_that_miss_nothing() {
        let names: Vec<String> = (0..PAGE + 7).map(|n| format!("p/{n:05}")).collect();
        let keys: Vec<&str> = names.iter().map(String::as_str).collect();
        let (_folder, store) = store(&keys).await;
        let first = store.list_objects("p/", None).await.unwrap();
        assert_eq!(first.objects.len(), PAGE);
        let rest = listed(&store, "p/", first.next.as_deref()).await;
        assert_eq!(rest, keys[PAGE..]);
    }

    #[tokio::test]
    async fn links_are_neither_listed_nor_followed() {
        let (folder, store) = store(&["a/1"]).await;
        std::os::unix::fs::symlink("/etc", folder.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("a/passwd")).unwrap();
        assert_eq!(listed(&store, "", None).await, ["a/1"]);
    }

    #[tokio::test]
    async fn a_removed_object_leaves_no_empty_folders_and_may_be_removed_again() {
        let (folder, store) = store(&["a/b/c/1", "a/2"]).await;
        let key = ObjectKey::new("a/b/c/1").unwrap();
        for _ in 0..2 {
            store.delete_object(&key).await.unwrap();
            assert!(!store.exists_object(&key).await.unwrap());
        }
        assert!(!folder.path().join("a/b").exists() && folder.path().join("a/2").exists());
        store.put_object(&key, Content::Bytes("x".into())).await.unwrap();
        assert!(store.exists_object(&key).await.unwrap());
    }
}
