//! Signatures of bundles: who vouches for the bytes that a hash names.
//!
//! A signature is Ed25519 over a [statement](statement()) of the bundle's hash and what its manifest says it is. It lies
//! beside the bundle as `bundle.sig` ([`SignatureFile`]). Whose signature counts, and until when, is said by a file of
//! public keys ([`TrustBundle`]) that a [`Verifier`] reads again when it changes.
//!
//! A signature speaks of bytes, not of a tenant: copied with its bundle to another tenant's key it holds there too.
//! Who may run the bytes is another question (the install, and the tenant's own key in the store).
//!
//! The key's dates count at the moment of the check, not at `signed_at`, which whoever holds a stolen key chooses.

mod fetch;
mod file;
mod keys;
mod manifest;
mod parse;
mod statement;
mod trust;
mod verifier;

#[cfg(test)]
pub(crate) mod tests;

use chrono::{DateTime, Utc};
use longshore_proto::ContentHash;

pub use fetch::fetch;
pub use file::{SIGNATURE_BYTES, SignatureFile};
pub use keys::{KeyError, KeyId, PublicKey, SigningKey};
pub use manifest::manifest_of;
pub use parse::TrustSyntax;
pub use statement::{Identity, IdentityError, statement};
pub use trust::{KeyRules, TrustBundle};
pub use verifier::{TrustError, Verified, Verifier};

/// What becomes of a bundle without a valid signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Nothing is looked at.
    Off,
    /// It runs; the log says once what is wrong.
    Warn,
    /// It is not installed and does not run.
    Require,
}

impl Policy {
    /// As `LONGSHORE_SIGNATURE_POLICY` spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Require => "require",
        }
    }
}

impl std::str::FromStr for Policy {
    type Err = TrustError;
    fn from_str(word: &str) -> Result<Self, TrustError> {
        match word {
            "off" => Ok(Self::Off),
            "warn" => Ok(Self::Warn),
            "require" => Ok(Self::Require),
            _ => Err(TrustError::Policy),
        }
    }
}

/// Why a bundle's signature does not count. Each text says what to do; none holds more than ids, dates and names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no signature beside the bundle.
    #[error("the bundle is not signed: sign it with a trusted key and store the signature beside it")]
    Unsigned,
    /// The trust bundle does not hold the key.
    #[error(
        "it is signed with key `{key_id}`, which the trust bundle does not hold: sign it with a key that is trusted, or add this one"
    )]
    UnknownKey {
        /// Which key the signature names.
        key_id: KeyId,
    },
    /// The key's time is over.
    #[error("key `{key_id}` has expired ({not_after}): sign the bundle again with a current key")]
    Expired {
        /// Which key.
        key_id: KeyId,
        /// Since when.
        not_after: DateTime<Utc>,
    },
    /// The key's time has not come.
    #[error("key `{key_id}` is not valid before {not_before}: wait, or sign the bundle with a current key")]
    NotYetValid {
        /// Which key.
        key_id: KeyId,
        /// Until when.
        not_before: DateTime<Utc>,
    },
    /// The key was withdrawn: whatever it ever signed counts no more.
    #[error("key `{key_id}` is revoked: sign the bundle again with another key")]
    Revoked {
        /// Which key.
        key_id: KeyId,
    },
    /// The signature belongs to another bundle.
    #[error("the signature is that of {signed}, not of {bundle}: sign this bundle")]
    WrongHash {
        /// The hash in the signature.
        signed: ContentHash,
        /// The hash of the bundle.
        bundle: ContentHash,
    },
    /// The signature vouches for another extension or version than the manifest names.
    #[error("the signature is for {signed}, but the manifest says {bundle}: sign this bundle")]
    WrongIdentity {
        /// In the signature.
        signed: Box<Identity>,
        /// In the manifest.
        bundle: Box<Identity>,
    },
    /// There is no identity that a signature could be for.
    #[error(
        "the bundle's manifest names no extension that can be signed ({problem}): pack it with a valid manifest.json"
    )]
    NoIdentity {
        /// What is wrong with it.
        problem: IdentityError,
    },
    /// The key may sign, but not for this publisher.
    #[error("key `{key_id}` may not sign for publisher {publisher:?}: sign with that publisher's key")]
    WrongPublisher {
        /// Which key.
        key_id: KeyId,
        /// Whose bundle it is.
        publisher: String,
    },
    /// The signature was made with another key, or over something else.
    #[error(
        "the signature does not match key `{key_id}`: it was made with another key or changed since; sign again"
    )]
    BadSignature {
        /// Which key it names.
        key_id: KeyId,
    },
    /// Not a signature file.
    #[error("the signature file cannot be read ({problem}): sign the bundle again")]
    Malformed {
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl SignatureError {
    /// A word for programs, logs and metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::UnknownKey { .. } => "unknown_key",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Revoked { .. } => "revoked",
            Self::WrongHash { .. } => "wrong_hash",
            Self::WrongIdentity { .. } => "wrong_identity",
            Self::NoIdentity { .. } => "no_identity",
            Self::WrongPublisher { .. } => "wrong_publisher",
            Self::BadSignature { .. } => "bad_signature",
            Self::Malformed { .. } => "malformed",
        }
    }
}
