//! What a run leaves in Redis and in the worker's log.

use longshore_tests::redis::{Event, field, messages};
use longshore_tests::stack::STREAM_PREFIX;
use longshore_tests::{Stack, wait};

const KINDS: [&str; 4] = ["context", "handler_start", "response", "usage"];

#[tokio::test(flavor = "multi_thread")]
async fn guest_output_is_in_the_stream_with_tenant_and_request_and_in_the_firehose() {
    let settings = [("LONGSHORE_DEBUG_FIREHOSE", "true"), ("LONGSHORE_GUEST_LOG", "stdout")];
    let (stack, [worker], shim) = Stack::with_workers(&settings).await;
    // Keys are lower-cased, fields are as they were sent.
    let stdio = stack.install("Tenant-A", "stdio");
    let count = stack.install("Tenant-B", "count");
    let reply = shim.call(&stdio.get("/?token=hunter2").request("request-A")).await;
    shim.call(&count.get("/?id=seven").request("request-B")).await;

    let complete = |events: &[Event]| events.iter().any(|event| field(event, "kind") == "usage");
    let events = stack.redis.wait("ext-debug:tenant-a:stdio", "all events of a run", complete).await;
    for event in &events {
        assert_eq!(field(event, "tenant"), "Tenant-A");
        assert_eq!(field(event, "extension"), "stdio");
        assert_eq!(field(event, "install"), "install-1");
        assert_eq!(field(event, "request"), "request-A");
        assert_eq!(field(event, "version"), "version-1");
        assert_eq!(field(event, "content_hash"), format!("sha256:{}", stdio.hash.hex()));
        assert_eq!(field(event, "execution"), reply.execution());
        assert_eq!(field(event, "attempt"), "1");
        assert_eq!(field(event, "truncated"), "0");
        let ts = field(event, "ts");
        assert!(ts.len() == 24 && ts.ends_with('Z') && ts.as_bytes()[10] == b'T', "no ISO-8601 time: {ts}");
        assert!(matches!(field(event, "level"), "debug" | "info" | "error"), "{event:?}");
        assert!(matches!(field(event, "stream"), "log" | "stdout" | "stderr"), "{event:?}");
        let texts: Vec<_> = event.values().collect();
        assert!(!texts.iter().any(|text| text.contains("hunter2")), "a query is in an event: {event:?}");
    }
    let out = messages(&events, "stdout");
    assert_eq!(out[..5], ["out first", "out partial", "out two", "out three", ""]);
    assert_eq!(out[5..7], ["out after empty", "out cut \u{20ac}"]);
    assert_eq!(out.last(), Some(&"out last without end"));
    let err = ["err first", "err between", "err gr\u{fc}n \u{1f980}", "err last without end"];
    assert_eq!(messages(&events, "stderr"), err);
    for (kind, level) in [("stdout", "info"), ("stderr", "error")] {
        let of_kind = || events.iter().filter(|event| field(event, "kind") == kind);
        assert!(of_kind().all(|event| field(event, "stream") == kind && field(event, "level") == level));
    }
    for kind in KINDS {
        assert_eq!(messages(&events, kind).len(), 1, "{kind}: {events:#?}");
    }

    // One stream a tenant and extension, and everything in the firehose.
    let other = stack.redis.wait(&count.stream(), "all events of the other run", complete).await;
    assert_eq!(messages(&other, "log"), ["ran seven", "done seven"]);
    let all = stack
        .redis
        .wait(STREAM_PREFIX.trim_end_matches(':'), "both runs in the firehose", |events| {
            messages(events, "usage").len() == 2
        })
        .await;
    assert_eq!(all.len(), events.len() + other.len());
    assert_eq!(
        stack.redis.keys().await,
        ["ext-debug", "ext-debug:tenant-a:stdio", "ext-debug:tenant-b:count"]
    );
    let week = 7 * 24 * 3_600;
    assert!((week - 120..=week).contains(&stack.redis.ttl(&count.stream()).await), "streams expire");

    // The same lines in the worker's own log, with whose they are.
    let lines = worker.lines().with("\"target\":\"guest\"");
    let find = |text: &str| lines.iter().find(|line| line.contains(text)).unwrap();
    assert!(find("out partial").contains("Tenant-A") && find("out partial").contains("request-A"));
    assert!(find("ran seven").contains("Tenant-B") && find("ran seven").contains("request-B"));
    // One line an execution.
    assert_eq!(worker.lines().with("\"message\":\"executed\"").len(), 2);
    assert_eq!(shim.lines().with("\"target\":\"execution\"").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_says_why_in_its_stream_and_a_flood_is_bounded() {
    let (stack, [worker], shim) = Stack::with_workers(&[]).await;
    let trap = stack.install("tenant-1", "trap");
    assert!(shim.call(&trap.get("/?after=2&kind=divide")).await.error().is_some());
    let events = stack
        .redis
        .wait(&trap.stream(), "the end of the run", |events| !messages(events, "usage").is_empty())
        .await;
    assert_eq!(messages(&events, "log"), ["line 0", "line 1"]);
    let error = messages(&events, "error");
    assert!(error.len() == 1 && error[0].starts_with("execute failed: trap: "), "{error:?}");
    assert!(messages(&events, "response").is_empty());

    // 5 MB of output: the run answers, what is kept is bounded, what is cut is marked at a character's boundary.
    let flood = stack.install("tenant-1", "log-flood");
    let reply = shim.call(&flood.get("/?n=500&bytes=10000&wide&to=log").timeout_ms(60_000)).await;
    assert_eq!(reply.json()["lines"], 500);
    let events = stack
        .redis
        .wait(&flood.stream(), "the end of the flood", |events| !messages(events, "usage").is_empty())
        .await;
    let lines: Vec<_> = events.iter().filter(|event| field(event, "kind") == "log").collect();
    let bytes: usize = lines.iter().map(|event| field(event, "message").len()).sum();
    assert!(bytes <= 2 << 20, "{bytes} bytes of one run were published");
    let cut = lines.iter().find(|event| field(event, "truncated") == "1").expect("a line of 10 kB is cut");
    assert!(field(cut, "message").ends_with('\u{20ac}') && field(cut, "message").len() <= 8_192);
    wait::until("an empty queue", wait::LIMIT, async || {
        match worker.metric("longshore_worker_debug_queue_events").await {
            0.0 => Ok(()),
            left => Err(left),
        }
    })
    .await;
}
