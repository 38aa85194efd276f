//! One trace from HTTP through NATS to the guest.

use longshore_tests::collector::Collector;
use longshore_tests::{Stack, wait};

fn contains(bodies: &[bytes::Bytes], part: &[u8]) -> bool {
    bodies.iter().any(|body| body.windows(part.len()).any(|window| window == part))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spans_of_shim_and_worker_belong_to_the_callers_trace() {
    let stack = Stack::start().await;
    let (of_worker, of_shim) = (Collector::start().await, Collector::start().await);
    let (to_worker, to_shim) = (of_worker.endpoint(), of_shim.endpoint());
    let otlp = |endpoint: &'static str| {
        [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "100")]
    };
    let (worker_settings, shim_settings) = (otlp(to_worker.leak()), otlp(to_shim.leak()));
    let (mut worker, mut shim) = tokio::join!(stack.worker(&worker_settings), stack.shim(&shim_settings));
    let echo = stack.install("tenant-1", "echo");
    let trace: [u8; 16] = rand::random();
    let hex: String = trace.iter().map(|byte| format!("{byte:02x}")).collect();
    let call = echo.get("/").header("traceparent", &format!("00-{hex}-00f067aa0ba902b7-01"));
    assert_eq!(shim.call(&call).await.status(), 200);

    for (collector, service) in [(&of_shim, "longshore-gateway-shim"), (&of_worker, "longshore-worker")] {
        wait::until(service, wait::LIMIT, async || {
            let traces = collector.bodies("/v1/traces");
            if contains(&traces, &trace) && contains(&traces, service.as_bytes()) {
                Ok(())
            } else {
                Err(traces.len())
            }
        })
        .await;
    }
    for name in ["execute", "fetch", "handler"] {
        wait::until(&format!("the worker's span `{name}`"), wait::LIMIT, async || {
            let traces = of_worker.bodies("/v1/traces");
            if contains(&traces, name.as_bytes()) { Ok(()) } else { Err(traces.len()) }
        })
        .await;
    }
    // Logs go the same way, and the end of a process sends what is left.
    for service in [&mut shim, &mut worker] {
        service.terminate();
        service.drained(wait::LIMIT).await;
    }
    assert!(contains(&of_worker.bodies("/v1/logs"), b"drained and ended"));
    assert!(contains(&of_shim.bodies("/v1/logs"), b"execution"));
}
