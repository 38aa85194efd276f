//! The examples: which there are, what is asked of them, and their bundles.

use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use longshore_admin::api::InstallView;
use longshore_proto::manifest::Manifest;
use longshore_proto::{ContentHash, ExtensionId};

use crate::fleet::install::FAST_LEVEL;
use crate::output::Output;

/// An example's folder and what is asked of it, if it answers calls.
pub(super) struct Example {
    /// Its folder's name.
    pub(super) name: &'static str,
    /// What is asked of it; None: it has pages alone.
    pub(super) path: Option<&'static str>,
}

/// The examples in the order of their calls: those that are ready at once come first. One reads the platform's sample data, one the fleet's own
/// storage.
pub(super) const EXAMPLES: [Example; 5] = [
    Example { name: "hello-rust", path: Some("/hello") },
    Example { name: "clients-rust", path: Some("/clients?search=a") },
    Example { name: "storage-rust", path: Some("/visits") },
    Example { name: "hello-ui", path: None },
    Example { name: "hello-js", path: Some("/hello") },
];

/// An example that is installed.
pub(super) struct Installed {
    /// Its folder's name.
    pub(super) name: String,
    /// What is asked of it.
    pub(super) path: Option<&'static str>,
    /// Its registry id.
    pub(super) extension: ExtensionId,
    /// The id of its install for the tenant.
    pub(super) install: String,
    /// The manifest's `name`: how the gateway knows it.
    pub(super) slug: String,
    /// The id of its version.
    pub(super) version: String,
    /// What it may do: all that its manifest asks for.
    pub(super) capabilities: Vec<String>,
    /// The bundle.
    pub(super) hash: ContentHash,
    /// Whether it has pages.
    pub(super) has_ui: bool,
}

impl Installed {
    /// What the admin service says of it.
    pub(super) fn of(example: &Example, install: &InstallView) -> anyhow::Result<Self> {
        let hash = install.version.content_hash.parse();
        let extension = install.extension.parse();
        let (Ok(hash), Ok(extension)) = (hash, extension) else {
            anyhow::bail!("the admin service answered ids that are none");
        };
        Ok(Self {
            name: example.name.to_owned(),
            path: example.path,
            extension,
            install: install.install_id.clone(),
            slug: install.name.clone(),
            version: install.version.version_id.clone(),
            capabilities: install.granted.clone(),
            hash,
            has_ui: install.version.ui_entry.is_some(),
        })
    }
}

/// Packs the extension in `dir`. `None` when it answers calls and its component has not been built.
pub(super) fn pack(dir: &Path) -> anyhow::Result<Option<Bytes>> {
    let path = dir.join("manifest.json");
    let json = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest = Manifest::parse(&json).with_context(|| path.display().to_string())?;
    let answers = manifest.api.as_ref().is_some_and(|api| !api.endpoints.is_empty());
    if answers && !dir.join(manifest.entry()).is_file() {
        return Ok(None);
    }
    Ok(Some(crate::author::pack::project(dir, FAST_LEVEL, &Output::new(false))?.archive.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_that_has_not_been_built_is_no_error_and_one_without_a_manifest_is() {
        let dir = tempfile::tempdir().unwrap();
        assert!(pack(dir.path()).is_err());
        let manifest = r#"{"name":"a.b","publisher":"P","version":"1.0.0","runtime":"wasm-js@1",
            "api":{"endpoints":[{"method":"GET","path":"/x","handler":"dist/main"}]}}"#;
        std::fs::write(dir.path().join("manifest.json"), manifest).unwrap();
        assert!(pack(dir.path()).unwrap().is_none());
    }

    #[test]
    fn pages_alone_need_no_component() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = r#"{"name":"a.b","publisher":"P","version":"1.0.0","runtime":"wasm-js@1",
            "ui":{"type":"iframe","entry":"ui/index.html"}}"#;
        std::fs::write(dir.path().join("manifest.json"), manifest).unwrap();
        std::fs::create_dir(dir.path().join("ui")).unwrap();
        std::fs::write(dir.path().join("ui/index.html"), "<!doctype html>").unwrap();
        assert!(pack(dir.path()).unwrap().is_some());
    }
}
