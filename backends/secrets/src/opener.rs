//! Opening envelopes, and keeping what came out for a while: an extension that is called a hundred times a second does
//! not ask Vault a hundred times.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use longshore_proto::call::SecretEnvelope;
use longshore_service::upstream::UpstreamError;
use moka::Expiry;
use moka::future::Cache;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::MAX_ENVELOPE_BYTES;
use crate::error::OpenError;
use crate::keyring::{KeyRing, is_id};
use crate::scope::Scope;
use crate::seal::Kind;
use crate::secrets::Secrets;
use crate::texts::SecretTexts;
use crate::vault::{Vault, VaultConfig};

/// Ciphertext above this is opened on a blocking thread: decoding it and preparing the search takes milliseconds.
const ELSEWHERE: usize = 16 * 1024;

/// What envelopes are opened with.
#[derive(Debug, Clone, Default)]
pub struct OpenerConfig {
    /// For sealed envelopes.
    pub ring: Option<KeyRing>,
    /// For Vault's.
    pub vault: Option<VaultConfig>,
    /// What is kept.
    pub cache: CacheConfig,
}

/// What is kept of opened envelopes.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// At most so many.
    pub entries: u64,
    /// Of so many bytes in all, with what searches for them.
    pub bytes: u64,
    /// For so long, or until they expire.
    pub ttl: Duration,
}

impl Default for CacheConfig {
    /// 1,000 envelopes or 64 MiB, for the 30 s of the reference.
    fn default() -> Self {
        Self { entries: 1_000, bytes: 64 * 1024 * 1024, ttl: Duration::from_secs(30) }
    }
}

