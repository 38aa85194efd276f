//! Single stories; the simulation mixes them.

use super::*;

const NOON: i64 = 1_780_000_200_000;

fn at(ms: u64) -> Now {
    Now { wall_ms: NOON + i64::try_from(ms).unwrap(), mono_ms: ms }
}

fn due(tenant: &str, revision: u64, next: i64) -> Seen {
    Seen { revision, tenant: tenant.into(), next_ms: Some(next), running: None, timeout_ms: 30_000 }
}

fn leading(max_runs: usize) -> Firing {
    let mut firing = Firing::new("me", max_runs);
    firing.lead(Some(u64::MAX));
    firing
}

/// The claims asked for since the last time, as key and due time.
fn claims(firing: &mut Firing) -> Vec<(String, i64)> {
    let claim = |effect| match effect {
        Effect::Claim { key, claim } => (key, claim.due_ms - NOON),
        other => panic!("{other:?}"),
    };
    firing.take_effects().into_iter().map(claim).collect()
}

fn claim_of(holder: &str, due_ms: i64) -> Claim {
    Claim { holder: holder.into(), number: 1, due_ms, at_ms: due_ms, budget_ms: 100_000 }
}

#[test]
fn a_schedule_is_claimed_when_it_is_due_and_not_before() {
    let mut firing = leading(8);
    firing.observe(at(0), "k", due("t", 1, NOON + 500));
    firing.step(at(499));
    assert_eq!(claims(&mut firing), []);
    assert_eq!(firing.next_step_ms(at(499)), Some(500));
    firing.step(at(500));
    assert_eq!(claims(&mut firing), [("k".into(), 500)]);
    firing.step(at(501));
    assert_eq!(claims(&mut firing), []);
}

#[test]
fn what_was_missed_during_an_outage_is_due_at_once() {
    let mut firing = leading(8);
    firing.observe(at(0), "k", due("t", 1, NOON - 7_200_000));
    firing.step(at(0));
    assert_eq!(claims(&mut firing), [("k".into(), -7_200_000)]);
}

#[test]
fn who_does_not_lead_claims_nothing() {
    let mut firing = Firing::new("me", 8);
    firing.observe(at(0), "k", due("t", 1, NOON));
    firing.step(at(1));
    firing.lead(Some(100));
    firing.step(at(100));
    assert_eq!(firing.take_effects(), []);
    firing.lead(Some(102));
    firing.step(at(101));
    assert_eq!(claims(&mut firing).len(), 1);
}

#[test]
fn a_lease_lost_between_claim_and_call_gives_the_time_back() {
    let mut firing = leading(8);
    firing.observe(at(0), "k", due("t", 1, NOON));
    firing.step(at(0));
    firing.take_effects();
    firing.lead(None);
    firing.claimed(at(5), "k", ClaimAnswer::Mine);
    let effects = firing.take_effects();
    assert!(matches!(effects.as_slice(), [Effect::Settle { ending: Ending::Release, .. }]), "{effects:?}");
}

#[test]
fn a_lease_lost_during_the_run_changes_nothing_for_the_run() {
    let mut firing = leading(8);
    firing.observe(at(0), "k", due("t", 1, NOON));
    firing.step(at(0));
    firing.claimed(at(5), "k", ClaimAnswer::Mine);
    firing.take_effects();
    firing.lead(None);
    firing.step(at(1_000));
    assert_eq!(firing.take_effects(), []);
    firing.ended(at(2_000), "k", None);
    let effects = firing.take_effects();
    let [Effect::Settle { ending: Ending::Finish(LastStatus::Success, None), .. }] = effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    // The end is written by whoever ran it, again and again until it can be.
    firing.settle_failed(at(3_000), "k");
    firing.step(at(4_000));
    assert_eq!(firing.take_effects(), effects);
    firing.settled(at(4_100), "k", Some(due("t", 3, NOON + 300_000)));
    assert_eq!(firing.active(), 0);
}

#[test]
fn a_claim_that_took_too_long_is_not_run() {
    let mut firing = leading(8);
    firing.observe(at(0), "k", due("t", 1, NOON));
    firing.step(at(0));
    firing.take_effects();
    // The process was stopped for longer than the claim lasts: others may have given it up by now.
    firing.claimed(at(30_000 + EXTRA_MS), "k", ClaimAnswer::Mine);
    let effects = firing.take_effects();
    assert!(matches!(effects.as_slice(), [Effect::Settle { ending: Ending::Release, .. }]), "{effects:?}");
}

#[test]
fn a_schedule_that_runs_is_not_claimed_again_until_its_end_is_written() {
    let mut firing = leading(8);
    firing.observe(at(0), "k", due("t", 1, NOON));
    firing.step(at(0));
    firing.claimed(at(1), "k", ClaimAnswer::Mine);
    firing.take_effects();
    let running = Seen { running: Some(claim_of("me", NOON)), ..due("t", 2, NOON + 60_000) };
    firing.observe(at(2), "k", running);
    firing.step(at(61_000));
    assert_eq!(firing.take_effects(), []);
    firing.ended(at(62_000), "k", None);
    firing.take_effects();
    firing.settled(at(62_010), "k", Some(due("t", 3, NOON + 60_000)));
    assert_eq!(claims(&mut firing), [("k".into(), 60_000)], "late, once");
}

