//! `cap:service.read`: no backend yet; answers as without the capability.

use super::bindings::alga::extension::services::Host;
use super::bindings::alga::extension::types::{
    ServiceReadError, ServiceSummary, ServicesListInput, ServicesListResult,
};
use super::{RunState, host_call};

impl Host for RunState {
    async fn list_services(
        &mut self,
        _input: ServicesListInput,
    ) -> wasmtime::Result<Result<ServicesListResult, ServiceReadError>> {
        host_call!(self, "services.list-services", ServiceRead, denied: Err(ServiceReadError::NotAllowed))
    }
    async fn get_service(
        &mut self,
        _service_id: String,
    ) -> wasmtime::Result<Result<Option<ServiceSummary>, ServiceReadError>> {
        host_call!(self, "services.get-service", ServiceRead, denied: Err(ServiceReadError::NotAllowed))
    }
}
