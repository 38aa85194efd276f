//! Calls the host functions that its request's body names, one after the other, and answers what each said.
//!
//! Body: `{"calls": [{"fn": "storage.put", "args": {"namespace": "a", "key": "k", "value": {"text": "v"}}, "repeat": 3}, ...]}`
//!
//! - `fn` is `<interface>.<function>` of the twelve interfaces of `alga:extension`, spelled as in the WIT.
//! - `args` has the function's parameters under their WIT names. A parameter that is a record is spread: its fields stand in `args` themselves
//!   (`storage.put` takes `namespace`, `key`, `value`, `revision`; `scheduler.update-schedule` takes `schedule-id` and the fields of its input).
//!   Options may be left out or null; enums are their WIT names; bytes are `{"text": ".."}`, `{"b64": ".."}` or `{"fill": n}`, which is n times
//!   the letter x. A header is `{"name": .., "value": ..}` or `["name", "value"]`.
//! - `repeat` (1) makes the call so often; the answer has its last result only.
//!
//! Answer: `{"results": [...]}`, one for each call: `{"ok": value}` or `{"err": "case-name"}` for a WIT `result`, `{"value": value}` for any other
//! function (null for `logging`). Records have their WIT field names, options without a value are null, enums are their WIT names, bytes are
//! `{"text": ".."}` where they are UTF-8 and `{"b64": ".."}` where not.
//!
//! A body that is not of this form, an unknown function, a missing, unknown or mistyped argument answers 400 with a text that says which
//! (`call 2: secrets.get: key: is missing`). Calls before it have been made.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kit::bindings::alga::extension::types::{
    ClientSummary, ClientsListInput, CreateManualInvoiceInput, CreateScheduleInput, DiscountType,
    EndpointInfo, HttpHeader, HttpRequest, ManualInvoiceItemInput, ScheduleInfo, ServiceBillingMethod,
    ServiceItemKind, ServiceSummary, ServicesListInput, StorageEntry, UpdateScheduleInput,
};
use kit::{Map, Request, Response, Value, host};

fn handle(request: Request) -> Response {
    match run(request.http.body.as_deref().unwrap_or_default()) {
        Ok(results) => kit::json_body(&object(vec![("results", Value::Array(results))])),
        Err(complaint) => Response { status: 400, ..kit::text(complaint) },
    }
}

fn run(body: &[u8]) -> Result<Vec<Value>, String> {
    let body = serde_json::from_slice(body).map_err(|error| format!("body: {error}"))?;
    let mut body = Args::of(body)?;
    let calls = body.required("calls", list)?;
    body.end()?;
    calls
        .into_iter()
        .enumerate()
        .map(|(at, call)| one(call).map_err(|complaint| format!("call {at}: {complaint}")))
        .collect()
}

fn one(call: Value) -> Result<Value, String> {
    let mut call = Args::of(call)?;
    let function = call.required("fn", text)?;
    let args = call.optional("args", Ok)?.unwrap_or_else(|| Value::Object(Map::new()));
    let repeat = call.optional("repeat", number)?.unwrap_or(1);
    call.end()?;
    let mut last = Value::Null;
    for _ in 0..repeat {
        last = Args::of(args.clone())
            .and_then(|mut args| dispatch(&function, &mut args))
            .map_err(|complaint| format!("{function}: {complaint}"))?;
    }
    Ok(last)
}

/// Arguments still to be read; what is left at the end is a typing mistake of the test.
struct Args(Map<String, Value>);

impl Args {
    fn of(value: Value) -> Result<Self, String> {
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err("is no object".to_owned()),
        }
    }

    fn optional<T>(&mut self, name: &str, read: fn(Value) -> Result<T, String>) -> Result<Option<T>, String> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).map_err(|complaint| format!("{name}: {complaint}")),
        }
    }

    fn required<T>(&mut self, name: &str, read: fn(Value) -> Result<T, String>) -> Result<T, String> {
        self.optional(name, read)?.ok_or_else(|| format!("{name}: is missing"))
    }

    fn end(&self) -> Result<(), String> {
        self.0.keys().next().map_or(Ok(()), |name| Err(format!("{name}: is unknown")))
    }
}

fn text(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err("is no text".to_owned()),
    }
}

