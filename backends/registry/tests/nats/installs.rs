//! What the admin service writes.

use longshore_proto::install::Install;
use longshore_registry::{InstallsError, Outcome, Registry};
use longshore_tests::nats::Nats;

use crate::support::{extension, found, hash, install, reader, tenant, until_found, writer};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_install_twice_is_written_once() {
    let server = Nats::start().await;
    let installs = writer(&server).await;
    let made = installs.create_or_update(install("t", "hello", 1)).await.unwrap();
    assert_eq!((made.outcome, made.before), (Outcome::Created, None));
    let again = installs.create_or_update(install("t", "hello", 1)).await.unwrap();
    assert_eq!((again.outcome, again.revision), (Outcome::Unchanged, made.revision));
    assert_eq!(installs.get(&tenant("t"), &extension("ext-hello")).await.unwrap(), *made.install);
    let listed = installs.list(Some(&tenant("t")), None, 10).unwrap();
    assert_eq!(listed.installs, [made.install], "a list after a write has it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_version_is_valid_and_can_be_put_back_in_force() {
    let server = Nats::start().await;
    let installs = writer(&server).await;
    let registry = reader(&server).await;
    for byte in [1, 2] {
        installs.create_or_update(install("t", "hello", byte)).await.unwrap();
    }
    until_found(&registry, "t", "hello", Some(hash(2))).await;
    let valid =
        async |byte| registry.validate(&tenant("t"), &extension("ext-hello"), hash(byte)).await.unwrap();
    assert!(valid(1).await && valid(2).await && !valid(3).await);
    let back = installs.rollback(&tenant("t"), &extension("ext-hello"), None).await.unwrap();
    assert_eq!(back.install.version.content_hash, hash(1));
    assert_eq!(back.before.unwrap().version.content_hash, hash(2));
    until_found(&registry, "t", "hello", Some(hash(1))).await;
    let error = installs.rollback(&tenant("t"), &extension("ext-hello"), Some(hash(9))).await.unwrap_err();
    assert!(matches!(error, InstallsError::NoSuchVersion), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_taken_back_leaves_no_version_to_roll_back_to() {
    let server = Nats::start().await;
    let installs = writer(&server).await;
    let (t, hello) = (tenant("t"), extension("ext-hello"));
    installs.create_or_update(install("t", "hello", 1)).await.unwrap();
    let second = installs.create_or_update(install("t", "hello", 2)).await.unwrap();
    let third = installs.create_or_update(install("t", "hello", 3)).await.unwrap();
    installs.undo(&third).await.unwrap();
    assert_eq!(installs.get(&t, &hello).await.unwrap(), *second.install);
    let back = installs.rollback(&t, &hello, None).await.unwrap();
    assert_eq!(back.install.version.content_hash, hash(1));
    installs.undo(&back).await.unwrap();
    assert_eq!(installs.get(&t, &hello).await.unwrap(), *second.install, "a rollback too");

    let error = installs.undo(&third).await.unwrap_err();
    assert!(matches!(error, InstallsError::Conflict), "changed since: {error}");
    let made = installs.create_or_update(install("t", "new", 1)).await.unwrap();
    installs.undo(&made).await.unwrap();
    let error = installs.get(&t, &extension("ext-new")).await.unwrap_err();
    assert!(matches!(error, InstallsError::NotFound { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_change_an_install_at_once_neither_undoes_the_other() {
    let server = Nats::start().await;
    let (one, two) = (writer(&server).await, writer(&server).await);
    one.create_or_update(install("t", "hello", 1)).await.unwrap();
    let set = async |installs: &longshore_registry::Installs, key: &str| {
        let key = key.to_owned();
        let edit = move |install: &mut Install| {
            install.config.insert(key.clone(), "set".to_owned());
            Ok(())
        };
        installs.update(&tenant("t"), &extension("ext-hello"), edit).await
    };
    for round in 0..10 {
        let (a, b) = (format!("a{round}"), format!("b{round}"));
        let (first, second) = tokio::join!(set(&one, &a), set(&two, &b));
        first.unwrap();
        second.unwrap();
    }
    let install = one.get(&tenant("t"), &extension("ext-hello")).await.unwrap();
    assert_eq!(install.config.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_install_can_be_made_again_and_one_that_is_not_there_cannot_be_removed() {
    let server = Nats::start().await;
    let installs = writer(&server).await;
    let (of, what) = (tenant("t"), extension("ext-hello"));
    assert!(matches!(installs.remove(&of, &what).await, Err(InstallsError::NotFound { .. })));
    assert!(matches!(installs.set_enabled(&of, &what, true).await, Err(InstallsError::NotFound { .. })));
    for _ in 0..2 {
        let made = installs.create_or_update(install("t", "hello", 1)).await.unwrap();
        assert_eq!(made.outcome, Outcome::Created, "nothing of the one before is left");
        let removed = installs.remove(&of, &what).await.unwrap().unwrap();
        assert_eq!(removed, *made.install);
        assert!(matches!(installs.get(&of, &what).await, Err(InstallsError::NotFound { .. })));
        assert_eq!(installs.find(&of, "hello").unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_another_install_is_refused_until_it_is_free() {
    let server = Nats::start().await;
    let installs = writer(&server).await;
    let registry = reader(&server).await;
    let with_host =
        |of: &str, name: &str| Install { hosts: vec!["App.Example".to_owned()], ..install(of, name, 1) };
    installs.create_or_update(with_host("t", "one")).await.unwrap();
    let error = installs.create_or_update(with_host("u", "two")).await.unwrap_err();
    assert!(matches!(&error, InstallsError::HostTaken(host) if host == "app.example"), "{error}");
    assert!(!error.to_string().contains("ext-one"), "whose it is is not said: {error}");
    installs.create_or_update(with_host("t", "one")).await.unwrap();
    installs.remove(&tenant("t"), &extension("ext-one")).await.unwrap();
    installs.create_or_update(with_host("u", "two")).await.unwrap();
    until_found(&registry, "u", "two", Some(hash(1))).await;
    assert_eq!(registry.by_host("app.example").await.unwrap().unwrap().tenant, tenant("u"));
    assert_eq!(registry.by_host("other.example").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_purge_removes_all_of_its_installs_and_no_others() {
    let server = Nats::start().await;
    let installs = writer(&server).await;
    for name in ["a", "b", "c"] {
        installs.create_or_update(install("t", name, 1)).await.unwrap();
        installs.create_or_update(install("t.x", name, 1)).await.unwrap();
    }
    let removed = installs.remove_tenant(&tenant("t")).await.unwrap();
    assert_eq!(removed.len(), 3);
    assert!(installs.list(Some(&tenant("t")), None, 10).unwrap().installs.is_empty());
    assert_eq!(installs.list(None, None, 10).unwrap().installs.len(), 3);
    assert!(installs.remove_tenant(&tenant("t")).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_all_tenants_comes_in_parts_without_gap_or_repetition() {
    let server = Nats::start().await;
    let installs = writer(&server).await;
    for of in ["a", "b", "c"] {
        for name in ["x", "y", "z"] {
            installs.create_or_update(install(of, name, 1)).await.unwrap();
        }
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = installs.list(None, after.as_ref(), 2).unwrap();
        seen.extend(page.installs.iter().map(|i| format!("{}/{}", i.tenant, i.extension)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<String> =
        ["a", "b", "c"].iter().flat_map(|t| ["x", "y", "z"].map(|n| format!("{t}/ext-{n}"))).collect();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_while_nats_is_away() {
    let mut server = Nats::start().await;
    let installs = writer(&server).await;
    installs.create_or_update(install("t", "hello", 1)).await.unwrap();
    server.kill();
    longshore_tests::wait::until(
        "the loss to be seen",
        longshore_tests::wait::LIMIT,
        async || match installs.create_or_update(install("t", "hello", 2)).await {
            Err(InstallsError::Nats(error)) if error.to_string().contains("not connected") => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
    server.start_again().await;
    let registry = reader(&server).await;
    assert_eq!(found(&registry, "t", "hello").await, Some(hash(1)));
}
