//! Every form of random secrets inside random texts.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::*;

const ALPHABETS: [&str; 5] = [
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "0123456789",
    "aZ0 +/=&?%#\"\\'<>{}:;,._-~!*()$@[]^`|",
    "äöüßé漢字😀🔑 aB\"\\",
    "\n\r\t\u{1}\u{7f} x\"\\/",
];

fn random(rng: &mut StdRng, alphabet: &str, length: usize) -> String {
    let chars: Vec<char> = alphabet.chars().collect();
    (0..length).map(|_| chars[rng.random_range(0..chars.len())]).collect()
}

fn percent(rng: &mut StdRng, bytes: &[u8], keep: impl Fn(u8) -> bool, case: usize) -> String {
    bytes
        .iter()
        .map(|byte| match case {
            _ if keep(*byte) => char::from(*byte).to_string(),
            0 => format!("%{byte:02X}"),
            1 => format!("%{byte:02x}"),
            _ if rng.random() => format!("%{byte:02X}"),
            _ => format!("%{byte:02x}"),
        })
        .collect()
}

/// Every spelling that a text could have, by name. None contains a neighbour.
fn spellings(rng: &mut StdRng, value: &str) -> Vec<(&'static str, String)> {
    let bytes = value.as_bytes();
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    let escaped = |text: &str| {
        let json = serde_json::to_string(text).unwrap();
        json[1..json.len() - 1].to_owned()
    };
    let json = escaped(value);
    let utf16: String = value.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    let form: String = url::form_urlencoded::byte_serialize(bytes).collect();
    let all: [_; 3] = std::array::from_fn(|case| percent(rng, bytes, |_| false, case));
    let [upper, lower, mixed] = all;
    let reserved: [_; 3] = std::array::from_fn(|case| percent(rng, bytes, unreserved, case));
    let [some_upper, some_lower, some_mixed] = reserved;
    let base64 = STANDARD.encode(bytes);
    vec![
        ("raw", value.to_owned()),
        ("hex", hex::encode(bytes)),
        ("HEX", hex::encode_upper(bytes)),
        ("json", json.clone()),
        ("json with \\/", json.replace('/', "\\/")),
        ("json of utf-16", utf16.clone()),
        ("json in json", escaped(&json)),
        ("percent", upper),
        ("percent, lower case", lower),
        ("percent, mixed", mixed),
        ("percent of reserved", some_upper.clone()),
        ("percent of reserved, lower case", some_lower),
        ("percent of reserved, mixed", some_mixed),
        ("percent twice", percent(rng, some_upper.as_bytes(), unreserved, 0)),
        ("form", form),
        ("percent of json", percent(rng, utf16.as_bytes(), unreserved, 0)),
        ("percent of base64", percent(rng, base64.as_bytes(), |b| b.is_ascii_alphanumeric(), 2)),
        ("json of base64", base64.replace('/', "\\/")),
        ("base64", base64),
        ("base64 without padding", STANDARD_NO_PAD.encode(bytes)),
        ("base64 for URLs", URL_SAFE.encode(bytes)),
        ("base64 for URLs without padding", URL_SAFE_NO_PAD.encode(bytes)),
    ]
}

#[test]
fn every_form_of_a_random_secret_goes_and_its_neighbours_stay() {
    let mut rng = StdRng::seed_from_u64(7);
    for round in 0..300 {
        let alphabet = ALPHABETS[round % ALPHABETS.len()];
        let length = rng.random_range(4..60);
        let value = random(&mut rng, alphabet, length);
        let others: Vec<String> = (0..5).map(|_| random(&mut rng, ALPHABETS[0], 20)).collect();
        let redactor = Redactor::new(others.iter().map(String::as_str).chain([value.as_str()]));
        for (name, spelling) in spellings(&mut rng, &value) {
            let text = format!("<before> {spelling} <after>");
            let redacted = redactor.redact(&text);
            let without = redacted.replacen('=', "", 2).replacen("%3D", "", 2).replacen("%3d", "", 2);
            let expected = format!("<before> {REDACTED} <after>");
            // A value that ends with a brace or a quote may leave nothing; padding may stay.
            assert!(
                *redacted == expected || without == expected,
                "{name} of {value:?}: {text} -> {redacted}"
            );
            assert_eq!(*redactor.redact_bytes(text.as_bytes()), *redacted.as_bytes());
        }
    }
}

#[test]
fn a_secret_inside_the_base64_of_a_longer_text_goes_at_every_alignment() {
    let mut rng = StdRng::seed_from_u64(8);
    for round in 0..300 {
        let length = rng.random_range(4..40);
        let value = random(&mut rng, ALPHABETS[round % ALPHABETS.len()], length);
        let redactor = Redactor::new([value.as_str()]);
        for before in 0..6 {
            let before = random(&mut rng, "xyz", before);
            let after = random(&mut rng, "uvw", round % 7);
            let long = format!("{before}{value}{after}");
            for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
                let text = format!("<{}>", engine.encode(&long));
                let redacted = redactor.redact(&text);
                // No digit that holds a bit of the value is left: at most those of the neighbours.
                let left = redacted.len() - REDACTED.len() - 2;
                let allowed = before.len() * 8 / 6 + (after.len() * 8).div_ceil(6) + 2;
                assert!(redacted.contains(REDACTED) && left <= allowed, "{text} -> {redacted}");
            }
        }
    }
}

