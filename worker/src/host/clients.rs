//! `cap:client.read`: the tenant's clients, as the platform shows them to the user behind the call. Limits: pages of
//! 100. Records input and answer.

use longshore_platform as platform;
use longshore_platform::{PlatformError, ReadFault};

use super::bindings::alga::extension::clients::Host;
use super::bindings::alga::extension::types::{
    ClientReadError, ClientSummary, ClientsListInput, ClientsListResult,
};
use super::call::wit_error;
use super::recorded::recorded;
use super::scope::RunScope;
use super::{RunState, host_call};

wit_error!(ClientReadError);
recorded!(
    ClientsListInput { search, include_inactive, page, page_size }
    ClientsListResult { items, total_count, page, page_size }
    ClientSummary {
        client_id, client_name, client_type, is_inactive, default_currency_code, account_manager_id,
        account_manager_name, billing_email,
    }
);

fn summary(client: platform::ClientSummary) -> ClientSummary {
    ClientSummary {
        client_id: client.client_id,
        client_name: client.client_name,
        client_type: client.client_type,
        is_inactive: client.is_inactive,
        default_currency_code: client.default_currency_code,
        account_manager_id: client.account_manager_id,
        account_manager_name: client.account_manager_name,
        billing_email: client.billing_email,
    }
}

impl RunScope {
    /// The platform and who asks it; for reading clients and services.
    pub(super) fn reader(
        &self,
    ) -> Result<(&platform::Platform, platform::Caller<'_>, Option<platform::UserRef<'_>>), ReadFault> {
        let Some(install) = self.install() else {
            self.record.note("the call names no install");
            return Err(ReadFault::NotAllowed);
        };
        let Some(platform) = &self.backends.platform else {
            self.record.note("no platform is configured");
            return Err(ReadFault::Internal);
        };
        let user = self.run.user.as_ref();
        let user = user.map(|u| platform::UserRef { user_id: &u.user_id, user_type: &u.user_type });
        Ok((platform, platform::Caller { install, request_id: self.request_id() }, user))
    }

    /// Why the platform gave no answer.
    pub(super) fn read_fault(&self, error: &PlatformError) -> ReadFault {
        self.record.note(error.to_string());
        let fault = ReadFault::from(error);
        if matches!(fault, ReadFault::Internal) {
            self.upstream_failed(error);
        }
        fault
    }

    async fn list_clients(&self, input: ClientsListInput) -> Result<ClientsListResult, ReadFault> {
        let (platform, caller, user) = self.reader()?;
        let ClientsListInput { search, include_inactive, page, page_size } = input;
        let input = platform::ClientsListInput { search, include_inactive, page, page_size };
        let list = self
            .in_time(platform.clients_list(&caller, user, &input))
            .await
            .map_err(|e| self.read_fault(&e))?;
        Ok(ClientsListResult {
            items: list.items.into_iter().map(summary).collect(),
            total_count: list.total_count,
            page: list.page,
            page_size: list.page_size,
        })
    }

    async fn get_client(&self, client_id: &str) -> Result<Option<ClientSummary>, ReadFault> {
        let (platform, caller, user) = self.reader()?;
        let found = self
            .in_time(platform.clients_get(&caller, user, client_id))
            .await
            .map_err(|e| self.read_fault(&e))?;
        Ok(found.map(summary))
    }
}

fn read_error(fault: ReadFault) -> ClientReadError {
    match fault {
        ReadFault::NotAllowed => ClientReadError::NotAllowed,
        ReadFault::InvalidInput => ClientReadError::InvalidInput,
        ReadFault::Internal => ClientReadError::Internal,
    }
}

impl Host for RunState {
    async fn list_clients(
        &mut self,
        input: ClientsListInput,
    ) -> wasmtime::Result<Result<ClientsListResult, ClientReadError>> {
        host_call!(
            self, "clients.list-clients", ClientRead, args: { input }, denied: Err(ClientReadError::NotAllowed),
            |run| run.list_clients(input).await.map_err(read_error)
        )
    }

    async fn get_client(
        &mut self,
        client_id: String,
    ) -> wasmtime::Result<Result<Option<ClientSummary>, ClientReadError>> {
        host_call!(
            self, "clients.get-client", ClientRead, args: { client_id }, denied: Err(ClientReadError::NotAllowed),
            |run| run.get_client(&client_id).await.map_err(read_error)
        )
    }
}
