//! Every way in which a call can fail, in one closed enum: its spelling, its HTTP status, whether the caller may
//! send it again, and whose fault it is. Spellings that existing callers know are kept (interop 2.4) and made finer
//! after the prefix; this table is the only place that maps them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request was wrong.
    Caller,
    /// The tenant's component or bundle was wrong.
    Extension,
    /// The fleet, its store or its network was wrong.
    Platform,
}

impl Fault {
    /// As metrics and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Extension => "extension",
            Self::Platform => "platform",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal, $retry:ident, $fault:ident;)*) => {
        /// Why a call failed. `retry_safe` is true where the component has certainly not run, or where running it
        /// again is the platform's own advice.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $variant,)* }

        impl ErrorCode {
            /// Every code, for docs and tests.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The spelling in the envelope's `error`, in logs and in metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
            /// The envelope's status; the HTTP status where the route uses real ones.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }
            /// Whether sending the same call again cannot make it run twice.
            pub const fn retry_safe(self) -> bool {
                match self { $(Self::$variant => codes!(@retry $retry),)* }
            }
            /// Who has to act.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }
        }

        impl std::str::FromStr for ErrorCode {
            type Err = UnknownCode;
            fn from_str(text: &str) -> Result<Self, UnknownCode> {
                match text { $($text => Ok(Self::$variant),)* _ => Err(UnknownCode) }
            }
        }
    };
    (@retry retry) => { true };
    (@retry no) => { false };
}

/// A code that this build does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown error code")]
pub struct UnknownCode;

codes! {
    /// `x-alga-tenant` or `x-alga-extension` is missing or empty.
    MissingRoutingHeaders = "missing_routing_headers", 400, retry, Caller;
    /// The header and the body name different tenants.
    TenantMismatch = "tenant_mismatch", 400, retry, Caller;
    /// The header and the body name different extensions.
    ExtensionMismatch = "extension_mismatch", 400, retry, Caller;
    /// An id has a character or a length that no subject and no key may have.
    InvalidId = "invalid_id", 400, retry, Caller;
    /// Not 64 hex digits.
    InvalidContentHash = "invalid_content_hash", 400, retry, Caller;
    /// A limit outside its range, or a method, header or path that no guest may see.
    InvalidRequest = "invalid_request", 400, retry, Caller;
    /// A capability outside the known set.
    UnknownCapabilities = "unknown_capabilities", 400, retry, Caller;
    /// Request headers, config and secrets together over 256 KiB.
    HeadersTooLarge = "headers_too_large", 431, retry, Caller;
    /// The request body is over the limit.
    PayloadTooLarge = "payload_too_large", 413, retry, Caller;
    /// No token, or one that is unknown, expired or revoked; a JWT that does not hold.
    Unauthenticated = "unauthenticated", 401, retry, Caller;
    /// The token holds, but not for this: another tenant, another extension, or a write with a token for reading.
    Forbidden = "forbidden", 403, retry, Caller;
    /// The tenant has no such install; the same words as for an install of another tenant.
    ExtensionNotFound = "extension_not_found", 404, retry, Caller;
    /// The install is disabled.
    ExtensionNotAvailable = "extension_not_available", 404, retry, Caller;
    /// The extension declares no such method and path.
    EndpointNotFound = "endpoint_not_found", 404, retry, Caller;
    /// The tenant's calls to this extension come faster than the gateway allows.
    RateLimited = "rate_limited", 429, retry, Caller;
    /// Installs cannot be looked up now.
    RegistryUnavailable = "registry_unavailable", 503, retry, Platform;
    /// The caller's tenant and extension have 256 calls waiting, or the tenant a quarter of the shim's places.
    QueueFull = "queue_full", 429, retry, Caller;
    /// No worker of the pool was heard for 3 s of uninterrupted listening.
    NoWorkers = "no_workers", 503, retry, Platform;
    /// The call waited for a slot until its deadline, or the place for calls is used up.
    Overloaded = "overloaded", 503, retry, Platform;
    /// The worker went silent with the call taken: it may have run.
    WorkerLost = "worker_lost", 502, no, Platform;
    /// The component ran, but its answer was larger than the worker could keep for the shim.
    AnswerDropped = "answer_dropped", 502, no, Platform;
    /// The object is not at its key in the bundle store.
    BundleNotFound = "bundle_fetch_failed: not_found", 502, retry, Caller;
    /// The bundle store did not answer or refused.
    BundleStoreUnreachable = "bundle_fetch_failed: store_unreachable", 502, retry, Platform;
    /// The bytes in the store are not those that the hash names.
    ArchiveHashMismatch = "bundle_fetch_failed: archive_hash_mismatch", 502, retry, Extension;
    /// The archive breaks a rule or a limit of unpacking.
    ArchiveRefused = "bundle_fetch_failed: archive_refused", 502, retry, Extension;
    /// The signature policy refuses the bundle: unsigned, or signed by a key that is unknown, expired or revoked.
    SignatureRefused = "bundle_fetch_failed: signature_refused", 502, retry, Extension;
    /// The cache folder could not be written.
    BundleCacheFailed = "bundle_fetch_failed: cache", 502, retry, Platform;
    /// A valid bundle without a component, or a component without a handler.
    ExtensionHasNoHandler = "extension_has_no_handler", 404, retry, Extension;
    /// The secret envelope cannot be opened.
    SecretDecryptFailed = "secret_decrypt_failed", 500, retry, Caller;
    /// The worker could not make an instance: out of pool, memory map or address space.
    EngineInitFailed = "engine_init_failed", 500, retry, Platform;
    /// `http.body_b64` is no base64.
    InvalidBody = "execute_failed: invalid_body", 500, retry, Caller;
    /// The component does not compile.
    Compile = "execute_failed: compile", 500, retry, Extension;
    /// The component imports what this host does not have, or has it with another type.
    Link = "execute_failed: link", 500, retry, Extension;
    /// A wasm trap.
    Trap = "execute_failed: trap", 500, no, Extension;
    /// The guest ran over its memory limit.
    OutOfMemory = "execute_failed: out_of_memory", 500, no, Extension;
    /// The guest ran over its stack.
    StackOverflow = "execute_failed: stack_overflow", 500, no, Extension;
    /// The deadline passed while the guest ran.
    Timeout = "execute_failed: timeout", 500, no, Extension;
    /// The deadline passed while the bundle was fetched: the component has not run.
    TimeoutFetching = "execute_failed: timeout (fetching)", 500, retry, Platform;
    /// The deadline passed while the component was compiled: it has not run.
    TimeoutCompiling = "execute_failed: timeout (compiling)", 500, retry, Platform;
    /// The guest used more CPU time than its limit.
    CpuTime = "execute_failed: cpu_time", 500, no, Extension;
    /// The guest made more host calls than its limit.
    HostCalls = "execute_failed: host_calls", 500, no, Extension;
    /// The guest sent more outbound requests than its limit.
    OutboundRequests = "execute_failed: outbound_requests", 500, no, Extension;
    /// The guest's answer is over the response limit.
    ResponseTooLarge = "execute_failed: response_too_large", 500, no, Extension;
    /// The guest's answer has a status outside 200 to 599 or a header that is none; or there is no response or half a body.
    InvalidResponse = "execute_failed: invalid_response", 500, no, Extension;
    /// The caller went away, or an operator stopped the call.
    Cancelled = "execute_failed: cancelled", 500, no, Caller;
    /// A bug or a broken machine; the log has the cause.
    Internal = "execute_failed: internal", 500, no, Platform;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    /// A newer worker may send a code that this build does not know: it is a failure all the same.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Ok(text.parse().unwrap_or(Self::Internal))
    }
}

