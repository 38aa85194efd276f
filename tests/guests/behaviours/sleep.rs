//! Sleeps `?ms=N` (1,000) on the monotonic clock's pollable, `?times=N` times (1), then answers how long it took.

use kit::{Query, Request, Response, json, wasi};

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    let Ok(milliseconds) = query.number("ms", 1_000) else { return kit::bad_parameter("ms") };
    let Ok(times) = query.number("times", 1) else { return kit::bad_parameter("times") };
    let start = wasi::now();
    for _ in 0..times {
        wasi::sleep(milliseconds);
    }
    kit::json_body(
        &json!({ "asked_ms": milliseconds.saturating_mul(times), "slept_ms": (wasi::now() - start) / 1_000_000 }),
    )
}

kit::handler!(handle);
