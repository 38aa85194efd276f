//! NATS is part of the sandbox: who may send what (`deploy/nats.conf`).

use std::time::Duration;

use async_nats::Subscriber;
use bytes::Bytes;
use futures::StreamExt as _;
use longshore_proto::call::{Body, CallMessage, Run, RunContext, RunHttp};
use longshore_proto::frame::{Control, Question, Reply, WorkerFrame};
use longshore_proto::{
    BootId, CapabilitySet, ErrorCode, ExecutionId, Limits, PoolName, SendNo, ShimHeader, Token, subject, wire,
};
use longshore_tests::{Extension, Service, Stack, wait};

use super::load::{Load, runs};

const SETTINGS: [(&str, &str); 2] = [("LONGSHORE_GUEST_LOG", "stdout"), ("WORKER_SLOTS", "1")];

pub(super) fn call(extension: &Extension, url: &str) -> CallMessage {
    let run = Run {
        context: RunContext {
            request_id: Some("request-1".to_owned()),
            tenant: extension.tenant.parse().unwrap(),
            extension: extension.id.parse().unwrap(),
            install_id: None,
            version_id: None,
            content_hash: extension.hash,
            config: Default::default(),
            trigger: None,
        },
        http: RunHttp {
            method: "POST".to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            scheme: None,
            authority: None,
        },
        limits: Limits::default(),
        capabilities: CapabilitySet::default(),
        user: None,
        secret_envelope: None,
        egress: None,
        capture: Default::default(),
    };
    CallMessage::new(ExecutionId::random(), run, Body::None, 30_000)
}

pub(super) fn encoded<T: serde::Serialize>(message: &T) -> Bytes {
    wire::encode(message).unwrap().into()
}

pub(super) async fn next(inbox: &mut Subscriber) -> Reply {
    let message = wait::within("a reply", wait::LIMIT, inbox.next()).await.unwrap();
    wire::decode::<WorkerFrame>(&message.payload).unwrap().frame
}

