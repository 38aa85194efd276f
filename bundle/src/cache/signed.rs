//! Whether a bundle's signature counts, asked by every get.
//!
//! A yes is remembered by hash, for everybody: the signature binds the bytes and their identity, so it is as true for
//! one tenant's copy as for another's (who may have the bundle at all is settled before, in `rights`). It holds for one
//! state of the trust bundle and until the key ends; then the signature kept here is verified again, without the store.
//!
//! A no is remembered by key and for seconds: what lies at one tenant's key must not speak for another's, and a
//! signature may be added or replaced. So a tenant that puts rubbish beside its copy refuses itself alone.
//!
//! With `warn` nothing waits: the signature is looked at beside the call.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use longshore_proto::ContentHash;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::disk::Disk;
use super::fetch::blocking;
use super::{Bundle, Memory};
use crate::error::{BundleError, chain};
use crate::key::BundleKey;
use crate::signature::{self, Policy, SignatureError, Verified, Verifier};
use crate::stats::CacheStats;
use crate::store::{BundleStore, StoreError};

/// Bytes of signatures remembered: about 500 each, so some 30,000 bundles.
const MEMORY_BYTES: u64 = 16 << 20;
/// Refusals and warnings remembered.
const REMEMBERED: u64 = 10_000;
/// How long the store may take for a signature.
const PATIENCE: Duration = Duration::from_secs(5);
/// Signatures asked of the store at a time.
const ASKING: usize = 32;
/// With `warn`: signatures looked at beside calls. One more is looked at by a later call.
const BESIDE: usize = 1_024;
/// With `warn` a no is remembered so many times as long: it costs nobody a call, and the store would be asked for ever.
const WARN_MEMORY: u32 = 12;

/// A signature that counted.
#[derive(Clone)]
struct Good {
    file: Arc<[u8]>,
    generation: u64,
    until: Option<DateTime<Utc>>,
}

/// What asking gave.
struct Answer {
    result: Result<(), Arc<BundleError>>,
    generation: u64,
    until: Instant,
}

pub(super) struct Gate {
    verifier: Arc<Verifier>,
    memory: Memory,
    store: Arc<dyn BundleStore>,
    disk: Arc<Disk>,
    stats: Arc<CacheStats>,
    good: moka::sync::Cache<ContentHash, Good>,
    answers: moka::future::Cache<BundleKey, Arc<Answer>>,
    /// For which state of the trust bundle a bundle was warned of.
    warned: moka::sync::Cache<ContentHash, u64>,
    beside: Mutex<HashSet<BundleKey>>,
    asking: Semaphore,
}

impl Gate {
    pub fn new(
        verifier: Arc<Verifier>,
        memory: Memory,
        store: Arc<dyn BundleStore>,
        disk: Arc<Disk>,
        stats: Arc<CacheStats>,
    ) -> Arc<Self> {
        let weight = |_: &ContentHash, good: &Good| u32::try_from(good.file.len() + 128).unwrap_or(u32::MAX);
        Arc::new(Self {
            verifier,
            memory,
            store,
            disk,
            stats,
            good: moka::sync::Cache::builder().max_capacity(MEMORY_BYTES).weigher(weight).build(),
            answers: moka::future::Cache::new(REMEMBERED),
            warned: moka::sync::Cache::new(REMEMBERED),
            beside: Mutex::default(),
            asking: Semaphore::new(ASKING),
        })
    }

    /// Lets a get pass or not.
    pub async fn check(
        self: &Arc<Self>,
        key: &BundleKey,
        bundle: &Arc<Bundle>,
    ) -> Result<(), Arc<BundleError>> {
        if self.known_good(bundle) {
            return Ok(());
        }
        match self.verifier.policy() {
            Policy::Off => Ok(()),
            Policy::Warn => {
                self.look_beside(key, bundle).await;
                Ok(())
            }
            Policy::Require => {
                let result = Box::pin(self.answer(key, bundle)).await;
                if result.is_err() {
                    CacheStats::add(&self.stats.signatures_refused, 1);
                }
                result
            }
        }
    }

    /// Without the store and the disk. Verifies only when the keys have changed or one has ended.
    fn known_good(&self, bundle: &Bundle) -> bool {
        let hash = bundle.hash();
        let Some(good) = self.good.get(&hash) else { return false };
        let holds = good.until.is_none_or(|until| Utc::now() < until);
        if holds && good.generation == self.verifier.generation() {
            return true;
        }
        let signature = Some(&*good.file);
        match self.verifier.verify(hash, bundle.manifest().map(Arc::as_ref), signature) {
            Ok(verified) => {
                self.remember(hash, good.file, &verified);
                true
            }
            Err(reason) => {
                tracing::info!(%hash, reason = reason.kind(), "a signature counts no more");
                self.good.invalidate(&hash);
                false
            }
        }
    }

    fn remember(&self, hash: ContentHash, file: Arc<[u8]>, verified: &Verified) {
        self.good.insert(hash, Good { file, generation: verified.generation, until: verified.until });
    }

