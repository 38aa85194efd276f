//! What one run may use. Requests and installs can lower these, and raise them up to the maxima.

use serde::{Deserialize, Serialize};

use crate::error::{CallError, ErrorCode};

/// `timeout_ms` when a request has none (the reference's callers send 30,000).
pub const DEFAULT_TIMEOUT_MS: u64 = 30_000;
/// The longest that a synchronous call may take.
pub const MAX_TIMEOUT_MS: u64 = 300_000;
/// `memory_mb` when a request has none (the reference's default).
pub const DEFAULT_MEMORY_MB: u64 = 256;
/// The most memory that one run may ask for.
pub const MAX_MEMORY_MB: u64 = 1_024;

/// A message above this leaves its body with the sender. Half of the NATS default `max_payload` of 1 MiB, so that
/// frame and headers always fit and nothing depends on raising that setting.
pub const INLINE_BYTES: usize = 512 * 1024;
/// Headers, config, secrets and user of one call together.
pub const MAX_HEADER_BYTES: usize = 256 * 1024;
/// One chunk of a body that is fetched.
pub const CHUNK_BYTES: usize = 128 * 1024;
/// How much of a body its receiver asks for at once: what one transfer can hold in memory.
pub const WINDOW_BYTES: usize = 8 * CHUNK_BYTES;
/// The largest request body, decoded. Existing gateways pass on up to 10 MiB; base64 and the envelope are on top.
pub const MAX_BODY_BYTES: u64 = 16 * 1024 * 1024;

/// The limits of one run, as the call message carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall time in milliseconds, end to end: waiting, fetching, compiling and host calls included.
    pub timeout_ms: u64,
    /// Linear memories and tables of the instance together, in MiB.
    pub memory_mb: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout_ms: DEFAULT_TIMEOUT_MS, memory_mb: DEFAULT_MEMORY_MB }
    }
}

impl Limits {
    /// From a request: absent means the default; zero or above the maximum is refused rather than clamped, because
    /// a caller that asks for an hour would otherwise be surprised after five minutes.
    pub fn from_request(timeout_ms: Option<u64>, memory_mb: Option<u64>) -> Result<Self, CallError> {
        let in_range = |name: &str, value: Option<u64>, default: u64, max: u64| match value {
            None => Ok(default),
            Some(v) if (1..=max).contains(&v) => Ok(v),
            Some(v) => Err(CallError::new(
                ErrorCode::InvalidRequest,
                format!("limits.{name} is {v}; it must be 1 to {max}"),
            )),
        };
        Ok(Self {
            timeout_ms: in_range("timeout_ms", timeout_ms, DEFAULT_TIMEOUT_MS, MAX_TIMEOUT_MS)?,
            memory_mb: in_range("memory_mb", memory_mb, DEFAULT_MEMORY_MB, MAX_MEMORY_MB)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_limits_are_the_documented_defaults() {
        let limits = Limits::from_request(None, None).unwrap();
        assert_eq!((limits.timeout_ms, limits.memory_mb), (30_000, 256));
    }

    #[test]
    fn a_limit_of_zero_or_over_the_maximum_is_refused_by_name() {
        for (t, m, name) in [
            (Some(0), None, "timeout_ms"),
            (Some(300_001), None, "timeout_ms"),
            (None, Some(1_025), "memory_mb"),
            (None, Some(0), "memory_mb"),
        ] {
            assert!(Limits::from_request(t, m).unwrap_err().message.contains(name));
        }
    }
}
