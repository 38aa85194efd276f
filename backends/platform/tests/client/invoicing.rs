use longshore_platform::{
    CreateManualInvoiceInput, CreateManualInvoiceResult, DiscountType, ManualInvoiceItemInput, PlatformError,
};
use longshore_stub_platform::{Fault, Seed};
use serde_json::{Value, json};

use super::{CALLER, start};

fn item() -> ManualInvoiceItemInput {
    ManualInvoiceItemInput {
        service_id: Seed::sample().services[0].service_id.clone(),
        quantity: 2.0,
        description: "two of them".to_owned(),
        rate: 5000.4,
        is_discount: None,
        discount_type: None,
        applies_to_item_id: None,
        applies_to_service_id: None,
    }
}

fn input() -> CreateManualInvoiceInput {
    CreateManualInvoiceInput {
        client_id: Seed::sample().clients[0].client_id.clone(),
        items: vec![item()],
        ..CreateManualInvoiceInput::default()
    }
}

#[tokio::test]
async fn an_invoice_has_a_number_and_sums() {
    let (_stub, platform) = start().await;
    let invoice = platform.create_manual_invoice(&CALLER, &input()).await.unwrap();
    assert!(invoice.success && invoice.invoice_id.is_some() && invoice.error.is_none());
    assert_eq!(
        (invoice.invoice_number.as_deref(), invoice.status.as_deref()),
        (Some("INV-001001"), Some("draft"))
    );
    assert_eq!((invoice.subtotal, invoice.tax, invoice.total), (Some(10000.0), Some(1900.0), Some(11900.0)));
    let discounted = CreateManualInvoiceInput {
        items: vec![
            item(),
            ManualInvoiceItemInput {
                quantity: 1.0,
                rate: 10.0,
                is_discount: Some(true),
                discount_type: Some(DiscountType::Percentage),
                ..item()
            },
            ManualInvoiceItemInput {
                quantity: 1.0,
                rate: 500.0,
                is_discount: Some(true),
                discount_type: Some(DiscountType::Fixed),
                ..item()
            },
        ],
        invoice_date: Some("2026-11-01".to_owned()),
        due_date: Some("2026-12-01".to_owned()),
        po_number: Some("PO 7".to_owned()),
        ..input()
    };
    let invoice = platform.create_manual_invoice(&CALLER, &discounted).await.unwrap();
    assert_eq!((invoice.invoice_number.as_deref(), invoice.subtotal), (Some("INV-001002"), Some(8500.0)));
}

#[tokio::test]
async fn absent_options_are_left_out_and_not_null() {
    let (stub, platform) = start().await;
    platform.create_manual_invoice(&CALLER, &input()).await.unwrap();
    let sent = stub.requests()[0].json();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&sent), ["clientId", "items", "operation"]);
    assert_eq!(names(&sent["items"][0]), ["description", "quantity", "rate", "serviceId"]);
}

#[tokio::test]
async fn what_is_wrong_with_an_invoice_reaches_the_guest_by_field() {
    let (_stub, platform) = start().await;
    for (field, input) in [
        ("clientId", CreateManualInvoiceInput { client_id: "x".to_owned(), ..input() }),
        ("items", CreateManualInvoiceInput { items: Vec::new(), ..input() }),
        ("dueDate", CreateManualInvoiceInput { due_date: Some("tomorrow".to_owned()), ..input() }),
        (
            "items[0].quantity",
            CreateManualInvoiceInput {
                items: vec![ManualInvoiceItemInput { quantity: 0.0, ..item() }],
                ..input()
            },
        ),
        (
            "items[0].discountType",
            CreateManualInvoiceInput {
                items: vec![ManualInvoiceItemInput { is_discount: Some(true), ..item() }],
                ..input()
            },
        ),
    ] {
        let result = CreateManualInvoiceResult::from(
            &platform.create_manual_invoice(&CALLER, &input).await.unwrap_err(),
        );
        assert_eq!((result.success, result.error.as_deref()), (false, Some("Validation error")));
        let fields: Value = serde_json::from_str(result.field_errors.as_ref().unwrap()).unwrap();
        assert!(fields.get(field).is_some(), "{field}: {fields}");
    }
}

#[tokio::test]
async fn numbers_that_json_does_not_have_are_refused_and_nothing_is_sent() {
    let (stub, platform) = start().await;
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for item in [
            ManualInvoiceItemInput { rate: bad, ..item() },
            ManualInvoiceItemInput { quantity: bad, ..item() },
        ] {
            let input = CreateManualInvoiceInput { items: vec![item], ..input() };
            let result = platform.create_manual_invoice(&CALLER, &input).await;
            assert!(matches!(result, Err(PlatformError::Invalid { field: "items", .. })));
        }
    }
    assert!(stub.requests().is_empty());
}

#[tokio::test]
async fn an_invoice_may_come_at_the_top_level_and_in_snake_case() {
    let (stub, platform) = start().await;
    for answer in [
        json!({ "success": true, "invoice_id": "1", "invoice_number": "2", "status": "draft", "subtotal": 3 }),
        json!({ "success": true, "invoice": { "invoice_id": "1", "invoice_number": "2", "status": "draft", "subtotal": 3 } }),
        json!({ "invoiceId": "1", "invoiceNumber": "2", "status": "draft", "subtotal": 3 }),
    ] {
        stub.fail_next("invoicing", "*", Fault::Status(201, answer.to_string()));
        let invoice = platform.create_manual_invoice(&CALLER, &input()).await.unwrap();
        assert_eq!((invoice.success, invoice.invoice_id.as_deref()), (true, Some("1")));
        assert_eq!((invoice.invoice_number.as_deref(), invoice.subtotal), (Some("2"), Some(3.0)));
    }
    for (answer, malformed) in [
        (json!({}), true),
        (json!({ "invoice": { "invoiceId": 7 } }), true),
        (json!([]), true),
        (json!({ "success": false, "error": "no" }), false),
    ] {
        stub.fail_next("invoicing", "*", Fault::Status(201, answer.to_string()));
        let error = platform.create_manual_invoice(&CALLER, &input()).await.unwrap_err();
        assert_eq!(matches!(error, PlatformError::Malformed(_)), malformed, "{answer}");
    }
}
