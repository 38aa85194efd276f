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
    /// CPU time in milliseconds. Absent here and below: the worker's own maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Host calls; lines of the log have limits of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_calls: Option<u64>,
    /// Requests sent by `http.fetch` and `wasi:http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound_requests: Option<u64>,
    /// Bytes of log lines, stdout and stderr together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// Lines of log, stdout and stderr together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_lines: Option<u64>,
    /// Bytes of the answer's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout_ms: DEFAULT_TIMEOUT_MS,
            memory_mb: DEFAULT_MEMORY_MB,
            cpu_ms: None,
            host_calls: None,
            outbound_requests: None,
            log_bytes: None,
            log_lines: None,
            response_bytes: None,
        }
    }
}

/// Limits that somebody asks for: a request, a manifest. What is absent is left to others; the lowest of all wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LimitSet {
    /// See [`Limits`], here and below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// A count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_calls: Option<u64>,
    /// A count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound_requests: Option<u64>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// A count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_lines: Option<u64>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_bytes: Option<u64>,
}

impl Limits {
    /// From a request: absent means the default; zero or above the maximum is refused rather than clamped, because
    /// a caller that asks for an hour would otherwise be surprised after five minutes.
    pub fn from_request(asked: &LimitSet) -> Result<Self, CallError> {
        let in_range = |name: &str, value: Option<u64>, default: u64, max: u64| match value {
            None => Ok(default),
            Some(v) if (1..=max).contains(&v) => Ok(v),
            Some(v) => Err(CallError::new(
                ErrorCode::InvalidRequest,
                format!("limits.{name} is {v}; it must be 1 to {max}"),
            )),
        };
        Ok(Self {
            timeout_ms: in_range("timeout_ms", asked.timeout_ms, DEFAULT_TIMEOUT_MS, MAX_TIMEOUT_MS)?,
            memory_mb: in_range("memory_mb", asked.memory_mb, DEFAULT_MEMORY_MB, MAX_MEMORY_MB)?,
            cpu_ms: asked.cpu_ms,
            host_calls: asked.host_calls,
            outbound_requests: asked.outbound_requests,
            log_bytes: asked.log_bytes,
            log_lines: asked.log_lines,
            response_bytes: asked.response_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_limits_are_the_documented_defaults() {
        let limits = Limits::from_request(&LimitSet::default()).unwrap();
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
            let asked = LimitSet { timeout_ms: t, memory_mb: m, ..LimitSet::default() };
            assert!(Limits::from_request(&asked).unwrap_err().message.contains(name));
        }
    }
}
