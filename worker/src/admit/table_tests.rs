use longshore_proto::ExecutionId;

use super::*;

const SHIM: BootId = BootId::from_bytes([1; 16]);
const OTHER: BootId = BootId::from_bytes([2; 16]);

fn call(n: u64) -> CallRef {
    let mut id = [0u8; 16];
    id[..8].copy_from_slice(&n.to_le_bytes());
    CallRef { execution: ExecutionId::from_bytes(id), send: SendNo(n) }
}

fn arrival(n: u64, tenant: &str, shim: BootId) -> Arrival {
    Arrival {
        call: call(n),
        tenant: tenant.parse().unwrap(),
        shim: Some((shim, "_R.shim.x".into())),
        budget_ms: 1_000,
    }
}

fn table(slots: u32) -> Table<&'static str> {
    Table::new(TableConfig { slots, ..TableConfig::default() })
}

fn ask(up_to: u64, calls: &[u64]) -> Question {
    Question {
        v: 1,
        shim: SHIM,
        number: 1,
        up_to: SendNo(up_to),
        calls: calls.iter().map(|n| AskedCall { call: call(*n), budget_ms: 1_000 }).collect(),
    }
}

#[test]
fn a_free_slot_is_taken_and_a_full_worker_says_busy() {
    let mut t = table(1);
    assert_eq!(t.admit(0, &arrival(1, "a", SHIM)), Admission::Run);
    assert_eq!(t.admit(0, &arrival(2, "b", SHIM)), Admission::Busy(BusyReason::Full));
    t.finish(5, call(1), None, None);
    assert_eq!(t.free(), 1);
    assert_eq!(t.admit(6, &arrival(3, "b", SHIM)), Admission::Run);
}

#[test]
fn a_second_copy_of_a_message_never_runs_whatever_was_said_to_the_first() {
    let mut t = table(1);
    assert_eq!(t.admit(0, &arrival(1, "a", SHIM)), Admission::Run);
    assert_eq!(t.admit(0, &arrival(1, "a", SHIM)), Admission::Running);
    assert_eq!(t.admit(0, &arrival(2, "b", SHIM)), Admission::Busy(BusyReason::Full));
    t.finish(1, call(1), Some((Arc::new("answer"), 6)), None);
    assert_eq!(t.admit(2, &arrival(1, "a", SHIM)), Admission::Done(Arc::new("answer")));
    assert_eq!(t.admit(2, &arrival(2, "b", SHIM)), Admission::Busy(BusyReason::Full));
    t.question(3, &ask(2, &[]));
    assert_eq!(t.kept_bytes(), 0);
    for n in [1, 2] {
        assert_eq!(t.admit(4, &arrival(n, "a", SHIM)), Admission::Busy(BusyReason::Full));
    }
}

#[test]
fn what_is_said_to_be_unknown_is_refused_when_it_still_arrives() {
    let mut t = table(2);
    let report = t.question(0, &ask(7, &[7]));
    assert_eq!(report.calls, [(call(7), RunStatus::Unknown)]);
    assert_eq!(t.admit(1, &arrival(7, "a", SHIM)), Admission::Busy(BusyReason::Full));
    assert_eq!(t.admit(1, &arrival(8, "a", SHIM)), Admission::Run);
}

#[test]
fn a_question_that_overtakes_a_call_does_not_acknowledge_it() {
    let mut t = table(2);
    assert_eq!(t.admit(0, &arrival(5, "a", SHIM)), Admission::Run);
    t.finish(1, call(5), Some((Arc::new("x"), 1)), None);
    t.question(2, &ask(4, &[]));
    assert_eq!(t.unacknowledged(), 1);
    let report = t.question(3, &ask(5, &[5]));
    assert_eq!(report.resend, [Arc::new("x")]);
    t.question(4, &ask(5, &[]));
    assert_eq!(t.unacknowledged(), 0);
}

#[test]
fn a_running_call_that_its_shim_no_longer_lists_is_cancelled() {
    let mut t = table(2);
    t.admit(0, &arrival(1, "a", SHIM));
    assert_eq!(t.question(1, &ask(1, &[])).cancel, [call(1)]);
}

#[test]
fn a_cancel_that_overtakes_its_call_keeps_it_from_running() {
    let mut t = table(2);
    assert!(!t.cancel(0, SHIM, call(1)));
    assert_eq!(t.admit(1, &arrival(1, "a", SHIM)), Admission::Busy(BusyReason::Full));
    t.admit(2, &arrival(2, "a", SHIM));
    assert!(!t.cancel(3, OTHER, call(2)), "another shim's run");
    assert!(t.cancel(3, SHIM, call(2)));
}

#[test]
fn the_last_slot_is_kept_for_a_tenant_with_nothing_running() {
    let mut t = table(3);
    assert_eq!(t.admit(0, &arrival(1, "a", SHIM)), Admission::Run);
    assert_eq!(t.admit(0, &arrival(2, "a", SHIM)), Admission::Run);
    assert_eq!(t.admit(0, &arrival(3, "a", SHIM)), Admission::Busy(BusyReason::Share));
    assert_eq!(t.admit(0, &arrival(4, "b", SHIM)), Admission::Run);
}

#[test]
fn a_tenant_over_its_share_yields_while_another_waits_and_not_longer() {
    let mut t = table(8);
    for n in 1..=6 {
        assert_eq!(t.admit(0, &arrival(n, "a", SHIM)), Admission::Run, "{n}");
    }
    for n in 7..=8 {
        t.admit(0, &arrival(n, &format!("c{n}"), SHIM));
    }
    assert_eq!(t.admit(0, &arrival(9, "b", OTHER)), Admission::Busy(BusyReason::Full));
    for n in [1, 2] {
        t.finish(10, call(n), None, None);
    }
    assert_eq!(t.admit(100, &arrival(10, "a", SHIM)), Admission::Busy(BusyReason::Share));
    assert_eq!(t.admit(1_200, &arrival(11, "a", SHIM)), Admission::Run);
}

