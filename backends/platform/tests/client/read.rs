use longshore_platform::{
    ClientsListInput, PlatformError, ReadFault, ServiceBillingMethod, ServiceItemKind, ServicesListInput,
    UserRef,
};
use longshore_stub_platform::{Fault, Seed};
use serde_json::json;

use super::{CALLER, start, start_with};

const USER: UserRef<'static> = UserRef { user_id: "u-1", user_type: "internal" };

#[tokio::test]
async fn clients_are_found_by_page_name_and_activity() {
    let (_stub, platform) = start().await;
    let list = |input: ClientsListInput| {
        let platform = platform.clone();
        async move { platform.clients_list(&CALLER, Some(USER), &input).await.unwrap() }
    };
    let all = list(ClientsListInput::default()).await;
    assert_eq!((all.items.len(), all.total_count, all.page, all.page_size), (5, 5, 1, 25));
    let inactive = list(ClientsListInput { include_inactive: Some(true), ..Default::default() }).await;
    assert_eq!(inactive.total_count, 6);
    let second = list(ClientsListInput { page: Some(2), page_size: Some(2), ..Default::default() }).await;
    assert_eq!((second.items.len(), second.total_count, second.page, second.page_size), (2, 5, 2, 2));
    assert_eq!(second.items[0], all.items[2]);
    let found = list(ClientsListInput { search: Some("DENTAL".to_owned()), ..Default::default() }).await;
    assert_eq!(found.items[0].client_name, "Harbor Dental Group");
    assert_eq!(found.items[0].default_currency_code.as_deref(), Some("EUR"));
    let one = platform.clients_get(&CALLER, None, &found.items[0].client_id).await.unwrap().unwrap();
    assert_eq!(one, found.items[0]);
    let nobody = platform.clients_get(&CALLER, None, "5b7b5e6c-3c0f-4a4e-8a53-0a4b6cb1b7a1").await.unwrap();
    assert_eq!(nobody, None);
}

#[tokio::test]
async fn services_are_found_by_kind_method_and_activity() {
    let (_stub, platform) = start().await;
    let list = |input: ServicesListInput| {
        let platform = platform.clone();
        async move { platform.services_list(&CALLER, None, &input).await.unwrap() }
    };
    assert_eq!(list(ServicesListInput::default()).await.total_count, 8);
    let products =
        list(ServicesListInput { item_kind: Some(ServiceItemKind::Product), ..Default::default() }).await;
    assert!(products.items.iter().all(|s| s.item_kind == ServiceItemKind::Product && s.sku.is_some()));
    assert_eq!(products.total_count, 2);
    let usage = ServicesListInput { billing_method: Some(ServiceBillingMethod::Usage), ..Default::default() };
    let usage = list(usage).await;
    assert_eq!((usage.items[0].service_name.as_str(), usage.items[0].default_rate), ("Cloud backup", 12.0));
    let gone = list(ServicesListInput { is_active: Some(false), ..Default::default() }).await;
    assert_eq!((gone.total_count, gone.items[0].is_active), (1, false));
    let one = platform.services_get(&CALLER, Some(USER), &gone.items[0].service_id).await.unwrap().unwrap();
    assert_eq!(one, gone.items[0]);
}

#[tokio::test]
async fn the_user_is_named_when_there_is_one_and_absent_options_are_left_out() {
    let (stub, platform) = start().await;
    platform.clients_list(&CALLER, Some(USER), &ClientsListInput::default()).await.unwrap();
    platform.services_get(&CALLER, None, "5b7b5e6c-3c0f-4a4e-8a53-0a4b6cb1b7a1").await.unwrap();
    let [list, get] = [0, 1].map(|n| stub.requests()[n].json());
    assert_eq!(
        list,
        json!({ "operation": "list", "input": { "page": 1, "pageSize": 25 }, "user": { "userId": "u-1", "userType": "internal" } })
    );
    assert_eq!(
        get,
        json!({ "operation": "get", "input": { "serviceId": "5b7b5e6c-3c0f-4a4e-8a53-0a4b6cb1b7a1" } })
    );
}

#[tokio::test]
async fn a_user_who_may_not_read_is_not_allowed() {
    let (_stub, platform) = start_with(Seed { denied_users: vec!["u-1".to_owned()], ..Seed::sample() }).await;
    let error = platform.clients_list(&CALLER, Some(USER), &ClientsListInput::default()).await.unwrap_err();
    assert_eq!(ReadFault::from(&error), ReadFault::NotAllowed);
    let error = platform.services_list(&CALLER, Some(USER), &ServicesListInput::default()).await.unwrap_err();
    assert_eq!(ReadFault::from(&error), ReadFault::NotAllowed);
    assert!(platform.clients_list(&CALLER, None, &ClientsListInput::default()).await.is_ok());
    // Unknown to the platform, not the same as nobody.
    let blank = UserRef { user_id: "", user_type: "" };
    let error = platform.clients_list(&CALLER, Some(blank), &ClientsListInput::default()).await.unwrap_err();
    assert_eq!(ReadFault::from(&error), ReadFault::InvalidInput);
}

