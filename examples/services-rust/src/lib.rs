//! The platform's services, to read.
//!
//!     GET /services?kind=service|product&page=n  ->  {"services": [{"id", "name", "kind", "rate"}], "total": n, "more": bool}, ten a page
//!     GET /services/ID  ->  one of them, or 404 {"error": "no such service"}
//!
//! A refusal is {"error": name}: `not-allowed` 403, `invalid-input` 400, `internal` 502.

wit_bindgen::generate!({ path: "../../proto/wit", world: "runner" });

use alga::extension::services;
use alga::extension::types::{
    HttpHeader, ServiceItemKind, ServiceReadError, ServiceSummary, ServicesListInput,
};
use serde_json::{Value, json};

impl Guest for Extension {
    fn handler(request: ExecuteRequest) -> ExecuteResponse {
        let url = &request.http.url;
        let path = url.split('?').next().unwrap_or_default();
        let outcome = match (request.http.method.as_str(), path.strip_prefix("/services")) {
            ("GET", Some("")) => list(url),
            ("GET", Some(rest)) if rest.starts_with('/') => one(&rest[1..]),
            _ => Ok(answer(404, &json!({ "error": "no such endpoint", "try": "GET /services" }))),
        };
        outcome.unwrap_or_else(|error| {
            let status = match error {
                ServiceReadError::NotAllowed => 403,
                ServiceReadError::InvalidInput => 400,
                ServiceReadError::Internal => 502,
            };
            answer(status, &json!({ "error": error.name() }))
        })
    }
}

fn list(url: &str) -> Result<ExecuteResponse, ServiceReadError> {
    let page = parameter(url, "page").and_then(|page| page.parse().ok()).unwrap_or(1);
    let kind = match parameter(url, "kind").as_deref() {
        Some("service") => Some(ServiceItemKind::Service),
        Some("product") => Some(ServiceItemKind::Product),
        _ => None,
    };
    let found = services::list_services(&ServicesListInput {
        search: None,
        item_kind: kind,
        is_active: None,
        billing_method: None,
        page: Some(page),
        page_size: Some(10),
    })?;
    let more = found.page.saturating_mul(found.page_size) < found.total_count;
    let items: Vec<Value> = found.items.into_iter().map(shown).collect();
    Ok(answer(200, &json!({ "services": items, "total": found.total_count, "more": more })))
}

fn one(id: &str) -> Result<ExecuteResponse, ServiceReadError> {
    Ok(match services::get_service(id)? {
        Some(found) => answer(200, &shown(found)),
        None => answer(404, &json!({ "error": "no such service" })),
    })
}

fn shown(service: ServiceSummary) -> Value {
    let kind = match service.item_kind {
        ServiceItemKind::Service => "service",
        ServiceItemKind::Product => "product",
    };
    json!({ "id": service.service_id, "name": service.service_name, "kind": kind, "rate": service.default_rate })
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
