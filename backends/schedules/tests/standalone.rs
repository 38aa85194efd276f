//! Schedules in JetStream: kept as a worker's user may, fired as a gateway's user may.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

mod install;
mod support;

use std::time::Duration;

use install::{Install, hourly};
use longshore_proto::call::SecretEnvelope;
use longshore_schedules::scheduler::Fired;
use longshore_schedules::{
    Claim, MAX_SCHEDULES, NewSchedule, ScheduleChange, Schedules as _, SchedulesError,
};
use longshore_tests::nats::Nats;
use longshore_tests::wait;
use support::{Gateway, meddle, worker};

const FIVE: Duration = Duration::from_secs(300);

/// A server with the buckets that a gateway has made and left.
async fn prepared() -> Nats {
    let server = Nats::start().await;
    let mut gateway = Gateway::start(&server, "first").await;
    gateway.leads().await;
    gateway.leave().await;
    server
}

#[tokio::test]
async fn a_schedule_is_made_shown_changed_and_deleted() {
    let server = prepared().await;
    let (worker, install) = (worker(&server, FIVE).await, Install::new("t", "i"));
    let new = NewSchedule {
        endpoint: "GET /look".into(),
        timezone: Some("Europe/Berlin".into()),
        name: Some("nightly".into()),
        payload: Some(r#"{"a":[1,"ü"]}"#.into()),
        ..hourly()
    };
    let id = worker.create(&install.scope(), new).await.unwrap();
    let shown = worker.get(&install.scope(), &id).await.unwrap().unwrap();
    assert_eq!((shown.endpoint_method.as_str(), shown.endpoint_path.as_str()), ("GET", "/look"));
    assert_eq!((shown.name.as_deref(), shown.timezone.as_str()), (Some("nightly"), "Europe/Berlin"));
    assert_eq!(shown.payload.as_deref(), Some(r#"{"a":[1,"ü"]}"#));
    assert!(shown.enabled && shown.created_at.is_some() && shown.last_run_at.is_none());

    let change = ScheduleChange {
        endpoint: Some("/sync".into()),
        cron: Some("*/10 * * * *".into()),
        enabled: Some(false),
        payload: Some(String::new()),
        ..ScheduleChange::default()
    };
    worker.update(&install.scope(), &id, change).await.unwrap();
    let list = worker.list(&install.scope()).await.unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].cron.as_str(), list[0].enabled, &list[0].payload), ("*/10 * * * *", false, &None));
    assert_eq!((list[0].endpoint_method.as_str(), list[0].name.as_deref()), ("POST", Some("nightly")));

    worker.delete(&install.scope(), &id).await.unwrap();
    assert_eq!(worker.get(&install.scope(), &id).await.unwrap(), None);
    assert_eq!(worker.list(&install.scope()).await.unwrap(), []);
    for error in [
        worker.delete(&install.scope(), &id).await.unwrap_err(),
        worker.update(&install.scope(), &id, ScheduleChange::default()).await.unwrap_err(),
    ] {
        assert_eq!((error.message.as_str(), error.source.is_none()), ("schedule not found", true));
    }
}

