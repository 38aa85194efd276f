//! Why a bundle could not be had.

use longshore_proto::{ContentHash, ErrorCode};

use crate::archive::ArchiveError;
use crate::signature::SignatureError;
use crate::store::StoreError;

/// Why a bundle could not be had. Shared by every caller that waited for the same fetch, hence in an `Arc`; the
/// cause chain stays whole.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The store says that the tenant's own key does not exist, even where another tenant's copy is cached.
    #[error("no object at {url}")]
    NotFound {
        /// Where it was looked for; holds no credentials.
        url: String,
    },
    /// The store did not answer in time, or refused.
    #[error("the bundle store did not deliver {url}")]
    StoreUnreachable {
        /// Where it was looked for; holds no credentials.
        url: String,
        /// What the store or the network said.
        #[source]
        source: StoreError,
    },
    /// The object's bytes are not those that the hash names.
    #[error("archive_hash_mismatch: expected {expected}, computed {computed}")]
    HashMismatch {
        /// The hash in the key.
        expected: ContentHash,
        /// The hash of the bytes that came.
        computed: ContentHash,
    },
    /// The archive breaks a rule or a limit of unpacking. Safe to show: it speaks of the tenant's own bytes.
    #[error("archive_refused")]
    Refused {
        /// Which rule.
        #[source]
        reason: ArchiveError,
    },
    /// The signature policy is `require`, and the bundle's signature does not count. Safe to show, and says what to do.
    #[error("signature_refused")]
    SignatureRefused {
        /// Why not.
        #[source]
        reason: SignatureError,
    },
    /// This machine's cache folder failed, or fetches are more than this process takes on.
    #[error("the bundle cache failed to {doing}")]
    Cache {
        /// What was being done.
        doing: &'static str,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
}

impl BundleError {
    /// The code that the caller sees.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } => ErrorCode::BundleNotFound,
            Self::StoreUnreachable { .. } => ErrorCode::BundleStoreUnreachable,
            Self::HashMismatch { .. } => ErrorCode::ArchiveHashMismatch,
            Self::Refused { .. } => ErrorCode::ArchiveRefused,
            Self::SignatureRefused { .. } => ErrorCode::SignatureRefused,
            Self::Cache { .. } => ErrorCode::BundleCacheFailed,
        }
    }

    /// As the log line of a failed fetch spells it; the first three are what the existing platform's operators grep for.
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::StoreUnreachable { .. } => "store_unreachable",
            Self::HashMismatch { .. } => "HASH_MISMATCH",
            Self::Refused { .. } => "refused",
            Self::SignatureRefused { .. } => "signature_refused",
            Self::Cache { .. } => "cache",
        }
    }

    pub(crate) fn cache(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Cache { doing, source }
    }
}

/// An error and its causes in one line, `a: b: c`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // The AWS SDK repeats a cause in its parent's Display here and there.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatch_names_both_hashes() {
        let error = BundleError::HashMismatch {
            expected: ContentHash::from_bytes([1; 32]),
            computed: ContentHash::from_bytes([2; 32]),
        };
        let text = error.to_string();
        assert!(text.contains("archive_hash_mismatch"));
        assert!(text.contains(&"01".repeat(32)) && text.contains(&"02".repeat(32)));
        assert_eq!(error.code(), ErrorCode::ArchiveHashMismatch);
    }

    #[test]
    fn the_chain_keeps_every_cause_once() {
        let source = StoreError::Unreachable { source: std::io::Error::other("connection refused").into() };
        let error = BundleError::StoreUnreachable { url: "http://h/b/k".into(), source };
        assert_eq!(
            chain(&error),
            "the bundle store did not deliver http://h/b/k: the store is unreachable: connection refused"
        );
    }
}
