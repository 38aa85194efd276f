//! Where components come from. The bundle cache implements the trait; tests use a folder.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use longshore_proto::manifest::Manifest;
use longshore_proto::{CallError, ContentHash, ExtensionId, TenantId};

use super::artifacts::Digest;

/// A component file on disk.
#[derive(Clone)]
pub struct SourceComponent {
    /// Where it lies.
    pub path: PathBuf,
    /// SHA-256 of its bytes: the key of everything that is made from it, checked again before it is compiled.
    pub sha256: Digest,
    /// What the bundle says of itself: its limits, its routes. None where it has no readable manifest.
    pub manifest: Option<Arc<Manifest>>,
    /// Keeps the file from being evicted while it is needed.
    pub lease: Arc<dyn Any + Send + Sync>,
}

impl std::fmt::Debug for SourceComponent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceComponent").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Finds the component of a bundle.
#[async_trait::async_trait]
pub trait ComponentSource: Send + Sync {
    /// The component of a tenant's bundle; `None` when the bundle is valid and has none. A fetch that this starts
    /// outlives a caller that stops waiting. The error is the caller's answer; its cause is in the log.
    async fn component(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        bundle: &ContentHash,
    ) -> Result<Option<SourceComponent>, CallError>;
}
