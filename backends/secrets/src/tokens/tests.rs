//! Every form of random secrets inside random texts: whoever decodes the text with tokens gets the plain text with
//! tokens.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rmpv::Value;

use super::*;

const WORDS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const ALPHABETS: [&str; 6] = [
    WORDS,
    "0123456789abcdef",
    "abcdefghijklmnopqrstuvwxyz0123456789 +/=&?%#\"\\'<>{}:;,._-~!*()$@[]^`|",
    "äöüßé漢字😀🔑 aBcDeF12\"\\",
    "abcdefgh\n\t\"\\/=&",
    "!?-+%&\"\\ ~a",
];

fn key() -> TokenKey {
    TokenKey::from_bytes([42; 32])
}

fn tokenizer(values: &[&str]) -> Tokenizer {
    Tokenizer::new(&key(), values.iter().copied(), Arc::new(Policy::standard()))
}

fn with_policy(values: &[&str], policy: &str) -> Tokenizer {
    Tokenizer::new(&key(), values.iter().copied(), Arc::new(Policy::parse(policy.as_bytes()).unwrap()))
}

fn random(rng: &mut StdRng, alphabet: &str, length: usize) -> String {
    let chars: Vec<char> = alphabet.chars().collect();
    (0..length).map(|_| chars[rng.random_range(0..chars.len())]).collect()
}

fn percent(text: &str, keep: &str, upper: bool) -> String {
    let byte = |byte: u8| match byte {
        _ if byte.is_ascii_alphanumeric() || keep.as_bytes().contains(&byte) => char::from(byte).to_string(),
        _ if upper => format!("%{byte:02X}"),
        _ => format!("%{byte:02x}"),
    };
    text.bytes().map(byte).collect()
}

fn json(text: &str) -> String {
    let json = serde_json::to_string(text).unwrap();
    json[1..json.len() - 1].to_owned()
}

/// The texts that an encoder makes of a text.
fn spellings(text: &str) -> Vec<(&'static str, String)> {
    let utf16 = |text: &str| text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
    let form = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    vec![
        ("raw", text.to_owned()),
        ("hex", hex::encode(text)),
        ("HEX", hex::encode_upper(text)),
        ("json", json(text)),
        ("json with \\/", json(text).replace('/', "\\/")),
        ("json of utf-16", utf16(text)),
        ("JSON of utf-16", utf16(text).to_uppercase().replace("\\U", "\\u")),
        ("json in json", json(&json(text))),
        ("percent", percent(text, "-_.~", true)),
        ("percent, lower case", percent(text, "-_.~", false)),
        ("percent like encodeURIComponent", percent(text, "-_.!~*'()", true)),
        ("percent of a path", percent(text, "-_.~!$&'()*+,;=:@", true)),
        ("percent twice", percent(&percent(text, "-_.~", true), "-_.~", true)),
        ("form", form(text)),
        ("percent of json", percent(&json(text), "", true)),
        ("percent of base64", percent(&STANDARD.encode(text), "", false)),
        ("json of base64", STANDARD.encode(text).replace('/', "\\/")),
        ("base64", STANDARD.encode(text)),
        ("base64 without padding", STANDARD_NO_PAD.encode(text)),
        ("base64 for URLs", URL_SAFE.encode(text)),
        ("base64 for URLs without padding", URL_SAFE_NO_PAD.encode(text)),
        ("base64 of json", STANDARD.encode(format!("{{\"user\":1,\"k\":\"{text}\"}}"))),
    ]
}

