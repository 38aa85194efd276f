//! Envelopes of every kind through the opener: sealed, inline, and Vault's through a server that speaks its API.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs, reason = "a test")]

mod vault_server;

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use longshore_proto::call::SecretEnvelope;
use longshore_proto::{ExtensionId, TenantId};
use longshore_secrets::{
    ALGORITHM, CacheConfig, KeyRing, MAX_ENVELOPE_BYTES, OpenError, Opener, OpenerConfig, Scope, SecretTexts,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use vault_server::{TOKEN, VaultServer};

struct Place {
    tenant: TenantId,
    extension: ExtensionId,
    install: Option<&'static str>,
}

impl Place {
    fn new(tenant: &str, extension: &str, install: Option<&'static str>) -> Self {
        Self { tenant: tenant.parse().unwrap(), extension: extension.parse().unwrap(), install }
    }

    fn scope(&self) -> Scope<'_> {
        Scope { tenant: &self.tenant, extension: &self.extension, install: self.install, version: None }
    }
}

fn place() -> Place {
    Place::new("t-1", "e-1", Some("i-1"))
}

fn inline(json: &str) -> SecretEnvelope {
    SecretEnvelope {
        ciphertext_b64: BASE64.encode(json),
        algorithm: Some("inline/base64".to_owned()),
        version: None,
        expires_at: None,
        key_path: None,
        mount: None,
    }
}

fn vault(ciphertext: &str) -> SecretEnvelope {
    SecretEnvelope {
        ciphertext_b64: ciphertext.to_owned(),
        algorithm: Some("vault-transit:v1".to_owned()),
        key_path: Some("ext-secrets".to_owned()),
        ..inline("")
    }
}

fn opener(ring: Option<&KeyRing>) -> Opener {
    Opener::new(OpenerConfig { ring: ring.cloned(), ..OpenerConfig::default() }).unwrap()
}

fn vault_opener(server: &VaultServer, cache: CacheConfig) -> Opener {
    Opener::new(OpenerConfig { ring: None, vault: Some(server.config()), cache }).unwrap()
}

fn at(time: SystemTime) -> Option<String> {
    Some(OffsetDateTime::from(time).format(&Rfc3339).unwrap())
}

async fn open(opener: &Opener, envelope: &SecretEnvelope) -> Result<String, OpenError> {
    let secrets = opener.open(&place().scope(), Some(envelope)).await?;
    Ok(secrets.get("k").map(|secret| secret.for_guest().to_owned()).unwrap_or_default())
}

/// Display, Debug, the words for the caller and all causes.
fn said(error: &OpenError) -> String {
    let mut said = format!("{error} {error:?} {}", error.for_caller());
    let mut source = error.source();
    while let Some(cause) = source {
        said = format!("{said} {cause} {cause:?}");
        source = cause.source();
    }
    said
}

