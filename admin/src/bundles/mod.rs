//! Bundles in the store: uploaded, looked at, signed, copied, listed and removed.

mod keys;
mod list;
mod look;
mod sign;
mod spool;

use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use longshore_bundle::signature::Verifier;
use longshore_bundle::{BundleKey, BundleStore, Content, StoreError};
use longshore_proto::extension_ids::ExtensionIds;
use longshore_proto::{ContentHash, ExtensionId, TenantId};
use tokio::sync::Semaphore;

use crate::api::{ApiCode, BundleUploaded, SignatureState, UploadQuery};
use crate::http::Failure;
pub use keys::{Kind, found};
pub use list::limit;
pub use look::Looked;
use spool::Spooled;

/// Uploads and downloads at a time: each may fill 200 MiB of temporary disk.
const AT_A_TIME: usize = 4;

/// Archives that are looked into at a time: each is in memory for that.
const LOOKS: usize = 1;

/// The store, and what is needed to judge what is in it. Cheap to clone.
#[derive(Clone)]
pub struct Bundles {
    store: Arc<dyn BundleStore>,
    verifier: Option<Arc<Verifier>>,
    spools: Arc<Semaphore>,
    looks: Arc<Semaphore>,
    /// What valid archives were found to be, by hash: who uploads and installs asks twice within a second, and for 12 MB of component each
    /// look takes a quarter of one.
    looked: moka::future::Cache<ContentHash, Looked>,
}

/// A bundle that was fetched and is what it is called.
pub struct Fetched {
    /// Where from.
    pub key: BundleKey,
    /// What is in it.
    pub looked: Looked,
    /// The signature beside it.
    pub signature: Option<Vec<u8>>,
    spooled: Spooled,
}

impl Bundles {
    /// On this store; without a verifier, signatures are kept and not looked at.
    pub fn new(store: Arc<dyn BundleStore>, verifier: Option<Arc<Verifier>>) -> Self {
        Self {
            store,
            verifier,
            spools: Arc::new(Semaphore::new(AT_A_TIME)),
            looks: Arc::new(Semaphore::new(LOOKS)),
            looked: look::cache(),
        }
    }

    /// The store itself.
    pub fn store(&self) -> &dyn BundleStore {
        &*self.store
    }

    /// Takes an archive and checks it; nothing is kept yet.
    ///
    /// # Errors
    /// It is too large, not the bytes that were named, or no valid bundle.
    pub async fn receive(
        &self,
        tenant: &TenantId,
        query: &UploadQuery,
        body: impl Stream<Item = Result<Bytes, axum::Error>> + Send,
    ) -> Result<Fetched, Failure> {
        let _spool = self.spools.acquire().await.map_err(|error| Failure::internal(&error))?;
        let spooled = Spooled::receive(body).await?;
        if let Some(named) = query.content_hash.filter(|named| *named != spooled.hash) {
            let message = format!(
                "the {} bytes sent have the hash {}, not {named}: upload again",
                spooled.size, spooled.hash
            );
            return Err(Failure::new(ApiCode::HashMismatch, message));
        }
        let looked = self.look(&spooled).await?;
        let extension = match &query.extension {
            Some(extension) => extension.clone(),
            None => extension_id(&ExtensionIds::of(&looked.manifest))?,
        };
        let key = BundleKey { tenant: tenant.clone(), extension, hash: spooled.hash };
        Ok(Fetched { key, looked, signature: None, spooled })
    }

