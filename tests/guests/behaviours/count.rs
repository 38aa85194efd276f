//! Leaves evidence of every run outside of itself, so that a test can count how often a call ran: logs `ran <id>` before anything else (`?id=`),
//! sleeps `?ms=N` (0), logs `done <id>` and answers the id.

use kit::{Query, Request, Response, host::logging::log_info, wasi};

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    let id = query.or("id", "none");
    log_info(&format!("ran {id}"));
    let Ok(milliseconds) = query.number("ms", 0) else { return kit::bad_parameter("ms") };
    if milliseconds > 0 {
        wasi::sleep(milliseconds);
    }
    log_info(&format!("done {id}"));
    kit::text(id)
}

kit::handler!(handle);
