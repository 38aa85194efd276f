//! What a run may use.

use std::time::{Duration, Instant};

use longshore_proto::ErrorCode;
use longshore_proto::event::Kind;
use serde_json::json;

use crate::support::{answer, call, fixture, fixture_with, json};

#[tokio::test]
async fn a_guest_that_can_live_with_a_refused_growth_goes_on() {
    let fixture = fixture();
    let outcome = fixture.run(call("memory-hog", "/?try").memory_mb(32)).await;
    let found = json(&outcome);
    assert_eq!(found["refused"], json!(true), "{found}");
    let got = found["mb"].as_u64().unwrap();
    assert!((20..32).contains(&got), "{found}");
    let peak = outcome.usage.peak_memory_bytes;
    assert!(peak <= 32 << 20 && peak >= got << 20, "{peak}");
}

#[tokio::test]
async fn memory_up_to_the_limit_is_the_guests_to_use() {
    let outcome = fixture().run(call("memory-hog", "/?mb=200").memory_mb(256)).await;
    assert_eq!(json(&outcome)["refused"], json!(false));
}

#[tokio::test]
async fn an_initial_memory_over_the_limit_is_out_of_memory() {
    assert_eq!(fixture().code(call("echo", "/").memory_mb(1)).await, ErrorCode::OutOfMemory);
}

#[tokio::test]
async fn tables_are_bounded() {
    let outcome = fixture().run(call("table-hog", "/")).await;
    let body = answer(&outcome).body.clone().unwrap();
    assert_eq!(std::str::from_utf8(&body).unwrap(), "100000");
}

#[tokio::test]
async fn cpu_time_has_a_limit_of_its_own_and_sleeping_costs_none() {
    let fixture = fixture_with(|c| c.maxima.cpu_ms = Some(100));
    assert_eq!(fixture.code(call("spin", "/")).await, ErrorCode::CpuTime);
    fixture.run(call("sleep", "/?ms=300")).await.result.unwrap();
}

#[tokio::test]
async fn a_run_that_makes_too_many_host_calls_ends_and_one_that_logs_does_not() {
    let fixture = fixture_with(|c| c.maxima.host_calls = 10);
    assert_eq!(fixture.code(call("hostcalls", "/")).await, ErrorCode::HostCalls);
    let before = fixture.messages(Kind::Log).len();
    let outcome = fixture.run(call("log-flood", "/?n=100&to=log")).await;
    assert_eq!(json(&outcome)["lines"], json!(100));
    assert_eq!(fixture.messages(Kind::Log).len() - before, 100);
    // Nor do the lines take anything from the calls that count.
    let calls = json!({"calls": [
        {"fn": "logging.log-info", "args": {"message": "x"}, "repeat": 50},
        {"fn": "secrets.list-keys", "repeat": 10},
    ]});
    let outcome =
        fixture.run(call("driver", "/").grant_all().post("application/json", calls.to_string())).await;
    assert_eq!((answer(&outcome).status, outcome.usage.host_calls), (200, 60));
}

#[tokio::test]
async fn an_answer_over_its_limit_is_refused_before_and_after_the_border() {
    let fixture = fixture_with(|c| c.maxima.response_bytes = 1 << 20);
    let big = |bytes: u64| call("big-body", &format!("/?bytes={bytes}"));
    assert_eq!(answer(&fixture.run(big(1 << 20)).await).body.as_ref().unwrap().len(), 1 << 20);
    assert_eq!(fixture.code(big((1 << 20) + 1)).await, ErrorCode::ResponseTooLarge);
    // Over what the host copies at all.
    assert_eq!(fixture.code(big(40 << 20)).await, ErrorCode::ResponseTooLarge);
}

#[tokio::test]
async fn a_body_with_204_is_dropped() {
    let outcome = fixture().run(call("bad-response", "/?status=204&body=text")).await;
    assert_eq!((answer(&outcome).status, &answer(&outcome).body), (204, &None));
}

#[tokio::test]
async fn of_headers_with_one_spelling_the_last_stays() {
    let outcome = fixture().run(call("bad-response", "/?duplicate")).await;
    let names: Vec<_> = answer(&outcome).headers.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["x-twice", "X-Twice"]);
}

#[tokio::test]
async fn a_deadline_that_has_passed_runs_nothing() {
    let fixture = fixture();
    assert_eq!(fixture.code(call("echo", "/").timeout_ms(0)).await, ErrorCode::TimeoutCompiling);
    assert!(fixture.of_kind(Kind::HandlerStart).is_empty());
    // The compilation went on without its caller.
    fixture.executor.idle().await;
    assert_eq!(fixture.executor.stats().compiles, 1);
}

#[tokio::test]
async fn a_guest_that_waits_is_ended_at_its_deadline_and_not_much_later() {
    let fixture = fixture();
    fixture.run(call("sleep", "/?ms=1")).await.result.unwrap();
    let began = Instant::now();
    assert_eq!(fixture.code(call("sleep", "/?ms=60000").timeout_ms(200)).await, ErrorCode::Timeout);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(20), "{took:?}");
}
