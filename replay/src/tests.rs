//! What guests do otherwise than recorded, and what is said of it.

use longshore_proto::ErrorCode;
use longshore_proto::trace::{Clock, Entry, Payload, RandomSource, StreamKind, Unreplayable};
use longshore_worker::host::tape::Player as _;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;

use crate::compare::Class;
use crate::player::{Ended, Override, Rules, Step, StepAnswer, Stepper, TracePlayer, Unmatched};
use crate::report::{Mode, Verdict};
use crate::script::ScriptError;
use crate::testing::{Does, Played2, get, made, packed, play, replayed, response};

fn classes(played: &Played2) -> Vec<Class> {
    played.report.divergences.iter().map(|divergence| divergence.class).collect()
}

fn three() -> crate::testing::Made {
    made().get("a").get("b").get("c")
}

#[test]
fn a_guest_that_does_what_was_recorded_is_identical_and_gets_what_was_recorded() {
    let played = replayed(three(), &[get("a"), get("b"), get("c")]);
    assert_eq!(played.report.verdict, Verdict::Identical);
    assert_eq!(played.report.exit_code(), 0);
    assert_eq!(played.results[1]["Ok"]["value"], "value of b");
    assert_eq!((played.report.matched, played.report.leftovers.len()), (3, 0));
}

#[test]
fn equal_calls_are_answered_in_their_order() {
    let made = made().call("storage.get", &json!({"key": "n"}), &json!({"Ok": 1})).call(
        "storage.get",
        &json!({"key": "n"}),
        &json!({"Ok": 2}),
    );
    let played = replayed(made, &[get("n"), get("n")]);
    assert_eq!(played.results, [json!({"Ok": 1}), json!({"Ok": 2})]);
    assert_eq!(played.report.verdict, Verdict::Identical);
}

#[test]
fn a_call_at_another_place_gets_its_own_answer_and_is_reordered() {
    let played = replayed(three(), &[get("c"), get("a"), get("b")]);
    assert_eq!(played.results[0]["Ok"]["value"], "value of c");
    assert_eq!(classes(&played), [Class::Reordered]);
    assert_eq!(played.report.divergences[0].recorded_call, Some(2));
}

#[test]
fn a_call_that_is_left_out_is_removed_and_the_others_keep_their_answers() {
    let played = replayed(three(), &[get("a"), get("c")]);
    assert_eq!(played.results[1]["Ok"]["value"], "value of c");
    assert_eq!(classes(&played), [Class::Removed]);
    assert_eq!(played.report.leftovers[0].call, Some(1));
    assert_eq!(played.report.divergences[0].context.len(), 1);
    assert_eq!(played.report.exit_code(), 1);
}

#[test]
fn a_call_with_other_arguments_is_changed_and_its_diff_names_the_path() {
    let played = replayed(three(), &[get("a"), get("x"), get("c")]);
    assert_eq!(classes(&played), [Class::ArgumentsChanged]);
    let first = &played.report.divergences[0];
    assert_eq!(first.fingerprint().place, "key");
    assert_eq!((first.recorded_call, first.replayed_call), (Some(1), Some(1)));
    // The general error of the interface, as the trace has none of this function.
    assert_eq!(played.results[1], json!({"Err": "Internal"}));
    assert!(played.report.text(false).contains("- key: \"b\"\n    + key: \"x\""));
}

#[test]
fn a_new_call_is_added() {
    let played = replayed(three(), &[get("a"), Does::Call("user.get", json!({})), get("b"), get("c")]);
    assert_eq!(classes(&played), [Class::Added]);
    assert_eq!(played.report.divergences[0].function, "user.get");
    assert_eq!(played.report.divergences[0].recorded_call, None);
}

#[test]
fn another_answer_alone_is_output_only_and_shown_as_what_it_is() {
    let script = three().script();
    let all = [get("a"), get("b"), get("c")];
    let played = play(script, Rules::default(), Mode::Exact, &all, Ok(response(b"other")));
    assert_eq!(classes(&played), [Class::OutputOnly]);
    assert_eq!(played.report.divergences[0].function, "response body");
    let mut other = response(b"ok");
    other.status = 201;
    other.headers.push(("x".into(), "\u{1b}[2J".into()));
    let played = play(three().script(), Rules::default(), Mode::Exact, &all, Ok(other));
    assert_eq!(played.report.divergences[0].function, "response");
    assert!(!played.report.text(false).contains('\u{1b}'));
}

