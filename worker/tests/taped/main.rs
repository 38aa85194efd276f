//! Runs of guests that depend on time, chance and the network: recorded, and played back without any of them. What each
//! saw must be the same to the byte.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers outside of test functions are tests too: a failure there shall stop the test"
)]

mod bench;
mod player;
mod upstream;

use longshore_proto::ErrorCode;
use longshore_proto::trace::{Clock, Entry, RandomSource};
use serde_json::Value;

use bench::{Bench, body, get};

#[tokio::test]
async fn clocks_and_random_numbers_are_had_again() {
    let bench = Bench::new();
    let taped = bench.record(get("random-clock", "/?bytes=40")).await;
    let replayed = bench.replay(&taped).await;
    assert_eq!(taped.outcome.result.as_ref().unwrap(), replayed.result.as_ref().unwrap());
    let entries = taped.entries();
    for source in [RandomSource::Secure, RandomSource::Insecure, RandomSource::Seed] {
        assert!(entries.iter().any(|e| matches!(e, Entry::Random { source: s, .. } if *s == source)));
    }
    for clock in [Clock::Wall, Clock::Monotonic] {
        assert!(entries.iter().any(|e| matches!(e, Entry::Clock { clock: c, .. } if *c == clock)));
    }
    // Not the same by itself.
    let other = bench.record(get("random-clock", "/?bytes=40")).await;
    assert_ne!(body(&taped.outcome), body(&other.outcome));
}

#[tokio::test]
async fn a_replay_does_not_sleep() {
    let bench = Bench::new();
    let taped = bench.record(get("sleep", "/?ms=200&times=2")).await;
    let replayed = bench.replay(&taped).await;
    assert_eq!(body(&taped.outcome), body(&replayed));
    assert!(replayed.usage.handler_us < 200_000, "{:?}", replayed.usage);
}

#[tokio::test]
async fn requests_are_had_again_whatever_came_of_them() {
    let to = upstream::start().await;
    let bench = Bench::new();
    let refused = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let urls = [
        format!("/?kind=post&to={to}"),
        format!("/?kind=post&length&to={to}"),
        format!("/?kind=post&bytes=500000&to={to}"),
        format!("/?kind=post&length=10&bytes=30000&to={to}"),
        format!("/?kind=post&length=900000&bytes=30000&to={to}"),
        format!("/?kind=post&to={refused}"),
        format!("/?kind=parts&to={to}"),
        format!("/?kind=parts&to={refused}"),
        format!("/?kind=splice&to={to}"),
        format!("/?kind=relay&to={to}"),
        format!("/?kind=two&to={to}"),
        format!("/?kind=drop&to={to}"),
        format!("/?kind=drop&read&to={to}"),
        format!("/?kind=error&to={to}"),
        format!("/?kind=error&to={refused}"),
        "/?kind=parts&to=no%20authority".to_owned(),
    ];
    for url in urls {
        let taped = bench.record(get("http-fetch", &url)).await;
        let replayed = bench.replay(&taped).await;
        assert_eq!(taped.outcome.result, replayed.result, "{url}");
        assert_eq!(taped.outcome.usage.host_calls, replayed.usage.host_calls, "{url}");
        assert_eq!(taped.outcome.usage.outbound_requests, replayed.usage.outbound_requests, "{url}");
    }
}

