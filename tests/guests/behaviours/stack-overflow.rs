//! Calls itself without end: `?depth=N` ends after N calls and answers.
//!
//! The frames hold only WebAssembly locals, nothing on the shadow stack in linear memory, so it is the machine's stack that overflows.

use kit::{Query, Request, Response, json};

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    let Ok(depth) = query.number("depth", u64::MAX) else { return kit::bad_parameter("depth") };
    kit::json_body(&json!({ "depth": depth, "mixed": descend(depth, 1 + request.http.url.len() as u64) }))
}

/// What is done with the answer of the inner call is neither associative nor a plain accumulation, so no compiler turns this into a loop.
#[inline(never)]
fn descend(left: u64, seed: u64) -> u64 {
    if left == 0 {
        return seed;
    }
    let inner = descend(left - 1, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ left);
    inner.rotate_left(7).wrapping_mul(left | 1) ^ seed
}

kit::handler!(handle);
