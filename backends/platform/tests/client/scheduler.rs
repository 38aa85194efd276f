use longshore_platform::{
    CreateScheduleInput, CreateScheduleResult, DeleteScheduleResult, PlatformError, SchedulerFault,
    UpdateScheduleInput, UpdateScheduleResult,
};
use longshore_stub_platform::Fault;
use serde_json::{Value, json};

use super::{CALLER, start};

fn input() -> CreateScheduleInput {
    CreateScheduleInput {
        endpoint: "POST /tick".to_owned(),
        cron: "0 6 * * *".to_owned(),
        timezone: Some("Europe/Berlin".to_owned()),
        enabled: Some(true),
        name: Some("tick".to_owned()),
        payload: Some(r#"{"from":"schedule"}"#.to_owned()),
    }
}

fn field_errors(text: Option<&String>) -> Value {
    serde_json::from_str(text.unwrap()).unwrap()
}

#[tokio::test]
async fn a_schedule_is_created_listed_changed_and_deleted() {
    let (_stub, platform) = start().await;
    let created = platform.schedules_create(&CALLER, &input()).await.unwrap();
    let id = created.schedule_id.clone().unwrap();
    assert_eq!(
        created,
        CreateScheduleResult { success: true, schedule_id: Some(id.clone()), ..Default::default() }
    );
    let all = platform.schedules_list(&CALLER).await.unwrap();
    let [schedule] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(schedule.id, id);
    assert_eq!((schedule.endpoint_method.as_str(), schedule.endpoint_path.as_str()), ("POST", "/tick"));
    assert_eq!(
        (schedule.cron.as_str(), schedule.timezone.as_str(), schedule.enabled),
        ("0 6 * * *", "Europe/Berlin", true)
    );
    assert_eq!(schedule.name.as_deref(), Some("tick"));
    assert_eq!(schedule.payload.as_deref(), Some(r#"{"from":"schedule"}"#));
    assert!(schedule.created_at.as_ref().unwrap().ends_with('Z') && schedule.last_run_at.is_none());

    let change = UpdateScheduleInput { enabled: Some(false), ..UpdateScheduleInput::default() };
    assert!(platform.schedules_update(&CALLER, &id, &change).await.unwrap().success);
    let changed = platform.schedules_get(&CALLER, &id).await.unwrap().unwrap();
    assert!(!changed.enabled);

    assert!(platform.schedules_delete(&CALLER, &id).await.unwrap().success);
    assert_eq!(platform.schedules_get(&CALLER, &id).await.unwrap(), None);
    assert!(platform.schedules_list(&CALLER).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_change_keeps_the_name_and_payload_that_it_does_not_mention() {
    let (_stub, platform) = start().await;
    let id = platform.schedules_create(&CALLER, &input()).await.unwrap().schedule_id.unwrap();
    let change =
        UpdateScheduleInput { cron: Some("30 6 * * *".to_owned()), ..UpdateScheduleInput::default() };
    platform.schedules_update(&CALLER, &id, &change).await.unwrap();
    let changed = platform.schedules_get(&CALLER, &id).await.unwrap().unwrap();
    assert_eq!(changed.cron, "30 6 * * *");
    assert_eq!(changed.name.as_deref(), Some("tick"));
    assert_eq!(changed.payload.as_deref(), Some(r#"{"from":"schedule"}"#));
}

#[tokio::test]
async fn a_blank_payload_clears_it() {
    let (stub, platform) = start().await;
    for blank in ["", "  "] {
        let mut input = input();
        input.name = Some(format!("tick{}", blank.len()));
        let id = platform.schedules_create(&CALLER, &input).await.unwrap().schedule_id.unwrap();
        let change =
            UpdateScheduleInput { payload: Some(blank.to_owned()), ..UpdateScheduleInput::default() };
        platform.schedules_update(&CALLER, &id, &change).await.unwrap();
        assert_eq!(stub.requests().last().unwrap().json().get("payload"), Some(&Value::Null));
        let changed = platform.schedules_get(&CALLER, &id).await.unwrap().unwrap();
        assert_eq!((changed.payload, changed.name), (None, input.name));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_reaches_the_guest_by_field() {
    let (_stub, platform) = start().await;
    for (field, input) in [
        ("cron", CreateScheduleInput { cron: "* * * * *".to_owned(), ..input() }),
        ("cron", CreateScheduleInput { cron: "0 6 1 * 1".to_owned(), ..input() }),
        ("cron", CreateScheduleInput { cron: String::new(), ..input() }),
        ("timezone", CreateScheduleInput { timezone: Some("Mars/Base".to_owned()), ..input() }),
        ("endpoint", CreateScheduleInput { endpoint: "/nowhere".to_owned(), ..input() }),
        ("endpoint", CreateScheduleInput { endpoint: "/items/:id".to_owned(), ..input() }),
        ("payload", CreateScheduleInput { payload: Some("7".to_owned()), ..input() }),
        ("name", CreateScheduleInput { name: Some("n".repeat(129)), ..input() }),
    ] {
        let error = platform.schedules_create(&CALLER, &input).await.unwrap_err();
        assert!(matches!(error, PlatformError::BadRequest(_)), "{error:?}");
        let result = CreateScheduleResult::from(&error);
        assert!(!result.success && result.error.is_some_and(|e| !e.is_empty()));
        assert!(field_errors(result.field_errors.as_ref()).get(field).is_some(), "{field}");
        assert_eq!(SchedulerFault::from(&error), SchedulerFault::ValidationFailed);
    }
}

#[tokio::test]
async fn a_payload_that_is_no_json_is_refused_and_nothing_is_sent() {
    let (stub, platform) = start().await;
    for payload in ["{", "nothing", "", "{} {}"] {
        let input = CreateScheduleInput { payload: Some(payload.to_owned()), ..input() };
        let result =
            CreateScheduleResult::from(&platform.schedules_create(&CALLER, &input).await.unwrap_err());
        assert_eq!(field_errors(result.field_errors.as_ref()), json!({ "payload": "must be JSON" }));
    }
    let change = UpdateScheduleInput { payload: Some("{".to_owned()), ..UpdateScheduleInput::default() };
    assert!(platform.schedules_update(&CALLER, "x", &change).await.is_err());
    assert!(stub.requests().is_empty());
}

#[tokio::test]
async fn a_schedule_that_is_not_there_is_none_to_get_and_refused_to_change() {
    let (_stub, platform) = start().await;
    let id = "5b7b5e6c-3c0f-4a4e-8a53-0a4b6cb1b7a1";
    assert_eq!(platform.schedules_get(&CALLER, id).await.unwrap(), None);
    let error = platform.schedules_update(&CALLER, id, &UpdateScheduleInput::default()).await.unwrap_err();
    assert_eq!(UpdateScheduleResult::from(&error).error.as_deref(), Some("Schedule not found"));
    let error = platform.schedules_delete(&CALLER, id).await.unwrap_err();
    assert_eq!(DeleteScheduleResult::from(&error).error.as_deref(), Some("Schedule not found"));
    let error = platform.schedules_get(&CALLER, "not an id").await.unwrap_err();
    assert_eq!(SchedulerFault::from(&error), SchedulerFault::ValidationFailed);
}

#[tokio::test]
async fn the_eleventh_change_within_a_minute_is_over_the_quota() {
    let (_stub, platform) = start().await;
    for n in 0..10 {
        let input = CreateScheduleInput { name: Some(n.to_string()), ..input() };
        platform.schedules_create(&CALLER, &input).await.unwrap();
    }
    let error = platform.schedules_create(&CALLER, &input()).await.unwrap_err();
    assert_eq!(SchedulerFault::from(&error), SchedulerFault::QuotaExceeded);
    let result = CreateScheduleResult::from(&error);
    assert_eq!(result.error.as_deref(), Some("Too many requests, please try again later"));
    // Reading goes on.
    assert_eq!(platform.schedules_list(&CALLER).await.unwrap().len(), 10);
}

#[tokio::test]
async fn endpoints_say_whether_a_schedule_may_call_them() {
    let (_stub, platform) = start().await;
    let endpoints = platform.endpoints(&CALLER).await.unwrap();
    let schedulable = |method: &str, path: &str| {
        endpoints.iter().find(|e| e.method == method && e.path == path).unwrap().schedulable
    };
    assert!(schedulable("POST", "/tick") && schedulable("GET", "/schedules"));
    assert!(!schedulable("DELETE", "/schedules") && !schedulable("GET", "/items/:id"));
}

#[tokio::test]
async fn malformed_schedules_and_endpoints_are_left_out() {
    let (stub, platform) = start().await;
    let good = json!({ "id": "1", "endpoint_path": "/run", "endpoint_method": "POST", "cron": "0 6 * * *", "timezone": "UTC",
        "enabled": true, "payload": [1], "last_run_at": "2026-01-01T00:00:00Z", "last_run_status": "failed",
        "last_error": "boom", "created_at": "2025-01-01T00:00:00Z" });
    let answer = json!({ "schedules": [7, null, {}, good, { "id": 7 }] });
    stub.fail_next("scheduler", "list", Fault::Status(200, answer.to_string()));
    let all = platform.schedules_list(&CALLER).await.unwrap();
    let [schedule] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(schedule.payload.as_deref(), Some("[1]"));
    assert_eq!(schedule.last_run_at.as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(schedule.last_run_status.as_deref(), Some("failed"));
    assert_eq!(schedule.last_error.as_deref(), Some("boom"));
    assert_eq!(schedule.created_at.as_deref(), Some("2025-01-01T00:00:00Z"));

    let answer = json!({ "endpoints": ["x", { "id": "1", "method": "GET", "path": "/", "handler": "h", "schedulable": true }] });
    stub.fail_next("scheduler", "getEndpoints", Fault::Status(200, answer.to_string()));
    assert_eq!(platform.endpoints(&CALLER).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_success_whose_body_says_failure_is_one() {
    let (stub, platform) = start().await;
    let answer = json!({ "success": false, "error": "no", "field_errors": { "cron": "bad" } }).to_string();
    stub.fail_next("scheduler", "create", Fault::Status(200, answer));
    let result = CreateScheduleResult::from(&platform.schedules_create(&CALLER, &input()).await.unwrap_err());
    assert_eq!((result.success, result.error.as_deref()), (false, Some("no")));
    assert_eq!(result.field_errors.as_deref(), Some(r#"{"cron":"bad"}"#));
}
