//! Exporters that run on a thread of their own.
//!
//! The SDK's batch processors export from plain threads, and hyper needs a tokio runtime. So the exporters have a runtime of one thread: it is independent of
//! the process's own (which may be busy with guests, or gone when the last spans are flushed).

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{LogExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use tokio::runtime::{Handle, Runtime};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::Registry;
use url::Url;

/// For one request to the collector; below the flush limit, so that a dead collector does not use it up in one attempt.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Both exporters and the runtime they send on.
pub(super) struct Exporters {
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
    runtime: Runtime,
}

impl Exporters {
    pub(super) fn start(endpoint: &Url, service_name: String) -> Result<Self, BoxError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("otlp-export")
            .enable_all()
            .build()?;
        let client = client(endpoint, runtime.handle().clone())?;
        let resource = Resource::builder().with_service_name(service_name).build();
        let traces = SpanExporter::builder()
            .with_http()
            .with_shared_http_client(client.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(REQUEST_TIMEOUT)
            .with_endpoint(signal_url(endpoint, "v1/traces"))
            .build()?;
        let logs = LogExporter::builder()
            .with_http()
            .with_shared_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(REQUEST_TIMEOUT)
            .with_endpoint(signal_url(endpoint, "v1/logs"))
            .build()?;
        Ok(Self {
            traces: SdkTracerProvider::builder()
                .with_batch_exporter(traces)
                .with_resource(resource.clone())
                .build(),
            logs: SdkLoggerProvider::builder().with_batch_exporter(logs).with_resource(resource).build(),
            runtime,
        })
    }

    pub(super) fn traces(&self, scope: &'static str) -> OpenTelemetryLayer<Registry, Tracer> {
        tracing_opentelemetry::layer().with_tracer(self.traces.tracer(scope))
    }

    pub(super) fn logs(&self) -> OpenTelemetryTracingBridge<SdkLoggerProvider, SdkLogger> {
        OpenTelemetryTracingBridge::new(&self.logs)
    }

    pub(super) fn shutdown(self, limit: Duration) {
        let started = Instant::now();
        // Failures have been logged by the SDK; the process ends either way.
        let _ = self.traces.shutdown_with_timeout(limit / 2);
        let _ = self.logs.shutdown_with_timeout(limit.saturating_sub(started.elapsed()));
        self.runtime.shutdown_background();
    }
}

/// The endpoint is a base URL: the path of the signal is appended to its own.
fn signal_url(endpoint: &Url, path: &str) -> String {
    format!("{}/{path}", endpoint.as_str().trim_end_matches('/'))
}

/// Certificates are read only for `https`: a slim image may have none.
fn client(endpoint: &Url, runtime: Handle) -> Result<Arc<dyn HttpClient>, BoxError> {
    let mut http = HttpConnector::new();
    if endpoint.scheme() != "https" {
        return Ok(Arc::new(OnRuntime { runtime, client: HyperClient::new(http, REQUEST_TIMEOUT, None) }));
    }
    http.enforce_http(false);
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
        .https_only()
        .enable_http1()
        .wrap_connector(http);
    Ok(Arc::new(OnRuntime { runtime, client: HyperClient::new(https, REQUEST_TIMEOUT, None) }))
}

/// Sends on its runtime, whichever thread asks.
#[derive(Debug)]
struct OnRuntime<C> {
    runtime: Handle,
    client: C,
}

#[async_trait]
impl<C: HttpClient + Clone + 'static> HttpClient for OnRuntime<C> {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(async move { client.send_bytes(request).await }).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_signal_is_appended_to_the_endpoint() {
        for (endpoint, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
            ("https://collector/otlp/", "https://collector/otlp/v1/traces"),
        ] {
            assert_eq!(signal_url(&endpoint.parse().unwrap(), "v1/traces"), url);
        }
    }

    #[test]
    fn a_collector_that_never_answers_holds_up_neither_spans_nor_the_end() {
        use tracing_subscriber::layer::SubscriberExt;
        let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint: Url = format!("http://{}", deaf.local_addr().unwrap()).parse().unwrap();
        let exporters = Exporters::start(&endpoint, "test".to_owned()).unwrap();
        let subscriber = tracing_subscriber::registry().with(exporters.traces("test")).with(exporters.logs());
        let started = Instant::now();
        tracing::subscriber::with_default(subscriber, || {
            // More than the queue holds: what does not fit is dropped.
            for call in 0..20_000 {
                tracing::info_span!("call", call).in_scope(|| tracing::info!("line"));
            }
        });
        assert!(started.elapsed() < Duration::from_secs(10), "spans waited: {:?}", started.elapsed());
        let started = Instant::now();
        let limit = Duration::from_secs(1);
        exporters.shutdown(limit);
        assert!(started.elapsed() < limit * 2, "the end waited: {:?}", started.elapsed());
    }
}
