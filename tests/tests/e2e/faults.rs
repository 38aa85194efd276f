//! Processes and servers die under load.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use longshore_tests::redis::{field, messages};
use longshore_tests::{Call, Service, Stack, wait};

use super::load::{Load, counted, runs, runs_until};

const LOGGING: (&str, &str) = ("LONGSHORE_GUEST_LOG", "stdout");

/// Safe is what is exactly GET, HEAD or OPTIONS. `get` is another method, and an idempotency key makes no call safe: existing gateways send one on
/// every POST.
const METHODS: [(&str, &str); 4] = [("POST", "unsafe"), ("GET", "safe"), ("get", "unsafe"), ("HEAD", "safe")];

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_costs_unsafe_calls_an_error_and_safe_ones_nothing_and_none_unsafe_runs_twice() {
    let (stack, [mut killed, other], shim) = Stack::with_workers::<2>(&[LOGGING]).await;
    let tenants = ["a", "b", "c", "d"].map(|tenant| stack.install(tenant, "count"));
    // Both workers know the component, and both are chosen.
    let warm = (0..32).map(|n: usize| tenants[n % 4].get(format!("/?id=warm-{n}&ms=50")));
    assert_eq!(counted(&Load::start(shim.http(), warm).all().await), [("ok".to_owned(), 32)].into());

    // Sixteen slots: some of these run, the others wait.
    let call = |n: usize| -> Call {
        let tenant = &tenants[n % 4];
        let (method, kind) = METHODS[n / 4 % METHODS.len()];
        let key = format!("key-{n}");
        let call = tenant.call(method, format!("/?id={kind}-{n}&ms=2500")).timeout_ms(60_000);
        call.header("x-idempotency-key", &key)
    };
    let mut load = Load::start(shim.http(), (0..48).map(call));
    let of_kind =
        |runs: &BTreeMap<String, usize>, kind: &str| runs.keys().filter(|id| id.starts_with(kind)).count();
    runs_until("safe and unsafe runs on the worker that dies", &[killed.lines()], |runs| {
        of_kind(runs, "unsafe-") >= 2 && of_kind(runs, "safe-") >= 2
    })
    .await;
    killed.kill();
    let died = Instant::now();

    let (mut lost, mut answered) = (Vec::new(), 0);
    while let Some((number, outcome)) = load.next().await {
        let reply = outcome.unwrap_or_else(|error| panic!("call {number}: {error:?}"));
        let (_, kind) = METHODS[number / 4 % METHODS.len()];
        match reply.outcome().as_str() {
            "ok" => {
                answered += 1;
                assert_eq!(reply.text(), format!("{kind}-{number}"));
            }
            error if error.starts_with("worker_lost") && kind == "unsafe" => {
                assert_eq!(reply.status(), 502);
                let after = died.elapsed();
                println!("call {number} was worker_lost after {after:?}");
                // After 3 s of silence, which the dispatcher's own tests hold to the millisecond. Here, where other tests have
                // the processors too, it is that nobody waits for the call's deadline.
                assert!(after < Duration::from_secs(20), "{after:?}");
                lost.push(number);
            }
            error => panic!("{kind} call {number}: {error}"),
        }
    }
    assert_eq!(answered + lost.len(), 48);
    let (there, all) = (runs([killed.lines()]), runs([killed.lines(), other.lines()]));
    // Also what was on its way when the worker died is lost: nobody can prove that it has not run.
    let had_run = lost.iter().filter(|number| there.contains_key(&format!("unsafe-{number}"))).count();
    assert!(had_run >= 2, "{lost:?} of {there:?}");
    for number in 0..48 {
        let (_, kind) = METHODS[number / 4 % METHODS.len()];
        let times = all.get(&format!("{kind}-{number}")).copied().unwrap_or(0);
        let good = match kind {
            "safe" => (1..=3).contains(&times),
            _ if lost.contains(&number) => {
                times <= 1 && !runs([other.lines()]).contains_key(&format!("unsafe-{number}"))
            }
            _ => times == 1,
        };
        assert!(good, "{kind} call {number} ran {times} times");
    }
    let again = all.iter().filter(|(id, times)| id.starts_with("safe-") && **times == 2).count();
    assert!(again >= 2, "no safe call ran again: {all:?}");
    // The fleet goes on.
    assert_eq!(shim.call(&tenants[0].post("/?id=after")).await.text(), "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_shim_leaves_no_run_behind() {
    let (stack, [worker], mut shim) = Stack::with_workers(&[LOGGING]).await;
    let count = stack.install("tenant-1", "count");
    let mut load = Load::start(shim.http(), [count.post("/?id=orphan&ms=60000").timeout_ms(120_000)]);
    runs_until("the run", &[worker.lines()], |runs| runs.contains_key("orphan")).await;
    shim.kill();
    assert!(load.next().await.unwrap().1.is_err());
    // Unheard for ten seconds, its runs are cancelled.
    worker.metric_until("longshore_worker_running", |running| running == 0.0).await;
    assert!(!worker.lines().of_guests().contains(&"done orphan".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_nats_costs_running_calls_nothing_and_waiting_ones_time() {
    let (mut stack, [worker], shim) = Stack::with_workers(&[LOGGING, ("WORKER_SLOTS", "5")]).await;
    let tenants = ["a", "b", "c", "d"].map(|tenant| stack.install(tenant, "count"));
    assert_eq!(shim.call(&tenants[0].get("/?id=warm")).await.text(), "warm");
    // Half of these end while there is no server, the others after it has come back.
    let running = (0..4).map(|n: usize| {
        let ms = if n < 2 { 1_200 } else { 6_000 };
        tenants[n].post(format!("/?id=running-{n}&ms={ms}")).timeout_ms(60_000)
    });
    let running = Load::start(shim.http(), running);
    runs_until("four runs", &[worker.lines()], |runs| runs.len() == 5).await;
    let waiting =
        (0..40).map(|n: usize| tenants[n % 4].post(format!("/?id=waiting-{n}&ms=200")).timeout_ms(60_000));
    let waiting = Load::start(shim.http(), waiting);
    runs_until("the first of those that wait", &[worker.lines()], |runs| runs.len() >= 6).await;

    stack.nats.kill();
    wait::until("a red readiness", wait::LIMIT, async || {
        match (shim.http().get("/readyz").await.transport, worker.http().get("/readyz").await.transport) {
            (503, 503) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    runs_until("the end of two runs meanwhile", &[worker.lines()], |_| {
        let lines = worker.lines().of_guests();
        lines.contains(&"done running-0".to_owned()) && lines.contains(&"done running-1".to_owned())
    })
    .await;
    let meanwhile = Load::start(shim.http(), [tenants[0].post("/?id=meanwhile").timeout_ms(60_000)]);
    stack.nats.start_again().await;

    let mut outcomes = running.all().await;
    outcomes.extend(waiting.all().await);
    outcomes.extend(meanwhile.all().await);
    assert_eq!(counted(&outcomes), [("ok".to_owned(), 45)].into());
    let runs = runs([worker.lines()]);
    assert!(runs.len() == 46 && runs.values().all(|times| *times == 1), "{runs:?}");
    for service in [shim, worker] {
        let mut service = service;
        service.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_may_die_and_come_back_and_calls_do_not_notice_while_lost_events_are_announced() {
    let settings = [("LONGSHORE_DEBUG_QUEUE_EVENTS", "300"), ("LONGSHORE_DEBUG_REDIS_TIMEOUT_MS", "1000")];
    let (mut stack, [worker], shim) = Stack::with_workers(&settings).await;
    let flood = stack.install("tenant-1", "log-flood");
    assert_eq!(shim.call(&flood.get("/?n=1&to=log")).await.status(), 200);
    stack.redis.wait(&flood.stream(), "events", |events| !events.is_empty()).await;

    stack.redis.kill();
    for number in 0..20 {
        let reply = shim.call(&flood.get("/?n=100&to=log").request(&format!("down-{number}"))).await;
        assert_eq!(reply.status(), 200, "{:?}", reply.error());
        assert!(reply.took < Duration::from_secs(5), "a call waited for Redis: {:?}", reply.took);
    }
    assert!(worker.metric("longshore_worker_debug_dropped_total").await >= 1_000.0);
    assert_eq!(worker.metric("longshore_worker_debug_connected").await, 0.0);
    stack.redis.start_again().await;

    worker.metric_until("longshore_worker_debug_connected", |connected| connected == 1.0).await;
    assert_eq!(shim.call(&flood.get("/?n=1&to=log").request("after")).await.status(), 200);
    let events = stack
        .redis
        .wait(&flood.stream(), "the announcement, and events of a new call", |events| {
            events.iter().any(|event| field(event, "kind") == "dropped")
                && events.iter().any(|event| field(event, "request") == "after")
        })
        .await;
    let dropped = messages(&events, "dropped");
    let count: u64 = dropped.iter().filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum();
    assert!(count >= 1_000, "{dropped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_breathing_is_lost_and_what_it_says_later_is_too_late() {
    let (stack, [stopped, other], shim) = Stack::with_workers::<2>(&[LOGGING]).await;
    let mut stopped: Service = stopped;
    let tenants = ["a", "b", "c", "d"].map(|tenant| stack.install(tenant, "count"));
    let call = |n: usize| tenants[n % 4].post(format!("/?id=unsafe-{n}&ms=1500")).timeout_ms(60_000);
    let load = Load::start(shim.http(), (0..8).map(call));
    runs_until("runs on both", &[stopped.lines()], |runs| !runs.is_empty()).await;
    runs_until("runs on both", &[other.lines()], |runs| !runs.is_empty()).await;
    stopped.stop();
    let mut outcomes = load.all().await;
    let counts = counted(&outcomes);
    let lost: usize = counts.iter().filter(|(name, _)| name.starts_with("worker_lost")).map(|(_, n)| n).sum();
    let there = runs([stopped.lines()]).len();
    assert!(counts["ok"] + lost == 8 && (there..8).contains(&lost), "{counts:?}, {there} ran there");
    // It wakes up and sends what nobody waits for; then it is a member of the fleet again.
    stopped.go_on();
    outcomes.extend(Load::start(shim.http(), (8..40).map(call)).all().await);
    let runs = runs([stopped.lines(), other.lines()]);
    for (number, outcome) in outcomes.iter().enumerate() {
        let times = runs.get(&format!("unsafe-{number}")).copied().unwrap_or(0);
        match outcome.as_ref().unwrap().outcome().as_str() {
            "ok" => assert_eq!(times, 1, "call {number}"),
            error => assert!(
                number < 8 && error.starts_with("worker_lost") && times <= 1,
                "call {number}: {error}, {times} runs"
            ),
        }
    }
}