#[test]
fn a_freed_slot_is_offered_by_turn_and_kept_for_its_shim_for_20_ms() {
    let mut t = table(1);
    t.admit(0, &arrival(1, "a", SHIM));
    t.admit(1, &arrival(2, "b", OTHER));
    t.admit(2, &arrival(3, "c", SHIM));
    assert_eq!(t.next_offer(3), None, "nothing is free");
    t.finish(5, call(1), None, None);
    assert_eq!(t.next_offer(5).unwrap().shim, OTHER);
    assert_eq!(t.next_offer(5), None, "the only slot is promised");
    assert_eq!(t.admit(6, &arrival(4, "a", SHIM)), Admission::Busy(BusyReason::Full));
    assert_eq!(t.admit(7, &arrival(5, "b", OTHER)), Admission::Run);
    t.finish(8, call(5), None, None);
    assert_eq!(t.next_offer(8).unwrap().shim, SHIM);
    assert_eq!(t.next_reservation_end(), Some(28));
    assert_eq!(t.admit(28, &arrival(6, "d", OTHER)), Admission::Run, "the promise is over");
}

#[test]
fn a_slot_is_offered_to_nobody_who_would_not_get_it_and_stays_for_newcomers() {
    let mut t = table(2);
    assert_eq!(t.admit(0, &arrival(1, "a", SHIM)), Admission::Run);
    assert_eq!(t.admit(0, &arrival(2, "a", SHIM)), Admission::Busy(BusyReason::Share));
    // The slot that is left is not for `a`: promised to it, it would be kept from everybody else.
    assert_eq!(t.next_offer(1), None);
    let plain = Arrival { shim: None, ..arrival(3, "b", SHIM) };
    assert_eq!(t.admit(2, &plain), Admission::Run);
    t.finish(3, call(3), None, None);
    t.finish(4, call(1), None, None);
    assert_eq!(t.next_offer(4).unwrap().tenant.as_str(), "a", "its place in the line was kept");
}

#[test]
fn the_runs_of_a_shim_unheard_for_10_s_are_cancelled_but_not_after_an_own_interruption() {
    let mut t = table(2);
    t.admit(0, &Arrival { budget_ms: 60_000, ..arrival(1, "a", SHIM) });
    assert!(t.tick(9_999).is_empty());
    t.link_restored(9_999);
    assert!(t.tick(19_998).is_empty());
    assert_eq!(t.tick(19_999), [call(1)]);
}

#[test]
fn an_answer_is_kept_until_10_s_after_the_deadline_and_its_id_a_minute() {
    let mut t = table(2);
    t.admit(0, &arrival(1, "a", SHIM));
    t.finish(10, call(1), Some((Arc::new("x"), 9)), None);
    t.tick(10_999);
    assert_eq!(t.kept_bytes(), 9);
    t.tick(11_000);
    assert_eq!(t.kept_bytes(), 0);
    assert_eq!(t.question(11_001, &ask(1, &[1])).calls, [(call(1), RunStatus::AnswerDropped)]);
}

#[test]
fn a_tenant_whose_answers_fill_its_quarter_is_told_busy_and_others_are_not() {
    let mut t = Table::new(TableConfig { slots: 4, max_answer_bytes: 100, ..TableConfig::default() });
    t.admit(0, &arrival(1, "a", SHIM));
    t.finish(1, call(1), Some((Arc::new("x"), 25)), None);
    assert_eq!(t.admit(2, &arrival(2, "a", SHIM)), Admission::Busy(BusyReason::Full));
    assert_eq!(t.admit(2, &arrival(3, "b", SHIM)), Admission::Run);
    t.release(call(1));
    assert_eq!(t.admit(3, &arrival(4, "a", SHIM)), Admission::Run);
}

#[test]
fn a_full_table_says_busy_and_forgets_nothing() {
    let mut t: Table<()> = Table::new(TableConfig { slots: 4, max_entries: 1, ..TableConfig::default() });
    assert_eq!(t.admit(0, &arrival(1, "a", SHIM)), Admission::Run);
    assert_eq!(t.admit(0, &arrival(2, "b", SHIM)), Admission::Busy(BusyReason::Full));
    assert_eq!(t.admit(0, &arrival(1, "a", SHIM)), Admission::Running);
}

#[test]
fn a_leaving_worker_takes_nothing_and_offers_nothing() {
    let mut t = table(1);
    t.admit(0, &arrival(1, "a", SHIM));
    t.admit(0, &arrival(2, "b", SHIM));
    t.leave();
    t.finish(1, call(1), None, None);
    assert_eq!(t.next_offer(1), None);
    assert_eq!(t.admit(1, &arrival(3, "a", SHIM)), Admission::Busy(BusyReason::Leaving));
}

#[test]
fn a_plain_clients_call_leaves_nothing_behind() {
    let mut t = table(1);
    let plain = Arrival { shim: None, ..arrival(1, "a", SHIM) };
    assert_eq!(t.admit(0, &plain), Admission::Run);
    t.finish(1, call(1), Some((Arc::new("x"), 1)), None);
    assert_eq!((t.kept_bytes(), t.unacknowledged(), t.free()), (0, 0, 1));
}

#[test]
fn a_run_a_second_past_its_deadline_makes_the_worker_unwell() {
    let mut t = table(1);
    t.admit(0, &arrival(1, "a", SHIM));
    t.tick(1_999);
    assert!(!t.unwell());
    t.tick(2_000);
    assert!(t.unwell());
}
