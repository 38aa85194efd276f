//! What only the bucket in NATS has: quotas under writers in several processes, records that are lost, a server that goes
//! away, rights.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use futures::FutureExt as _;
use futures::future::join_all;
use longshore_storage::{
    BucketSettings, JetStreamSettings, PutEntry, QuotaKind, Quotas, Storage, StorageCase, StorageError,
};
use longshore_tests::wait;
use support::{Install, JetStream};

const STREAM: &str = "KV_longshore-storage";
const RECORD: &str = "$KV.longshore-storage.u.tenant-1.install-1";

fn settings(quotas: Quotas) -> JetStreamSettings {
    JetStreamSettings { quotas, ..JetStreamSettings::default() }
}

const SMALL: Quotas = Quotas { namespaces: 2, keys: 10, bytes: 16 * 256 };

fn quota<T: std::fmt::Debug>(result: Result<T, StorageError>) -> (QuotaKind, u64, u64) {
    match result {
        Err(StorageError::Quota { what, limit, value }) => (what, limit, value),
        other => panic!("{other:?}"),
    }
}

/// All entries of the install in the bucket, as an operator counts them.
async fn subjects(backend: &JetStream) -> Vec<String> {
    use futures::TryStreamExt as _;
    let stream = backend.admin().await.get_stream(STREAM).await.unwrap();
    let list = stream.info_with_subjects("$KV.longshore-storage.v.>").await.unwrap();
    list.map_ok(|(subject, _)| subject).try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_quota_names_itself_and_its_numbers_and_comes_down_with_removals() {
    let backend = JetStream::with(settings(SMALL)).await;
    let install = Install::new(&backend.storage);
    for number in 0..10 {
        install.put("a", &format!("k{number}"), "v", None).await.unwrap();
    }
    let refused = install.put("a", "k10", "v", None).await;
    let text = "the write would make 11 keys in the namespace, the quota is 10";
    assert_eq!(refused.as_ref().unwrap_err().to_string(), text);
    assert_eq!(refused.unwrap_err().wit_case(), StorageCase::Denied);
    install.put("b", "k", "v", None).await.unwrap();
    assert_eq!(quota(install.put("c", "k", "v", None).await), (QuotaKind::Namespaces, 2, 3));
    // 11 blocks are taken; 1,280 bytes with the key's are 6.
    assert_eq!(
        quota(install.put("b", "k2", vec![0; 1_280], None).await),
        (QuotaKind::Bytes, 4_096, 17 * 256)
    );
    install.put("b", "k", vec![0; 1_279], None).await.unwrap();
    install.delete("a", "k0").await.unwrap();
    install.put("a", "k10", "v", None).await.unwrap();
    install.delete("b", "k").await.unwrap();
    install.put("c", "k", "v", None).await.unwrap();
    assert_eq!(install.keys("a").await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_in_several_processes_never_exceed_a_quota_together() {
    let backend = JetStream::with(settings(SMALL)).await;
    let others = join_all((0..3).map(|_| backend.another(settings(SMALL)))).await;
    let storages: Vec<&Arc<dyn Storage>> = others.iter().chain([&backend.storage]).collect();
    let put = async |number: usize| {
        let install = Install::new(storages[number % storages.len()]);
        install.put("a", &format!("k{number}"), "v", None).await
    };
    let results = join_all((0..40).map(put)).await;
    let (written, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((written.len(), refused.len()), (10, 30));
    for refused in refused {
        assert_eq!(quota(refused), (QuotaKind::Keys, 10, 11));
    }
    assert_eq!(subjects(&backend).await.len(), 10);
    // Removed by all at once, each is removed once, and everything fits again.
    let keys = Install::new(&backend.storage).keys("a").await;
    let delete = async |number: usize| {
        let install = Install::new(storages[number % storages.len()]);
        install.delete("a", &keys[number / storages.len()]).await
    };
    let removed = join_all((0..40).map(delete)).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(removed, 10);
    let results = join_all((40..50).map(put)).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_installs_write_at_once() {
    let backend = JetStream::start().await;
    let install = Install::new(&backend.storage);
    let ids: Vec<String> = (0..100).map(|number| format!("install-{number}")).collect();
    join_all(ids.iter().map(async |id| install.named(id).put("n", "k", id.clone(), None).await.unwrap()))
        .await;
    for id in &ids {
        assert_eq!(install.named(id).value("n", "k").await, *id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_unreadable_record_is_made_anew_from_the_entries() {
    let backend = JetStream::with(settings(SMALL)).await;
    let install = Install::new(&backend.storage);
    for number in 0..10 {
        install.put("a.b", &format!("k{number}"), "v", None).await.unwrap();
    }
    let admin = backend.admin().await;
    for lost in [true, false] {
        if lost {
            let stream = admin.get_stream(STREAM).await.unwrap();
            assert_eq!(stream.purge().filter(RECORD).await.unwrap().purged, 1);
        } else {
            admin.publish(RECORD, "no record".into()).await.unwrap().await.unwrap();
        }
        assert_eq!(quota(install.put("a.b", "k10", "v", None).await), (QuotaKind::Keys, 10, 11));
        install.delete("a.b", "k9").await.unwrap();
        install.put("a.b", "k9", "v", None).await.unwrap();
        assert_eq!(quota(install.put("a.b", "k10", "v", None).await), (QuotaKind::Keys, 10, 11));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_full_is_believed_for_an_hour_and_then_counted() {
    let backend = JetStream::with(settings(SMALL)).await;
    let install = Install::new(&backend.storage);
    install.put("a", "k", "v", None).await.unwrap();
    let admin = backend.admin().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let record = |counted: u64| {
        let namespaces = serde_json::json!({ "a": { "keys": 10, "bytes": 2_560 } });
        serde_json::json!({ "version": 1, "counted": counted, "namespaces": namespaces }).to_string()
    };
    admin.publish(RECORD, record(now - 3_000).into()).await.unwrap().await.unwrap();
    assert_eq!(quota(install.put("a", "k2", "v", None).await), (QuotaKind::Keys, 10, 11));
    admin.publish(RECORD, record(now - 4_000).into()).await.unwrap().await.unwrap();
    install.put("a", "k2", "v", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_dies_before_its_entry_is_counted_for_nothing_and_can_no_longer_write_it() {
    let backend = JetStream::with(settings(SMALL)).await;
    let install = Install::new(&backend.storage);
    install.put("a", "k", "v", None).await.unwrap();
    let admin = backend.admin().await;
    let record = serde_json::json!({
        "version": 1,
        "counted": u32::MAX,
        "open": { "namespace": "a", "key": "dead" },
        "namespaces": { "a": { "keys": 1, "bytes": 256 } },
    });
    let dead = admin.publish(RECORD, record.to_string().into()).await.unwrap().await.unwrap().sequence;
    for number in 0..9 {
        install.put("a", &format!("k{number}"), "v", None).await.unwrap();
    }
    assert_eq!(quota(install.put("a", "k9", "v", None).await), (QuotaKind::Keys, 10, 11));
    // It was not dead after all, only slow.
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Expected-Last-Subject-Sequence", dead.to_string());
    headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", RECORD);
    let entry = "$KV.longshore-storage.v.tenant-1.install-1.a.dead";
    let late = admin.publish_with_headers(entry, headers, "late".into()).await.unwrap().await;
    assert!(late.unwrap_err().to_string().contains("last sequence"));
    assert!(matches!(install.get("a", "dead").await, Err(StorageError::Missing)));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_cut_off_anywhere_leave_a_count_that_is_exact() {
    let quotas = Quotas { namespaces: 3, keys: 20, bytes: 1 << 20 };
    let backend = JetStream::with(settings(quotas)).await;
    let others = join_all((0..2).map(|_| backend.another(settings(quotas)))).await;
    let storages: Vec<&Arc<dyn Storage>> = others.iter().chain([&backend.storage]).collect();
    Install::new(&backend.storage).put("a", "k0", "v", None).await.unwrap();
    let writer = async |number: u64| {
        let install = Install::new(storages.iter().cycle().nth(number as usize).unwrap());
        for round in 0..40_u64 {
            // From before the first request until after the last.
            let cut = Duration::from_micros((number * 7_919 + round * 104_729) % 3_000);
            let key = format!("k{}", (number + round * 3) % 15);
            let work = async {
                if round % 3 == 2 {
                    let _ = install.delete("a", &key).await;
                } else {
                    let _ = install.put("a", &key, vec![0; (round as usize) * 50], None).await;
                }
            };
            let _ = tokio::time::timeout(cut, work).await;
        }
    };
    join_all((0..6).map(writer)).await;
    // Whoever comes next has the truth: what is there, and room for the rest.
    let install = Install::new(&backend.storage);
    let there = install.keys("a").await;
    for number in there.len()..20 {
        install.put("a", &format!("new-{number}"), "v", None).await.unwrap();
    }
    assert_eq!(quota(install.put("a", "one-more", "v", None).await), (QuotaKind::Keys, 20, 21));
    for key in install.keys("a").await {
        install.delete("a", &key).await.unwrap();
    }
    install.put("b", "k", vec![0; 65_000], None).await.unwrap();
    let record = backend.admin().await.get_stream(STREAM).await.unwrap();
    let record = record.get_last_raw_message_by_subject(RECORD).await.unwrap().payload;
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["namespaces"], serde_json::json!({}), "everything but the entry just written");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_of_those_who_want_to_make_an_entry_makes_it() {
    let backend = JetStream::start().await;
    let install = Install::new(&backend.storage);
    for _ in 0..3 {
        let put = async |number: usize| install.put("n", "k", format!("{number}"), Some(0)).await;
        let results = join_all((0..8).map(put)).await;
        let made: Vec<_> = results.iter().flatten().collect();
        assert_eq!(made.len(), 1);
        assert_eq!(install.get("n", "k").await.unwrap(), *made[0]);
        install.delete("n", "k").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_leaves_when_its_time_is_up_and_a_removed_one_leaves_no_mark() {
    let default_ttl = Some(Duration::from_secs(1));
    let backend = JetStream::with(JetStreamSettings { default_ttl, ..JetStreamSettings::default() }).await;
    let lasting = backend.another(JetStreamSettings::default()).await;
    let (install, lasting) = (Install::new(&backend.storage), Install::new(&lasting));
    let written = install.put("n", "mortal", "v", None).await.unwrap();
    lasting.put("n", "lasting", "v", None).await.unwrap();
    let entry = PutEntry {
        namespace: "n".to_owned(),
        key: "minute".to_owned(),
        value: "v".into(),
        revision: None,
        ttl: Some(Duration::from_secs(90)),
    };
    let minute = install.put_entry(&entry).await.unwrap();
    wait::until("the end of an entry", wait::LIMIT, async || match install.get("n", "mortal").await {
        Err(StorageError::Missing) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(install.keys("n").await, ["lasting", "minute"]);
    let stale = install.put("n", "mortal", "v", written.revision).await;
    assert_eq!(stale.unwrap_err().wit_case(), StorageCase::Conflict);
    let stream = backend.admin().await.get_stream(STREAM).await.unwrap();
    let stored = stream.get_raw_message(minute.revision.unwrap()).await.unwrap();
    assert_eq!(stored.headers.get("Nats-TTL").unwrap().as_str(), "90s");
    for key in ["lasting", "minute"] {
        lasting.delete("n", key).await.unwrap();
    }
    assert_eq!(install.keys("n").await, [""; 0]);
    wait::until("the end of the marks", wait::LIMIT, async || {
        let left = subjects(&backend).await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nats_is_away_operations_fail_at_once_and_then_all_is_as_before() {
    let mut backend = JetStream::start().await;
    let storage = backend.storage.clone();
    let install = Install::new(&storage);
    let written = install.put("n", "k", "v", None).await.unwrap();
    backend.nats.kill();
    backend.worker.event("disconnected").await;
    let unavailable = |error: StorageError| match error {
        StorageError::Unavailable(cause) => cause.to_string(),
        other => panic!("{other:?}"),
    };
    let error = install.put("n", "k", "late", None).await.unwrap_err();
    assert_eq!(error.wit_case(), StorageCase::Internal);
    assert_eq!(unavailable(error), "NATS is not connected");
    assert_eq!(unavailable(install.get("n", "k").await.unwrap_err()), "NATS is not connected");
    assert_eq!(unavailable(install.delete("n", "k").await.unwrap_err()), "NATS is not connected");
    assert_eq!(unavailable(install.list("n", None).await.unwrap_err()), "NATS is not connected");
    assert_eq!(unavailable(storage.prepare().await.unwrap_err()), "NATS is not connected");
    backend.nats.start_again().await;
    wait::until("the storage", wait::LIMIT, async || {
        install.get("n", "k").await.map_err(|error| error.to_string())
    })
    .await;
    // Nothing that failed has been kept and sent.
    assert_eq!(install.get("n", "k").await.unwrap(), written);
    install.put("n", "k", "again", written.revision).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_costs_an_operation_its_time_and_no_more() {
    let timeout = Duration::from_millis(300);
    let mut backend = JetStream::with(JetStreamSettings { timeout, ..JetStreamSettings::default() }).await;
    let storage = backend.storage.clone();
    let install = Install::new(&storage);
    let written = install.put("n", "k", "v", None).await.unwrap();
    backend.nats.pause();
    let failed = join_all([
        async { install.put("n", "k", "late", None).await.map(|_| ()) }.boxed(),
        async { install.get("n", "k").await.map(|_| ()) }.boxed(),
        async { install.list("n", None).await.map(|_| ()) }.boxed(),
        async { install.delete("n", "k").await }.boxed(),
    ])
    .await;
    for failed in failed {
        let Err(StorageError::Unavailable(cause)) = failed else { panic!("{failed:?}") };
        assert_eq!(cause.to_string(), "NATS has not answered within 300 ms");
    }
    backend.nats.resume();
    wait::until("the storage", wait::LIMIT, async || {
        install.get("n", "k").await.map_err(|error| error.to_string())
    })
    .await;
    // They were waiting for what to expect, so nothing of them was sent.
    assert_eq!(install.get("n", "k").await.unwrap(), written);
    install.put("n", "k", "again", written.revision).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_has_gone_is_made_again() {
    let backend = JetStream::start().await;
    let install = Install::new(&backend.storage);
    install.put("n", "k", "v", None).await.unwrap();
    backend.admin().await.delete_stream(STREAM).await.unwrap();
    let error = install.get("n", "k").await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error:?}");
    assert!(matches!(install.get("n", "k").await, Err(StorageError::Missing)));
    install.put("n", "k", "v", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_ours_is_refused_and_one_with_other_sizes_is_not() {
    let backend = JetStream::start().await;
    let admin = backend.admin().await;
    let strange = Config {
        name: STREAM.to_owned(),
        subjects: vec!["$KV.longshore-storage.>".to_owned()],
        max_messages_per_subject: 1,
        ..Config::default()
    };
    admin.create_stream(strange).await.unwrap();
    let error = backend.storage.prepare().await.unwrap_err();
    let StorageError::Unavailable(cause) = error else { panic!("{error:?}") };
    assert!(cause.to_string().contains("has another configuration"), "{cause}");
    admin.delete_stream(STREAM).await.unwrap();
    backend.storage.prepare().await.unwrap();
    let bucket = BucketSettings { max_bytes: Some(1 << 20), ..BucketSettings::default() };
    let other = backend.another(JetStreamSettings { bucket, ..JetStreamSettings::default() }).await;
    other.prepare().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_bucket_refuses_new_entries_and_keeps_the_old_ones() {
    let bucket = BucketSettings { max_bytes: Some(200_000), ..BucketSettings::default() };
    let backend = JetStream::with(JetStreamSettings { bucket, ..JetStreamSettings::default() }).await;
    let install = Install::new(&backend.storage);
    let put = async |key: &str| install.put("n", key, vec![0; 65_536], None).await;
    put("a").await.unwrap();
    put("b").await.unwrap();
    let mut refused = None;
    for key in ["c", "d"] {
        if let Err(error) = put(key).await {
            refused = Some(error);
        }
    }
    let error = refused.unwrap();
    assert_eq!(error.wit_case(), StorageCase::Internal, "{error:?}");
    for key in ["a", "b"] {
        assert_eq!(install.value("n", key).await.len(), 65_536);
    }
    install.delete("n", "a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_do_this_and_nothing_else_and_others_nothing() {
    let backend = JetStream::start().await;
    Install::new(&backend.storage).put("n", "k", "secret", None).await.unwrap();
    let stream = |verb: &str| format!("$JS.API.STREAM.{verb}.{STREAM}");
    let entry = "$KV.longshore-storage.v.tenant-1.install-1.n.k";
    let direct = [format!("$JS.API.DIRECT.GET.{STREAM}"), format!("$JS.API.DIRECT.GET.{STREAM}.{entry}")];
    let consumer = format!("$JS.API.CONSUMER.CREATE.{STREAM}.evil.{entry}");
    let forbidden = ["UPDATE", "DELETE", "PURGE", "SNAPSHOT", "RESTORE", "MSG.DELETE"].map(stream);
    let elsewhere =
        ["$JS.API.STREAM.CREATE.evil", "$KV.other.k", "$JS.API.STREAM.MSG.GET.KV_other"].map(str::to_owned);
    let worker =
        forbidden.iter().chain(&direct).chain([&consumer]).chain(&elsewhere).map(|to| ("worker", to.clone()));
    let reading = ["MSG.GET", "INFO", "CREATE"].map(stream);
    let reading: Vec<_> =
        reading.into_iter().chain(direct.clone()).chain([consumer.clone(), entry.to_owned()]).collect();
    let others =
        ["shim", "caller"].into_iter().flat_map(|user| reading.iter().map(move |to| (user, to.clone())));
    for (user, to) in worker.chain(others) {
        let client = backend.nats.client(user).await;
        client.client.publish(to.clone(), "{}".into()).await.unwrap();
        let refused = client.event("permissions violation for publish").await;
        assert!(refused.contains(&to), "{user} to {to}: {refused}");
    }
    for user in ["worker", "shim", "caller"] {
        let client = backend.nats.client(user).await;
        let _heard = client.client.subscribe("$KV.>").await.unwrap();
        client.event("permissions violation for subscription").await;
    }
    let install = Install::new(&backend.storage);
    assert_eq!(install.value("n", "k").await, "secret");
}
