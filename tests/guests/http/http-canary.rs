//! Answers with an error of `wasi:http` whose words have its secrets in them, one `?pad=` of characters before the first.

use http::bindings::alga::extension::secrets;
use http::{ErrorCode, IncomingRequest, ResponseOutparam, parameter};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let url = request.path_with_query().unwrap_or_default();
    let pad = parameter(&url, "pad").and_then(|n| n.parse().ok()).unwrap_or(0);
    let marker = parameter(&url, "marker").unwrap_or("no-marker");
    let values: Vec<String> =
        secrets::list_keys().iter().filter_map(|key| secrets::get(key).ok()).collect();
    let words = format!("{marker} {}{}", "x".repeat(pad), values.join(" "));
    ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some(words))));
}

http::handler!(handle);
