//! Settings with versions, and who may do what to which stream.

use std::time::{Duration, Instant};

use longshore_registry::{audit_settings, installs_settings, ui_hints_settings};
use longshore_service::nats::buckets::{
    BucketEvent, BucketWatch, EnsureError, Ensured, Rights, Settings, VERSION_KEY, ensure,
};
use longshore_tests::nats::Nats;

use crate::support::{connect, operator};

const NAME: &str = "longshore-ui-hints";

#[tokio::test(flavor = "multi_thread")]
async fn only_a_newer_build_that_may_updates_a_bucket() {
    let server = Nats::start().await;
    let control = async_nats::jetstream::new(connect(&server, "control").await.0);
    let settings = |version, bytes| Settings::bucket(NAME, version).max_message_bytes(bytes);
    let now = async || {
        let config = control.get_stream(format!("KV_{NAME}")).await.unwrap().cached_info().config.clone();
        (config.max_message_size, config.metadata.get(VERSION_KEY).cloned().unwrap_or_default())
    };
    let with =
        async |version, bytes, rights| ensure(&control, &settings(version, bytes), rights).await.unwrap();
    assert_eq!(with(2, 1_000, Rights::CreateOnly).await, Ensured::Created);
    assert_eq!(with(2, 1_000, Rights::MayUpdate).await, Ensured::Current);
    assert_eq!(with(1, 50, Rights::MayUpdate).await, Ensured::Newer { version: 2 });
    assert_eq!(now().await, (1_000, "2".to_owned()), "an older build leaves it alone");
    assert_eq!(with(3, 2_000, Rights::CreateOnly).await, Ensured::Older { version: 2 });
    assert_eq!(with(3, 2_000, Rights::ReadOnly).await, Ensured::Older { version: 2 });
    assert_eq!(now().await, (1_000, "2".to_owned()), "it may not");
    assert_eq!(with(3, 2_000, Rights::MayUpdate).await, Ensured::Updated { from: 2 });
    assert_eq!(now().await, (2_000, "3".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_a_build_without_versions_is_updated_and_keeps_its_values() {
    let server = Nats::start().await;
    let js = operator(&server).await;
    let old = async_nats::jetstream::kv::Config { bucket: NAME.to_owned(), history: 5, ..Default::default() };
    let store = js.create_key_value(old).await.unwrap();
    store.put("k", "value".into()).await.unwrap();
    let control = async_nats::jetstream::new(connect(&server, "control").await.0);
    let ensured = ensure(&control, &ui_hints_settings(1), Rights::MayUpdate).await.unwrap();
    assert_eq!(ensured, Ensured::Updated { from: 0 });
    assert_eq!(&store.get("k").await.unwrap().unwrap()[..], b"value");
    assert_eq!(ensure(&control, &ui_hints_settings(1), Rights::MayUpdate).await.unwrap(), Ensured::Current);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_works_otherwise_is_said_to_those_who_may_not_change_it() {
    let server = Nats::start().await;
    let shim = async_nats::jetstream::new(connect(&server, "shim").await.0);
    let error = ensure(&shim, &installs_settings(1), Rights::ReadOnly).await.unwrap_err();
    assert!(error.is_absent() && error.to_string().contains("admin service"), "{error}");
    let js = operator(&server).await;
    let mut other = ui_hints_settings(1).config().clone();
    other.max_messages_per_subject = 3;
    other.metadata.clear();
    js.create_stream(other).await.unwrap();
    let error = ensure(&shim, &ui_hints_settings(1), Rights::CreateOnly).await.unwrap_err();
    assert!(matches!(error, EnsureError::Other { field: "max_msgs_per_subject", .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_looked_for_twice_a_second_and_not_more_often() {
    let server = Nats::start().await;
    let (client, link) = connect(&server, "shim").await;
    let mut watch = BucketWatch::new(client, link, NAME);
    while !matches!(watch.next().await.unwrap(), BucketEvent::Absent(_)) {}
    // Only the lower bound is asserted: on a busy machine it takes longer, and never less. A loop without the pause took a core of the
    // shim and one of nats-server, and everything else starved.
    let begun = Instant::now();
    for _ in 0..2 {
        assert!(matches!(watch.next().await.unwrap(), BucketEvent::Absent(_)));
    }
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_make_a_bucket_at_once_both_have_it() {
    let server = Nats::start().await;
    let one = async_nats::jetstream::new(connect(&server, "shim").await.0);
    let two = async_nats::jetstream::new(connect(&server, "shim").await.0);
    let (ours, newer) = (Settings::bucket(NAME, 1), Settings::bucket(NAME, 2));
    let (first, second) =
        tokio::join!(ensure(&one, &ours, Rights::CreateOnly), ensure(&two, &newer, Rights::CreateOnly));
    let outcomes = [first.unwrap(), second.unwrap()];
    assert!(outcomes.contains(&Ensured::Created), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_service_can_make_all_of_them() {
    let server = Nats::start().await;
    let control = async_nats::jetstream::new(connect(&server, "control").await.0);
    for settings in [installs_settings(1), ui_hints_settings(1), audit_settings(1)] {
        let made = ensure(&control, &settings, Rights::MayUpdate).await.unwrap();
        assert_eq!(made, Ensured::Created, "{}", settings.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_gateway_nor_a_worker_writes_installs_or_makes_their_bucket() {
    let server = Nats::start().await;
    for (user, subjects) in [
        (
            "shim",
            [
                "$KV.longshore-installs.t.e",
                "$JS.API.STREAM.CREATE.KV_longshore-installs",
                "audit.install.created",
            ],
        ),
        (
            "worker",
            [
                "$KV.longshore-installs.t.e",
                "$JS.API.CONSUMER.CREATE.KV_longshore-installs",
                "audit.install.created",
            ],
        ),
    ] {
        for subject in subjects {
            let client = server.client(user).await;
            client.client.publish(subject, "{}".into()).await.unwrap();
            let refused = client.event("permissions violation for publish").await;
            assert!(refused.contains(subject), "{user}: {refused}");
        }
    }
}
