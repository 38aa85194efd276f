//! `cap:context.read`: who the call is for. Reads memory; records nothing but the call.

use super::bindings::alga::extension::context::Host;
use super::bindings::alga::extension::types::ContextData;
use super::call::always_ok;
use super::recorded::recorded;
use super::scope::RunScope;
use super::{RunState, host_call};

always_ok!(ContextData);
recorded!(ContextData { request_id, tenant_id, extension_id, install_id, version_id });

impl RunScope {
    /// The same record that the handler gets with its request.
    pub fn context_data(&self) -> ContextData {
        let context = &self.run.context;
        ContextData {
            request_id: context.request_id.clone(),
            tenant_id: context.tenant.to_string(),
            extension_id: context.extension.to_string(),
            install_id: context.install_id.clone(),
            version_id: context.version_id.clone(),
        }
    }
}

impl Host for RunState {
    /// The capability is always granted and the function has no way to say no.
    async fn get_context(&mut self) -> wasmtime::Result<ContextData> {
        host_call!(self, "context.get-context", ContextRead, args: {}, denied: run.context_data(), |run| run.context_data())
    }
}
