//! What crosses the seam.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use longshore_proto::TenantId;

use crate::StorageError;

/// Characters of a namespace's name, at most (interop 6.3), as JavaScript counts them: UTF-16 units.
pub const NAMESPACE_CHARACTERS: usize = 128;
/// Characters of a key, at most (interop 6.3), as JavaScript counts them.
pub const KEY_CHARACTERS: usize = 256;
/// Bytes of a value, at most (interop 6.3). The platform backend takes less: [`crate`] says why.
pub const VALUE_BYTES: usize = 64 * 1024;
/// Bytes of an install's id, at most. It comes from the platform or from the registry, which bound it less.
pub const INSTALL_BYTES: usize = 256;
/// The shortest life that an entry may be given (interop 6.3).
pub const TTL_MIN: Duration = Duration::from_secs(60);
/// The longest life that an entry may be given (interop 6.3).
pub const TTL_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Entries of a page of [`Storage::list`], at most: the most that the platform gives.
pub const PAGE: usize = 100;

/// Whose entries. Both parts come from the call's context, never from the guest.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The tenant. The platform derives it from the install; the key space in NATS begins with it.
    pub tenant: &'a TenantId,
    /// The install's id. Empty: the call came without one and everything is denied (interop 1.3).
    pub install: &'a str,
    /// The call's request id, for the platform's log.
    pub request_id: Option<&'a str>,
}

/// One entry as it was read or written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its namespace.
    pub namespace: String,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Bytes,
    /// Changes with every write and is never 0. `None` only if the platform names none.
    pub revision: Option<u64>,
}

/// What is to be written.
#[derive(Clone, Debug)]
pub struct PutEntry {
    /// The namespace; made by its first entry and gone with its last.
    pub namespace: String,
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// `None`: write, whatever is there. `Some(n)`: only if the entry there has revision `n`. `Some(0)`: only if nothing
    /// is there, which the platform cannot promise ([`crate`]).
    pub revision: Option<u64>,
    /// How long it lives, [`TTL_MIN`] to [`TTL_MAX`]. `None`: for ever, or the backend's default. Replacing an entry
    /// replaces its life too. Not reachable by a guest: its interface has no field for it.
    pub ttl: Option<Duration>,
}

/// The seam: key-value storage of an install. The one implementation that is handed out checks names and sizes first
/// (`checked.rs`), so that both backends refuse the same input in the same words and nothing of it is sent.
#[async_trait]
pub trait Storage: Send + Sync {
    /// Whether the storage can be used now; makes what must exist. Operations do the same when first needed, so a
    /// server that is away at start costs nothing but this answer.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    async fn prepare(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// [`StorageError::Missing`] if there is none; those common to all operations.
    async fn get(&self, scope: &Scope<'_>, namespace: &str, key: &str) -> Result<Entry, StorageError>;

    /// Writes an entry and answers with it and its new revision.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] if `revision` is not the one there; [`StorageError::Quota`];
    /// [`StorageError::TooLarge`]; those common to all operations. After [`StorageError::Unavailable`] the entry may
    /// have been written.
    async fn put(&self, scope: &Scope<'_>, entry: &PutEntry) -> Result<Entry, StorageError>;

    /// Removes an entry.
    ///
    /// # Errors
    /// [`StorageError::Missing`] if there is none; those common to all operations. After
    /// [`StorageError::Unavailable`] the entry may have been removed.
    async fn delete(&self, scope: &Scope<'_>, namespace: &str, key: &str) -> Result<(), StorageError>;

    /// The entries of a namespace in the order of their keys' bytes, at most [`PAGE`] of them, after the key `cursor`
    /// (which need not exist any more). The cursor of the next page is the last key of this one; a page with fewer
    /// entries than [`PAGE`] is the last. No consistent snapshot: an entry written meanwhile may be in it or not.
    ///
    /// # Errors
    /// Those common to all operations. A namespace without entries is an empty page.
    async fn list(
        &self,
        scope: &Scope<'_>,
        namespace: &str,
        cursor: Option<&str>,
    ) -> Result<Vec<Entry>, StorageError>;
}
