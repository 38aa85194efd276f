//! Storage: counters that stay right when two calls count at once, and a listing longer than one page.
//!
//!     POST   /visits?page=P  ->  {"page": P, "visits": n}: counts one
//!     GET    /visits         ->  {"visits": {P: n, ..}}: all of them
//!     DELETE /visits?page=P  ->  204, or 404 {"error": "missing"}

wit_bindgen::generate!({ path: "../../proto/wit", world: "runner" });

use alga::extension::storage;
use alga::extension::types::{HttpHeader, StorageEntry, StorageError};
use serde_json::{Map, Value, json};

const NAMESPACE: &str = "visits";
/// Attempts at one count.
const ATTEMPTS: u32 = 5;

impl Guest for Extension {
    fn handler(request: ExecuteRequest) -> ExecuteResponse {
        let url = &request.http.url;
        let page = parameter(url, "page").unwrap_or_else(|| "home".to_owned());
        let outcome = match (request.http.method.as_str(), url.split('?').next().unwrap_or_default()) {
            ("POST", "/visits") => {
                count(&page).map(|visits| answer(200, &json!({ "page": page, "visits": visits })))
            }
            ("GET", "/visits") => all().map(|visits| answer(200, &json!({ "visits": visits }))),
            ("DELETE", "/visits") => storage::delete(NAMESPACE, &page).map(|()| ExecuteResponse {
                status: 204,
                headers: Vec::new(),
                body: None,
            }),
            _ => Ok(answer(404, &json!({ "error": "no such endpoint", "try": "GET /visits" }))),
        };
        outcome.unwrap_or_else(|error| {
            let status = match error {
                StorageError::Missing => 404,
                StorageError::Conflict => 409,
                StorageError::Denied => 403,
                StorageError::Internal => 502,
            };
            answer(status, &json!({ "error": error.name() }))
        })
    }
}

/// `put` with a revision succeeds only if nobody else has written since: otherwise it says `conflict`, and we read again. Without a revision it
/// always writes, so two first visits at once may both be number 1.
fn count(page: &str) -> Result<u64, StorageError> {
    let mut attempt = 1;
    loop {
        let before = match storage::get(NAMESPACE, page) {
            Ok(entry) => Some(entry),
            Err(StorageError::Missing) => None,
            Err(error) => return Err(error),
        };
        let visits = before.as_ref().map_or(0, number) + 1;
        let entry = StorageEntry {
            namespace: NAMESPACE.to_owned(),
            key: page.to_owned(),
            value: visits.to_string().into_bytes(),
            revision: before.and_then(|entry| entry.revision),
        };
        match storage::put(&entry) {
            Ok(_) => return Ok(visits),
            Err(StorageError::Conflict) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// A page has up to 100 entries; the next one starts after the last key.
fn all() -> Result<Map<String, Value>, StorageError> {
    let (mut visits, mut last) = (Map::new(), None::<String>);
    loop {
        let page = storage::list_entries(NAMESPACE, last.as_deref())?;
        let Some(end) = page.last() else { return Ok(visits) };
        last = Some(end.key.clone());
        visits.extend(page.iter().map(|entry| (entry.key.clone(), number(entry).into())));
    }
}

fn number(entry: &StorageEntry) -> u64 {
    String::from_utf8_lossy(&entry.value).parse().unwrap_or(0)
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