#[test]
fn encoding_and_replacing_commute_for_random_secrets() {
    let mut rng = StdRng::seed_from_u64(11);
    for round in 0..400 {
        let alphabet = ALPHABETS[round % ALPHABETS.len()];
        let length = rng.random_range(6..60);
        let value = random(&mut rng, alphabet, length);
        let others: Vec<String> = (0..4).map(|_| random(&mut rng, WORDS, 20)).collect();
        let values: Vec<&str> = others.iter().map(String::as_str).chain([value.as_str()]).collect();
        let tokenizer = tokenizer(&values);
        let token = tokenizer.secret(&value);
        // What is mostly punctuation becomes letters: percent signs stay, escapes of JSON become shorter.
        let kept = value.chars().filter(|c| c.is_ascii() && !c.is_ascii_alphanumeric()).count();
        let keeps = kept * 2 <= value.len();
        let steady = keeps || !value.contains(|c: char| c.is_control() || "\"\\/".contains(c));
        let before = random(&mut rng, "xyz", round % 5);
        let after = random(&mut rng, "uvw", round % 4);
        let (plain, replaced) = (format!("{before}{value}{after}"), format!("{before}{token}{after}"));
        for ((name, spelling), (_, wanted)) in spellings(&plain).into_iter().zip(spellings(&replaced)) {
            let text = format!("<before> {spelling} <after>");
            let got = tokenizer.text(&text);
            let wanted = format!("<before> {wanted} <after>");
            // Digits alone do not say in which case the token's letters are to be.
            let told =
                !name.starts_with(['H', 'J']) || spelling.bytes().any(|byte| byte.is_ascii_uppercase());
            if told && keeps && alphabet != ALPHABETS[3] {
                assert_eq!(got, wanted, "{name} of {value:?}");
            }
            assert_eq!(tokenizer.text(&got), got, "again: {name} of {value:?}");
            // Beyond ASCII, and instead of punctuation, base64 may have a `+` or `/` where it had none, or none where it had one.
            let escaped = name.contains("of base64") && (!keeps || alphabet == ALPHABETS[3]);
            assert!(!steady || escaped || got.len() == text.len(), "{name} of {value:?}");
            assert_eq!(*tokenizer.bytes(text.as_bytes()), *got.as_bytes());
            if name != "base64 of json" {
                assert!(
                    decodings(&got).iter().any(|text| text.contains(&token)),
                    "{name} of {value:?}: {got}"
                );
            }
            assert!(!decodings(&got).iter().any(|text| text.contains(&value)), "{name} of {value:?}: {got}");
        }
    }
}

/// Everything that somebody may make of a text by decoding it, twice at most.
fn decodings(text: &str) -> Vec<String> {
    let inner = text.trim_start_matches("<before> ").trim_end_matches(" <after>");
    let once = |text: &str| -> Vec<String> {
        let mut all = vec![text.to_owned()];
        let bytes = [
            hex::decode(text).ok(),
            STANDARD.decode(text).ok(),
            STANDARD_NO_PAD.decode(text).ok(),
            URL_SAFE.decode(text).ok(),
            URL_SAFE_NO_PAD.decode(text).ok(),
            Some(percent_encoding::percent_decode_str(text).collect()),
            Some(percent_encoding::percent_decode_str(&text.replace('+', " ")).collect()),
        ];
        all.extend(bytes.into_iter().flatten().filter_map(|bytes| String::from_utf8(bytes).ok()));
        all.extend(serde_json::from_str::<String>(&format!("\"{text}\"")));
        all
    };
    once(inner).iter().flat_map(|text| once(text)).collect()
}

#[test]
fn a_secret_inside_base64_is_replaced_at_every_alignment_and_its_neighbours_stay() {
    let mut rng = StdRng::seed_from_u64(12);
    for round in 0..400 {
        let length = rng.random_range(6..40);
        let (a, b) = (random(&mut rng, WORDS, length), random(&mut rng, ALPHABETS[round % 3], length));
        let tokenizer = tokenizer(&[&a, &b]);
        let before = random(&mut rng, "xyz~?", round % 7);
        let between = random(&mut rng, ":;", round % 4);
        let after = random(&mut rng, "uvw>", round % 5);
        let plain = format!("{before}{a}{between}{b}{after}");
        let wanted = format!("{before}{}{between}{}{after}", tokenizer.secret(&a), tokenizer.secret(&b));
        for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
            let text = engine.encode(&plain);
            let got = tokenizer.text(&text);
            let decoded = engine.decode(got.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(decoded).unwrap(), wanted, "{text} -> {got}");
        }
    }
}

#[test]
fn secrets_side_by_side_in_base64_share_a_digit_whatever_else_the_text_may_be() {
    // The base64 has a `+`, and so could be a form, in which only one of the two would be found.
    let (a, b) = ("MczXm8ysVTnaKj6JcPlaBHHzjbKW0z2vSy", "3-moig.a\\l9v>.>o16f*9,,m`:)di {ms$");
    let tokenizer = tokenizer(&[a, b]);
    let text = STANDARD.encode(format!("x?yx{a}{b}>uu"));
    assert!(text.contains('+'));
    let wanted = format!("x?yx{}{}>uu", tokenizer.secret(a), tokenizer.secret(b));
    assert_eq!(tokenizer.text(&text), STANDARD.encode(wanted));
}

