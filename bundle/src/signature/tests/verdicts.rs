//! Every verdict, and ways to get a wrong one.

use chrono::{DateTime, TimeDelta, Utc};

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

#[test]
fn a_bundle_signed_with_a_trusted_key_is_verified_for_every_tenant() {
    let (hash, hello) = hello();
    let author = Author::new("release");
    let signature = author.sign(hash, &hello);
    assert!(signature.len() <= SIGNATURE_BYTES);
    let verified = verifier(&author.trusted("")).verify(hash, Some(&hello), Some(&signature)).unwrap();
    assert_eq!(verified.key_id, author.id);
    assert_eq!(verified.identity.to_string(), "Alga/com.alga.hello 1.0.0");
    assert_eq!(verified.until, None);
}

#[test]
fn a_known_key_statement_and_signature_stay_as_they_are() {
    // A signature made by this version must verify in every later one.
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    let key = SigningKey::from_pem(pem).unwrap();
    let (hash, hello) = hello();
    let identity = Identity::of(Some(&hello)).unwrap();
    let file = key.sign("rfc8410".parse().unwrap(), hash, identity, at("2026-08-01T00:00:00Z"));
    let json: serde_json::Value = serde_json::from_str(&file.to_json()).unwrap();
    assert_eq!(json["signature"], VECTOR);
    assert_eq!(json["signed_at"], "2026-08-01T00:00:00Z");
    assert_eq!(SignatureFile::parse(file.to_json().as_bytes()).unwrap(), file);
}

/// Checked against `openssl pkeyutl -sign -rawin` over the same statement.
const VECTOR: &str =
    "HpzVxj5aVhBcDIbVVpLxUaGD8Q20vx6PjhdllTwFo5pWSOsd1hp1teb6XRwzYkzgJjBYV+yQz/ZEqy3L78CgDg==";

#[test]
fn without_a_signature_it_is_unsigned() {
    let (hash, hello) = hello();
    let verifier = verifier(&Author::new("a").trusted(""));
    assert_eq!(verifier.verify(hash, Some(&hello), None), Err(SignatureError::Unsigned));
    // Nothing counts where no key does.
    let nobody = Verifier::open(Policy::Warn, None).unwrap().unwrap();
    let signature = Author::new("a").sign(hash, &hello);
    let error = nobody.verify(hash, Some(&hello), Some(&signature)).unwrap_err();
    assert_eq!(error.kind(), "unknown_key");
}

#[test]
fn a_key_counts_between_its_dates_and_until_it_is_revoked() {
    let (hash, hello) = hello();
    let author = Author::new("dated");
    let rules = "Not-Before: 2026-01-01\nNot-After: 2026-12-31\nRevoked: 2026-06-01T12:00:00Z";
    let verifier = verifier(&author.trusted(rules));
    let signature = author.sign(hash, &hello);
    let kind = |now: &str| {
        let verdict = verifier.verify_at(hash, Some(&hello), Some(&signature), at(now));
        verdict.map_or_else(|error| error.kind(), |_| "ok")
    };
    assert_eq!(kind("2025-12-31T23:59:59Z"), "not_yet_valid");
    assert_eq!(kind("2026-01-01T00:00:00Z"), "ok");
    assert_eq!(kind("2026-06-01T11:59:59Z"), "ok");
    assert_eq!(kind("2026-06-01T12:00:00Z"), "revoked");
    assert_eq!(kind("2027-02-01T00:00:00Z"), "revoked", "worse than expired");
    let verified = verifier.verify_at(hash, Some(&hello), Some(&signature), at("2026-02-01T00:00:00Z"));
    assert_eq!(verified.unwrap().until, Some(at("2026-06-01T12:00:00Z")), "the first of its ends");
}

#[test]
fn a_day_as_an_end_includes_the_day() {
    let (hash, hello) = hello();
    let author = Author::new("dated");
    let verifier = verifier(&author.trusted("Not-After: 2026-12-31"));
    let signature = author.sign(hash, &hello);
    let verify = |now: &str| verifier.verify_at(hash, Some(&hello), Some(&signature), at(now));
    assert!(verify("2026-12-31T23:59:59Z").is_ok());
    let error = verify("2027-01-01T00:00:00Z").unwrap_err();
    assert_eq!(error.kind(), "expired");
    assert!(error.to_string().contains("sign the bundle again"), "{error}");
}

