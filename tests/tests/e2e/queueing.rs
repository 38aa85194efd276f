//! More calls than slots, and no worker at all.

use std::time::{Duration, Instant};

use longshore_tests::{Service, Stack, wait};

use super::load::{Load, counted};

const ONE_SLOT: [(&str, &str); 1] = [("WORKER_SLOTS", "1")];

#[tokio::test(flavor = "multi_thread")]
async fn the_257th_waiting_call_of_an_extension_is_refused_and_the_others_are_served() {
    let (stack, [worker], shim) = Stack::with_workers(&ONE_SLOT).await;
    let [sleep, other] = [stack.install("tenant-1", "sleep"), stack.install("tenant-2", "sleep")];
    assert_eq!(shim.call(&sleep.get("/?ms=1")).await.status(), 200);
    let mut blocker = Load::start(shim.http(), [sleep.post("/?ms=6000")]);
    worker.metric_until("longshore_worker_slots_free", |free| free == 0.0).await;
    let mut waiting = Load::start(shim.http(), (0..257).map(|_| sleep.post("/?ms=0").timeout_ms(60_000)));
    // The refusal comes at once, the blocker still runs.
    let (_, refused) = waiting.next().await.unwrap();
    let refused = refused.unwrap();
    let (status, error) = refused.failure();
    assert!(status == 429 && error.starts_with("queue_full"), "{error}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Another tenant's call is not refused, and does not wait behind the 256.
    let neighbour = shim.call(&other.post("/?ms=0")).await;
    assert_eq!(neighbour.status(), 200);
    let mut outcomes = vec![blocker.next().await.unwrap().1];
    outcomes.extend(waiting.all().await);
    assert_eq!(counted(&outcomes), [("ok".to_owned(), 257)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_finds_no_slot_until_its_deadline_is_overloaded() {
    let (stack, [worker], shim) = Stack::with_workers(&ONE_SLOT).await;
    let sleep = stack.install("tenant-1", "sleep");
    assert_eq!(shim.call(&sleep.get("/?ms=1")).await.status(), 200);
    let mut blocker = Load::start(shim.http(), [sleep.post("/?ms=5000")]);
    worker.metric_until("longshore_worker_slots_free", |free| free == 0.0).await;
    let reply = shim.call(&sleep.post("/?ms=0").timeout_ms(2_000)).await;
    let (status, error) = reply.failure();
    assert!(status == 503 && error.starts_with("overloaded"), "{error}");
    assert!(reply.header("retry-after").is_some());
    assert!(reply.took < Duration::from_millis(2_500), "{:?}", reply.took);
    assert_eq!(blocker.next().await.unwrap().1.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_worker_calls_are_refused_once_that_is_known_and_served_when_one_comes() {
    let stack = Stack::start().await;
    let echo = stack.install("tenant-1", "echo");
    let began = Instant::now();
    let mut shim = Service::start("gateway-shim", "gateway-shim", &stack.shim_settings(&[])).await;
    let early = shim.http().get("/readyz").await;
    assert_eq!(early.transport, 503, "ready before it has listened: {:?}", early.bytes);
    // It does not know yet: the call waits.
    let reply = shim.call(&echo.get("/")).await;
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(reply.failure().0, 503);
    assert!(reply.failure().1.starts_with("no_workers"), "{:?}", reply.error());
    shim.ready().await;
    let reply = shim.call(&echo.get("/")).await;
    let (status, error) = reply.failure();
    assert!(status == 503 && error.starts_with("no_workers"), "{error}");
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert!(reply.took < Duration::from_secs(1), "not at once: {:?}", reply.took);

    let _worker = stack.worker(&[]).await;
    wait::until("a served call", wait::LIMIT, async || {
        let reply = shim.call(&echo.get("/")).await;
        if reply.error().is_none() { Ok(()) } else { Err(reply.outcome()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trickle_of_one_tenant_is_served_beside_a_flood_of_another() {
    let (stack, [_worker], shim) = Stack::with_workers(&[("WORKER_SLOTS", "2")]).await;
    let [flood, trickle] = ["flood", "trickle"].map(|tenant| stack.install(tenant, "sleep"));
    for extension in [&flood, &trickle] {
        assert_eq!(shim.call(&extension.get("/?ms=1")).await.status(), 200);
    }
    let mut flooding = Load::start(shim.http(), (0..200).map(|_| flood.post("/?ms=40").timeout_ms(60_000)));
    // The flood is there when its first call is answered.
    let mut flooded = vec![flooding.next().await.unwrap().1];
    for _ in 0..10 {
        assert_eq!(shim.call(&trickle.post("/?ms=5")).await.status(), 200);
    }
    while let Ok(Some((_, outcome))) = tokio::time::timeout(Duration::ZERO, flooding.next()).await {
        flooded.push(outcome);
    }
    let before = flooded.len();
    assert!(before < 140, "{before} of 200 calls of the flood were answered before 10 of the trickle");
    flooded.extend(flooding.all().await);
    assert_eq!(counted(&flooded), [("ok".to_owned(), 200)].into(), "the flood is served too");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_load() {
    let (stack, workers, shim) = Stack::with_workers::<2>(&[("WORKER_SLOTS", "4")]).await;
    let tenants = ["a", "b", "c"].map(|tenant| stack.install(tenant, "sleep"));
    for extension in &tenants {
        assert_eq!(shim.call(&extension.get("/?ms=1")).await.status(), 200);
    }
    let calls = (0..120).map(|number: usize| tenants[number % 3].post("/?ms=30"));
    let outcomes = Load::start(shim.http(), calls).all().await;
    assert_eq!(counted(&outcomes), [("ok".to_owned(), 120)].into());
    let executed = workers.each_ref().map(|worker| worker.lines().with("\"message\":\"executed\"").len());
    assert_eq!(executed.iter().sum::<usize>(), 123);
    assert!(executed.iter().all(|count| *count >= 30), "{executed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_shims_share_the_slots_of_a_worker_and_neither_is_starved() {
    let stack = Stack::start().await;
    let (worker, first, second) =
        tokio::join!(stack.worker(&[("WORKER_SLOTS", "4")]), stack.shim(&[]), stack.shim(&[]));
    let tenants = ["a", "b", "c"].map(|tenant| stack.install(tenant, "sleep"));
    for extension in &tenants {
        assert_eq!(first.call(&extension.get("/?ms=1")).await.status(), 200);
    }
    let calls = || (0..120).map(|number: usize| tenants[number % 3].post("/?ms=30").timeout_ms(60_000));
    let (mut one, mut two) = (Load::start(first.http(), calls()), Load::start(second.http(), calls()));
    let (mut of_one, mut of_two) = (Vec::new(), Vec::new());
    // Until one of them has been served completely.
    loop {
        let left = tokio::select! {
            Some((_, outcome)) = one.next() => { of_one.push(outcome); 120 - of_one.len() }
            Some((_, outcome)) = two.next() => { of_two.push(outcome); 120 - of_two.len() }
        };
        if left == 0 {
            break;
        }
    }
    let behind = of_one.len().min(of_two.len());
    assert!(behind >= 40, "120 calls of one shim were served before {behind} of the other");
    of_one.extend(one.all().await);
    of_two.extend(two.all().await);
    for outcomes in [of_one, of_two] {
        assert_eq!(counted(&outcomes), [("ok".to_owned(), 120)].into());
    }
    drop(worker);
}
