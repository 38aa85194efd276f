//! Metrics of the UI side.

use longshore_service::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// How a request for an asset ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UiOutcome {
    /// The HTTP status.
    pub status: u16,
}

/// Where a hint came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HintLabel {
    /// `memory`, `shared` or `none`.
    pub source: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum HintSource {
    Memory,
    Shared,
    None,
}

/// Metrics of the UI side. Cheap to clone.
#[derive(Debug, Clone)]
pub struct UiMetrics {
    requests: Family<UiOutcome, Counter>,
    hints: Family<HintLabel, Counter>,
    pub(super) hashed: Counter,
    pub(super) encoded: Counter,
}

impl UiMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            requests: metrics.register(
                "shim_ui_requests",
                "Requests for UI assets, host dispatch included, by HTTP status",
                Family::default(),
            ),
            hints: metrics.register(
                "shim_ui_hints",
                "Requests without a tenant by where it was found: memory, shared or none",
                Family::default(),
            ),
            hashed: metrics.register(
                "shim_ui_files_hashed",
                "UI files read to the end for their ETag; once per file as long as it is remembered",
                Counter::default(),
            ),
            encoded: metrics.register(
                "shim_ui_files_encoded",
                "Compressed copies of UI files that were made",
                Counter::default(),
            ),
        }
    }

    pub(super) fn answered(&self, status: http::StatusCode) {
        self.requests.get_or_create(&UiOutcome { status: status.as_u16() }).inc();
    }

    pub(super) fn hint(&self, source: HintSource) {
        let source = match source {
            HintSource::Memory => "memory",
            HintSource::Shared => "shared",
            HintSource::None => "none",
        };
        self.hints.get_or_create(&HintLabel { source }).inc();
    }
}
