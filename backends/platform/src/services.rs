//! What the tenant sells.

use serde::{Deserialize, Serialize};

use crate::api::Api;
use crate::read::{UserRef, page};
use crate::{Caller, Platform, PlatformError};

/// `service-item-kind` of the guest interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceItemKind {
    /// Work.
    Service,
    /// Goods.
    Product,
}

/// `service-billing-method` of the guest interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceBillingMethod {
    /// A price.
    Fixed,
    /// By the hour.
    Hourly,
    /// By the unit used.
    Usage,
}

/// `service-summary` of the guest interface.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSummary {
    /// A UUID.
    pub service_id: String,
    /// The name.
    pub service_name: String,
    /// Work or goods.
    pub item_kind: ServiceItemKind,
    /// How it is billed.
    pub billing_method: ServiceBillingMethod,
    /// Its type's id.
    pub service_type_id: Option<String>,
    /// Its type's name.
    pub service_type_name: Option<String>,
    /// In minor units.
    pub default_rate: f64,
    /// What a quantity of one is.
    pub unit_of_measure: String,
    /// Whether it is still sold.
    pub is_active: bool,
    /// Stock keeping unit.
    pub sku: Option<String>,
}

/// `services-list-input` of the guest interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServicesListInput {
    /// Part of the name.
    pub search: Option<String>,
    /// Both unless given.
    pub item_kind: Option<ServiceItemKind>,
    /// Both unless given.
    pub is_active: Option<bool>,
    /// All unless given.
    pub billing_method: Option<ServiceBillingMethod>,
    /// From 1; 1 unless given.
    pub page: Option<u32>,
    /// 1 to 100; 25 unless given.
    pub page_size: Option<u32>,
}

/// `services-list-result` of the guest interface.
#[derive(Debug, Clone, PartialEq)]
pub struct ServicesListResult {
    /// This page's.
    pub items: Vec<ServiceSummary>,
    /// Of all pages.
    pub total_count: u32,
    /// This page's number.
    pub page: u32,
    /// Most items of a page.
    pub page_size: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListInput<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    search: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_kind: Option<ServiceItemKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_active: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_method: Option<ServiceBillingMethod>,
    page: u32,
    page_size: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GetInput<'a> {
    service_id: &'a str,
}

#[derive(Deserialize)]
struct Summary {
    #[serde(rename = "serviceId", alias = "service_id")]
    service_id: String,
    #[serde(rename = "serviceName", alias = "service_name")]
    service_name: String,
    #[serde(rename = "itemKind", alias = "item_kind")]
    item_kind: ServiceItemKind,
    #[serde(rename = "billingMethod", alias = "billing_method")]
    billing_method: ServiceBillingMethod,
    #[serde(rename = "serviceTypeId", alias = "service_type_id")]
    service_type_id: Option<String>,
    #[serde(rename = "serviceTypeName", alias = "service_type_name")]
    service_type_name: Option<String>,
    #[serde(rename = "defaultRate", alias = "default_rate")]
    default_rate: Option<f64>,
    #[serde(rename = "unitOfMeasure", alias = "unit_of_measure")]
    unit_of_measure: String,
    #[serde(rename = "isActive", alias = "is_active")]
    is_active: Option<bool>,
    sku: Option<String>,
}

impl From<Summary> for ServiceSummary {
    fn from(wire: Summary) -> Self {
        Self {
            service_id: wire.service_id,
            service_name: wire.service_name,
            item_kind: wire.item_kind,
            billing_method: wire.billing_method,
            service_type_id: wire.service_type_id,
            service_type_name: wire.service_type_name,
            default_rate: wire.default_rate.unwrap_or(0.0),
            unit_of_measure: wire.unit_of_measure,
            is_active: wire.is_active.unwrap_or(true),
            sku: wire.sku,
        }
    }
}

impl Platform {
    /// A page of services and products.
    ///
    /// # Errors
    /// [`PlatformError::Invalid`] for a page outside its range, without asking.
    pub async fn services_list(
        &self,
        caller: &Caller<'_>,
        user: Option<UserRef<'_>>,
        input: &ServicesListInput,
    ) -> Result<ServicesListResult, PlatformError> {
        let (page, page_size) = page(input.page, input.page_size)?;
        let input = ListInput {
            search: input.search.as_deref(),
            item_kind: input.item_kind,
            is_active: input.is_active,
            billing_method: input.billing_method,
            page,
            page_size,
        };
        let answer = self.read_list::<Summary>(Api::Services, caller, user, input).await?;
        let (total_count, page, page_size) = answer.counts();
        let items = answer.items.into_iter().map(ServiceSummary::from).collect();
        Ok(ServicesListResult { items, total_count, page, page_size })
    }

    /// A service or product, if there is one with this id.
    ///
    /// # Errors
    /// As every operation.
    pub async fn services_get(
        &self,
        caller: &Caller<'_>,
        user: Option<UserRef<'_>>,
        service_id: &str,
    ) -> Result<Option<ServiceSummary>, PlatformError> {
        let item = self.read_item::<Summary>(Api::Services, caller, user, GetInput { service_id }).await?;
        Ok(item.map(ServiceSummary::from))
    }
}