#[test]
fn signing_with_an_old_date_does_not_bring_an_expired_key_back() {
    let (hash, hello) = hello();
    let author = Author::new("stolen");
    let verifier = verifier(&author.trusted("Not-After: 2020-01-01"));
    let identity = Identity::of(Some(&hello)).unwrap();
    let backdated = author.key.sign(author.id.clone(), hash, identity, at("2019-06-01T00:00:00Z")).to_json();
    let error = verifier.verify(hash, Some(&hello), Some(backdated.as_bytes())).unwrap_err();
    assert_eq!(error.kind(), "expired");
}

#[test]
fn a_key_is_revoked_by_its_rule_by_name_and_by_fingerprint() {
    let (hash, hello) = hello();
    let author = Author::new("old");
    let signature = author.sign(hash, &hello);
    let fingerprint = author.key.public().fingerprint();
    let other = Author::new("new").trusted("");
    for trust in [
        author.trusted("Revoked: yes"),
        format!("Revoked-Keys: x, old\n{}", author.trusted("")),
        format!("{}\nRevoked-Keys: {fingerprint}\n", author.trusted("Revoked: no")),
        // Taken out of the file, and still known by name.
        format!("Revoked-Keys: old\n{other}"),
    ] {
        let error = verifier(&trust).verify(hash, Some(&hello), Some(&signature)).unwrap_err();
        assert_eq!(error, SignatureError::Revoked { key_id: author.id.clone() }, "{trust}");
    }
    assert!(verifier(&author.trusted("Revoked: no")).verify(hash, Some(&hello), Some(&signature)).is_ok());
}

#[test]
fn a_signature_of_another_bundle_identity_or_key_does_not_count() {
    let (hash, hello) = hello();
    let (author, stranger) = (Author::new("a"), Author::new("b"));
    let verifier = verifier(&author.trusted(""));
    let kind = |hash, manifest: &Manifest, signature: &[u8]| {
        verifier.verify(hash, Some(manifest), Some(signature)).unwrap_err().kind()
    };
    let signature = author.sign(hash, &hello);
    assert_eq!(kind(ContentHash::from_bytes([8; 32]), &hello, &signature), "wrong_hash");
    for other in [
        manifest("Alga", "com.alga.hello", "1.0.1"),
        manifest("Alga", "com.alga.evil", "1.0.0"),
        manifest("alga", "com.alga.hello", "1.0.0"),
    ] {
        assert_eq!(kind(hash, &other, &signature), "wrong_identity");
    }
    assert_eq!(kind(hash, &hello, &stranger.sign(hash, &hello)), "unknown_key");
    // A stranger under a trusted name.
    let identity = Identity::of(Some(&hello)).unwrap();
    let claimed = stranger.key.sign(author.id, hash, identity, Utc::now()).to_json();
    assert_eq!(kind(hash, &hello, claimed.as_bytes()), "bad_signature");
    let error = verifier.verify(hash, None, Some(&signature)).unwrap_err();
    assert_eq!(error, SignatureError::NoIdentity { problem: IdentityError::NoManifest });
}

#[test]
fn nothing_in_a_signature_file_can_be_changed() {
    let (hash, hello) = hello();
    let author = Author::new("a");
    let verifier = verifier(&author.trusted(""));
    let signature: serde_json::Value = serde_json::from_slice(&author.sign(hash, &hello)).unwrap();
    let verdict = |json: &serde_json::Value, hash, manifest: &Manifest| {
        let bytes = serde_json::to_vec(json).unwrap();
        verifier.verify(hash, Some(manifest), Some(&bytes)).map_or_else(|error| error.kind(), |_| "ok")
    };
    let changed = |field: &str, value: &str| {
        let mut json = signature.clone();
        json[field] = value.into();
        json
    };
    assert_eq!(verdict(&signature, hash, &hello), "ok");
    assert_eq!(verdict(&changed("signed_at", "2020-01-01T00:00:00Z"), hash, &hello), "bad_signature");
    let other_hash = ContentHash::from_bytes([8; 32]);
    let moved = changed("content_hash", &other_hash.to_string());
    assert_eq!(verdict(&moved, other_hash, &hello), "bad_signature", "carried to another bundle");
    let renamed = changed("version", "2.0.0");
    assert_eq!(verdict(&renamed, hash, &manifest("Alga", "com.alga.hello", "2.0.0")), "bad_signature");
    // Unknown fields are a later version's business.
    assert_eq!(verdict(&changed("note", "hello"), hash, &hello), "ok");
}

