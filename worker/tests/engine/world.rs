//! Every function that the guest's world imports goes the same way: gated, counted, recorded.

use std::collections::BTreeMap;

use longshore_proto::event::Kind;
use longshore_proto::{CapabilitySet, ErrorCode};
use serde_json::{Value, json};
use wit_parser::{Resolve, WorldItem};

use crate::support::*;

/// `interface.function` of all that the world `runner` imports, from the WIT itself.
fn functions() -> Vec<String> {
    let mut resolve = Resolve::default();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/wit");
    let (package, _) = resolve.push_path(path).unwrap();
    let world = resolve.select_world(&[package], Some("runner")).unwrap();
    let mut names = Vec::new();
    for item in resolve.worlds[world].imports.values() {
        let WorldItem::Interface { id, .. } = item else { continue };
        let interface = &resolve.interfaces[*id];
        let name = interface.name.as_deref().unwrap();
        names.extend(interface.functions.keys().map(|function| format!("{name}.{function}")));
    }
    names.sort();
    names
}

/// Arguments for each function, in the words of the guest `driver`, and the capability that gates it.
fn calls() -> BTreeMap<&'static str, (&'static str, Value)> {
    let schedule = json!({"endpoint": "/x", "cron": "0 0 * * *"});
    BTreeMap::from([
        ("context.get-context", ("cap:context.read", json!({}))),
        ("secrets.get", ("cap:secrets.get", json!({"key": "k"}))),
        ("secrets.list-keys", ("cap:secrets.get", json!({}))),
        ("http.fetch", ("cap:http.fetch", json!({"method": "GET", "url": "http://x.test/", "headers": []}))),
        ("storage.get", ("cap:storage.kv", json!({"namespace": "n", "key": "k"}))),
        ("storage.put", ("cap:storage.kv", json!({"namespace": "n", "key": "k", "value": {"text": "v"}}))),
        ("storage.delete", ("cap:storage.kv", json!({"namespace": "n", "key": "k"}))),
        ("storage.list-entries", ("cap:storage.kv", json!({"namespace": "n"}))),
        ("logging.log-info", ("cap:log.emit", json!({"message": "m"}))),
        ("logging.log-warn", ("cap:log.emit", json!({"message": "m"}))),
        ("logging.log-error", ("cap:log.emit", json!({"message": "m"}))),
        ("ui-proxy.call-route", ("cap:ui.proxy", json!({"route": "/r"}))),
        ("user.get-user", ("cap:user.read", json!({}))),
        ("user-v2.get-user", ("cap:user.read", json!({}))),
        ("scheduler.list-schedules", ("cap:scheduler.manage", json!({}))),
        ("scheduler.get-schedule", ("cap:scheduler.manage", json!({"schedule-id": "s"}))),
        ("scheduler.create-schedule", ("cap:scheduler.manage", schedule)),
        ("scheduler.update-schedule", ("cap:scheduler.manage", json!({"schedule-id": "s"}))),
        ("scheduler.delete-schedule", ("cap:scheduler.manage", json!({"schedule-id": "s"}))),
        ("scheduler.get-endpoints", ("cap:scheduler.manage", json!({}))),
        (
            "invoicing.create-manual-invoice",
            ("cap:invoice.manual.create", json!({"client-id": "c", "items": []})),
        ),
        ("clients.list-clients", ("cap:client.read", json!({}))),
        ("clients.get-client", ("cap:client.read", json!({"client-id": "c"}))),
        ("services.list-services", ("cap:service.read", json!({}))),
        ("services.get-service", ("cap:service.read", json!({"service-id": "s"}))),
    ])
}

const ALWAYS_GRANTED: [&str; 3] = ["cap:context.read", "cap:log.emit", "cap:user.read"];

fn drive(function: &str, args: &Value) -> Call {
    let body = json!({"calls": [{"fn": function, "args": args}]}).to_string();
    call("driver", "/").post("application/json", body)
}

#[test]
fn the_table_of_this_test_has_every_function_of_the_world() {
    let known: Vec<_> = calls().keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(functions(), known, "a new function needs a line here");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_function_of_the_world_is_gated_counted_and_recorded() {
    let fixture = fixture();
    for (name, (capability, args)) in calls() {
        for granted in [false, true] {
            let seen = fixture.events().len();
            let grants: &[&str] = if granted { &[capability] } else { &[] };
            let outcome = fixture.run(drive(name, &args).capabilities(grants)).await;
            let results = json(&outcome);
            assert_eq!(outcome.usage.host_calls, 1, "{name}: {results}");
            let events = fixture.events().split_off(seen);
            let calls: Vec<_> = events.iter().filter(|e| e.kind == Kind::HostCall).collect();
            let is_log = name.starts_with("logging.");
            let lines = events.iter().filter(|e| e.kind == Kind::Log).count();
            assert_eq!(lines, usize::from(is_log), "{name}");
            if is_log {
                // Always granted; the line is the event.
                assert!(calls.is_empty(), "{name}");
                continue;
            }
            let [event] = calls.as_slice() else { panic!("{name}: {} events", calls.len()) };
            let data = event.whole_data().unwrap().value();
            assert_eq!(data["name"], name);
            let shown: Vec<&str> = data["args"].as_object().unwrap().keys().map(String::as_str).collect();
            let wants_args = args.as_object().is_some_and(|args| !args.is_empty());
            assert!(!wants_args || !shown.is_empty(), "{name} records no arguments");
            let may = granted || ALWAYS_GRANTED.contains(&capability);
            assert_eq!(data["outcome"] == "denied", !may, "{name} granted={granted}: {data}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_function_of_the_world_is_charged_to_the_budget() {
    let fixture = fixture_with(|config| config.maxima.host_calls = 0);
    for (name, (capability, args)) in calls() {
        let outcome = fixture.run(drive(name, &args).capabilities(&[capability])).await;
        if name.starts_with("logging.") {
            // Lines have budgets of their own.
            assert!(outcome.result.is_ok(), "{name}");
            continue;
        }
        let error = outcome.result.unwrap_err();
        assert_eq!(error.code, ErrorCode::HostCalls, "{name}");
        assert_eq!(error.message, "0 host calls are allowed by the worker", "{name}");
    }
}

#[test]
fn the_capability_of_every_line_is_a_known_one() {
    for (capability, _) in calls().values() {
        assert!(CapabilitySet::parse([capability]).is_ok());
    }
}