/// Why there is no opener.
#[derive(Debug, thiserror::Error)]
pub enum OpenerError {
    /// Vault's address.
    #[error("VAULT_ADDR cannot be used: {0}")]
    VaultAddress(&'static str),
    /// Vault's namespace.
    #[error("VAULT_NAMESPACE is no text for a header")]
    VaultNamespace,
    /// The transit engine's mount.
    #[error("ALGA_VAULT_TRANSIT_MOUNT is no path of names")]
    VaultMount,
    /// The HTTP client.
    #[error("no client for Vault")]
    Client(#[source] UpstreamError),
}

/// Opens envelopes.
pub struct Opener {
    ring: Option<KeyRing>,
    vault: Option<Vault>,
    cache: Cache<[u8; 32], Arc<Slot>>,
    ttl: Duration,
    /// No entry weighs less, so that the bound on bytes bounds their number too.
    least_weight: u64,
    empty: Arc<Secrets>,
    /// A task looks after the cache.
    sweeping: Arc<AtomicBool>,
    wiped: AtomicBool,
}

/// An entry of the cache. It is emptied when it is evicted: the cache itself frees memory at its leisure.
struct Slot {
    secrets: Mutex<Option<Arc<Secrets>>>,
    weight: u32,
    ttl: Duration,
}

impl Slot {
    fn get(&self) -> Option<Arc<Secrets>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn clear(&self) {
        drop(self.secrets.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Each entry has its own end.
struct SlotExpiry;

impl Expiry<[u8; 32], Arc<Slot>> for SlotExpiry {
    fn expire_after_create(&self, _: &[u8; 32], slot: &Arc<Slot>, _: Instant) -> Option<Duration> {
        Some(slot.ttl)
    }
}

impl Opener {
    /// An opener; Vault is not asked yet.
    ///
    /// # Errors
    /// Vault's address, namespace or mount cannot be used.
    pub fn new(config: OpenerConfig) -> Result<Self, OpenerError> {
        let cache = Cache::builder()
            .max_capacity(config.cache.bytes)
            .weigher(|_, slot: &Arc<Slot>| slot.weight)
            .expire_after(SlotExpiry)
            .eviction_listener(|_, slot: Arc<Slot>, _| slot.clear())
            .build();
        Ok(Self {
            ring: config.ring,
            vault: config.vault.map(Vault::new).transpose()?,
            cache,
            ttl: config.cache.ttl,
            least_weight: config.cache.bytes / config.cache.entries.max(1),
            empty: Arc::new(Secrets::empty()),
            sweeping: Arc::default(),
            wiped: AtomicBool::new(false),
        })
    }

    /// The secrets of a call. No envelope and one with blank ciphertext hold none.
    ///
    /// # Errors
    /// [`OpenError`]; it is not remembered: the next call tries again.
    pub async fn open(
        &self,
        scope: &Scope<'_>,
        envelope: Option<&SecretEnvelope>,
    ) -> Result<Arc<Secrets>, OpenError> {
        let Some(envelope) = envelope.filter(|envelope| !envelope.ciphertext_b64.trim().is_empty()) else {
            return Ok(Arc::clone(&self.empty));
        };
        if envelope.ciphertext_b64.len() > MAX_ENVELOPE_BYTES {
            return Err(OpenError::TooLarge);
        }
        let expires_at = expiry(envelope)?;
        let now = SystemTime::now();
        let ttl = match expires_at.map(|end| end.duration_since(now)) {
            None => self.ttl,
            Some(Ok(left)) if !left.is_zero() => left.min(self.ttl),
            Some(_) => return Err(OpenError::Expired),
        };
        if self.wiped.load(Ordering::Acquire) {
            return self.load(scope, envelope, expires_at).await;
        }
        let loading = async {
            let secrets = self.load(scope, envelope, expires_at).await?;
            let weight = (secrets.weight() as u64).max(self.least_weight);
            let weight = u32::try_from(weight).unwrap_or(u32::MAX);
            Ok(Arc::new(Slot { secrets: Mutex::new(Some(secrets)), weight, ttl }))
        };
        // Calls that come meanwhile wait for the same answer.
        let slot = Box::pin(self.cache.try_get_with(key(scope, envelope), loading)).await;
        let slot = slot.map_err(|error: Arc<OpenError>| OpenError::clone(&error))?;
        let secrets = slot.get();
        if self.wiped.load(Ordering::Acquire) {
            slot.clear();
        } else {
            self.sweep();
        }
        match secrets {
            Some(secrets) => Ok(secrets),
            // Evicted between the look into the cache and here.
            None => self.load(scope, envelope, expires_at).await,
        }
    }

    async fn load(
        &self,
        scope: &Scope<'_>,
        envelope: &SecretEnvelope,
        expires_at: Option<SystemTime>,
    ) -> Result<Arc<Secrets>, OpenError> {
        let texts = match Kind::of(envelope) {
            Kind::Vault => self.vault.as_ref().ok_or(OpenError::NoVault)?.open(envelope).await?,
            Kind::Inline => inline(envelope)?,
            Kind::Sealed => self.unseal(scope, envelope)?,
            Kind::SealedOtherwise => return Err(OpenError::UnknownSeal),
        };
        let build = move || Arc::new(Secrets::new(texts, expires_at));
        if envelope.ciphertext_b64.len() <= ELSEWHERE {
            return Ok(build());
        }
        tokio::task::spawn_blocking(build).await.map_err(|_| OpenError::Interrupted)
    }

    fn unseal(&self, scope: &Scope<'_>, envelope: &SecretEnvelope) -> Result<SecretTexts, OpenError> {
        let ring = self.ring.as_ref().ok_or(OpenError::NoKeys)?;
        let id = envelope.key_path.as_deref().unwrap_or_default();
        let unknown = || {
            // What is no id was not written by us and is not repeated.
            OpenError::UnknownKey { id: if is_id(id) { id } else { "(no key id)" }.to_owned() }
        };
        let key = ring.key(id).ok_or_else(unknown)?;
        let json = KeyRing::open(key, scope, envelope).ok_or(OpenError::Seal)?;
        SecretTexts::parse(&json).map_err(OpenError::Texts)
    }

    /// Forgets everything that is kept, now and from now on: for the end of the process. Secrets that a running call
    /// still holds are wiped with it.
    pub async fn wipe(&self) {
        self.wiped.store(true, Ordering::Release);
        for (_, slot) in &self.cache {
            slot.clear();
        }
        self.cache.invalidate_all();
        self.cache.run_pending_tasks().await;
    }

    /// What is kept: envelopes.
    pub fn kept(&self) -> u64 {
        self.cache.entry_count()
    }

    /// Sees to it that entries go when their time has come: the cache by itself looks at them only when it is used.
    fn sweep(&self) {
        if self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        let (cache, sweeping) = (self.cache.clone(), Arc::clone(&self.sweeping));
        let every = (self.ttl / 4).clamp(Duration::from_millis(50), Duration::from_secs(5));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                cache.run_pending_tasks().await;
                if cache.entry_count() > 0 {
                    continue;
                }
                sweeping.store(false, Ordering::Release);
                // An entry that has just come may have seen the task still running.
                cache.run_pending_tasks().await;
                if cache.entry_count() == 0 || sweeping.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        });
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("ring", &self.ring).field("kept", &self.kept()).finish_non_exhaustive()
    }
}

fn inline(envelope: &SecretEnvelope) -> Result<SecretTexts, OpenError> {
    let json = BASE64.decode(envelope.ciphertext_b64.trim()).map(Zeroizing::new);
    let json = json.map_err(|_| OpenError::Base64)?;
    SecretTexts::parse(&json).map_err(OpenError::Texts)
}

/// When the envelope's secrets end; blank is the platform's way to write never.
fn expiry(envelope: &SecretEnvelope) -> Result<Option<SystemTime>, OpenError> {
    let Some(text) = envelope.expires_at.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let end = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| OpenError::BadExpiry)?;
    Ok(Some(end.into()))
}

/// The cache's key: everything that the content depends on, each with its length. A digest, because the ciphertext may
/// be plain.
fn key(scope: &Scope<'_>, envelope: &SecretEnvelope) -> [u8; 32] {
    let mut hash = Sha256::new();
    let required = [scope.tenant.as_str(), scope.extension.as_str(), &envelope.ciphertext_b64].map(Some);
    let optional = [
        scope.install,
        scope.version,
        envelope.algorithm.as_deref(),
        envelope.version.as_deref(),
        envelope.expires_at.as_deref(),
        envelope.key_path.as_deref(),
        envelope.mount.as_deref(),
    ];
    for part in required.into_iter().chain(optional) {
        hash.update([u8::from(part.is_some())]);
        let part = part.unwrap_or_default();
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
