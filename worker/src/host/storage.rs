//! `cap:storage.kv`: no backend yet; answers as without the capability.

use super::bindings::alga::extension::storage::Host;
use super::bindings::alga::extension::types::{StorageEntry, StorageError};
use super::{RunState, host_call};

impl Host for RunState {
    async fn get(
        &mut self,
        _namespace: String,
        _key: String,
    ) -> wasmtime::Result<Result<StorageEntry, StorageError>> {
        host_call!(self, "storage.get", StorageKv, denied: Err(StorageError::Denied))
    }
    async fn put(&mut self, _entry: StorageEntry) -> wasmtime::Result<Result<StorageEntry, StorageError>> {
        host_call!(self, "storage.put", StorageKv, denied: Err(StorageError::Denied))
    }
    async fn delete(
        &mut self,
        _namespace: String,
        _key: String,
    ) -> wasmtime::Result<Result<(), StorageError>> {
        host_call!(self, "storage.delete", StorageKv, denied: Err(StorageError::Denied))
    }
    async fn list_entries(
        &mut self,
        _namespace: String,
        _cursor: Option<String>,
    ) -> wasmtime::Result<Result<Vec<StorageEntry>, StorageError>> {
        host_call!(self, "storage.list-entries", StorageKv, denied: Err(StorageError::Denied))
    }
}
