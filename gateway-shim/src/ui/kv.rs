//! Hints of all gateways, in a JetStream bucket of its own. Entries live for days and the bucket is bounded in bytes
//! ([`longshore_registry::ui_hints_settings`]): what is lost costs one request with `?tenant=`.

use async_trait::async_trait;
use bytes::Bytes;
use longshore_proto::TenantId;
use longshore_registry::ui_hints_settings;
use longshore_service::errors::chain;
use longshore_service::nats::Watcher;
use longshore_service::nats::buckets::{KeyValue, Rights};
use serde::{Deserialize, Serialize};

use super::hints::{HintError, SharedHints};

/// The version of what is written.
const VERSION: u16 = 1;

/// What stands at a key.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    #[serde(default)]
    v: u16,
    tenant: TenantId,
}

/// Hints in JetStream.
pub struct KvHints(KeyValue);

impl KvHints {
    /// On a connection whose inboxes are the gateway's own (`_R.shim.js`). Nothing is sent yet; the bucket is made with the first hint.
    pub fn new(client: async_nats::Client, link: Watcher) -> Self {
        Self(KeyValue::new(client, link, ui_hints_settings(1), Rights::CreateOnly))
    }
}

#[async_trait]
impl SharedHints for KvHints {
    async fn get(&self, key: &str) -> Result<Option<TenantId>, HintError> {
        use longshore_service::nats::buckets::{EnsureError, KvError};
        let entry = match self.0.get(key).await {
            Ok(entry) => entry,
            // Nobody has written a hint yet.
            Err(KvError::Bucket(EnsureError::Absent(_))) => return Ok(None),
            Err(error) => return Err(HintError(chain(&error).to_string())),
        };
        let Some(value) = entry.and_then(|entry| entry.value) else { return Ok(None) };
        match serde_json::from_slice::<Record>(&value) {
            Ok(record) => Ok(Some(record.tenant)),
            Err(error) => {
                tracing::warn!(key, %error, "a UI hint cannot be read; it is skipped");
                Ok(None)
            }
        }
    }

    async fn put(&self, key: &str, tenant: &TenantId) -> Result<(), HintError> {
        let failed = |error| HintError(chain(&error).to_string());
        let entry = self.0.get(key).await.ok().flatten();
        let record = serde_json::to_vec(&Record { v: VERSION, tenant: tenant.clone() })
            .map_err(|error| HintError(error.to_string()))?;
        // Somebody else's hint of the same moment is as good.
        let revision = entry.map_or(0, |entry| entry.revision);
        self.0.put(key, Bytes::from(record), revision).await.map(drop).map_err(failed)
    }
}
