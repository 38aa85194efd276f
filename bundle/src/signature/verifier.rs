//! Checks signatures against a file of keys that may change while the process runs.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use longshore_proto::ContentHash;
use longshore_proto::manifest::Manifest;
use parking_lot::Mutex;

use super::{Identity, KeyId, Policy, SignatureError, SignatureFile, TrustBundle, TrustSyntax};

/// A thousand keys with their rules take half of it.
const FILE_BYTES: u64 = 1 << 20;
/// How often [`Verifier::watch`] looks at the file. Read whole each time: a page of text costs 20 us, and times and
/// sizes of files miss changes.
const EVERY: Duration = Duration::from_secs(1);

/// Why a process cannot check signatures. The start ends with it.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Not a word that names a policy.
    #[error("LONGSHORE_SIGNATURE_POLICY must be off, warn or require")]
    Policy,
    /// Signatures are required, but no key could ever make one.
    #[error(
        "LONGSHORE_SIGNATURE_POLICY=require needs SIGNING_TRUST_BUNDLE: the file with the public keys that are trusted"
    )]
    NoTrustBundle,
    /// The file cannot be read.
    #[error("SIGNING_TRUST_BUNDLE {} cannot be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file is no trust bundle.
    #[error("SIGNING_TRUST_BUNDLE {} is not valid", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and in which line.
        #[source]
        source: TrustSyntax,
    },
}

/// A signature that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Which key made it.
    pub key_id: KeyId,
    /// When, as the signer said.
    pub signed_at: String,
    /// Of what.
    pub identity: Identity,
    /// From when on it has to be checked again: the key's end.
    pub until: Option<DateTime<Utc>>,
    /// For which [`Verifier::generation`] this is the answer.
    pub generation: u64,
}

struct State {
    trust: Arc<TrustBundle>,
    /// Counts accepted contents of the file.
    generation: u64,
    /// What was read last, accepted or not, so that each content is read and spoken of once. None: it could not be read.
    seen: Option<Vec<u8>>,
}

/// A policy and the keys that count. Shared; reading the file again changes it in place.
pub struct Verifier {
    policy: Policy,
    path: Option<PathBuf>,
    state: Mutex<State>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("policy", &self.policy)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Bounded, and never from a pipe, which would wait for its writer.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Result<TrustBundle, TrustSyntax> {
    match std::str::from_utf8(bytes) {
        Ok(text) => TrustBundle::parse(text),
        Err(_) => Err(TrustSyntax { line: 1, problem: "it is no text".to_owned() }),
    }
}

impl Verifier {
    /// What the settings ask for: None when the policy is off, then nothing is looked at.
    ///
    /// # Errors
    /// A trust bundle that cannot be read, or none where signatures are required.
    pub fn open(policy: Policy, trust_bundle: Option<&Path>) -> Result<Option<Arc<Self>>, TrustError> {
        let (trust, seen) = match (policy, trust_bundle) {
            (Policy::Off, _) => return Ok(None),
            (Policy::Require, None) => return Err(TrustError::NoTrustBundle),
            (Policy::Warn, None) => (TrustBundle::default(), None),
            (_, Some(path)) => {
                let path = || path.to_owned();
                let bytes = read(&path()).map_err(|source| TrustError::Read { path: path(), source })?;
                let trust = parse(&bytes).map_err(|source| TrustError::Syntax { path: path(), source })?;
                (trust, Some(bytes))
            }
        };
        let state = Mutex::new(State { trust: Arc::new(trust), generation: 1, seen });
        Ok(Some(Arc::new(Self { policy, path: trust_bundle.map(Path::to_owned), state })))
    }

    /// One that checks against keys given here, for tools.
    pub fn fixed(policy: Policy, trust: TrustBundle) -> Arc<Self> {
        let state = Mutex::new(State { trust: Arc::new(trust), generation: 1, seen: None });
        Arc::new(Self { policy, path: None, state })
    }

