//! `cap:client.read`: no backend yet; answers as without the capability.

use super::bindings::alga::extension::clients::Host;
use super::bindings::alga::extension::types::{
    ClientReadError, ClientSummary, ClientsListInput, ClientsListResult,
};
use super::{RunState, host_call};

impl Host for RunState {
    async fn list_clients(
        &mut self,
        _input: ClientsListInput,
    ) -> wasmtime::Result<Result<ClientsListResult, ClientReadError>> {
        host_call!(self, "clients.list-clients", ClientRead, denied: Err(ClientReadError::NotAllowed))
    }
    async fn get_client(
        &mut self,
        _client_id: String,
    ) -> wasmtime::Result<Result<Option<ClientSummary>, ClientReadError>> {
        host_call!(self, "clients.get-client", ClientRead, denied: Err(ClientReadError::NotAllowed))
    }
}
