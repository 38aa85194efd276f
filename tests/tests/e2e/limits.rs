//! What a guest may use: each limit has its own code, and breaking it harms nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use longshore_tests::{Call, Service, Stack, wait};
use serde_json::json;

async fn error(shim: &Service, call: &Call) -> String {
    let reply = shim.call(call).await;
    let (status, error) = reply.failure();
    assert_eq!(status, 500, "{error}");
    error
}

/// The worker's word, or, where the machine is too busy for it to arrive in time, the shim's.
fn is_timeout(error: &str) -> bool {
    error == "execute_failed: timeout" || error.starts_with("execute_failed: timeout: ")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broken_limit_has_its_own_code_and_a_neighbours_calls_are_unharmed() {
    let (stack, [worker], shim) = Stack::with_workers(&[]).await;
    let neighbour = stack.install("neighbour", "echo");
    let [spin, hog, trap, overflow, sleep, tables] =
        ["spin", "memory-hog", "trap", "stack-overflow", "sleep", "table-hog"]
            .map(|guest| stack.install("tenant-1", guest));

    // The neighbour calls without a pause until the others are through, and has one call that lasts the whole time.
    assert_eq!(shim.call(&neighbour.get("/")).await.status(), 200);
    let over = Arc::new(AtomicBool::new(false));
    let (stop, http) = (over.clone(), shim.http().clone());
    let calls = tokio::spawn(async move {
        let mut answered = 0;
        while !stop.load(Relaxed) {
            assert_eq!(http.call(&neighbour.get("/")).await.status(), 200);
            answered += 1;
        }
        answered
    });
    let resting = stack.install("neighbour", "sleep");
    let http = shim.http().clone();
    let rest =
        tokio::spawn(async move { http.call(&resting.get("/?ms=5000").timeout_ms(60_000)).await.status() });

    let forever = [spin.post("/"), sleep.post("/?ms=60000")].map(|call| call.timeout_ms(1_500));
    let (spun, slept) = tokio::join!(error(&shim, &forever[0]), error(&shim, &forever[1]));
    assert!(is_timeout(&spun) && is_timeout(&slept), "{spun}, {slept}");

    let out = |mb: u64| {
        format!("execute_failed: out_of_memory: {mb} MiB of memory and tables are allowed by the call")
    };
    assert_eq!(error(&shim, &hog.post("/").memory_mb(64)).await, out(64));
    let modest = shim.call(&hog.post("/?try&step=4").memory_mb(64)).await.json();
    let got = modest["mb"].as_u64().unwrap();
    assert!(modest["refused"] == true && (40..=64).contains(&got), "{modest}");
    assert_eq!(shim.call(&hog.post("/?mb=48").memory_mb(64)).await.json()["mb"], 48);
    assert_eq!(error(&shim, &hog.post("/?mb=48").memory_mb(32)).await, out(32));

    for (kind, words) in [
        ("unreachable", "unreachable"),
        ("panic", "unreachable"),
        ("divide", "divide by zero"),
        ("out-of-bounds", "out of bounds"),
        ("bad-call", "indirect call"),
    ] {
        let error = error(&shim, &trap.post(format!("/?kind={kind}"))).await;
        assert!(error.starts_with("execute_failed: trap: ") && error.contains(words), "{kind}: {error}");
        assert!(!error.contains("0x") && !error.contains('\n'), "a backtrace is for the log: {error}");
    }
    assert_eq!(shim.call(&trap.post("/?kind=none")).await.json(), json!({ "trapped": false }));

    assert_eq!(
        error(&shim, &overflow.post("/")).await,
        "execute_failed: stack_overflow: 1048576 bytes of stack are allowed by the worker"
    );
    assert_eq!(shim.call(&overflow.post("/?depth=1000")).await.json()["depth"], 1_000);

    let elements: u64 = shim.call(&tables.post("/").memory_mb(64)).await.text().parse().unwrap();
    assert!(elements < 16 << 20, "{elements}");

    over.store(true, Relaxed);
    let answered = calls.await.unwrap();
    assert!(answered >= 20, "only {answered} calls of the neighbour were answered meanwhile");
    assert_eq!(rest.await.unwrap(), 200);
    let worker_log = worker.lines().with("wasm backtrace");
    assert!(!worker_log.is_empty(), "a trap's backtrace goes to the worker's log");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_slot_spinning_leaves_the_worker_responsive_and_ends_in_time() {
    let (stack, [worker], shim) = Stack::with_workers(&[("WORKER_SLOTS", "4")]).await;
    let tenants = ["a", "b", "c", "d"].map(|tenant| stack.install(tenant, "spin"));
    let spinning: Vec<_> = tenants
        .into_iter()
        .map(|spin| {
            let http = shim.http().clone();
            tokio::spawn(async move { http.call(&spin.post("/").timeout_ms(4_000)).await })
        })
        .collect();
    worker.metric_until("longshore_worker_slots_free", |free| free == 0.0).await;
    // Health is answered, and announcements leave: the shim does not take the worker for lost.
    assert_eq!(worker.http().get("/livez").await.transport, 200);
    for call in spinning {
        let reply = call.await.unwrap();
        assert!(is_timeout(&reply.failure().1), "{:?}", reply.error());
        // To the millisecond is for a test of its own; here every core is taken on purpose.
        assert!(reply.took < Duration::from_millis(4_500), "{:?}", reply.took);
    }
    let echo = stack.install("a", "echo");
    assert_eq!(shim.call(&echo.get("/")).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_answered_before_its_timeout_has_passed_end_to_end() {
    let (stack, [_worker], shim) = Stack::with_workers(&[]).await;
    let sleep = stack.install("tenant-1", "sleep");
    assert_eq!(shim.call(&sleep.get("/?ms=1")).await.status(), 200);
    for timeout in [3_000, 6_000] {
        let reply = shim.call(&sleep.post("/?ms=60000").timeout_ms(timeout)).await;
        assert!(is_timeout(&reply.failure().1), "{:?}", reply.error());
        let limit = Duration::from_millis(timeout);
        assert!(reply.took < limit, "{:?} of {limit:?}", reply.took);
        assert!(reply.took > limit / 2, "given up after {:?} of {limit:?}", reply.took);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_ends_its_run_and_frees_its_slot() {
    let (stack, [worker], shim) =
        Stack::with_workers(&[("WORKER_SLOTS", "1"), ("LONGSHORE_GUEST_LOG", "stdout")]).await;
    let count = stack.install("tenant-1", "count");
    let http = shim.http().clone();
    let call = count.post("/?id=left&ms=25000");
    let caller = tokio::spawn(async move { http.call(&call).await });
    wait::until("the run", wait::LIMIT, async || {
        if worker.lines().of_guests().contains(&"ran left".to_owned()) { Ok(()) } else { Err("not yet") }
    })
    .await;
    let left = Instant::now();
    caller.abort();
    // There is one slot: the next call has it only when the run has ended.
    let reply = shim.call(&count.post("/?id=next")).await;
    assert_eq!(reply.text(), "next");
    assert!(left.elapsed() < Duration::from_secs(5), "{:?}", left.elapsed());
    // The answer may be here before the line is.
    wait::until("the line of the next", wait::LIMIT, async || {
        let lines = worker.lines().of_guests();
        if lines.contains(&"done next".to_owned()) { Ok(()) } else { Err(lines.join("; ")) }
    })
    .await;
    let lines = worker.lines().of_guests();
    assert!(!lines.contains(&"done left".to_owned()), "{lines:?}");
    let gone = "longshore_shim_requests_total";
    wait::until("the count of callers gone", wait::LIMIT, async || {
        match shim.metric_with(gone, "client_gone").await {
            1.0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_finds_no_socket_no_file_and_nothing_of_the_hosts_environment() {
    let (stack, [_worker], shim) = Stack::with_workers(&[]).await;
    let sockets = stack.install("tenant-1", "sockets");
    let found = shim.call(&sockets.get(format!("/?port={}", shim.address().port()))).await.json();
    for what in ["tcp_connect", "tcp_listen", "udp_bind", "name_lookup"] {
        assert_ne!(found[what], "ok", "{found}");
    }
    assert_eq!(found["preopens"], json!([]), "{found}");
    let names: Vec<_> =
        found["environment"].as_array().unwrap().iter().map(|pair| pair[0].as_str().unwrap()).collect();
    assert!(!names.is_empty() && names.iter().all(|name| name.starts_with("LONGSHORE_")), "{found}");
    // All twelve interfaces link; what is not granted says so in its own way.
    let calls = stack.install("tenant-1", "hostcalls");
    let answers = shim.call(&calls.get("/")).await.json();
    assert_eq!(answers["secrets.get"], json!({ "err": "denied" }));
    assert_eq!(answers["http.fetch"], json!({ "err": "not-allowed" }));
    assert_eq!(answers["storage.get"], json!({ "err": "denied" }));
    assert_eq!(answers["clients.list-clients"], json!({ "err": "not-allowed" }));
    assert_eq!(answers["context.get-context"]["ok"]["tenant_id"], "tenant-1");
    // Clocks and random numbers are real.
    let random = stack.install("tenant-1", "random-clock");
    let (one, two) = (shim.call(&random.get("/")).await.json(), shim.call(&random.get("/")).await.json());
    assert_ne!(one["random_bytes"], two["random_bytes"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(one["wall_seconds"].as_u64().unwrap().abs_diff(now) < 60, "{one}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_limits_has_codes_of_its_own() {
    let settings =
        [("WORKER_MAX_CPU_MS", "300"), ("WORKER_MAX_HOST_CALLS", "5"), ("WORKER_MAX_RESPONSE_BYTES", "1000")];
    let (stack, [_worker], shim) = Stack::with_workers(&settings).await;
    let [spin, sleep, calls, big] =
        ["spin", "sleep", "hostcalls", "big-body"].map(|guest| stack.install("tenant-1", guest));
    let began = Instant::now();
    let spun = error(&shim, &spin.post("/").timeout_ms(20_000)).await;
    assert!(spun.starts_with("execute_failed: cpu_time"), "{spun}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // Sleeping is no use of the processor.
    assert_eq!(shim.call(&sleep.post("/?ms=1500")).await.status(), 200);
    let called = error(&shim, &calls.post("/")).await;
    assert!(called.starts_with("execute_failed: host_calls"), "{called}");
    let large = error(&shim, &big.post("/?bytes=1001")).await;
    assert!(large.starts_with("execute_failed: response_too_large") && large.contains("1000"), "{large}");
    assert_eq!(shim.call(&big.post("/?bytes=1000")).await.body().unwrap().len(), 1_000);
}
