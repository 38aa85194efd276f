//! Every function in every case; docs/capabilities.md has the table.

use std::path::PathBuf;
use std::time::Duration;

use longshore_egress::EgressConfig;
use longshore_proto::event::Kind;
use longshore_stub_platform::{Fault, Options, StubPlatform};
use serde_json::{Value, json};

use crate::functions::{self, Behind, Case, Function, SAID, World};
use crate::support::{Bench, Setup, TOKEN, drive, function, get};
use crate::upstream::{Answer, Server, whole};

/// Long for an answer on loopback, short for a test that waits for it.
const SHORT: Duration = Duration::from_millis(250);

pub struct Stage {
    stub: StubPlatform,
    server: Server,
    pub bench: Bench,
    pub impatient: Bench,
    world: World,
    /// Whether its calls are recorded.
    pub recorded: bool,
}

impl Stage {
    pub async fn set() -> Self {
        let options = Options { token: Some(TOKEN.to_owned()), ..Options::default() };
        let (stub, server) = (StubPlatform::start(options).await.unwrap(), Server::start().await);
        let patient = Setup::on(&stub).open();
        let bench = Bench::new(&patient);
        let egress = EgressConfig { total_timeout: SHORT, ..patient.egress.clone() };
        let impatient = bench.beside(&Setup { timeout: SHORT, egress, ..Setup::on(&stub) });
        let new = function("scheduler.create-schedule", functions::new_schedule("first"));
        let made = bench.one(drive([new])).await;
        let schedule = made["value"]["schedule-id"].as_str().unwrap().to_owned();
        let world = World { url: server.url("/"), schedule };
        Self { stub, server, bench, impatient, world, recorded: false }
    }

    /// What the guest got, after the cause was put in its way.
    pub async fn cell(&self, row: &Function, case: Case) -> String {
        self.prepare(row, case);
        let bench = if case == Case::Timeout { &self.impatient } else { &self.bench };
        let wasi = row.name == "wasi:http.handle";
        let call = match wasi {
            true => get("http-echo", &format!("/?send=127.0.0.1:{}", self.server.port())),
            false => drive([function(row.name, (row.args)(&self.world))]),
        };
        let call = if case == Case::Denied { call.ungranted() } else { call };
        let call = if self.recorded { call.recorded() } else { call };
        self.stub.forget_requests();
        self.server.requests();
        let got = match wasi {
            true => of_wasi(&bench.run(call).await.result.unwrap().body.unwrap()),
            false => shown(row.name, &bench.one(call).await),
        };
        let sent = self.stub.requests().len() + self.server.requests().len();
        let expected = usize::from(row.behind != Behind::Nothing && case != Case::Denied);
        assert_eq!(sent, expected, "requests of {} with {case:?}", row.name);
        self.recorded(bench, row, case, &got);
        got
    }

    fn prepare(&self, row: &Function, case: Case) {
        let (stub, server) = (&self.stub, &self.server);
        let body = json!({ "error": SAID, "code": "SAID" }).to_string();
        let fault = match case {
            Case::Allowed | Case::Denied => None,
            Case::Status(status) => Some(Fault::Status(status, body.clone())),
            Case::Timeout => Some(Fault::Hang),
            Case::Malformed => Some(Fault::Malformed),
            Case::BrokenOff => Some(Fault::DropConnection),
        };
        match (row.behind, fault) {
            (Behind::Platform(api, operation), Some(fault)) => stub.fail_next(api, operation, fault),
            (Behind::Proxy(route), Some(fault)) => stub.fail_next("rest", route, fault),
            _ => {}
        }
        server.answers(match case {
            Case::Status(status) => whole(status, "", &body),
            Case::Timeout => Answer::Hang,
            Case::Malformed => Answer::Last(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec()),
            Case::BrokenOff => Answer::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec()),
            Case::Allowed | Case::Denied => whole(200, "", "hello"),
        });
    }

    /// Each call is one event, with the case of the error as its outcome, and with words where an upstream is to blame.
    fn recorded(&self, bench: &Bench, row: &Function, case: Case, got: &str) {
        let calls = bench.host_calls();
        if row.name.starts_with("logging.") && case != Case::Denied {
            // The line that it logged is the event.
            let lines = bench.events(Kind::Log).len();
            return assert_eq!((calls.len(), lines, got), (0, 1, "nothing"), "{}", row.name);
        }
        let [call] = calls.as_slice() else { panic!("{}: {calls:?}", row.name) };
        let (what, outcome) =
            (format!("{} with {case:?}: {call}", row.name), call["outcome"].as_str().unwrap());
        assert_eq!(call["name"], row.name, "{what}");
        if case == Case::Denied {
            assert_eq!(outcome, "denied", "{what}");
        } else if row.name == "wasi:http.handle" {
            assert_eq!(outcome, if got.starts_with("ok") { "ok" } else { "failed" }, "{what}");
        } else if got.starts_with("failed") {
            assert_eq!(outcome, "failed", "{what}");
        } else {
            assert_eq!(outcome, got.strip_prefix("err ").unwrap_or("ok"), "{what}");
        }
        let failed = got.starts_with("err") || got.starts_with("failed");
        if failed && case != Case::Denied {
            // Results that carry words show them; the error enums need a note.
            let words =
                call["note"].as_str().or_else(|| call["result"]["error"].as_str()).unwrap_or_default();
            assert!(!words.is_empty() && !words.contains("127.0.0.1"), "{what}");
        }
    }
}

