//! `cap:ui.proxy`: routes of the platform, called as the extension. Limits: the route is a path below the configured
//! base and nothing else; time and bytes of an answer (`longshore-platform`). The secret named `api_key` goes along as
//! `x-api-key`. Records route, payload and answer.

use longshore_platform::{ProxyFault, UiProxyCall};

use super::bindings::alga::extension::types::ProxyError;
use super::bindings::alga::extension::ui_proxy::Host;
use super::call::wit_error;
use super::scope::RunScope;
use super::{RunState, host_call};

wit_error!(ProxyError);

/// The secret that the existing platform's routes expect (interop 6.4).
const API_KEY: &str = "api_key";

impl RunScope {
    async fn call_route(&self, route: &str, payload: Option<&[u8]>) -> Result<Vec<u8>, ProxyError> {
        let Some(proxy) = &self.backends.ui_proxy else {
            self.record.note("no UI proxy is configured");
            return Err(ProxyError::RouteNotFound);
        };
        let (context, user) = (&self.run.context, self.run.user.as_ref());
        let call = UiProxyCall {
            tenant: context.tenant.as_str(),
            extension: context.extension.as_str(),
            install: self.install(),
            version: context.version_id.as_deref(),
            request_id: self.request_id(),
            user_id: user.map(|u| u.user_id.as_str()),
            user_email: user.map(|u| u.user_email.as_str()),
            api_key: self
                .secrets
                .get(API_KEY)
                .filter(|s| s.hosts().is_empty() && !self.secrets_expired())
                .map(|s| s.expose()),
            route,
            payload,
        };
        self.in_time(proxy.call(&call)).await.map(Vec::from).map_err(|error| {
            self.record.note(error.to_string());
            match ProxyFault::from(&error) {
                ProxyFault::RouteNotFound => ProxyError::RouteNotFound,
                ProxyFault::Denied => ProxyError::Denied,
                ProxyFault::BadRequest => ProxyError::BadRequest,
                ProxyFault::Internal => {
                    self.upstream_failed(&error);
                    ProxyError::Internal
                }
            }
        })
    }
}

impl Host for RunState {
    async fn call_route(
        &mut self,
        route: String,
        payload: Option<Vec<u8>>,
    ) -> wasmtime::Result<Result<Vec<u8>, ProxyError>> {
        host_call!(
            self, "ui-proxy.call-route", UiProxy, args: { route, payload }, denied: Err(ProxyError::Denied),
            |run| run.call_route(&route, payload.as_deref()).await
        )
    }
}
