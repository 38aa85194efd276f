//! Uses the processor and calls nothing: for ever, or for `?ms=N` of the monotonic clock.

use std::hint::black_box;

use kit::{Query, Request, Response, json, wasi};

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    if !query.has("ms") {
        let mut turns = 0_u64;
        loop {
            turns = black_box(turns.wrapping_add(1));
        }
    }
    let Ok(milliseconds) = query.number("ms", 0) else { return kit::bad_parameter("ms") };
    let until = wasi::now().saturating_add(milliseconds.saturating_mul(1_000_000));
    let mut turns = 0_u64;
    while wasi::now() < until {
        // The clock is a host call: most of the time must be spent in the guest.
        for _ in 0..100_000 {
            turns = black_box(turns.wrapping_add(1));
        }
    }
    kit::json_body(&json!({ "turns": turns }))
}

kit::handler!(handle);