#[test]
fn what_a_guest_prints_is_compared_to_the_byte() {
    let stream = |text: &'static str| Entry::Stream {
        stream: 0,
        kind: StreamKind::Stdout,
        content: Payload::Inline(text.into()),
    };
    let same = replayed(made().entry(stream("ab")), &[Does::Prints("a"), Does::Prints("b")]);
    assert_eq!(same.report.verdict, Verdict::Identical);
    for does in [&[][..], &[Does::Prints("abc")], &[Does::Prints("xb")]] {
        let other = replayed(made().entry(stream("ab")), does);
        assert_eq!(
            (classes(&other), other.report.divergences[0].function.as_str()),
            (vec![Class::OutputOnly], "stdout")
        );
    }
}

#[test]
fn clocks_and_random_numbers_are_those_recorded_and_go_on_in_a_fixed_way() {
    let trace = || {
        let random = Entry::Random { source: RandomSource::Secure, bytes: vec![1, 2, 3] };
        made().entry(Entry::Clock { clock: Clock::Wall, ns: 50 }).entry(random)
    };
    let same = replayed(trace(), &[Does::Clock, Does::Random(3)]);
    assert_eq!((same.report.verdict, &same.results[0]), (Verdict::Identical, &json!(50)));
    let more = replayed(trace(), &[Does::Clock, Does::Clock, Does::Random(40)]);
    assert_eq!(more.results[1], json!(1_000_050));
    assert_eq!(more.results[2], json!(40));
    assert_eq!(classes(&more), [Class::Added, Class::ArgumentsChanged]);
    let fewer = replayed(trace(), &[Does::Random(3)]);
    assert_eq!(classes(&fewer), [Class::Removed]);
}

#[test]
fn a_trap_and_a_limit_are_told_from_each_other_on_either_side() {
    let all = [get("a"), get("b"), get("c")];
    for (code, class) in [
        (ErrorCode::Trap, Class::Trap),
        (ErrorCode::OutOfMemory, Class::Limit),
        (ErrorCode::HostCalls, Class::Limit),
        (ErrorCode::StackOverflow, Class::Limit),
    ] {
        let now = play(three().script(), Rules::default(), Mode::WhatIf, &all[..2], Err(code));
        assert_eq!(classes(&now), [class], "{code:?}");
        let ended = three().failed(code).script();
        let then = play(ended.clone(), Rules::default(), Mode::WhatIf, &all, Ok(response(b"ok")));
        assert_eq!(classes(&then), [class], "{code:?}");
        let both = play(ended, Rules::default(), Mode::Exact, &all, Err(code));
        assert_eq!(both.report.verdict, Verdict::Identical);
    }
}

#[test]
fn a_run_that_traps_no_longer_and_goes_on_diverges_first_by_its_trap() {
    let script = made().get("a").failed(ErrorCode::Trap).script();
    let played = play(script, Rules::default(), Mode::WhatIf, &[get("a"), get("b")], Ok(response(b"ok")));
    assert_eq!(classes(&played), [Class::Trap, Class::Added]);
}

#[test]
fn a_run_that_ended_during_a_call_ends_there() {
    let script =
        made().get("a").begin("http.fetch", &json!({"url": "x"})).failed(ErrorCode::Timeout).script();
    let does = [get("a"), Does::Call("http.fetch", json!({"url": "x"})), get("never")];
    let played = play(script, Rules::default(), Mode::Exact, &does, Ok(response(b"ok")));
    assert_eq!(played.report.verdict, Verdict::Identical);
    assert_eq!(played.results.len(), 1);
}

#[test]
fn a_run_that_time_ended_is_the_same_up_to_its_last_call_wherever_the_replay_ends() {
    let script = || made().get("a").failed(ErrorCode::CpuTime).script();
    for (does, outcome) in [
        (&[get("a")][..], Err(ErrorCode::Cancelled)),
        (&[get("a"), get("further")], Err(ErrorCode::CpuTime)),
        (&[get("a")], Ok(response(b"ok"))),
    ] {
        let played = play(script(), Rules::default(), Mode::Exact, does, outcome);
        assert_eq!(played.report.verdict, Verdict::Identical, "{:?}", played.report.divergences);
    }
    let early = play(script(), Rules::default(), Mode::Exact, &[], Ok(response(b"ok")));
    assert_eq!(early.report.class, Some(Class::Removed));
    let fixed = play(script(), Rules::default(), Mode::WhatIf, &[get("a")], Ok(response(b"ok")));
    assert_eq!(classes(&fixed), [Class::Limit]);
}

#[test]
fn a_trace_that_was_cut_is_replayed_up_to_there_and_says_so() {
    let cut = |after| {
        let mut made = three();
        made.unreplayable = Some(Unreplayable { after_call: after, reason: "it was too large".into() });
        made
    };
    let played = replayed(cut(Some(0)), &[get("a"), get("b"), get("c")]);
    assert_eq!(played.report.verdict, Verdict::Identical, "{:?}", played.report.divergences);
    assert_eq!(played.report.partial.as_deref(), Some("it was too large"));
    assert_eq!(played.results.len(), 1);
    let further = replayed(cut(Some(2)), &[get("a"), get("b"), get("c"), get("further")]);
    assert_eq!(further.report.verdict, Verdict::Identical, "{:?}", further.report.divergences);
    assert!(matches!(cut(None).try_script(), Err(ScriptError::Unreplayable { .. })));
}

