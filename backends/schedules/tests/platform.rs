//! Schedules that a platform keeps, against the stub of one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "tests"
)]

mod install;

use install::{Install, hourly};
use longshore_platform::{Platform, PlatformConfig};
use longshore_schedules::{NewSchedule, PlatformSchedules, ScheduleChange, Schedules as _, SchedulesError};
use longshore_service::upstream::Upstream;
use longshore_stub_platform::{Endpoint, Fault, Options, Seed, StubPlatform};

async fn platform() -> (StubPlatform, PlatformSchedules) {
    let endpoint = |id: u128, method: &str, path: &str| Endpoint {
        id: uuid::Uuid::from_u128(id).to_string(),
        method: method.into(),
        path: path.into(),
        handler: "dist/main".into(),
    };
    let seed = Seed {
        endpoints: vec![endpoint(1, "POST", "/sync"), endpoint(2, "GET", "/items/:id")],
        ..Seed::sample()
    };
    let stub = StubPlatform::start(Options { seed, ..Options::default() }).await.unwrap();
    let config = PlatformConfig { base: stub.base_url().parse().unwrap(), token: None };
    let platform = Platform::new(&config, Upstream::new().unwrap()).unwrap();
    (stub, PlatformSchedules::new(platform))
}

#[tokio::test]
async fn a_schedule_is_made_shown_changed_and_deleted_by_the_platform() {
    let (_stub, schedules) = platform().await;
    let install = Install::new("t", "6a6e3a5e-0000-4000-8000-000000000001");
    let scope = install.scope();
    let new = NewSchedule { name: Some("nightly".into()), payload: Some("{\"a\":1}".into()), ..hourly() };
    let id = schedules.create(&scope, new).await.unwrap();
    let shown = schedules.get(&scope, &id).await.unwrap().unwrap();
    assert_eq!((shown.cron.as_str(), shown.payload.as_deref()), ("0 * * * *", Some("{\"a\":1}")));
    let change =
        ScheduleChange { payload: Some(String::new()), enabled: Some(false), ..ScheduleChange::default() };
    schedules.update(&scope, &id, change).await.unwrap();
    let all = schedules.list(&scope).await.unwrap();
    assert_eq!((all.len(), all[0].enabled, &all[0].payload), (1, false, &None));
    assert_eq!(all[0].name.as_deref(), Some("nightly"));
    let schedulable: Vec<_> =
        schedules.endpoints(&scope).await.unwrap().into_iter().map(|e| (e.path, e.schedulable)).collect();
    assert_eq!(schedulable, [("/sync".to_owned(), true), ("/items/:id".to_owned(), false)]);
    schedules.delete(&scope, &id).await.unwrap();
    assert_eq!(schedules.get(&scope, &id).await.unwrap(), None);
    let error = schedules.delete(&scope, &id).await.unwrap_err();
    assert!(error.source.is_none(), "the guest's mistake, not the operator's: {error:?}");
}

#[tokio::test]
async fn the_platforms_words_and_fields_reach_the_guest() {
    let (_stub, schedules) = platform().await;
    let install = Install::new("t", "6a6e3a5e-0000-4000-8000-000000000001");
    let error =
        schedules.create(&install.scope(), NewSchedule { cron: "x".into(), ..hourly() }).await.unwrap_err();
    assert!(error.field_errors.contains_key("cron") && !error.message.is_empty(), "{error:?}");
}

#[tokio::test]
async fn each_status_is_its_error() {
    let (stub, schedules) = platform().await;
    let install = Install::new("t", "6a6e3a5e-0000-4000-8000-000000000001");
    for (status, name) in [
        (401, "Denied"),
        (403, "Denied"),
        (404, "NotFound"),
        (400, "Validation"),
        (429, "Quota"),
        (500, "Internal"),
    ] {
        stub.fail_next("scheduler", "list", Fault::Status(status, "{}".to_owned()));
        let error = schedules.list(&install.scope()).await.unwrap_err();
        let found = match error {
            SchedulesError::Denied => "Denied",
            SchedulesError::NotFound => "NotFound",
            SchedulesError::Validation(_) => "Validation",
            SchedulesError::Quota(_) => "Quota",
            SchedulesError::Internal(_) => "Internal",
        };
        assert_eq!(found, name, "{status}");
        stub.fail_next("scheduler", "create", Fault::Status(status, "{}".to_owned()));
        let error = schedules.create(&install.scope(), hourly()).await.unwrap_err();
        assert_eq!(error.source.is_some(), name == "Internal", "{status}: {error:?}");
    }
}
