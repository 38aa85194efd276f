//! The functions of the table and what the interfaces say that guests get (interop 1.3, 6.3 and 6.4). Written from there and
//! not from the program: the table in the docs is made from a run, and has to agree with this.

use serde_json::{Value, json};

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Allowed,
    Denied,
    Status(u16),
    Timeout,
    Malformed,
    BrokenOff,
}

impl Case {
    pub const ALL: [Self; 12] = [
        Self::Allowed,
        Self::Denied,
        Self::Status(400),
        Self::Status(401),
        Self::Status(403),
        Self::Status(404),
        Self::Status(409),
        Self::Status(429),
        Self::Status(500),
        Self::Timeout,
        Self::Malformed,
        Self::BrokenOff,
    ];

    pub fn title(self) -> String {
        match self {
            Self::Allowed => "allowed".to_owned(),
            Self::Denied => "denied".to_owned(),
            Self::Status(status) => status.to_string(),
            Self::Timeout => "timeout".to_owned(),
            Self::Malformed => "malformed answer".to_owned(),
            Self::BrokenOff => "broken off".to_owned(),
        }
    }
}

/// What stands behind a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Nothing: the call has all there is. The text says why the columns of an upstream are empty.
    Nothing,
    /// The platform's API and operation, as the stub names them.
    Platform(&'static str, &'static str),
    /// The UI proxy, with this route.
    Proxy(&'static str),
    /// A host of the guest's choice.
    Internet,
}

/// A row.
pub struct Function {
    pub name: &'static str,
    pub behind: Behind,
    /// Whether the capability can be missing.
    pub gated: bool,
    pub args: fn(&World) -> Value,
    expected: fn(Case) -> &'static str,
}

/// What arguments refer to.
pub struct World {
    pub url: String,
    pub schedule: String,
}

impl Function {
    /// What the guest has to get; none where the case cannot be.
    pub fn expected(&self, case: Case) -> Option<&'static str> {
        let possible = match case {
            Case::Allowed => true,
            Case::Denied => self.gated,
            _ => self.behind != Behind::Nothing,
        };
        possible.then(|| (self.expected)(case)).filter(|text| !text.is_empty())
    }
}

/// What error answers of the stub say.
pub const SAID: &str = "said by the platform";

const CLIENT: &str = "94db43c8-dd79-5508-a940-f1e3e5e626b0";
const SERVICE: &str = "7fe2be15-a05d-5cb5-a517-efabd7725cf3";

fn storage(case: Case) -> &'static str {
    match case {
        Case::Allowed => "ok",
        Case::Denied | Case::Status(401 | 403 | 429) => "err denied",
        Case::Status(404) => "err missing",
        Case::Status(409) => "err conflict",
        _ => "err internal",
    }
}

fn schedules(case: Case) -> &'static str {
    match case {
        Case::Allowed => "ok",
        Case::Denied | Case::Status(401 | 403) => "err denied",
        Case::Status(404) => "err not-found",
        Case::Status(400) => "err validation-failed",
        Case::Status(429) => "err quota-exceeded",
        _ => "err internal",
    }
}

/// Results that carry words: the platform's own where it refused the request, else what became of it.
fn words(case: Case) -> &'static str {
    match case {
        Case::Allowed => "success",
        Case::Denied => "failed: Permission denied: cap:scheduler.manage not granted",
        Case::Status(400 | 403 | 404 | 409 | 429) => "failed: said by the platform",
        Case::Status(401) => "failed: http 401",
        Case::Status(_) => "failed: http 500",
        Case::Timeout | Case::BrokenOff => "failed: transport failure",
        Case::Malformed => "failed: malformed answer",
    }
}

fn invoices(case: Case) -> &'static str {
    match case {
        Case::Denied => "failed: Permission denied: cap:invoice.manual.create not granted",
        case => words(case),
    }
}

fn reads(case: Case) -> &'static str {
    match case {
        Case::Allowed => "ok",
        Case::Denied | Case::Status(401 | 403) => "err not-allowed",
        Case::Status(400) => "err invalid-input",
        _ => "err internal",
    }
}

fn proxy(case: Case) -> &'static str {
    match case {
        // Bytes are handed on, whatever they are.
        Case::Allowed | Case::Malformed => "ok",
        Case::Denied | Case::Status(401 | 403 | 429) => "err denied",
        Case::Status(404) => "err route-not-found",
        Case::Status(400..=499) => "err bad-request",
        _ => "err internal",
    }
}

fn fetch(case: Case) -> &'static str {
    match case {
        Case::Allowed => "ok: status 200",
        Case::Denied => "err not-allowed",
        Case::Status(400) => "ok: status 400",
        Case::Status(401) => "ok: status 401",
        Case::Status(403) => "ok: status 403",
        Case::Status(404) => "ok: status 404",
        Case::Status(409) => "ok: status 409",
        Case::Status(429) => "ok: status 429",
        Case::Status(_) => "ok: status 500",
        Case::Timeout | Case::Malformed => "err transport",
        Case::BrokenOff => "err internal",
    }
}

