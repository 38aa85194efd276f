//! The limits of one run: the lowest of what the worker, the call (with its install) and the bundle's manifest say.
//! Who said so is kept, because an author who breaks a limit has to know where to raise it.

use std::fmt;

use longshore_proto::{ErrorCode, LimitSet, Limits};

/// Who has set a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetBy {
    /// The worker's own maximum.
    Worker,
    /// The call, or the install behind it.
    Call,
    /// The bundle's `manifest.json`.
    Manifest,
}

impl SetBy {
    /// As messages say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "the worker",
            Self::Call => "the call",
            Self::Manifest => "the manifest",
        }
    }
}

/// A limit and who has set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// In the unit of its kind.
    pub value: u64,
    /// Who.
    pub by: SetBy,
}

impl Limit {
    fn lowest(worker: u64, call: Option<u64>, manifest: Option<u64>) -> Self {
        let mut lowest = Self { value: worker, by: SetBy::Worker };
        for (value, by) in [(call, SetBy::Call), (manifest, SetBy::Manifest)] {
            if let Some(value) = value.filter(|v| *v < lowest.value) {
                lowest = Self { value, by };
            }
        }
        lowest
    }

    /// For counts and sizes in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.value).unwrap_or(usize::MAX)
    }
}

/// What one worker allows at most, whatever calls and manifests ask for.
#[derive(Debug, Clone, Copy)]
pub struct WorkerMaxima {
    /// Linear memories and tables of one run, in MiB.
    pub memory_mb: u64,
    /// CPU time of one run in milliseconds; none: its wall time bounds it.
    pub cpu_ms: Option<u64>,
    /// Host calls of one run; lines of the log do not count.
    pub host_calls: u64,
    /// Requests that one run sends to hosts of its choice.
    pub outbound_requests: u64,
    /// Bytes of log lines, stdout and stderr together.
    pub log_bytes: u64,
    /// Lines of log, stdout and stderr together.
    pub log_lines: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
}

impl Default for WorkerMaxima {
    /// 50 outbound requests are what Cloudflare's free plan allows; the others are documented beside their settings.
    fn default() -> Self {
        Self {
            memory_mb: longshore_proto::limits::MAX_MEMORY_MB,
            cpu_ms: None,
            host_calls: 10_000,
            outbound_requests: 50,
            log_bytes: 1 << 20,
            log_lines: 10_000,
            response_bytes: 16 << 20,
        }
    }
}

/// What one run may use.
#[derive(Debug, Clone, Copy)]
pub struct RunLimits {
    /// Wall time in milliseconds. The deadline of the call is what is left of it.
    pub timeout_ms: Limit,
    /// MiB.
    pub memory_mb: Limit,
    /// Milliseconds.
    pub cpu_ms: Limit,
    /// A count.
    pub host_calls: Limit,
    /// A count.
    pub outbound_requests: Limit,
    /// Bytes.
    pub log_bytes: Limit,
    /// A count.
    pub log_lines: Limit,
    /// Bytes.
    pub response_bytes: Limit,
}

impl RunLimits {
    /// The lowest of all.
    pub fn lowest(worker: &WorkerMaxima, call: &Limits, manifest: &LimitSet) -> Self {
        Self {
            timeout_ms: Limit::lowest(u64::MAX, Some(call.timeout_ms), manifest.timeout_ms),
            memory_mb: Limit::lowest(worker.memory_mb, Some(call.memory_mb), manifest.memory_mb),
            cpu_ms: Limit::lowest(worker.cpu_ms.unwrap_or(u64::MAX), call.cpu_ms, manifest.cpu_ms),
            host_calls: Limit::lowest(worker.host_calls, call.host_calls, manifest.host_calls),
            outbound_requests: Limit::lowest(
                worker.outbound_requests,
                call.outbound_requests,
                manifest.outbound_requests,
            ),
            log_bytes: Limit::lowest(worker.log_bytes, call.log_bytes, manifest.log_bytes),
            log_lines: Limit::lowest(worker.log_lines, call.log_lines, manifest.log_lines),
            response_bytes: Limit::lowest(
                worker.response_bytes,
                call.response_bytes,
                manifest.response_bytes,
            ),
        }
    }

    /// What a caller is told when a run ended with this code: the limit, its value and who has set it. `None` where
    /// the code is no broken limit.
    pub fn explain(&self, code: ErrorCode) -> Option<String> {
        let said = |limit: Limit, unit: &str| Some(Allowed(limit, unit).to_string());
        match code {
            ErrorCode::Timeout => said(self.timeout_ms, "ms"),
            ErrorCode::CpuTime => said(self.cpu_ms, "ms of CPU time"),
            ErrorCode::OutOfMemory => said(self.memory_mb, "MiB of memory and tables"),
            ErrorCode::HostCalls => said(self.host_calls, "host calls"),
            ErrorCode::OutboundRequests => said(self.outbound_requests, "outbound requests"),
            ErrorCode::ResponseTooLarge => said(self.response_bytes, "bytes of body"),
            ErrorCode::StackOverflow => {
                let value = crate::engine::runtime::WASM_STACK as u64;
                said(Limit { value, by: SetBy::Worker }, "bytes of stack")
            }
            _ => None,
        }
    }
}

struct Allowed<'a>(Limit, &'a str);

impl fmt::Display for Allowed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} are allowed by {}", self.0.value, self.1, self.0.by.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_wins_and_is_named() {
        let worker = WorkerMaxima { host_calls: 100, ..WorkerMaxima::default() };
        let lowest = |call, manifest| {
            let call = Limits { host_calls: call, ..Limits::default() };
            let manifest = LimitSet { host_calls: manifest, ..LimitSet::default() };
            RunLimits::lowest(&worker, &call, &manifest).host_calls
        };
        assert_eq!(lowest(None, None), Limit { value: 100, by: SetBy::Worker });
        assert_eq!(lowest(Some(10), Some(20)), Limit { value: 10, by: SetBy::Call });
        assert_eq!(lowest(Some(30), Some(20)), Limit { value: 20, by: SetBy::Manifest });
        assert_eq!(lowest(Some(1_000), Some(2_000)), Limit { value: 100, by: SetBy::Worker });
        assert_eq!(lowest(Some(0), None).value, 0);
    }

    #[test]
    fn a_broken_limit_is_explained_with_its_value_and_what_is_no_limit_is_not() {
        let manifest = LimitSet { cpu_ms: Some(250), ..LimitSet::default() };
        let limits = RunLimits::lowest(&WorkerMaxima::default(), &Limits::default(), &manifest);
        let text = limits.explain(ErrorCode::CpuTime).unwrap();
        assert_eq!(text, "250 ms of CPU time are allowed by the manifest");
        assert_eq!(limits.explain(ErrorCode::Trap), None);
    }
}
