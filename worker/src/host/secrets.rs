//! `cap:secrets.get`: the install's secrets by name. Reads memory: the envelope was opened before the guest started.
//! A secret that names hosts is given as a handle, `{{secret:name}}`, and its value never enters the guest. Records
//! names, never values.

use super::bindings::alga::extension::secrets::Host;
use super::bindings::alga::extension::types::SecretError;
use super::call::wit_error;
use super::recorded::{Hidden, Recorded, Room};
use super::scope::RunScope;
use super::{RunState, host_call};

wit_error!(SecretError);

/// What a guest gets of a secret. Its event shows that there was one.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
struct Given(String);

impl Recorded for Given {
    fn record(&self, room: &mut Room<'_>) {
        Hidden.record(room);
    }
}

impl RunScope {
    fn secret(&self, name: &str) -> Result<Given, SecretError> {
        let secret = self.secrets.get(name).ok_or(SecretError::Missing)?;
        // A run may outlive what it was given.
        if self.secrets_expired() {
            return Err(SecretError::Expired);
        }
        Ok(Given(secret.for_guest().to_owned()))
    }
}

impl Host for RunState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<String, SecretError>> {
        let given: wasmtime::Result<Result<Given, SecretError>> = host_call!(
            self, "secrets.get", SecretsGet, args: { key }, denied: Err(SecretError::Denied), |run| run.secret(&key)
        );
        Ok(given?.map(|given| given.0))
    }

    async fn list_keys(&mut self) -> wasmtime::Result<Vec<String>> {
        host_call!(self, "secrets.list-keys", SecretsGet, args: {}, denied: Vec::new(), |run| {
            run.secrets.names().map(str::to_owned).collect::<Vec<_>>()
        })
    }
}
