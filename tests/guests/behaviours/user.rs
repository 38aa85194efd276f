//! Answers what both user interfaces say: `{"v1": .., "v2": ..}`, each the user or `{"err": name}`.

use kit::{Request, Response, Value, host, json};

fn handle(_request: Request) -> Response {
    kit::json_body(&json!({ "v1": first(), "v2": second() }))
}

fn first() -> Value {
    match host::user::get_user() {
        Ok(user) => json!({
            "tenant_id": user.tenant_id,
            "client_name": user.client_name,
            "user_id": user.user_id,
            "user_email": user.user_email,
            "user_name": user.user_name,
            "user_type": user.user_type,
        }),
        Err(error) => json!({ "err": error.name() }),
    }
}

fn second() -> Value {
    match host::user_v2::get_user() {
        Ok(user) => json!({
            "tenant_id": user.tenant_id,
            "client_name": user.client_name,
            "user_id": user.user_id,
            "user_email": user.user_email,
            "user_name": user.user_name,
            "user_type": user.user_type,
            "client_id": user.client_id,
            "additional_fields": user.additional_fields,
        }),
        Err(error) => json!({ "err": error.name() }),
    }
}

kit::handler!(handle);