#[test]
fn opened_secrets_build_their_search_once_for_each_key() {
    let mut texts = crate::SecretTexts::new();
    texts.insert("a", "known-secret-1").unwrap();
    texts.insert_for_hosts("b", "for-a-host-only", &["example.com"]).unwrap();
    let secrets = crate::Secrets::new(texts, None);
    let policy = Arc::new(Policy::standard());
    let (one, two) = (secrets.tokenizer(&key(), policy.clone()), secrets.tokenizer(&key(), policy.clone()));
    assert!(Arc::ptr_eq(&one.base, &two.base));
    let text = "known-secret-1 for-a-host-only";
    assert_eq!(one.text(text), tokenizer(&["known-secret-1", "for-a-host-only"]).text(text));
    let other = secrets.tokenizer(&TokenKey::from_bytes([1; 32]), policy);
    assert_ne!(other.text(text), one.text(text));
    // What one run learns is not looked for in the next.
    one.learn("learned-secret-2");
    assert_eq!(two.text("learned-secret-2"), "learned-secret-2");
}

#[test]
fn of_secrets_that_overlap_no_piece_is_left() {
    let tokenizer = tokenizer(&["abcdef123", "123ghijk", "cdef"]);
    let got = tokenizer.text("<abcdef123ghijk> <cdef> <abcdef123>").into_owned();
    assert!(!got.contains("ghijk") && !got.contains("abc") && !got.contains("cdef"), "{got}");
    assert!(got.ends_with(&format!("<{}>", tokenizer.secret("abcdef123"))), "{got}");
    let repeated = "abcdef123".repeat(3);
    assert_eq!(tokenizer.text(&repeated), tokenizer.secret("abcdef123").repeat(3));
}

#[test]
fn a_value_of_several_lines_is_found_line_by_line_and_has_the_lines_of_its_token() {
    let value = "-----BEGIN KEY-----\nMIIBVgIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----\n";
    let tokenizer = tokenizer(&[value]);
    let token = tokenizer.secret(value);
    let got: Vec<String> = value.lines().map(|line| tokenizer.text(line).into_owned()).collect();
    assert_eq!(got, token.lines().collect::<Vec<_>>());
    assert_eq!(tokenizer.text(&json(value)), json(&token));
}

#[test]
fn equal_secrets_have_equal_tokens_under_one_key_only() {
    let (a, b) = (tokenizer(&["hunter22", "other-secret"]), tokenizer(&["hunter22"]));
    let other = Tokenizer::new(&TokenKey::from_bytes([1; 32]), ["hunter22"], Arc::new(Policy::standard()));
    assert_eq!(a.text("x hunter22"), b.text("x hunter22"));
    assert_ne!(a.text("x hunter22"), other.text("x hunter22"));
    assert_eq!(a.redaction(), b.redaction());
    assert_ne!(a.redaction().key, other.redaction().key);
    assert_eq!(a.redaction().policy, Policy::standard().id());
}

#[test]
fn short_values_are_replaced_only_where_they_are_handed_out() {
    let tokenizer = tokenizer(&["abc", ""]);
    assert!(tokenizer.is_idle());
    assert_eq!(tokenizer.text("abc"), "abc");
    assert_ne!(tokenizer.secret("abc"), "abc");
    assert_eq!(tokenizer.secret(""), "");
}

#[test]
fn a_token_that_contains_another_secret_is_drawn_again() {
    // Every number of four digits but a few is a secret, so that most tokens are.
    let values: Vec<String> = (1000..1900).map(|value| value.to_string()).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let tokenizer = tokenizer(&values);
    for value in values {
        let token = tokenizer.text(value).into_owned();
        assert!(token != value && tokenizer.text(&token) == token, "{value} -> {token}");
    }
}

