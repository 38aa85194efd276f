//! Tokens over a real nats-server with the rights of `deploy/nats.conf`: the admin service makes and revokes, a gateway takes and refuses.

// So that clippy takes helpers for what they are, tests.
#![cfg(test)]

mod support;

use std::time::Duration;

use longshore_access::{
    Access, AccessMetrics, Authenticate as _, Authenticator, Credential, Denied, MAX_LIFETIME,
    MAX_PER_TENANT, NewToken, Principal, TokenError, TokenStore, Tokens,
};
use longshore_service::metrics::Metrics;
use longshore_service::nats::buckets::Ensured;
use longshore_service::readiness::Readiness;
use longshore_tests::nats::Nats;
use longshore_tests::wait;
use sha2::Digest as _;
use support::connect;
use tokio_util::sync::{CancellationToken, DropGuard};

struct Gateway {
    gate: Authenticator,
    tokens: Tokens,
    metrics: Metrics,
    _stop: DropGuard,
}

impl Gateway {
    async fn start(nats: &Nats) -> Self {
        let (client, link) = connect(nats, "shim").await;
        let metrics = Metrics::new("test");
        let tokens = Tokens::new(client, link, AccessMetrics::register(&metrics));
        let stop = CancellationToken::new();
        let (running, cancelled) = (tokens.clone(), stop.clone());
        tokio::spawn(async move { running.run(cancelled).await });
        Self { gate: Authenticator::new(tokens.clone(), None), tokens, metrics, _stop: stop.drop_guard() }
    }

    async fn ready(nats: &Nats) -> Self {
        let gateway = Self::start(nats).await;
        wait::within("the tokens", wait::LIMIT, gateway.tokens.ready()).await;
        gateway
    }

    async fn ask(&self, credential: &str) -> Result<Principal, Denied> {
        self.gate.authenticate(credential).await
    }

