//! Manual invoices.
//!
//!     POST /invoices {"client": C, "service": S, "hours": 2, "rate": 9000, "date": "2026-02-01"}  ->  201 {"id", "number", "status", "total"}
//!
//! `rate` is in minor units of the currency (9000 is 90.00); without a date it is today's. A refusal is 422 {"error": .., "fields": {..}}, with the
//! platform's words.

wit_bindgen::generate!({ path: "../../proto/wit", world: "runner" });

use alga::extension::invoicing;
use alga::extension::types::{CreateManualInvoiceInput, HttpHeader, ManualInvoiceItemInput};
use serde_json::{Value, json};

impl Guest for Extension {
    fn handler(request: ExecuteRequest) -> ExecuteResponse {
        if (request.http.method.as_str(), request.http.url.split('?').next()) != ("POST", Some("/invoices")) {
            return answer(404, &json!({ "error": "no such endpoint", "try": "POST /invoices" }));
        }
        let order: Value = serde_json::from_slice(&request.http.body.unwrap_or_default()).unwrap_or_default();
        let text = |name: &str| order[name].as_str().map(str::to_owned);
        let hours = order["hours"].as_f64().unwrap_or(1.0);
        let result = invoicing::create_manual_invoice(&CreateManualInvoiceInput {
            client_id: text("client").unwrap_or_default(),
            items: vec![ManualInvoiceItemInput {
                service_id: text("service").unwrap_or_default(),
                quantity: hours,
                description: format!("{hours} h of work"),
                rate: order["rate"].as_f64().unwrap_or(0.0),
                is_discount: None,
                discount_type: None,
                applies_to_item_id: None,
                applies_to_service_id: None,
            }],
            invoice_date: text("date"),
            due_date: None,
            po_number: None,
        });
        if result.success {
            let (id, number) = (result.invoice_id, result.invoice_number);
            return answer(
                201,
                &json!({ "id": id, "number": number, "status": result.status, "total": result.total }),
            );
        }
        let fields = result.field_errors.and_then(|errors| serde_json::from_str::<Value>(&errors).ok());
        answer(422, &json!({ "error": result.error, "fields": fields.unwrap_or_else(|| json!({})) }))
    }
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
