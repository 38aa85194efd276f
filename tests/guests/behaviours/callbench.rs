//! Calls one host function `?n=` times (10,000) and nothing else, for the benchmark: what is left of the guest in the time of a call is the
//! loop. `?fn=` is `context.get-context`, `user.get-user`, `secrets.get` (of `?key=`) or `storage.get` (of `?namespace=` and `?key=`). Answers
//! how many calls gave a value, as text: a benchmark of refusals would be none of calls.

use kit::{Query, Request, Response, host};

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    let Ok(calls) = query.number("n", 10_000) else { return kit::bad_parameter("n") };
    let (namespace, key) = (query.or("namespace", "bench"), query.or("key", "key"));
    let given = match query.or("fn", "context.get-context") {
        "context.get-context" => {
            repeat(calls, || host::context::get_context().tenant_id == request.context.tenant_id)
        }
        "user.get-user" => repeat(calls, || host::user::get_user().is_ok()),
        "secrets.get" => repeat(calls, || host::secrets::get(key).is_ok()),
        "storage.get" => repeat(calls, || host::storage::get(namespace, key).is_ok()),
        _ => return kit::bad_parameter("fn"),
    };
    kit::text(given.to_string())
}

fn repeat(calls: u64, mut gave: impl FnMut() -> bool) -> u64 {
    (0..calls).map(|_| u64::from(gave())).sum()
}

kit::handler!(handle);
