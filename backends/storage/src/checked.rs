//! Names and sizes, looked at once for both backends (interop 6.3, "Server-side storage limits").

use async_trait::async_trait;

use crate::StorageError;
use crate::error::{Invalid, Refusal};
use crate::types::{
    Entry, INSTALL_BYTES, KEY_CHARACTERS, NAMESPACE_CHARACTERS, PutEntry, Scope, Storage, TTL_MAX, TTL_MIN,
    VALUE_BYTES,
};

/// A backend behind the checks.
pub(crate) struct Checked<S>(pub S);

fn name(what: &'static str, text: &str, limit: usize, slash: bool) -> Result<(), StorageError> {
    if text.is_empty() {
        return Err(StorageError::Invalid(Invalid::Empty { what }));
    }
    let length = text.encode_utf16().count();
    if length > limit {
        return Err(StorageError::Invalid(Invalid::TooLong { what, length, unit: "characters", limit }));
    }
    let bad = |(_, character): &(usize, char)| character.is_control() || (!slash && *character == '/');
    match text.char_indices().find(bad) {
        Some((at, character)) => Err(StorageError::Invalid(Invalid::Character { what, character, at })),
        None => Ok(()),
    }
}

fn place(scope: &Scope<'_>, namespace: &str) -> Result<(), StorageError> {
    let install = scope.install;
    if install.trim().is_empty() {
        return Err(StorageError::Denied(Refusal::NoInstall));
    }
    if install.len() > INSTALL_BYTES {
        let (length, limit) = (install.len(), INSTALL_BYTES);
        let what = "install id";
        return Err(StorageError::Invalid(Invalid::TooLong { what, length, unit: "bytes", limit }));
    }
    name("namespace", namespace, NAMESPACE_CHARACTERS, true)
}

fn entry(scope: &Scope<'_>, namespace: &str, key: &str) -> Result<(), StorageError> {
    place(scope, namespace)?;
    name("key", key, KEY_CHARACTERS, false)
}

#[async_trait]
impl<S: Storage> Storage for Checked<S> {
    async fn prepare(&self) -> Result<(), StorageError> {
        self.0.prepare().await
    }

    async fn get(&self, scope: &Scope<'_>, namespace: &str, key: &str) -> Result<Entry, StorageError> {
        entry(scope, namespace, key)?;
        self.0.get(scope, namespace, key).await
    }

    async fn put(&self, scope: &Scope<'_>, put: &PutEntry) -> Result<Entry, StorageError> {
        entry(scope, &put.namespace, &put.key)?;
        if put.value.len() > VALUE_BYTES {
            return Err(StorageError::TooLarge { bytes: put.value.len(), limit: VALUE_BYTES });
        }
        if let Some(ttl) = put.ttl
            && !(TTL_MIN..=TTL_MAX).contains(&ttl)
        {
            let (min, max) = (TTL_MIN.as_secs(), TTL_MAX.as_secs());
            return Err(StorageError::Invalid(Invalid::Ttl { seconds: ttl.as_secs(), min, max }));
        }
        self.0.put(scope, put).await
    }

    async fn delete(&self, scope: &Scope<'_>, namespace: &str, key: &str) -> Result<(), StorageError> {
        entry(scope, namespace, key)?;
        self.0.delete(scope, namespace, key).await
    }

    async fn list(
        &self,
        scope: &Scope<'_>,
        namespace: &str,
        cursor: Option<&str>,
    ) -> Result<Vec<Entry>, StorageError> {
        place(scope, namespace)?;
        // Guests that keep a cursor in a plain string begin with an empty one.
        let cursor = cursor.filter(|cursor| !cursor.is_empty());
        if let Some(cursor) = cursor {
            name("cursor", cursor, KEY_CHARACTERS, false)?;
        }
        self.0.list(scope, namespace, cursor).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::StorageCase;

    /// Counts what gets through.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    #[async_trait]
    impl Storage for Counting {
        async fn get(&self, _: &Scope<'_>, _: &str, _: &str) -> Result<Entry, StorageError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(StorageError::Missing)
        }
        async fn put(&self, _: &Scope<'_>, _: &PutEntry) -> Result<Entry, StorageError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Err(StorageError::Missing)
        }
        async fn delete(&self, _: &Scope<'_>, _: &str, _: &str) -> Result<(), StorageError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        async fn list(
            &self,
            _: &Scope<'_>,
            _: &str,
            cursor: Option<&str>,
        ) -> Result<Vec<Entry>, StorageError> {
            assert_ne!(cursor, Some(""));
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Vec::new())
        }
    }

