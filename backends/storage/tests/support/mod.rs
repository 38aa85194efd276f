//! Both backends, as the tests start them.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::sync::Arc;

use bytes::Bytes;
use longshore_platform::{Platform, PlatformConfig};
use longshore_proto::TenantId;
use longshore_service::upstream::Upstream;
use longshore_storage::{Entry, JetStreamSettings, PutEntry, Scope, Storage, StorageError};
use longshore_stub_platform::{Options, StubPlatform};
use longshore_tests::nats::{Client, Nats};

/// Storage on a real nats-server with `deploy/nats.conf`, as the user `worker`: these tests also show that its rights
/// are enough.
pub struct JetStream {
    pub storage: Arc<dyn Storage>,
    pub worker: Client,
    pub nats: Nats,
}

impl JetStream {
    pub async fn start() -> Self {
        Self::with(JetStreamSettings::default()).await
    }

    pub async fn with(settings: JetStreamSettings) -> Self {
        let nats = Nats::start().await;
        let worker = nats.client("worker").await;
        let storage = longshore_storage::on_jetstream(worker.client.clone(), settings).await.unwrap();
        Self { storage, worker, nats }
    }

    /// Another process of the same fleet.
    pub async fn another(&self, settings: JetStreamSettings) -> Arc<dyn Storage> {
        let client = self.nats.client("worker").await.client;
        longshore_storage::on_jetstream(client, settings).await.unwrap()
    }

    /// The stream, for an operator.
    pub async fn admin(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(self.nats.client("admin").await.client)
    }
}

/// Storage on the stub of the platform.
pub struct OnPlatform {
    pub storage: Arc<dyn Storage>,
    pub stub: StubPlatform,
}

impl OnPlatform {
    pub async fn start() -> Self {
        let stub = StubPlatform::start(Options::default()).await.unwrap();
        let config = PlatformConfig { base: stub.base_url().parse().unwrap(), token: None };
        let platform = Platform::new(&config, Upstream::new().unwrap()).unwrap();
        Self { storage: longshore_storage::on_platform(platform), stub }
    }
}

/// One install of one tenant, and short names for the operations.
#[derive(Clone, Copy)]
pub struct Install<'a> {
    pub storage: &'a dyn Storage,
    pub tenant: &'a str,
    pub id: &'a str,
}

impl<'a> Install<'a> {
    pub fn new(storage: &'a Arc<dyn Storage>) -> Self {
        Self { storage: &**storage, tenant: "tenant-1", id: "install-1" }
    }

    pub fn named(self, id: &'a str) -> Self {
        Self { id, ..self }
    }

    fn tenant(&self) -> TenantId {
        self.tenant.parse().unwrap()
    }

    fn scope<'b>(&'b self, tenant: &'b TenantId) -> Scope<'b> {
        Scope { tenant, install: self.id, request_id: Some("request-1") }
    }

    pub async fn get(&self, namespace: &str, key: &str) -> Result<Entry, StorageError> {
        self.storage.get(&self.scope(&self.tenant()), namespace, key).await
    }

    pub async fn value(&self, namespace: &str, key: &str) -> Bytes {
        self.get(namespace, key).await.unwrap().value
    }

    pub async fn put(
        &self,
        namespace: &str,
        key: &str,
        value: impl Into<Bytes>,
        revision: Option<u64>,
    ) -> Result<Entry, StorageError> {
        let entry = PutEntry {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            value: value.into(),
            revision,
            ttl: None,
        };
        self.storage.put(&self.scope(&self.tenant()), &entry).await
    }

    pub async fn put_entry(&self, entry: &PutEntry) -> Result<Entry, StorageError> {
        self.storage.put(&self.scope(&self.tenant()), entry).await
    }

    pub async fn delete(&self, namespace: &str, key: &str) -> Result<(), StorageError> {
        self.storage.delete(&self.scope(&self.tenant()), namespace, key).await
    }

    pub async fn list(&self, namespace: &str, cursor: Option<&str>) -> Result<Vec<Entry>, StorageError> {
        self.storage.list(&self.scope(&self.tenant()), namespace, cursor).await
    }

    pub async fn keys(&self, namespace: &str) -> Vec<String> {
        self.list(namespace, None).await.unwrap().into_iter().map(|entry| entry.key).collect()
    }
}
