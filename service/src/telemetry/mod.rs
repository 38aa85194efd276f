//! Logs to stdout, traces and logs to OpenTelemetry.
//!
//! One line per event on stdout, for people in a terminal and as JSON elsewhere. Traces and logs leave over OTLP (HTTP, protobuf) only when an endpoint
//! is set; what cannot be sent in time is dropped and counted by the exporter, never waited for.

mod otlp;
mod propagation;

use std::io::IsTerminal;
use std::time::Duration;

use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

use crate::config::{LogFormat, TelemetryConfig};
pub use propagation::{inject, set_parent};

/// `async_nats` logs every event and failed attempt by itself; [`crate::nats`] logs the changes of state instead. The others tell at `info` what
/// only their developers want to know. A directive of the user's for the same target wins.
const QUIET: &str = "async_nats=off,hyper=warn,hyper_util=warn,rustls=warn,opentelemetry=warn,opentelemetry_sdk=warn,opentelemetry_otlp=warn";

/// Targets whose lines come from sending telemetry itself: exported, they would cause more of their kind for ever.
const NEVER_EXPORTED: [&str; 5] = ["opentelemetry", "hyper", "h2", "rustls", "tower"];

/// Telemetry cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read; a checked [`TelemetryConfig`] has a readable one.
    #[error("RUST_LOG cannot be read")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// The exporter cannot be made.
    #[error("the OTLP exporter cannot be set up")]
    Otlp(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Somebody has set up logging before.
    #[error("logging has been set up before")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Sends what is left when the process ends. Keep it in `main` to the end.
#[must_use = "telemetry ends when this is dropped"]
pub struct TelemetryGuard {
    otlp: Option<otlp::Exporters>,
}

impl TelemetryGuard {
    /// How long the end of the process waits for the collector, all in all.
    pub const FLUSH_LIMIT: Duration = Duration::from_secs(3);

    /// Sends what is left; as dropping, for places where the moment matters.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some(otlp) = self.otlp.take() {
            otlp.shutdown(Self::FLUSH_LIMIT);
        }
    }
}

/// Whether `filter` can be a `RUST_LOG`.
pub(crate) fn filter_is_valid(filter: &str) -> bool {
    EnvFilter::builder().parse(filter).is_ok()
}

/// Sets up logging for the process; `role` is `worker`, `gateway-shim` or `longshore`. Needs no tokio runtime.
pub fn init(role: &'static str, config: &TelemetryConfig) -> Result<TelemetryGuard, TelemetryError> {
    let filter =
        EnvFilter::builder().parse(format!("{QUIET},{}", config.filter)).map_err(TelemetryError::Filter)?;
    let terminal = std::io::stdout().is_terminal();
    let human = match config.format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let lines: Box<dyn Layer<Registry> + Send + Sync> = if human {
        fmt::layer().with_ansi(terminal).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_span_list(false).boxed()
    };
    let mut layers = vec![lines];
    let otlp = match &config.otlp_endpoint {
        None => None,
        Some(endpoint) => {
            let name = config.service_name.clone().unwrap_or_else(|| format!("longshore-{role}"));
            let exporters = otlp::Exporters::start(endpoint, name).map_err(TelemetryError::Otlp)?;
            layers.push(exporters.traces(role).with_filter(exported()).boxed());
            layers.push(exporters.logs().with_filter(exported()).boxed());
            Some(exporters)
        }
    };
    // The filter is global, so a span that is not logged costs nothing and is not exported either.
    tracing_subscriber::registry().with(layers).with(filter).try_init().map_err(TelemetryError::Twice)?;
    Ok(TelemetryGuard { otlp })
}

fn exported() -> impl tracing_subscriber::layer::Filter<Registry> + Send + Sync {
    filter_fn(|meta| !NEVER_EXPORTED.iter().any(|target| meta.target().starts_with(target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_checked_before_it_is_used() {
        for good in ["info", "off", "info,longshore_worker=debug", "", "warn,async_nats=trace"] {
            assert!(filter_is_valid(good), "{good}");
        }
        for bad in ["info,longshore=loud", "a=b=c", "[{"] {
            assert!(!filter_is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn the_defaults_for_noisy_crates_are_a_valid_filter() {
        assert!(filter_is_valid(QUIET));
    }
}
