//! `cap:http.fetch`: no backend yet; answers as without the capability. `wasi:http` is the same capability by another
//! door: it links, so that components built with the standard interfaces load, and refuses to send.

use wasmtime_wasi_http::{Error, RequestOptions, Result as HttpResult, WasiBody, WasiHttpCtx, WasiHttpHooks};

use super::bindings::alga::extension::http::Host;
use super::bindings::alga::extension::types::{HttpError, HttpRequest, HttpResponse};
use super::{RunState, host_call};

impl Host for RunState {
    async fn fetch(&mut self, _request: HttpRequest) -> wasmtime::Result<Result<HttpResponse, HttpError>> {
        host_call!(self, "http.fetch", HttpFetch, denied: Err(HttpError::NotAllowed))
    }
}

/// `wasi:http/outgoing-handler` answers `HTTP-request-denied`.
pub(super) struct Denied;

type Answer = (::http::Response<WasiBody>, Box<dyn Future<Output = HttpResult<()>> + Send>);

impl WasiHttpHooks for Denied {
    fn send_request(
        &mut self,
        _request: ::http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = HttpResult<()>> + Send>,
    ) -> Box<dyn Future<Output = HttpResult<Answer>> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}

/// Headers of one `fields` resource: what a call's own headers may have.
pub(super) fn context() -> WasiHttpCtx {
    let mut context = WasiHttpCtx::new();
    context.set_field_size_limit(longshore_proto::limits::MAX_HEADER_BYTES);
    context
}
