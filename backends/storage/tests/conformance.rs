//! What every backend must do, run on each of them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

mod support;

use support::Install;

/// Runs each test of [`suite`] on both backends.
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {
        mod jetstream {
            use super::support::{Install, JetStream};
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let backend = JetStream::start().await;
                super::suite::$test(Install::new(&backend.storage)).await;
            })+
        }
        mod platform {
            use super::support::{Install, OnPlatform};
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let backend = OnPlatform::start().await;
                super::suite::$test(Install::new(&backend.storage)).await;
            })+
        }
    };
}

on_both! {
    an_entry_is_written_read_replaced_and_removed,
    any_bytes_come_back_as_they_were,
    what_is_not_there_is_missing,
    a_removed_entry_can_be_made_again,
    a_stale_revision_is_a_conflict_and_changes_nothing,
    one_of_many_with_the_same_revision_wins,
    writes_without_a_revision_all_succeed_whoever_else_writes,
    a_list_goes_on_after_the_last_key_of_its_page,
    a_list_has_its_own_namespace_only,
    no_name_reaches_into_another_place,
    what_breaks_a_rule_is_refused,
    the_thirty_third_namespace_is_refused_until_one_is_empty,
}

mod suite {
    use std::collections::BTreeSet;

    use futures::future::join_all;
    use longshore_storage::{StorageCase, StorageError};

    use super::Install;

    fn case<T: std::fmt::Debug>(result: Result<T, StorageError>) -> StorageCase {
        result.unwrap_err().wit_case()
    }

    pub async fn an_entry_is_written_read_replaced_and_removed(install: Install<'_>) {
        install.storage.prepare().await.unwrap();
        let first = install.put("settings", "colour", "red", None).await.unwrap();
        assert_eq!((first.namespace.as_str(), first.key.as_str()), ("settings", "colour"));
        assert_eq!(first.value, "red");
        assert_eq!(install.get("settings", "colour").await.unwrap(), first);
        let second = install.put("settings", "colour", "a longer value", None).await.unwrap();
        assert!(second.revision > first.revision);
        assert_eq!(install.get("settings", "colour").await.unwrap(), second);
        assert_eq!(install.list("settings", None).await.unwrap(), [second]);
        install.delete("settings", "colour").await.unwrap();
        assert_eq!(case(install.get("settings", "colour").await), StorageCase::Missing);
        assert_eq!(install.list("settings", None).await.unwrap(), []);
    }

    pub async fn any_bytes_come_back_as_they_were(install: Install<'_>) {
        let every: Vec<u8> = (0..=255).collect();
        for value in [
            &b""[..],
            b"test",
            b"dGVzdA==",
            b"\0",
            b"null",
            b"{\"_bytes_b64\":\"AAAA\"}",
            "\u{feff}é\u{1f980}".as_bytes(),
            &every,
            &vec![0xff; 49_149],
        ] {
            install.put("n", "k", value.to_vec(), None).await.unwrap();
            assert_eq!(install.value("n", "k").await, value);
            let listed = install.list("n", None).await.unwrap();
            assert_eq!(listed.iter().map(|entry| &entry.value[..]).collect::<Vec<_>>(), [value]);
        }
    }

    pub async fn what_is_not_there_is_missing(install: Install<'_>) {
        assert_eq!(case(install.get("n", "k").await), StorageCase::Missing);
        assert_eq!(case(install.delete("n", "k").await), StorageCase::Missing);
        assert_eq!(install.list("n", None).await.unwrap(), []);
        assert_eq!(install.list("n", Some("k")).await.unwrap(), []);
        install.put("n", "other", "v", None).await.unwrap();
        assert_eq!(case(install.get("n", "k").await), StorageCase::Missing);
        assert_eq!(case(install.delete("n", "k").await), StorageCase::Missing);
        install.delete("n", "other").await.unwrap();
        assert_eq!(case(install.delete("n", "other").await), StorageCase::Missing);
    }

    pub async fn a_removed_entry_can_be_made_again(install: Install<'_>) {
        for round in 0..5 {
            install.put("n", "k", format!("{round}"), None).await.unwrap();
            assert_eq!(install.value("n", "k").await, format!("{round}"));
            install.delete("n", "k").await.unwrap();
            assert_eq!(install.keys("n").await, [""; 0]);
        }
    }