#[test]
fn a_text_that_was_cut_loses_the_beginning_of_a_secret_at_its_end() {
    let mut rng = StdRng::seed_from_u64(9);
    for round in 0..100 {
        let length = rng.random_range(5..60);
        let value = random(&mut rng, ALPHABETS[round % ALPHABETS.len()], length);
        let redactor = Redactor::new([value.as_str()]);
        let utf16: String = value.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let percent = percent(&mut rng, value.as_bytes(), |_| false, 2);
        for (spelling, unit) in [
            (value.clone(), 1),
            (STANDARD.encode(&value), 1),
            (hex::encode(&value), 1),
            (percent, 3),
            (utf16, 12),
        ] {
            for cut in (MIN_BYTES * unit)..spelling.len() {
                let Some(piece) = spelling.get(..cut) else { continue };
                let text = format!("<before> {piece}");
                let expected = format!("<before> {REDACTED}");
                let redacted = redactor.redact_cut(&text);
                let without = redacted.trim_end_matches('=');
                assert!(without == expected, "{value:?}: {text} -> {redacted}");
            }
        }
    }
}

#[test]
fn secrets_that_overlap_go_as_one() {
    let redactor = Redactor::new(["abcd1234", "1234efgh", "cd12"]);
    assert_eq!(redactor.redact("-abcd1234efgh- abcd123 cd12"), "-[redacted]- ab[redacted]3 [redacted]");
}

#[test]
fn a_value_of_several_lines_goes_line_by_line_too() {
    let value = "-----BEGIN PRIVATE KEY-----\r\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\nab==\n-----END PRIVATE KEY-----\n";
    let redactor = Redactor::new([value]);
    assert_eq!(redactor.redact(&format!("<{value}>")), "<[redacted]>");
    assert_eq!(redactor.redact("x hkiG9w0BAQEFAASC"), "x [redacted]");
    assert_eq!(redactor.redact("ab=="), "ab==", "too short on its own");
    let many: String = (0..20_000).map(|n| format!("line {n:08}\n")).collect();
    assert!(Redactor::new([many.as_str()]).memory() < 4 << 20);
}

#[test]
fn what_only_begins_like_a_secret_stays() {
    let header = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
    let redactor = Redactor::new([format!("{header}.secret").as_str()]);
    let text = format!("{header}.public and {header}");
    assert!(matches!(redactor.redact(&text), Cow::Borrowed(_)));
    // But where it was cut, it could have been the secret.
    assert_eq!(redactor.redact_cut(&text), format!("{header}.public and {REDACTED}"));
}

#[test]
fn values_of_three_bytes_and_no_values_change_nothing() {
    let redactor = Redactor::new(["abc", "", "é1"]);
    assert!(redactor.is_empty() && redactor.redact_cut("abc é1").as_ref() == "abc é1");
    let mut value = json!({"abc": ["abc", 1]});
    Redactor::empty().redact_json(&mut value);
    assert_eq!(value, json!({"abc": ["abc", 1]}));
    assert!(!Redactor::new(["abcd"]).is_empty());
}

#[test]
fn json_loses_secrets_in_keys_strings_and_numbers() {
    let redactor = Redactor::new(["hunter2", "hunter22", "123456"]);
    let mut value = json!({
        "hunter2": 1, "hunter22": {"a": ["x hunter2", 123456, -1.123456, 12345, true, null]}, "b": "ok",
    });
    redactor.redact_json(&mut value);
    let inner = json!({"a": ["x [redacted]", "[redacted]", "-1.[redacted]", 12345, true, null]});
    assert_eq!(value, json!({"[redacted]": 1, "[redacted]_": inner, "b": "ok"}));
}

#[test]
fn bytes_that_are_no_text_are_searched_too() {
    let redactor = Redactor::new(["hunter2"]);
    assert_eq!(*redactor.redact_bytes(b"\xff\0hunter2\xfe"), *b"\xff\0[redacted]\xfe");
    assert!(matches!(redactor.redact_bytes(b"\xff"), Cow::Borrowed(_)));
}

#[test]
fn hostile_secrets_and_texts_end_in_redaction_and_not_in_hours() {
    // Every position of the text begins as each of 256 secrets of hundreds of bytes.
    let values: Vec<String> = (0..256).map(|n| format!("{}{n}", "a".repeat(500 + n))).collect();
    let redactor = Redactor::new(values.iter().map(String::as_str));
    let redacted = redactor.redact(&"a".repeat(1 << 20)).into_owned();
    assert!(redacted.ends_with(REDACTED) && redacted.len() < (1 << 20), "the rest counts as secret");
    // Encoded as often as it is looked into, and once more.
    let text = "%25".repeat(100_000) + "5c%5c\\u005c";
    redactor.redact(&text);
}

#[test]
fn the_largest_envelope_takes_a_bounded_search() {
    let mut rng = StdRng::seed_from_u64(10);
    let values: Vec<String> = (0..256).map(|_| random(&mut rng, ALPHABETS[2], 700)).collect();
    let redactor = Redactor::new(values.iter().map(String::as_str));
    assert!(redactor.memory() < 8 << 20, "{}", redactor.memory());
    let text = values.join("<>");
    assert!(!redactor.redact(&text).contains(&values[0]));
    assert_eq!(format!("{redactor:?}"), "Redactor");
}
