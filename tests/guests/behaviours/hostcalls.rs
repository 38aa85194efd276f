//! Calls every function of the twelve interfaces and answers `{"<interface>.<function>": {"ok": value} | {"err": name}}`.
//! `?only=storage,http.fetch` calls only functions whose name starts with one of these; the arguments are parameters too (see the README).

use kit::bindings::alga::extension::types::{
    ClientSummary, ClientsListInput, CreateManualInvoiceInput, CreateScheduleInput, EndpointInfo,
    HttpRequest, ManualInvoiceItemInput, ScheduleInfo, ServiceBillingMethod, ServiceItemKind, ServiceSummary,
    ServicesListInput, StorageEntry, UpdateScheduleInput,
};
use kit::{Map, Query, Request, Response, Value, header, host, json};

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    let body = request.http.body;
    let mut calls =
        Calls { only: query.get("only").map(|only| only.split(',').collect()), answers: Map::new() };
    small(&query, &body, &mut calls);
    storage(&query, &body, &mut calls);
    scheduler(&query, &mut calls);
    invoicing(&query, &mut calls);
    clients(&query, &mut calls);
    services(&query, &mut calls);
    kit::json_body(&Value::Object(calls.answers))
}

struct Calls<'a> {
    only: Option<Vec<&'a str>>,
    answers: Map<String, Value>,
}

impl Calls<'_> {
    fn call(&mut self, name: &str, function: impl FnOnce() -> Value) {
        if self.only.as_ref().is_none_or(|only| only.iter().any(|wanted| name.starts_with(wanted))) {
            let answer = function();
            self.answers.insert(name.to_owned(), answer);
        }
    }
}

/// `name()` of a WIT error enum, which the bindings generate for each without a common trait.
macro_rules! outcome {
    ($result:expr, $ok:expr) => {
        match $result {
            Ok(value) => ok(Value::from(($ok)(value))),
            Err(error) => err(error.name()),
        }
    };
}

/// A JSON object of a record's fields, and of computed ones after the second `;`. `json!` would do, at three times the code: this guest is the largest.
macro_rules! fields {
    ($record:ident; $($name:ident),* $(; $($more:ident : $value:expr),*)?) => {
        object(vec![$((stringify!($name), Value::from($record.$name)),)* $($((stringify!($more), Value::from($value)),)*)?])
    };
}

