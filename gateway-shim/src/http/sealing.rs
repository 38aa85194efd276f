//! Secrets on their way to a worker: what a caller sent in the clear is sealed here, because everyone who may
//! subscribe on NATS reads what passes there.

use longshore_proto::{CallError, ErrorCode, Run};
use longshore_secrets::{KeyRing, Scope};

/// Seals the secrets of calls.
#[derive(Debug, Default)]
pub struct Sealer(Option<KeyRing>);

impl Sealer {
    /// Without keys, a call with secrets in the clear is refused.
    pub fn new(ring: Option<KeyRing>) -> Self {
        Self(ring)
    }

    /// Seals what is in the clear. Sealed envelopes, Vault's and blank ones stay as they are.
    ///
    /// # Errors
    /// `secret_decrypt_failed`: the envelope is malformed, or there is no key. No byte of it is in the message.
    pub fn seal(&self, run: &mut Run) -> Result<(), CallError> {
        let Some(envelope) = run.secret_envelope.take_if(|envelope| longshore_secrets::is_plain(envelope))
        else {
            return Ok(());
        };
        let failed = |message: String| CallError::new(ErrorCode::SecretDecryptFailed, message);
        let Some(ring) = &self.0 else {
            return Err(failed(
                "the gateway does not pass secrets on in the clear: set LONGSHORE_SECRETS_KEY_FILE for it and for the workers"
                    .to_owned(),
            ));
        };
        let context = &run.context;
        let scope = Scope {
            tenant: &context.tenant,
            extension: &context.extension,
            install: context.install_id.as_deref(),
            version: None,
        };
        let sealed = ring.seal_inline(&scope, envelope).map_err(|error| failed(error.to_string()))?;
        run.secret_envelope = Some(sealed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use longshore_proto::execute::{ExecuteRequest, RoutingHeaders};
    use serde_json::{Value, json};

    use super::*;

    fn run(envelope: &Value) -> Run {
        let request: ExecuteRequest = serde_json::from_value(json!({
            "context": {"tenant_id": "t", "extension_id": "e", "install_id": "i", "content_hash": "ab".repeat(32)},
            "http": {"method": "GET", "path": "/"},
            "secret_envelope": envelope,
        }))
        .unwrap();
        request.into_run(RoutingHeaders { tenant: Some("t"), extension: Some("e") }).unwrap().0
    }

    fn inline(plain: &str) -> Value {
        json!({"ciphertext_b64": BASE64.encode(plain), "algorithm": "inline/base64", "version": "3"})
    }

    #[tokio::test]
    async fn secrets_in_the_clear_are_sealed_for_this_install_and_open_there_alone() {
        let ring = KeyRing::generate();
        let mut run = run(&inline(r#"{"k":"canary-9"}"#));
        Sealer::new(Some(ring.clone())).seal(&mut run).unwrap();
        let sealed = run.secret_envelope.clone().unwrap();
        assert_eq!(sealed.algorithm.as_deref(), Some(longshore_secrets::ALGORITHM));
        assert_eq!(sealed.version.as_deref(), Some("3"));
        let bytes = BASE64.decode(&sealed.ciphertext_b64).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"));
        let config = longshore_secrets::OpenerConfig { ring: Some(ring), ..Default::default() };
        let opener = longshore_secrets::Opener::new(config).unwrap();
        let context = &run.context;
        let here = Scope {
            tenant: &context.tenant,
            extension: &context.extension,
            install: Some("i"),
            version: None,
        };
        let secrets = opener.open(&here, Some(&sealed)).await.unwrap();
        assert_eq!(secrets.get("k").unwrap().for_guest(), "canary-9");
        let elsewhere = Scope { install: Some("j"), ..here };
        assert!(opener.open(&elsewhere, Some(&sealed)).await.is_err());
    }

    #[test]
    fn without_a_key_secrets_in_the_clear_are_refused_with_what_to_set() {
        let mut plain = run(&inline(r#"{"k":"canary"}"#));
        let error = Sealer::default().seal(&mut plain).unwrap_err().to_string();
        assert!(error.starts_with("secret_decrypt_failed: ") && error.contains("LONGSHORE_SECRETS_KEY_FILE"));
        assert!(plain.secret_envelope.is_none(), "nobody can publish it by mistake");
    }

    #[test]
    fn what_is_not_in_the_clear_needs_no_key_and_stays() {
        for envelope in [
            json!(null),
            json!({"ciphertext_b64": " "}),
            json!({"ciphertext_b64": "vault:v1:x", "algorithm": "Vault-Transit:v1", "key_path": "k"}),
            json!({"ciphertext_b64": "AAAA", "algorithm": "longshore-sealed:v1", "key_path": "k"}),
        ] {
            let before = run(&envelope);
            let mut after = before.clone();
            Sealer::default().seal(&mut after).unwrap();
            Sealer::new(Some(KeyRing::generate())).seal(&mut after).unwrap();
            assert_eq!(after, before);
        }
    }

    #[test]
    fn what_no_worker_could_open_is_refused_without_a_byte_of_it() {
        let sealer = Sealer::new(Some(KeyRing::generate()));
        let mut no_base64 = inline("");
        no_base64["ciphertext_b64"] = json!("%canary%");
        for envelope in
            [no_base64, inline("canary"), inline(r#"["canary"]"#), inline(r#"{"k":{"canary":1}}"#)]
        {
            let error = sealer.seal(&mut run(&envelope)).unwrap_err().to_string();
            assert!(error.starts_with("secret_decrypt_failed: ") && !error.contains("canary"), "{error}");
        }
    }
}
