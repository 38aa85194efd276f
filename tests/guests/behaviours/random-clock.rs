//! Answers what wasi:random and wasi:clocks gave. 64-bit numbers are strings, since JSON readers round them.

use std::fmt::Write;

use kit::{Query, Request, Response, bindings::wasi, json};
use wasi::clocks::{monotonic_clock, wall_clock};
use wasi::random::{insecure, insecure_seed, random};

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    let Ok(bytes) = query.number("bytes", 16) else { return kit::bad_parameter("bytes") };
    let wall = wall_clock::now();
    let first = monotonic_clock::now();
    let second = monotonic_clock::now();
    let seed = insecure_seed::insecure_seed();
    kit::json_body(&json!({
        "random_u64": random::get_random_u64().to_string(),
        "random_bytes": hex(&random::get_random_bytes(bytes)),
        "insecure_u64": insecure::get_insecure_random_u64().to_string(),
        "insecure_bytes": hex(&insecure::get_insecure_random_bytes(bytes)),
        "insecure_seed": [seed.0.to_string(), seed.1.to_string()],
        "wall_seconds": wall.seconds,
        "wall_nanoseconds": wall.nanoseconds,
        "wall_resolution_ns": wall_clock::resolution().nanoseconds,
        "monotonic": [first.to_string(), second.to_string()],
        "monotonic_resolution_ns": monotonic_clock::resolution(),
    }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

kit::handler!(handle);
