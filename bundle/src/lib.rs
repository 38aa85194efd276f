//! Bundles: where they are kept ([`store`]), what an archive may hold ([`archive`]), how one is made and looked at
//! ([`author`]), and the verified, unpacked copies on this machine ([`BundleCache`]). Worker, shim and CLI share it.
//!
//! A bundle is named by the SHA-256 of its archive, so whatever is cached under a hash is right for everybody; who
//! may have it is another question, answered by whether the tenant's own key exists in the store (`cache::rights`).

pub mod archive;
pub mod author;
mod cache;
mod error;
mod key;
pub mod signature;
mod stats;
pub mod store;

pub use archive::ArchiveLimits;
pub use cache::{Bundle, BundleCache, CacheConfig, CacheError, ComponentFile, Memory, Pages, Skipped};
pub use error::{BundleError, chain};
pub use key::{BundleKey, ObjectKey, ObjectKeyError};
pub use stats::{CacheStats, StatsSnapshot};
pub use store::{
    BundleStore, Content, ObjectInfo, ObjectPage, Opened, StoreConfig, StoreConfigError, StoreError,
};
