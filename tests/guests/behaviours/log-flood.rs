//! Writes `?n=` lines (1,000) of `?bytes=` bytes (100) to each target named by `?to=log,stdout,stderr` (all three), then answers what it wrote.
//! A line is its number, a space and padding of `x`; `?wide` pads with a three-byte character instead.

use kit::{Query, Request, Response, host::logging::log_info, json, wasi};

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    let Ok(count) = query.number("n", 1_000) else { return kit::bad_parameter("n") };
    let Ok(bytes) = query.number("bytes", 100) else { return kit::bad_parameter("bytes") };
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let pad = if query.has("wide") { "\u{20ac}" } else { "x" };
    let targets: Vec<&str> = query.or("to", "log,stdout,stderr").split(',').collect();
    for number in 0..count {
        let mut line = format!("{number} ");
        while line.len() < bytes {
            line.push_str(pad);
        }
        for target in &targets {
            match *target {
                "log" => log_info(&line),
                "stdout" => wasi::print(format!("{line}\n").as_bytes()),
                "stderr" => wasi::eprint(format!("{line}\n").as_bytes()),
                _ => return kit::bad_parameter("to"),
            }
        }
    }
    kit::json_body(&json!({ "lines": count, "targets": targets.len() }))
}

kit::handler!(handle);
