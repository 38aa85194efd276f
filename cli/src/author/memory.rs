//! Storage for one call: a map. What a real one checks (names, sizes, revisions) is checked here too.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use longshore_storage::{Entry, PAGE, PutEntry, Scope, Storage, StorageError};
use parking_lot::Mutex;

/// Entries of one process. One install alone uses it, so the scope is not part of a key.
#[derive(Default)]
struct Memory {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_name: BTreeMap<(String, String), Entry>,
    revision: u64,
}

/// An empty one, with a real one's checks before it.
pub(super) fn storage() -> Arc<dyn Storage> {
    longshore_storage::checked(Memory::default())
}

#[async_trait]
impl Storage for Memory {
    async fn get(&self, _: &Scope<'_>, namespace: &str, key: &str) -> Result<Entry, StorageError> {
        let name = (namespace.to_owned(), key.to_owned());
        self.entries.lock().by_name.get(&name).cloned().ok_or(StorageError::Missing)
    }

    async fn put(&self, _: &Scope<'_>, put: &PutEntry) -> Result<Entry, StorageError> {
        let mut entries = self.entries.lock();
        let name = (put.namespace.clone(), put.key.clone());
        let there = entries.by_name.get(&name).and_then(|entry| entry.revision).unwrap_or(0);
        if put.revision.is_some_and(|wanted| wanted != there) {
            return Err(StorageError::Conflict);
        }
        entries.revision = entries.revision.saturating_add(1);
        let entry = Entry {
            namespace: put.namespace.clone(),
            key: put.key.clone(),
            value: put.value.clone(),
            revision: Some(entries.revision),
        };
        entries.by_name.insert(name, entry.clone());
        Ok(entry)
    }

    async fn delete(&self, _: &Scope<'_>, namespace: &str, key: &str) -> Result<(), StorageError> {
        let name = (namespace.to_owned(), key.to_owned());
        self.entries.lock().by_name.remove(&name).map(|_| ()).ok_or(StorageError::Missing)
    }

    async fn list(
        &self,
        _: &Scope<'_>,
        namespace: &str,
        cursor: Option<&str>,
    ) -> Result<Vec<Entry>, StorageError> {
        let entries = self.entries.lock();
        let after =
            |entry: &&Entry| entry.namespace == namespace && cursor.is_none_or(|c| entry.key.as_str() > c);
        Ok(entries.by_name.values().filter(after).take(PAGE).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, revision: Option<u64>) -> PutEntry {
        PutEntry { namespace: "n".into(), key: key.into(), value: "v".into(), revision, ttl: None }
    }

    #[tokio::test]
    async fn it_behaves_as_storage_does() {
        let (storage, tenant) = (storage(), "t".parse().unwrap());
        let scope = Scope { tenant: &tenant, install: "i", request_id: None };
        assert!(matches!(storage.get(&scope, "n", "a").await, Err(StorageError::Missing)));
        let first = storage.put(&scope, &put("a", Some(0))).await.unwrap();
        assert!(matches!(storage.put(&scope, &put("a", Some(0))).await, Err(StorageError::Conflict)));
        let second = storage.put(&scope, &put("a", first.revision)).await.unwrap();
        assert!(second.revision > first.revision);
        for i in 0..PAGE {
            storage.put(&scope, &put(&format!("b{i:03}"), None)).await.unwrap();
        }
        let page = storage.list(&scope, "n", None).await.unwrap();
        assert_eq!((page.len(), page[0].key.as_str()), (PAGE, "a"));
        let rest = storage.list(&scope, "n", Some(&page[PAGE - 1].key)).await.unwrap();
        assert_eq!(rest.len(), 1);
        storage.delete(&scope, "n", "a").await.unwrap();
        assert!(matches!(storage.delete(&scope, "n", "a").await, Err(StorageError::Missing)));
        assert!(matches!(storage.put(&scope, &put("a/b", None)).await, Err(StorageError::Invalid(_))));
        let nobody = Scope { install: "", ..scope };
        assert!(matches!(storage.get(&nobody, "n", "a").await, Err(StorageError::Denied(_))));
    }
}
