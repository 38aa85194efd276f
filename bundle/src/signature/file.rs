//! `bundle.sig`: a signature and what it is over, as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, SecondsFormat, Utc};
use ed25519_dalek::Signature;
use longshore_proto::ContentHash;
use serde::{Deserialize, Serialize};

use super::{Identity, KeyId, SignatureError};

/// The largest signature file: three names of 256 bytes, each byte escaped, fit.
pub const SIGNATURE_BYTES: usize = 4 << 10;
/// The only version so far, and the only algorithm of it: what a file names is compared, never obeyed.
const VERSION: u32 = 1;
const ALGORITHM: &str = "ed25519";

#[derive(Serialize, Deserialize)]
struct Wire {
    v: u32,
    key_id: String,
    algorithm: String,
    content_hash: String,
    publisher: String,
    name: String,
    version: String,
    signed_at: String,
    signature: String,
}

/// A detached signature. Reading one proves nothing: that is [`super::Verifier::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureFile {
    /// Which key made it.
    pub key_id: KeyId,
    /// Of which bundle.
    pub content_hash: ContentHash,
    /// Of which extension and version.
    pub identity: Identity,
    /// When, as the signer said; part of what is signed.
    pub signed_at: String,
    pub(super) signature: Signature,
}

fn malformed(problem: &'static str) -> SignatureError {
    SignatureError::Malformed { problem }
}

impl SignatureFile {
    /// Reads one. What the file holds is never repeated in an error: a store may serve anything under that name.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`].
    pub fn parse(json: &[u8]) -> Result<Self, SignatureError> {
        if json.len() > SIGNATURE_BYTES {
            return Err(malformed("it is larger than 4 KiB"));
        }
        let wire: Wire = serde_json::from_slice(json).map_err(|error| {
            malformed(if error.is_data() {
                "a field is missing or of the wrong kind"
            } else {
                "it is no JSON"
            })
        })?;
        if wire.v != VERSION {
            return Err(malformed("its version is not 1"));
        }
        if wire.algorithm != ALGORITHM {
            return Err(malformed("its algorithm is not ed25519"));
        }
        let bytes = BASE64.decode(&wire.signature).map_err(|_| malformed("the signature is no base64"))?;
        DateTime::parse_from_rfc3339(&wire.signed_at).map_err(|_| malformed("signed_at is no date"))?;
        Ok(Self {
            key_id: wire.key_id.parse().map_err(|_| malformed("key_id is none"))?,
            content_hash: wire.content_hash.parse().map_err(|_| malformed("content_hash is none"))?,
            identity: Identity::new(&wire.publisher, &wire.name, &wire.version)
                .map_err(|_| malformed("publisher, name or version is none"))?,
            signed_at: wire.signed_at,
            signature: Signature::from_slice(&bytes)
                .map_err(|_| malformed("the signature is not 64 bytes"))?,
        })
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        let wire = Wire {
            v: VERSION,
            key_id: self.key_id.to_string(),
            algorithm: ALGORITHM.to_owned(),
            content_hash: self.content_hash.to_string(),
            publisher: self.identity.publisher().to_owned(),
            name: self.identity.name().to_owned(),
            version: self.identity.version().to_owned(),
            signed_at: self.signed_at.clone(),
            signature: BASE64.encode(self.signature.to_bytes()),
        };
        // A struct of texts: it cannot fail.
        let mut json = serde_json::to_string_pretty(&wire).unwrap_or_default();
        json.push('\n');
        json
    }
}

/// A moment as signatures spell it.
pub(super) fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
