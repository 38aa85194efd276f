//! Who is calling: `context` has the ids of tenant, extension and install, `user-v2` the user behind the call. Both are granted to every install.
//!
//!     GET /whoami  ->  {"tenant", "extension", "install", "version", "request", "user": {"id", "name", "email", "type", "client", "fields"} | null}

wit_bindgen::generate!({ path: "../../proto/wit", world: "runner" });

use alga::extension::types::HttpHeader;
use alga::extension::{context, user_v2};
use serde_json::{Map, Value, json};

impl Guest for Extension {
    fn handler(request: ExecuteRequest) -> ExecuteResponse {
        if request.http.url.split('?').next() != Some("/whoami") {
            return answer(404, &json!({ "error": "no such endpoint", "try": "/whoami" }));
        }
        let context = context::get_context();
        let whoami = json!({
            "tenant": context.tenant_id,
            "extension": context.extension_id,
            "install": context.install_id,
            "version": context.version_id,
            "request": context.request_id,
            "user": caller(),
        });
        answer(200, &whoami)
    }
}

/// A schedule or a webhook has no user: the host then says `not-available`.
fn caller() -> Value {
    let Ok(user) = user_v2::get_user() else { return Value::Null };
    let fields: Map<String, Value> =
        user.additional_fields.into_iter().map(|(name, value)| (name, value.into())).collect();
    json!({
        "id": user.user_id,
        "name": user.user_name,
        "email": user.user_email,
        "type": user.user_type,
        "client": user.client_id,
        "fields": fields,
    })
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
