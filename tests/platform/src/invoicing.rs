//! `ext-invoicing`: draft invoices with sums.

use serde_json::{Map, Value, json};

use crate::answer::{Answer, Outcome};
use crate::fields::{is_uuid, new_uuid};
use crate::seed::Seed;
use crate::state::State;

/// A checked item.
struct Item {
    service: String,
    quantity: f64,
    rate: f64,
    discount: Option<Discount>,
}

enum Discount {
    Percentage { of_service: Option<String> },
    Fixed,
}

/// Answers a request.
pub(crate) fn answer(state: &mut State, install: &str, body: &Value) -> Outcome {
    if body.get("operation").and_then(Value::as_str) != Some("createManualInvoice") {
        return Err(Answer::new(400, json!({ "error": "Unsupported operation" })));
    }
    state.known(install)?;
    let mut errors = Map::new();
    let items = check(&state.seed, body, &mut errors);
    if !errors.is_empty() {
        let body = json!({ "success": false, "error": "Validation error", "fieldErrors": errors });
        return Err(Answer::new(400, body));
    }
    let subtotal = subtotal(&items);
    let tax = (subtotal * state.seed.tax_percent / 100.0).round();
    let number = state.next_invoice;
    state.next_invoice = state.next_invoice.wrapping_add(1);
    let invoice = json!({
        "invoiceId": new_uuid(),
        "invoiceNumber": format!("INV-{number:06}"),
        "status": "draft",
        "subtotal": subtotal,
        "tax": tax,
        "total": subtotal + tax,
    });
    Ok(Answer::new(201, json!({ "success": true, "invoice": invoice })))
}

fn check(seed: &Seed, body: &Value, errors: &mut Map<String, Value>) -> Vec<Item> {
    let mut refuse = |field: String, message: &str| {
        errors.entry(field).or_insert_with(|| message.into());
    };
    let client = text(body.get("clientId"));
    match client {
        "" => refuse("clientId".to_owned(), "Required"),
        id if !is_uuid(id) => refuse("clientId".to_owned(), "Invalid UUID"),
        id if !seed.clients.iter().any(|c| c.client_id == id) => {
            refuse("clientId".to_owned(), "Client not found")
        }
        _ => {}
    }
    for field in ["invoiceDate", "dueDate"] {
        let date = text(body.get(field));
        if !(date.is_empty() || is_date(date)) {
            refuse(field.to_owned(), "Invalid date (expected YYYY-MM-DD)");
        }
    }
    if text(body.get("poNumber")).encode_utf16().count() > 128 {
        refuse("poNumber".to_owned(), "Too long");
    }
    let given = body.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if given.is_empty() {
        refuse("items".to_owned(), "Must include at least one item");
    }
    let mut items = Vec::new();
    for (index, item) in given.iter().enumerate() {
        let at = |field: &str| format!("items[{index}].{field}");
        let service = text(item.get("serviceId"));
        match service {
            "" => refuse(at("serviceId"), "Required"),
            id if !is_uuid(id) => refuse(at("serviceId"), "Invalid UUID"),
            id if !seed.services.iter().any(|s| s.service_id == id) => {
                refuse(at("serviceId"), "Service not found")
            }
            _ => {}
        }
        match text(item.get("description")) {
            "" => refuse(at("description"), "Required"),
            text if text.encode_utf16().count() > 500 => refuse(at("description"), "Too long"),
            _ => {}
        }
        let number = |field: &str| item.get(field).and_then(Value::as_f64);
        let quantity = number("quantity").unwrap_or_default();
        if quantity <= 0.0 {
            refuse(at("quantity"), "Must be > 0");
        }
        let rate = number("rate").unwrap_or(-1.0);
        if rate < 0.0 {
            refuse(at("rate"), "Must be >= 0");
        }
        let discounted = item.get("isDiscount").and_then(Value::as_bool).unwrap_or_default();
        let applies = ["appliesToItemId", "appliesToServiceId"].map(|field| item.get(field));
        let discount = match (discounted, text(item.get("discountType"))) {
            (true, "percentage") => {
                if rate > 100.0 {
                    refuse(at("rate"), "Percentage discount rate must be between 0 and 100");
                }
                let [_, of_service] = applies;
                Some(Discount::Percentage {
                    of_service: of_service.and_then(Value::as_str).map(str::to_owned),
                })
            }
            (true, "fixed") => Some(Discount::Fixed),
            (true, _) => {
                refuse(at("discountType"), "Required when isDiscount=true");
                None
            }
            (false, kind) => {
                if !kind.is_empty() {
                    refuse(at("discountType"), "Not allowed unless isDiscount=true");
                }
                // Present with `null` counts.
                if applies.iter().any(Option::is_some) {
                    refuse(format!("items[{index}]"), "appliesTo* fields require isDiscount=true");
                }
                None
            }
        };
        if applies.iter().all(Option::is_some) {
            refuse(format!("items[{index}]"), "Provide only one of appliesToItemId or appliesToServiceId");
        }
        items.push(Item { service: service.to_owned(), quantity, rate, discount });
    }
    items
}

/// In minor units, rounded item by item.
fn subtotal(items: &[Item]) -> f64 {
    let amount = |item: &Item| (item.quantity * item.rate.round()).round();
    let sum = |of: Option<&str>| -> f64 {
        items
            .iter()
            .filter(|i| i.discount.is_none() && of.is_none_or(|service| i.service == service))
            .map(amount)
            .sum()
    };
    let discounts: f64 = items
        .iter()
        .map(|item| match &item.discount {
            None => 0.0,
            Some(Discount::Fixed) => amount(item),
            Some(Discount::Percentage { of_service }) => {
                (sum(of_service.as_deref()) * item.rate / 100.0).round()
            }
        })
        .sum();
    sum(None) - discounts
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).map(str::trim).unwrap_or_default()
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() })
}