#[test]
fn what_the_watch_told_during_the_run_counts_after_it() {
    let mut firing = leading(8);
    firing.observe(at(0), "k", due("t", 1, NOON));
    firing.step(at(0));
    firing.claimed(at(1), "k", ClaimAnswer::Mine);
    firing.ended(at(2), "k", None);
    firing.take_effects();
    // The guest changed it after the end was written; the watch is faster than the answer.
    firing.observe(at(3), "k", due("t", 9, NOON + 1_000));
    firing.settled(at(4), "k", Some(due("t", 3, NOON + 300_000)));
    firing.step(at(1_000));
    assert_eq!(claims(&mut firing), [("k".into(), 1_000)]);
}

#[test]
fn a_claim_of_a_dead_gateway_is_ended_as_lost_and_not_run() {
    let mut firing = leading(8);
    let dead = claim_of("dead", NOON);
    firing.observe(at(0), "k", Seen { running: Some(dead.clone()), ..due("t", 2, NOON + 300_000) });
    firing.step(at(100_000 + 9_999));
    assert_eq!(firing.take_effects(), [], "its run may still be under way");
    firing.step(at(110_000));
    let ending = Ending::Finish(LastStatus::Failed, Some(LOST.into()));
    assert_eq!(firing.take_effects(), [Effect::Settle { key: "k".into(), claim: dead, ending }]);
    firing.settled(at(110_010), "k", Some(due("t", 3, NOON + 300_000)));
    firing.step(at(300_000));
    assert_eq!(claims(&mut firing), [("k".into(), 300_000)], "the next time is its own");
}

#[test]
fn a_claim_that_its_holder_ends_in_time_is_left_to_it() {
    let mut firing = leading(8);
    firing.observe(
        at(0),
        "k",
        Seen { running: Some(claim_of("other", NOON)), ..due("t", 2, NOON + 300_000) },
    );
    firing.observe(at(50_000), "k", due("t", 3, NOON + 300_000));
    firing.step(at(200_000));
    assert_eq!(firing.take_effects(), []);
}

#[test]
fn a_claim_is_asked_for_again_when_its_answer_is_lost() {
    let mut firing = leading(8);
    firing.observe(at(0), "k", due("t", 1, NOON));
    firing.step(at(0));
    let first = firing.take_effects();
    firing.claim_failed(at(5_000), "k");
    assert_eq!(firing.next_step_ms(at(5_000)), Some(6_000));
    firing.step(at(6_000));
    assert_eq!(firing.take_effects(), first, "the very same claim, so that an earlier one is recognised");
    firing.claim_failed(at(7_000), "k");
    firing.lead(None);
    firing.step(at(8_000));
    let effects = firing.take_effects();
    assert!(matches!(effects.as_slice(), [Effect::Settle { ending: Ending::Release, .. }]), "{effects:?}");
}

#[test]
fn a_stale_view_is_corrected_by_the_store() {
    let mut firing = leading(8);
    firing.observe(at(0), "k", due("t", 1, NOON));
    firing.step(at(0));
    firing.take_effects();
    firing.claimed(at(5), "k", ClaimAnswer::Changed(due("t", 4, NOON + 1_000)));
    firing.observe(at(6), "k", due("t", 2, NOON));
    firing.step(at(7));
    assert_eq!(claims(&mut firing), []);
    firing.step(at(1_000));
    assert_eq!(claims(&mut firing), [("k".into(), 1_000)]);
    firing.claimed(at(1_001), "k", ClaimAnswer::Gone);
    firing.step(at(9_000));
    assert_eq!((firing.take_effects(), firing.active()), (vec![], 0));
}

#[test]
fn a_disabled_or_deleted_schedule_is_not_fired() {
    let mut firing = leading(8);
    firing.observe(at(0), "off", due("t", 1, NOON + 10));
    firing.observe(at(0), "gone", due("t", 2, NOON + 10));
    firing.observe(at(1), "off", Seen { next_ms: None, ..due("t", 3, 0) });
    firing.removed("gone", 4);
    firing.removed("off", 1);
    firing.step(at(20));
    assert_eq!(firing.take_effects(), []);
}

#[test]
fn the_bound_holds_and_tenants_take_turns() {
    let mut firing = leading(3);
    for i in 0..5 {
        firing.observe(at(0), &format!("a{i}"), due("a", 1 + i, NOON - 100 + i64::try_from(i).unwrap()));
    }
    firing.observe(at(0), "b0", due("b", 20, NOON - 1));
    firing.step(at(0));
    let keys = |claims: Vec<(String, i64)>| claims.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(
        keys(claims(&mut firing)),
        ["a0", "b0"],
        "the last place is for a tenant with nothing running"
    );
    firing.observe(at(1), "c0", due("c", 21, NOON));
    firing.step(at(1));
    assert_eq!(keys(claims(&mut firing)), ["c0"]);
    firing.claimed(at(2), "b0", ClaimAnswer::Gone);
    assert_eq!(claims(&mut firing), [], "two places are taken, the third is nobody's who runs");
    firing.claimed(at(3), "c0", ClaimAnswer::Gone);
    assert_eq!(keys(claims(&mut firing)), ["a1"]);
}

#[test]
fn forgetting_keeps_what_runs() {
    let mut firing = leading(8);
    firing.observe(at(0), "k", due("t", 1, NOON));
    firing.observe(at(0), "other", due("t", 2, NOON + 50));
    firing.step(at(0));
    firing.claimed(at(1), "k", ClaimAnswer::Mine);
    firing.take_effects();
    firing.forget();
    firing.step(at(60));
    assert_eq!((firing.take_effects(), firing.active()), (vec![], 1));
    firing.observe(at(61), "other", due("t", 2, NOON + 50));
    firing.step(at(62));
    assert_eq!(claims(&mut firing), [("other".into(), 50)]);
}
