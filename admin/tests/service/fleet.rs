//! Workers and gateways, played: they announce themselves and answer as the protocol says.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use longshore_proto::fleet::{
    CallState, CallStatus, ShimCalls, ShimCancelled, ToShims, ToWorkers, Warm, Warmed,
};
use longshore_proto::frame::{ShimAnnouncement, WorkerAnnouncement};
use longshore_proto::{BootId, CallError, ErrorCode, ExecutionId, PoolName, subject, wire};
use longshore_tests::nats::Nats;
use parking_lot::Mutex;
use serde_json::json;

use crate::support::{Admin, pages, until};

/// A worker: what it was told, and a task that plays it.
struct Worker {
    told: Arc<Mutex<Vec<Warm>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Worker {
    /// One that answers `Warm` with `error`, or, if `silent`, not at all.
    async fn play(nats: &Nats, id: u8, error: Option<ErrorCode>, silent: bool) -> Self {
        let nats = nats.client("worker").await;
        let boot = BootId::from_bytes([id; 16]);
        let pool = PoolName::default();
        let mut control = nats.client.subscribe(subject::control_all(&pool)).await.unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = told.clone();
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(300));
            let mut number = 0;
            loop {
                tokio::select! {
                    _ = tick.tick() => {
                        number += 1;
                        let announcement = WorkerAnnouncement {
                            v: 1, worker: boot, pool: pool.clone(), name: format!("w{id}"), version: "1".to_owned(), number,
                            slots: 8, free: 5, load_percent: 0, leaving: false, unwell: false,
                        };
                        let payload = wire::encode(&announcement).unwrap().into();
                        nats.client.publish(subject::fleet_worker(&pool, boot), payload).await.unwrap();
                    }
                    Some(message) = control.next() => {
                        let Ok(ToWorkers::Warm(warm)) = wire::decode(&message.payload) else { continue };
                        kept.lock().push(warm);
                        let error = error.map(|code| CallError::new(code, "why"));
                        let answer = Warmed { v: 1, worker: boot, error, took_ms: 12 };
                        if !silent {
                            nats.client.publish(message.reply.unwrap(), wire::encode(&answer).unwrap().into()).await.unwrap();
                        }
                    }
                }
            }
        });
        Self { told, task }
    }
}

async fn known(admin: &Admin, workers: usize) {
    until("the workers are known", async || {
        let fleet = admin.get("/v1/pools").await.ok();
        fleet["pools"][0]["workers"].as_array().is_some_and(|known| known.len() == workers)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_install_is_ready_when_every_worker_of_its_pool_is() {
    let admin = Admin::start().await;
    let (one, two) =
        (Worker::play(&admin.nats, 1, None, false).await, Worker::play(&admin.nats, 2, None, false).await);
    known(&admin, 2).await;
    let fleet = admin.get("/v1/pools").await.ok();
    assert_eq!((&fleet["pools"][0]["slots"], &fleet["pools"][0]["free"]), (&json!(16), &json!(10)));
    let uploaded = admin.upload("t", "", pages("a.b", "1.0.0", &[])).await.ok();
    let request = json!({ "content_hash": uploaded["content_hash"] });
    let made = admin.ask("POST", "/v1/tenants/t/installs", Some(request)).await.ok();
    assert_eq!(made["warm"]["complete"], true, "{made}");
    let names: Vec<_> =
        made["warm"]["workers"].as_array().unwrap().iter().map(|w| (&w["name"], &w["state"])).collect();
    assert_eq!(names, [(&json!("w1"), &json!("ready")), (&json!("w2"), &json!("ready"))]);
    for worker in [&one, &two] {
        let told = worker.told.lock();
        assert_eq!(told[0].tenant.as_str(), "t");
        assert_eq!(told[0].content_hash.to_string(), uploaded["content_hash"].as_str().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_and_one_that_has_not_answered_are_named() {
    let admin = Admin::start().await;
    let _cannot = Worker::play(&admin.nats, 1, Some(ErrorCode::BundleNotFound), false).await;
    let _silent = Worker::play(&admin.nats, 2, None, true).await;
    known(&admin, 2).await;
    let uploaded = admin.upload("t", "", pages("a.b", "1.0.0", &[])).await.ok();
    let request = json!({ "content_hash": uploaded["content_hash"], "wait_ms": 700 });
    let made = admin.ask("POST", "/v1/tenants/t/installs", Some(request)).await.ok();
    assert_eq!((&made["outcome"], &made["warm"]["complete"]), (&json!("created"), &json!(false)));
    let workers = made["warm"]["workers"].as_array().unwrap();
    assert_eq!((&workers[0]["state"], &workers[1]["state"]), (&json!("error"), &json!("compiling")));
    assert!(workers[0]["error"].as_str().unwrap().contains("why"));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_all_gateways_are_listed_and_stopped_and_a_silent_gateway_is_named() {
    let admin = Admin::start().await;
    let shim = BootId::from_bytes([7; 16]);
    let silent = BootId::from_bytes([8; 16]);
    let nats = admin.nats.client("shim").await;
    let mut questions = nats.client.subscribe(subject::CONTROL_SHIMS.to_owned()).await.unwrap();
    let client = nats.client.clone();
    let task = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(300));
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    for shim in [shim, silent] {
                        let announcement = ShimAnnouncement { v: 1, shim, version: "1".to_owned(), leaving: false };
                        let payload = wire::encode(&announcement).unwrap().into();
                        client.publish(subject::fleet_shim(shim), payload).await.unwrap();
                    }
                }
                Some(message) = questions.next() => {
                    let call = CallStatus {
                        execution: ExecutionId::from_bytes([3; 16]), tenant: "t".parse().unwrap(), extension: "e".parse().unwrap(),
                        pool: PoolName::default(), request_id: Some("r".to_owned()), method: "GET".to_owned(), state: CallState::Running,
                        age_ms: 5, left_ms: 9, attempts: 1, worker: None,
                    };
                    let other = CallStatus { tenant: "other".parse().unwrap(), ..call.clone() };
                    let answer = match wire::decode(&message.payload).unwrap() {
                        // Another tenant's call that nobody asked for.
                        ToShims::Calls { .. } => wire::encode(&ShimCalls { v: 1, shim, calls: vec![call, other], more: 2 }),
                        ToShims::Cancel(filter) => {
                            assert_eq!(filter.tenant.unwrap().as_str(), "t");
                            wire::encode(&ShimCancelled { v: 1, shim, waiting: 1, running: 2 })
                        }
                    };
                    client.publish(message.reply.unwrap(), answer.unwrap().into()).await.unwrap();
                }
            }
        }
    });
    until("the gateways are known", async || {
        admin.get("/v1/pools").await.ok()["shims"].as_array().unwrap().len() == 2
    })
    .await;
    let calls = admin.get("/v1/calls?tenant=t").await.ok();
    assert_eq!(calls["calls"].as_array().unwrap().len(), 1, "{calls}");
    assert_eq!(
        (&calls["calls"][0]["state"], &calls["more"], &calls["shims"]),
        (&json!("running"), &json!(2), &json!(1))
    );
    assert_eq!(calls["silent_shims"], json!([silent.to_string()]));
    let stopped = admin.ask("POST", "/v1/calls/cancel", Some(json!({ "tenant": "t" }))).await.ok();
    assert_eq!((&stopped["waiting"], &stopped["running"]), (&json!(1), &json!(2)));
    assert_eq!(admin.audit().await, ["calls.cancelled"]);
    task.abort();
}
