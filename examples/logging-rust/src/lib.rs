//! Structured logging. Lines of the call go to the worker's log and into the debug stream, from which they can be watched live; `println!` says nothing.
//!
//!     GET /check?url=U  ->  {"ok": true}, or 500 {"ok": false, "error": name}: logs the request, and what U answers
//!
//! A message that is a JSON object becomes fields of the event instead of text.

wit_bindgen::generate!({ path: "../../proto/wit", world: "runner" });

use alga::extension::http;
use alga::extension::logging::{log_error, log_info, log_warn};
use alga::extension::types::{HttpHeader, HttpRequest};
use serde_json::{Value, json};

impl Guest for Extension {
    fn handler(request: ExecuteRequest) -> ExecuteResponse {
        let (method, url) = (request.http.method, request.http.url);
        log_info(&json!({ "message": "processing request", "method": method, "url": url }).to_string());
        let url = parameter(&url, "url").unwrap_or_default();
        match http::fetch(&HttpRequest { method: "GET".to_owned(), url, headers: Vec::new(), body: None }) {
            Ok(data) => {
                if data.status >= 400 {
                    log_warn(&json!({ "message": "upstream refused", "status": data.status }).to_string());
                }
                log_info(&json!({ "message": "upstream response", "status": data.status }).to_string());
                answer(200, &json!({ "ok": true }))
            }
            Err(error) => {
                log_error(&json!({ "message": "request failed", "error": error.name() }).to_string());
                answer(500, &json!({ "ok": false, "error": error.name() }))
            }
        }
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