#[test]
fn credentials_in_headers_become_tokens_and_are_found_wherever_they_appear_later() {
    let tokenizer = tokenizer(&["known-secret-1"]);
    let before = "the answer has caller-Token-77 in it";
    assert_eq!(tokenizer.text(before), before);
    let header = tokenizer.header("Authorization", "Bearer caller-Token-77").into_owned();
    let token = header.strip_prefix("Bearer ").unwrap();
    assert!(token != "caller-Token-77" && token.len() == 15, "{header}");
    assert_eq!(tokenizer.text(before), before.replace("caller-Token-77", token));
    assert_eq!(
        tokenizer.text(&STANDARD.encode(before)),
        STANDARD.encode(before.replace("caller-Token-77", token))
    );
    assert_eq!(tokenizer.header("authorization", &header), header, "a token stays");
    // A known secret has the token that it has everywhere, and what the guest put around it stays.
    let known = tokenizer.secret("known-secret-1");
    assert_eq!(tokenizer.header("x-api-key", "known-secret-1"), known);
    assert_eq!(tokenizer.header("x-api-key", "v1.known-secret-1"), format!("v1.{known}"));
    assert_eq!(tokenizer.header("accept", "known-secret-1"), known);
    let long = "known-secret-1,and-another-one-that-nobody-knows";
    let whole = tokenizer.header("x-api-key", long).into_owned();
    assert!(whole.len() == long.len() && !whole.contains("another"), "{whole}");
    assert_eq!(tokenizer.header("accept", "text/html"), "text/html");
    assert!(tokenizer.replaced() > 0);
}

#[test]
fn basic_credentials_stay_base64_of_a_user_and_a_password() {
    let tokenizer = tokenizer(&["s3cret-Password"]);
    let decoded = |header: &str| {
        String::from_utf8(STANDARD.decode(header.strip_prefix("Basic ").unwrap()).unwrap()).unwrap()
    };
    let header = format!("Basic {}", STANDARD.encode("me:s3cret-Password"));
    let got = tokenizer.header("authorization", &header);
    assert_eq!(decoded(&got), format!("me:{}", tokenizer.secret("s3cret-Password")));
    let header = format!("Basic {}", STANDARD.encode("some-User:0ther-Password"));
    let got = decoded(&tokenizer.header("authorization", &header));
    let (user, password) = got.split_once(':').unwrap();
    assert!(user != "some-User" && user.len() == 9, "{got}");
    assert_eq!(tokenizer.text("0ther-Password some-User"), format!("{password} {user}"));
    for broken in ["Basic !", "Basic", "Basic   ", "basic YQ"] {
        let got = tokenizer.header("authorization", broken).into_owned();
        assert_eq!(got.len(), broken.len());
        assert_ne!(got, broken);
    }
}

#[test]
fn cookies_keep_their_names() {
    let tokenizer = tokenizer(&[]);
    let got = tokenizer.header("Cookie", "sid=abc123DEF456; theme=dark; q=\"1\"").into_owned();
    let sid = &got["sid=".len().."sid=".len() + 12];
    assert!(got.starts_with("sid=") && got.contains("; theme=") && got.contains("; q=\""), "{got}");
    assert!(!got.contains("abc123DEF456") && !got.contains("dark"), "{got}");
    let set = tokenizer.header("set-cookie", "sid=abc123DEF456; Path=/; HttpOnly");
    assert_eq!(set, format!("sid={sid}; Path=/; HttpOnly"));
    assert_eq!(tokenizer.text("dark"), "dark", "too short to be looked for");
}

