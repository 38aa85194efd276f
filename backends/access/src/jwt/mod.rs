//! JWTs of an issuer that the operator names.
//!
//! Checked here, over `ring`, and not by `jsonwebtoken` 11: of its two ready back ends one is aws-lc (a second C library that `deny.toml`
//! bans) and the other brings the `rsa` crate (RUSTSEC-2023-0071, without a fix) and a second set of curves and hashes beside ring;
//! a back end of one's own is a process-wide static whose absence panics. And what is hard about JWTs is not in it: it takes a
//! header's `crit`, `jwk` and `x5u` without a word, a claim twice, a list of issuers, and leaves `iat` alone. What is left, base64,
//! JSON and three calls of ring, is `check.rs`.

mod check;
mod file;
mod json;
mod keys;

use std::path::PathBuf;

pub(crate) use check::MAX_JWT_BYTES;
use file::KeyFile;
pub use keys::KeysError;

use crate::{AccessSettings, Denied, Principal};

/// Why JWTs cannot be checked: the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// The file cannot be read.
    #[error("the issuer's keys (LONGSHORE_JWT_JWKS_FILE) cannot be read from {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file can be read, but not used.
    #[error("the issuer's keys (LONGSHORE_JWT_JWKS_FILE) in {path} cannot be used")]
    Keys {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeysError,
    },
}

/// Checks JWTs.
pub struct Jwts {
    rules: AccessSettings,
    file: KeyFile,
}

impl Jwts {
    /// Reads the keys; `None` where no issuer is set.
    ///
    /// # Errors
    /// The keys cannot be read or used. A process must not start then: it would refuse every JWT.
    pub async fn open(settings: &AccessSettings) -> Result<Option<Self>, JwtError> {
        let Some(path) = settings.jwks_file.clone().filter(|_| settings.takes_jwts()) else {
            return Ok(None);
        };
        Ok(Some(Self { rules: settings.clone(), file: KeyFile::open(path).await? }))
    }

    /// Who the bearer of this JWT is at `now`, in seconds since 1970.
    pub(crate) async fn check(&self, text: &str, now: i64) -> Result<Principal, Denied> {
        // Before the keys are looked for: what is no JWT at all does not make anybody read a file.
        if text.len() > MAX_JWT_BYTES {
            return Err(Denied::Invalid("a JWT of over 8 KiB"));
        }
        check::check(text, &*self.file.keys().await, &self.rules, now)
    }
}