fn object(fields: Vec<(&'static str, Value)>) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn ok(value: Value) -> Value {
    object(vec![("ok", value)])
}

fn err(name: &str) -> Value {
    object(vec![("err", Value::from(name))])
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

fn small(query: &Query, body: &Option<Vec<u8>>, calls: &mut Calls<'_>) {
    calls.call("context.get-context", || {
        let context = host::context::get_context();
        ok(fields!(context; request_id, tenant_id, extension_id, install_id, version_id))
    });
    calls.call("secrets.get", || outcome!(host::secrets::get(query.or("secret", "api_key")), |value| value));
    calls.call("secrets.list-keys", || ok(Value::from(host::secrets::list_keys())));
    calls.call("http.fetch", || {
        let request = HttpRequest {
            method: query.or("method", "GET").to_owned(),
            url: query.or("url", "http://127.0.0.1:9/").to_owned(),
            headers: query
                .all("header")
                .map(|given| given.split_once(':').map_or_else(|| header(given, ""), |(name, value)| header(name, value)))
                .collect(),
            body: body.clone(),
        };
        outcome!(host::http::fetch(&request), |answer: host::types::HttpResponse| fields!(
            answer;
            status;
            headers: answer.headers.iter().map(|header| json!([header.name, header.value])).collect::<Vec<_>>(),
            body: answer.body.map(|body| String::from_utf8_lossy(&body).into_owned())
        ))
    });
    for (name, log) in [
        ("logging.log-info", host::logging::log_info as fn(&str)),
        ("logging.log-warn", host::logging::log_warn),
        ("logging.log-error", host::logging::log_error),
    ] {
        calls.call(name, || {
            log(query.or("message", name));
            ok(Value::Null)
        });
    }
    calls.call("ui-proxy.call-route", || {
        outcome!(host::ui_proxy::call_route(query.or("route", "/ping"), body.as_deref()), |answer: Vec<
            u8,
        >| {
            String::from_utf8_lossy(&answer).into_owned()
        })
    });
    calls.call("user.get-user", || {
        outcome!(host::user::get_user(), |user: host::types::UserData| user.user_id)
    });
    calls.call("user-v2.get-user", || {
        outcome!(host::user_v2::get_user(), |user: host::types::UserDataV2| user.user_id)
    });
}

fn storage(query: &Query, body: &Option<Vec<u8>>, calls: &mut Calls<'_>) {
    let namespace = query.or("namespace", "test");
    let key = query.or("key", "key");
    let entry = |entry: StorageEntry| fields!(entry; namespace, key, revision; value: String::from_utf8_lossy(&entry.value), bytes: entry.value.len());
    calls.call("storage.put", || {
        let given = StorageEntry {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            value: query
                .get("value")
                .map(|value| value.as_bytes().to_vec())
                .or_else(|| body.clone())
                .unwrap_or_else(|| b"value".to_vec()),
            revision: query.get("revision").and_then(|revision| revision.parse().ok()),
        };
        outcome!(host::storage::put(&given), entry)
    });
    calls.call("storage.get", || outcome!(host::storage::get(namespace, key), entry));
    calls.call("storage.list-entries", || {
        outcome!(host::storage::list_entries(namespace, query.get("cursor")), |entries: Vec<StorageEntry>| {
            entries.into_iter().map(entry).collect::<Vec<_>>()
        })
    });
    calls.call("storage.delete", || outcome!(host::storage::delete(namespace, key), |()| Value::Null));
}

fn scheduler(query: &Query, calls: &mut Calls<'_>) {
    let id = query.or("schedule", "00000000-0000-0000-0000-000000000001");
    let schedule = |schedule: ScheduleInfo| {
        fields!(
            schedule;
            id, endpoint_path, endpoint_method, name, cron, timezone, enabled, payload,
            last_run_at, last_run_status, last_error, created_at
        )
    };
    let endpoint = |endpoint: EndpointInfo| fields!(endpoint; id, method, path, handler, schedulable);
    calls.call("scheduler.list-schedules", || {
        outcome!(host::scheduler::list_schedules(), |all: Vec<ScheduleInfo>| all
            .into_iter()
            .map(schedule)
            .collect::<Vec<_>>())
    });
    calls.call("scheduler.get-schedule", || {
        outcome!(host::scheduler::get_schedule(id), |found: Option<ScheduleInfo>| found.map(schedule))
    });
    calls.call("scheduler.create-schedule", || {
        let answer = host::scheduler::create_schedule(&CreateScheduleInput {
            endpoint: query.or("endpoint", "GET /ping").to_owned(),
            cron: query.or("cron", "0 * * * *").to_owned(),
            timezone: owned(query.get("timezone")),
            enabled: query.get("enabled").map(|enabled| enabled == "true"),
            name: owned(query.get("name")),
            payload: owned(query.get("payload")),
        });
        ok(fields!(answer; success, schedule_id, error, field_errors))
    });
    calls.call("scheduler.update-schedule", || {
        let input = UpdateScheduleInput {
            endpoint: owned(query.get("endpoint")),
            cron: owned(query.get("cron")),
            timezone: owned(query.get("timezone")),
            enabled: query.get("enabled").map(|enabled| enabled == "true"),
            name: owned(query.get("name")),
            payload: owned(query.get("payload")),
        };
        let answer = host::scheduler::update_schedule(id, &input);
        ok(fields!(answer; success, error, field_errors))
    });
    calls.call("scheduler.delete-schedule", || {
        let answer = host::scheduler::delete_schedule(id);
        ok(fields!(answer; success, error))
    });
    calls.call("scheduler.get-endpoints", || {
        outcome!(host::scheduler::get_endpoints(), |all: Vec<EndpointInfo>| all
            .into_iter()
            .map(endpoint)
            .collect::<Vec<_>>())
    });
}

fn invoicing(query: &Query, calls: &mut Calls<'_>) {
    calls.call("invoicing.create-manual-invoice", || {
        let answer = host::invoicing::create_manual_invoice(&CreateManualInvoiceInput {
            client_id: query.or("client", "client-1").to_owned(),
            items: vec![ManualInvoiceItemInput {
                service_id: query.or("service", "service-1").to_owned(),
                quantity: 2.5,
                description: "work".to_owned(),
                rate: 1000.0,
                is_discount: None,
                discount_type: None,
                applies_to_item_id: None,
                applies_to_service_id: None,
            }],
            invoice_date: owned(query.get("date")),
            due_date: None,
            po_number: owned(query.get("po")),
        });
        ok(fields!(answer; success, invoice_id, invoice_number, status, subtotal, tax, total, error, field_errors))
    });
}

fn clients(query: &Query, calls: &mut Calls<'_>) {
    let client = |client: ClientSummary| {
        fields!(
            client;
            client_id, client_name, client_type, is_inactive, default_currency_code,
            account_manager_id, account_manager_name, billing_email
        )
    };
    calls.call("clients.list-clients", || {
        let input = ClientsListInput {
            search: owned(query.get("search")),
            include_inactive: query.get("inactive").map(|inactive| inactive == "true"),
            page: page(query, "page"),
            page_size: page(query, "page-size"),
        };
        outcome!(host::clients::list_clients(&input), |found: host::types::ClientsListResult| fields!(
            found;
            total_count, page, page_size;
            items: found.items.into_iter().map(client).collect::<Vec<_>>()
        ))
    });
    calls.call("clients.get-client", || {
        outcome!(host::clients::get_client(query.or("client", "client-1")), |found: Option<ClientSummary>| {
            found.map(client)
        })
    });
}

fn services(query: &Query, calls: &mut Calls<'_>) {
    let service = |service: ServiceSummary| {
        fields!(
            service;
            service_id, service_name, service_type_id, service_type_name,
            default_rate, unit_of_measure, is_active, sku;
            item_kind: match service.item_kind {
                ServiceItemKind::Service => "service",
                ServiceItemKind::Product => "product",
            },
            billing_method: match service.billing_method {
                ServiceBillingMethod::Fixed => "fixed",
                ServiceBillingMethod::Hourly => "hourly",
                ServiceBillingMethod::Usage => "usage",
            }
        )
    };
    calls.call("services.list-services", || {
        let input = ServicesListInput {
            search: owned(query.get("search")),
            item_kind: match query.get("kind") {
                Some("service") => Some(ServiceItemKind::Service),
                Some("product") => Some(ServiceItemKind::Product),
                _ => None,
            },
            is_active: query.get("active").map(|active| active == "true"),
            billing_method: None,
            page: page(query, "page"),
            page_size: page(query, "page-size"),
        };
        outcome!(host::services::list_services(&input), |found: host::types::ServicesListResult| fields!(
            found;
            total_count, page, page_size;
            items: found.items.into_iter().map(service).collect::<Vec<_>>()
        ))
    });
    calls.call("services.get-service", || {
        outcome!(host::services::get_service(query.or("service", "service-1")), |found: Option<
            ServiceSummary,
        >| found.map(service))
    });
}

fn page(query: &Query, name: &str) -> Option<u32> {
    query.get(name).and_then(|page| page.parse().ok())
}

kit::handler!(handle);
