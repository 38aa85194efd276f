//! Whose pages an extension and hash were last shown for, so that what a page loads needs no `?tenant=` on any gateway.
//!
//! A hint is written only after the claim has been confirmed (by the registry when strict, by the tenant's own copy of the bundle
//! otherwise), and is a claim again when it is read. Kept in memory and, so that every gateway has it, in a JetStream bucket.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longshore_proto::{ContentHash, ExtensionId, TenantId};
use longshore_service::nats::buckets::token;
use moka::future::Cache;
use tokio::sync::Semaphore;

use super::metrics::{HintSource, UiMetrics};

/// Hints in memory: about 300 bytes each.
const REMEMBERED: u64 = 50_000;
/// For how long: a fraction of the bucket's own time, so that what is used is written again before it expires there.
const FOR: Duration = Duration::from_secs(12 * 3600);
/// That there is none: a page's files come in a burst after the page itself, which wrote it.
const MISSED_FOR: Duration = Duration::from_secs(2);
/// How long a request waits for the bucket.
const PATIENCE: Duration = Duration::from_millis(750);
/// Writes on their way at once; one above is left out, for the next page will try again.
const WRITES: usize = 64;

/// Why the shared hints gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("the shared hints do not answer: {0}")]
pub struct HintError(pub String);

/// Hints of all gateways. Keys are the texts of [`key`].
#[async_trait]
pub trait SharedHints: Send + Sync + 'static {
    /// The tenant, if one is known.
    async fn get(&self, key: &str) -> Result<Option<TenantId>, HintError>;
    /// Writes over what is there.
    async fn put(&self, key: &str, tenant: &TenantId) -> Result<(), HintError>;
}

/// `{extension}.{hash}`, each one token of a subject: ids may hold dots.
pub fn key(extension: &ExtensionId, hash: ContentHash) -> String {
    format!("{}.{}", token(extension.as_str()), hash.hex())
}

/// The hints as requests see them.
#[derive(Clone)]
pub(super) struct Hints {
    known: Cache<(ExtensionId, ContentHash), TenantId>,
    missed: Cache<(ExtensionId, ContentHash), ()>,
    shared: Option<Arc<dyn SharedHints>>,
    writes: Arc<Semaphore>,
    metrics: UiMetrics,
}

impl Hints {
    pub(super) fn new(shared: Option<Arc<dyn SharedHints>>, metrics: UiMetrics) -> Self {
        Self {
            known: Cache::builder().max_capacity(REMEMBERED).time_to_live(FOR).build(),
            missed: Cache::builder().max_capacity(REMEMBERED).time_to_live(MISSED_FOR).build(),
            shared,
            writes: Arc::new(Semaphore::new(WRITES)),
            metrics,
        }
    }

    /// The claim that a hint makes.
    pub(super) async fn get(&self, extension: &ExtensionId, hash: ContentHash) -> Option<TenantId> {
        let at = (extension.clone(), hash);
        if let Some(tenant) = self.known.get(&at).await {
            self.metrics.hint(HintSource::Memory);
            return Some(tenant);
        }
        let found = self.ask(&at).await;
        self.metrics.hint(if found.is_some() { HintSource::Shared } else { HintSource::None });
        found
    }

    async fn ask(&self, at: &(ExtensionId, ContentHash)) -> Option<TenantId> {
        let shared = self.shared.as_ref()?;
        if self.missed.contains_key(at) {
            return None;
        }
        let key = key(&at.0, at.1);
        match tokio::time::timeout(PATIENCE, shared.get(&key)).await {
            Ok(Ok(Some(tenant))) => {
                self.known.insert(at.clone(), tenant.clone()).await;
                Some(tenant)
            }
            Ok(Ok(None)) => {
                self.missed.insert(at.clone(), ()).await;
                None
            }
            // Not remembered: the bucket being away is no word about this page.
            Ok(Err(error)) => {
                tracing::debug!(%error, "a hint cannot be read");
                None
            }
            Err(_) => None,
        }
    }

    /// The claim was confirmed.
    pub(super) async fn confirmed(&self, extension: &ExtensionId, hash: ContentHash, tenant: &TenantId) {
        let at = (extension.clone(), hash);
        if self.known.get(&at).await.as_ref() == Some(tenant) {
            return;
        }
        self.missed.invalidate(&at).await;
        self.known.insert(at, tenant.clone()).await;
        let Some(shared) = self.shared.clone() else { return };
        let Ok(permit) = self.writes.clone().try_acquire_owned() else { return };
        let (key, tenant) = (key(extension, hash), tenant.clone());
        // Beside the answer: the page's files come a round trip later.
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = shared.put(&key, &tenant).await {
                tracing::debug!(%error, "a hint cannot be shared");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_two_tokens_whatever_the_extension_is_called() {
        let hash = ContentHash::from_bytes([1; 32]);
        let key = |extension: &str| key(&extension.parse().unwrap(), hash);
        assert_eq!(key("com.alga_x-1"), format!("com=2Ealga_x-1.{}", "01".repeat(32)));
        assert_ne!(key("a.b"), key("a-b"));
        assert_eq!(key("a.b.c").split('.').count(), 2);
    }
}
