//! The benchmark itself, as short as it can be: both fleets start, answer without a failure and are compared.

use std::process::Command;

#[test]
fn both_fleets_are_measured_without_a_failed_call() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_longshore-bench"))
        .args(["--seconds", "0.3", "--rounds", "1", "--connections", "1,8", "--json"])
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
fn a_missing_server_is_an_error_that_names_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_longshore-bench"))
        .env("NATS_SERVER_BIN", "/no/such/nats-server")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("/no/such/nats-server"), "{text}");
}
