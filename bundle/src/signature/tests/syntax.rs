//! The text of a trust bundle.

use super::*;

fn problem(text: &str) -> (usize, String) {
    let error = TrustBundle::parse(text).unwrap_err();
    (error.line, error.problem)
}

#[test]
fn rules_belong_to_the_key_after_them_and_end_with_it() {
    let (a, b) = (Author::new("a"), Author::new("b"));
    let text = format!(
        "# Ours.\n\n{}\n# Theirs; a rule in a comment counts.\n# Publishers: Acme\n# Not-After: 2030-01-01\n{}",
        a.trusted("not-before: 2026-01-01\r\nREVOKED: No"),
        b.key.public().to_pem()
    );
    let trust = TrustBundle::parse(&text).unwrap();
    let keys = trust.keys();
    assert_eq!(keys.len(), 2);
    let of = |id: &KeyId| keys.iter().find(|key| key.0 == id).unwrap().2;
    assert!(of(&a.id).not_before.is_some() && of(&a.id).publishers.is_empty());
    let theirs = of(&b.key.public().fingerprint());
    assert!(theirs.not_before.is_none() && theirs.not_after.is_some());
    assert_eq!(theirs.publishers, ["Acme"]);
}

#[test]
fn a_line_that_would_be_overlooked_is_an_error_with_its_number() {
    let key = Author::new("a").trusted("");
    for (rule, expected) in [
        ("Revokd: yes", "expected Key-Id"),
        ("Revoked", "expected Key-Id"),
        ("Revoked:", "Revoked has no value"),
        ("Revoked: maybe", "yes, no, or a date"),
        ("Not-After: soon", "expected 2026-12-31"),
        ("Not-After: 2026-13-01", "expected 2026-12-31"),
        ("Not-After: 2026-12-31 12:00", "expected 2026-12-31"),
        ("Publishers: ,", "names nobody"),
        ("Revoked-Keys: a b", "a key id is"),
        ("Key-Id: other", "given twice"),
    ] {
        let (line, text) = problem(&format!("# 1\nNot-Before: 2026-01-01\n{rule}\n{key}"));
        assert!(text.contains(expected), "{rule}: {text}");
        // The second Key-Id is found where it comes.
        assert_eq!(line, if rule.starts_with("Key-Id") { 4 } else { 3 }, "{rule}");
    }
}

#[test]
fn keys_that_are_none_or_there_twice_are_errors() {
    let (a, b) = (Author::new("same"), Author::new("same"));
    assert!(problem("").1.contains("no key"));
    assert!(problem("# nothing\n").1.contains("no key"));
    assert!(problem("Revoked-Keys: a\n").1.contains("no key"));
    assert!(problem("garbage").1.contains("expected"));
    assert!(problem(&format!("{}{}", a.trusted(""), b.trusted(""))).1.contains("two keys"));
    let renamed = a.trusted("").replace("same", "other");
    let (_, text) = problem(&format!("{}Revoked: yes\n{renamed}", a.trusted("")));
    assert!(text.contains("twice"), "one key under two names, one of them revoked: {text}");
    assert!(problem(&format!("{}Key-Id: next\n", a.trusted(""))).1.contains("no key comes after"));
    let cut = a.trusted("");
    let cut = cut.split("-----END").next().unwrap();
    assert!(problem(cut).1.contains("is missing"));
    let p256 = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n";
    assert!(problem(p256).1.contains("Ed25519"));
}

#[test]
fn a_private_key_in_it_is_named_and_not_repeated() {
    let author = Author::new("a");
    let pem = author.key.to_pem();
    let (line, text) = problem(&format!("{}{}", author.trusted(""), &*pem));
    assert!(line > 1 && text.contains("private key"), "{text}");
    assert!(!text.contains(pem.lines().nth(1).unwrap()));
}

#[test]
fn a_file_of_too_many_keys_is_refused() {
    let mut text = String::new();
    for n in 0..1_001u32 {
        text.push_str(&format!("Key-Id: k{n}\n{}", SigningKey::generate().unwrap().public().to_pem()));
    }
    assert!(problem(&text).1.contains("more than 1000 keys"));
}