#[tokio::test]
async fn what_chance_decided_is_in_the_trace() {
    let to = upstream::start().await;
    let bench = Bench::new();
    let taped = bench.record(get("http-fetch", &format!("/?kind=parts&to={to}"))).await;
    let said: Value = serde_json::from_slice(&body(&taped.outcome)).unwrap();
    assert_eq!((&said["early"], &said["bytes"]), (&true.into(), &15_000.into()), "{said}");
    assert!(said["empty"].as_u64().unwrap() > 0, "{said}");
    let calls = taped.calls();
    for function in [
        "wasi:http.handle",
        "wasi:http/types.future-incoming-response.get",
        "wasi:io/poll.poll",
        "wasi:io/poll.pollable.ready",
        "wasi:io/streams.input-stream.read",
    ] {
        assert!(calls.iter().any(|call| call == function), "{function}: {calls:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_not_granted_is_recorded_as_denied() {
    let to = upstream::start().await;
    let bench = Bench::new();
    let taped = bench.record(get("http-fetch", &format!("/?kind=parts&to={to}")).ungranted()).await;
    assert!(
        taped.entries().iter().any(|e| matches!(e, Entry::CallEnd { outcome, .. } if outcome == "denied"))
    );
    assert_eq!(body(&taped.outcome), body(&bench.replay(&taped).await));
}

#[tokio::test]
async fn the_guests_own_answer_needs_no_tape() {
    let bench = Bench::new();
    let kinds = [
        "plain",
        "empty",
        "stream&bytes=3000000",
        "trailers",
        "repeated",
        "twice",
        "leaked-body",
        "short",
        "unfinished",
        "error",
        "internal-error",
        "never",
        "leaked-outparam",
        "hoard&n=20",
    ];
    for kind in kinds {
        let taped = bench.record(get("http-answers", &format!("/?kind={kind}"))).await;
        let replayed = bench.replay(&taped).await;
        assert_eq!(taped.outcome.result, replayed.result, "{kind}");
        let calls = taped.calls();
        assert!(kind.starts_with("hoard") || calls.is_empty(), "{kind}: {calls:?}");
    }
    let echo = get("http-echo", "/?raw").post(vec![7; 300_000]);
    let taped = bench.record(echo).await;
    assert_eq!(body(&taped.outcome), vec![7; 300_000]);
    assert_eq!(body(&bench.replay(&taped).await), vec![7; 300_000]);
    assert_eq!(taped.calls(), [""; 0]);
}

#[tokio::test]
async fn output_and_refused_sockets_are_the_same_again() {
    let bench = Bench::new();
    for guest in ["stdio", "sockets", "http-config"] {
        let taped = bench.record(get(guest, "/?name=a")).await;
        assert_eq!(taped.outcome.result, bench.replay(&taped).await.result, "{guest}");
    }
}

#[tokio::test]
async fn a_run_that_its_time_ended_is_replayed_up_to_its_last_call() {
    let to = upstream::start().await;
    let bench = Bench::new();
    let taped = bench.record(get("sleep", "/?ms=60000").timeout_ms(300)).await;
    assert_eq!(taped.outcome.result.as_ref().unwrap_err().code, ErrorCode::Timeout);
    assert!(bench.replay(&taped).await.result.is_err());
    // One outbound request is allowed: the second ends the run in that very call.
    let limited = get("http-fetch", &format!("/?kind=two&to={to}")).outbound_requests(1);
    let taped = bench.record(limited).await;
    assert_eq!(taped.outcome.result.as_ref().unwrap_err().code, ErrorCode::OutboundRequests);
    assert_eq!(taped.outcome.result, bench.replay(&taped).await.result);
}

#[tokio::test]
async fn javascript_and_python_are_the_same_again() {
    let to = upstream::start().await;
    let bench = Bench::new();
    let calls = [
        ("hello-js", "/?name=a".to_owned()),
        ("hello-rust", "/".to_owned()),
        ("wasi-http-js", "/?name=b".to_owned()),
        ("wasi-http-js", format!("/fetch?url=http://{to}/parts")),
        ("wasi-http-js", format!("/fetch?url=http://{to}/error")),
        ("wasi-http-js", "/fetch?url=http://127.0.0.1:1/".to_owned()),
        ("wasi-http-python", "/".to_owned()),
        ("wasi-http-python", format!("/fetch?url=http://{to}/parts")),
    ];
    for (example, url) in calls {
        // Compiled by hand; not part of the repository.
        if !bench.has(example) {
            continue;
        }
        let taped = bench.record(get(example, &url)).await;
        let replayed = bench.replay(&taped).await;
        assert_eq!(taped.outcome.result, replayed.result, "{example} {url}");
        assert!(taped.outcome.result.is_ok(), "{example} {url}: {:?}", taped.outcome.result);
    }
}
