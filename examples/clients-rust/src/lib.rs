//! The platform's clients, to read.
//!
//!     GET /clients?search=T&page=n  ->  {"clients": [{"id", "name", "inactive"}], "total": n, "more": bool}, ten a page
//!     GET /clients/ID  ->  one of them, or 404 {"error": "no such client"}
//!
//! A refusal is {"error": name}: `not-allowed` 403, `invalid-input` 400, `internal` 502.

wit_bindgen::generate!({ path: "../../proto/wit", world: "runner" });

use alga::extension::clients;
use alga::extension::types::{ClientReadError, ClientSummary, ClientsListInput, HttpHeader};
use serde_json::{Value, json};

impl Guest for Extension {
    fn handler(request: ExecuteRequest) -> ExecuteResponse {
        let url = &request.http.url;
        let path = url.split('?').next().unwrap_or_default();
        let outcome = match (request.http.method.as_str(), path.strip_prefix("/clients")) {
            ("GET", Some("")) => list(url),
            ("GET", Some(rest)) if rest.starts_with('/') => one(&rest[1..]),
            _ => Ok(answer(404, &json!({ "error": "no such endpoint", "try": "GET /clients" }))),
        };
        outcome.unwrap_or_else(|error| {
            let status = match error {
                ClientReadError::NotAllowed => 403,
                ClientReadError::InvalidInput => 400,
                ClientReadError::Internal => 502,
            };
            answer(status, &json!({ "error": error.name() }))
        })
    }
}

fn list(url: &str) -> Result<ExecuteResponse, ClientReadError> {
    let page = parameter(url, "page").and_then(|page| page.parse().ok()).unwrap_or(1);
    let found = clients::list_clients(&ClientsListInput {
        search: parameter(url, "search"),
        include_inactive: None,
        page: Some(page),
        page_size: Some(10),
    })?;
    let more = found.page.saturating_mul(found.page_size) < found.total_count;
    let items: Vec<Value> = found.items.into_iter().map(shown).collect();
    Ok(answer(200, &json!({ "clients": items, "total": found.total_count, "more": more })))
}

fn one(id: &str) -> Result<ExecuteResponse, ClientReadError> {
    Ok(match clients::get_client(id)? {
        Some(found) => answer(200, &shown(found)),
        None => answer(404, &json!({ "error": "no such client" })),
    })
}

fn shown(client: ClientSummary) -> Value {
    json!({ "id": client.client_id, "name": client.client_name, "inactive": client.is_inactive })
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