#[tokio::test]
async fn no_install_reaches_into_another() {
    let server = prepared().await;
    let worker = worker(&server, FIVE).await;
    let owner = Install::new("t", "i");
    let id = worker.create(&owner.scope(), hourly()).await.unwrap();
    for (tenant, install) in
        [("t", "*"), ("t", ">"), ("t", "i.*"), ("t.i", "x"), ("T", "i"), ("t", "I"), ("t", "i ")]
    {
        let other = Install::new(tenant, install);
        assert_eq!(worker.list(&other.scope()).await.unwrap(), [], "{tenant} {install}");
        assert_eq!(worker.get(&other.scope(), &id).await.unwrap(), None);
        assert!(worker.delete(&other.scope(), &id).await.is_err());
        assert!(worker.update(&other.scope(), &id, ScheduleChange::default()).await.is_err());
    }
    for crafted in ["*", ">", "", "../x", &format!("{id}.x"), &id.to_uppercase(), "a\r\nb"] {
        assert_eq!(worker.get(&owner.scope(), crafted).await.unwrap(), None, "{crafted}");
        assert!(worker.delete(&owner.scope(), crafted).await.is_err(), "{crafted}");
    }
    let nobody = Install::new("t", "");
    assert!(matches!(worker.list(&nobody.scope()).await, Err(SchedulesError::Denied)));
    assert_eq!(worker.list(&owner.scope()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn every_wrong_field_is_named_and_nothing_is_kept() {
    let server = prepared().await;
    let (worker, install) = (worker(&server, FIVE).await, Install::new("t", "i"));
    let bad = NewSchedule {
        endpoint: "PUT /put".into(),
        cron: "* * * * *".into(),
        timezone: Some("Nowhere".into()),
        name: Some("x".repeat(129)),
        payload: Some("3".into()),
        enabled: None,
    };
    let error = worker.create(&install.scope(), bad).await.unwrap_err();
    let fields: Vec<_> = error.field_errors.keys().map(String::as_str).collect();
    assert_eq!(fields, ["cron", "endpoint", "name", "payload", "timezone"]);
    assert!(error.field_errors["cron"].contains("5 minutes"), "{error:?}");

    let id = worker.create(&install.scope(), hourly()).await.unwrap();
    let before = worker.get(&install.scope(), &id).await.unwrap();
    let bad = ScheduleChange {
        name: Some("fine".into()),
        cron: Some("0 0 1 * MON".into()),
        ..ScheduleChange::default()
    };
    let error = worker.update(&install.scope(), &id, bad).await.unwrap_err();
    assert_eq!(error.field_errors.keys().collect::<Vec<_>>(), ["cron"]);
    assert_eq!(worker.get(&install.scope(), &id).await.unwrap(), before, "not even the name");
}

#[tokio::test]
async fn an_install_has_at_most_fifty_schedules_however_fast_they_are_made() {
    let server = prepared().await;
    let (worker, install) = (worker(&server, FIVE).await, Install::new("t", "i"));
    let scope = install.scope();
    let made =
        futures::future::join_all((0..MAX_SCHEDULES - 2).map(|_| worker.create(&scope, hourly()))).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    futures::future::join_all((0..20).map(|_| worker.create(&scope, hourly()))).await;
    let there = worker.list(&scope).await.unwrap().len();
    assert!((MAX_SCHEDULES - 2..=MAX_SCHEDULES).contains(&there), "{there}");
    for _ in there..MAX_SCHEDULES {
        worker.create(&scope, hourly()).await.unwrap();
    }
    let error = worker.create(&scope, hourly()).await.unwrap_err();
    assert!(error.message.contains("at most 50"), "{error}");
    worker.create(&Install::new("t", "other").scope(), hourly()).await.unwrap();
}

#[tokio::test]
async fn plain_secrets_are_not_kept() {
    let server = prepared().await;
    let (worker, mut install) = (worker(&server, FIVE).await, Install::new("t", "i"));
    let run = std::sync::Arc::make_mut(&mut install.run);
    run.secret_envelope = Some(SecretEnvelope {
        ciphertext_b64: "eyJrIjoiY2FuYXJ5LTIifQ==".into(),
        algorithm: Some("inline/base64".into()),
        version: None,
        expires_at: None,
        key_path: None,
        mount: None,
    });
    let error = worker.create(&install.scope(), hourly()).await.unwrap_err();
    assert!(error.message.contains("not sealed"), "{error}");
    assert_eq!(worker.list(&install.scope()).await.unwrap(), []);
}

#[tokio::test]
async fn a_missed_time_is_run_once_and_its_end_is_shown() {
    let server = prepared().await;
    let (worker, install) = (worker(&server, FIVE).await, Install::new("t", "i"));
    let new = NewSchedule { payload: Some("{\"n\":1}".into()), ..hourly() };
    let id = worker.create(&install.scope(), new).await.unwrap();
    // Three hours without a gateway.
    meddle(&server, &id, |record| record.next_ms = record.next_ms.map(|next| next - 3 * 3_600_000)).await;
    let mut gateway = Gateway::start(&server, "second").await;
    let (job, answer) = gateway.job().await;
    assert_eq!(job.record.id, id);
    assert!(job.record.run.http.headers.is_empty() && job.record.run.context.request_id.is_none());
    assert_eq!(job.record.run.context.config["k"], "v");
    let shown = worker.get(&install.scope(), &id).await.unwrap().unwrap();
    assert_eq!(shown.last_run_status.as_deref(), Some("running"));
    answer.send(Err("the endpoint answered 500".into())).unwrap();
    assert_eq!(gateway.outcome().await, Fired::Failed);
    let shown = worker.get(&install.scope(), &id).await.unwrap().unwrap();
    assert_eq!(shown.last_run_status.as_deref(), Some("failed"));
    assert_eq!(shown.last_error.as_deref(), Some("the endpoint answered 500"));
    let at = chrono::DateTime::parse_from_rfc3339(shown.last_run_at.as_deref().unwrap()).unwrap();
    assert!((chrono::Utc::now() - at.to_utc()).num_seconds() < 60);
    meddle(&server, &id, |record| {
        assert!(
            record.next_ms.unwrap() > chrono::Utc::now().timestamp_millis(),
            "the other two are made up for"
        );
    })
    .await;
    gateway.leave().await;
}

#[tokio::test]
async fn one_gateway_fires_and_the_next_takes_over_when_it_leaves() {
    let server = Nats::start().await;
    let mut first = Gateway::start(&server, "first").await;
    first.leads().await;
    let mut second = Gateway::start(&server, "second").await;
    let (worker, install) = (worker(&server, FIVE).await, Install::new("t", "i"));
    let due = |record: &mut longshore_schedules::Record| record.next_ms = Some(1_000);

    let long = worker.create(&install.scope(), hourly()).await.unwrap();
    meddle(&server, &long, due).await;
    let (_, unanswered) = first.job().await;

    // It leaves in the middle of a run: the lease goes at once, the run is ended by whoever began it.
    let id = worker.create(&install.scope(), hourly()).await.unwrap();
    first.drain.cancel();
    second.leads().await;
    meddle(&server, &id, due).await;
    let (job, answer) = second.job().await;
    assert_eq!(job.record.id, id, "and not the one that still runs");
    answer.send(Ok(())).unwrap();
    assert_eq!(second.outcome().await, Fired::Success);
    unanswered.send(Ok(())).unwrap();
    assert_eq!(first.outcome().await, Fired::Success);
    first.leave().await;
    for schedule in worker.list(&install.scope()).await.unwrap() {
        assert_eq!(schedule.last_run_status.as_deref(), Some("success"), "{schedule:?}");
    }
    assert!(second.jobs.try_recv().is_err());
    second.leave().await;
}

#[tokio::test]
async fn a_run_whose_gateway_died_is_ended_as_lost_and_not_run_again() {
    let server = prepared().await;
    let (worker, install) = (worker(&server, FIVE).await, Install::new("t", "i"));
    let id = worker.create(&install.scope(), hourly()).await.unwrap();
    meddle(&server, &id, |record| {
        let claim = Claim { holder: "dead".into(), number: 1, due_ms: 1_000, at_ms: 2_000, budget_ms: 100 };
        record.running = Some(claim);
    })
    .await;
    let mut gateway = Gateway::start(&server, "second").await;
    assert_eq!(gateway.outcome().await, Fired::Lost);
    let shown = worker.get(&install.scope(), &id).await.unwrap().unwrap();
    assert_eq!(shown.last_run_status.as_deref(), Some("failed"));
    assert!(shown.last_error.as_deref().unwrap().contains("the scheduler was lost"));
    assert!(gateway.jobs.try_recv().is_err());
    gateway.leave().await;
}

#[tokio::test]
async fn a_schedule_deleted_during_its_run_stays_deleted() {
    let server = prepared().await;
    let (worker, install) = (worker(&server, FIVE).await, Install::new("t", "i"));
    let id = worker.create(&install.scope(), hourly()).await.unwrap();
    meddle(&server, &id, |record| record.next_ms = Some(1_000)).await;
    let mut gateway = Gateway::start(&server, "second").await;
    let (_, answer) = gateway.job().await;
    worker.delete(&install.scope(), &id).await.unwrap();
    answer.send(Ok(())).unwrap();
    gateway.outcome().await;
    assert_eq!(worker.list(&install.scope()).await.unwrap(), []);
    gateway.leave().await;
}

#[tokio::test]
async fn a_nats_server_that_goes_away_costs_time_only() {
    let mut server = prepared().await;
    let (worker, install) = (worker(&server, FIVE).await, Install::new("t", "i"));
    let id = worker.create(&install.scope(), hourly()).await.unwrap();
    meddle(&server, &id, |record| record.next_ms = Some(1_000)).await;
    let mut gateway = Gateway::start(&server, "second").await;
    let (_, answer) = gateway.job().await;
    server.kill();
    answer.send(Ok(())).unwrap();
    let error =
        wait::until("no connection", wait::LIMIT, async || match worker.list(&install.scope()).await {
            Err(error) => Ok(error),
            Ok(_) => Err("still there"),
        })
        .await;
    assert!(matches!(error, SchedulesError::Internal(_)), "{error:?}");
    server.start_again().await;
    // The end of the run is written as soon as it can be.
    assert_eq!(gateway.outcome().await, Fired::Success);
    gateway.leads().await;
    meddle(&server, &id, |record| {
        assert!(record.running.is_none());
        record.next_ms = Some(2_000);
    })
    .await;
    let (_, answer) = gateway.job().await;
    answer.send(Ok(())).unwrap();
    assert_eq!(gateway.outcome().await, Fired::Success);
    gateway.leave().await;
}

#[tokio::test]
async fn without_a_bucket_a_worker_says_so_and_makes_none() {
    let server = Nats::start().await;
    let (worker, install) = (worker(&server, FIVE).await, Install::new("t", "i"));
    let error = worker.list(&install.scope()).await.unwrap_err();
    assert!(matches!(error, SchedulesError::Internal(_)), "{error:?}");
    let error = worker.create(&install.scope(), hourly()).await.unwrap_err();
    assert_eq!(error.message, "schedules are not available", "nothing of the inside for the guest");
    assert!(error.source.is_some());
}

#[tokio::test]
async fn a_worker_cannot_have_stored_bytes_sent_where_it_may_not_publish() {
    let server = prepared().await;
    for subject in [
        "$JS.API.DIRECT.GET.KV_longshore-schedules",
        "$JS.API.DIRECT.GET.KV_longshore-schedules.$KV.longshore-schedules.x",
        "$JS.API.CONSUMER.CREATE.KV_longshore-schedules",
        "$JS.API.CONSUMER.CREATE.KV_longshore-schedules.x",
        "$JS.API.STREAM.CREATE.KV_longshore-schedules",
        "$JS.API.STREAM.UPDATE.KV_longshore-schedules",
        "$KV.longshore-leases.scheduler",
    ] {
        let client = server.client("worker").await;
        client.client.publish(subject, "{}".into()).await.unwrap();
        client.event("permissions violation").await;
    }
}

#[tokio::test]
async fn the_mark_of_a_deletion_goes_away_by_itself() {
    let server = prepared().await;
    let (worker, install) = (worker(&server, FIVE).await, Install::new("t", "i"));
    let id = worker.create(&install.scope(), hourly()).await.unwrap();
    worker.delete(&install.scope(), &id).await.unwrap();
    let admin = server.client("admin").await;
    let stream =
        async_nats::jetstream::new(admin.client.clone()).get_stream("KV_longshore-schedules").await.unwrap();
    let mark = stream.get_last_raw_message_by_subject("$KV.longshore-schedules.>").await.unwrap();
    assert!(mark.payload.is_empty());
    assert_eq!(mark.headers.get("Nats-TTL").unwrap().as_str(), "60");
}
