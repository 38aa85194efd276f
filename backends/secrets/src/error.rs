//! Why an envelope does not open.

use std::io;
use std::sync::Arc;

use longshore_service::upstream::UpstreamError;

use crate::texts::TextsError;
use crate::{ALGORITHM, MAX_ENVELOPE_BYTES};

/// Why an envelope does not open. `Display` and the source chain are for logs, with the beginnings that operators of
/// the reference know (interop 7); [`Self::for_caller`] is for answers. Neither has a byte of the content. Clones
/// share their cause: several calls may have waited for the same envelope.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The envelope is too large.
    #[error("secret_envelope is over {MAX_ENVELOPE_BYTES} bytes")]
    TooLarge,
    /// `expires_at` has passed.
    #[error("secret_envelope.expires_at has passed")]
    Expired,
    /// `expires_at` is no time: the secrets might have expired long ago.
    #[error("secret_envelope.expires_at is no RFC 3339 time")]
    BadExpiry,
    /// Inline or sealed, and no base64.
    #[error("secret_envelope.base64_decode_failed")]
    Base64,
    /// The content is no set of secrets.
    #[error("secret_envelope.json_parse_failed: {0}")]
    Texts(TextsError),
    /// Sealed, and this process has no keys.
    #[error("secret_envelope is sealed, and LONGSHORE_SECRETS_KEY_FILE is not set")]
    NoKeys,
    /// Sealed with a key that this process does not have.
    #[error("secret_envelope is sealed with the key {id}, which is not in LONGSHORE_SECRETS_KEY_FILE")]
    UnknownKey {
        /// The key's id, or a note that it is none.
        id: String,
    },
    /// Sealed by a later version.
    #[error("secret_envelope.algorithm is not {ALGORITHM}")]
    UnknownSeal,
    /// The seal is broken: another key of the same id, another tenant, extension, install, version or expiry, or
    /// changed bytes.
    #[error("secret_envelope was sealed for another scope or with another key, or has been changed")]
    Seal,
    /// Vault's, and there is no Vault.
    #[error("vault transit is not configured: set VAULT_ADDR and ALGA_VAULT_TOKEN_FILE")]
    NoVault,
    /// Vault's, without a key.
    #[error("secret_envelope.key_path missing")]
    KeyPathMissing,
    /// A key path or a mount that would leave the transit engine.
    #[error("secret_envelope.{field} is no path of names")]
    Path {
        /// `key_path` or `mount`.
        field: &'static str,
    },
    /// The token file.
    #[error("vault transit decrypt failed: the token file cannot be read")]
    Token(#[source] Arc<io::Error>),
    /// The token file's content.
    #[error("vault transit decrypt failed: the token file holds no token")]
    NoToken,
    /// Vault gave no answer.
    #[error("vault transit decrypt failed")]
    Vault(#[source] Arc<UpstreamError>),
    /// Vault refused or was in trouble.
    #[error("vault transit decrypt failed (status {0})")]
    VaultStatus(u16),
    /// Vault's answer has no `data.plaintext`.
    #[error("vault transit decrypt failed: the answer has no data.plaintext")]
    VaultAnswer,
    /// `data.plaintext` is no base64.
    #[error("vault_transit.plaintext_decode_failed")]
    VaultPlaintext,
    /// What Vault opened is no set of secrets.
    #[error("vault_transit.json_parse_failed: {0}")]
    VaultTexts(TextsError),
    /// The task that opened it ended.
    #[error("opening the envelope was interrupted")]
    Interrupted,
}

impl OpenError {
    /// The message beside the code `secret_decrypt_failed`.
    pub fn for_caller(&self) -> String {
        match self {
            Self::TooLarge => format!("the envelope is over {MAX_ENVELOPE_BYTES} bytes"),
            Self::Expired => "the envelope has expired".to_owned(),
            Self::BadExpiry => "expires_at is no RFC 3339 time".to_owned(),
            Self::Base64 => "the envelope is no base64".to_owned(),
            Self::Texts(error) | Self::VaultTexts(error) => format!("the envelope holds {error}"),
            Self::NoKeys => "the envelope is sealed, and the worker has no key".to_owned(),
            Self::UnknownKey { id } => format!("the worker does not have the envelope's key {id}"),
            Self::UnknownSeal => format!("the envelope's algorithm is not {ALGORITHM}"),
            Self::Seal => "the envelope was sealed for another install or has been changed".to_owned(),
            Self::NoVault => "the envelope is Vault's, and the worker knows no Vault".to_owned(),
            Self::KeyPathMissing => "the envelope has no key_path".to_owned(),
            Self::Path { field } => format!("the envelope's {field} is no path of names"),
            Self::Token(_) | Self::NoToken => "the worker has no token for Vault".to_owned(),
            Self::Vault(_) => "Vault did not answer".to_owned(),
            Self::VaultStatus(status) => format!("Vault refused (status {status})"),
            Self::VaultAnswer | Self::VaultPlaintext => "Vault's answer is malformed".to_owned(),
            Self::Interrupted => "the worker was interrupted".to_owned(),
        }
    }
}
