//! What a gateway sees.

use async_nats::jetstream::kv;
use longshore_registry::{INSTALLS, Registry, RegistryError, install_key};
use longshore_service::lifecycle::Tasks;
use longshore_service::metrics::Metrics;
use longshore_service::readiness::Readiness;
use longshore_tests::nats::Nats;
use longshore_tests::wait;

use crate::support::{
    change, connect, extension, found, hash, install, operator, reader, tenant, until_found, watching, writer,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_before_the_admin_service_becomes_ready_when_that_has_made_the_bucket() {
    let server = Nats::start().await;
    let (client, link) = connect(&server, "shim").await;
    let readiness = Readiness::new();
    let condition = readiness.condition("registry");
    let registry = longshore_registry::NatsRegistry::start(
        client,
        link,
        &Tasks::new(),
        &Metrics::new("test"),
        Some(condition),
    );
    let why = wait::until("a reason", wait::LIMIT, async || {
        let missing = readiness.missing();
        let why = missing.first().map(|(_, why)| why.clone()).unwrap_or_default();
        if why.contains("there is no bucket longshore-installs yet") { Ok(why) } else { Err(why) }
    })
    .await;
    assert!(why.contains("admin service"), "{why}");
    let error = registry.find(&tenant("t"), "x").await.unwrap_err();
    assert!(matches!(error, RegistryError::NotKept(_)), "{error:?}");
    assert!(matches!(registry.by_host("h").await, Err(RegistryError::NotKept(_))));
    let writer = writer(&server).await;
    wait::within("a registry that is ready", wait::LIMIT, registry.ready()).await;
    wait::within("readiness", wait::LIMIT, readiness.ready()).await;
    assert_eq!(found(&registry, "t", "hello").await, None);
    writer.create_or_update(install("t", "hello", 1)).await.unwrap();
    until_found(&registry, "t", "hello", Some(hash(1))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_hear_of_every_change_and_find_it_at_once() {
    let server = Nats::start().await;
    let writer = writer(&server).await;
    let (one, two) = (reader(&server).await, reader(&server).await);
    let (mut of_one, mut of_two) = (one.changes(), two.changes());
    writer.create_or_update(install("t", "hello", 1)).await.unwrap();
    for (registry, changes) in [(&one, &mut of_one), (&two, &mut of_two)] {
        let made = change(changes, "t", "hello").await;
        assert!(!made.stops_calls());
        assert_eq!(
            found(registry, "t", "alga.hello").await,
            Some(hash(1)),
            "it is in force before it is told"
        );
    }
    writer.set_enabled(&tenant("t"), &extension("ext-hello"), false).await.unwrap();
    for changes in [&mut of_one, &mut of_two] {
        assert!(change(changes, "t", "hello").await.stops_calls());
    }
    writer.remove(&tenant("t"), &extension("ext-hello")).await.unwrap();
    for (registry, changes) in [(&one, &mut of_one), (&two, &mut of_two)] {
        assert_eq!(change(changes, "t", "hello").await.now, None);
        assert_eq!(found(registry, "t", "hello").await, None);
        assert!(!registry.validate(&tenant("t"), &extension("ext-hello"), hash(1)).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_stays_in_force_while_nats_is_away_and_is_read_anew_afterwards() {
    let mut server = Nats::start().await;
    let installs = writer(&server).await;
    let registry = reader(&server).await;
    for name in ["stays", "goes", "changes"] {
        installs.create_or_update(install("t", name, 1)).await.unwrap();
        until_found(&registry, "t", name, Some(hash(1))).await;
    }
    let mut changes = registry.changes();
    server.kill();
    for name in ["stays", "goes", "changes"] {
        assert_eq!(found(&registry, "t", name).await, Some(hash(1)), "{name}");
    }
    server.start_again().await;
    installs_again(&server).await;
    until_found(&registry, "t", "changes", Some(hash(2))).await;
    until_found(&registry, "t", "goes", None).await;
    assert_eq!(found(&registry, "t", "stays").await, Some(hash(1)));
    assert_eq!(change(&mut changes, "t", "goes").await.now, None);
}

/// Changes that are made as soon as the server is back, by another admin service.
async fn installs_again(server: &Nats) {
    let installs = writer(server).await;
    installs.create_or_update(install("t", "changes", 2)).await.unwrap();
    installs.remove(&tenant("t"), &extension("ext-goes")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_was_removed_and_made_again_is_read_as_it_is() {
    let server = Nats::start().await;
    let installs = writer(&server).await;
    let registry = reader(&server).await;
    for name in ["one", "two"] {
        installs.create_or_update(install("t", name, 1)).await.unwrap();
        until_found(&registry, "t", name, Some(hash(1))).await;
    }
    let js = operator(&server).await;
    js.delete_stream(format!("KV_{INSTALLS}")).await.unwrap();
    // The same key and the same revision as before, and another value.
    let again = writer(&server).await;
    again.create_or_update(install("t", "one", 7)).await.unwrap();
    until_found(&registry, "t", "one", Some(hash(7))).await;
    until_found(&registry, "t", "two", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_skipped_and_everything_else_is_found() {
    let server = Nats::start().await;
    let installs = writer(&server).await;
    installs.create_or_update(install("t", "good", 1)).await.unwrap();
    installs.create_or_update(install("t", "bad", 1)).await.unwrap();
    let js = operator(&server).await;
    let store: kv::Store = js.get_key_value(INSTALLS).await.unwrap();
    let registry = reader(&server).await;
    let key = install_key(&tenant("t"), &extension("ext-bad"));
    // Half a record; another tenant's record; keys that are none.
    store.put(&key, "{\"tenant\":".into()).await.unwrap();
    let foreign = serde_json::to_vec(&install("u", "x", 1)).unwrap();
    store.put("t.ext-x", foreign.into()).await.unwrap();
    store.put("stray", "{}".into()).await.unwrap();
    store.put("a.b.c", "{}".into()).await.unwrap();
    let error = wait::until("the damage to be seen", wait::LIMIT, async || {
        registry.find(&tenant("t"), "bad").await.err().ok_or("found")
    })
    .await;
    assert!(matches!(error, RegistryError::Damaged(_)), "{error:?}");
    wait::until("the other damage to be seen", wait::LIMIT, async || {
        registry.find(&tenant("t"), "ext-x").await.err().ok_or("absent")
    })
    .await;
    assert_eq!(found(&registry, "t", "good").await, Some(hash(1)));
    assert_eq!(found(&registry, "u", "x").await, None);
    // One that starts now sees the same.
    let late = watching(&server, "shim").await;
    wait::within("a registry that is ready", wait::LIMIT, late.ready()).await;
    assert_eq!(found(&late, "t", "good").await, Some(hash(1)));
    assert!(late.find(&tenant("t"), "ext-bad").await.is_err());
    // Installing again heals.
    installs.create_or_update(install("t", "bad", 2)).await.unwrap();
    wait::until("the healed install", wait::LIMIT, async || match registry.find(&tenant("t"), "bad").await {
        Ok(longshore_registry::Lookup::Found(install)) if install.version.content_hash == hash(2) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_hands_out_the_install_and_no_copy() {
    let server = Nats::start().await;
    let installs = writer(&server).await;
    let registry = reader(&server).await;
    for number in 0..10 {
        installs.create_or_update(install("t", &format!("e{number}"), 1)).await.unwrap();
    }
    until_found(&registry, "t", "e9", Some(hash(1))).await;
    let get = async || match registry.find(&tenant("t"), "ALGA.e7").await.unwrap() {
        longshore_registry::Lookup::Found(install) => install,
        longshore_registry::Lookup::Absent => panic!("absent"),
    };
    assert!(std::sync::Arc::ptr_eq(&get().await, &get().await));
}
