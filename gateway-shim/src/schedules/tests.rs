//! The calls of due schedules, against a dispatcher that answers as it is told.

use std::collections::VecDeque;

use longshore_proto::install::Install;
use longshore_proto::{ContentHash, ExtensionId, PoolName, TenantId};
use longshore_registry::{Change, HostTarget};
use longshore_schedules::Record;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::*;
use crate::dispatch::{Answer, AnswerBody, CallResult};
use crate::http::Fleet;

struct Script {
    answers: Mutex<VecDeque<Result<u16, ErrorCode>>>,
    calls: Mutex<Vec<(Instant, Call)>>,
}

impl Dispatch for Script {
    async fn call(&self, call: Call) -> CallResult {
        self.calls.lock().push((Instant::now(), call));
        let answer = self.answers.lock().pop_front().expect("one call too many");
        match answer {
            Ok(status) => {
                Ok(Answer { status, headers: vec![], body: AnswerBody::Full(None), trailers: vec![] })
            }
            Err(code) => Err(CallError::from(code)),
        }
    }
    fn fleet(&self) -> Fleet {
        Fleet { nats_connected: true, workers: 1 }
    }
}

/// Knows the installs it was made with; the tenant does not matter.
#[derive(Default)]
struct Known(Vec<Arc<Install>>, Option<&'static str>);

#[async_trait]
impl Registry for Known {
    async fn find(&self, _tenant: &TenantId, reference: &str) -> Result<Lookup, RegistryError> {
        if let Some(why) = self.1 {
            return Err(RegistryError::NotReady(why.to_owned()));
        }
        let found = self.0.iter().find(|install| install.install_id == reference);
        Ok(found.map_or(Lookup::Absent, |install| Lookup::Found(Arc::clone(install))))
    }
    async fn validate(&self, _: &TenantId, _: &ExtensionId, _: ContentHash) -> Result<bool, RegistryError> {
        Ok(false)
    }
    async fn by_host(&self, _host: &str) -> Result<Option<HostTarget>, RegistryError> {
        Ok(None)
    }
    fn changes(&self) -> broadcast::Receiver<Change> {
        broadcast::channel(1).1
    }
}

fn record(method: &str, payload: Option<&str>) -> Record {
    serde_json::from_value(serde_json::json!({
        "v": 1, "tenant": "t", "install": "i", "id": "0f0e0d0c-0b0a-4908-8706-050403020100", "method": method,
        "path": "/sync", "cron": "0 * * * *", "timezone": "UTC", "enabled": true, "payload": payload, "created_ms": 0,
        "pool": "batch",
        "run": {
            "context": {"tenant": "t", "extension": "e", "install_id": "i", "content_hash": "ab".repeat(32), "config": {"k": "v"}},
            "http": {"method": "", "url": ""}, "limits": {"timeout_ms": 10_000, "memory_mb": 64}
        }
    }))
    .unwrap()
}

async fn run(
    record: Record,
    answers: &[Result<u16, ErrorCode>],
) -> (Result<(), String>, Vec<(Duration, Call)>) {
    run_with(Known::default(), record, answers).await
}

async fn run_with(
    installs: Known,
    record: Record,
    answers: &[Result<u16, ErrorCode>],
) -> (Result<(), String>, Vec<(Duration, Call)>) {
    let script =
        Arc::new(Script { answers: Mutex::new(answers.iter().copied().collect()), calls: Mutex::default() });
    let began = Instant::now();
    let job = Job { record, until: began + Duration::from_secs(80) };
    let result =
        DispatchRunner { dispatch: Arc::clone(&script), installs: Arc::new(installs) }.run(job).await;
    let calls = std::mem::take(&mut *script.calls.lock());
    (result, calls.into_iter().map(|(at, call)| (at - began, call)).collect())
}

#[tokio::test(start_paused = true)]
async fn a_run_is_the_call_that_the_platforms_scheduler_makes() {
    let (result, calls) = run(record("POST", Some("{\"n\":1}")), &[Ok(204)]).await;
    assert_eq!(result, Ok(()));
    let (_, call) = &calls[0];
    assert_eq!((call.run.http.method.as_str(), call.run.http.url.as_str()), ("POST", "/sync"));
    let headers = [("x-alga-tenant", "t"), ("x-alga-extension", "e"), ("content-type", "application/json")];
    assert_eq!(call.run.http.headers, headers.map(|(n, v)| (n.to_owned(), v.to_owned())));
    assert_eq!(call.body.as_deref(), Some(b"{\"n\":1}".as_slice()));
    assert_eq!(call.pool, "batch".parse::<PoolName>().unwrap());
    let context = &call.run.context;
    let trigger = context.trigger.as_ref().unwrap();
    assert_eq!(trigger.kind.as_str(), "schedule");
    assert_eq!(trigger.schedule_id.as_deref(), Some("0f0e0d0c-0b0a-4908-8706-050403020100"));
    assert_eq!(context.request_id.as_ref().unwrap().len(), 36);
    assert_eq!(context.config["k"], "v");
    assert_eq!(Instant::from_std(call.answer_by) - Instant::now(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_get_has_no_body_and_a_post_without_payload_neither() {
    for record in [record("GET", Some("{}")), record("POST", None)] {
        let (_, calls) = run(record, &[Ok(200)]).await;
        assert_eq!(calls[0].1.body, None);
        assert_eq!(calls[0].1.run.http.headers.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_from_400_and_a_call_that_failed_are_failed_runs_and_not_repeated() {
    for (answer, text) in [
        (Ok(400), "the endpoint answered 400"),
        (Ok(500), "the endpoint answered 500"),
        (Err(ErrorCode::WorkerLost), "worker_lost"),
        (Err(ErrorCode::Trap), "execute_failed: trap"),
        (Err(ErrorCode::Timeout), "execute_failed: timeout"),
    ] {
        let (result, calls) = run(record("POST", None), &[answer]).await;
        assert_eq!((result.unwrap_err().as_str(), calls.len()), (text, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_did_not_run_is_sent_again_three_times_within_the_minute() {
    let (full, none, over) = (ErrorCode::QueueFull, ErrorCode::NoWorkers, ErrorCode::Overloaded);
    let (result, calls) = run(record("POST", None), &[Err(full), Err(none), Ok(200)]).await;
    assert_eq!(result, Ok(()));
    assert_eq!(calls.iter().map(|(at, _)| at.as_secs()).collect::<Vec<_>>(), [0, 2, 10]);
    let ids: std::collections::HashSet<_> = calls.iter().map(|(_, call)| call.execution).collect();
    assert_eq!(ids.len(), 3, "each is a call of its own");
    let same = |i: usize| calls[i].1.run.context.request_id.clone();
    assert_eq!(same(0), same(2), "of one request");

    let (result, calls) = run(record("POST", None), &[Err(none), Err(over), Err(full), Err(none)]).await;
    assert_eq!((result.unwrap_err().as_str(), calls.len()), ("no_workers", 4));
    assert_eq!(calls[3].0.as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn no_call_is_sent_when_its_claim_is_over() {
    let script = Arc::new(Script { answers: Mutex::default(), calls: Mutex::default() });
    let job = Job { record: record("POST", None), until: Instant::now() };
    let result = DispatchRunner { dispatch: script, installs: Arc::new(Known::default()) }.run(job).await;
    assert_eq!(result.unwrap_err(), "execute_failed: timeout");
}

/// The install of `record`, as it is now: with `changes`.
fn install(changes: &Value) -> Known {
    let mut json = json!({
        "install_id": "i", "tenant": "t", "extension": "e", "version_id": "v2", "content_hash": "cd".repeat(32), "version": "2.0.0",
        "endpoints": [{"method": "POST", "path": "/sync", "idempotent": true}], "config": {"k": "new"}, "pool": "fast", "weight": 3,
        "capabilities": ["cap:storage.kv"], "limits": {"memory_mb": 32}
    });
    for (key, value) in changes.as_object().unwrap() {
        json[key] = value.clone();
    }
    Known(vec![Arc::new(serde_json::from_value(json).unwrap())], None)
}

#[tokio::test(start_paused = true)]
async fn an_install_of_the_registry_runs_as_it_is_now() {
    let (result, calls) = run_with(install(&json!({})), record("POST", Some("{}")), &[Ok(200)]).await;
    assert_eq!(result, Ok(()));
    let call = &calls[0].1;
    let context = &call.run.context;
    assert_eq!(
        (context.content_hash, context.version_id.as_deref()),
        (ContentHash::from_bytes([0xcd; 32]), Some("v2"))
    );
    assert_eq!((call.pool.as_str(), call.weight, call.idempotent), ("fast", 3, true));
    assert_eq!((context.config["k"].as_str(), call.run.limits.memory_mb), ("new", 32));
    assert_eq!(call.run.limits.timeout_ms, 10_000, "a run's time is the schedule's");
    assert_eq!(context.trigger.as_ref().unwrap().kind.as_str(), "schedule");
    assert_eq!(call.run.http.url, "/sync");
}

#[tokio::test(start_paused = true)]
async fn a_disabled_install_and_an_endpoint_that_is_gone_are_skipped_with_the_reason() {
    let (result, calls) = run_with(install(&json!({"enabled": false})), record("POST", None), &[]).await;
    assert_eq!((result.unwrap_err().as_str(), calls.len()), ("skipped: the install is disabled", 0));
    let (result, calls) = run_with(install(&json!({"endpoints": []})), record("POST", None), &[]).await;
    let why = result.unwrap_err();
    assert!(why.contains("2.0.0") && why.contains("POST /sync") && calls.is_empty(), "{why}");
}

#[tokio::test(start_paused = true)]
async fn an_install_of_another_extension_is_not_what_the_schedule_means() {
    let (result, calls) =
        run_with(install(&json!({"extension": "other"})), record("POST", None), &[Ok(200)]).await;
    assert_eq!((result, calls[0].1.pool.as_str()), (Ok(()), "batch"));
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_of_the_registry_nothing_runs_with_old_rights() {
    let began = Instant::now();
    let (result, calls) = run_with(Known(vec![], Some("reading")), record("POST", None), &[]).await;
    let why = result.unwrap_err();
    assert!(why.contains("cannot be looked up") && calls.is_empty(), "{why}");
    assert_eq!(began.elapsed().as_secs(), 30, "asked again three times");
}
