//! The audit stream.

use longshore_registry::audit::STREAM;
use longshore_registry::{Audit, AuditError, AuditEvent, AuditKind, AuditQuery};
use longshore_tests::nats::Nats;
use longshore_tests::wait;

use crate::support::{connect, operator, tenant};

async fn audit(server: &Nats) -> Audit {
    let (client, link) = connect(server, "control").await;
    Audit::new(client, link, 1)
}

fn numbered(kind: AuditKind, of: &str, number: u64) -> AuditEvent {
    AuditEvent::new(kind, "op").tenant(&tenant(of)).details(serde_json::json!({ "n": number }))
}

fn numbers(events: &[AuditEvent]) -> Vec<u64> {
    events.iter().map(|event| event.details["n"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_read_back_the_newest_first_by_kind_tenant_and_time() {
    let server = Nats::start().await;
    let audit = audit(&server).await;
    let all = AuditQuery { limit: 100, ..AuditQuery::default() };
    let empty = audit.list(&all).await.unwrap();
    assert!(empty.events.is_empty() && empty.complete, "there is no stream yet");
    for number in 0..30 {
        let kind = if number % 3 == 0 { AuditKind::TokenCreated } else { AuditKind::InstallUpdated };
        let of = if number % 2 == 0 { "even" } else { "odd" };
        audit.record(&numbered(kind, of, number)).await.unwrap();
    }
    let page = audit.list(&all).await.unwrap();
    assert_eq!(numbers(&page.events), (0..30).rev().collect::<Vec<_>>());
    assert!(page.complete);
    let some = audit.list(&AuditQuery { limit: 4, ..all.clone() }).await.unwrap();
    assert_eq!((numbers(&some.events), some.complete), (vec![29, 28, 27, 26], false));
    let tokens =
        AuditQuery { kind: Some(AuditKind::TokenCreated), tenant: Some(tenant("odd")), ..all.clone() };
    assert_eq!(numbers(&audit.list(&tokens).await.unwrap().events), [27, 21, 15, 9, 3]);
    let since = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
    let later = audit.list(&AuditQuery { since: Some(since), ..all }).await.unwrap();
    assert!(later.events.is_empty() && later.complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_a_long_history_and_one_from_long_ago_are_found() {
    let server = Nats::start().await;
    let audit = audit(&server).await;
    audit.record(&numbered(AuditKind::TenantPurged, "t", 0)).await.unwrap();
    let js = operator(&server).await;
    // By hand, without waiting for each: more than two stretches.
    let mut acks = Vec::new();
    for number in 1..=2_000 {
        let payload = serde_json::to_vec(&numbered(AuditKind::InstallUpdated, "u", number)).unwrap();
        acks.push(js.publish("audit.install.updated", payload.into()).await.unwrap());
        if acks.len() == 100 {
            for ack in acks.drain(..) {
                ack.await.unwrap();
            }
        }
    }
    js.publish("audit.install.updated", "no event".into()).await.unwrap().await.unwrap();
    let last = audit.list(&AuditQuery { limit: 3, ..AuditQuery::default() }).await.unwrap();
    assert_eq!(numbers(&last.events), [2_000, 1_999, 1_998], "what cannot be read is skipped");
    let query = AuditQuery { tenant: Some(tenant("t")), limit: 10, ..AuditQuery::default() };
    let old = audit.list(&query).await.unwrap();
    assert_eq!((numbers(&old.events), old.complete), (vec![0], true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_sent_twice_is_there_once_and_none_can_be_removed() {
    let server = Nats::start().await;
    let audit = audit(&server).await;
    let event = numbered(AuditKind::GcRan, "t", 1);
    for _ in 0..3 {
        audit.record(&event).await.unwrap();
    }
    let js = operator(&server).await;
    let stream = js.get_stream(STREAM).await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 1);
    assert!(stream.purge().await.is_err());
    assert!(stream.delete_message(1).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_written_is_an_error() {
    let mut server = Nats::start().await;
    let audit = audit(&server).await;
    server.kill();
    wait::until("the loss to be seen", wait::LIMIT, async || {
        match audit.record(&numbered(AuditKind::GcRan, "t", 1)).await {
            Err(AuditError::Disconnected) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
