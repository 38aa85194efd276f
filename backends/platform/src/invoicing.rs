//! Draft invoices.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::Api;
use crate::{Caller, Platform, PlatformError, Problem};

/// `discount-type` of the guest interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiscountType {
    /// The rate is a percentage.
    Percentage,
    /// The rate is an amount.
    Fixed,
}

/// `manual-invoice-item-input` of the guest interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManualInvoiceItemInput {
    /// A UUID.
    pub service_id: String,
    /// Over 0.
    pub quantity: f64,
    /// 1 to 500 characters.
    pub description: String,
    /// In minor units; the platform rounds it.
    pub rate: f64,
    /// False unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_discount: Option<bool>,
    /// With a discount only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discount_type: Option<DiscountType>,
    /// With a discount only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applies_to_item_id: Option<String>,
    /// With a discount only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applies_to_service_id: Option<String>,
}

/// `create-manual-invoice-input` of the guest interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateManualInvoiceInput {
    /// A UUID.
    pub client_id: String,
    /// At least one.
    pub items: Vec<ManualInvoiceItemInput>,
    /// `YYYY-MM-DD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invoice_date: Option<String>,
    /// `YYYY-MM-DD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_date: Option<String>,
    /// The customer's order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub po_number: Option<String>,
}

/// `create-manual-invoice-result` of the guest interface.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CreateManualInvoiceResult {
    /// Whether it was created.
    pub success: bool,
    /// Its id.
    pub invoice_id: Option<String>,
    /// Its number.
    pub invoice_number: Option<String>,
    /// `draft`.
    pub status: Option<String>,
    /// In minor units.
    pub subtotal: Option<f64>,
    /// In minor units.
    pub tax: Option<f64>,
    /// In minor units.
    pub total: Option<f64>,
    /// Why not, in words.
    pub error: Option<String>,
    /// Why not, by field: a JSON object of strings.
    pub field_errors: Option<String>,
}

impl From<&PlatformError> for CreateManualInvoiceResult {
    fn from(error: &PlatformError) -> Self {
        Self { error: Some(error.guest_text()), field_errors: error.guest_field_errors(), ..Self::default() }
    }
}

#[derive(Serialize)]
struct Operation<'a> {
    operation: &'static str,
    #[serde(flatten)]
    input: &'a CreateManualInvoiceInput,
}

#[derive(Deserialize)]
struct Invoice {
    #[serde(rename = "invoiceId", alias = "invoice_id")]
    invoice_id: Option<String>,
    #[serde(rename = "invoiceNumber", alias = "invoice_number")]
    invoice_number: Option<String>,
    status: Option<String>,
    subtotal: Option<f64>,
    tax: Option<f64>,
    total: Option<f64>,
}

impl Platform {
    /// Creates a draft invoice.
    ///
    /// # Errors
    /// [`PlatformError::BadRequest`] with what is wrong with the input; `CreateManualInvoiceResult::from` keeps it for the guest.
    pub async fn create_manual_invoice(
        &self,
        caller: &Caller<'_>,
        input: &CreateManualInvoiceInput,
    ) -> Result<CreateManualInvoiceResult, PlatformError> {
        // JSON has no word for them and would say `null`.
        if input.items.iter().any(|i| !i.quantity.is_finite() || !i.rate.is_finite()) {
            return Err(PlatformError::Invalid {
                field: "items",
                rule: "must have finite quantities and rates",
            });
        }
        let operation = Operation { operation: "createManualInvoice", input };
        let answer: Map<String, Value> = self.call(Api::Invoicing, caller, &operation).await?;
        let nested = answer.get("invoice").filter(|i| i.is_object()).cloned();
        let invoice = nested.unwrap_or_else(|| Value::Object(answer.clone()));
        let invoice: Invoice = serde_json::from_value(invoice)
            .map_err(|_| PlatformError::Malformed("a field of the invoice is of the wrong type"))?;
        match answer.get("success").and_then(Value::as_bool) {
            Some(false) => return Err(PlatformError::BadRequest(Problem::of(&answer, self.token()))),
            None if invoice.invoice_id.is_none() => {
                return Err(PlatformError::Malformed("neither success nor failure"));
            }
            _ => {}
        }
        Ok(CreateManualInvoiceResult {
            success: true,
            invoice_id: invoice.invoice_id,
            invoice_number: invoice.invoice_number,
            status: invoice.status,
            subtotal: invoice.subtotal,
            tax: invoice.tax,
            total: invoice.total,
            error: None,
            field_errors: None,
        })
    }
}