    fn put(namespace: &str, key: &str, value: usize, ttl: Option<u64>) -> PutEntry {
        PutEntry {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            value: Bytes::from(vec![0; value]),
            revision: None,
            ttl: ttl.map(Duration::from_secs),
        }
    }

    #[tokio::test]
    async fn bad_names_and_sizes_reach_no_backend() {
        let storage = Checked(Counting::default());
        let tenant = "tenant-1".parse().unwrap();
        let scope = Scope { tenant: &tenant, install: "install-1", request_id: None };
        let long = "n".repeat(129);
        let longer = "\u{1f980}".repeat(129);
        for (namespace, key, says) in [
            ("", "k", "the namespace is empty"),
            (long.as_str(), "k", "the namespace has 129 characters, 128 are allowed"),
            ("a\nb", "k", "the namespace has the character '\\n' at byte 1"),
            ("a\u{85}", "k", "the namespace has the character '\\u{85}' at byte 1"),
            ("n", "", "the key is empty"),
            ("n", longer.as_str(), "the key has 258 characters, 256 are allowed"),
            ("n", "a/b", "the key has the character '/' at byte 1"),
            ("n", "\0", "the key has the character '\\0' at byte 0"),
        ] {
            let errors = [
                storage.get(&scope, namespace, key).await.map(|_| ()).unwrap_err(),
                storage.put(&scope, &put(namespace, key, 1, None)).await.map(|_| ()).unwrap_err(),
                storage.delete(&scope, namespace, key).await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.to_string(), says);
                assert_eq!(error.wit_case(), StorageCase::Internal);
            }
        }
        let error = storage.put(&scope, &put("n", "k", 65_537, None)).await.unwrap_err();
        assert_eq!(error.to_string(), "the value has 65537 bytes, 65536 are allowed");
        for ttl in [0, 59, 30 * 86_400 + 1] {
            let error = storage.put(&scope, &put("n", "k", 1, Some(ttl))).await.unwrap_err();
            assert_eq!(error.to_string(), format!("a life of {ttl} s is outside of 60 to 2592000 s"));
        }
        let error = storage.list(&scope, "n", Some("a/b")).await.unwrap_err();
        assert_eq!(error.to_string(), "the cursor has the character '/' at byte 1");
        for install in ["", " "] {
            let scope = Scope { install, ..scope };
            let error = storage.list(&scope, "n", None).await.unwrap_err();
            assert_eq!(error.wit_case(), StorageCase::Denied);
        }
        let install = "i".repeat(257);
        let scope = Scope { install: &install, ..scope };
        assert!(storage.get(&scope, "n", "k").await.is_err());
        assert_eq!(storage.0.0.load(Ordering::Relaxed), 0, "operations sent");
    }

    #[tokio::test]
    async fn what_is_just_allowed_gets_through() {
        let storage = Checked(Counting::default());
        let tenant = "tenant-1".parse().unwrap();
        let install = "i".repeat(256);
        let scope = Scope { tenant: &tenant, install: &install, request_id: None };
        let (namespace, key) = ("日".repeat(128), "\u{1f980}".repeat(128));
        for (namespace, key) in [(namespace.as_str(), key.as_str()), ("a/b", ".."), ("*", ">"), (" ", "日本")]
        {
            for ttl in [60, 30 * 86_400] {
                let written = storage.put(&scope, &put(namespace, key, 65_536, Some(ttl))).await;
                assert!(matches!(written, Err(StorageError::Missing)));
            }
        }
        assert!(storage.list(&scope, "n", Some("")).await.unwrap().is_empty());
        assert_eq!(storage.0.0.load(Ordering::Relaxed), 9);
    }
}