    /// Puts a received archive at the tenant's key with its manifest beside it. The same archive again is put again over itself, which
    /// heals one that has been damaged.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn keep(&self, received: Fetched) -> Result<BundleUploaded, Failure> {
        let Fetched { key, looked, spooled, .. } = received;
        let ids = ExtensionIds::of(&looked.manifest);
        let stored = !self.exists(&key).await?;
        self.put(&key, &spooled, &looked).await?;
        let signature = self.signature(&key).await?;
        let signature = self.verdict(key.hash, &looked.manifest, signature.as_deref());
        Ok(BundleUploaded {
            tenant: key.tenant.to_string(),
            extension: key.extension.to_string(),
            version_id: ids.version.to_string(),
            install_id: ids.install(key.tenant.as_str()).to_string(),
            content_hash: key.hash.to_string(),
            object_key: key.object_key().to_string(),
            size: spooled.size,
            publisher: ids.publisher().to_owned(),
            name: looked.manifest.name.clone(),
            version: looked.manifest.version.clone(),
            requested: looked.manifest.capabilities.clone(),
            has_component: looked.has_component,
            has_ui: looked.manifest.ui.is_some(),
            manifest: looked.json(),
            signature,
            stored,
            warnings: looked.warnings,
        })
    }

    /// Fetches a bundle from its key and looks at it.
    ///
    /// # Errors
    /// It is not there, damaged, no valid bundle, or the store does not answer.
    pub async fn fetch(&self, key: BundleKey) -> Result<Fetched, Failure> {
        let _spool = self.spools.acquire().await.map_err(|error| Failure::internal(&error))?;
        let opened = match self.store.open(&key).await {
            Ok(opened) => opened,
            Err(StoreError::NotFound) => return Err(absent(&key)),
            Err(error) => return Err(store_failed(&error)),
        };
        let spooled = Spooled::receive(spool::chunks(opened)).await?;
        if spooled.hash != key.hash {
            let message = format!(
                "the object {} has the hash {}: it was damaged or replaced; upload the bundle again",
                key, spooled.hash
            );
            return Err(Failure::new(ApiCode::HashMismatch, message));
        }
        let looked = self.look(&spooled).await?;
        let signature = self.signature(&key).await?;
        Ok(Fetched { key, looked, signature, spooled })
    }

    /// Copies a fetched bundle, with its manifest and signature, to another key.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn copy(&self, fetched: &Fetched, to: &BundleKey) -> Result<(), Failure> {
        // Before the archive: one that requires signatures never sees the bundle without.
        if let Some(signature) = &fetched.signature {
            let content = Content::Bytes(signature.clone().into());
            self.store.put_object(&to.signature_key(), content).await.map_err(|e| store_failed(&e))?;
        }
        self.put(to, &fetched.spooled, &fetched.looked).await
    }

    async fn put(&self, key: &BundleKey, spooled: &Spooled, looked: &Looked) -> Result<(), Failure> {
        let sidecar = keys::beside(key, keys::MANIFEST)?;
        let manifest = Content::Bytes(looked.manifest_json.clone());
        self.store.put_object(&sidecar, manifest).await.map_err(|e| store_failed(&e))?;
        let archive = Content::File(spooled.path().to_owned());
        self.store.put(key, archive).await.map_err(|e| store_failed(&e))
    }

    /// Whether a bundle is at its key.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn exists(&self, key: &BundleKey) -> Result<bool, Failure> {
        self.store.exists(key).await.map_err(|error| store_failed(&error))
    }

    /// Removes a bundle with what is beside it; how many objects there were.
    ///
    /// # Errors
    /// The store does not answer; a part may be gone.
    pub async fn remove(&self, key: &BundleKey) -> Result<u64, Failure> {
        let mut removed = 0;
        // The archive first: what is left of a removal that broke off is found by the collection, and cannot be run.
        for object in [key.object_key(), keys::beside(key, keys::MANIFEST)?, key.signature_key()] {
            if self.store.exists_object(&object).await.map_err(|e| store_failed(&e))? {
                self.store.delete_object(&object).await.map_err(|e| store_failed(&e))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl Fetched {
    /// Bytes of the archive.
    pub fn size(&self) -> u64 {
        self.spooled.size
    }
}

/// The registry id as a key has it.
fn extension_id(ids: &ExtensionIds) -> Result<ExtensionId, Failure> {
    ids.extension
        .to_string()
        .parse()
        .map_err(|error: longshore_proto::ids::IdError| Failure::internal(&error))
}

/// There is no such bundle, with what to do.
pub fn absent(key: &BundleKey) -> Failure {
    let message = format!(
        "the store has no bundle at {key}: upload it for this tenant, or name the extension id (`--extension`) or the tenant (`--move-from`) that has it"
    );
    Failure::new(ApiCode::BundleNotFound, message)
}

/// The store did not do what was asked.
pub fn store_failed(error: &StoreError) -> Failure {
    Failure::unavailable("the bundle store", error)
}

/// Whether a bundle of this hash may be installed or must be refused, and by which key it is signed.
///
/// # Errors
/// The policy refuses it.
pub(crate) fn allowed(
    bundles: &Bundles,
    fetched: &Fetched,
    hash: ContentHash,
) -> Result<(Option<String>, Option<String>), Failure> {
    let verdict = bundles.verdict(hash, &fetched.looked.manifest, fetched.signature.as_deref());
    match verdict.state {
        SignatureState::Valid => Ok((verdict.key_id, None)),
        SignatureState::Unchecked => Ok((None, None)),
        SignatureState::Unsigned | SignatureState::Refused => {
            let reason = verdict.reason.unwrap_or_default();
            if bundles.requires_signatures() {
                return Err(Failure::new(
                    ApiCode::SignatureRefused,
                    format!("the bundle is refused: {reason}"),
                ));
            }
            Ok((None, Some(format!("LONGSHORE_SIGNATURE_POLICY=require would refuse it: {reason}"))))
        }
    }
}
