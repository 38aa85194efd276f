//! docs/errors.md lists every error code with what callers rely on.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

use longshore_proto::ErrorCode;

const PAGE: &str = include_str!("../../docs/errors.md");

/// The rows of the code table: code, status, retry, fault, and the words.
fn documented() -> Vec<[&'static str; 5]> {
    let rows = PAGE.lines().skip_while(|line| !line.starts_with("| Code |")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').splitn(5, '|').map(str::trim).collect();
            cells.try_into().unwrap_or_else(|_| panic!("five cells: {line}"))
        })
        .collect()
}

#[test]
fn the_page_has_every_code_in_order_with_its_status_retry_safety_and_fault() {
    let documented: Vec<String> = documented()
        .into_iter()
        .map(|[code, status, retry, fault, _]| format!("| {code} | {status} | {retry} | {fault} |"))
        .collect();
    let defined: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let retry = if code.retry_safe() { "yes" } else { "no" };
            format!("| `{code}` | {} | {retry} | {} |", code.status(), code.fault().as_str())
        })
        .collect();
    assert_eq!(documented, defined, "left: docs/errors.md, right: proto/src/error.rs");
}

#[test]
fn every_code_is_explained() {
    for [code, .., words] in documented() {
        assert!(words.len() > 10 && words.ends_with(['.', '?']), "{code}: {words}");
    }
}