#[test]
fn a_call_whose_arguments_had_no_room_is_where_the_trace_ends_and_no_divergence() {
    let cut = || {
        let args = Payload::Cut { bytes: 9 };
        let mut made =
            made().get("a").entry(Entry::CallStart { call: 1, function: "storage.get".into(), args });
        made.unreplayable = Some(Unreplayable { after_call: Some(0), reason: "no room".into() });
        made
    };
    let played = replayed(cut(), &[get("a"), get("b"), get("c")]);
    assert_eq!(played.report.verdict, Verdict::Identical, "{:?}", played.report.divergences);
    assert_eq!((played.report.partial.as_deref(), played.results.len()), (Some("no room"), 1));
    let other = replayed(cut(), &[get("x"), get("b")]);
    assert_eq!(classes(&other).first(), Some(&Class::ArgumentsChanged));
}

#[test]
fn a_guest_that_saw_a_secret_and_differs_is_secret_dependent_only_with_its_own_bundle() {
    let with_secret = || {
        let mut made = three();
        made.secrets_read = true;
        made.script()
    };
    let other = [get("a"), get("x"), get("c")];
    let exact = play(with_secret(), Rules::default(), Mode::Exact, &other, Ok(response(b"ok")));
    assert_eq!(exact.report.verdict, Verdict::SecretDependent);
    let what_if = play(with_secret(), Rules::default(), Mode::WhatIf, &other, Ok(response(b"ok")));
    assert_eq!(what_if.report.verdict, Verdict::Diverged);
}

#[test]
fn a_guest_that_was_given_a_callers_credentials_and_differs_is_secret_dependent() {
    let verdict = |name: &str, value: &str, does: &[Does]| {
        let mut script = three().script();
        Arc::make_mut(&mut script.header.run).http.headers = vec![(name.to_owned(), value.to_owned())];
        play(script, Rules::default(), Mode::Exact, does, Ok(response(b"ok"))).report.verdict
    };
    let (same, other) = ([get("a"), get("b"), get("c")], [get("a"), get("x"), get("c")]);
    assert_eq!(verdict("authorization", "Bearer dG9r", &other), Verdict::SecretDependent);
    // What it does with them replays as long as it hands them on, and nothing is excluded then.
    assert_eq!(verdict("authorization", "Bearer dG9r", &same), Verdict::Identical);
    // Nothing stood there that could have been replaced; or no credential is called so.
    assert_eq!(verdict("authorization", "", &other), Verdict::Diverged);
    assert_eq!(verdict("accept", "text/html", &other), Verdict::Diverged);
}

#[test]
fn credentials_that_the_guest_made_itself_match_by_their_shape() {
    let args = |value: &str| json!({"headers": [{"name": "Authorization", "value": value}], "url": "u"});
    let trace = || made().call("http.fetch", &args("Basic abc="), &json!({"Ok": 1}));
    let same = replayed(trace(), &[Does::Call("http.fetch", args("Basic xyz="))]);
    assert_eq!((same.report.verdict, same.report.by_shape), (Verdict::Identical, 1));
    let longer = replayed(trace(), &[Does::Call("http.fetch", args("Basic wxyz="))]);
    assert_eq!(classes(&longer), [Class::ArgumentsChanged]);
}

#[test]
fn calls_that_were_not_recorded_are_answered_by_the_policy() {
    let does = [get("a"), get("x")];
    let rules = |unmatched| Rules { unmatched, ..Rules::default() };
    let answers = |unmatched| {
        play(three().script(), rules(unmatched), Mode::WhatIf, &does, Ok(response(b"ok"))).results
    };
    assert_eq!(answers(Unmatched::Error)[1], json!({"Err": "Internal"}));
    assert_eq!(answers(Unmatched::Nearest)[1]["Ok"]["value"], "value of b");
    assert_eq!(answers(Unmatched::Stub)[1]["Ok"]["value"], "value of a");
    // Nothing is known of this one: the replay ends, and says at which call.
    let unknown = [Does::Call("wasi:http/outgoing-handler.handle", json!({}))];
    let played =
        play(three().script(), rules(Unmatched::Nearest), Mode::WhatIf, &unknown, Ok(response(b"ok")));
    assert_eq!(played.report.class, Some(Class::Added));
    assert!(played.report.replayed_end.contains("was not recorded"));
}

