//! Signatures beside bundles.

use longshore_bundle::signature::{Policy, SignatureFile, fetch};
use longshore_bundle::{BundleKey, Content};
use longshore_proto::ContentHash;
use longshore_proto::manifest::Manifest;

use super::{Bundles, absent, store_failed};
use crate::api::{ApiCode, SignatureState, SignatureStored, SignatureView};
use crate::http::Failure;

/// How long a signature may take to come.
const FETCH: std::time::Duration = std::time::Duration::from_secs(10);

impl Bundles {
    /// Whether the policy is `require`.
    pub fn requires_signatures(&self) -> bool {
        self.verifier.as_ref().is_some_and(|verifier| verifier.policy() == Policy::Require)
    }

    /// The signature beside a bundle.
    pub(super) async fn signature(&self, key: &BundleKey) -> Result<Option<Vec<u8>>, Failure> {
        match tokio::time::timeout(FETCH, fetch(&*self.store, key)).await {
            Ok(fetched) => fetched.map_err(|error| store_failed(&error)),
            Err(error) => Err(Failure::unavailable("the bundle store", &error)),
        }
    }

    /// What a signature is worth here.
    pub(super) fn verdict(
        &self,
        hash: ContentHash,
        manifest: &Manifest,
        signature: Option<&[u8]>,
    ) -> SignatureView {
        let view = |state, key_id, reason| SignatureView { state, key_id, reason };
        let Some(verifier) = &self.verifier else {
            return match signature {
                None => view(SignatureState::Unsigned, None, None),
                Some(bytes) => {
                    let key_id = SignatureFile::parse(bytes).ok().map(|file| file.key_id.to_string());
                    view(SignatureState::Unchecked, key_id, None)
                }
            };
        };
        match verifier.verify(hash, Some(manifest), signature) {
            Ok(verified) => view(SignatureState::Valid, Some(verified.key_id.to_string()), None),
            Err(error) if signature.is_none() => {
                view(SignatureState::Unsigned, None, Some(error.to_string()))
            }
            Err(error) => view(SignatureState::Refused, None, Some(error.to_string())),
        }
    }

    /// Looks at a signature for a bundle. One that no trusted key has made will do, for the key may be trusted later; one that is not
    /// this bundle's is refused.
    ///
    /// # Errors
    /// The bundle is not there, the signature is none or another bundle's, or the store does not answer.
    pub async fn check_signature(&self, key: &BundleKey, signature: Vec<u8>) -> Result<Checked, Failure> {
        let refused = |message: String| Failure::new(ApiCode::SignatureRefused, message);
        let file = SignatureFile::parse(&signature).map_err(|error| refused(error.to_string()))?;
        if file.content_hash != key.hash {
            return Err(refused(format!(
                "the signature is that of {}, not of {}",
                file.content_hash, key.hash
            )));
        }
        if !self.exists(key).await? {
            return Err(absent(key));
        }
        let fetched = self.fetch(key.clone()).await?;
        let manifest = fetched.looked.manifest;
        let now = self.verdict(key.hash, &manifest, Some(&signature));
        let before = self.verdict(key.hash, &manifest, fetched.signature.as_deref());
        // What runs with a signature that counts must not stop for one that does not.
        if now.state == SignatureState::Refused && before.state == SignatureState::Valid {
            let reason = now.reason.unwrap_or_default();
            return Err(refused(format!(
                "the bundle has a signature that counts, and this one does not: {reason}"
            )));
        }
        Ok(Checked { file, signature, manifest })
    }

    /// Puts a signature beside its bundle.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn sign(&self, key: &BundleKey, checked: Checked) -> Result<SignatureStored, Failure> {
        let Checked { signature, manifest, .. } = checked;
        let content = Content::Bytes(signature.clone().into());
        self.store.put_object(&key.signature_key(), content).await.map_err(|e| store_failed(&e))?;
        let object_key = key.signature_key().to_string();
        Ok(SignatureStored { object_key, signature: self.verdict(key.hash, &manifest, Some(&signature)) })
    }
}

/// A signature for a bundle that is there.
pub struct Checked {
    file: SignatureFile,
    signature: Vec<u8>,
    manifest: Manifest,
}

impl Checked {
    /// The key that it names.
    pub fn key_id(&self) -> String {
        self.file.key_id.to_string()
    }
}
