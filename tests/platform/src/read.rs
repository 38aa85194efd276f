//! `ext-clients` and `ext-services`: reading what the seed holds.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::answer::{Answer, Outcome};
use crate::fields::Fields;
use crate::state::State;

/// Answers a request for clients.
pub(crate) fn clients(state: &State, install: &str, body: &Value) -> Outcome {
    let input = open(state, install, body, "client:read").map_err(invalid)?;
    let clients = &state.seed.clients;
    match input {
        Input::Get(input) => {
            let id = Fields(&input).uuid("clientId").map_err(invalid)?.to_owned();
            one(clients.iter().find(|c| c.client_id == id))
        }
        Input::List(input) => {
            let fields = Fields(&input);
            let list = List::of(&fields).map_err(invalid)?;
            let inactive = fields.flag("includeInactive").map_err(invalid)?.unwrap_or_default();
            list.page(clients.iter().filter(|c| (inactive || !c.is_inactive) && list.finds(&c.client_name)))
        }
    }
}

/// Answers a request for services.
pub(crate) fn services(state: &State, install: &str, body: &Value) -> Outcome {
    let input = open(state, install, body, "service:read").map_err(invalid)?;
    let services = &state.seed.services;
    match input {
        Input::Get(input) => {
            let id = Fields(&input).uuid("serviceId").map_err(invalid)?.to_owned();
            one(services.iter().find(|s| s.service_id == id))
        }
        Input::List(input) => {
            let fields = Fields(&input);
            let list = List::of(&fields).map_err(invalid)?;
            let kind = word(&fields, "itemKind", &["service", "product"])?;
            let method = word(&fields, "billingMethod", &["fixed", "hourly", "usage"])?;
            let active = fields.flag("isActive").map_err(invalid)?;
            list.page(services.iter().filter(|s| {
                kind.is_none_or(|k| k == s.item_kind)
                    && method.is_none_or(|m| m == s.billing_method)
                    && active.is_none_or(|a| a == s.is_active)
                    && list.finds(&s.service_name)
            }))
        }
    }
}

enum Input {
    List(Map<String, Value>),
    Get(Map<String, Value>),
}

/// A request of the wrong shape has another wording here than in storage and scheduler.
fn invalid(mut answer: Answer) -> Answer {
    if answer.status == 400
        && let Some(body) = answer.body.as_object_mut()
    {
        body.insert("error".to_owned(), "Invalid request payload".into());
        body.insert("code".to_owned(), "INVALID_INPUT".into());
    }
    answer
}

/// What every request has: an operation, an install that exists, a user who may.
fn open(state: &State, install: &str, body: &Value, permission: &str) -> Result<Input, Answer> {
    let fields = Fields::of(body)?;
    let input = match fields.get("input") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(input)) => input.clone(),
        Some(_) => return Err(Answer::shape("input", "Expected object")),
    };
    let input = match fields.get("operation").and_then(Value::as_str) {
        Some("list") => Input::List(input),
        Some("get") => Input::Get(input),
        _ => return Err(Answer::shape("operation", "Invalid enum value")),
    };
    state.known(install)?;
    if let Some(user) = fields.get("user") {
        let user = Fields::of(user)?;
        let id = user.text("userId", usize::MAX)?;
        user.text("userType", usize::MAX)?;
        if state.seed.denied_users.iter().any(|denied| denied == id) {
            let message = format!("Permission denied: {permission} not granted");
            return Err(Answer::error(403, "NOT_ALLOWED", &message));
        }
    }
    Ok(input)
}

fn one<T: Serialize>(item: Option<&T>) -> Outcome {
    Ok(Answer::ok(json!({ "item": item })))
}

fn word<'a>(fields: &Fields<'a>, name: &str, words: &[&str]) -> Result<Option<&'a str>, Answer> {
    match fields.optional_text(name, 32).map_err(invalid)? {
        Some(word) if !words.contains(&word) => Err(invalid(Answer::shape(name, "Invalid enum value"))),
        word => Ok(word),
    }
}

struct List {
    search: String,
    page: u64,
    size: u64,
}

impl List {
    fn of(fields: &Fields<'_>) -> Result<Self, Answer> {
        Ok(Self {
            search: fields.optional_text("search", 200)?.unwrap_or_default().trim().to_lowercase(),
            page: fields.integer("page", 1, 10_000)?.unwrap_or(1),
            size: fields.integer("pageSize", 1, 100)?.unwrap_or(25),
        })
    }

    fn finds(&self, name: &str) -> bool {
        name.to_lowercase().contains(&self.search)
    }

    fn page<'a, T: Serialize + 'a>(&self, all: impl Iterator<Item = &'a T>) -> Outcome {
        let all: Vec<&T> = all.collect();
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let skip = usize::try_from((self.page - 1) * self.size).unwrap_or(usize::MAX);
        let items: Vec<&&T> = all.iter().skip(skip).take(size).collect();
        Ok(Answer::ok(json!({
            "items": items,
            "totalCount": all.len(),
            "page": self.page,
            "pageSize": self.size,
        })))
    }
}
