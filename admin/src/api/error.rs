//! Failures.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What every request that fails is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// What kind of failure, for programs; see [`ApiCode`]. A client that does not know one goes by the status.
    #[schema(value_type = ApiCode)]
    pub code: String,
    /// What happened, to whom, and what to do.
    pub message: String,
    /// The request's id, which is in the service's log too.
    pub request_id: String,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal;)*) => {
        /// Every `code` of an [`ApiError`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ApiCode { $($(#[$doc])* $variant,)* }

        impl ApiCode {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As in the answer.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The code of an answer, unless a later version has made it.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// The request is not as the document says: unknown field or parameter, wrong type, value outside its range.
    InvalidRequest = "invalid_request", 400;
    /// No admin token, or not a valid one.
    Unauthorized = "unauthorized", 401;
    /// `confirm` is not the tenant's id, or a cancel names no calls: too much would be done by mistake.
    NotConfirmed = "not_confirmed", 403;
    /// The token is one of the tenant, but does not read recorded runs and debug events.
    Forbidden = "forbidden", 403;
    /// There is no such route.
    NotFound = "not_found", 404;
    /// The tenant has no such install; the same for an install of another tenant.
    InstallNotFound = "install_not_found", 404;
    /// The bundle is not in the store under this tenant's key.
    BundleNotFound = "bundle_not_found", 404;
    /// The tenant has no such token.
    TokenNotFound = "token_not_found", 404;
    /// No such run of the tenant was recorded, or it has expired.
    TraceNotFound = "trace_not_found", 404;
    /// A recorded run that is damaged, or not what it is said to be.
    InvalidTrace = "invalid_trace", 422;
    /// The route does not take this method; `allow` says which it takes.
    MethodNotAllowed = "method_not_allowed", 405;
    /// The body was not sent in time.
    Timeout = "timeout", 408;
    /// Somebody else has changed the same install meanwhile; look at it and try again.
    Conflict = "conflict", 409;
    /// The manifest asks for capabilities that nobody has granted or refused; the message names them.
    GrantRequired = "grant_required", 409;
    /// A capability was granted that the manifest does not ask for.
    GrantNotRequested = "grant_not_requested", 409;
    /// Another install has this host name.
    HostTaken = "host_taken", 409;
    /// There is no earlier version.
    NoPreviousVersion = "no_previous_version", 409;
    /// An install uses the bundle, or may roll back to it.
    BundleInUse = "bundle_in_use", 409;
    /// A tenant's share is used up: installs, tokens, bytes of a record.
    LimitReached = "limit_reached", 409;
    /// Secrets were given, and the service has no key to seal them with.
    SecretsUnavailable = "secrets_unavailable", 409;
    /// The signature policy refuses the bundle, or the signature is not good.
    SignatureRefused = "signature_refused", 409;
    /// The archive or body is over its limit.
    TooLarge = "too_large", 413;
    /// Another `content-type` is needed.
    UnsupportedMediaType = "unsupported_media_type", 415;
    /// The bytes do not have the hash that was named.
    HashMismatch = "hash_mismatch", 422;
    /// The archive or its manifest is not valid; the message says where.
    InvalidBundle = "invalid_bundle", 422;
    /// Too many attempts with a wrong token; `retry-after` says when to come again.
    TooManyFailures = "too_many_failures", 429;
    /// The service failed; its log has the cause under the request's id.
    Internal = "internal", 500;
    /// NATS, the bundle store or Redis does not answer; try again.
    Unavailable = "unavailable", 503;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_spelled_alike_in_rust_and_json() {
        for code in ApiCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert_eq!(ApiCode::parse(code.as_str()), Some(*code));
            assert!((400..600).contains(&code.status()));
        }
    }
}