    pub async fn a_stale_revision_is_a_conflict_and_changes_nothing(install: Install<'_>) {
        for revision in [1, 7, u64::MAX] {
            assert_eq!(case(install.put("n", "k", "v", Some(revision)).await), StorageCase::Conflict);
        }
        assert_eq!(case(install.get("n", "k").await), StorageCase::Missing);
        let first = install.put("n", "k", "first", None).await.unwrap().revision.unwrap();
        let second = install.put("n", "k", "second", Some(first)).await.unwrap().revision.unwrap();
        assert_ne!(first, second);
        for stale in [0, first, second + 1, u64::MAX] {
            assert_eq!(
                case(install.put("n", "k", "third", Some(stale)).await),
                StorageCase::Conflict,
                "{stale}"
            );
        }
        assert_eq!(install.value("n", "k").await, "second");
        install.delete("n", "k").await.unwrap();
        assert_eq!(case(install.put("n", "k", "third", Some(second)).await), StorageCase::Conflict);
        assert_eq!(case(install.get("n", "k").await), StorageCase::Missing);
    }

    pub async fn one_of_many_with_the_same_revision_wins(install: Install<'_>) {
        let mut revision = install.put("n", "k", "start", None).await.unwrap().revision;
        for round in 0..3 {
            // Of different lengths, so that some change what the install has and some do not.
            let put = async |number: usize| {
                install
                    .put("n", "k", format!("{round}-{number}-{}", "x".repeat(number * 100)), revision)
                    .await
            };
            let results = join_all((0..12).map(put)).await;
            let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
            assert_eq!((won.len(), lost.len()), (1, 11));
            assert!(lost.into_iter().all(|lost| case(lost) == StorageCase::Conflict));
            let winner = won.into_iter().next().unwrap().unwrap();
            assert_eq!(install.get("n", "k").await.unwrap(), winner);
            revision = winner.revision;
        }
    }

    pub async fn writes_without_a_revision_all_succeed_whoever_else_writes(install: Install<'_>) {
        let put = async |number: usize| {
            let key = format!("k{}", number % 5);
            install.put("n", &key, "x".repeat(number * 100), None).await.unwrap().revision
        };
        let revisions = join_all((0..25).map(put)).await;
        assert!(revisions.iter().all(Option::is_some));
        assert_eq!(install.keys("n").await, ["k0", "k1", "k2", "k3", "k4"]);
    }

    pub async fn a_list_goes_on_after_the_last_key_of_its_page(install: Install<'_>) {
        let keys: Vec<String> = (0..250).map(|number| format!("key-{number:03}")).collect();
        join_all(keys.iter().map(async |key| install.put("n", key, key.clone(), None).await.unwrap())).await;
        let (mut seen, mut pages, mut cursor) = (Vec::new(), Vec::new(), None::<String>);
        loop {
            let page = install.list("n", cursor.as_deref()).await.unwrap();
            pages.push(page.len());
            assert!(page.iter().all(|entry| entry.namespace == "n" && entry.value == entry.key));
            seen.extend(page.into_iter().map(|entry| entry.key));
            if pages.last().is_none_or(|entries| *entries < 100) {
                break;
            }
            cursor = seen.last().cloned();
        }
        assert_eq!(pages, [100, 100, 50]);
        assert_eq!(seen, keys);
        // An empty cursor is none; one that is no key any more, or never was one, is a place all the same.
        assert_eq!(install.list("n", Some("")).await.unwrap().first().unwrap().key, "key-000");
        install.delete("n", "key-099").await.unwrap();
        install.delete("n", "key-101").await.unwrap();
        for cursor in ["key-099", "key-0999"] {
            let page = install.list("n", Some(cursor)).await.unwrap();
            assert_eq!(page.len(), 100);
            assert_eq!([&page[0].key, &page[1].key], ["key-100", "key-102"]);
        }
        assert_eq!(install.list("n", Some("key-249")).await.unwrap(), []);
    }

    pub async fn a_list_has_its_own_namespace_only(install: Install<'_>) {
        for (namespace, key) in [("a", "1"), ("a", "2"), ("ab", "3"), ("a.b", "4"), ("A", "5"), ("a ", "6")] {
            install.put(namespace, key, "v", None).await.unwrap();
        }
        assert_eq!(install.keys("a").await, ["1", "2"]);
        for (namespace, key) in [("ab", "3"), ("a.b", "4"), ("A", "5"), ("a ", "6")] {
            assert_eq!(install.keys(namespace).await, [key], "{namespace}");
        }
        for pattern in ["*", ">", "a*", "a.>", "a.*", "%", "_", "a%", ".*"] {
            assert_eq!(install.keys(pattern).await, [""; 0], "{pattern}");
        }
    }