#[test]
fn a_key_signs_only_for_its_publishers() {
    let (hash, hello) = hello();
    let author = Author::new("acme");
    let signature = author.sign(hash, &hello);
    let verify = |rules: &str| verifier(&author.trusted(rules)).verify(hash, Some(&hello), Some(&signature));
    assert!(verify("Publishers: Acme, Alga").is_ok());
    assert!(verify("Publisher: Acme, Inc.\nPublisher: Alga").is_ok());
    for rules in ["Publishers: Acme", "Publishers: alga", "Publisher: Acme, Alga"] {
        let error = verify(rules).unwrap_err();
        assert_eq!(error.kind(), "wrong_publisher", "{rules}");
        assert!(error.to_string().contains("\"Alga\""), "{error}");
    }
}

#[test]
fn a_file_that_is_no_signature_is_refused_without_repeating_it() {
    let (hash, hello) = hello();
    let author = Author::new("a");
    let verifier = verifier(&author.trusted(""));
    let good: serde_json::Value = serde_json::from_slice(&author.sign(hash, &hello)).unwrap();
    let with = |field: &str, value: serde_json::Value| {
        let mut json = good.clone();
        json[field] = value;
        serde_json::to_vec(&json).unwrap()
    };
    let without = |field: &str| {
        let mut json = good.clone();
        json.as_object_mut().unwrap().remove(field);
        serde_json::to_vec(&json).unwrap()
    };
    let mut twice = serde_json::to_string(&good).unwrap();
    twice.insert_str(1, "\"v\":1,");
    let mut bad = vec![
        Vec::new(),
        b"root:hunter2:0:0".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        b"\"hunter2\"".to_vec(),
        vec![0xff; 64],
        twice.into_bytes(),
        with("v", 2.into()),
        with("v", "1".into()),
        with("algorithm", "none".into()),
        with("algorithm", "hunter2".into()),
        with("key_id", "../hunter2".into()),
        with("content_hash", "sha256:hunter2".into()),
        with("publisher", "".into()),
        with("name", "a\nb".into()),
        with("signed_at", "hunter2".into()),
        with("signature", "hunter2!".into()),
        with("signature", "AAAA".into()),
        with("signature", String::new().into()),
        with("note", "x".repeat(SIGNATURE_BYTES).into()),
    ];
    bad.extend(good.as_object().unwrap().keys().map(|field| without(field)));
    for file in bad {
        let text = String::from_utf8_lossy(&file).into_owned();
        let error = verifier.verify(hash, Some(&hello), Some(&file)).unwrap_err();
        assert_eq!(error.kind(), "malformed", "{text}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn the_longest_names_fit_into_a_signature_file() {
    let long = "\"".repeat(256);
    let manifest = manifest(&long, &long, &long);
    let (hash, _) = hello();
    let author = Author::new(&"k".repeat(64));
    let signature = author.sign(hash, &manifest);
    assert!(signature.len() <= SIGNATURE_BYTES, "{}", signature.len());
    assert!(verifier(&author.trusted("")).verify(hash, Some(&manifest), Some(&signature)).is_ok());
}

#[test]
fn names_from_a_signature_file_are_shown_escaped_and_cut() {
    let (hash, hello) = hello();
    let author = Author::new("a");
    let evil = manifest(&"\u{202e}x".repeat(64), "n", "1");
    let error = verifier(&author.trusted("")).verify(hash, Some(&hello), Some(&author.sign(hash, &evil)));
    let text = error.unwrap_err().to_string();
    assert!(!text.contains('\u{202e}') && text.len() < 1_000, "{text}");
}

#[test]
fn a_clock_that_is_a_little_behind_does_not_refuse_a_new_signature() {
    let (hash, hello) = hello();
    let author = Author::new("a");
    let signature = author.sign(hash, &hello);
    let behind = Utc::now() - TimeDelta::hours(1);
    assert!(verifier(&author.trusted("")).verify_at(hash, Some(&hello), Some(&signature), behind).is_ok());
}
