//! Canaries in recorded runs: nothing that a trace leaves anywhere has a secret in it, and what stands in its place is good enough to replay with.
//!
//! The guest is that of `canary`, and so are its secrets and the search. Beside what is searched there: traces taken apart, because Redis and files have
//! them compressed; payloads in the store; exported files; lists, events and reports that people read.

use std::collections::BTreeSet;
use std::path::Path;

use longshore_proto::trace::{Entry, Payload};
use longshore_tests::store::{self, EVERYTHING};
use longshore_tests::{Admin, Caller, Service, Shell, Stack, wait};
use longshore_trace::{file, unpack};
use serde_json::{Value, json};

use super::canary::{Echo, HANDLE, MARKER, Places, contains, leaks, plain};

const TENANT: &str = "tenant-mark3r";
/// Headers that are secret whatever is in them, in a request that somebody sends.
const BEARER: &str = "canary-bearer-0d77e1c9";
const COOKIE: &str = "canary-cookie-5511aa02";
const FIELD: &str = "canary-field-b3908d44";
const CARD: &str = "4929-canary-8812";

/// What the operator has said about bodies and texts.
const POLICY: &str = r#"{
  "json_paths": ["$.card.number", "$..password"],
  "headers": ["x-operators-own"],
  "regexes": ["4929-[a-z]+-[0-9]{4}"]
}"#;

struct World {
    stack: Stack,
    admin: Admin,
    _worker: Service,
    gateway: Service,
    caller: Caller,
    echo: Echo,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy.json");
        std::fs::write(&policy, POLICY).unwrap();
        let worker = [
            ("EXT_EGRESS_ALLOWLIST", "127.0.0.1"),
            ("LONGSHORE_EGRESS_PRIVATE", "allow"),
            ("LONGSHORE_STORAGE", "nats"),
            ("WORKER_MAX_OUTBOUND_REQUESTS", "1000"),
            ("LONGSHORE_REDACT_POLICY_FILE", policy.to_str().unwrap()),
        ];
        let gateway = [("EXT_GATEWAY_TIMEOUT_MS", "120000")];
        let (stack, admin, [worker], gateway) = Stack::standalone::<1>(&worker, &gateway).await;
        let caller = Caller::new(&gateway, admin.token(TENANT, "write").await).await;
        let echo = Echo::start().await;
        Self { stack, admin, _worker: worker, gateway, caller, echo, _folder: folder }
    }

    async fn install(&self, guest: &str) {
        let mut secrets: serde_json::Map<_, _> =
            plain().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        secrets.insert("handle".to_owned(), json!(HANDLE));
        let hosts = format!("127.0.0.1:{}", self.echo.address.port());
        let options = json!({
            "capture": "record", "secrets": secrets, "secret_hosts": { "handle": [hosts] },
            "limits": { "timeout_ms": 120_000 },
        });
        let bundle = store::extension(guest, guest, "1.0.0", &EVERYTHING, &["GET /", "POST /"]);
        self.admin.install(TENANT, &bundle, options).await;
    }

    async fn run(&self, guest: &str, query: &str) -> String {
        let url = self.echo.url("/ok/");
        let path = format!("com.longshore.test.{guest}/?marker={MARKER}&url={url}&{query}");
        let headers = [
            ("authorization-of-a-caller", "no secret by its name"),
            ("x-api-key", BEARER),
            ("cookie", COOKIE),
            ("x-operators-own", BEARER),
            ("content-type", "application/json"),
        ];
        let body = json!({ "marker": MARKER, "card": { "number": FIELD }, "deep": [{ "password": FIELD }], "note": CARD });
        let reply = self.caller.send("POST", &path, &headers, body.to_string()).await;
        reply.execution().to_owned()
    }

    async fn listed(&self, runs: &BTreeSet<String>) -> Vec<Value> {
        wait::until("the traces of all runs", wait::LIMIT, async || {
            let traces = self.admin.traces(TENANT, "").await;
            let there =
                traces.iter().filter(|trace| runs.contains(trace["execution"].as_str().unwrap())).count();
            if there == runs.len() { Ok(traces) } else { Err(format!("{there} of {}", runs.len())) }
        })
        .await
    }
}

/// Everything in a trace as text, its bytes as they are.
fn taken_apart(packed: &[u8]) -> Vec<u8> {
    let trace = unpack(packed).unwrap();
    let mut text = Vec::new();
    for record in trace.records() {
        text.extend(format!("{record:?}\n").into_bytes());
        let payload = match &record.entry {
            Entry::Request { body } | Entry::Response { body, .. } => body.as_ref(),
            Entry::CallStart { args, .. } => Some(args),
            Entry::CallEnd { result, .. } => Some(result),
            Entry::Stream { content, .. } => Some(content),
            _ => None,
        };
        if let Some(Payload::Inline(bytes)) = payload {
            text.extend_from_slice(bytes);
            text.push(b'\n');
        }
    }
    text
}

/// The files in a folder and below it, with their names.
fn files(folder: &Path, places: &mut Places) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, places);
        } else {
            places.insert(format!("store: {}", path.display()), std::fs::read(&path).unwrap());
        }
    }
}

