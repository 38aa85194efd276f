//! The smallest useful extension: it greets whoever calls, says which tenant and install it runs for, and logs one line.
//!
//! The worker calls [`Guest::handler`] once per request, each time in a fresh instance: statics do not survive from one call to the next.

// Bindings for the world `runner` of `alga:extension`. Imports that are not called here do not end up in the component.
wit_bindgen::generate!({
    path: "../../proto/wit",
    world: "runner",
});

use alga::extension::types::HttpHeader;
use alga::extension::{context, logging, user};
use serde_json::{Value, json};

struct HelloRust;

impl Guest for HelloRust {
    fn handler(request: ExecuteRequest) -> ExecuteResponse {
        // `url` is relative: the path that follows the extension's own, and the query.
        let url = request.http.url;
        logging::log_info(&format!("{} {url}", request.http.method));
        match url.split('?').next() {
            Some("/" | "/hello") => answer(200, &hello()),
            _ => answer(404, &json!({ "error": "no such endpoint", "try": "/hello" })),
        }
    }
}

export!(HelloRust);

fn hello() -> Value {
    let context = context::get_context();
    // A schedule or a webhook has no user; that is no reason to fail.
    let caller = match user::get_user() {
        Ok(user) => user.user_name,
        Err(reason) => {
            logging::log_warn(&format!("no user: {}", reason.name()));
            "world".to_owned()
        }
    };
    json!({
        "hello": caller,
        "from": "rust",
        "tenant": context.tenant_id,
        "extension": context.extension_id,
        "install": context.install_id,
    })
}

fn answer(status: u16, body: &Value) -> ExecuteResponse {
    ExecuteResponse {
        status,
        headers: vec![HttpHeader { name: "content-type".to_owned(), value: "application/json".to_owned() }],
        body: Some(body.to_string().into_bytes()),
    }
}