/// The boot id of the only worker: its announcements name it.
async fn boot_id(stack: &Stack) -> BootId {
    let admin = stack.nats.client("admin").await;
    let mut fleet = admin.client.subscribe("fleet.default.*").await.unwrap();
    let message = wait::within("an announcement", wait::LIMIT, fleet.next()).await.unwrap();
    message.subject.rsplit('.').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_client_calls_without_a_shim_and_gets_exactly_one_reply() {
    let stack = Stack::start().await;
    let worker = stack.worker(&SETTINGS).await;
    let count = stack.install("tenant-1", "count");
    let caller = stack.nats.client("caller").await;
    let mut inbox = caller.client.subscribe("_R.caller.test").await.unwrap();
    let send = async |message: &CallMessage| {
        let to = subject::exec_any(&PoolName::default());
        caller.client.publish_with_reply(to, "_R.caller.test", encoded(message)).await.unwrap();
    };
    let first = call(&count, "/?id=first");
    send(&first).await;
    let Reply::Result { call: named, response } = next(&mut inbox).await else { panic!("no result") };
    assert_eq!((named.execution, response.status), (first.execution, 200));
    assert_eq!(response.body, Body::Inline(Bytes::from_static(b"first")));

    // Full: one reply that says so, and nothing runs.
    let blocker = call(&count, "/?id=blocker&ms=2000");
    send(&blocker).await;
    wait::until("the blocker", wait::LIMIT, async || {
        if runs([worker.lines()]).contains_key("blocker") { Ok(()) } else { Err("not yet") }
    })
    .await;
    let refused = call(&count, "/?id=refused");
    send(&refused).await;
    let Reply::Failed { call: named, error } = next(&mut inbox).await else { panic!("not refused") };
    assert_eq!((named.execution, error.code), (refused.execution, ErrorCode::Overloaded));
    let Reply::Result { call: named, .. } = next(&mut inbox).await else { panic!("no result") };
    assert_eq!(named.execution, blocker.execution);

    // A guest's failure is a reply too, and so is what cannot be read.
    let trap = stack.install("tenant-1", "trap");
    send(&call(&trap, "/")).await;
    let Reply::Failed { error, .. } = next(&mut inbox).await else { panic!("no failure") };
    assert_eq!(error.code, ErrorCode::Trap);
    let mut posing = call(&count, "/?id=posing");
    posing.shim = Some(ShimHeader { id: BootId::random(), inbox: "fleet.default.x".to_owned() });
    send(&posing).await;
    let Reply::Failed { error, .. } = next(&mut inbox).await else { panic!("no failure") };
    assert_eq!(error.code, ErrorCode::InvalidRequest);
    caller.client.publish_with_reply("exec.default", "_R.caller.test", "no message".into()).await.unwrap();
    assert!(matches!(next(&mut inbox).await, Reply::Failed { .. }));

    // A reply subject that is not the caller's own: nobody is answered and nothing runs.
    let to = subject::exec_any(&PoolName::default());
    caller
        .client
        .publish_with_reply(to, "fleet.default.evil", encoded(&call(&count, "/?id=elsewhere")))
        .await
        .unwrap();
    send(&call(&count, "/?id=last")).await;
    assert!(matches!(next(&mut inbox).await, Reply::Result { .. }));
    let more = tokio::time::timeout(Duration::from_millis(500), inbox.next()).await;
    assert!(more.is_err(), "more than one reply: {more:?}");
    let runs = runs([worker.lines()]);
    assert_eq!(runs.keys().collect::<Vec<_>>(), ["blocker", "first", "last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_user_without_the_right_can_run_nothing_and_hear_nobody() {
    let (stack, [worker], shim) = Stack::with_workers(&SETTINGS).await;
    let count = stack.install("tenant-1", "count");
    assert_eq!(shim.call(&count.get("/?id=warm")).await.text(), "warm");
    let (boot, pool) = (boot_id(&stack).await, PoolName::default());

    let strangers = [("caller", "wrong".to_owned()), ("nobody", stack.nats.password("caller").to_owned())];
    for (user, password) in strangers {
        let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), password);
        let error = options.connect(stack.nats.url()).await.unwrap_err().to_string();
        assert!(error.to_lowercase().contains("authorization"), "{error}");
    }
    assert!(async_nats::connect(stack.nats.url()).await.is_err(), "nobody may connect without a name");

    let message = encoded(&call(&count, "/?id=evil"));
    let question = Control::Question(Question {
        v: 1,
        shim: BootId::random(),
        number: 1,
        up_to: SendNo(u64::MAX),
        calls: Vec::new(),
    });
    let reply = subject::shim_inbox(BootId::random(), Token::random());
    let forbidden = [
        ("caller", subject::exec(&pool, boot), message.clone()),
        ("caller", subject::control(&pool, boot), encoded(&question)),
        ("caller", subject::fleet_worker(&pool, boot), message.clone()),
        ("caller", reply.clone(), message.clone()),
        (
            "caller",
            "$JS.API.STREAM.CREATE.evil".to_owned(),
            r#"{"name":"evil","subjects":["exec.>"]}"#.into(),
        ),
        // Tenants' entries (backends/storage) are for workers; and a worker must not have their bytes sent anywhere.
        ("caller", "$JS.API.STREAM.MSG.GET.KV_longshore-storage".to_owned(), "{}".into()),
        ("caller", "$KV.longshore-storage.v.tenant-1.install-1.n.k".to_owned(), message.clone()),
        ("shim", "$JS.API.STREAM.MSG.GET.KV_longshore-storage".to_owned(), "{}".into()),
        ("worker", "$JS.API.DIRECT.GET.KV_longshore-storage".to_owned(), "{}".into()),
        ("worker", "$JS.API.CONSUMER.CREATE.KV_longshore-storage".to_owned(), "{}".into()),
        ("worker", "$JS.API.STREAM.UPDATE.KV_longshore-storage".to_owned(), "{}".into()),
        ("worker", subject::exec(&pool, boot), message.clone()),
        ("worker", subject::exec_any(&pool), message.clone()),
        ("worker", subject::control(&pool, boot), encoded(&question)),
        ("shim", reply, message.clone()),
        ("shim", subject::FREE_ALL.replace('>', "default"), message.clone()),
    ];
    for (user, to, payload) in forbidden {
        let client = stack.nats.client(user).await;
        client.client.publish(to.clone(), payload).await.unwrap();
        let refused = client.event("permissions violation for publish").await;
        assert!(refused.contains(&to), "{user} to {to}: {refused}");
    }
    let deaf = [
        ("caller", "exec.>"),
        ("caller", "exec.default"),
        ("caller", "_R.>"),
        ("caller", "fleet.>"),
        ("worker", "_R.shim.>"),
        // Outside of the queue group a worker would read every call.
        ("worker", "exec.>"),
        ("worker", "exec.default"),
        ("shim", "exec.>"),
        ("shim", "_R.worker.>"),
    ];
    for (user, subject) in deaf {
        let client = stack.nats.client(user).await;
        let _heard = client.client.subscribe(subject).await.unwrap();
        client.event("permissions violation for subscription").await;
    }
    // None of it was heard by the worker, and it serves as before.
    assert_eq!(shim.call(&count.post("/?id=after")).await.text(), "after");
    assert_eq!(runs([worker.lines()]).keys().collect::<Vec<_>>(), ["after", "warm"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_the_wrong_password_says_so_and_is_never_ready() {
    let stack = Stack::start().await;
    for (program, user, settings) in [
        ("worker", "worker", stack.worker_settings(&[("NATS_PASSWORD", "wrong-password")])),
        ("gateway-shim", "shim", stack.shim_settings(&[("NATS_PASSWORD", "wrong-password")])),
    ] {
        let service = Service::start(program, program, &settings).await;
        let why = format!("NATS refuses user {user}");
        wait::until(&why, wait::LIMIT, async || {
            let reply = service.http().get("/readyz").await;
            let text = String::from_utf8_lossy(&reply.bytes).into_owned();
            if reply.transport == 503 && text.contains(&why) { Ok(()) } else { Err(text) }
        })
        .await;
        assert!(service.lines().with("wrong-password").is_empty(), "a secret is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_two_ways_in_share_slots_and_neither_is_starved() {
    let (stack, [_worker], shim) =
        Stack::with_workers(&[("LONGSHORE_GUEST_LOG", "stdout"), ("WORKER_SLOTS", "4")]).await;
    let [through, beside] = ["through", "beside"].map(|tenant| stack.install(tenant, "count"));
    assert_eq!(shim.call(&through.get("/?id=warm")).await.text(), "warm");
    let load = Load::start(
        shim.http(),
        (0..40).map(|n| through.post(format!("/?id=shim-{n}&ms=20")).timeout_ms(60_000)),
    );
    let caller = stack.nats.client("caller").await;
    let mut inbox = caller.client.subscribe("_R.caller.test").await.unwrap();
    let mut served = 0;
    for n in 0..10 {
        let message = encoded(&call(&beside, &format!("/?id=caller-{n}")));
        caller.client.publish_with_reply("exec.default", "_R.caller.test", message).await.unwrap();
        served += usize::from(matches!(next(&mut inbox).await, Reply::Result { .. }));
    }
    // One slot stays for tenants with nothing running there.
    assert_eq!(served, 10, "of ten calls beside a flood through the shim");
    assert!(
        load.all().await.iter().all(|outcome| outcome.as_ref().is_ok_and(|reply| reply.outcome() == "ok"))
    );
}
