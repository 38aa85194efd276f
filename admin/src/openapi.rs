//! The OpenAPI document: of this API, made from the routes and types themselves, and of what the gateway serves to callers, from
//! `gateway.json`. Checked in as `docs/openapi.json`.

use std::sync::OnceLock;

use serde_json::{Value, json};

/// The gateway's routes, and health and metrics of every process, written by hand: another crate serves them.
const GATEWAY: &str = include_str!("gateway.json");

/// What stands above the routes.
const ABOUT: &str = "The admin API (`/v1/installs`, `/v1/tenants/...`, behind the admin token, on a listener of its own) and what the gateway \
serves to callers (`/v1/execute`, `/api/ext`, `/ext-ui`, `/warmup`). Paths of the gateway have a server of their own in this document.";

/// The document as text: what is served, and what is checked in.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        // Sorted keys and a line end: a file that can be compared.
        let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
        text.push('\n');
        text
    })
}

/// The document.
pub fn document() -> Value {
    let (_, routes) = crate::routes::documented();
    let mut document = serde_json::to_value(&routes).unwrap_or_default();
    let above = json!({
        "info": {
            "title": "Longshore",
            "description": ABOUT,
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:8090", "description": "The admin service" }],
        "components": { "securitySchemes": {
            "admin_token": { "type": "http", "scheme": "bearer", "description": "LONGSHORE_ADMIN_TOKEN" },
            "caller": { "type": "http", "scheme": "bearer", "description": "A token of `longshore token create`, or a JWT" },
        } },
    });
    merge(&mut document, above);
    merge(&mut document, serde_json::from_str(GATEWAY).unwrap_or_default());
    document
}

/// Objects become one object; of anything else the later one counts.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_that_is_checked_in_is_that_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        if std::env::var_os("LONGSHORE_WRITE_DOCS").is_some() {
            std::fs::write(path, text()).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == text(),
            "docs/openapi.json is not up to date: LONGSHORE_WRITE_DOCS=1 cargo test -p longshore-admin openapi"
        );
    }

    #[test]
    fn nothing_in_the_document_points_to_nowhere() {
        let document = document();
        let text = text();
        for part in text.split("\"$ref\": \"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        let ids: Vec<&str> =
            text.split("\"operationId\": \"").skip(1).map(|part| part.split('"').next().unwrap()).collect();
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ids.len(), "{ids:?}");
    }

    #[test]
    fn every_route_behind_the_token_says_so_and_names_its_failures() {
        let (_, routes) = crate::routes::documented();
        let routes = serde_json::to_value(&routes).unwrap();
        for (path, methods) in routes["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                assert!(operation["security"][0]["admin_token"].is_array(), "{method} {path}");
                for status in ["400", "401", "404", "405", "415", "429", "503"] {
                    assert!(operation["responses"][status].is_object(), "{method} {path}: {status}");
                }
            }
        }
    }

    #[test]
    fn every_failure_has_the_same_shape() {
        let schema = &document()["components"]["schemas"]["ApiError"];
        let mut required: Vec<&str> =
            schema["required"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        required.sort_unstable();
        assert_eq!(required, ["code", "message", "request_id"]);
    }
}