fn flag(value: Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "is no boolean".to_owned())
}

fn number(value: Value) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| "is no whole number".to_owned())
}

fn small_number(value: Value) -> Result<u32, String> {
    number(value)?.try_into().map_err(|_| "is above 32 bits".to_owned())
}

fn float(value: Value) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| "is no number".to_owned())
}

fn list(value: Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err("is no list".to_owned()),
    }
}

fn bytes(value: Value) -> Result<Vec<u8>, String> {
    let mut given = Args::of(value)?;
    let found = if let Some(text) = given.optional("text", text)? {
        text.into_bytes()
    } else if let Some(encoded) = given.optional("b64", text)? {
        STANDARD.decode(encoded).map_err(|_| "b64: is no base64".to_owned())?
    } else {
        vec![b'x'; given.required("fill", small_number)? as usize]
    };
    given.end().map(|()| found)
}

fn headers(value: Value) -> Result<Vec<HttpHeader>, String> {
    list(value)?
        .into_iter()
        .map(|given| match given {
            Value::Array(pair) => {
                let [name, value] = <[Value; 2]>::try_from(pair).map_err(|_| "is no pair".to_owned())?;
                Ok(HttpHeader { name: text(name)?, value: text(value)? })
            }
            record => {
                let mut record = Args::of(record)?;
                let header = HttpHeader {
                    name: record.required("name", text)?,
                    value: record.required("value", text)?,
                };
                record.end().map(|()| header)
            }
        })
        .collect()
}

/// Reads an enum by its WIT names.
macro_rules! named {
    ($function:ident: $type:ident { $($name:literal => $case:ident),* }) => {
        fn $function(value: Value) -> Result<$type, String> {
            match value.as_str() {
                $(Some($name) => Ok($type::$case),)*
                _ => Err(concat!("is none of", $(" ", $name),*).to_owned()),
            }
        }
    };
}

named!(discount: DiscountType { "percentage" => Percentage, "fixed" => Fixed });
named!(kind: ServiceItemKind { "service" => Service, "product" => Product });
named!(billing: ServiceBillingMethod { "fixed" => Fixed, "hourly" => Hourly, "usage" => Usage });

fn invoice_items(value: Value) -> Result<Vec<ManualInvoiceItemInput>, String> {
    list(value)?
        .into_iter()
        .map(|item| {
            let mut item = Args::of(item)?;
            let input = ManualInvoiceItemInput {
                service_id: item.required("service-id", text)?,
                quantity: item.required("quantity", float)?,
                description: item.required("description", text)?,
                rate: item.required("rate", float)?,
                is_discount: item.optional("is-discount", flag)?,
                discount_type: item.optional("discount-type", discount)?,
                applies_to_item_id: item.optional("applies-to-item-id", text)?,
                applies_to_service_id: item.optional("applies-to-service-id", text)?,
            };
            item.end().map(|()| input)
        })
        .collect()
}

fn object(fields: Vec<(&str, Value)>) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.replace('_', "-"), value)).collect())
}

fn value(value: Value) -> Value {
    object(vec![("value", value)])
}

fn shown(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => object(vec![("text", Value::from(text))]),
        Err(bytes) => object(vec![("b64", Value::from(STANDARD.encode(bytes.as_bytes())))]),
    }
}

fn each<T>(items: Vec<T>, show: impl Fn(T) -> Value) -> Value {
    Value::Array(items.into_iter().map(show).collect())
}

/// A JSON object of a record's fields under their WIT names, and of computed ones after the second `;`. `json!` would do, at three times the code.
macro_rules! fields {
    ($record:ident; $($name:ident),* $(; $($more:ident : $value:expr),*)?) => {
        object(vec![$((stringify!($name), Value::from($record.$name)),)* $($((stringify!($more), Value::from($value)),)*)?])
    };
}

/// `name()` of a WIT error enum, which the bindings generate for each without a common trait.
macro_rules! outcome {
    ($result:expr, $ok:expr) => {
        match $result {
            Ok(value) => object(vec![("ok", Value::from(($ok)(value)))]),
            Err(error) => object(vec![("err", Value::from(error.name()))]),
        }
    };
}

