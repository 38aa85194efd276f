//! `cap:secrets.get`: no backend yet; answers as without the capability.

use super::bindings::alga::extension::secrets::Host;
use super::bindings::alga::extension::types::SecretError;
use super::{RunState, host_call};

impl Host for RunState {
    async fn get(&mut self, _key: String) -> wasmtime::Result<Result<String, SecretError>> {
        host_call!(self, "secrets.get", SecretsGet, denied: Err(SecretError::Denied))
    }
    async fn list_keys(&mut self) -> wasmtime::Result<Vec<String>> {
        host_call!(self, "secrets.list-keys", SecretsGet, denied: Vec::new())
    }
}
