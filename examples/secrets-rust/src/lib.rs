//! Secrets: the install's sealed values, as a value and as a handle.
//!
//!     GET  /keys          ->  {"keys": [..]}: their names
//!     GET  /check?key=K   ->  {"key": K, "length": n}, or 404 {"error": "missing"}: uses the value, never shows it
//!     POST /call?url=U    ->  {"status": n}: calls U with the secret `api_key` as bearer token
//!
//! For the last one the host puts the value in for `{{secret:api_key}}`, and only for the hosts that the secret names: this extension never has it in
//! its memory.

wit_bindgen::generate!({ path: "../../proto/wit", world: "runner" });

use alga::extension::types::{HttpHeader, HttpRequest, SecretError};
use alga::extension::{http, secrets};
use serde_json::{Value, json};

impl Guest for Extension {
    fn handler(request: ExecuteRequest) -> ExecuteResponse {
        let url = &request.http.url;
        match (request.http.method.as_str(), url.split('?').next().unwrap_or_default()) {
            ("GET", "/keys") => {
                let mut keys = secrets::list_keys();
                keys.sort();
                answer(200, &json!({ "keys": keys }))
            }
            ("GET", "/check") => check(&parameter(url, "key").unwrap_or_default()),
            ("POST", "/call") => call(parameter(url, "url").unwrap_or_default()),
            _ => answer(404, &json!({ "error": "no such endpoint", "try": "GET /keys" })),
        }
    }
}

fn check(key: &str) -> ExecuteResponse {
    match secrets::get(key) {
        Ok(value) => answer(200, &json!({ "key": key, "length": value.chars().count() })),
        Err(SecretError::Missing) => answer(404, &json!({ "error": "missing" })),
        Err(error) => answer(502, &json!({ "error": error.name() })),
    }
}

fn call(url: String) -> ExecuteResponse {
    let bearer =
        HttpHeader { name: "authorization".to_owned(), value: "Bearer {{secret:api_key}}".to_owned() };
    match http::fetch(&HttpRequest { method: "GET".to_owned(), url, headers: vec![bearer], body: None }) {
        Ok(response) => answer(200, &json!({ "status": response.status })),
        Err(error) => answer(502, &json!({ "error": error.name() })),
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
