//! `cap:invoice.manual.create`: drafts in the platform's books. Limits: those of the platform; numbers must be finite.
//! Records the whole input and what the platform said.

use longshore_platform as platform;

use super::bindings::alga::extension::invoicing::Host;
use super::bindings::alga::extension::types::{
    CreateManualInvoiceInput, CreateManualInvoiceResult, DiscountType, ManualInvoiceItemInput,
};
use super::call::by_success;
use super::recorded::{recorded, recorded_names};
use super::scope::RunScope;
use super::{RunState, host_call};

/// The words of the existing platform, here and below.
const DENIED: &str = "Permission denied: cap:invoice.manual.create not granted";
const NO_INSTALL: &str = "Permission denied: install_id missing";

by_success!(CreateManualInvoiceResult);
recorded!(
    CreateManualInvoiceInput { client_id, items, invoice_date, due_date, po_number }
    ManualInvoiceItemInput {
        service_id, quantity, description, rate, is_discount, discount_type, applies_to_item_id,
        applies_to_service_id,
    }
    CreateManualInvoiceResult {
        success, invoice_id, invoice_number, status, subtotal, tax, total, error, field_errors,
    }
);
recorded_names!(DiscountType { Percentage = "percentage", Fixed = "fixed" });

fn item(item: ManualInvoiceItemInput) -> platform::ManualInvoiceItemInput {
    platform::ManualInvoiceItemInput {
        service_id: item.service_id,
        quantity: item.quantity,
        description: item.description,
        rate: item.rate,
        is_discount: item.is_discount,
        discount_type: item.discount_type.map(|kind| match kind {
            DiscountType::Percentage => platform::DiscountType::Percentage,
            DiscountType::Fixed => platform::DiscountType::Fixed,
        }),
        applies_to_item_id: item.applies_to_item_id,
        applies_to_service_id: item.applies_to_service_id,
    }
}

fn result(result: platform::CreateManualInvoiceResult) -> CreateManualInvoiceResult {
    CreateManualInvoiceResult {
        success: result.success,
        invoice_id: result.invoice_id,
        invoice_number: result.invoice_number,
        status: result.status,
        subtotal: result.subtotal,
        tax: result.tax,
        total: result.total,
        error: result.error,
        field_errors: result.field_errors,
    }
}

fn failed(words: &str) -> CreateManualInvoiceResult {
    result(platform::CreateManualInvoiceResult { error: Some(words.to_owned()), ..Default::default() })
}

impl RunScope {
    async fn create_invoice(&self, input: CreateManualInvoiceInput) -> CreateManualInvoiceResult {
        let Some(install) = self.install() else { return failed(NO_INSTALL) };
        let Some(platform) = &self.backends.platform else { return failed("no platform is configured") };
        let caller = platform::Caller { install, request_id: self.request_id() };
        let input = platform::CreateManualInvoiceInput {
            client_id: input.client_id,
            items: input.items.into_iter().map(item).collect(),
            invoice_date: input.invoice_date,
            due_date: input.due_date,
            po_number: input.po_number,
        };
        result(self.in_time(platform.create_manual_invoice(&caller, &input)).await.unwrap_or_else(|error| {
            self.record.note(error.to_string());
            self.upstream_failed(&error);
            (&error).into()
        }))
    }
}

impl Host for RunState {
    async fn create_manual_invoice(
        &mut self,
        input: CreateManualInvoiceInput,
    ) -> wasmtime::Result<CreateManualInvoiceResult> {
        host_call!(
            self, "invoicing.create-manual-invoice", InvoiceManualCreate, args: { input }, denied: failed(DENIED),
            |run| run.create_invoice(input).await
        )
    }
}
