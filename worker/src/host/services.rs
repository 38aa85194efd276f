//! `cap:service.read`: the tenant's services and products, as the platform shows them to the user behind the call.
//! Limits: pages of 100. Records input and answer.

use longshore_platform as platform;
use longshore_platform::ReadFault;

use super::bindings::alga::extension::services::Host;
use super::bindings::alga::extension::types::{
    ServiceBillingMethod, ServiceItemKind, ServiceReadError, ServiceSummary, ServicesListInput,
    ServicesListResult,
};
use super::call::wit_error;
use super::recorded::{recorded, recorded_names};
use super::scope::RunScope;
use super::{RunState, host_call};

wit_error!(ServiceReadError);
recorded!(
    ServicesListInput { search, item_kind, is_active, billing_method, page, page_size }
    ServicesListResult { items, total_count, page, page_size }
    ServiceSummary {
        service_id, service_name, item_kind, billing_method, service_type_id, service_type_name, default_rate,
        unit_of_measure, is_active, sku,
    }
);
recorded_names!(
    ServiceItemKind { Service = "service", Product = "product" }
    ServiceBillingMethod { Fixed = "fixed", Hourly = "hourly", Usage = "usage" }
);

fn asked_kind(kind: ServiceItemKind) -> platform::ServiceItemKind {
    match kind {
        ServiceItemKind::Service => platform::ServiceItemKind::Service,
        ServiceItemKind::Product => platform::ServiceItemKind::Product,
    }
}

fn asked_method(method: ServiceBillingMethod) -> platform::ServiceBillingMethod {
    match method {
        ServiceBillingMethod::Fixed => platform::ServiceBillingMethod::Fixed,
        ServiceBillingMethod::Hourly => platform::ServiceBillingMethod::Hourly,
        ServiceBillingMethod::Usage => platform::ServiceBillingMethod::Usage,
    }
}

fn summary(service: platform::ServiceSummary) -> ServiceSummary {
    ServiceSummary {
        service_id: service.service_id,
        service_name: service.service_name,
        item_kind: match service.item_kind {
            platform::ServiceItemKind::Service => ServiceItemKind::Service,
            platform::ServiceItemKind::Product => ServiceItemKind::Product,
        },
        billing_method: match service.billing_method {
            platform::ServiceBillingMethod::Fixed => ServiceBillingMethod::Fixed,
            platform::ServiceBillingMethod::Hourly => ServiceBillingMethod::Hourly,
            platform::ServiceBillingMethod::Usage => ServiceBillingMethod::Usage,
        },
        service_type_id: service.service_type_id,
        service_type_name: service.service_type_name,
        default_rate: service.default_rate,
        unit_of_measure: service.unit_of_measure,
        is_active: service.is_active,
        sku: service.sku,
    }
}

impl RunScope {
    async fn list_services(&self, input: ServicesListInput) -> Result<ServicesListResult, ReadFault> {
        let (platform, caller, user) = self.reader()?;
        let input = platform::ServicesListInput {
            search: input.search,
            item_kind: input.item_kind.map(asked_kind),
            is_active: input.is_active,
            billing_method: input.billing_method.map(asked_method),
            page: input.page,
            page_size: input.page_size,
        };
        let list = self
            .in_time(platform.services_list(&caller, user, &input))
            .await
            .map_err(|e| self.read_fault(&e))?;
        Ok(ServicesListResult {
            items: list.items.into_iter().map(summary).collect(),
            total_count: list.total_count,
            page: list.page,
            page_size: list.page_size,
        })
    }

    async fn get_service(&self, service_id: &str) -> Result<Option<ServiceSummary>, ReadFault> {
        let (platform, caller, user) = self.reader()?;
        let found = self
            .in_time(platform.services_get(&caller, user, service_id))
            .await
            .map_err(|e| self.read_fault(&e))?;
        Ok(found.map(summary))
    }
}

fn read_error(fault: ReadFault) -> ServiceReadError {
    match fault {
        ReadFault::NotAllowed => ServiceReadError::NotAllowed,
        ReadFault::InvalidInput => ServiceReadError::InvalidInput,
        ReadFault::Internal => ServiceReadError::Internal,
    }
}

impl Host for RunState {
    async fn list_services(
        &mut self,
        input: ServicesListInput,
    ) -> wasmtime::Result<Result<ServicesListResult, ServiceReadError>> {
        host_call!(
            self, "services.list-services", ServiceRead, args: { input }, denied: Err(ServiceReadError::NotAllowed),
            |run| run.list_services(input).await.map_err(read_error)
        )
    }

    async fn get_service(
        &mut self,
        service_id: String,
    ) -> wasmtime::Result<Result<Option<ServiceSummary>, ServiceReadError>> {
        host_call!(
            self, "services.get-service", ServiceRead, args: { service_id },
            denied: Err(ServiceReadError::NotAllowed),
            |run| run.get_service(&service_id).await.map_err(read_error)
        )
    }
}
