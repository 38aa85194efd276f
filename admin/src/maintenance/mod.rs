//! What removes: an uninstall's parts, a tenant's purge, the collection of what nobody can use any more.

mod collect;
mod data;
mod objects;
mod purge;
pub mod traces;

pub use collect::{Retention, run_daily};
pub use data::TenantData;

use longshore_access::TokenError;

use crate::api::ApiCode;
use crate::http::Failure;

/// The token store did not do what was asked.
pub fn token_failed(error: &TokenError) -> Failure {
    match error {
        TokenError::Label | TokenError::Lifetime | TokenError::Extensions | TokenError::Traces => {
            Failure::invalid(error.to_string())
        }
        TokenError::Full(_) | TokenError::TooMany => Failure::new(ApiCode::LimitReached, error.to_string()),
        TokenError::Disconnected => Failure::no_nats(),
        TokenError::Timeout | TokenError::Bucket(_) | TokenError::Failed(_) => {
            Failure::unavailable("the token store (NATS JetStream)", error)
        }
    }
}
