//! The HTTP status of every error of `/api/ext`, where callers are browsers and API clients that act on it.
//!
//! It differs from the envelope's status (`ErrorCode::status`, which existing callers know) where an extension fails: to
//! somebody who called through a gateway that is a bad gateway (502) or a gateway timeout (504), and 500 is left for
//! bugs of ours. docs/errors.md has the same table; a test compares them.

use longshore_proto::ErrorCode;

/// See the module.
pub const fn gateway_status(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::MissingRoutingHeaders
        | ErrorCode::ExtensionMismatch
        | ErrorCode::InvalidId
        | ErrorCode::InvalidContentHash
        | ErrorCode::InvalidRequest
        | ErrorCode::UnknownCapabilities
        | ErrorCode::InvalidBody => 400,
        ErrorCode::Unauthenticated => 401,
        ErrorCode::TenantMismatch | ErrorCode::Forbidden => 403,
        ErrorCode::ExtensionNotFound
        | ErrorCode::ExtensionNotAvailable
        | ErrorCode::EndpointNotFound
        | ErrorCode::ExtensionHasNoHandler => 404,
        ErrorCode::PayloadTooLarge => 413,
        ErrorCode::RateLimited | ErrorCode::QueueFull => 429,
        ErrorCode::HeadersTooLarge => 431,
        ErrorCode::Internal => 500,
        ErrorCode::WorkerLost
        | ErrorCode::AnswerDropped
        | ErrorCode::BundleNotFound
        | ErrorCode::ArchiveHashMismatch
        | ErrorCode::ArchiveRefused
        | ErrorCode::SignatureRefused
        | ErrorCode::SecretDecryptFailed
        | ErrorCode::Compile
        | ErrorCode::Link
        | ErrorCode::Trap
        | ErrorCode::OutOfMemory
        | ErrorCode::StackOverflow
        | ErrorCode::CpuTime
        | ErrorCode::HostCalls
        | ErrorCode::OutboundRequests
        | ErrorCode::ResponseTooLarge
        | ErrorCode::InvalidResponse => 502,
        ErrorCode::RegistryUnavailable
        | ErrorCode::NoWorkers
        | ErrorCode::Overloaded
        | ErrorCode::BundleStoreUnreachable
        | ErrorCode::BundleCacheFailed
        | ErrorCode::EngineInitFailed
        | ErrorCode::Cancelled => 503,
        ErrorCode::Timeout | ErrorCode::TimeoutFetching | ErrorCode::TimeoutCompiling => 504,
    }
}

/// Whether sending the same call again may help and cannot do harm: what failed may pass, and the call has certainly not
/// run or may run twice.
pub(crate) fn retryable(code: ErrorCode, safe_call: bool) -> bool {
    let passes = matches!(gateway_status(code), 429 | 503 | 504)
        || matches!(code, ErrorCode::WorkerLost | ErrorCode::AnswerDropped);
    passes && (code.retry_safe() || safe_call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_code_with_the_status_it_has_through_the_gateway() {
        let page = include_str!("../../../docs/errors.md");
        let section = page.split("## Through /api/ext").nth(1).expect("the section");
        let documented: std::collections::BTreeMap<&str, u16> = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
            .map(|(code, rest)| (code, rest.split('|').next().unwrap().trim().parse().unwrap()))
            .collect();
        let differs = ErrorCode::ALL.iter().filter(|code| gateway_status(**code) != code.status());
        let defined = differs.map(|code| (code.as_str(), gateway_status(*code))).collect();
        assert_eq!(documented, defined, "left: docs/errors.md, right: the codes whose status differs");
    }

    #[test]
    fn only_what_may_pass_and_cannot_run_twice_is_called_retryable() {
        for (code, unsafe_call, safe_call) in [
            (ErrorCode::QueueFull, true, true),
            (ErrorCode::NoWorkers, true, true),
            (ErrorCode::TimeoutCompiling, true, true),
            (ErrorCode::WorkerLost, false, true),
            (ErrorCode::Timeout, false, true),
            (ErrorCode::Trap, false, false),
            (ErrorCode::ExtensionNotFound, false, false),
            (ErrorCode::SignatureRefused, false, false),
            (ErrorCode::Internal, false, false),
        ] {
            assert_eq!((retryable(code, false), retryable(code, true)), (unsafe_call, safe_call), "{code}");
        }
    }
}
