//! What a worker hears.

use async_nats::HeaderMap;
use longshore_registry::INSTALLS;
use longshore_tests::nats::Nats;
use longshore_tests::wait;

use crate::support::{change, connect, extension, follower, hash, install, operator, tenant, writer};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_hears_of_an_install_that_is_made_changed_disabled_and_removed() {
    let server = Nats::start().await;
    let installs = writer(&server).await;
    let (one, _) = follower(&server).await;
    let (two, _) = follower(&server).await;
    let (mut of_one, mut of_two) = (one.changes(), two.changes());
    let (of, what) = (tenant("t"), extension("ext-hello"));
    installs.create_or_update(install("t", "hello", 1)).await.unwrap();
    installs.create_or_update(install("t", "hello", 2)).await.unwrap();
    installs.set_enabled(&of, &what, false).await.unwrap();
    for changes in [&mut of_one, &mut of_two] {
        // A state that is over at once may not be seen; the last one is.
        while !change(changes, "t", "hello").await.stops_calls() {}
    }
    installs.remove(&of, &what).await.unwrap();
    for changes in [&mut of_one, &mut of_two] {
        while change(changes, "t", "hello").await.now.is_some() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_server_refuses_changes_nothing_for_a_worker() {
    let server = Nats::start().await;
    let installs = writer(&server).await;
    let stored = installs.create_or_update(install("t", "hello", 1)).await.unwrap();
    let (follower, _) = follower(&server).await;
    let mut changes = follower.changes();
    // Over a revision that is not the last: the worker hears the bytes, and the record stays as it is.
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Subject-Sequence", (stored.revision + 100).to_string());
    let mut forged = install("t", "hello", 9);
    forged.enabled = false;
    let payload = serde_json::to_vec(&forged).unwrap();
    let (control, _) = connect(&server, "control").await;
    control
        .publish_with_headers(format!("$KV.{INSTALLS}.t.ext-hello"), headers, payload.into())
        .await
        .unwrap();
    control.flush().await.unwrap();
    installs.create_or_update(install("t", "hello", 2)).await.unwrap();
    let heard = change(&mut changes, "t", "hello").await.now.unwrap();
    assert_eq!((heard.enabled, heard.version.content_hash), (true, hash(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_writes_by_hand_is_heard_too() {
    let server = Nats::start().await;
    let _installs = writer(&server).await;
    let (follower, _) = follower(&server).await;
    let mut changes = follower.changes();
    let store = operator(&server).await.get_key_value(INSTALLS).await.unwrap();
    let record = serde_json::to_vec(&install("t", "hello", 3)).unwrap();
    store.put("t.ext-hello", record.into()).await.unwrap();
    while change(&mut changes, "t", "hello").await.now.map(|i| i.version.content_hash) != Some(hash(3)) {}
    store.delete("t.ext-hello").await.unwrap();
    while change(&mut changes, "t", "hello").await.now.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reconnect_a_worker_looks_again_at_what_it_asks_about() {
    let mut server = Nats::start().await;
    let installs = writer(&server).await;
    installs.create_or_update(install("t", "held", 1)).await.unwrap();
    installs.create_or_update(install("t", "gone", 1)).await.unwrap();
    installs.remove(&tenant("t"), &extension("ext-gone")).await.unwrap();
    let (follower, held) = follower(&server).await;
    held.lock().push((tenant("t"), extension("ext-held")));
    held.lock().push((tenant("t"), extension("ext-gone")));
    let mut changes = follower.changes();
    server.kill();
    server.start_again().await;
    assert_eq!(change(&mut changes, "t", "held").await.now.unwrap().version.content_hash, hash(1));
    // What was removed has left a mark and is told. What never was an install is not: calls of `/v1/execute` need none and must not be stopped.
    let mut asked = follower.changes();
    follower.recheck(["ext-never", "ext-gone"].map(|id| (tenant("t"), extension(id)))).await;
    let told = wait::within("a change", wait::LIMIT, asked.recv()).await.unwrap();
    assert_eq!((told.extension, told.now), (extension("ext-gone"), None));
}