/// A failed call as the caller sees it: the code and words that are safe to show. The cause chain stays in the log
/// of the process that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct CallError {
    /// Why.
    pub code: ErrorCode,
    /// What happened, to whom, what to do; empty where the code says it all.
    #[serde(default)]
    pub message: String,
    /// When to come back, in seconds, for 429 and 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

impl CallError {
    /// A failure with words that are safe to show to the caller.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let retry_after_s = match code {
            ErrorCode::QueueFull
            | ErrorCode::NoWorkers
            | ErrorCode::Overloaded
            | ErrorCode::RateLimited
            | ErrorCode::RegistryUnavailable => Some(1),
            _ => None,
        };
        Self { code, message: message.into(), retry_after_s }
    }
}

impl From<ErrorCode> for CallError {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, "")
    }
}

impl fmt::Display for CallError {
    /// The `error` of the envelope: `code` or `code: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() { self.code.fmt(f) } else { write!(f, "{}: {}", self.code, self.message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_spelling_and_is_read_back() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ErrorCode::ALL {
            assert!(seen.insert(code.as_str()));
            assert_eq!(code.as_str().parse::<ErrorCode>(), Ok(*code));
            assert!((400..600).contains(&code.status()));
        }
    }

    #[test]
    fn a_code_from_a_newer_build_is_still_a_failure() {
        let json = r#"{"code":"execute_failed: brand_new","message":"m","extra":1}"#;
        let error: CallError = serde_json::from_str(json).unwrap();
        assert_eq!(error.code, ErrorCode::Internal);
    }

    #[test]
    fn what_may_have_run_is_never_called_safe_to_retry() {
        for code in [ErrorCode::WorkerLost, ErrorCode::Trap, ErrorCode::Timeout, ErrorCode::Internal] {
            assert!(!code.retry_safe());
        }
    }
}
