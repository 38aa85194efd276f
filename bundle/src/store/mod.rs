//! Where bundles are kept: S3 and what speaks like it, plain HTTP, or a folder.

mod config;
mod dir;
mod list;
mod s3;

use std::path::PathBuf;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncRead;

pub use config::{StoreConfig, StoreConfigError};
pub use dir::DirStore;
pub use list::{ObjectInfo, ObjectPage, PAGE};
pub use s3::S3Store;

use crate::key::{BundleKey, ObjectKey};

/// The bytes of an object as they arrive.
pub type ByteReader = Pin<Box<dyn AsyncRead + Send>>;

/// An object being read.
pub struct Opened {
    /// Its length in bytes, where the store said.
    pub len: Option<u64>,
    /// Its bytes.
    pub body: ByteReader,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("len", &self.len).finish_non_exhaustive()
    }
}

/// What to put.
#[derive(Debug, Clone)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A file, read while it is sent.
    File(PathBuf),
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store says that there is no such object. The only definite "no".
    #[error("the store has no such object")]
    NotFound,
    /// The store answered, but refused: wrong keys, a missing right, a missing bucket, its own failure.
    #[error("the store refused with HTTP {status} {code}")]
    Refused {
        /// Its HTTP status.
        status: u16,
        /// Its error code, such as `InvalidAccessKeyId`; empty if it gave none.
        code: String,
    },
    /// No answer: refused connection, no such host, bad certificate, timeout, broken off.
    #[error("the store is unreachable")]
    Unreachable {
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A folder store that cannot be read or written.
    #[error("the store's folder failed")]
    Folder {
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
}

impl StoreError {
    pub(crate) fn unreachable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unreachable { source: source.into() }
    }
}

/// A bundle store. Five operations on checked keys; the methods on [`BundleKey`] are what most callers use, the
/// others serve what else is kept beside bundles (compiled artifacts, large recorded bodies).
#[async_trait]
pub trait BundleStore: Send + Sync + 'static {
    /// Whether an object exists. One small request.
    async fn exists_object(&self, key: &ObjectKey) -> Result<bool, StoreError>;

    /// Starts reading an object.
    async fn open_object(&self, key: &ObjectKey) -> Result<Opened, StoreError>;

    /// Writes an object, all or nothing, over any object that is there.
    async fn put_object(&self, key: &ObjectKey, content: Content) -> Result<(), StoreError>;

    /// Objects whose keys begin with `prefix` (`tenants/t-1/`; the empty prefix is everything), from the first one behind
    /// `after`. A store that can only be read refuses.
    async fn list_objects(&self, prefix: &str, after: Option<&str>) -> Result<ObjectPage, StoreError> {
        let _ = (prefix, after);
        Err(StoreError::Refused { status: 501, code: "NotImplemented".to_owned() })
    }

    /// Removes an object; one that is not there is removed already. A store that can only be read refuses.
    async fn delete_object(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let _ = key;
        Err(StoreError::Refused { status: 501, code: "NotImplemented".to_owned() })
    }

    /// Whether the store would answer now. One small request, for health checks.
    async fn probe(&self) -> Result<(), StoreError>;

    /// Makes the bucket or folder unless it is there: for development and tests.
    async fn ensure_bucket(&self) -> Result<(), StoreError>;

    /// What it is, for a start line; never holds a secret.
    fn describe(&self) -> String;

    /// Where an object is, for logs; never holds a secret.
    fn url(&self, key: &ObjectKey) -> String;

    /// [`Self::exists_object`] for a bundle.
    async fn exists(&self, key: &BundleKey) -> Result<bool, StoreError> {
        self.exists_object(&key.object_key()).await
    }

    /// [`Self::open_object`] for a bundle. Nothing is verified here.
    async fn open(&self, key: &BundleKey) -> Result<Opened, StoreError> {
        self.open_object(&key.object_key()).await
    }

    /// [`Self::put_object`] for a bundle. That the content has the key's hash is the caller's business.
    async fn put(&self, key: &BundleKey, content: Content) -> Result<(), StoreError> {
        self.put_object(&key.object_key(), content).await
    }
}
