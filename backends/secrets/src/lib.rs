//! Secrets of an install: sealing, opening, handing out, and keeping them out of every output.
//!
//! ```text
//! shim:    inline envelope --KeyRing::seal_inline--> sealed envelope --NATS-->
//! worker:  sealed, Vault or inline envelope --Opener::open--> Secrets: values for the guest, handles for the way
//!          out (Secrets::expand), and a Redactor for everything that is logged, recorded or answered
//! ```
//! An envelope that cannot be opened fails the whole call (interop 7), whatever its guest may do with secrets, so that
//! a broken rotation is seen at once and not by the first guest that asks.
//!
//! Values are wiped when the last holder lets go of them. Two copies are not ours to wipe: what serde_json unescapes
//! on its way through a text with escapes, and the first [`redact::WINDOW`] bytes of each searched form, which stand
//! in the search automaton.

mod error;
mod handles;
mod hosts;
mod keyring;
mod opener;
pub mod redact;
mod scope;
mod seal;
mod secrets;
mod texts;
pub mod tokens;
mod vault;

pub use error::OpenError;
pub use handles::{HandleError, MAX_GROWTH};
pub use hosts::{HostPattern, HostPatternError};
pub use keyring::{KeyError, KeyRing};
pub use opener::{CacheConfig, Opener, OpenerConfig, OpenerError};
pub use redact::{REDACTED, Redactor};
pub use scope::Scope;
pub use seal::{ALGORITHM, SealError, is_plain};
pub use secrets::{Secret, Secrets};
pub use texts::{MAX_NAME_BYTES, MAX_SECRETS, SecretTexts, TextsError};
pub use vault::VaultConfig;

/// Bytes of `ciphertext_b64`: what the limits on a call leave for it (interop 2.7).
pub const MAX_ENVELOPE_BYTES: usize = 256 * 1024;
/// Bytes of the JSON inside: sealed (nonce, tag, base64) it still fits into [`MAX_ENVELOPE_BYTES`].
pub const MAX_PLAIN_BYTES: usize = MAX_ENVELOPE_BYTES / 4 * 3 - 64;