#[tokio::test]
async fn a_page_outside_its_range_is_refused_and_nothing_is_sent() {
    let (stub, platform) = start().await;
    for (page, page_size) in [(Some(0), None), (None, Some(0)), (None, Some(101))] {
        let clients = ClientsListInput { page, page_size, ..Default::default() };
        let services = ServicesListInput { page, page_size, ..Default::default() };
        let clients = platform.clients_list(&CALLER, None, &clients).await.unwrap_err();
        let services = platform.services_list(&CALLER, None, &services).await.unwrap_err();
        assert!([clients, services].iter().all(|e| ReadFault::from(e) == ReadFault::InvalidInput));
    }
    assert!(stub.requests().is_empty());
    // Too far is the platform's to say, and an id that is none.
    let far = ClientsListInput { page: Some(10_001), ..Default::default() };
    let far = platform.clients_list(&CALLER, None, &far).await.unwrap_err();
    let none = platform.services_get(&CALLER, None, "../x").await.unwrap_err();
    assert!([far, none].iter().all(|e| ReadFault::from(e) == ReadFault::InvalidInput));
}

#[tokio::test]
async fn snake_case_and_defaults_are_understood() {
    let (stub, platform) = start().await;
    let client = json!({ "client_id": "1", "client_name": "n", "client_type": "company", "is_inactive": true,
        "default_currency_code": "EUR", "account_manager_id": "2", "account_manager_name": "m", "billing_email": null });
    stub.fail_next(
        "clients",
        "list",
        Fault::Status(200, json!({ "items": [client], "total_count": 9 }).to_string()),
    );
    let list = platform.clients_list(&CALLER, None, &ClientsListInput::default()).await.unwrap();
    assert_eq!((list.total_count, list.page, list.page_size), (9, 1, 25));
    let client = &list.items[0];
    assert!(
        client.is_inactive
            && client.account_manager_name.as_deref() == Some("m")
            && client.billing_email.is_none()
    );

    let service = json!({ "service_id": "1", "service_name": "n", "item_kind": "product", "billing_method": "usage",
        "unit_of_measure": "piece", "service_type_id": "2", "service_type_name": "t" });
    stub.fail_next("services", "list", Fault::Status(200, json!({ "items": [service] }).to_string()));
    let list = platform.services_list(&CALLER, None, &ServicesListInput::default()).await.unwrap();
    assert_eq!((list.total_count, list.page, list.page_size), (0, 1, 25));
    assert_eq!((list.items[0].default_rate, list.items[0].is_active), (0.0, true));
    assert_eq!(list.items[0].service_type_name.as_deref(), Some("t"));
}

#[tokio::test]
async fn one_malformed_item_makes_the_answer_malformed() {
    let (stub, platform) = start().await;
    let client = json!({ "clientId": "1", "clientName": "n" });
    for bad in
        [json!({ "clientId": "1" }), json!(7), json!({ "clientId": 1, "clientName": "n" }), json!(null)]
    {
        stub.fail_next("clients", "list", Fault::Status(200, json!({ "items": [client, bad] }).to_string()));
        let error = platform.clients_list(&CALLER, None, &ClientsListInput::default()).await.unwrap_err();
        assert!(
            matches!(error, PlatformError::Malformed(_)) && ReadFault::from(&error) == ReadFault::Internal
        );
    }
    let service = |kind: &str, method: &str| json!({ "serviceId": "1", "serviceName": "n", "itemKind": kind, "billingMethod": method, "unitOfMeasure": "h" });
    for (kind, method, good) in
        [("service", "hourly", true), ("bundle", "hourly", false), ("service", "barter", false)]
    {
        stub.fail_next(
            "services",
            "get",
            Fault::Status(200, json!({ "item": service(kind, method) }).to_string()),
        );
        assert_eq!(platform.services_get(&CALLER, None, "1").await.is_ok(), good);
    }
}

#[tokio::test]
async fn an_answer_without_an_item_is_malformed_and_null_is_nobody() {
    let (stub, platform) = start().await;
    stub.fail_next("clients", "get", Fault::Status(200, "{}".to_owned()));
    assert!(matches!(platform.clients_get(&CALLER, None, "1").await, Err(PlatformError::Malformed(_))));
    stub.fail_next("clients", "get", Fault::Status(200, r#"{"item": null}"#.to_owned()));
    assert_eq!(platform.clients_get(&CALLER, None, "1").await.unwrap(), None);
}