#[test]
fn fields_by_path_are_replaced_and_the_rest_of_a_body_keeps_its_bytes() {
    let tokenizer = with_policy(&["known-secret-1"], r#"{"json_paths": ["$.customer.iban", "$.pin"]}"#);
    let body = r#" {"a" : "known-secret-1" ,"customer":{"iban":"DE89 3704\u0020\"x\"","n":1.50},
        "pin":4711e0,"x":{"password":["p\/a","b",null,true]}, "n":1e2}  "#;
    let got = String::from_utf8(tokenizer.body(body.as_bytes()).into_owned()).unwrap();
    assert_eq!(got.len(), body.len());
    let (old, new): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(body).unwrap(), serde_json::from_str(&got).unwrap());
    let iban = new["customer"]["iban"].as_str().unwrap();
    assert!(iban != old["customer"]["iban"] && iban.contains(" \"") && got.contains("\\u0020\\\""), "{got}");
    assert_eq!(new["a"], tokenizer.secret("known-secret-1"));
    assert!(new["pin"].is_f64() && new["pin"] != old["pin"] && got.contains("e0,"), "{got}");
    assert!(new["x"]["password"][0] != "p/a" && got.contains("\\/"), "{got}");
    assert!(new["x"]["password"][1] != "b" && new["x"]["password"][3] == true);
    assert_eq!((&new["customer"]["n"], &new["n"]), (&old["customer"]["n"], &old["n"]));
    assert!(got.starts_with(" {\"a\" : \"") && got.contains("\" ,\"customer\":{") && got.ends_with("}  "));
    assert_eq!(tokenizer.body(got.as_bytes()), got.as_bytes(), "tokens stay");
    // What a field gave away is found elsewhere.
    let echo = format!("IBAN {}", old["customer"]["iban"].as_str().unwrap());
    assert_eq!(tokenizer.text(&echo), format!("IBAN {iban}"));
    for other in ["no json known-secret-1", "", "{\"pin\": ", "{\"pin\": \"abc"] {
        let got = tokenizer.body(other.as_bytes()).into_owned();
        assert_eq!(got.len(), other.len());
        assert!(!String::from_utf8(got).unwrap().contains("known-secret-1"));
    }
}

#[test]
fn what_regular_expressions_match_is_replaced() {
    let policy = r#"{"regexes": ["\\b[0-9]{3}-[0-9]{2}-[0-9]{4}\\b", "[?&]sig=((?-u:[^&\\s])+)"]}"#;
    let tokenizer = with_policy(&["known-secret-1"], policy);
    assert!(!tokenizer.is_idle());
    let got = tokenizer.text("/x?sig=ab12CD34&y=1 of 123-45-6789").into_owned();
    assert!(got.starts_with("/x?sig=") && got.contains("&y=1 of "), "{got}");
    assert!(!got.contains("ab12CD34") && !got.contains("123-45-6789"), "{got}");
    assert_eq!(tokenizer.text(&got), got, "tokens stay");
    assert!(!tokenizer.text("later: ab12CD34").contains("ab12CD34"));
    let known = tokenizer.secret("known-secret-1");
    assert_eq!(tokenizer.text("?sig=known-secret-1"), format!("?sig={known}"));
    let bytes = tokenizer.bytes(b"\xff?sig=\xfe\xfe\xfe\xfe").into_owned();
    assert!(bytes.starts_with(b"\xff?sig=") && bytes.len() == 10 && bytes[6..] != *b"\xfe\xfe\xfe\xfe");
}

#[test]
fn a_list_of_two_names_is_no_header() {
    let tokenizer = tokenizer(&["a-secret-of-somebody"]);
    let names = Value::Array(vec![Value::from("api_key"), Value::from("word")]);
    let mut value = Value::Map(vec![(Value::from("Ok"), names.clone())]);
    let before = value.clone();
    tokenizer.value(&mut value);
    assert_eq!(value, before);
    // In a list it is: fields of wasi:http have no name of their own.
    let mut fields = Value::Array(vec![names]);
    tokenizer.value(&mut fields);
    assert!(!format!("{fields:?}").contains("word"), "{fields:?}");
}

#[test]
fn values_are_walked_with_headers_and_bodies() {
    let tokenizer = tokenizer(&["known-secret-1"]);
    let known = tokenizer.secret("known-secret-1");
    let text = |text: &str| Value::from(text);
    let bytes = |text: &str| Value::Binary(text.as_bytes().to_vec());
    let numbers = |text: &str| Value::Array(text.bytes().map(Value::from).collect());
    let map = |fields: Vec<(&str, Value)>| {
        Value::Map(fields.into_iter().map(|(key, value)| (Value::from(key), value)).collect())
    };
    let build = |secret: &str, token: &str, password: &str| {
        map(vec![
            ("url", text(&format!("https://x/?k={secret}"))),
            ("length", Value::from(14)),
            ("raw", bytes(secret)),
            ("list", numbers(secret)),
            (
                "headers",
                Value::Array(vec![
                    map(vec![("name", text("X-Auth-Token")), ("value", text(token))]),
                    Value::Array(vec![text("x-auth-token"), bytes(token)]),
                    Value::Array(vec![text("x-auth-token"), numbers(token)]),
                ]),
            ),
            ("trailers", map(vec![("x-auth-token", Value::Array(vec![text(token)]))])),
            ("body", map(vec![("inline", bytes(&format!("{{\"password\":\"{password}\"}}")))])),
            (secret, Value::Nil),
        ])
    };
    let mut value = build("known-secret-1", "an-Unknown-Token-5", "p");
    tokenizer.value(&mut value);
    let token = tokenizer.header("x-auth-token", "an-Unknown-Token-5").into_owned();
    let password = String::from_utf8(tokenizer.secret("p").into_bytes()).unwrap();
    assert_ne!((token.as_str(), password.as_str()), ("an-Unknown-Token-5", "p"));
    // A list of two whose second is no text is walked as any other, after the token has been learned.
    assert_eq!(value, build(&known, &token, &password));
    let mut again = value.clone();
    tokenizer.value(&mut again);
    assert_eq!(again, value);
}

