//! The tenant's clients.

use serde::{Deserialize, Serialize};

use crate::api::Api;
use crate::read::{UserRef, page};
use crate::{Caller, Platform, PlatformError};

/// `client-summary` of the guest interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ClientSummary {
    /// A UUID.
    #[serde(rename = "clientId", alias = "client_id")]
    pub client_id: String,
    /// The name.
    #[serde(rename = "clientName", alias = "client_name")]
    pub client_name: String,
    /// `company` or `individual`.
    #[serde(rename = "clientType", alias = "client_type")]
    pub client_type: Option<String>,
    /// Whether the client is no longer one.
    #[serde(rename = "isInactive", alias = "is_inactive", default)]
    pub is_inactive: bool,
    /// ISO 4217.
    #[serde(rename = "defaultCurrencyCode", alias = "default_currency_code")]
    pub default_currency_code: Option<String>,
    /// A user's id.
    #[serde(rename = "accountManagerId", alias = "account_manager_id")]
    pub account_manager_id: Option<String>,
    /// That user's name.
    #[serde(rename = "accountManagerName", alias = "account_manager_name")]
    pub account_manager_name: Option<String>,
    /// Where invoices go.
    #[serde(rename = "billingEmail", alias = "billing_email")]
    pub billing_email: Option<String>,
}

/// `clients-list-input` of the guest interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientsListInput {
    /// Part of the name.
    pub search: Option<String>,
    /// False unless given.
    pub include_inactive: Option<bool>,
    /// From 1; 1 unless given.
    pub page: Option<u32>,
    /// 1 to 100; 25 unless given.
    pub page_size: Option<u32>,
}

/// `clients-list-result` of the guest interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientsListResult {
    /// This page's.
    pub items: Vec<ClientSummary>,
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
    include_inactive: Option<bool>,
    page: u32,
    page_size: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GetInput<'a> {
    client_id: &'a str,
}

impl Platform {
    /// A page of clients.
    ///
    /// # Errors
    /// [`PlatformError::Invalid`] for a page outside its range, without asking.
    pub async fn clients_list(
        &self,
        caller: &Caller<'_>,
        user: Option<UserRef<'_>>,
        input: &ClientsListInput,
    ) -> Result<ClientsListResult, PlatformError> {
        let (page, page_size) = page(input.page, input.page_size)?;
        let search = input.search.as_deref();
        let input = ListInput { search, include_inactive: input.include_inactive, page, page_size };
        let answer = self.read_list(Api::Clients, caller, user, input).await?;
        let (total_count, page, page_size) = answer.counts();
        Ok(ClientsListResult { items: answer.items, total_count, page, page_size })
    }

    /// A client, if there is one with this id.
    ///
    /// # Errors
    /// As every operation.
    pub async fn clients_get(
        &self,
        caller: &Caller<'_>,
        user: Option<UserRef<'_>>,
        client_id: &str,
    ) -> Result<Option<ClientSummary>, PlatformError> {
        self.read_item(Api::Clients, caller, user, GetInput { client_id }).await
    }
}
