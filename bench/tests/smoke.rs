//! The benchmark itself, as short as it can be: both fleets start, answer without a failure and are compared.

use std::process::Command;

#[test]
fn both_fleets_are_measured_without_a_failed_call() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_longshore-bench"))
        .args(["--only", "calls", "--seconds", "0.3", "--rounds", "1", "--connections", "1,8", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("hello-rust") && text.contains("ratio"), "{text}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    for level in report["levels"].as_array().unwrap() {
        for side in ["echo", "worker"] {
            assert!(level[side][0]["calls"].as_u64().unwrap() > 0, "{level}");
        }
    }
}

#[test]
fn host_calls_are_measured_bare_and_through_the_executor_and_no_event_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_longshore-bench"))
        .args(["--only", "host-calls", "--host-calls", "300", "--host-call-rounds", "1", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("under 10 us: "), "{text}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let report = &report["host_calls"];
    assert_eq!(report["events_lost"], 0, "{report}");
    let functions = report["functions"].as_array().unwrap();
    assert_eq!(functions.len(), 4, "{report}");
    for function in functions {
        for side in ["bare", "quiet", "watched"] {
            assert!(function[side][0]["ns"].as_f64().unwrap() > 0.0, "{function}");
        }
    }
}

#[test]
fn a_missing_server_is_an_error_that_names_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_longshore-bench"))
        .env("NATS_SERVER_BIN", "/no/such/nats-server")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("/no/such/nats-server"), "{text}");
}

#[test]
fn the_gateway_route_is_measured_beside_execute_without_a_failed_call() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_longshore-bench"))
        .args(["--only", "gateway", "--seconds", "0.3", "--rounds", "1", "--connections", "1,8", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("/api/ext") && text.contains("ratio"), "{text}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let levels = report["gateway"].as_array().unwrap();
    assert_eq!(levels.len(), 2, "{report}");
    for level in levels {
        for side in ["execute", "route"] {
            assert!(level[side][0]["calls"].as_u64().unwrap() > 0, "{level}");
        }
    }
}

#[test]
fn installs_are_looked_up_and_every_change_is_heard_of_by_all_four() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_longshore-bench"))
        .args(["--only", "installs", "--lookups", "500", "--changes", "8", "--rounds", "1", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("under 50 us: ") && text.contains("under 1000 ms: "), "{text}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let report = &report["installs"];
    assert_eq!(report["looked_up"].as_array().unwrap().len(), 5, "{report}");
    for listener in ["shim 1", "shim 2", "worker 1", "worker 2"] {
        assert!(report["changes"]["by"][listener]["max_ms"].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[test]
fn installs_that_are_published_and_recorded_are_measured_beside_one_that_is_neither_and_redis_may_stand_still()
 {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_longshore-bench"))
        .args(["--only", "capture", "--seconds", "0.3", "--rounds", "1", "--connections", "2"])
        .args(["--stall", "1", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("90 %: ") && text.contains("75 %: ") && text.contains("during"), "{text}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let report = &report["capture"];
    for level in report["levels"].as_array().unwrap() {
        for side in ["off", "events", "record"] {
            assert!(level[side][0]["calls"].as_u64().unwrap() > 0, "{level}");
        }
    }
    let written = &report["written"];
    assert!(written["traces"].as_u64().unwrap() > 0, "{report}");
    assert_eq!((&written["events_lost"], &written["traces_lost"]), (&0.into(), &0.into()), "{report}");
    for phase in ["before", "during", "after"] {
        assert_eq!(report["stall"][phase]["failures"], 0, "{report}");
    }
}
