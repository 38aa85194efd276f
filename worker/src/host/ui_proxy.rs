//! `cap:ui.proxy`: no backend yet; answers as without the capability.

use super::bindings::alga::extension::types::ProxyError;
use super::bindings::alga::extension::ui_proxy::Host;
use super::{RunState, host_call};

impl Host for RunState {
    async fn call_route(
        &mut self,
        _route: String,
        _payload: Option<Vec<u8>>,
    ) -> wasmtime::Result<Result<Vec<u8>, ProxyError>> {
        host_call!(self, "ui-proxy.call-route", UiProxy, denied: Err(ProxyError::Denied))
    }
}