fn wasi(case: Case) -> &'static str {
    match case {
        Case::Denied => "err HTTP-request-denied",
        Case::Timeout => "err HTTP-response-timeout",
        Case::Malformed => "err connection-terminated",
        // The error comes with the body's stream.
        Case::BrokenOff => "ok: status 200",
        case => fetch(case),
    }
}

fn secret(case: Case) -> &'static str {
    if case == Case::Denied { "err denied" } else { "ok" }
}

fn secret_names(case: Case) -> &'static str {
    if case == Case::Denied { "[]" } else { "[\"api_key\"]" }
}

fn line(_: Case) -> &'static str {
    "nothing"
}

fn record(_: Case) -> &'static str {
    "a record"
}

fn ok(_: Case) -> &'static str {
    "ok"
}

/// The key that every storage call of the table uses.
pub fn entry() -> Value {
    json!({ "namespace": "table", "key": "k" })
}

fn put() -> Value {
    json!({ "namespace": "table", "key": "k", "value": { "text": "v" } })
}

fn schedule(world: &World) -> Value {
    json!({ "schedule-id": world.schedule })
}

/// A schedule that the stub's seed has an endpoint for.
pub fn new_schedule(name: &str) -> Value {
    json!({ "endpoint": "/tick", "cron": "*/10 * * * *", "name": name, "payload": "{}" })
}

fn invoice() -> Value {
    json!({ "client-id": CLIENT, "items": [
        { "service-id": SERVICE, "quantity": 2, "description": "seats", "rate": 4500 },
    ] })
}

const fn row(
    name: &'static str,
    behind: Behind,
    gated: bool,
    args: fn(&World) -> Value,
    expected: fn(Case) -> &'static str,
) -> Function {
    Function { name, behind, gated, args, expected }
}

fn none(_: &World) -> Value {
    json!({})
}

/// All functions, in the order of the table: what comes later may need what an earlier one has made.
pub fn all() -> Vec<Function> {
    use Behind::{Internet, Nothing, Platform, Proxy};
    let message: fn(&World) -> Value = |_| json!({ "message": "a line" });
    vec![
        row("context.get-context", Nothing, false, none, record),
        row("secrets.get", Nothing, true, |_| json!({ "key": "api_key" }), secret),
        row("secrets.list-keys", Nothing, true, none, secret_names),
        row("http.fetch", Internet, true, |w| json!({ "method": "GET", "url": w.url }), fetch),
        row("wasi:http.handle", Internet, true, none, wasi),
        row("storage.put", Platform("storage", "put"), true, |_| put(), storage),
        row("storage.get", Platform("storage", "get"), true, |_| entry(), storage),
        row(
            "storage.list-entries",
            Platform("storage", "list"),
            true,
            |_| json!({ "namespace": "table" }),
            storage,
        ),
        row("storage.delete", Platform("storage", "delete"), true, |_| entry(), storage),
        row("logging.log-info", Nothing, false, message, line),
        row("logging.log-warn", Nothing, false, message, line),
        row("logging.log-error", Nothing, false, message, line),
        row(
            "ui-proxy.call-route",
            Proxy("/driver/orders"),
            true,
            |_| json!({ "route": "/orders", "payload": { "text": "{}" } }),
            proxy,
        ),
        row("user.get-user", Nothing, false, none, ok),
        row("user-v2.get-user", Nothing, false, none, ok),
        row("scheduler.list-schedules", Platform("scheduler", "list"), true, none, schedules),
        row("scheduler.get-schedule", Platform("scheduler", "get"), true, schedule, schedules),
        row(
            "scheduler.create-schedule",
            Platform("scheduler", "create"),
            true,
            |_| new_schedule("another"),
            words,
        ),
        row(
            "scheduler.update-schedule",
            Platform("scheduler", "update"),
            true,
            |w| json!({ "schedule-id": w.schedule, "name": "renamed", "payload": "{}" }),
            words,
        ),
        row("scheduler.delete-schedule", Platform("scheduler", "delete"), true, schedule, words),
        row("scheduler.get-endpoints", Platform("scheduler", "getEndpoints"), true, none, schedules),
        row(
            "invoicing.create-manual-invoice",
            Platform("invoicing", "createManualInvoice"),
            true,
            |_| invoice(),
            invoices,
        ),
        row("clients.list-clients", Platform("clients", "list"), true, none, reads),
        row(
            "clients.get-client",
            Platform("clients", "get"),
            true,
            |_| json!({ "client-id": CLIENT }),
            reads,
        ),
        row("services.list-services", Platform("services", "list"), true, none, reads),
        row(
            "services.get-service",
            Platform("services", "get"),
            true,
            |_| json!({ "service-id": SERVICE }),
            reads,
        ),
    ]
}