fn dispatch(function: &str, args: &mut Args) -> Result<Value, String> {
    let (interface, name) = function.split_once('.').ok_or("is no interface.function")?;
    let found = match interface {
        "storage" => storage(name, args),
        "scheduler" => scheduler(name, args),
        "clients" | "services" | "invoicing" => records(function, args),
        _ => small(function, args),
    }?;
    found.ok_or_else(|| "is unknown".to_owned())
}

type Found = Result<Option<Value>, String>;

fn small(function: &str, args: &mut Args) -> Found {
    Ok(Some(match function {
        "context.get-context" => {
            args.end()?;
            let context = host::context::get_context();
            value(fields!(context; request_id, tenant_id, extension_id, install_id, version_id))
        }
        "secrets.get" => {
            let key = args.required("key", text)?;
            args.end()?;
            outcome!(host::secrets::get(&key), |found| found)
        }
        "secrets.list-keys" => {
            args.end()?;
            value(Value::from(host::secrets::list_keys()))
        }
        "http.fetch" => {
            let request = HttpRequest {
                method: args.required("method", text)?,
                url: args.required("url", text)?,
                headers: args.optional("headers", headers)?.unwrap_or_default(),
                body: args.optional("body", bytes)?,
            };
            args.end()?;
            outcome!(host::http::fetch(&request), |answer: host::types::HttpResponse| fields!(
                answer;
                status;
                headers: each(answer.headers, |header| fields!(header; name, value)),
                body: answer.body.map(shown)
            ))
        }
        "logging.log-info" | "logging.log-warn" | "logging.log-error" => {
            let message = args.required("message", text)?;
            args.end()?;
            match function {
                "logging.log-info" => host::logging::log_info(&message),
                "logging.log-warn" => host::logging::log_warn(&message),
                _ => host::logging::log_error(&message),
            }
            value(Value::Null)
        }
        "ui-proxy.call-route" => {
            let route = args.required("route", text)?;
            let payload = args.optional("payload", bytes)?;
            args.end()?;
            outcome!(host::ui_proxy::call_route(&route, payload.as_deref()), shown)
        }
        "user.get-user" => {
            args.end()?;
            outcome!(host::user::get_user(), |user: host::types::UserData| {
                fields!(user; tenant_id, client_name, user_id, user_email, user_name, user_type)
            })
        }
        "user-v2.get-user" => {
            args.end()?;
            outcome!(host::user_v2::get_user(), |user: host::types::UserDataV2| fields!(
                user;
                tenant_id, client_name, user_id, user_email, user_name, user_type, client_id;
                additional_fields: each(user.additional_fields, |(name, field)| Value::from(vec![name, field]))
            ))
        }
        _ => return Ok(None),
    }))
}

fn storage(name: &str, args: &mut Args) -> Found {
    let entry = |entry: StorageEntry| fields!(entry; namespace, key, revision; value: shown(entry.value));
    let namespace = args.required("namespace", text)?;
    Ok(Some(match name {
        "get" | "delete" => {
            let key = args.required("key", text)?;
            args.end()?;
            if name == "get" {
                outcome!(host::storage::get(&namespace, &key), entry)
            } else {
                outcome!(host::storage::delete(&namespace, &key), |()| Value::Null)
            }
        }
        "put" => {
            let given = StorageEntry {
                namespace,
                key: args.required("key", text)?,
                value: args.required("value", bytes)?,
                revision: args.optional("revision", number)?,
            };
            args.end()?;
            outcome!(host::storage::put(&given), entry)
        }
        "list-entries" => {
            let cursor = args.optional("cursor", text)?;
            args.end()?;
            outcome!(host::storage::list_entries(&namespace, cursor.as_deref()), |all| each(all, entry))
        }
        _ => return Ok(None),
    }))
}

