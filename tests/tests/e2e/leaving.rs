//! Workers and shims stop under load, and nothing is lost.

use std::time::Duration;

use longshore_tests::Stack;

use super::load::{Load, runs, runs_until};

const WORKER: [(&str, &str); 2] = [("WORKER_SLOTS", "16"), ("LONGSHORE_GUEST_LOG", "stdout")];
const CALLS: usize = 200;
/// A leaving process ends when its last call is answered; the calls here take two seconds.
const DRAIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn workers_and_shims_leave_ten_times_under_load_and_every_call_is_answered_and_runs_once() {
    let (stack, [first, mut second], mut shim) = Stack::with_workers::<2>(&WORKER).await;
    let tenants = ["a", "b", "c", "d"].map(|tenant| stack.install(tenant, "count"));
    assert_eq!(shim.call(&tenants[0].get("/?id=warm")).await.status(), 200);
    let mut leaving = first;
    for round in 0..10 {
        let (next_worker, next_shim) = tokio::join!(stack.worker(&WORKER), stack.shim(&[]));
        let id = |number: usize| format!("{round}-{number}");
        let calls = (0..CALLS)
            .map(|number| tenants[number % 4].post(format!("/?id={}&ms=300", id(number))).timeout_ms(60_000));
        let load = Load::start(shim.http(), calls);
        let logs = [&leaving, &second, &next_worker].map(|worker| worker.lines().clone());
        runs_until("runs on the worker that leaves", &[leaving.lines()], |runs| runs.len() >= 4).await;
        leaving.terminate();
        shim.terminate();
        // Who calls meanwhile is served, or refused by a shim that has left.
        let late = (0..10).map(|number| tenants[number % 4].post(format!("/?id={round}-late-{number}&ms=1")));
        let late = Load::start(shim.http(), late);

        for (number, outcome) in load.all().await.into_iter().enumerate() {
            let reply = outcome.unwrap_or_else(|error| panic!("round {round}, call {number}: {error:?}"));
            assert_eq!(reply.outcome(), "ok", "round {round}, call {number}");
            assert_eq!(reply.text(), id(number));
        }
        let mut served = CALLS;
        for outcome in late.all().await {
            match outcome {
                Ok(reply) => {
                    assert_eq!(reply.outcome(), "ok", "round {round}");
                    served += 1;
                }
                Err(error) => assert!(error.refused, "round {round}: {error:?}"),
            }
        }
        let ran = runs(&logs);
        let of_round: Vec<_> = ran.iter().filter(|(ran, _)| ran.starts_with(&format!("{round}-"))).collect();
        let more_than_once: Vec<_> = of_round.iter().filter(|(_, times)| **times > 1).collect();
        assert!(more_than_once.is_empty(), "round {round}: {more_than_once:?}");
        assert_eq!(of_round.len(), served, "round {round}: a call was answered without a run");

        tokio::join!(leaving.drained(DRAIN), shim.drained(DRAIN));
        leaving = std::mem::replace(&mut second, next_worker);
        shim = next_shim;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_shim_says_so_serves_for_a_while_and_then_takes_no_connection() {
    let (stack, [_worker], mut shim) = Stack::with_workers(&[]).await;
    let echo = stack.install("tenant-1", "echo");
    let before = shim.call(&echo.get("/")).await;
    assert_eq!((before.status(), before.header("connection")), (200, None));
    shim.terminate();
    longshore_tests::wait::until("a red readiness", Duration::from_secs(2), async || {
        match shim.http().get("/readyz").await.transport {
            503 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let during = shim.call(&echo.get("/")).await;
    assert_eq!((during.status(), during.header("connection")), (200, Some("close")));
    shim.drained(DRAIN).await;
    assert!(shim.http().try_call(&echo.get("/")).await.unwrap_err().refused);
}