#[test]
fn a_call_can_be_answered_otherwise() {
    let script = three().script();
    let wish = |wished: Override| Rules { overrides: [(1, wished)].into(), ..Rules::default() };
    let all = [get("a"), get("b"), get("c")];
    let play =
        |wished| play(script.clone(), wish(wished), Mode::Overridden, &all, Ok(response(b"ok"))).results;
    assert_eq!(play(Override::Error("missing".into()))[1], json!({"Err": "Missing"}));
    assert_eq!(play(Override::Result(json!({"key": "b", "value": "v"})))[1]["Ok"]["value"], "v");
    assert!(Override::Error("x".into()).check(&script, 3).is_err());
    let silent = made().call("logging.log-info", &json!({"message": "m"}), &json!(null)).script();
    assert!(Override::Error("x".into()).check(&silent, 0).is_err());
}

#[test]
fn a_stepper_sees_each_call_and_may_stop_or_answer() {
    #[derive(Default)]
    struct Walk(Mutex<Vec<Step>>);
    impl Stepper for Walk {
        fn before(&self, step: &Step) -> StepAnswer {
            self.0.lock().push(step.clone());
            match step.number {
                0 => StepAnswer::Go,
                1 => StepAnswer::Override(Override::Error("denied".into())),
                _ => StepAnswer::Stop,
            }
        }
    }
    let walk = Arc::new(Walk::default());
    let rules = Rules { stepper: Some(Arc::clone(&walk) as _), ..Rules::default() };
    let all = [get("a"), get("b"), get("c")];
    let played = play(three().script(), rules, Mode::Overridden, &all, Ok(response(b"ok")));
    assert_eq!(played.results[1], json!({"Err": "Denied"}));
    assert_eq!(played.results.len(), 2);
    assert_eq!(played.report.partial.as_deref(), Some("stopped by its user"));
    let steps = walk.0.lock();
    assert_eq!((steps.len(), steps[2].recorded, steps[0].args["key"].as_str()), (3, Some(2), Some("a")));
}

#[test]
fn a_trace_that_makes_no_sense_is_refused() {
    let stray = Entry::CallStart { call: 5, function: "f".into(), args: Payload::Inline("x".into()) };
    assert!(matches!(made().entry(stray).try_script(), Err(ScriptError::Senseless(_))));
    let sha256 = longshore_proto::ContentHash::from_bytes([4; 32]);
    let stored =
        Entry::CallStart { call: 0, function: "f".into(), args: Payload::Stored { sha256, bytes: 3 } };
    assert!(matches!(made().entry(stored.clone()).try_script(), Err(ScriptError::PayloadMissing { .. })));
    let payloads = [(sha256, "abc".into())].into();
    let records = made().entry(stored).records();
    assert!(matches!(crate::script::Script::new(&records, &payloads), Err(ScriptError::PayloadWrong { .. })));
}

#[test]
fn the_text_of_a_report_is_bounded_and_says_the_first_divergence_first() {
    let mut trace = made();
    for at in 0..500 {
        trace = trace.get(&format!("{at}{}", "x".repeat(2_000)));
    }
    let played = replayed(trace, &[]);
    let text = played.report.text(true);
    assert!(text.len() < 64 << 10, "{}", text.len());
    assert!(played.report.more_divergences > 400);
    let verdict = text.find("diverged (removed)").unwrap();
    assert!(verdict < text.find("first divergence").unwrap());
    assert!(serde_json::to_string(&played.report).unwrap().len() < 256 << 10);
    assert_eq!(played.comparison.more_leftovers, 450);
}

#[test]
fn an_answer_that_cannot_be_read_ends_the_replay_with_its_own_reason() {
    let player = |unmatched| {
        let rules = Rules { unmatched, ..Rules::default() };
        TracePlayer::new(Arc::new(three().script()), rules)
    };
    let asks = |player: &TracePlayer, key: &str| {
        let Does::Call(function, args) = get(key) else { panic!("a call") };
        player.call(function, &packed(&args))
    };
    let why = "storage.get has no such result: no such case";
    let recorded = player(Unmatched::Error);
    asks(&recorded, "a");
    recorded.ended(why);
    recorded.ended("it goes on for a moment");
    let observed = recorded.observed();
    assert_eq!(observed.ended, Some(Ended::Undecodable(why.to_owned())));
    assert_eq!(observed.ended.unwrap().words(), why);
    // What the policy made up and the function cannot give is no fault of the trace.
    let made_up = player(Unmatched::Nearest);
    asks(&made_up, "a");
    asks(&made_up, "x");
    made_up.ended(why);
    assert_eq!(made_up.observed().ended, Some(Ended::NoAnswer(1)));
}
