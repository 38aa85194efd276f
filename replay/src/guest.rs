//! A bundle's component on disk, where the engine reads it.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use longshore_bundle::ArchiveLimits;
use longshore_bundle::archive::content_hash;
use longshore_bundle::author;
use longshore_proto::manifest::Manifest;
use longshore_proto::{CallError, ContentHash, ExtensionId, LimitSet, TenantId};
use longshore_worker::engine::source::{ComponentSource, SourceComponent};
use sha2::{Digest as _, Sha256};

/// The manifest's place in a bundle.
const MANIFEST: &str = "manifest.json";
/// Bytes of it.
const MAX_MANIFEST: u64 = 1 << 20;

/// The bundle has no guest that can be run.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// It is no archive, or breaks the rules of one.
    #[error("the bundle cannot be read: {reason}")]
    Archive {
        /// Why.
        reason: String,
    },
    /// Pages alone.
    #[error("the bundle has no component at {entry}")]
    NoComponent {
        /// Where it should be.
        entry: String,
    },
    /// The folder for it cannot be written.
    #[error("the component cannot be written to {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// See the module. The file goes when this goes.
pub struct Guest {
    /// The bundle's digest.
    pub bundle: ContentHash,
    /// The component itself.
    pub wasm: Bytes,
    component: SourceComponent,
}

impl Guest {
    /// Unpacks a bundle's component. `exact`: the manifest's limits are not asked, because those that were in force
    /// are in the trace; a candidate's own limits of memory and counts hold, those of time never.
    ///
    /// # Errors
    /// The bundle has no component, or it cannot be written.
    pub fn new(archive: &[u8], exact: bool) -> Result<Self, GuestError> {
        let limits = ArchiveLimits::default();
        let read = |name: &str, most: u64| {
            author::file(archive, &limits, name, most)
                .map_err(|error| GuestError::Archive { reason: longshore_bundle::chain(&error) })
        };
        let manifest = read(MANIFEST, MAX_MANIFEST)?;
        let manifest: Option<Manifest> = manifest.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut manifest = manifest.unwrap_or_default();
        let wasm = read(manifest.entry(), author::component::MAX_BYTES)?;
        let wasm = wasm.ok_or_else(|| GuestError::NoComponent {
            entry: crate::printable::line(manifest.entry(), 200),
        })?;
        manifest.limits = if exact {
            LimitSet::default()
        } else {
            LimitSet { timeout_ms: None, cpu_ms: None, ..manifest.limits }
        };
        let folder =
            tempfile::tempdir().map_err(|source| GuestError::Write { path: std::env::temp_dir(), source })?;
        let path = folder.path().join("main.wasm");
        std::fs::write(&path, &wasm).map_err(|source| GuestError::Write { path: path.clone(), source })?;
        let component = SourceComponent {
            path,
            sha256: Sha256::digest(&wasm).into(),
            manifest: Some(Arc::new(manifest)),
            lease: Arc::new(folder),
        };
        Ok(Self { bundle: content_hash(archive), wasm: wasm.into(), component })
    }

    pub(crate) fn component(&self) -> SourceComponent {
        self.component.clone()
    }
}

tokio::task_local! {
    /// The component of the replay that this task is: one engine serves all replays, and what a run says of its bundle
    /// stays as it was recorded, because guests see it.
    static COMPONENT: SourceComponent;
}

/// Runs a future whose executor finds this component, whatever bundle is asked for.
pub(crate) async fn with_component<F: Future>(component: SourceComponent, future: F) -> F::Output {
    COMPONENT.scope(component, future).await
}

/// See [`with_component`].
pub(crate) struct OfTask;

#[async_trait::async_trait]
impl ComponentSource for OfTask {
    async fn component(
        &self,
        _tenant: &TenantId,
        _extension: &ExtensionId,
        _bundle: &ContentHash,
    ) -> Result<Option<SourceComponent>, CallError> {
        Ok(COMPONENT.try_with(Clone::clone).ok())
    }
}
