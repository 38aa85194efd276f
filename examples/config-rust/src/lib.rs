//! The configuration of the install, which the twelve interfaces do not carry: through the standard `wasi:config/store`, imported beside them. The
//! world is in ../config-wit. (A component with `wasi:cli/environment` finds the same values in its environment.)
//!
//!     GET /greeting  ->  {"greeting": <config "greeting", or "hello">, "configured": [names]}

wit_bindgen::generate!({
    path: ["../../proto/wit", "../config-wit"],
    world: "example:config/configured",
    generate_all,
});

use alga::extension::types::HttpHeader;
use serde_json::{Value, json};
use wasi::config::store;

impl Guest for Extension {
    fn handler(request: ExecuteRequest) -> ExecuteResponse {
        if request.http.url.split('?').next() != Some("/greeting") {
            return answer(404, &json!({ "error": "no such endpoint", "try": "/greeting" }));
        }
        let mut configured: Vec<String> =
            store::get_all().unwrap_or_default().into_iter().map(|(name, _)| name).collect();
        configured.sort();
        let greeting = store::get("greeting").ok().flatten().unwrap_or_else(|| "hello".to_owned());
        answer(200, &json!({ "greeting": greeting, "configured": configured }))
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