    /// What becomes of a bundle without a valid signature.
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// Changes whenever the keys change: an answer of another generation has to be asked for again.
    pub fn generation(&self) -> u64 {
        self.state.lock().generation
    }

    /// How many keys count.
    pub fn keys(&self) -> usize {
        self.state.lock().trust.len()
    }

    /// Looks at the file and takes it over if it has changed. A file that cannot be used changes nothing and is
    /// reported once: keys do not stop counting because a file was half written. Blocking.
    pub fn refresh(&self) {
        let Some(path) = &self.path else { return };
        let read = read(path);
        let mut state = self.state.lock();
        let problem: &dyn std::error::Error = match &read {
            Ok(bytes) if state.seen.as_deref() == Some(bytes) => return,
            Ok(bytes) => match parse(bytes) {
                Ok(trust) => {
                    state.seen = Some(bytes.clone());
                    // A comment was changed, or the file put back as it was.
                    if *state.trust != trust {
                        state.trust = Arc::new(trust);
                        state.generation += 1;
                        tracing::info!(
                            path = %path.display(),
                            keys = state.trust.len(),
                            generation = state.generation,
                            "trust bundle read again"
                        );
                    }
                    return;
                }
                Err(error) => &{ error },
            },
            Err(_) if state.seen.is_none() => return,
            Err(error) => error,
        };
        tracing::error!(
            path = %path.display(),
            error = %problem,
            "SIGNING_TRUST_BUNDLE has changed and cannot be used: the keys from before still count. Put a valid file in its place"
        );
        state.seen = read.ok();
    }

    /// Looks at the file each second, in a task that ends with the verifier.
    pub fn watch(self: &Arc<Self>) {
        if self.path.is_none() {
            return;
        }
        let verifier = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                let Some(verifier) = verifier.upgrade() else { return };
                // A file on a mount that hangs holds a thread of the blocking pool, and nothing else.
                let _ = tokio::task::spawn_blocking(move || verifier.refresh()).await;
            }
        });
    }

    /// Whether a bundle's signature counts now. `signature` is the content of `bundle.sig`; None where there is none.
    /// About 60 us; the policy is the caller's to apply.
    ///
    /// # Errors
    /// Why it does not count, with what to do.
    pub fn verify(
        &self,
        hash: ContentHash,
        manifest: Option<&Manifest>,
        signature: Option<&[u8]>,
    ) -> Result<Verified, SignatureError> {
        self.verify_at(hash, manifest, signature, Utc::now())
    }

    pub(crate) fn verify_at(
        &self,
        hash: ContentHash,
        manifest: Option<&Manifest>,
        signature: Option<&[u8]>,
        now: DateTime<Utc>,
    ) -> Result<Verified, SignatureError> {
        let (trust, generation) = {
            let state = self.state.lock();
            (Arc::clone(&state.trust), state.generation)
        };
        let file = SignatureFile::parse(signature.ok_or(SignatureError::Unsigned)?)?;
        if file.content_hash != hash {
            return Err(SignatureError::WrongHash { signed: file.content_hash, bundle: hash });
        }
        let identity = Identity::of(manifest).map_err(|problem| SignatureError::NoIdentity { problem })?;
        if file.identity != identity {
            return Err(SignatureError::WrongIdentity {
                signed: Box::new(file.identity),
                bundle: Box::new(identity),
            });
        }
        let key = trust.usable(&file.key_id, now)?;
        if !key.key.verifies(&file) {
            return Err(SignatureError::BadSignature { key_id: file.key_id });
        }
        if !key.rules.allows(identity.publisher()) {
            let publisher = identity.publisher().to_owned();
            return Err(SignatureError::WrongPublisher { key_id: file.key_id, publisher });
        }
        let SignatureFile { key_id, signed_at, .. } = file;
        Ok(Verified { key_id, signed_at, identity, until: key.rules.holds_until(), generation })
    }
}
