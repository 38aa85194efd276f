//! The three commands, one after the other, as an author and an operator use them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use longshore_bundle::archive::pack_files;

use super::*;
use crate::exit::{Exit, Failure};
use crate::output::Output;

const QUIET: Output = Output { json: true };

struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn bundle(&self, name: &str, version: &str) -> PathBuf {
        let manifest = format!(r#"{{"publisher":"Alga","name":"com.alga.hello","version":"{version}"}}"#);
        self.packed(name, &manifest)
    }
    fn packed(&self, name: &str, manifest: &str) -> PathBuf {
        let archive = pack_files([("manifest.json", manifest), ("dist/main.wasm", "wasm")], 3).unwrap();
        std::fs::write(self.path(name), archive).unwrap();
        self.path(name)
    }
    fn keygen(&self, id: Option<&str>, rules: &[(&str, &str)]) -> Result<(), Failure> {
        let rule = |name: &str| rules.iter().find(|rule| rule.0 == name).map(|rule| rule.1.to_owned());
        let args = KeygenArgs {
            out: self.path("keys"),
            key_id: id.map(|id| id.parse().unwrap()),
            not_before: rule("not_before"),
            not_after: rule("not_after"),
            publishers: rule("publisher").into_iter().collect(),
        };
        keygen(&args, &QUIET).map(drop)
    }
    fn key(&self, id: &str) -> PathBuf {
        self.path("keys").join(format!("{id}.key.pem"))
    }
    fn sign(&self, bundle: &Path, key: &Path) -> Result<(), Failure> {
        let args = SignArgs { bundle: bundle.to_owned(), key: key.to_owned(), key_id: None, out: None };
        sign(&args, &QUIET).map(drop)
    }
    fn verify(&self, bundle: &Path, id: &str) -> Result<(), Failure> {
        let trust = self.path("keys").join(format!("{id}.pub.pem"));
        let args = VerifyArgs { bundle: bundle.to_owned(), signature: None, trust };
        verify(&args, &QUIET).map(drop)
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_bundle_is_signed_and_verified_under_the_name_that_the_key_was_given() {
    let desk = Desk::new();
    desk.keygen(Some("release"), &[("not_after", "2099-12-31"), ("publisher", "Alga")]).unwrap();
    assert_eq!(mode(&desk.key("release")), 0o600);
    let entry = std::fs::read_to_string(desk.path("keys/release.pub.pem")).unwrap();
    assert!(entry.starts_with("Key-Id: release\nNot-After: 2099-12-31\nPublisher: Alga\n-----BEGIN PUBLIC"));
    let bundle = desk.bundle("bundle.tar.zst", "1.0.0");
    desk.sign(&bundle, &desk.key("release")).unwrap();
    assert!(desk.path("bundle.sig").is_file());
    desk.verify(&bundle, "release").unwrap();
    // Again, with another key.
    desk.keygen(Some("next"), &[]).unwrap();
    desk.sign(&bundle, &desk.key("next")).unwrap();
    desk.verify(&bundle, "next").unwrap();
    assert_eq!(desk.verify(&bundle, "release").unwrap_err().code, "unknown_key");
}

#[test]
fn a_verdict_against_a_bundle_ends_with_1_and_its_word() {
    let desk = Desk::new();
    desk.keygen(Some("a"), &[("publisher", "Acme")]).unwrap();
    desk.keygen(Some("old"), &[("not_after", "2020-01-01")]).unwrap();
    let bundle = desk.bundle("bundle.tar.zst", "1.0.0");
    let verdict = |id: &str| {
        let failure = desk.verify(&bundle, id).unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        failure.code
    };
    assert_eq!(verdict("a"), "unsigned");
    desk.sign(&bundle, &desk.key("a")).unwrap();
    assert_eq!(verdict("a"), "wrong_publisher");
    desk.sign(&bundle, &desk.key("old")).unwrap();
    assert_eq!(verdict("old"), "expired");
    desk.bundle("bundle.tar.zst", "1.0.1");
    assert_eq!(verdict("old"), "wrong_hash");
    std::fs::write(desk.path("bundle.sig"), "x").unwrap();
    assert_eq!(verdict("old"), "malformed");
}

#[test]
fn a_key_is_never_overwritten_and_no_half_of_a_pair_is_left() {
    let desk = Desk::new();
    desk.keygen(Some("a"), &[]).unwrap();
    let before = std::fs::read(desk.key("a")).unwrap();
    let failure = desk.keygen(Some("a"), &[]).unwrap_err();
    assert!(failure.hint.unwrap().contains("never overwritten"));
    assert_eq!(std::fs::read(desk.key("a")).unwrap(), before);
    std::fs::write(desk.path("keys/b.pub.pem"), "somebody's").unwrap();
    desk.keygen(Some("b"), &[]).unwrap_err();
    assert!(!desk.key("b").exists());
    desk.keygen(None, &[]).unwrap();
    let names = std::fs::read_dir(desk.path("keys")).unwrap().map(|e| e.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().starts_with("ed25519-")).count(), 2);
}

#[test]
fn rules_that_no_trust_bundle_takes_are_refused_before_anything_is_written() {
    let desk = Desk::new();
    for rules in [
        [("not_after", "tomorrow")],
        [("not_before", "2026-13-01")],
        [("publisher", " ")],
        [("publisher", "a\nRevoked: no")],
    ] {
        assert_eq!(desk.keygen(Some("a"), &rules).unwrap_err().exit, Exit::Usage, "{rules:?}");
    }
    assert!(!desk.path("keys").exists());
}

#[test]
fn what_no_worker_would_take_is_not_signed() {
    let desk = Desk::new();
    desk.keygen(Some("a"), &[]).unwrap();
    let refused = |bundle: &Path| desk.sign(bundle, &desk.key("a")).unwrap_err().code;
    assert_eq!(refused(&desk.path("absent.tar.zst")), "file_not_found");
    assert_eq!(refused(&desk.path("keys")), "file_unreadable");
    assert_eq!(refused(&desk.packed("x.tar.zst", "{")), "no_identity");
    assert_eq!(refused(&desk.packed("x.tar.zst", r#"{"name":"a\u0007","version":"1"}"#)), "no_identity");
    std::fs::write(desk.path("x.tar.zst"), "garbage").unwrap();
    assert_eq!(refused(&desk.path("x.tar.zst")), "archive_refused");
    assert!(!desk.path("x.sig").exists());
}

#[test]
fn a_file_that_is_no_key_or_that_others_may_write_signs_nothing_and_is_not_shown() {
    let desk = Desk::new();
    desk.keygen(Some("a"), &[]).unwrap();
    let bundle = desk.bundle("bundle.tar.zst", "1.0.0");
    std::fs::write(desk.path("words"), "hunter2").unwrap();
    for path in [desk.path("words"), desk.path("keys/a.pub.pem")] {
        let failure = desk.sign(&bundle, &path).unwrap_err();
        assert_eq!(failure.code, "key_invalid");
        assert!(!failure.json().to_string().contains("hunter2"));
    }
    std::fs::set_permissions(desk.key("a"), std::fs::Permissions::from_mode(0o622)).unwrap();
    assert_eq!(desk.sign(&bundle, &desk.key("a")).unwrap_err().code, "key_exposed");
    std::fs::set_permissions(desk.key("a"), std::fs::Permissions::from_mode(0o444)).unwrap();
    desk.sign(&bundle, &desk.key("a")).unwrap();
}

#[test]
fn a_key_of_another_tool_signs_under_its_fingerprint() {
    let desk = Desk::new();
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    std::fs::create_dir(desk.path("keys")).unwrap();
    std::fs::write(desk.path("key.pem"), pem).unwrap();
    std::fs::write(desk.path("keys/theirs.pub.pem"), public).unwrap();
    let bundle = desk.bundle("hello.tar.zst", "1.0.0");
    desk.sign(&bundle, &desk.path("key.pem")).unwrap();
    desk.verify(&bundle, "theirs").unwrap();
    assert!(desk.path("hello.sig").is_file());
}

#[test]
fn a_trust_bundle_that_cannot_be_used_is_no_verdict() {
    let desk = Desk::new();
    let bundle = desk.bundle("bundle.tar.zst", "1.0.0");
    assert_eq!(desk.verify(&bundle, "absent").unwrap_err().exit, Exit::NotFound);
    std::fs::create_dir(desk.path("keys")).unwrap();
    std::fs::write(desk.path("keys/bad.pub.pem"), "Revokd: yes").unwrap();
    let failure = desk.verify(&bundle, "bad").unwrap_err();
    assert_eq!(failure.exit, Exit::Invalid);
    assert!(failure.message.contains("line 1"), "{}", failure.message);
}