#[tokio::test]
async fn no_envelope_a_blank_one_and_an_inline_one_open() {
    let opener = opener(None);
    let scope = place();
    assert!(opener.open(&scope.scope(), None).await.unwrap().is_empty());
    let blank = SecretEnvelope { ciphertext_b64: " \n".to_owned(), ..inline("") };
    assert!(opener.open(&scope.scope(), Some(&blank)).await.unwrap().is_empty());
    for algorithm in [None, Some("inline/base64"), Some("whatever")] {
        let envelope =
            SecretEnvelope { algorithm: algorithm.map(str::to_owned), ..inline(r#"{"k":"v","a":"1"}"#) };
        let secrets = opener.open(&scope.scope(), Some(&envelope)).await.unwrap();
        assert_eq!(secrets.names().collect::<Vec<_>>(), ["a", "k"]);
        assert_eq!(secrets.get("k").unwrap().expose(), "v");
    }
}

#[tokio::test]
async fn a_sealed_envelope_opens_with_the_old_key_and_the_new_one_seals() {
    let scope = place();
    let mut texts = SecretTexts::new();
    texts.insert("k", "old-value").unwrap();
    let old = KeyRing::generate();
    let sealed_old = old.seal(&scope.scope(), &texts).unwrap();
    let both = old.rotated();
    let sealed_new = both.seal(&scope.scope(), &texts).unwrap();
    assert_eq!(sealed_old.key_path.as_deref(), Some(old.sealing_id()));
    assert_eq!(sealed_new.key_path.as_deref(), Some(both.sealing_id()));
    assert_ne!(both.sealing_id(), old.sealing_id());
    for envelope in [&sealed_old, &sealed_new] {
        assert_eq!(open(&opener(Some(&both)), envelope).await.unwrap(), "old-value");
    }
    let error = open(&opener(Some(&old)), &sealed_new).await.unwrap_err();
    assert!(matches!(&error, OpenError::UnknownKey { id } if id == both.sealing_id()), "{error}");
    assert!(matches!(open(&opener(None), &sealed_new).await, Err(OpenError::NoKeys)));
}

#[tokio::test]
async fn an_envelope_cannot_be_moved_or_made_to_last() {
    let ring = KeyRing::generate();
    let scope = place();
    let mut texts = SecretTexts::new();
    texts.insert("k", "v").unwrap();
    let soon = at(SystemTime::now() + Duration::from_secs(3600));
    let bound = Scope { version: Some("1"), ..scope.scope() };
    let sealed = ring.seal_until(&bound, &texts, soon.as_deref()).unwrap();
    let opener = opener(Some(&ring));
    opener.open(&scope.scope(), Some(&sealed)).await.unwrap();
    for other in [
        Place::new("t-2", "e-1", Some("i-1")),
        Place::new("t-1", "e-2", Some("i-1")),
        Place::new("t-1", "e-1", Some("i-2")),
        Place::new("t-1", "e-1", Some("")),
        Place::new("t-1", "e-1", None),
        // The same letters, divided in another way.
        Place::new("t-", "1e-1", Some("i-1")),
    ] {
        let error = opener.open(&other.scope(), Some(&sealed)).await.unwrap_err();
        assert!(matches!(error, OpenError::Seal), "{error}");
    }
    let forever = SecretEnvelope { expires_at: None, ..sealed.clone() };
    let longer =
        SecretEnvelope { expires_at: at(SystemTime::now() + Duration::from_secs(7200)), ..sealed.clone() };
    let version = SecretEnvelope { version: Some("2".to_owned()), ..sealed.clone() };
    let mut bytes = BASE64.decode(&sealed.ciphertext_b64).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let changed = SecretEnvelope { ciphertext_b64: BASE64.encode(&bytes), ..sealed.clone() };
    let short = SecretEnvelope { ciphertext_b64: BASE64.encode([0; 23]), ..sealed.clone() };
    let noise = SecretEnvelope { ciphertext_b64: "%%%".to_owned(), ..sealed.clone() };
    let other_key = KeyRing::generate();
    for envelope in [forever, longer, version, changed, short, noise] {
        assert!(matches!(open(&opener, &envelope).await, Err(OpenError::Seal)));
    }
    let renamed = SecretEnvelope { key_path: Some("a b".to_owned()), ..sealed.clone() };
    let error = open(&opener, &renamed).await.unwrap_err();
    assert_eq!(error.for_caller(), "the worker does not have the envelope's key (no key id)");
    let later = SecretEnvelope { algorithm: Some("longshore-sealed:v2".to_owned()), ..sealed.clone() };
    assert!(matches!(open(&opener, &later).await, Err(OpenError::UnknownSeal)));
    let stranger = other_key.seal(&scope.scope(), &texts).unwrap();
    let stranger = SecretEnvelope { key_path: Some(ring.sealing_id().to_owned()), ..stranger };
    assert!(matches!(open(&opener, &stranger).await, Err(OpenError::Seal)));
    assert_eq!(sealed.algorithm.as_deref(), Some(ALGORITHM));
}

#[tokio::test]
async fn an_expired_envelope_and_one_with_no_time_do_not_open() {
    let opener = opener(None);
    let past = SecretEnvelope {
        expires_at: at(SystemTime::now() - Duration::from_secs(1)),
        ..inline(r#"{"k":"v"}"#)
    };
    assert!(matches!(open(&opener, &past).await, Err(OpenError::Expired)));
    for text in ["tomorrow", "2999-01-01", "2999-13-01T00:00:00Z", "9999999999"] {
        let envelope = SecretEnvelope { expires_at: Some(text.to_owned()), ..past.clone() };
        assert!(matches!(open(&opener, &envelope).await, Err(OpenError::BadExpiry)), "{text}");
    }
    for text in ["", " ", "2999-01-01T00:00:00.000Z", "2999-01-01T00:00:00+02:00"] {
        let envelope = SecretEnvelope { expires_at: Some(text.to_owned()), ..past.clone() };
        assert_eq!(open(&opener, &envelope).await.unwrap(), "v", "{text}");
    }
}

#[tokio::test]
async fn a_run_that_began_in_time_can_tell_that_it_reads_too_late() {
    let end = SystemTime::now() + Duration::from_secs(3600);
    let envelope = SecretEnvelope { expires_at: at(end), ..inline(r#"{"k":"v"}"#) };
    let secrets = opener(None).open(&place().scope(), Some(&envelope)).await.unwrap();
    assert!(!secrets.is_expired(SystemTime::now()));
    assert!(secrets.is_expired(end + Duration::from_secs(1)));
    let forever = opener(None).open(&place().scope(), Some(&inline("{}"))).await.unwrap();
    assert!(!forever.is_expired(end + Duration::from_secs(1_000_000_000)));
}

#[tokio::test]
async fn hostile_envelopes_are_refused_without_a_byte_of_them() {
    let opener = opener(None);
    let many: Vec<String> = (0..257).map(|n| format!(r#""canary{n}":"""#)).collect();
    let deep = format!(r#"{{"k":{}"canary""#, "[".repeat(20_000));
    let jsons = ["canary", r#"["canary"]"#, r#"{"k":{"canary":1}}"#, r#"{"canary":7}"#, &deep];
    let mut envelopes: Vec<SecretEnvelope> = jsons.into_iter().map(inline).collect();
    envelopes.push(inline(&format!("{{{}}}", many.join(","))));
    envelopes.push(SecretEnvelope { ciphertext_b64: "canary!".to_owned(), ..inline("") });
    envelopes.push(SecretEnvelope { ciphertext_b64: "A".repeat(MAX_ENVELOPE_BYTES + 4), ..inline("") });
    envelopes.push(SecretEnvelope { expires_at: Some("canary".to_owned()), ..inline("{}") });
    envelopes.push(SecretEnvelope { algorithm: Some(ALGORITHM.to_owned()), ..inline("canary") });
    envelopes.push(vault("vault:v1:canary"));
    for envelope in envelopes {
        let error = open(&opener, &envelope).await.unwrap_err();
        assert!(!said(&error).contains("canary"), "{}", said(&error));
        assert!(error.for_caller().len() < 200);
    }
}

#[tokio::test]
async fn what_was_opened_is_kept_per_scope_and_wiped() {
    let ring = KeyRing::generate();
    let opener = opener(Some(&ring));
    let scope = place();
    let envelope = inline(r#"{"k":"v"}"#);
    let first = opener.open(&scope.scope(), Some(&envelope)).await.unwrap();
    let again = opener.open(&scope.scope(), Some(&envelope)).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    for other in [
        Place::new("t-2", "e-1", Some("i-1")),
        Place::new("t-1", "e-2", Some("i-1")),
        Place::new("t-1", "e-1", None),
    ] {
        let theirs = opener.open(&other.scope(), Some(&envelope)).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &theirs));
    }
    let newer = SecretEnvelope { version: Some("2".to_owned()), ..envelope.clone() };
    assert!(!Arc::ptr_eq(&first, &opener.open(&scope.scope(), Some(&newer)).await.unwrap()));
    let held = Arc::downgrade(&first);
    drop((first, again));
    assert!(held.upgrade().is_some(), "the cache has it");
    opener.wipe().await;
    assert!(held.upgrade().is_none(), "nobody has it");
    // Calls that are still running get theirs, and nothing is kept any more.
    let late = opener.open(&scope.scope(), Some(&envelope)).await.unwrap();
    let held = Arc::downgrade(&late);
    drop(late);
    assert!(held.upgrade().is_none());
    assert_eq!(opener.kept(), 0);
}

#[tokio::test]
async fn an_entry_goes_when_its_time_has_come_though_nobody_asks() {
    let cache = CacheConfig { ttl: Duration::from_millis(100), ..CacheConfig::default() };
    let opener = Opener::new(OpenerConfig { cache, ..OpenerConfig::default() }).unwrap();
    let secrets = opener.open(&place().scope(), Some(&inline(r#"{"k":"v"}"#))).await.unwrap();
    let held = Arc::downgrade(&secrets);
    drop(secrets);
    let gone = async {
        while held.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("it is still there");
}

#[tokio::test]
async fn the_cache_is_bounded_by_number_and_by_bytes() {
    for cache in [
        CacheConfig { entries: 10, ..CacheConfig::default() },
        CacheConfig { bytes: 64 * 1024, ..CacheConfig::default() },
    ] {
        let opener = Opener::new(OpenerConfig { cache, ..OpenerConfig::default() }).unwrap();
        let mut held = Vec::new();
        for n in 0..200 {
            let envelope = inline(&format!(r#"{{"k":"a value that takes some place {n}"}}"#));
            let secrets = opener.open(&place().scope(), Some(&envelope)).await.unwrap();
            held.push(Arc::downgrade(&secrets));
        }
        // Moka looks after its size in batches; wiping makes it do so.
        let alive = held.iter().filter(|held| held.upgrade().is_some()).count();
        opener.wipe().await;
        assert!(held.iter().all(|held| held.upgrade().is_none()));
        assert!(alive < 200, "{alive}");
    }
}

#[tokio::test]
async fn vault_opens_with_token_namespace_mount_and_key_of_the_envelope() {
    let server = VaultServer::start().await;
    let opener = vault_opener(&server, CacheConfig::default());
    let envelope = vault(&server.encrypt("transit", "ext-secrets", br#"{"k":"from-vault"}"#));
    assert_eq!(open(&opener, &envelope).await.unwrap(), "from-vault");
    let mut other = vault(&server.encrypt("team/transit", "ext-secrets", br#"{"k":"mounted"}"#));
    other.mount = Some("/team/transit/".to_owned());
    other.algorithm = Some(" VAULT-Transit ".to_owned());
    assert_eq!(open(&opener, &other).await.unwrap(), "mounted");
    let asked = server.asked();
    assert_eq!(asked, ["/v1/transit/decrypt/ext-secrets", "/v1/team/transit/decrypt/ext-secrets"]);
}

#[tokio::test]
async fn many_calls_with_one_envelope_ask_vault_once() {
    let server = VaultServer::start().await;
    let opener = vault_opener(&server, CacheConfig::default());
    let envelope = vault(&server.encrypt("transit", "ext-secrets", br#"{"k":"once"}"#));
    server.hold(true);
    let calls: Vec<_> = (0..50).map(|_| open(&opener, &envelope)).collect();
    let (answers, ()) = tokio::join!(futures_join(calls), async {
        server.arrived().await;
        server.hold(false);
    });
    assert!(answers.into_iter().all(|answer| answer.unwrap() == "once"));
    assert_eq!(server.asked().len(), 1);
}

/// All of them at once, in this task.
async fn futures_join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in futures.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(cx) {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_failure_of_vault_is_not_remembered() {
    let server = VaultServer::start().await;
    let opener = vault_opener(&server, CacheConfig::default());
    let envelope = vault(&server.encrypt("transit", "ext-secrets", br#"{"k":"v"}"#));
    server.answer(Some((500, r#"{"errors":["canary"]}"#)));
    let error = open(&opener, &envelope).await.unwrap_err();
    assert_eq!(error.to_string(), "vault transit decrypt failed (status 500)");
    assert!(!said(&error).contains("canary"));
    server.answer(None);
    assert_eq!(open(&opener, &envelope).await.unwrap(), "v");
}

#[tokio::test]
async fn a_token_is_read_anew_and_a_wrong_one_is_a_403() {
    let server = VaultServer::start().await;
    let opener = vault_opener(&server, CacheConfig::default());
    let envelope =
        |n: u8| vault(&server.encrypt("transit", "ext-secrets", format!(r#"{{"k":"{n}"}}"#).as_bytes()));
    server.write_token("wrong");
    assert!(matches!(open(&opener, &envelope(1)).await, Err(OpenError::VaultStatus(403))));
    server.write_token(&format!("  {TOKEN}\n"));
    assert_eq!(open(&opener, &envelope(1)).await.unwrap(), "1");
    for bad in ["", " \n", "a\nb", &"x".repeat(20_000)] {
        server.write_token(bad);
        let error = open(&opener, &envelope(2)).await.unwrap_err();
        assert!(matches!(error, OpenError::NoToken | OpenError::Token(_)), "{error}");
    }
    server.remove_token();
    let error = open(&opener, &envelope(2)).await.unwrap_err();
    assert!(matches!(error, OpenError::Token(_)) && error.source().is_some());
    assert_eq!(error.for_caller(), "the worker has no token for Vault");
}

#[tokio::test]
async fn everything_that_vault_may_answer_has_its_error() {
    let server = VaultServer::start().await;
    let opener = vault_opener(&server, CacheConfig::default());
    let unknown = vault("vault:v1:AAAA");
    assert!(matches!(open(&opener, &unknown).await, Err(OpenError::VaultStatus(400))));
    let mut no_key = unknown.clone();
    no_key.key_path = None;
    assert_eq!(open(&opener, &no_key).await.unwrap_err().to_string(), "secret_envelope.key_path missing");
    let mut no_mount = unknown.clone();
    no_mount.mount = Some("elsewhere".to_owned());
    assert!(matches!(open(&opener, &no_mount).await, Err(OpenError::VaultStatus(404))));
    let mut climbing = unknown.clone();
    climbing.key_path = Some("../../sys/seal".to_owned());
    let before = server.asked().len();
    assert!(matches!(open(&opener, &climbing).await, Err(OpenError::Path { .. })));
    assert_eq!(server.asked().len(), before, "nothing was sent");

    let map = |json: &str| format!(r#"{{"data":{{"plaintext":"{}"}}}}"#, BASE64.encode(json));
    let (shape, syntax, huge) = (map(r#"["canary"]"#), map("canary"), "x".repeat(1024 * 1024 + 1));
    let cases: [(u16, &str, &str); 10] = [
        (200, "canary", "vault transit decrypt failed: the answer has no data.plaintext"),
        (200, "{}", "vault transit decrypt failed: the answer has no data.plaintext"),
        (
            200,
            r#"{"data":{"plaintext":7}}"#,
            "vault transit decrypt failed: the answer has no data.plaintext",
        ),
        (200, r#"{"data":{"plaintext":"%canary%"}}"#, "vault_transit.plaintext_decode_failed"),
        (200, &shape, "vault_transit.json_parse_failed: "),
        (200, &syntax, "vault_transit.json_parse_failed: "),
        (200, &huge, "vault transit decrypt failed"),
        (307, "canary", "vault transit decrypt failed (status 307)"),
        (429, "canary", "vault transit decrypt failed (status 429)"),
        (503, "canary", "vault transit decrypt failed (status 503)"),
    ];
    for (status, body, words) in cases {
        server.answer(Some((status, body)));
        let error = open(&opener, &unknown).await.unwrap_err();
        assert!(error.to_string().starts_with(words), "{status} {words}: {error}");
        assert!(!said(&error).contains("canary"));
    }
}

#[tokio::test]
async fn a_vault_that_is_not_there_or_does_not_answer_fails_the_call() {
    let server = VaultServer::start().await;
    let envelope = vault("vault:v1:AAAA");
    let mut config = server.config();
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    config.addr = format!("http://{free}").parse().unwrap();
    let nobody = Opener::new(OpenerConfig { vault: Some(config), ..OpenerConfig::default() }).unwrap();
    let error = open(&nobody, &envelope).await.unwrap_err();
    assert!(matches!(error, OpenError::Vault(_)) && error.source().is_some(), "{error}");
    assert_eq!(error.for_caller(), "Vault did not answer");
    let opener = vault_opener(&server, CacheConfig::default());
    server.hold(true);
    let error = open(&opener, &envelope).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("5000 ms"), "{}", said(&error));
}
