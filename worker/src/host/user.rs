//! `cap:user.read`: who is behind the call, in both shapes. Reads memory.

use longshore_proto::User;

use super::bindings::alga::extension::types::{UserData, UserDataV2, UserError};
use super::bindings::alga::extension::{user, user_v2};
use super::call::wit_error;
use super::recorded::recorded;
use super::scope::RunScope;
use super::{RunState, host_call};

wit_error!(UserError);
recorded!(
    UserData { tenant_id, client_name, user_id, user_email, user_name, user_type }
    UserDataV2 {
        tenant_id, client_name, user_id, user_email, user_name, user_type, client_id, additional_fields,
    }
);

impl RunScope {
    fn caller(&self) -> Result<(String, User), UserError> {
        let user = self.run.user.clone().ok_or(UserError::NotAvailable)?;
        // The tenant is the call's own, whatever the user record may say elsewhere.
        Ok((self.run.context.tenant.to_string(), user))
    }

    /// All that any shape of the record has.
    fn caller_in_full(&self) -> Result<UserDataV2, UserError> {
        self.caller().map(|(tenant_id, user)| UserDataV2 {
            tenant_id,
            client_name: user.client_name,
            user_id: user.user_id,
            user_email: user.user_email,
            user_name: user.user_name,
            user_type: user.user_type,
            client_id: user.client_id,
            // A BTreeMap: sorted by key, as promised.
            additional_fields: user.additional_fields.into_iter().collect(),
        })
    }
}

impl RunState {
    /// `user.get-user` of a component with an older record (`compat`), which takes its fields out of this one.
    #[expect(clippy::needless_pass_by_ref_mut, reason = "a future that holds the state shared is not `Send`")]
    pub(super) async fn older_user(&mut self) -> wasmtime::Result<Result<UserDataV2, UserError>> {
        host_call!(self, "user.get-user", UserRead, args: {}, denied: Err(UserError::NotAllowed), |run| {
            run.caller_in_full()
        })
    }
}

impl user::Host for RunState {
    async fn get_user(&mut self) -> wasmtime::Result<Result<UserData, UserError>> {
        host_call!(self, "user.get-user", UserRead, args: {}, denied: Err(UserError::NotAllowed), |run| {
            run.caller().map(|(tenant_id, user)| UserData {
                tenant_id,
                client_name: user.client_name,
                user_id: user.user_id,
                user_email: user.user_email,
                user_name: user.user_name,
                user_type: user.user_type,
            })
        })
    }
}

impl user_v2::Host for RunState {
    async fn get_user(&mut self) -> wasmtime::Result<Result<UserDataV2, UserError>> {
        host_call!(self, "user-v2.get-user", UserRead, args: {}, denied: Err(UserError::NotAllowed), |run| {
            run.caller_in_full()
        })
    }
}
