//! An install as a run: everything but the request comes from the registry.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longshore_proto::call::CaptureLevel;
use longshore_proto::install::Install;
use longshore_proto::limits::{DEFAULT_MEMORY_MB, Limits, MAX_MEMORY_MB};
use longshore_proto::{ExecutionId, Run, RunContext, RunHttp};

/// What runs for a request to this install, within `timeout`. The lowest of all limits holds: those of the bundle's manifest
/// and of the worker are added there.
pub(crate) fn run_of(
    install: &Install,
    execution: ExecutionId,
    http: RunHttp,
    request_id: String,
    timeout: Duration,
) -> Run {
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let asked = &install.limits;
    let limits = Limits {
        timeout_ms: asked.timeout_ms.map_or(timeout_ms, |install| install.min(timeout_ms)).max(1),
        memory_mb: asked.memory_mb.unwrap_or(DEFAULT_MEMORY_MB).clamp(1, MAX_MEMORY_MB),
        cpu_ms: asked.cpu_ms,
        host_calls: asked.host_calls,
        outbound_requests: asked.outbound_requests,
        log_bytes: asked.log_bytes,
        log_lines: asked.log_lines,
        response_bytes: asked.response_bytes,
    };
    Run {
        context: RunContext {
            request_id: Some(request_id),
            tenant: install.tenant.clone(),
            extension: install.extension.clone(),
            install_id: Some(install.install_id.clone()),
            version_id: Some(install.version.version_id.clone()),
            content_hash: install.version.content_hash,
            config: install.config.clone(),
            trigger: None,
        },
        http,
        limits,
        capabilities: install.capabilities,
        user: None,
        secret_envelope: install.secrets.clone(),
        egress: install.egress.clone(),
        capture: capture_of(install, execution),
    }
}

/// What is published of a run that begins now.
pub(crate) fn capture_of(install: &Install, execution: ExecutionId) -> CaptureLevel {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    install.capture_of(execution, u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_the_installs_rights_and_the_lower_timeout() {
        let install: Install = serde_json::from_value(serde_json::json!({
            "install_id": "i", "tenant": "t", "extension": "e", "version_id": "v", "content_hash": "00".repeat(32),
            "config": {"k": "v"}, "capabilities": ["cap:http.fetch"], "egress": ["api.example.com"], "capture": "off",
            "limits": {"timeout_ms": 2_000, "memory_mb": 9_999, "host_calls": 5},
            "secrets": {"ciphertext_b64": "c", "algorithm": "a"}
        }))
        .unwrap();
        let http =
            RunHttp { method: "GET".into(), url: "/".into(), headers: vec![], scheme: None, authority: None };
        let execution = ExecutionId::from_bytes([1; 16]);
        let run = run_of(&install, execution, http.clone(), "r".to_owned(), Duration::from_secs(30));
        assert_eq!(
            (run.limits.timeout_ms, run.limits.memory_mb, run.limits.host_calls),
            (2_000, MAX_MEMORY_MB, Some(5))
        );
        assert_eq!(
            (run.capabilities, &run.egress, run.capture),
            (install.capabilities, &install.egress, install.capture)
        );
        assert_eq!(run.secret_envelope, install.secrets);
        let context = &run.context;
        assert_eq!(context.install_id.as_deref(), Some("i"));
        assert_eq!((context.version_id.as_deref(), context.request_id.as_deref()), (Some("v"), Some("r")));
        assert_eq!(context.config["k"], "v");
        assert_eq!(
            run_of(&install, execution, http, "r".to_owned(), Duration::from_secs(1)).limits.timeout_ms,
            1_000
        );
    }
}
