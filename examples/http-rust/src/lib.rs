//! Calling out with `http.fetch`: only to hosts that the install and the worker allow, and redirects are not followed.
//!
//!     GET  /get?url=U   ->  {"status": .., "type": .., "body": ".."}: what U answers
//!     POST /send?url=U  ->  the same, for a POST of the request's body as JSON
//!
//! A refused or failed call is 502 {"error": name}: `not-allowed` (the host, or the capability), `invalid-url`, `transport` (no connection, too slow),
//! `internal`.

wit_bindgen::generate!({ path: "../../proto/wit", world: "runner" });

use alga::extension::http;
use alga::extension::types::{HttpHeader, HttpRequest};
use serde_json::{Value, json};

impl Guest for Extension {
    fn handler(request: ExecuteRequest) -> ExecuteResponse {
        let url = parameter(&request.http.url, "url").unwrap_or_default();
        let accept = HttpHeader { name: "accept".to_owned(), value: "application/json, */*".to_owned() };
        let json_type = HttpHeader { name: "content-type".to_owned(), value: "application/json".to_owned() };
        match (request.http.method.as_str(), request.http.url.split('?').next().unwrap_or_default()) {
            ("GET", "/get") => {
                relay(HttpRequest { method: "GET".to_owned(), url, headers: vec![accept], body: None })
            }
            ("POST", "/send") => relay(HttpRequest {
                method: "POST".to_owned(),
                url,
                headers: vec![accept, json_type],
                body: request.http.body,
            }),
            _ => answer(
                404,
                &json!({ "error": "no such endpoint", "try": "GET /get?url=https://example.com/" }),
            ),
        }
    }
}

fn relay(request: HttpRequest) -> ExecuteResponse {
    let response = match http::fetch(&request) {
        Ok(response) => response,
        Err(error) => return answer(502, &json!({ "error": error.name() })),
    };
    let kind = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-type"));
    let body = response.body.unwrap_or_default();
    answer(
        200,
        &json!({
            "status": response.status,
            "type": kind.map(|header| header.value.as_str()),
            "body": String::from_utf8_lossy(&body),
        }),
    )
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
