//! The W3C trace context between processes (`traceparent`, `tracestate`).
//!
//! Both functions do nothing when nothing is exported. Who passes a call on should then pass the `traceparent` it got on as text, so that a trace is not
//! cut by a process that takes no part in it.

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const FIELDS: [&str; 2] = ["traceparent", "tracestate"];

/// The headers that make what the receiver does a child of `span`; empty when the span is not exported.
pub fn inject(span: &Span) -> Vec<(String, String)> {
    struct Headers(Vec<(String, String)>);
    impl Injector for Headers {
        fn set(&mut self, key: &str, value: String) {
            if !value.is_empty() {
                self.0.push((key.to_owned(), value));
            }
        }
    }
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return Vec::new();
    }
    let mut headers = Headers(Vec::with_capacity(FIELDS.len()));
    TraceContextPropagator::new().inject_context(&context, &mut headers);
    headers.0
}

/// Makes `span` a child of the sender's span, as `get` finds it in the headers of a message. To be called before the span is entered; an invalid context
/// is ignored, as the standard demands.
pub fn set_parent(span: &Span, get: impl Fn(&str) -> Option<String>) {
    struct Headers([(&'static str, Option<String>); 2]);
    impl Extractor for Headers {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.iter().find(|(name, _)| *name == key)?.1.as_deref()
        }
        fn keys(&self) -> Vec<&str> {
            FIELDS.to_vec()
        }
    }
    if span.is_disabled() {
        return;
    }
    let Some(parent) = get("traceparent") else { return };
    let headers = Headers([("traceparent", Some(parent)), ("tracestate", get("tracestate"))]);
    // An error means that there is no exporter, or that the span is running already and keeps its parent.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&headers));
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn exported<T>(work: impl FnOnce() -> T) -> T {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work)
    }

    fn sent(headers: &[(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        let headers = headers.to_vec();
        move |key| headers.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn a_trace_goes_through_a_process_with_its_state() {
        exported(|| {
            let span = tracing::info_span!("hop");
            set_parent(&span, sent(&[("traceparent", PARENT), ("tracestate", "vendor=1")]));
            let headers = inject(&span);
            let parent = &headers.iter().find(|(key, _)| key == "traceparent").unwrap().1;
            assert!(parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{parent}");
            assert_ne!(parent, PARENT, "the child has an id of its own");
            assert!(headers.contains(&("tracestate".to_owned(), "vendor=1".to_owned())));
        });
    }

    #[test]
    fn an_invalid_context_starts_a_new_trace() {
        for parent in ["", "00-0-0-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "junk"] {
            exported(|| {
                let span = tracing::info_span!("hop");
                let headers = [("traceparent", parent)].map(|(k, v)| (k, v.to_owned()));
                set_parent(&span, |key| headers.iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone()));
                let injected = inject(&span);
                let traceparent = &injected.first().unwrap().1;
                assert!(!traceparent.contains("0af7651916cd43dd8448eb211c80319c"));
                assert_eq!(traceparent.len(), PARENT.len());
            });
        }
    }

    #[test]
    fn nothing_is_injected_when_nothing_is_exported() {
        let span = tracing::info_span!("hop");
        set_parent(&span, sent(&[("traceparent", PARENT)]));
        assert!(inject(&span).is_empty());
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            let span = tracing::info_span!("hop");
            set_parent(&span, sent(&[("traceparent", PARENT)]));
            assert!(inject(&span).is_empty());
        });
    }
}
