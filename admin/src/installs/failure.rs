//! What the registry's errors mean to a caller.

use longshore_registry::{InstallsError, Refused, RegistryError};

use crate::api::ApiCode;
use crate::http::Failure;

/// The registry did not do what was asked.
pub(crate) fn registry_failed(error: &InstallsError) -> Failure {
    let failure = |code| Failure::new(code, error.to_string());
    match error {
        InstallsError::NotFound { .. } => failure(ApiCode::InstallNotFound),
        InstallsError::Conflict => failure(ApiCode::Conflict),
        InstallsError::TooLarge { .. } | InstallsError::TooMany => failure(ApiCode::LimitReached),
        InstallsError::HostTaken(_) => failure(ApiCode::HostTaken),
        InstallsError::NoSuchVersion => Failure::new(
            ApiCode::NoPreviousVersion,
            "the install has no earlier version: `longshore show` lists those that it has",
        ),
        InstallsError::Refused(Refused::NotRequested(_)) => failure(ApiCode::GrantNotRequested),
        InstallsError::Refused(_) => failure(ApiCode::InvalidRequest),
        // Words of its own for it: somebody has to act, and can.
        InstallsError::Damaged(_) => failure(ApiCode::Conflict).because(error),
        InstallsError::Registry(RegistryError::Damaged(_)) => {
            let message =
                "the install's record cannot be read: install the extension again, or purge the tenant";
            Failure::new(ApiCode::Conflict, message).because(error)
        }
        InstallsError::Registry(_) | InstallsError::Nats(_) => {
            Failure::unavailable("the registry (NATS JetStream)", error)
        }
        InstallsError::Encode(_) => Failure::internal(error),
    }
}
