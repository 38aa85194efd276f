//! `cap:invoice.manual.create`: no backend yet; answers as without the capability.

use super::bindings::alga::extension::invoicing::Host;
use super::bindings::alga::extension::types::{CreateManualInvoiceInput, CreateManualInvoiceResult};
use super::{RunState, host_call};

impl Host for RunState {
    async fn create_manual_invoice(
        &mut self,
        _input: CreateManualInvoiceInput,
    ) -> wasmtime::Result<CreateManualInvoiceResult> {
        host_call!(self, "invoicing.create-manual-invoice", InvoiceManualCreate, denied: CreateManualInvoiceResult {
            success: false,
            invoice_id: None,
            invoice_number: None,
            status: None,
            subtotal: None,
            tax: None,
            total: None,
            // The words of the existing platform.
            error: Some("Permission denied: cap:invoice.manual.create not granted".to_owned()),
            field_errors: None,
        })
    }
}