#[test]
fn what_has_no_secret_is_not_copied() {
    let tokenizer = tokenizer(&["known-secret-1"]);
    assert!(matches!(tokenizer.text("nothing \\n here %20 "), Cow::Borrowed(_)));
    assert!(matches!(tokenizer.bytes(b"\xff\xfe"), Cow::Borrowed(_)));
    assert!(matches!(tokenizer.body(b"{\"a\": \"b\"}"), Cow::Borrowed(_)));
    assert!(matches!(tokenizer.header("accept", "x"), Cow::Borrowed(_)));
    assert!(matches!(tokenizer.header("authorization", ""), Cow::Borrowed(_)));
    assert_eq!(tokenizer.replaced(), 0);
}

#[test]
fn nothing_that_is_shown_has_a_secret_in_it() {
    let tokenizer = tokenizer(&["known-secret-1"]);
    tokenizer.learn("learned-secret-2");
    assert_ne!(tokenizer.text("learned-secret-2"), "learned-secret-2");
    let shown = format!("{tokenizer:?}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn a_text_full_of_secrets_takes_linear_time_and_memory() {
    // Forty secrets that begin alike, in a text of nothing else: each place has forty hits.
    let values: Vec<String> = (6..46).map(|length| "a".repeat(length)).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let tokenizer = tokenizer(&values);
    let text = "a".repeat(200_000);
    let got = tokenizer.text(&text);
    assert_eq!(got.len(), text.len());
    assert!(!got.contains("aaaaaa"));
}

#[test]
fn tokens_look_like_what_they_stand_for() {
    let tokenizer = tokenizer(&[]);
    for value in ["Bearer-abc123", "p@ss word", "pässwört漢", "deadbeef00", "?!?!?"] {
        let token = tokenizer.secret(value);
        assert!(may_stand_for(&token, value), "{value} -> {token}");
        assert!(!may_stand_for(&token, &format!("{value}x")));
    }
    assert!(!may_stand_for("abc-1", "ab-c1") && !may_stand_for("ABC", "abc"));
}

#[test]
fn only_values_of_the_install_count_as_secrets_that_were_seen() {
    let value = "known-secret-1";
    let of_caller = tokenizer(&[value]);
    of_caller.header("authorization", "Bearer of-the-caller-alone");
    of_caller.text("it repeats of-the-caller-alone");
    of_caller.body(br#"{"password": "hunter2-hunter2"}"#);
    assert!(of_caller.replaced() > 2 && !of_caller.has_seen_secret());
    // What nobody but the operator reads is replaced all the same.
    assert!(!of_caller.aside(&format!("connect to https://x/?key={value}")).contains(value));
    assert!(!of_caller.has_seen_secret());
    let seen: [fn(&Tokenizer); 6] = [
        |tokens| drop(tokens.text("a known-secret-1 in a text")),
        |tokens| drop(tokens.header("authorization", "Bearer known-secret-1")),
        |tokens| drop(tokens.header("x-api-key", "known-secret-1")),
        |tokens| drop(tokens.text("a25vd24tc2VjcmV0LTE=")),
        |tokens| drop(tokens.body(br#"{"password": "known-secret-1"}"#)),
        |tokens| drop(tokens.secret("1")),
    ];
    for (at, see) in seen.iter().enumerate() {
        let tokens = tokenizer(&[value]);
        see(&tokens);
        assert!(tokens.has_seen_secret(), "{at}");
    }
    assert!(!tokenizer(&[]).has_seen_secret());
}
