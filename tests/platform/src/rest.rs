//! Public routes, which the UI proxy reaches: collections behind `/api/v1/` with an API key, and for every other path an echo,
//! where a real deployment has the extension's own backend.

use axum::http::request::Parts;
use serde_json::{Value, json};

use crate::answer::{Answer, Outcome};
use crate::fields::new_uuid;
use crate::state::State;

/// Most items of a collection.
const MAX_ITEMS: usize = 1_000;

/// Answers a request.
pub(crate) fn answer(
    state: &mut State,
    parts: &Parts,
    api_key: Option<&str>,
    body: Option<Value>,
) -> Outcome {
    let path = parts.uri.path();
    let header =
        |name: &str| parts.headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    let Some(route) = path.strip_prefix("/api/v1/") else {
        if path.starts_with("/api/") || path == "/" {
            return Err(Answer::error(404, "NOT_FOUND", "Route not found"));
        }
        return Ok(Answer::ok(json!({
            "method": parts.method.as_str(),
            "path": path,
            "query": parts.uri.query(),
            "tenant": header("x-alga-tenant"),
            "extension": header("x-alga-extension"),
            "user": header("x-user-id"),
            "body": body,
        })));
    };
    if api_key.is_some_and(|key| header("x-api-key").as_deref() != Some(key)) {
        return Err(Answer::error(401, "UNAUTHORIZED", "Invalid API key"));
    }
    let missing = || Answer::error(404, "NOT_FOUND", "Route not found");
    let (collection, id) = match route.trim_end_matches('/').split_once('/') {
        Some((collection, id)) => (collection, Some(id)),
        None => (route.trim_end_matches('/'), None),
    };
    let items = state.rest.get_mut(collection).ok_or_else(missing)?;
    match (parts.method.as_str(), id) {
        ("GET", None) => Ok(Answer::ok(json!({ "data": items, "pagination": { "total": items.len() } }))),
        ("GET", Some(id)) => {
            let item =
                items.iter().find(|i| i.get("id").and_then(Value::as_str) == Some(id)).ok_or_else(missing)?;
            Ok(Answer::ok(json!({ "data": item })))
        }
        ("POST", None) => {
            let Some(Value::Object(mut item)) = body else {
                return Err(Answer::error(400, "VALIDATION_ERROR", "Expected object"));
            };
            if items.len() >= MAX_ITEMS {
                return Err(Answer::error(429, "RATE_LIMITED", "Too many items"));
            }
            item.insert("id".to_owned(), new_uuid().into());
            items.push(Value::Object(item.clone()));
            Ok(Answer::new(201, json!({ "data": item })))
        }
        _ => Err(Answer::error(405, "METHOD_NOT_ALLOWED", "Method not allowed")),
    }
}
