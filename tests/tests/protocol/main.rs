//! The dispatch protocol on a simulated network: both state machines, no I/O, thousands of seeds. The network drops,
//! delays, duplicates and reorders messages, cuts connections with and without anybody noticing, and stops, kills and
//! replaces processes. On every seed: each call gets exactly one answer, an unsafe call never runs twice, and an
//! error that calls itself safe to retry is only given to a call that has not run.
//!
//! A failing seed is printed; `LONGSHORE_SIM_SEED=n cargo test -p longshore-tests --test protocol` repeats it alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test"
)]

mod network;
mod waiting;
mod world;

use world::{Faults, World};

/// Thousands by default: some 20 s on two cores. `LONGSHORE_SIM_SEEDS` asks for more.
const SEEDS: u64 = 3_000;

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    match number("LONGSHORE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LONGSHORE_SIM_SEEDS").unwrap_or(SEEDS),
    }
}

fn check_all(faults: fn(u64) -> Faults, also: fn(&World)) {
    let mut totals = world::Totals::default();
    for seed in seeds() {
        let mut world = World::new(seed, faults(seed));
        world.run();
        if let Err(broken) = world.check() {
            panic!("seed {seed}: {broken}");
        }
        also(&world);
        totals += world.totals();
    }
    println!("{totals:?}");
    // A simulation in which nothing ever goes wrong proves nothing.
    assert!(totals.calls > 0 && totals.ok > 0);
}

#[test]
fn exactly_one_answer_and_no_unsafe_call_twice_under_every_fault() {
    check_all(Faults::wild, |_| {});
}

#[test]
fn lost_and_duplicated_messages_alone_never_make_an_unsafe_call_run_twice() {
    check_all(Faults::lossy, |_| {});
}

#[test]
fn without_faults_every_call_that_fits_gets_its_result() {
    check_all(
        |_| Faults::none(),
        |world| {
            let totals = world.totals();
            assert_eq!(totals.ok, totals.calls - totals.abandoned, "seed {}: {totals:?}", world.seed());
        },
    );
}

#[test]
fn workers_that_leave_and_are_replaced_under_load_cost_no_call() {
    check_all(
        |_| Faults::leaving(),
        |world| {
            let totals = world.totals();
            assert_eq!(totals.ok, totals.calls - totals.abandoned, "seed {}: {totals:?}", world.seed());
        },
    );
}

#[test]
fn connections_that_break_and_come_back_cost_running_calls_nothing_but_time() {
    check_all(
        |_| Faults::reconnects(),
        |world| {
            let totals = world.totals();
            assert_eq!(totals.lost, 0, "seed {}: {totals:?}", world.seed());
        },
    );
}