    /// Waits until the answer is as wanted.
    async fn until(&self, what: &str, credential: &str, wanted: impl Fn(&Result<Principal, Denied>) -> bool) {
        wait::until(what, wait::LIMIT, async || {
            let answer = self.ask(credential).await;
            if wanted(&answer) { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }
}

async fn store(nats: &Nats) -> TokenStore {
    let (client, link) = connect(nats, "control").await;
    let store = TokenStore::new(client, link, 1);
    store.prepare().await.unwrap();
    store
}

fn new(tenant: &str) -> NewToken {
    NewToken {
        tenant: tenant.parse().unwrap(),
        access: Access::Write,
        extensions: None,
        traces: false,
        label: "ci".to_owned(),
        lifetime: None,
        created_by: "test".to_owned(),
    }
}

/// A token with check digits that are right for what is before them.
fn well_formed(prefix: &str, id: &str, secret: &str) -> String {
    let body = format!("{prefix}{id}_{secret}");
    let check = hex::encode(&sha2::Sha256::digest(&body)[..4]);
    format!("{body}{check}")
}

fn is_invalid(answer: &Result<Principal, Denied>) -> bool {
    matches!(answer, Err(Denied::Invalid(_)))
}

#[tokio::test]
async fn a_token_is_taken_by_gateways_that_were_there_before_and_by_those_that_come_later() {
    let nats = Nats::start().await;
    let before = Gateway::start(&nats).await;
    let readiness = Readiness::new();
    let condition = readiness.condition("tokens");
    let tokens = before.tokens.clone();
    tokio::spawn(async move { tokens.report_to(condition).await });
    // Nothing is known before the admin service has made the bucket: that is no refusal.
    let (client, link) = connect(&nats, "control").await;
    let store = TokenStore::new(client, link, 1);
    let unready = well_formed("lst_", &"0".repeat(32), &"0".repeat(64));
    assert!(matches!(before.ask(&unready).await, Err(Denied::Unavailable(_))));
    assert!(is_invalid(&before.ask(&unready[..50]).await), "nothing that could be a token");
    assert!(!before.tokens.is_ready() && !readiness.is_ready());
    assert_eq!(store.prepare().await.unwrap(), Ensured::Created);
    assert_eq!(store.prepare().await.unwrap(), Ensured::Current);
    wait::within("the empty bucket", wait::LIMIT, readiness.ready()).await;

    let limited =
        NewToken { access: Access::Read, extensions: Some(vec!["acme.hello".to_owned()]), ..new("t.1") };
    let (secret, record) = store.create(limited).await.unwrap();
    before.until("the new token", secret.expose(), Result::is_ok).await;
    let expected = Principal {
        tenant: "t.1".parse().unwrap(),
        access: Access::Read,
        extensions: Some(vec!["acme.hello".to_owned()]),
        credential: Credential::Token(record.id.to_string()),
    };
    assert_eq!(before.ask(secret.expose()).await, Ok(expected.clone()));
    let later = Gateway::ready(&nats).await;
    assert_eq!(later.ask(secret.expose()).await, Ok(expected));
    assert_eq!((record.expires_at - record.created_at).whole_days(), 90);
    assert_eq!(store.list(&record.tenant).await.unwrap(), [record]);
    assert!(later.metrics.render().unwrap().contains("longshore_access_tokens 1\n"));
}

#[tokio::test]
async fn a_revoked_token_is_refused_by_every_gateway_and_so_are_those_of_a_removed_tenant() {
    let nats = Nats::start().await;
    let store = store(&nats).await;
    let gateways = [Gateway::ready(&nats).await, Gateway::ready(&nats).await];
    let mut made = Vec::new();
    for tenant in ["t", "t", "t", "t.u"] {
        made.push(store.create(new(tenant)).await.unwrap());
    }
    for gateway in &gateways {
        gateway.until("the last token", made[3].0.expose(), Result::is_ok).await;
    }
    let (first, record) = &made[0];
    // Of another tenant, it is nobody's.
    assert!(store.revoke(&"t.u".parse().unwrap(), record.id).await.unwrap().is_none());
    assert_eq!(store.revoke(&record.tenant, record.id).await.unwrap().as_ref(), Some(record));
    assert!(store.revoke(&record.tenant, record.id).await.unwrap().is_none());
    for gateway in &gateways {
        gateway.until("the refusal", first.expose(), is_invalid).await;
        assert!(gateway.ask(made[1].0.expose()).await.is_ok(), "the others stay");
    }
    assert_eq!(store.list(&record.tenant).await.unwrap().len(), 2);
    assert_eq!(store.remove_tenant(&record.tenant).await.unwrap(), 2);
    assert_eq!(store.remove_tenant(&record.tenant).await.unwrap(), 0);
    for gateway in &gateways {
        for (secret, _) in &made[1..3] {
            gateway.until("the refusal", secret.expose(), is_invalid).await;
        }
        assert!(gateway.ask(made[3].0.expose()).await.is_ok(), "another tenant's stays");
    }
    assert!(store.list(&record.tenant).await.unwrap().is_empty());
}

#[tokio::test]
async fn no_other_text_than_the_token_itself_is_taken() {
    let nats = Nats::start().await;
    let store = store(&nats).await;
    let gateway = Gateway::ready(&nats).await;
    let (mine, _) = store.create(new("t")).await.unwrap();
    let (theirs, record) = store.create(new("u")).await.unwrap();
    for token in [&mine, &theirs] {
        gateway.until("the token", token.expose(), Result::is_ok).await;
    }
    let (mine, theirs) = (mine.expose(), theirs.expose());
    let (my_id, my_rest) = mine.split_at(37);
    let (their_id, _) = theirs.split_at(37);
    let bucket = store.list(&record.tenant).await.unwrap();
    let stored = serde_json::to_string(&bucket).unwrap();
    assert!(!stored.contains(&theirs[37..101]), "the secret is not kept");
    let tricks = [
        ("nothing", String::new()),
        ("the prefix", "lst_".to_owned()),
        ("another's id with one's own secret", format!("{their_id}{my_rest}")),
        ("a secret of zeros", format!("{their_id}{}", "0".repeat(72))),
        ("no secret", their_id.to_owned()),
        ("cut by one", theirs[..theirs.len() - 1].to_owned()),
        ("without the check digits", theirs[..101].to_owned()),
        ("in upper case", theirs.to_uppercase()),
        ("the prefix in upper case", theirs.replace("lst_", "LST_")),
        ("a blank after", format!("{theirs} ")),
        ("a newline after", format!("{theirs}\n")),
        ("a carriage return after", format!("{theirs}\r\n")),
        ("a NUL after", format!("{theirs}\0")),
        ("a blank before", format!(" {theirs}")),
        ("a byte order mark", format!("\u{feff}{theirs}")),
        ("the scheme again", format!("Bearer {theirs}")),
        ("twice", format!("{theirs},{mine}")),
        ("a Cyrillic а", theirs.replacen(|c: char| c.is_ascii_digit(), "\u{430}", 1)),
        ("full-width digits", theirs.replacen(|c: char| c.is_ascii_digit(), "\u{ff10}", 1)),
        ("a soft hyphen", theirs.replacen('_', "_\u{ad}", 1)),
        ("percent-encoded", theirs.replace('_', "%5F")),
        ("the record's id alone", record.id.to_string()),
        ("a wildcard", format!("lst_*{}", &theirs[5..])),
        ("endless", "lst_".repeat(100_000)),
        ("a JWT", "eyJhbGciOiJub25lIn0.eyJ0ZW5hbnQiOiJ1In0.".to_owned()),
    ];
    for (trick, text) in tricks {
        let answer = gateway.ask(&text).await;
        assert!(is_invalid(&answer), "{trick}: {answer:?}");
        assert!(!format!("{answer:?}").contains(&theirs[37..60]), "{trick}");
    }
    // With digits that are right, so that it is the secret alone that is wrong.
    let forged = well_formed("", &their_id[..36], &my_rest[..64]);
    assert_eq!(gateway.ask(&forged).await, Err(Denied::Invalid("the token's secret is wrong")));
    assert!(my_id.starts_with("lst_"));
    assert!(gateway.ask(theirs).await.is_ok());
}

#[tokio::test]
async fn an_expired_token_is_refused_at_its_second_and_shown_for_a_while() {
    let nats = Nats::start().await;
    let store = store(&nats).await;
    let gateway = Gateway::ready(&nats).await;
    let short = NewToken { lifetime: Some(Duration::from_secs(2)), ..new("t") };
    let (secret, record) = store.create(short).await.unwrap();
    gateway.until("the token", secret.expose(), Result::is_ok).await;
    gateway.until("its end", secret.expose(), |answer| *answer == Err(Denied::Expired)).await;
    let late = time::OffsetDateTime::now_utc() - record.expires_at;
    assert!(!late.is_negative(), "not before its time: {late}");
    assert_eq!(store.list(&record.tenant).await.unwrap(), [record]);
    assert!(gateway.metrics.render().unwrap().contains("longshore_access_denied_total{reason=\"expired\"}"));
}

#[tokio::test]
async fn what_is_asked_for_beyond_the_bounds_is_not_made() {
    let nats = Nats::start().await;
    let store = store(&nats).await;
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let label = |label: &str| NewToken { label: label.to_owned(), ..new("t") };
    let extensions = |list: &[&str]| {
        let list = list.iter().map(|name| (*name).to_owned()).collect();
        NewToken { extensions: Some(list), ..new("t") }
    };
    let bad = [
        label(&"x".repeat(129)),
        label("two\nlines"),
        label("\u{1b}[2J"),
        NewToken { created_by: "x".repeat(129), ..new("t") },
        NewToken { lifetime: seconds(0), ..new("t") },
        NewToken { lifetime: Some(Duration::from_millis(999)), ..new("t") },
        NewToken { lifetime: seconds(MAX_LIFETIME.as_secs() + 1), ..new("t") },
        NewToken { lifetime: Some(Duration::MAX), ..new("t") },
        extensions(&[]),
        extensions(&[""]),
        extensions(&["x"; 65]),
        extensions(&[&"x".repeat(257)]),
    ];
    for new in bad {
        let error = store.create(new.clone()).await.err().unwrap_or_else(|| panic!("{new:?}"));
        assert!(error.is_callers(), "{new:?}: {error}");
    }
    let tenant = "t".parse().unwrap();
    assert!(store.list(&tenant).await.unwrap().is_empty());
    let good = NewToken {
        label: "ü".repeat(128),
        lifetime: seconds(MAX_LIFETIME.as_secs()),
        ..extensions(&["x".repeat(256).as_str(); 64])
    };
    let (_, record) = store.create(good).await.unwrap();
    assert_eq!(store.list(&tenant).await.unwrap(), [record]);
}

#[tokio::test]
async fn a_tenant_has_a_thousand_tokens_and_another_tenant_is_not_touched() {
    let nats = Nats::start().await;
    let store = store(&nats).await;
    let (_, first) =
        store.create(NewToken { lifetime: Some(Duration::from_secs(1)), ..new("t") }).await.unwrap();
    for _ in 1..MAX_PER_TENANT {
        store.create(new("t")).await.unwrap();
    }
    // The first has expired by now, or does within a second: it makes room for one, and then there is none.
    wait::until("room for one", wait::LIMIT, async || {
        store.create(new("t")).await.map(drop).map_err(|e| e.to_string())
    })
    .await;
    let listed = store.list(&first.tenant).await.unwrap();
    assert_eq!(listed.len(), MAX_PER_TENANT);
    assert!(!listed.contains(&first));
    let error = store.create(new("t")).await.err().unwrap();
    assert!(matches!(&error, TokenError::Full(tenant) if tenant.as_str() == "t"), "{error}");
    store.create(new("t.u")).await.unwrap();
    assert_eq!(store.remove_tenant(&first.tenant).await.unwrap(), MAX_PER_TENANT);
    store.create(new("t")).await.unwrap();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_lets_nobody_in_and_harms_nobody_else() {
    let nats = Nats::start().await;
    let store = store(&nats).await;
    let (secret, record) = store.create(new("t")).await.unwrap();
    let gateway = Gateway::ready(&nats).await;
    assert!(gateway.ask(secret.expose()).await.is_ok());
    let admin = nats.client("admin").await;
    let context = async_nats::jetstream::new(admin.client.clone());
    let write = async |key: String, text: &str| {
        let subject = format!("$KV.{}.{key}", longshore_access::BUCKET);
        context.publish(subject, text.to_owned().into()).await.unwrap().await.unwrap();
    };
    write("t.00000000000000000000000000000000".to_owned(), "{}").await;
    write("no-token-at-all".to_owned(), "\u{0}").await;
    write(format!("t.{}", record.id), r#"{"v":2}"#).await;
    gateway.until("the refusal", secret.expose(), is_invalid).await;
    assert!(store.list(&record.tenant).await.unwrap().is_empty());
    let (other, _) = store.create(new("t")).await.unwrap();
    gateway.until("the next token", other.expose(), Result::is_ok).await;
    assert!(gateway.metrics.render().unwrap().contains("longshore_access_tokens_left_out_total 3\n"));
    // The removal takes them along.
    assert_eq!(store.remove_tenant(&record.tenant).await.unwrap(), 3);
}

#[tokio::test]
async fn what_is_revoked_while_a_gateway_is_cut_off_is_refused_once_it_is_back() {
    let mut nats = Nats::start().await;
    let (kept, revoked) = {
        let store = store(&nats).await;
        (store.create(new("t")).await.unwrap(), store.create(new("t")).await.unwrap())
    };
    let gateway = Gateway::ready(&nats).await;
    assert!(gateway.ask(revoked.0.expose()).await.is_ok());
    nats.kill();
    // Known tokens are taken for a while: a server's restart refuses nobody.
    assert!(gateway.ask(kept.0.expose()).await.is_ok());
    nats.start_again().await;
    let store = store(&nats).await;
    store.revoke(&revoked.1.tenant, revoked.1.id).await.unwrap().unwrap();
    gateway.until("the refusal", revoked.0.expose(), is_invalid).await;
    assert!(gateway.ask(kept.0.expose()).await.is_ok());
}

#[tokio::test]
async fn a_gateway_may_not_write_tokens_and_a_worker_may_not_read_them() {
    let nats = Nats::start().await;
    let store = store(&nats).await;
    let (_, record) = store.create(new("t")).await.unwrap();
    let key = format!("$KV.{}.t.{}", longshore_access::BUCKET, record.id);
    for user in ["shim", "worker", "caller"] {
        let client = nats.client(user).await;
        client.client.publish(key.clone(), "{}".into()).await.unwrap();
        client.client.flush().await.unwrap();
        client.event("permissions violation for publish").await;
    }
    let worker = nats.client("worker").await;
    let _subscription = worker.client.subscribe("$KV.longshore-tokens.>").await.unwrap();
    worker.event("permissions violation for subscription").await;
    assert_eq!(store.list(&record.tenant).await.unwrap(), [record]);
}

#[tokio::test]
async fn without_a_connection_nothing_is_asked_for_later() {
    let mut nats = Nats::start().await;
    let (client, mut link) = connect(&nats, "control").await;
    let store = TokenStore::new(client, link.clone(), 1);
    store.prepare().await.unwrap();
    nats.kill();
    let mut states = link.receiver();
    wait::within("the loss", wait::LIMIT, states.wait_for(|state| !state.connected)).await.unwrap();
    assert!(matches!(store.create(new("t")).await, Err(TokenError::Disconnected)));
    nats.start_again().await;
    wait::within("the connection", wait::LIMIT, link.connected(2)).await.unwrap();
    assert!(store.list(&"t".parse().unwrap()).await.unwrap().is_empty());
}