    pub async fn no_name_reaches_into_another_place(install: Install<'_>) {
        let namespaces = ["a", "a.b", "a/b", "..", "*", ">", "=YQ", "$KV.longshore-storage.v"];
        let keys =
            ["b", "a.b", ".", "..", "*", ">", " ", "=YQ", "YQ", "%2e%2e", "é", "\u{1f980}", "日本", "a\\b"];
        let installs = ["install-1", "install-2", "tenant-1.install-1", "*", "a b", "install-1.a"];
        let places = || {
            let pairs =
                |id| namespaces.iter().flat_map(move |namespace| keys.map(|key| (id, *namespace, key)));
            installs.into_iter().flat_map(pairs)
        };
        let text = |place: &(&str, &str, &str)| format!("{place:?}");
        for id in installs {
            let places = places().filter(|place| place.0 == id);
            join_all(places.map(async |place| {
                install.named(id).put(place.1, place.2, text(&place), None).await.unwrap();
            }))
            .await;
        }
        for place in places() {
            let (id, namespace, key) = place;
            assert_eq!(install.named(id).value(namespace, key).await, text(&place));
        }
        for id in installs {
            for namespace in namespaces {
                let listed = install.named(id).list(namespace, None).await.unwrap();
                let listed: BTreeSet<_> = listed.iter().map(|entry| entry.value.clone()).collect();
                let wanted = keys.map(|key| text(&(id, namespace, key)).into()).into_iter().collect();
                assert_eq!(listed, wanted);
            }
        }
        // What one removes is there for the others.
        install.named("install-1").delete("a", "*").await.unwrap();
        for place in places().filter(|place| *place != ("install-1", "a", "*")) {
            install.named(place.0).get(place.1, place.2).await.unwrap();
        }
    }

    pub async fn what_breaks_a_rule_is_refused(install: Install<'_>) {
        let (long_namespace, long_key) = ("n".repeat(129), "k".repeat(257));
        for (namespace, key) in [
            ("", "k"),
            (&long_namespace, "k"),
            ("n\0", "k"),
            ("n\r\nHost: x", "k"),
            ("n", ""),
            ("n", &long_key),
            ("n", "a/b"),
            ("n", "/"),
            ("n", "\u{1b}[0m"),
        ] {
            assert_eq!(
                case(install.get(namespace, key).await),
                StorageCase::Internal,
                "{namespace:?} {key:?}"
            );
            assert_eq!(case(install.put(namespace, key, "v", None).await), StorageCase::Internal);
            assert_eq!(case(install.delete(namespace, key).await), StorageCase::Internal);
        }
        let error = install.put("n", "k", vec![0; 65_537], None).await.unwrap_err();
        assert_eq!(error.to_string(), "the value has 65537 bytes, 65536 are allowed");
        for id in ["", "  "] {
            let install = install.named(id);
            assert_eq!(case(install.get("n", "k").await), StorageCase::Denied);
            assert_eq!(case(install.put("n", "k", "v", None).await), StorageCase::Denied);
            assert_eq!(case(install.delete("n", "k").await), StorageCase::Denied);
            assert_eq!(case(install.list("n", None).await), StorageCase::Denied);
        }
        let longest = ("n".repeat(128), "k".repeat(256));
        install.put(&longest.0, &longest.1, "v", None).await.unwrap();
        assert_eq!(install.keys(&longest.0).await, [longest.1]);
    }

    pub async fn the_thirty_third_namespace_is_refused_until_one_is_empty(install: Install<'_>) {
        for number in 0..32 {
            install.put(&format!("n{number}"), "k", "v", None).await.unwrap();
        }
        assert_eq!(case(install.put("n32", "k", "v", None).await), StorageCase::Denied);
        install.put("n31", "k2", "v", None).await.unwrap();
        // Another install has its own.
        install.named("install-2").put("n32", "k", "v", None).await.unwrap();
        install.delete("n31", "k").await.unwrap();
        assert_eq!(case(install.put("n32", "k", "v", None).await), StorageCase::Denied);
        install.delete("n31", "k2").await.unwrap();
        install.put("n32", "k", "v", None).await.unwrap();
    }
}
