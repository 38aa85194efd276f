//! Commands against an admin service that refuses, breaks off or is none: what the user is told, and the exit code.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread::JoinHandle;

const TOKEN: &str = "canary-0123456789abcdef";

/// Answers one request with `status` and `body`, and gives back what it was asked.
fn answering(status: &'static str, body: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut asked, mut part) = (Vec::new(), [0; 4096]);
        while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = stream.read(&mut part).unwrap();
            if read == 0 {
                break;
            }
            asked.extend_from_slice(part.get(..read).unwrap());
        }
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (url, asked)
}

fn longshore(args: &[&str], env: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_longshore"))
        .args(args)
        .current_dir(dir.path())
        .env_clear()
        .env("LONGSHORE_TENANT", "t-1")
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

/// Exit code, the error's object, stderr.
fn failed(args: &[&str], url: &str) -> (i32, serde_json::Value, String) {
    let args = [args, &["--json"]].concat();
    let output = longshore(&args, &[("LONGSHORE_ADMIN_URL", url), ("LONGSHORE_ADMIN_TOKEN", TOKEN)]);
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!stdout.contains(TOKEN) && !stderr.contains(TOKEN), "the token is printed: {stdout}{stderr}");
    let json: serde_json::Value =
        serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}{stderr}"));
    (output.status.code().unwrap(), json.get("error").cloned().unwrap(), stderr)
}

#[test]
fn a_refusal_is_told_with_its_code_request_and_what_to_do() {
    let body = r#"{"code":"install_not_found","message":"tenant t-1 has no install x","request_id":"r-9"}"#;
    let (url, asked) = answering("404 Not Found", body);
    let (exit, error, stderr) = failed(&["show", "x"], &url);
    assert_eq!(
        (exit, error["code"].as_str(), error["exit"].as_i64()),
        (3, Some("install_not_found"), Some(3))
    );
    assert_eq!(error["details"]["request_id"], "r-9");
    assert!(stderr.contains("tenant t-1 has no install x") && stderr.contains("--all-tenants"), "{stderr}");
    let asked = asked.join().unwrap();
    assert!(asked.starts_with("GET /v1/tenants/t-1/installs/x HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("authorization: Bearer {TOKEN}")), "{asked}");
}

#[test]
fn a_wrong_token_is_not_permitted_and_named_by_where_it_is_from() {
    let body = r#"{"code":"unauthorized","message":"no","request_id":"r"}"#;
    let (exit, error, _) = failed(&["list"], &answering("401 Unauthorized", body).0);
    assert_eq!(exit, 6);
    assert!(error["hint"].as_str().unwrap().contains("LONGSHORE_ADMIN_TOKEN"), "{error}");
}

#[test]
fn another_program_on_the_address_is_told_from_a_refusal() {
    for (status, body) in
        [("404 Not Found", "<html>"), ("200 OK", "<html>"), ("200 OK", "{}"), ("500 Oops", "")]
    {
        let (exit, error, _) = failed(&["list"], &answering(status, body).0);
        assert_eq!((exit, error["code"].as_str()), (1, Some("not_understood")), "{status} {body}");
        assert!(error["hint"].as_str().unwrap().contains("LONGSHORE_ADMIN_URL"));
    }
}

#[test]
fn a_later_code_goes_by_its_status() {
    let body = r#"{"code":"quota_of_tomorrow","message":"too much","request_id":"r"}"#;
    let (exit, error, _) = failed(&["list"], &answering("403 Forbidden", body).0);
    assert_eq!((exit, error["code"].as_str()), (6, Some("refused")));
}

#[test]
fn nobody_on_the_address_is_unreachable() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for args in [&["list"][..], &["pools"], &["audit"], &["gc"], &["token", "list"], &["calls", "ls"]] {
        let (exit, error, _) = failed(args, &format!("http://{free}"));
        assert_eq!((exit, error["code"].as_str()), (4, Some("unreachable")), "{args:?}");
    }
}

#[test]
fn without_a_token_nothing_is_sent_and_the_ways_to_one_are_named() {
    let output = longshore(&["list"], &[]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{stderr}");
    assert!(stderr.contains("longshore dev") && stderr.contains("LONGSHORE_ADMIN_TOKEN_FILE"), "{stderr}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_before_anything_is_sent() {
    let env = [("LONGSHORE_ADMIN_TOKEN", TOKEN), ("LONGSHORE_ADMIN_URL", "http://127.0.0.1:1")];
    for (args, word) in [
        (&["tenant", "purge", "t-1", "--confirm", "t-2"][..], "nothing was removed"),
        (&["install", &"ab".repeat(32), "--secret", "k=canary-secret"], "@FILE"),
        (&["token", "revoke", "lst_a_canary-secret"], "not its id"),
        (&["show", ".."], "names nothing"),
        (&["list", "--tenant", "a/b"], "no tenant"),
    ] {
        let output = longshore(args, &env);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(word) && !stderr.contains("canary"), "{args:?}: {stderr}");
    }
}

#[test]
fn doctor_tells_that_nothing_runs_line_by_line_and_ends_with_one() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (http, nats) = (format!("http://{free}"), format!("nats://{free}"));
    let store = format!("http://{free}/extensions");
    let env = [
        ("LONGSHORE_ADMIN_TOKEN", TOKEN),
        ("LONGSHORE_ADMIN_URL", http.as_str()),
        ("LONGSHORE_GATEWAY_URL", &http),
        ("NATS_URL", &nats),
        ("BUNDLE_STORE_BASE", &store),
    ];
    let output = longshore(&["doctor", "--json"], &env);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["healthy"]), (Some(1), &false.into()));
    let findings = report["findings"].as_array().unwrap();
    for code in
        ["program_missing", "nats_unreachable", "store_unreachable", "gateway_unreachable", "unreachable"]
    {
        let finding = findings.iter().find(|finding| finding["code"] == code);
        let finding = finding.unwrap_or_else(|| panic!("{code}: {report}"));
        assert!(finding["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{finding}");
    }
}

#[test]
fn completions_and_exit_codes_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let output = longshore(&["completions", shell], &[]);
        assert!(
            output.status.success() && String::from_utf8(output.stdout).unwrap().contains("uninstall"),
            "{shell}"
        );
    }
    let output = longshore(&["help", "exit-codes"], &[]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("4  the fleet cannot be reached"));
}
