//! Does with its secrets what no extension should, in every encoding that one would think of, so that a test can look for them afterwards.
//! `?marker=` is no secret and goes everywhere with them. `?mode=`:
//! - `use` (the default): log lines, stdout, stderr, headers, bodies and URLs of requests to `?url=`, arguments of every host function that takes
//!   text. Answers how many host calls it made, and how many of the requests came back with 200.
//! - `store`: keeps them in storage, as values and in keys, reads them back, lists them.
//! - `answer`: answers with them, in a header and in the body.
//! - `panic`: traps with them in the message on stderr.
//! - `header`: answers a header that is none because of them.

use std::panic;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kit::host::types::{
    ClientsListInput, CreateManualInvoiceInput, CreateScheduleInput, HttpRequest, ManualInvoiceItemInput,
    ServicesListInput, StorageEntry, UpdateScheduleInput,
};
use kit::{Query, Request, Response, header, host, json, wasi};

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    let (marker, url) = (query.or("marker", "no-marker"), query.or("url", "http://127.0.0.1:9/"));
    let secrets: Vec<String> =
        host::secrets::list_keys().iter().filter_map(|key| host::secrets::get(key).ok()).collect();
    let texts: Vec<String> = secrets.iter().flat_map(|secret| encoded(secret, marker)).collect();
    match query.or("mode", "use") {
        "use" => {
            let mut found = Found::default();
            texts.iter().for_each(|text| say(text));
            texts.iter().for_each(|text| send(text, url, &mut found));
            // Each of these is two requests or more, and what is recorded of them is the same machinery.
            secrets.iter().for_each(|secret| ask(&format!("{marker} {secret}"), &mut found));
            kit::json_body(&json!({ "secrets": secrets.len(), "calls": found.calls, "sent": found.sent }))
        }
        "store" => {
            let stored = texts.iter().enumerate().filter(|(at, text)| store(*at, text)).count();
            kit::json_body(&json!({ "texts": texts.len(), "stored": stored }))
        }
        "answer" => {
            let headers = vec![header("x-secret", &texts[0])];
            Response { status: 200, headers, body: Some(texts.join("\n").into_bytes()) }
        }
        "panic" => {
            panic::set_hook(Box::new(|info| wasi::eprint(format!("{info}\n").as_bytes())));
            panic!("{}", texts.join(" and "));
        }
        "header" => Response {
            status: 200,
            headers: texts.iter().map(|text| header(text, &format!("{text}\r\nx: {text}"))).collect(),
            body: None,
        },
        _ => kit::bad_parameter("mode"),
    }
}

#[derive(Default)]
struct Found {
    calls: u32,
    sent: u32,
}

/// The secret as it is and as guests write secrets, each beside the marker.
fn encoded(secret: &str, marker: &str) -> [String; 8] {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [
        format!("{marker} {secret}"),
        format!("{marker} {}", STANDARD.encode(secret)),
        // In the middle of another text, so that it does not begin at a border of base64.
        format!("{marker} {}", STANDARD.encode(format!("u:{secret}"))),
        format!("{marker} {}", URL_SAFE_NO_PAD.encode(secret)),
        format!("{marker} {}", percent(bytes)),
        format!("{marker} {hex}"),
        format!("{marker} {}", hex.to_uppercase()),
        // A log line that is a JSON object becomes fields.
        json!({ "marker": marker, "token": secret }).to_string(),
    ]
}

fn percent(bytes: &[u8]) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    bytes.iter().map(|b| if kept(*b) { char::from(*b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn say(text: &str) {
    host::logging::log_info(text);
    host::logging::log_warn(text);
    host::logging::log_error(text);
    wasi::print(format!("{text}\n").as_bytes());
    // A line made of two writes, cut inside of the secret.
    let (first, second) = text.as_bytes().split_at(text.len() - 5);
    wasi::eprint(first);
    wasi::eprint(second);
    wasi::eprint(b"\n");
}

fn send(text: &str, url: &str, found: &mut Found) {
    let requests = [
        (url.to_owned(), vec![header("x-token", text), header("authorization", text)], text.as_bytes().to_vec()),
        (format!("{url}{}?q={}", percent(text.as_bytes()), percent(text.as_bytes())), vec![], vec![]),
        // Refused: what is wrong is told with words.
        (format!("{url}\u{1}{text}"), vec![], vec![]),
    ];
    for (url, headers, body) in requests {
        let request = HttpRequest { method: "POST".to_owned(), url, headers, body: Some(body) };
        found.calls += 1;
        found.sent += u32::from(host::http::fetch(&request).is_ok_and(|answer| answer.status == 200));
    }
}

/// Every other function that takes text.
fn ask(text: &str, found: &mut Found) {
    let some = || Some(text.to_owned());
    let _ = host::secrets::get(text);
    let _ = host::ui_proxy::call_route(&format!("/{}", percent(text.as_bytes())), Some(text.as_bytes()));
    let _ = host::ui_proxy::call_route(&format!("/../{text}"), None);
    let _ = host::storage::get(&format!("{text}\n"), text);
    let _ = host::storage::list_entries(&format!("{text}\0"), Some(text));
    let payload = json!({ "token": text }).to_string();
    let (endpoint, cron) = (text.to_owned(), text.to_owned());
    let _ = host::scheduler::create_schedule(&CreateScheduleInput {
        endpoint,
        cron,
        timezone: some(),
        enabled: None,
        name: some(),
        payload: Some(payload.clone()),
    });
    let _ = host::scheduler::update_schedule(
        text,
        &UpdateScheduleInput {
            endpoint: some(),
            cron: some(),
            timezone: some(),
            enabled: None,
            name: some(),
            payload: Some(payload),
        },
    );
    let _ = host::scheduler::get_schedule(text);
    let _ = host::scheduler::delete_schedule(text);
    let _ = host::scheduler::list_schedules();
    let item = ManualInvoiceItemInput {
        service_id: text.to_owned(),
        quantity: 1.0,
        description: text.to_owned(),
        rate: 1.0,
        is_discount: None,
        discount_type: None,
        applies_to_item_id: some(),
        applies_to_service_id: some(),
    };
    let _ = host::invoicing::create_manual_invoice(&CreateManualInvoiceInput {
        client_id: text.to_owned(),
        items: vec![item],
        invoice_date: some(),
        due_date: some(),
        po_number: some(),
    });
    let _ = host::clients::get_client(text);
    let _ = host::clients::list_clients(&ClientsListInput {
        search: some(),
        include_inactive: None,
        page: None,
        page_size: None,
    });
    let _ = host::services::get_service(text);
    let _ = host::services::list_services(&ServicesListInput {
        search: some(),
        item_kind: None,
        is_active: None,
        billing_method: None,
        page: None,
        page_size: None,
    });
    found.calls += 15;
}

fn store(at: usize, text: &str) -> bool {
    let value = text.as_bytes().to_vec();
    let (namespace, key) = ("canary".to_owned(), format!("{at}-{}", percent(text.as_bytes()).replace('%', "_")));
    let entry = StorageEntry { namespace, key, value, revision: None };
    let put = host::storage::put(&entry).is_ok();
    let conflict = host::storage::put(&StorageEntry { revision: Some(1), ..entry.clone() }).is_err();
    let got = host::storage::get(&entry.namespace, &entry.key).is_ok_and(|found| found.value == entry.value);
    let listed = host::storage::list_entries(&entry.namespace, None).is_ok();
    put && conflict && got && listed
}

kit::handler!(handle);