fn scheduler(name: &str, args: &mut Args) -> Found {
    let schedule = |schedule: ScheduleInfo| {
        fields!(
            schedule;
            id, endpoint_path, endpoint_method, name, cron, timezone, enabled, payload,
            last_run_at, last_run_status, last_error, created_at
        )
    };
    Ok(Some(match name {
        "list-schedules" => {
            args.end()?;
            outcome!(host::scheduler::list_schedules(), |all| each(all, schedule))
        }
        "get-endpoints" => {
            args.end()?;
            let endpoint = |endpoint: EndpointInfo| fields!(endpoint; id, method, path, handler, schedulable);
            outcome!(host::scheduler::get_endpoints(), |all| each(all, endpoint))
        }
        "get-schedule" | "delete-schedule" => {
            let id = args.required("schedule-id", text)?;
            args.end()?;
            if name == "get-schedule" {
                outcome!(host::scheduler::get_schedule(&id), |found: Option<ScheduleInfo>| found
                    .map(schedule))
            } else {
                let answer = host::scheduler::delete_schedule(&id);
                value(fields!(answer; success, error))
            }
        }
        "create-schedule" => {
            let input = CreateScheduleInput {
                endpoint: args.required("endpoint", text)?,
                cron: args.required("cron", text)?,
                timezone: args.optional("timezone", text)?,
                enabled: args.optional("enabled", flag)?,
                name: args.optional("name", text)?,
                payload: args.optional("payload", text)?,
            };
            args.end()?;
            let answer = host::scheduler::create_schedule(&input);
            value(fields!(answer; success, schedule_id, error, field_errors))
        }
        "update-schedule" => {
            let id = args.required("schedule-id", text)?;
            let input = UpdateScheduleInput {
                endpoint: args.optional("endpoint", text)?,
                cron: args.optional("cron", text)?,
                timezone: args.optional("timezone", text)?,
                enabled: args.optional("enabled", flag)?,
                name: args.optional("name", text)?,
                payload: args.optional("payload", text)?,
            };
            args.end()?;
            let answer = host::scheduler::update_schedule(&id, &input);
            value(fields!(answer; success, error, field_errors))
        }
        _ => return Ok(None),
    }))
}

fn records(function: &str, args: &mut Args) -> Found {
    Ok(Some(match function {
        "invoicing.create-manual-invoice" => {
            let input = CreateManualInvoiceInput {
                client_id: args.required("client-id", text)?,
                items: args.required("items", invoice_items)?,
                invoice_date: args.optional("invoice-date", text)?,
                due_date: args.optional("due-date", text)?,
                po_number: args.optional("po-number", text)?,
            };
            args.end()?;
            let answer = host::invoicing::create_manual_invoice(&input);
            value(
                fields!(answer; success, invoice_id, invoice_number, status, subtotal, tax, total, error, field_errors),
            )
        }
        "clients.list-clients" => {
            let input = ClientsListInput {
                search: args.optional("search", text)?,
                include_inactive: args.optional("include-inactive", flag)?,
                page: args.optional("page", small_number)?,
                page_size: args.optional("page-size", small_number)?,
            };
            args.end()?;
            outcome!(host::clients::list_clients(&input), |found: host::types::ClientsListResult| fields!(
                found;
                total_count, page, page_size;
                items: each(found.items, client)
            ))
        }
        "clients.get-client" => {
            let id = args.required("client-id", text)?;
            args.end()?;
            outcome!(host::clients::get_client(&id), |found: Option<ClientSummary>| found.map(client))
        }
        "services.list-services" => {
            let input = ServicesListInput {
                search: args.optional("search", text)?,
                item_kind: args.optional("item-kind", kind)?,
                is_active: args.optional("is-active", flag)?,
                billing_method: args.optional("billing-method", billing)?,
                page: args.optional("page", small_number)?,
                page_size: args.optional("page-size", small_number)?,
            };
            args.end()?;
            outcome!(host::services::list_services(&input), |found: host::types::ServicesListResult| fields!(
                found;
                total_count, page, page_size;
                items: each(found.items, service)
            ))
        }
        "services.get-service" => {
            let id = args.required("service-id", text)?;
            args.end()?;
            outcome!(host::services::get_service(&id), |found: Option<ServiceSummary>| found.map(service))
        }
        _ => return Ok(None),
    }))
}

fn client(client: ClientSummary) -> Value {
    fields!(
        client;
        client_id, client_name, client_type, is_inactive, default_currency_code,
        account_manager_id, account_manager_name, billing_email
    )
}

fn service(service: ServiceSummary) -> Value {
    fields!(
        service;
        service_id, service_name, service_type_id, service_type_name, default_rate, unit_of_measure, is_active, sku;
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
}

kit::handler!(handle);
