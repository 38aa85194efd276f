//! JWTs: what is taken, and every way known to get in without one.

// So that clippy takes helpers for what they are, tests.
#![cfg(test)]

mod support;

use longshore_access::{
    Access, AccessMetrics, Authenticate as _, Authenticator, Credential, Denied, Jwts, Principal, Tokens,
};
use longshore_service::metrics::Metrics;
use longshore_service::nats::{self, Options};
use serde_json::{Value, json};
use support::{AUDIENCE, ISSUER, Issuer, b64, claims, header, merged, now};

/// Takes JWTs, and knows no tokens: its NATS is nowhere.
async fn authenticator(settings: &longshore_access::AccessSettings) -> Authenticator {
    let env = std::collections::BTreeMap::from([("NATS_URL".to_owned(), "nats://127.0.0.1:1".to_owned())]);
    let config = longshore_service::config::NatsConfig::load(&env, ["test".to_owned()]).unwrap();
    let (client, link) = nats::connect("test", &config, Options::default()).await.unwrap();
    let tokens = Tokens::new(client, link, AccessMetrics::register(&Metrics::new("test")));
    Authenticator::new(tokens, Jwts::open(settings).await.unwrap())
}

fn jwt(tenant: &str, access: Access) -> Principal {
    Principal {
        tenant: tenant.parse().unwrap(),
        access,
        extensions: None,
        credential: Credential::Jwt(Some("ada".to_owned())),
    }
}

#[tokio::test]
async fn a_jwt_of_the_issuer_is_its_tenants_whichever_of_the_keys_signed_it() {
    let issuer = Issuer::new();
    let gate = authenticator(&issuer.settings()).await;
    for key in ["ed", "ec", "rsa"] {
        let token = issuer.token(key, json!({}));
        assert_eq!(gate.authenticate(&token).await, Ok(jwt("t", Access::Write)), "{key}");
    }
    let good = [
        (json!({"scope": "longshore:read"}), Access::Read),
        (json!({"scope": "longshore:read longshore:write"}), Access::Write),
        (json!({"scope": ["openid", "longshore:read"]}), Access::Read),
        (json!({"aud": ["other", AUDIENCE]}), Access::Write),
        (json!({"nbf": null, "iat": null}), Access::Write),
        // Clocks differ by less than the leeway.
        (json!({"exp": now() - 20, "nbf": now() + 20, "iat": now() + 20}), Access::Write),
        (json!({"exp": now() as f64 + 60.5}), Access::Write),
        (json!({"exp": 1e15}), Access::Write),
        (json!({"unknown": {"a": [1, null]}}), Access::Write),
    ];
    for (more, access) in good {
        let token = issuer.token("ed", more.clone());
        assert_eq!(gate.authenticate(&token).await, Ok(jwt("t", access)), "{more}");
    }
    let types = [json!(null), json!("jwt"), json!("at+jwt"), json!("application/at+JWT")];
    for typ in types {
        let token = issuer.sign("ed", &merged(header("ed"), json!({ "typ": typ })), &claims());
        assert!(gate.authenticate(&token).await.is_ok(), "{typ}");
    }
    let named = issuer.sign("ed", &merged(header("ed"), json!({"alg": "Ed25519", "x5t": "abc"})), &claims());
    assert!(gate.authenticate(&named).await.is_ok());
}