/// Those of a caller, which no vault knows.
fn of_callers(places: &Places) -> Vec<String> {
    let mut found = Vec::new();
    for (place, text) in places {
        for secret in [BEARER, COOKIE, FIELD, CARD] {
            if contains(text, secret.as_bytes()) {
                found.push(format!("{place}: {secret}"));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_any_stream_file_object_or_report_of_a_recorded_run() {
    let world = World::start().await;
    for guest in ["canary", "http-canary", "echo"] {
        world.install(guest).await;
    }
    let mut runs = BTreeSet::new();
    for (guest, query) in [
        ("canary", "mode=use"),
        ("canary", "mode=store"),
        ("canary", "mode=answer"),
        ("canary", "mode=panic"),
        ("canary", "mode=header"),
        ("http-canary", ""),
        ("http-canary", "pad=181"),
        ("echo", ""),
        ("echo", "raw"),
    ] {
        runs.insert(world.run(guest, query).await);
    }
    let traces = world.listed(&runs).await;

    let mut shell = Shell::new(&world.admin, &world.gateway, TENANT);
    shell.set("NO_COLOR", "1");
    let mut places = Places::new();
    let mut with_marker = Vec::new();
    for execution in &runs {
        let packed = world.admin.bytes(&format!("/v1/tenants/{TENANT}/traces/{execution}")).await;
        places.insert(format!("trace {execution}"), taken_apart(&packed));
        with_marker.push(format!("trace {execution}"));
        let exported = shell.folder().join(format!("{execution}.lstrace"));
        shell.ok(&["export", execution, "-o", exported.to_str().unwrap()]);
        let bytes = std::fs::read(&exported).unwrap();
        let (inside, _) = file::read(bytes.as_slice()).unwrap();
        assert_eq!(inside.trace, packed);
        for (digest, payload) in &inside.payloads {
            places.insert(format!("payload {} of {execution}", digest.hex()), payload.to_vec());
        }
        places.insert(format!("file of {execution}"), bytes);
        // Whatever the verdict is: the words of the report are what counts here.
        for args in [&["replay", exported.to_str().unwrap()][..], &["replay", execution, "--json"]] {
            let said = shell.plain(args);
            assert!(said.code <= 1, "{args:?}: {}", said.all);
            places.insert(format!("{args:?}"), said.all.into_bytes());
        }
        // With every record shown, because everything is different.
        let other = shell.folder().join("other.tar.zst");
        std::fs::write(&other, store::extension("canary", "count", "2.0.0", &EVERYTHING, &["POST /"]))
            .unwrap();
        let said = shell.plain(&["replay", exported.to_str().unwrap(), "--bundle", other.to_str().unwrap()]);
        assert_eq!(said.code, 1, "{}", said.all);
        places.insert(format!("report of {execution} with another bundle"), said.all.into_bytes());
    }
    places.insert("list of traces".to_owned(), json!(traces).to_string().into_bytes());
    for args in [
        &["traces"][..],
        &["tail", "--since", "1h", "--no-follow"],
        &["tail", "--since", "1h", "--no-follow", "--json"],
    ] {
        let said = shell.plain(args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.all);
        places.insert(format!("{args:?}"), said.all.into_bytes());
    }
    for (key, bytes) in world.stack.redis.contents().await {
        places.insert(format!("Redis {key}"), bytes);
    }
    let store = world.stack.store.folder(TENANT);
    let bucket = store.ancestors().nth(2).unwrap();
    files(&bucket.join("traces"), &mut places);

    let found = leaks(&places);
    assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n"));
    let found = of_callers(&places);
    assert!(found.is_empty(), "{} leaks of callers:\n{}", found.len(), found.join("\n"));
    // Otherwise nothing would be proved by finding nothing.
    for place in with_marker {
        assert!(contains(&places[&place], MARKER.as_bytes()), "{MARKER} is not in: {place}");
    }
    let tail = "[\"tail\", \"--since\", \"1h\", \"--no-follow\"]";
    assert!(contains(&places[tail], MARKER.as_bytes()), "{MARKER} is not in: {tail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_for_a_secret_is_the_same_everywhere_as_long_and_replays() {
    let world = World::start().await;
    world.install("hostcalls").await;
    let url = world.echo.url("/ok/");
    let path = format!("com.longshore.test.hostcalls/?only=secrets.get,http&secret=api_key&url={url}");
    let reply = world.caller.get(&path).await;
    assert_eq!(reply.transport, 200, "{reply:?}");
    let execution = reply.execution().to_owned();
    let traces = world.listed(&BTreeSet::from([execution.clone()])).await;
    assert_eq!(traces[0]["secrets_read"], true, "{traces:#?}");

    let packed = world.admin.bytes(&format!("/v1/tenants/{TENANT}/traces/{execution}")).await;
    let trace = unpack(&packed).unwrap();
    let answer = trace.records().iter().find_map(|record| match &record.entry {
        Entry::Response { body: Some(Payload::Inline(body)), .. } => Some(body.clone()),
        _ => None,
    });
    let answer: Value = serde_json::from_slice(&answer.unwrap()).unwrap();
    let token = answer["secrets.get"]["ok"].as_str().unwrap();
    let secret = plain()["api_key"];
    assert!(token != secret && token.len() == secret.len(), "{token}");
    let got = trace.records().iter().find_map(|record| match &record.entry {
        Entry::CallEnd { result: Payload::Inline(result), .. } if contains(result, token.as_bytes()) => {
            Some(())
        }
        _ => None,
    });
    assert!(got.is_some(), "the guest is given the token that it answers");
    assert!(!trace.header().redaction.policy.is_empty() && !trace.header().redaction.key.is_empty());
    // The guest handed it on as it was: the replay, which only knows the token, says the same.
    let shell = Shell::new(&world.admin, &world.gateway, TENANT);
    let said = shell.longshore(&["replay", &execution]);
    assert_eq!((said.code, said.json["verdict"].as_str()), (0, Some("identical")), "{}", said.all);
}
