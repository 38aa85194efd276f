use super::scripted::{self, Op};
use super::*;

/// What the recorded guest does: calls 0 to 4.
const BASE: [Op; 5] = [Op::Log("one"), Op::Put("k"), Op::Get("k"), Op::Get("zz-none"), Op::Log("two")];
/// What it says: two calls that went well, and one of which the storage has nothing.
const ANSWER: &str = "done 001";

async fn recorded() -> Export {
    let world = World::start().await;
    world.install(&scripted::bundle("scripted", "1.0.0", &BASE, "done "), json!({})).await;
    let export = Export::of(world, get("com.longshore.test.scripted/")).await;
    let said = export.replay(&export.file, &[]);
    assert!(said.code == 0 && said.all.contains("identical"), "{}", said.all);
    export
}

impl Export {
    /// `longshore replay --bundle` of a guest that does this.
    fn what_if(&self, ops: &[Op], answer: &str, more: &[&str]) -> Said {
        let file = self.shell.folder().join("candidate.tar.zst");
        std::fs::write(&file, scripted::bundle("scripted", "2.0.0", ops, answer)).unwrap();
        self.replay(&self.file, &[&["--bundle", file.to_str().unwrap()][..], more].concat())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_bundle_is_told_by_its_class_and_calls_that_were_not_recorded_are_answered_by_policy() {
    let export = recorded().await;
    let [one, put, got, none, two] = BASE;

    // The same guest in another bundle, and what it computes.
    let said = export.what_if(&BASE, "done ", &["--json"]);
    let fuel = &said.json["resources"]["fuel"];
    assert_eq!((said.code, said.json["verdict"].as_str()), (0, Some("identical")), "{}", said.all);
    assert!(fuel["candidate"].as_u64() > Some(0) && fuel["ratio"] == 1.0, "{}", said.all);

    for (what, ops, answer, class) in [
        ("one more", vec![one, Op::Log("new"), put, got, none, two], "done ", "added"),
        ("one less", vec![one, put, got, none], "done ", "removed"),
        ("two swapped", vec![one, put, none, got, two], "done ", "reordered"),
        ("an argument", vec![one, put, got, none, Op::Log("2")], "done ", "arguments_changed"),
        ("the answer", BASE.to_vec(), "Done ", "output_only"),
        ("memory", vec![one, put, got, none, two, Op::Hog], "done ", "limit"),
        ("stack", vec![one, put, got, none, two, Op::Recurse], "done ", "limit"),
        ("a trap", vec![one, put, got, none, two, Op::Trap], "done ", "trap"),
    ] {
        let said = export.what_if(&ops, answer, &["--json"]);
        let first = said.json["divergences"][0]["class"].as_str();
        assert_eq!(
            (said.code, said.json["class"].as_str(), first),
            (1, Some(class), Some(class)),
            "{what}: {}",
            said.all
        );
        let said = export.what_if(&ops, answer, &[]);
        assert!(
            said.code == 1 && said.stdout.contains(&format!("first divergence: {class} in ")),
            "{what}: {}",
            said.all
        );
    }

    // Two calls that were not recorded: what each policy answers is in what the guest then says.
    let ops = [one, Op::Get("k2"), put, got, none, Op::Get("k3"), two];
    for (policy, says) in [("error", "done 10011"), ("nearest", "done 00011"), ("stub", "done 00010")] {
        let said = export.what_if(&ops, "done ", &["--unmatched", policy, "--json"]);
        assert_eq!((said.code, said.json["class"].as_str()), (1, Some("added")), "{policy}: {}", said.all);
        let response =
            said.json["divergences"].as_array().unwrap().iter().find(|d| d["function"] == "response body");
        let response = response.unwrap_or_else(|| panic!("{policy}: {}", said.all)).to_string();
        assert!(response.contains(says) && response.contains(ANSWER), "{policy}: {response}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_walked_through_and_its_calls_are_answered_otherwise() {
    let export = recorded().await;
    let calls = [
        "[0] logging.log-info",
        "[1] storage.put",
        "[2] storage.get",
        "[3] storage.get",
        "[4] logging.log-info",
    ];

    // What if it had been denied? The error's place in the WIT is in the guest's answer.
    let said = export.replay(&export.file, &["--override", "2=error:denied", "--json"]);
    assert_eq!((said.code, said.json["class"].as_str()), (1, Some("output_only")), "{}", said.all);
    assert!(said.json["mode"] == "overridden" && said.stdout.contains("done 031"), "{}", said.all);
    // What cannot be answered so is the tool's failure, not the trace's.
    for (wished, reason) in [("9=error:denied", "no host call 9"), ("0=error:denied", "cannot fail")] {
        let said = export.replay(&export.file, &["--override", wished]);
        assert!(said.code == 3 && said.all.contains(reason), "{wished}: {}: {}", said.code, said.all);
    }

    // Every call is shown, and then the end.
    let said = export.replay_with(&export.file, &["--step"], &"n\n".repeat(calls.len()));
    assert!(said.code == 0 && said.stdout.contains("identical"), "{}", said.all);
    for call in calls {
        assert!(said.all.contains(call), "{call}: {}", said.all);
    }
    // Two, an answer of one's own, one more; and the rest without a word.
    let said = export.replay_with(&export.file, &["--step"], "n\n\no error:denied\nc\n");
    assert!(
        said.code == 1 && said.stdout.contains("output_only") && said.stdout.contains("done 031"),
        "{}",
        said.all
    );
    assert!(said.all.contains(calls[3]) && !said.all.contains(calls[4]), "{}", said.all);
    // Said before it comes.
    let said = export.replay_with(&export.file, &["--step"], "o 3=error:internal\nc\n");
    assert!(said.code == 1 && said.stdout.contains("done 004"), "{}", said.all);
    // Enough seen: what came so far is as recorded.
    let said = export.replay_with(&export.file, &["--step"], "n\nq\n");
    assert!(said.code == 0 && said.all.contains(calls[1]) && !said.all.contains(calls[2]), "{}", said.all);
    assert!(said.stdout.contains("stopped"), "{}", said.all);

    // 2: nothing to replay. 3: nothing to replay it with.
    let nothing = export.shell.folder().join("nothing");
    std::fs::write(&nothing, "no bundle").unwrap();
    assert_eq!(export.replay(&nothing, &[]).code, 2);
    assert_eq!(export.replay(&export.file, &["--bundle", nothing.to_str().unwrap()]).code, 3);
}
