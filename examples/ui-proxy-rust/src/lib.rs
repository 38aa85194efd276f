//! The platform's own HTTP API, called as the user of this call: the host adds the ids and, if the install has a secret `api_key`, that.
//!
//!     GET  /tickets  ->  what the platform's GET  /api/v1/tickets answers
//!     POST /tickets  ->  what the platform's POST /api/v1/tickets answers to the request's JSON
//!
//! A payload makes it a POST, none a GET. A refusal is {"error": name}: `route-not-found` 404, `denied` 403, `bad-request` 400, `internal` 502.

wit_bindgen::generate!({ path: "../../proto/wit", world: "runner" });

use alga::extension::types::{HttpHeader, ProxyError};
use alga::extension::ui_proxy;
use serde_json::{Value, json};

impl Guest for Extension {
    fn handler(request: ExecuteRequest) -> ExecuteResponse {
        let payload = match (request.http.method.as_str(), request.http.url.split('?').next()) {
            ("GET", Some("/tickets")) => None,
            ("POST", Some("/tickets")) => Some(request.http.body.unwrap_or_default()),
            _ => return answer(404, &json!({ "error": "no such endpoint", "try": "GET /tickets" })),
        };
        // A route that starts with /api/ is the platform's; any other is put under this extension's id.
        match ui_proxy::call_route("/api/v1/tickets", payload.as_deref()) {
            Ok(body) => ExecuteResponse { body: Some(body), ..answer(200, &Value::Null) },
            Err(error) => {
                let status = match error {
                    ProxyError::RouteNotFound => 404,
                    ProxyError::Denied => 403,
                    ProxyError::BadRequest => 400,
                    ProxyError::Internal => 502,
                };
                answer(status, &json!({ "error": error.name() }))
            }
        }
    }
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
