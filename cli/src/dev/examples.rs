//! The examples: packed and put into the bundle store, as a publishing tool does it.

use std::path::Path;

use anyhow::Context as _;
use longshore_bundle::archive::{content_hash, pack_files};
use longshore_bundle::{BundleKey, BundleStore, Content};
use longshore_proto::manifest::Manifest;
use longshore_proto::{ContentHash, ExtensionId, TenantId};

use longshore_proto::extension_ids::ExtensionIds;

/// Twenty times faster than the level that the SDK packs with, and nobody downloads it.
const LEVEL: i32 = 3;
/// A UI with more files than this is a folder that was never meant to be packed.
const MAX_FILES: usize = 10_000;

/// An example in the bundle store.
pub(super) struct Uploaded {
    /// Its folder's name.
    pub(super) name: String,
    /// What is asked of it.
    pub(super) path: &'static str,
    /// Its registry id.
    pub(super) extension: ExtensionId,
    /// The id of its install for the tenant.
    pub(super) install: String,
    /// The id of its version.
    pub(super) version: String,
    /// What its manifest asks for: all of it is granted here.
    pub(super) capabilities: Vec<String>,
    /// The bundle.
    pub(super) hash: ContentHash,
    /// The archive's bytes.
    pub(super) size: usize,
}

/// A packed folder.
pub(super) struct Packed {
    manifest: Manifest,
    archive: Vec<u8>,
}

/// Packs the extension in `dir`: its manifest, its component and its UI, not its sources and what they were built with. `None` when its
/// component has not been built.
pub(super) fn pack(dir: &Path) -> anyhow::Result<Option<Packed>> {
    let manifest_path = dir.join("manifest.json");
    let json =
        std::fs::read(&manifest_path).with_context(|| format!("cannot read {}", manifest_path.display()))?;
    let manifest = Manifest::parse(&json).with_context(|| manifest_path.display().to_string())?;
    let component = dir.join(manifest.entry());
    if !component.is_file() {
        return Ok(None);
    }
    let mut files = vec![("manifest.json".to_owned(), json)];
    let bytes = std::fs::read(&component).with_context(|| format!("cannot read {}", component.display()))?;
    files.push((manifest.entry().to_owned(), bytes));
    collect(&dir.join("ui"), "ui", &mut files)?;
    let archive = pack_files(files, LEVEL).with_context(|| format!("cannot pack {}", dir.display()))?;
    Ok(Some(Packed { manifest, archive }))
}

fn collect(dir: &Path, prefix: &str, files: &mut Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", dir.display())),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let kind = entry.file_type().with_context(|| format!("cannot read {}", path.display()))?;
        if name.starts_with('.') {
            continue;
        }
        let inside = format!("{prefix}/{name}");
        if kind.is_dir() {
            collect(&path, &inside, files)?;
        } else if kind.is_file() {
            anyhow::ensure!(files.len() < MAX_FILES, "{} has more than {MAX_FILES} files", dir.display());
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            files.push((inside, bytes));
        }
    }
    Ok(())
}

impl Packed {
    /// Puts it into the store for `tenant`.
    pub(super) async fn upload(
        self,
        name: &str,
        path: &'static str,
        tenant: &TenantId,
        store: &dyn BundleStore,
    ) -> anyhow::Result<Uploaded> {
        let ids = ExtensionIds::of(&self.manifest);
        let (hash, size) = (content_hash(&self.archive), self.archive.len());
        let extension: ExtensionId =
            ids.extension.to_string().parse().map_err(|error| anyhow::anyhow!("{error}"))?;
        let key = BundleKey { tenant: tenant.clone(), extension: extension.clone(), hash };
        store
            .put(&key, Content::Bytes(self.archive.into()))
            .await
            .with_context(|| format!("cannot upload {name} to {}", store.url(&key.object_key())))?;
        Ok(Uploaded {
            name: name.to_owned(),
            path,
            install: ids.install(tenant.as_str()).to_string(),
            version: ids.version.to_string(),
            capabilities: self.manifest.capabilities,
            extension,
            hash,
            size,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(dir: &Path, files: &[&str]) {
        std::fs::write(dir.join("manifest.json"), r#"{"name":"a.b","version":"1.0.0"}"#).unwrap();
        for name in files {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
    }

    #[test]
    fn sources_tools_and_hidden_files_are_not_packed() {
        let (dir, clean) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let wanted = ["dist/main.wasm", "ui/index.html", "ui/img/a.svg"];
        example(clean.path(), &wanted);
        example(dir.path(), &wanted);
        example(dir.path(), &["src/lib.rs", "node_modules/x/y.js", "dist/other.wasm", "ui/.DS_Store"]);
        let bytes = |dir: &Path| pack(dir).unwrap().unwrap().archive;
        assert_eq!(bytes(dir.path()), bytes(clean.path()));
    }

    #[test]
    fn an_extension_that_has_not_been_built_is_no_error_and_one_without_a_manifest_is() {
        let dir = tempfile::tempdir().unwrap();
        assert!(pack(dir.path()).is_err());
        example(dir.path(), &["ui/index.html"]);
        assert!(pack(dir.path()).unwrap().is_none());
    }
}