    /// What is remembered, or asked for now; one asks for all who want the same key.
    async fn answer(&self, key: &BundleKey, bundle: &Arc<Bundle>) -> Result<(), Arc<BundleError>> {
        let generation = self.verifier.generation();
        let stale = move |answer: &Arc<Answer>| !answer.holds(generation);
        let entry = self.answers.entry_by_ref(key);
        let entry = entry.or_insert_with_if(self.ask(key, bundle, generation), stale).await;
        entry.into_value().result.clone()
    }

    /// Starts the same in a task of its own, unless it is under way or the answer is known.
    async fn look_beside(self: &Arc<Self>, key: &BundleKey, bundle: &Arc<Bundle>) {
        let generation = self.verifier.generation();
        if self.answers.get(key).await.is_some_and(|answer| answer.holds(generation)) {
            return;
        }
        {
            let mut beside = self.beside.lock();
            if beside.len() >= BESIDE || !beside.insert(key.clone()) {
                return;
            }
        }
        let (left, bundle) = (Beside { gate: Arc::clone(self), key: key.clone() }, Arc::clone(bundle));
        tokio::spawn(async move {
            let _ = Box::pin(left.gate.answer(&left.key, &bundle)).await;
        });
    }

    async fn ask(&self, key: &BundleKey, bundle: &Arc<Bundle>, generation: u64) -> Arc<Answer> {
        let found = self.find(key, bundle).await;
        let (result, remembered) = match found {
            Ok(()) => (Ok(()), Duration::ZERO),
            Err(error) => {
                let remembered = match &error {
                    BundleError::SignatureRefused { reason } => {
                        self.report(key, reason, generation);
                        self.memory.unsigned
                    }
                    _ => self.memory.unreachable,
                };
                (Err(Arc::new(error)), remembered)
            }
        };
        let times = if self.verifier.policy() == Policy::Warn { WARN_MEMORY } else { 1 };
        let until = Instant::now() + remembered.saturating_mul(times);
        Arc::new(Answer { result, generation, until })
    }

    /// The signature kept on this machine, else the one at the tenant's key.
    async fn find(&self, key: &BundleKey, bundle: &Arc<Bundle>) -> Result<(), BundleError> {
        let (disk, hash) = (Arc::clone(&self.disk), bundle.hash());
        let kept = blocking("read a signature", move || Ok(disk.kept_signature(hash))).await?;
        let verify = |file: Option<&[u8]>| {
            self.verifier.verify(hash, bundle.manifest().map(Arc::as_ref), file).map_err(refused)
        };
        let kept = match kept {
            Some(file) => match verify(Some(&file)) {
                Ok(verified) => {
                    self.remember(hash, file.into(), &verified);
                    return Ok(());
                }
                Err(error) => Some(error),
            },
            None => None,
        };
        let asked = async {
            let _turn = self.asking.acquire().await;
            signature::fetch(&*self.store, key).await
        };
        let asked = tokio::time::timeout(PATIENCE, asked).await;
        match asked.unwrap_or_else(|elapsed| Err(StoreError::unreachable(elapsed))) {
            Ok(file) => {
                let verified = verify(file.as_deref())?;
                let file: Arc<[u8]> = file.unwrap_or_default().into();
                self.remember(hash, Arc::clone(&file), &verified);
                self.keep(Arc::clone(bundle), file).await;
                Ok(())
            }
            // The store is silent, but it is known that what was signed counts no more.
            Err(source) => Err(kept.unwrap_or_else(|| BundleError::StoreUnreachable {
                url: self.store.url(&key.signature_key()),
                source,
            })),
        }
    }

    /// Keeps a signature on this machine, so that after a restart a silent store stops nothing that ran before.
    async fn keep(&self, bundle: Arc<Bundle>, file: Arc<[u8]>) {
        let disk = Arc::clone(&self.disk);
        let kept = blocking("keep a signature", move || {
            disk.keep_signature(bundle.hash(), &file).map_err(BundleError::cache("keep a signature"))
        });
        if let Err(error) = kept.await {
            tracing::warn!(error = chain(&error), "a signature is not kept on this machine");
        }
    }

    fn report(&self, key: &BundleKey, reason: &SignatureError, generation: u64) {
        if self.verifier.policy() == Policy::Require {
            tracing::warn!(cause = reason.kind(), key = %key, %reason, "bundle refused by the signature policy");
        } else if self.warned.get(&key.hash) != Some(generation) {
            self.warned.insert(key.hash, generation);
            CacheStats::add(&self.stats.signatures_warned, 1);
            tracing::warn!(
                cause = reason.kind(),
                key = %key,
                %reason,
                "the bundle's signature does not count; LONGSHORE_SIGNATURE_POLICY=require would refuse it"
            );
        }
    }
}

fn refused(reason: SignatureError) -> BundleError {
    BundleError::SignatureRefused { reason }
}

impl Answer {
    fn holds(&self, generation: u64) -> bool {
        self.generation == generation && Instant::now() < self.until
    }
}

/// A look beside a call, however it ends.
struct Beside {
    gate: Arc<Gate>,
    key: BundleKey,
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.gate.beside.lock().remove(&self.key);
    }
}