/// Everything that changes what is signed or by what, each with the issuer's own signature where that is the point.
fn forged(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let good = issuer.token("ed", json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let (head, body, signature) = (parts[0], parts[1], parts[2]);
    let rsa = issuer.token("rsa", json!({}));
    let rsa_parts: Vec<&str> = rsa.split('.').collect();
    let with_header = |key: &str, more: Value| issuer.sign(key, &merged(header(key), more), &claims());
    let hmac = |secret: &[u8]| {
        let message = format!(
            "{}.{}",
            b64(json!({"alg": "HS256", "kid": "rsa"}).to_string()),
            b64(claims().to_string())
        );
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        let tag = ring::hmac::sign(&key, message.as_bytes());
        format!("{message}.{}", b64(tag))
    };
    let stranger = Issuer::new();
    let none = b64(json!({"alg": "none", "kid": "ed"}).to_string());
    let mut flipped = issuer.signature("ed", &format!("{head}.{body}"));
    flipped[0] ^= 1;
    let der = |fixed: &[u8]| {
        // The other spelling of an ECDSA signature, for which JWTs have no place.
        let number = |bytes: &[u8]| {
            let mut out = vec![2, 33, 0];
            out.extend(bytes);
            out
        };
        let both = [number(&fixed[..32]), number(&fixed[32..])].concat();
        [vec![0x30, both.len() as u8], both].concat()
    };
    let ec_message = format!("{}.{}", b64(header("ec").to_string()), b64(claims().to_string()));
    let ec_signature = issuer.signature("ec", &ec_message);
    // One whose signature is spelled otherwise in the other alphabet: most are.
    let standard = (0..)
        .map(|n| issuer.token("ed", json!({ "n": n })))
        .find(|token| token.rsplit('.').next().unwrap().contains(['-', '_']))
        .map(|token| {
            let (message, signature) = token.rsplit_once('.').unwrap();
            format!("{message}.{}", signature.replace('-', "+").replace('_', "/"))
        })
        .unwrap();
    let jwk = stranger.set()["keys"][0].clone();
    vec![
        ("alg none, no signature", format!("{none}.{body}.")),
        ("alg none, an old signature", format!("{none}.{body}.{signature}")),
        ("alg None", with_header("ed", json!({"alg": "None"}))),
        ("alg nOnE, no signature", format!("{}.{body}.", b64(r#"{"alg":"nOnE","kid":"ed"}"#))),
        ("no alg", with_header("ed", json!({"alg": null}))),
        ("alg empty", with_header("ed", json!({"alg": ""}))),
        ("alg a list", with_header("ed", json!({"alg": ["EdDSA"]}))),
        ("alg in lower case", with_header("rsa", json!({"alg": "rs256"}))),
        ("HS256 with the public key", hmac(&issuer.rsa_public())),
        ("HS256 with the key file", hmac(issuer.set().to_string().as_bytes())),
        ("HS256 with nothing", hmac(b"")),
        ("ES256's key as RS256", with_header("ec", json!({"alg": "RS256"}))),
        ("RSA's key as ES256", with_header("rsa", json!({"alg": "ES256"}))),
        ("RSA's key as EdDSA", with_header("rsa", json!({"alg": "EdDSA"}))),
        (
            "RS512 with a key for RS256",
            issuer.sign("rsa512", &json!({"alg": "RS512", "kid": "rsa"}), &claims()),
        ),
        ("RS512's signature called RS256", issuer.sign("rsa512", &header("rsa"), &claims())),
        ("PS256", with_header("rsa", json!({"alg": "PS256"}))),
        ("another key of the issuer's", issuer.sign("ec", &header("ed"), &claims())),
        ("a stranger's key of the same id", stranger.token("ed", json!({}))),
        (
            "a stranger's key, embedded",
            stranger.sign("ed", &merged(header("ed"), json!({ "jwk": jwk })), &claims()),
        ),
        ("the issuer's signature, a key embedded", with_header("ed", json!({ "jwk": jwk }))),
        ("jku", with_header("ed", json!({"jku": "https://id.example/keys.json"}))),
        ("x5u", with_header("ed", json!({"x5u": "https://evil.example/cert"}))),
        ("x5c", with_header("ed", json!({"x5c": ["AAAA"]}))),
        ("crit", with_header("ed", json!({"crit": ["exp"]}))),
        ("crit, empty", with_header("ed", json!({"crit": []}))),
        ("b64 false", with_header("ed", json!({"b64": false}))),
        ("zip", with_header("ed", json!({"zip": "DEF"}))),
        ("kid missing", with_header("ed", json!({"kid": null}))),
        ("kid unknown", with_header("ed", json!({"kid": "other"}))),
        ("kid empty", with_header("ed", json!({"kid": ""}))),
        ("kid a path", with_header("ed", json!({"kid": "../../../../dev/null"}))),
        ("kid the key file's path", with_header("ed", json!({"kid": issuer.file()}))),
        ("kid a URL", with_header("ed", json!({"kid": "https://evil.example/keys.json"}))),
        ("kid an injection", with_header("ed", json!({"kid": "ed' OR '1'='1"}))),
        ("kid in other case", with_header("ed", json!({"kid": "ED"}))),
        ("kid with a NUL", with_header("ed", json!({"kid": "ed\0"}))),
        ("kid a number", with_header("ed", json!({"kid": 0}))),
        ("kid a list", with_header("ed", json!({"kid": ["ed"]}))),
        ("kid endless", with_header("ed", json!({"kid": "k".repeat(1000)}))),
        ("a key for encryption", with_header("rsa", json!({"kid": "for-encryption"}))),
        ("typ of something else", with_header("ed", json!({"typ": "logout+jwt"}))),
        ("typ dpop", with_header("ed", json!({"typ": "dpop+jwt"}))),
        ("typ a list", with_header("ed", json!({"typ": ["JWT"]}))),
        (
            "kid twice",
            issuer.sign_texts("ed", r#"{"alg":"EdDSA","kid":"rsa","kid":"ed"}"#, &claims().to_string()),
        ),
        ("the header a list", issuer.sign_texts("ed", "[]", &claims().to_string())),
        ("the header no JSON", issuer.sign_texts("ed", "alg=EdDSA", &claims().to_string())),
        ("the header empty", format!(".{body}.{signature}")),
        ("the signature stripped", format!("{head}.{body}.")),
        ("the signature and its dot stripped", format!("{head}.{body}")),
        ("both dots stripped", head.to_owned()),
        ("a dot too many", format!("{good}.")),
        ("a fourth part", format!("{good}.{signature}")),
        ("nothing but dots", "..".to_owned()),
        ("the signature of another token", format!("{head}.{body}.{}", rsa_parts[2])),
        ("one bit of the signature", format!("{head}.{body}.{}", b64(flipped))),
        ("the signature cut", format!("{head}.{body}.{}", &signature[..signature.len() - 4])),
        ("the signature padded", format!("{good}==")),
        ("standard base64", standard),
        (
            "other claims under the signature",
            format!("{head}.{}.{signature}", b64(merged(claims(), json!({"tenant": "u"})).to_string())),
        ),
        ("a DER signature", format!("{ec_message}.{}", b64(der(&ec_signature)))),
        ("an ECDSA signature of zeros", format!("{ec_message}.{}", b64([0; 64]))),
        ("an EdDSA signature of zeros", format!("{head}.{body}.{}", b64([0; 64]))),
        ("an RSA signature of zeros", format!("{}.{}.{}", rsa_parts[0], rsa_parts[1], b64([0; 256]))),
        ("a blank before", format!(" {good}")),
        ("a newline after", format!("{good}\n")),
        ("a NUL after", format!("{good}\0")),
        (
            "JSON serialisation",
            json!({"protected": head, "payload": body, "signature": signature}).to_string(),
        ),
    ]
}

/// Well signed, by the issuer, and still nothing that lets anybody in.
fn refused_claims(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let with = |more: Value| issuer.token("ed", more);
    let text = |text: String| issuer.sign_texts("ed", &header("ed").to_string(), &text);
    let fixed = claims();
    let (base, exp) = (fixed.to_string(), format!("\"exp\":{}", fixed["exp"]));
    let inner = |more: &str| format!("{},{more}}}", &base[..base.len() - 1]);
    vec![
        ("another issuer", with(json!({"iss": "https://evil.example"}))),
        ("the issuer with a slash", with(json!({"iss": format!("{ISSUER}/")}))),
        ("the issuer in other case", with(json!({"iss": ISSUER.to_uppercase()}))),
        ("no issuer", with(json!({"iss": null}))),
        ("a list of issuers", with(json!({"iss": [ISSUER]}))),
        ("another audience", with(json!({"aud": "other"}))),
        ("an audience that begins alike", with(json!({"aud": "longshore-test"}))),
        ("no audience", with(json!({"aud": null}))),
        ("an empty list of audiences", with(json!({"aud": []}))),
        ("a list of other audiences", with(json!({"aud": ["a", "b"]}))),
        ("an object as audience", with(json!({"aud": {"longshore": true}}))),
        ("a mixed list of audiences", with(json!({"aud": [AUDIENCE, 1]}))),
        ("not valid yet", with(json!({"nbf": now() + 120}))),
        ("issued in the future", with(json!({"iat": now() + 120}))),
        ("it never expires", with(json!({"exp": null}))),
        ("exp a text", with(json!({"exp": (now() + 300).to_string()}))),
        ("exp negative", with(json!({"exp": -1}))),
        ("exp true", with(json!({"exp": true}))),
        ("exp null", text(base.replace(&exp, "\"exp\":null"))),
        ("nbf a text", with(json!({"nbf": "0"}))),
        ("iat a list", with(json!({"iat": [0]}))),
        ("no tenant", with(json!({"tenant": null}))),
        ("the tenant null", text(inner(r#""x":1"#).replace(r#""tenant":"t""#, r#""tenant":null"#))),
        ("the tenant empty", with(json!({"tenant": ""}))),
        ("the tenant a list", with(json!({"tenant": ["t"]}))),
        ("the tenant an object", with(json!({"tenant": {"id": "t"}}))),
        ("the tenant a number", with(json!({"tenant": 1}))),
        ("the tenant a path", with(json!({"tenant": "../t"}))),
        ("the tenant a wildcard", with(json!({"tenant": "*"}))),
        ("the tenant with a blank", with(json!({"tenant": "t "}))),
        ("the tenant with a NUL", with(json!({"tenant": "t\0"}))),
        ("the tenant in Cyrillic", with(json!({"tenant": "\u{442}"}))),
        ("the tenant endless", with(json!({"tenant": "t".repeat(129)}))),
        ("two tenants", text(inner(r#""tenant":"u""#))),
        ("two tenants, one of them escaped", text(inner(r#""\u0074enant":"u""#))),
        ("exp twice", text(inner(r#""exp":9999999999"#))),
        ("no access", with(json!({"scope": null}))),
        ("access to something else", with(json!({"scope": "openid"}))),
        ("access in other case", with(json!({"scope": "LONGSHORE:WRITE"}))),
        ("access that begins alike", with(json!({"scope": "longshore:writer xlongshore:read"}))),
        ("access true", with(json!({"scope": true}))),
        ("access an object", with(json!({"scope": {"longshore:write": true}}))),
        ("access a mixed list", with(json!({"scope": ["longshore:write", 1]}))),
        ("a subject that is no text", with(json!({"sub": 1}))),
        ("the claims a list", text("[]".to_owned())),
        ("the claims empty", text(String::new())),
        ("the claims no UTF-8", {
            let message = format!("{}.{}", b64(header("ed").to_string()), b64([b'{', 0xff, b'}']));
            format!("{message}.{}", b64(issuer.signature("ed", &message)))
        }),
        ("huge", with(json!({"pad": "x".repeat(9000)}))),
        ("nested without end", text(inner(&format!("\"x\":{}{}", "[".repeat(2000), "]".repeat(2000))))),
        ("another JWT inside", issuer.sign_texts("ed", &header("ed").to_string(), &with(json!({})))),
    ]
}

#[tokio::test]
async fn none_of_the_known_tricks_lets_anybody_in() {
    let issuer = Issuer::new();
    let gate = authenticator(&issuer.settings()).await;
    let mut cases = forged(&issuer);
    cases.extend(refused_claims(&issuer));
    assert!(cases.len() > 100, "{}", cases.len());
    for (trick, token) in cases {
        match gate.authenticate(&token).await {
            Err(Denied::Invalid(reason)) => {
                for part in token.split('.').filter(|part| part.len() > 8) {
                    assert!(!reason.contains(part), "{trick}: {reason}");
                }
            }
            other => panic!("{trick}: {other:?}"),
        }
    }
    for expired in [json!({"exp": now() - 31}), json!({"exp": 0})] {
        let token = issuer.token("ed", expired.clone());
        assert_eq!(gate.authenticate(&token).await, Err(Denied::Expired), "{expired}");
    }
}

#[tokio::test]
async fn the_operators_settings_say_which_claims_count() {
    let issuer = Issuer::new();
    let settings = issuer.settings_with(&[
        ("LONGSHORE_JWT_TENANT_CLAIM", "https://example.com/org"),
        ("LONGSHORE_JWT_ACCESS_CLAIM", "permissions"),
        ("LONGSHORE_JWT_DEFAULT_ACCESS", "read"),
    ]);
    let gate = authenticator(&settings).await;
    let org = json!({"https://example.com/org": "acme", "tenant": "t"});
    // `scope` says nothing here.
    assert_eq!(gate.authenticate(&issuer.token("ed", org.clone())).await, Ok(jwt("acme", Access::Read)));
    let write = merged(org, json!({"permissions": ["longshore:write"]}));
    assert_eq!(gate.authenticate(&issuer.token("ed", write)).await, Ok(jwt("acme", Access::Write)));
    assert!(gate.authenticate(&issuer.token("ed", json!({}))).await.is_err(), "`tenant` says nothing here");
}

#[tokio::test]
async fn without_an_issuer_no_jwt_is_taken() {
    let issuer = Issuer::new();
    let env = std::collections::BTreeMap::<String, String>::new();
    let none = longshore_access::AccessSettings::load(&env, ["test".to_owned()]).unwrap();
    let gate = authenticator(&none).await;
    assert!(matches!(gate.authenticate(&issuer.token("ed", json!({}))).await, Err(Denied::Invalid(_))));
}

#[tokio::test]
async fn a_subject_cannot_break_a_log_line() {
    let issuer = Issuer::new();
    let gate = authenticator(&issuer.settings()).await;
    let sub = format!("ada\nroot\u{1b}[2J{}", "x".repeat(1000));
    let principal = gate.authenticate(&issuer.token("ed", json!({ "sub": sub }))).await.unwrap();
    let Credential::Jwt(Some(subject)) = principal.credential else { panic!() };
    assert_eq!(subject.chars().count(), 256);
    assert!(!subject.chars().any(char::is_control), "{subject:?}");
}

#[tokio::test]
async fn keys_that_cannot_be_read_stop_the_start() {
    let issuer = Issuer::new();
    std::fs::write(issuer.file(), r#"{"keys":[{"kty":"oct","kid":"a","k":"AAAA"}]}"#).unwrap();
    let error = Jwts::open(&issuer.settings()).await.err().unwrap();
    assert!(error.to_string().contains("LONGSHORE_JWT_JWKS_FILE"), "{error}");
}
