//! Logging: lines of the call go to the worker's log and into the debug stream, from which they can be watched live. `println!` says nothing.
//!
//!     POST /work?items=n  ->  {"done": n}: one line at the start and one for each item, a warning above 10 items, an error for a number that is none
//!
//! A message that is a JSON object becomes fields of the event instead of text.

wit_bindgen::generate!({ path: "../../proto/wit", world: "runner" });

use alga::extension::logging::{log_error, log_info, log_warn};
use alga::extension::types::HttpHeader;
use serde_json::{Value, json};

impl Guest for Extension {
    fn handler(request: ExecuteRequest) -> ExecuteResponse {
        let (method, url) = (request.http.method.as_str(), request.http.url.as_str());
        log_info(&format!("{method} {url}"));
        if (method, url.split('?').next()) != ("POST", Some("/work")) {
            return answer(404, &json!({ "error": "no such endpoint", "try": "POST /work?items=3" }));
        }
        let given = parameter(url, "items").unwrap_or_else(|| "1".to_owned());
        let Ok(items) = given.parse::<u32>() else {
            log_error(&json!({ "message": "bad number of items", "items": given }).to_string());
            return answer(400, &json!({ "error": "items is no whole number" }));
        };
        if items > 10 {
            log_warn(&format!("{items} items are many: 10 are done"));
        }
        let done = items.min(10);
        for item in 1..=done {
            log_info(&json!({ "message": "item done", "item": item, "of": items }).to_string());
        }
        answer(200, &json!({ "done": done }))
    }
}

/// The first value of a parameter in the url's query, decoded.
fn parameter(url: &str, wanted: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == wanted)
        .map(|(_, value)| value.into_owned())
}

fn answer(status: u16, body: &Value) -> ExecuteResponse {
    ExecuteResponse {
        status,
        headers: vec![HttpHeader { name: "content-type".to_owned(), value: "application/json".to_owned() }],
        body: Some(body.to_string().into_bytes()),
    }
}

struct Extension;

export!(Extension);
