//! What remains of a request: one log line and its metrics, written exactly once, also when the caller goes away.

use longshore_proto::{ErrorCode, ExecutionId};
use tokio::time::Instant;

use super::metrics::{OutcomeLabel, RouteMetrics};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With the guest's answer.
    Answer(u16),
    /// With an envelope that says why not.
    Failed(ErrorCode),
    /// With a real status that says why not: through `/api/ext`.
    Told(ErrorCode, u16),
    /// With a transport status, before there was a call.
    Refused(u16),
    /// In the middle of an answer that was lost.
    Reset,
    /// The caller did not wait.
    ClientGone,
}

impl Ended {
    /// The label of the metrics and the `outcome` of the log line.
    const fn code(self) -> &'static str {
        match self {
            Self::Answer(_) => "ok",
            Self::Failed(code) | Self::Told(code, _) => code.as_str(),
            Self::Refused(401) => "http_401",
            Self::Refused(413) => "http_413",
            Self::Refused(415) => "http_415",
            Self::Refused(422) => "http_422",
            Self::Refused(_) => "http_400",
            Self::Reset => "reset",
            Self::ClientGone => "client_gone",
        }
    }

    const fn status(self) -> u16 {
        match self {
            Self::Answer(status) | Self::Refused(status) | Self::Told(_, status) => status,
            Self::Failed(code) => code.status(),
            // Nobody saw one; access logs elsewhere use 499 for it.
            Self::Reset | Self::ClientGone => 499,
        }
    }
}

/// Bounds what a caller can put into a log line.
const MAX_REQUEST_ID: usize = 128;

/// A request under way.
#[derive(Debug)]
pub(crate) struct Record {
    metrics: RouteMetrics,
    arrived: Instant,
    execution: ExecutionId,
    tenant: String,
    extension: String,
    request: String,
    written: bool,
}

impl Record {
    pub(crate) fn open(metrics: RouteMetrics, arrived: Instant, execution: ExecutionId) -> Self {
        metrics.in_flight.inc();
        Self {
            metrics,
            arrived,
            execution,
            tenant: String::new(),
            extension: String::new(),
            request: String::new(),
            written: false,
        }
    }

    /// Who calls what, as far as it is known; ids must have been checked.
    pub(crate) fn name(&mut self, tenant: &str, extension: &str) {
        tenant.clone_into(&mut self.tenant);
        extension.clone_into(&mut self.extension);
    }

    /// The caller's id for its request.
    pub(crate) fn request(&mut self, id: &str) {
        self.request = id.chars().filter(char::is_ascii_graphic).take(MAX_REQUEST_ID).collect();
    }

    pub(crate) fn end(mut self, how: Ended) {
        self.write(how);
    }

    fn write(&mut self, how: Ended) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        let took = self.arrived.elapsed();
        self.metrics.in_flight.dec();
        self.metrics.seconds.observe(took.as_secs_f64());
        self.metrics.requests.get_or_create(&OutcomeLabel { code: how.code() }).inc();
        tracing::info!(
            target: "execution",
            route = self.metrics.route,
            outcome = how.code(),
            status = how.status(),
            tenant = self.tenant,
            extension = self.extension,
            execution = %self.execution,
            request = self.request,
            ms = took.as_secs_f64() * 1_000.0,
            "execution"
        );
    }
}

impl Drop for Record {
    /// The future or the body was dropped before its end.
    fn drop(&mut self) {
        self.write(Ended::ClientGone);
    }
}

#[cfg(test)]
mod tests {
    use longshore_service::metrics::Metrics;

    use super::super::metrics::HttpMetrics;
    use super::*;

    #[tokio::test]
    async fn a_request_counts_once_however_it_ends() {
        let all = Metrics::new("shim");
        let metrics = HttpMetrics::register(&all).execute;
        let open = || Record::open(metrics.clone(), Instant::now(), ExecutionId::from_bytes([1; 16]));
        open().end(Ended::Answer(200));
        open().end(Ended::Failed(ErrorCode::Trap));
        open().end(Ended::Refused(413));
        drop(open());
        let page = all.render().unwrap();
        for code in ["ok", "execute_failed: trap", "http_413", "client_gone"] {
            let line = format!("longshore_shim_requests_total{{code=\"{code}\"}} 1");
            assert!(page.contains(&line), "{line} is missing in\n{page}");
        }
        assert!(page.contains("longshore_shim_requests_in_flight 0"));
        assert!(page.contains("longshore_shim_request_seconds_count 4"));
    }

    #[tokio::test]
    async fn a_request_id_cannot_forge_or_flood_a_log_line() {
        let metrics = HttpMetrics::register(&Metrics::new("shim")).execute;
        let mut record = Record::open(metrics, Instant::now(), ExecutionId::from_bytes([1; 16]));
        record.request(&format!("a\n\u{1b}[31m{}", "x".repeat(500)));
        assert!(record.request.starts_with("a[31mx"));
        assert_eq!(record.request.len(), MAX_REQUEST_ID);
    }
}
