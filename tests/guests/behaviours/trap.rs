//! Traps: `?kind=unreachable` (the default), `panic` (its message goes to stderr first), `divide`, `out-of-bounds`, `bad-call` (an indirect call of
//! the wrong type). `?after=N` logs N lines before. `?kind=none` answers.

use std::{hint::black_box, panic};

use kit::{Query, Request, Response, host::logging::log_info, json, wasi};

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    let Ok(lines) = query.number("after", 0) else { return kit::bad_parameter("after") };
    for line in 0..lines {
        log_info(&format!("line {line}"));
    }
    match query.or("kind", "unreachable") {
        "none" => kit::json_body(&json!({ "trapped": false })),
        "unreachable" => trap(),
        "panic" => {
            // wasm32-unknown-unknown drops panic messages; a guest that wants them writes them itself.
            panic::set_hook(Box::new(|info| wasi::eprint(format!("{info}\n").as_bytes())));
            panic!("this guest panics when asked to");
        }
        "divide" => kit::json_body(&json!(divide(black_box(7), black_box(0)))),
        "out-of-bounds" => kit::json_body(&json!(read(black_box(usize::MAX - 7)))),
        "bad-call" => kit::json_body(&json!(call_as_another(black_box(give)))),
        _ => kit::bad_parameter("kind"),
    }
}

fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

fn divide(left: u32, right: u32) -> u32 {
    // SAFETY: none is claimed; with Rust's own check of the divisor removed, the machine's instruction traps.
    unsafe { std::hint::assert_unchecked(right != 0) };
    left / right
}

fn read(address: usize) -> u64 {
    // SAFETY: none is claimed; the address lies outside of the memory, so the read traps.
    unsafe { (address as *const u64).read_volatile() }
}

fn give(value: u32) -> u32 {
    value
}

fn call_as_another(function: fn(u32) -> u32) -> f64 {
    // SAFETY: none is claimed; the machine checks the type of an indirect call and traps.
    let function: fn(f64, f64) -> f64 = unsafe { std::mem::transmute(function) };
    function(1.0, 2.0)
}

kit::handler!(handle);
