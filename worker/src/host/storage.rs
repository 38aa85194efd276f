//! `cap:storage.kv`: entries of the install, kept by the platform or in JetStream. Limits: names, values and quotas of
//! the backend (`longshore-storage`). Records names, values and why the backend said no.

use longshore_storage::{Entry, PutEntry, Scope, Storage, StorageCase};

use super::bindings::alga::extension::storage::Host;
use super::bindings::alga::extension::types::{StorageEntry, StorageError};
use super::call::wit_error;
use super::recorded::recorded;
use super::scope::RunScope;
use super::{RunState, host_call};

wit_error!(StorageError);
recorded!(StorageEntry { namespace, key, value, revision });

fn entry(entry: Entry) -> StorageEntry {
    StorageEntry {
        namespace: entry.namespace,
        key: entry.key,
        value: entry.value.into(),
        revision: entry.revision,
    }
}

impl RunScope {
    /// The storage and whose part of it.
    fn storage(&self) -> Result<(&dyn Storage, Scope<'_>), StorageError> {
        let Some(install) = self.install() else {
            self.record.note("the call names no install");
            return Err(StorageError::Denied);
        };
        let Some(storage) = self.backends.storage.as_deref() else {
            self.record.note("no storage is configured");
            return Err(StorageError::Internal);
        };
        Ok((storage, Scope { tenant: &self.run.context.tenant, install, request_id: self.request_id() }))
    }

    fn storage_error(&self, error: &longshore_storage::StorageError) -> StorageError {
        self.record.note(error.to_string());
        match error.wit_case() {
            StorageCase::Missing => StorageError::Missing,
            StorageCase::Conflict => StorageError::Conflict,
            StorageCase::Denied => StorageError::Denied,
            StorageCase::Internal => {
                self.upstream_failed(error);
                StorageError::Internal
            }
        }
    }
}

impl Host for RunState {
    async fn get(
        &mut self,
        namespace: String,
        key: String,
    ) -> wasmtime::Result<Result<StorageEntry, StorageError>> {
        host_call!(self, "storage.get", StorageKv, args: { namespace, key }, denied: Err(StorageError::Denied), |run| {
            match run.storage() {
                Ok((storage, scope)) => {
                    run.in_time(storage.get(&scope, &namespace, &key)).await.map(entry).map_err(|e| run.storage_error(&e))
                }
                Err(error) => Err(error),
            }
        })
    }

    async fn put(&mut self, entry: StorageEntry) -> wasmtime::Result<Result<StorageEntry, StorageError>> {
        host_call!(self, "storage.put", StorageKv, args: { entry }, denied: Err(StorageError::Denied), |run| {
            match run.storage() {
                Ok((storage, scope)) => {
                    let StorageEntry { namespace, key, value, revision } = entry;
                    let put = PutEntry { namespace, key, value: value.into(), revision, ttl: None };
                    run.in_time(storage.put(&scope, &put)).await.map(self::entry).map_err(|e| run.storage_error(&e))
                }
                Err(error) => Err(error),
            }
        })
    }

    async fn delete(&mut self, namespace: String, key: String) -> wasmtime::Result<Result<(), StorageError>> {
        host_call!(self, "storage.delete", StorageKv, args: { namespace, key }, denied: Err(StorageError::Denied), |run| {
            match run.storage() {
                Ok((storage, scope)) => {
                    run.in_time(storage.delete(&scope, &namespace, &key)).await.map_err(|e| run.storage_error(&e))
                }
                Err(error) => Err(error),
            }
        })
    }

    async fn list_entries(
        &mut self,
        namespace: String,
        cursor: Option<String>,
    ) -> wasmtime::Result<Result<Vec<StorageEntry>, StorageError>> {
        host_call!(
            self, "storage.list-entries", StorageKv, args: { namespace, cursor }, denied: Err(StorageError::Denied), |run| {
                match run.storage() {
                    Ok((storage, scope)) => {
                        let page = run.in_time(storage.list(&scope, &namespace, cursor.as_deref())).await;
                        page.map(|page| page.into_iter().map(entry).collect::<Vec<_>>())
                            .map_err(|e| run.storage_error(&e))
                    }
                    Err(error) => Err(error),
                }
            }
        )
    }
}
