//! The secret envelope of a call (interop 7): one that cannot be opened fails the whole call, whatever the guest may
//! do with secrets, so that a broken rotation is seen at once and not by the first guest that asks. Nothing of the
//! content is kept: `secrets.get` has no backend yet.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use longshore_proto::call::SecretEnvelope;
use longshore_proto::{CallError, ErrorCode};

/// Whether the envelope can be opened. One that Vault has sealed is left closed: opening it is for the backend.
///
/// # Errors
/// `secret_decrypt_failed`, with what is wrong and never a byte of the content.
pub fn check(envelope: Option<&SecretEnvelope>) -> Result<(), CallError> {
    let Some(envelope) = envelope else { return Ok(()) };
    let ciphertext = envelope.ciphertext_b64.trim();
    let algorithm = envelope.algorithm.as_deref().unwrap_or_default().trim().to_ascii_lowercase();
    if ciphertext.is_empty() || algorithm.starts_with("vault-transit") {
        return Ok(());
    }
    let failed = |what| CallError::new(ErrorCode::SecretDecryptFailed, what);
    let plain = BASE64.decode(ciphertext).map_err(|_| failed("the inline envelope is no base64"))?;
    // The parser's own words may quote the content.
    serde_json::from_slice::<BTreeMap<String, String>>(&plain)
        .map_err(|_| failed("the inline envelope holds no JSON object of texts"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(ciphertext: &str, algorithm: Option<&str>) -> Result<(), String> {
        let envelope = SecretEnvelope {
            ciphertext_b64: ciphertext.to_owned(),
            algorithm: algorithm.map(str::to_owned),
            version: None,
            expires_at: None,
            key_path: None,
            mount: None,
        };
        check(Some(&envelope)).map_err(|e| e.to_string())
    }

    #[test]
    fn no_envelope_a_blank_one_and_a_map_of_texts_are_fine() {
        assert!(check(None).is_ok());
        assert!(open("  ", None).is_ok());
        assert!(open(&BASE64.encode(r#"{"api_key":"k"}"#), Some("inline/base64")).is_ok());
    }

    #[test]
    fn what_vault_has_sealed_is_left_closed() {
        assert!(open("vault:v1:abc", Some(" Vault-Transit:v1 ")).is_ok());
    }

    #[test]
    fn what_cannot_be_opened_fails_the_call_without_showing_a_byte_of_it() {
        for plain in ["canary-5e", r#"["canary-5e"]"#, r#"{"k":{"canary-5e":1}}"#] {
            let error = open(&BASE64.encode(plain), None).unwrap_err();
            assert!(error.starts_with("secret_decrypt_failed: ") && !error.contains("canary"), "{error}");
        }
        assert!(open("%%%", None).unwrap_err().contains("no base64"));
    }
}