/// A result of the driver in a few words.
fn shown(name: &str, result: &Value) -> String {
    if let Some(error) = result["err"].as_str() {
        return format!("err {error}");
    }
    if let Some(answer) = result.get("ok") {
        let status = answer["status"].as_u64().filter(|_| name == "http.fetch");
        return status.map_or_else(|| "ok".to_owned(), |status| format!("ok: status {status}"));
    }
    let value = &result["value"];
    match (value["success"].as_bool(), value) {
        (Some(true), _) => "success".to_owned(),
        (Some(false), _) => format!("failed: {}", value["error"].as_str().unwrap()),
        (None, Value::Null) => "nothing".to_owned(),
        (None, Value::Object(_)) => "a record".to_owned(),
        (None, other) => other.to_string(),
    }
}

/// What `http-echo` says of its outgoing request: a status or the error of `wasi:http` as Rust names it.
fn of_wasi(body: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap();
    let sent = answer["sent"].as_str().unwrap();
    if sent.parse::<u16>().is_ok() {
        return format!("ok: status {sent}");
    }
    let name = sent.trim_start_matches("ErrorCode::").split('(').next().unwrap();
    let mut wit = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !wit.is_empty() {
            wit.push('-');
        }
        wit.extend(c.to_lowercase());
    }
    format!("err {}", wit.replace("http-", "HTTP-"))
}

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/capabilities.md")
}

const BEGIN: &str = "<!-- made by worker/tests/capabilities; LONGSHORE_BLESS=1 writes it -->\n";
const END: &str = "<!-- end of what is made -->\n";

/// The page with this table, and the page as it is.
fn with_table(table: &str) -> (String, String) {
    let is = std::fs::read_to_string(page()).unwrap();
    let (before, rest) = is.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    (format!("{before}{BEGIN}{table}{END}{after}"), is)
}

#[tokio::test]
async fn what_guests_get_is_what_the_interfaces_say_and_what_the_page_shows() {
    let stage = Stage::set().await;
    let mut table = "| function |".to_owned();
    table.extend(Case::ALL.map(|case| format!(" {} |", case.title())));
    table.push_str(&format!("\n|{}\n", " --- |".repeat(Case::ALL.len() + 1)));
    let mut wrong = Vec::new();
    for row in functions::all() {
        table.push_str(&format!("| `{}` |", row.name));
        // The allowed one last: it may remove what the others are about.
        let mut cells = Vec::new();
        for case in Case::ALL.into_iter().rev() {
            let Some(expected) = row.expected(case) else {
                cells.push("-".to_owned());
                continue;
            };
            let got = stage.cell(&row, case).await;
            if got != expected {
                wrong.push(format!("{} with {case:?}: expected {expected}, got {got}", row.name));
            }
            cells.push(format!("`{got}`"));
        }
        cells.reverse();
        table.push_str(&format!(" {} |\n", cells.join(" | ")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let (page_now, is) = with_table(&table);
    if std::env::var_os("LONGSHORE_BLESS").is_some() {
        std::fs::write(page(), page_now).unwrap();
    } else {
        assert!(
            page_now == is,
            "docs/capabilities.md is not what was found; LONGSHORE_BLESS=1 writes it:\n{table}"
        );
    }
}

#[test]
fn the_table_has_every_function_of_the_world() {
    let mut resolve = wit_parser::Resolve::default();
    let wit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../proto/wit");
    let (package, _) = resolve.push_dir(&wit).unwrap();
    let mut declared: Vec<String> = Vec::new();
    for (name, interface) in &resolve.packages[package].interfaces {
        declared.extend(resolve.interfaces[*interface].functions.keys().map(|f| format!("{name}.{f}")));
    }
    // The other door of the same capability; the world does not name it.
    declared.push("wasi:http.handle".to_owned());
    let mut tested: Vec<_> = functions::all().iter().map(|row| row.name.to_owned()).collect();
    declared.sort();
    tested.sort();
    assert_eq!(tested, declared);
}

#[tokio::test]
async fn without_an_install_and_without_a_backend_nothing_is_sent_and_the_words_are_known() {
    let stub = StubPlatform::start(Options::default()).await.unwrap();
    let rows: Vec<_> =
        functions::all().into_iter().filter(|row| matches!(row.behind, Behind::Platform(..))).collect();
    let world = World { url: String::new(), schedule: "s".to_owned() };
    let calls = || rows.iter().map(|row| function(row.name, (row.args)(&world)));
    let bench = Bench::new(&Setup::on(&stub));
    for install in [None, Some(""), Some("  ")] {
        let results = bench.results(drive(calls()).install(install)).await;
        for (row, result) in rows.iter().zip(&results) {
            let expected = match row.name.split('.').next().unwrap() {
                "clients" | "services" => "err not-allowed",
                "invoicing" => "failed: Permission denied: install_id missing",
                "scheduler" if result.get("value").is_some() => "failed: Install ID missing",
                _ => "err denied",
            };
            assert_eq!(shown(row.name, result), expected, "{} with {install:?}", row.name);
        }
    }
    assert!(stub.requests().is_empty());
    // A worker without a platform.
    let results = bench.beside(&Setup::default()).results(drive(calls())).await;
    for (row, result) in rows.iter().zip(&results) {
        let words = match row.name {
            name if result.get("err").is_some() => ("err internal", name),
            name if name.starts_with("scheduler") => ("failed: no scheduler is configured", name),
            name => ("failed: no platform is configured", name),
        };
        assert_eq!(shown(row.name, result), words.0, "{}", words.1);
    }
}
