use std::collections::{BTreeMap, BTreeSet};

use longshore_platform::{Caller, PAGE, Page, Platform, PlatformError, StorageFault};
use longshore_stub_platform::{Fault, Seed};
use serde_json::{Value, json};

use super::{CALLER, start, start_with};

fn seed(namespace: &str, records: impl IntoIterator<Item = (String, Value)>) -> Seed {
    let storage = BTreeMap::from([(namespace.to_owned(), records.into_iter().collect())]);
    Seed { storage, ..Seed::default() }
}

/// Every page, as a guest walks them: with the last key of the page before.
async fn walk(platform: &Platform, namespace: &str) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    loop {
        let cursor = pages.last().and_then(|p| p.items.last()).map(|r| r.key.clone());
        let page = platform.storage_list(&CALLER, namespace, cursor.as_deref()).await.unwrap();
        if let Some(next) = &page.next_cursor {
            assert_eq!(next, &page.items.last().unwrap().key);
        }
        let last = page.next_cursor.is_none();
        pages.push(page);
        if last {
            return pages;
        }
    }
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_written() {
    let (_stub, platform) = start().await;
    for (key, value) in
        [("empty", &b""[..]), ("text", b"hello"), ("base64", b"aGVsbG8="), ("bytes", b"\0\xff\x80\n")]
    {
        assert_eq!(platform.storage_put(&CALLER, "ns", key, value, None).await.unwrap(), Some(1));
        let read = platform.storage_get(&CALLER, "ns", key).await.unwrap();
        assert_eq!((read.namespace.as_str(), read.key.as_str(), read.revision), ("ns", key, Some(1)));
        assert_eq!(read.value, value);
    }
    let largest = vec![0xa5; longshore_platform::MAX_VALUE_BYTES];
    platform.storage_put(&CALLER, "ns", "largest", &largest, None).await.unwrap();
    assert_eq!(platform.storage_get(&CALLER, "ns", "largest").await.unwrap().value, largest);
}

#[tokio::test]
async fn what_the_platforms_pages_wrote_is_read_unchanged() {
    let records = [
        ("word", json!("test")),
        ("base64", json!("aGVsbG8=")),
        ("json", json!({ "a": [1, "b"] })),
        ("n", json!(7)),
    ];
    let (_stub, platform) = start_with(seed("ui", records.map(|(k, v)| (k.to_owned(), v)))).await;
    for (key, expected) in
        [("word", "test"), ("base64", "aGVsbG8="), ("json", r#"{"a":[1,"b"]}"#), ("n", "7")]
    {
        assert_eq!(platform.storage_get(&CALLER, "ui", key).await.unwrap().value, expected.as_bytes());
    }
}

#[tokio::test]
async fn a_write_over_another_revision_is_a_conflict() {
    let (_stub, platform) = start().await;
    let put = |value: &'static [u8], revision| {
        let platform = platform.clone();
        async move { platform.storage_put(&CALLER, "ns", "k", value, revision).await }
    };
    // Nothing is stored yet.
    assert!(matches!(put(b"0", Some(1)).await, Err(PlatformError::Conflict(_))));
    assert_eq!(put(b"1", None).await.unwrap(), Some(1));
    assert_eq!(put(b"2", Some(1)).await.unwrap(), Some(2));
    let error = put(b"3", Some(1)).await.unwrap_err();
    assert_eq!(StorageFault::from(&error), StorageFault::Conflict);
    assert_eq!(error.problem().unwrap().code.as_deref(), Some("REVISION_MISMATCH"));
    assert_eq!(platform.storage_get(&CALLER, "ns", "k").await.unwrap().value, b"2");
}

#[tokio::test]
async fn a_revision_that_the_platforms_numbers_cannot_hold_is_a_conflict_and_not_rounded() {
    let (stub, platform) = start().await;
    let result = platform.storage_put(&CALLER, "ns", "k", b"", Some(u64::MAX)).await;
    assert!(matches!(result, Err(PlatformError::Conflict(_))));
    assert!(stub.requests().is_empty());
}

#[tokio::test]
async fn deleting_what_is_not_there_is_missing_and_no_conflict() {
    let (_stub, platform) = start().await;
    platform.storage_put(&CALLER, "ns", "k", b"v", None).await.unwrap();
    platform.storage_delete(&CALLER, "ns", "k").await.unwrap();
    let error = platform.storage_delete(&CALLER, "ns", "k").await.unwrap_err();
    assert_eq!(StorageFault::from(&error), StorageFault::Missing);
    let error = platform.storage_get(&CALLER, "ns", "k").await.unwrap_err();
    assert_eq!(StorageFault::from(&error), StorageFault::Missing);
}

#[tokio::test]
async fn every_record_is_on_exactly_one_page() {
    for count in [0, 1, 99, 100, 101, 199, 200, 201, 202, 250, 1000] {
        let records = (0..count).map(|n| (format!("key {n:05} é\"\\"), json!(format!("value {n}"))));
        let (stub, platform) = start_with(seed("many", records)).await;
        let pages = walk(&platform, "many").await;
        let keys: Vec<&str> = pages.iter().flat_map(|p| &p.items).map(|r| r.key.as_str()).collect();
        assert_eq!(keys.len(), count, "of {count}");
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), count, "of {count}");
        assert!(keys.is_sorted());
        assert!(pages.iter().rev().skip(1).all(|p| p.items.len() == PAGE), "of {count}");
        // A page is one request, wherever it is.
        assert_eq!(stub.requests().len(), pages.len());
        assert_eq!(pages.len(), count.div_ceil(PAGE).max(1), "of {count}");
    }
}

#[tokio::test]
async fn a_walk_goes_on_when_the_cursors_record_has_been_deleted() {
    let records = (0..150).map(|n| (format!("k{n:03}"), json!(n)));
    let (_stub, platform) = start_with(seed("ns", records)).await;
    let first = platform.storage_list(&CALLER, "ns", None).await.unwrap();
    let cursor = first.next_cursor.unwrap();
    assert_eq!(cursor, "k099");
    platform.storage_delete(&CALLER, "ns", &cursor).await.unwrap();
    let second = platform.storage_list(&CALLER, "ns", Some(&cursor)).await.unwrap();
    assert_eq!((second.items.len(), second.items[0].key.as_str(), second.next_cursor), (50, "k100", None));
}

#[tokio::test]
async fn an_empty_cursor_is_none() {
    let (_stub, platform) = start_with(seed("ns", [("k".to_owned(), json!(1))])).await;
    assert_eq!(platform.storage_list(&CALLER, "ns", Some("")).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_platform_whose_cursors_are_of_another_kind_is_found_out() {
    let (stub, platform) = start().await;
    let record =
        |key: &str| json!({ "namespace": "ns", "key": key, "revision": 1, "value": "v", "metadata": {} });
    for answer in [
        // It hands out others than we make.
        json!({ "items": [record("x")], "nextCursor": "b2Zmc2V0OjEwMA" }),
        // It has begun again, or begins with the named record.
        json!({ "items": [record("a"), record("k")], "nextCursor": null }),
    ] {
        stub.fail_next("storage", "list", Fault::Status(200, answer.to_string()));
        let result = platform.storage_list(&CALLER, "ns", Some("k")).await;
        assert!(matches!(result, Err(PlatformError::Malformed(_))), "{answer}");
    }
    // It refuses ours.
    stub.fail_next("storage", "list", Fault::Status(400, r#"{"error": "cursor is invalid"}"#.to_owned()));
    assert!(matches!(
        platform.storage_list(&CALLER, "ns", Some("k")).await,
        Err(PlatformError::BadRequest(_))
    ));
    // The first page asks nothing of its cursors.
    let answer = json!({ "items": [record("x")], "nextCursor": "b2Zmc2V0OjEwMA" });
    stub.fail_next("storage", "list", Fault::Status(200, answer.to_string()));
    assert_eq!(platform.storage_list(&CALLER, "ns", None).await.unwrap().next_cursor.as_deref(), Some("x"));
}

#[tokio::test]
async fn a_page_of_the_largest_records_is_within_the_answers_limit() {
    let (_stub, platform) = start().await;
    let value = vec![0xff; longshore_platform::MAX_VALUE_BYTES];
    for n in 0..PAGE {
        platform
            .storage_put(&CALLER, "large", &format!("{n:03}{}", "k".repeat(253)), &value, None)
            .await
            .unwrap();
    }
    let page = platform.storage_list(&CALLER, "large", None).await.unwrap();
    assert!(page.items.len() == PAGE && page.items.iter().all(|r| r.value == value));
}

#[tokio::test]
async fn crafted_names_and_oversized_values_are_refused_and_nothing_is_sent() {
    let (stub, platform) = start().await;
    let long = "k".repeat(257);
    for (namespace, key) in
        [("", "k"), ("ns", ""), ("ns", "a/b"), ("ns", "../../x"), ("ns", &long), ("n\0", "k"), (&long, "k")]
    {
        let get = platform.storage_get(&CALLER, namespace, key).await.map(drop);
        let put = platform.storage_put(&CALLER, namespace, key, b"", None).await.map(drop);
        let delete = platform.storage_delete(&CALLER, namespace, key).await;
        for result in [get, put, delete] {
            assert!(matches!(result, Err(PlatformError::Invalid { .. })), "{namespace:?} {key:?}");
        }
    }
    assert!(platform.storage_list(&CALLER, "", None).await.is_err());
    assert!(platform.storage_list(&CALLER, "ns", Some("a/b")).await.is_err());
    let over = vec![0; longshore_platform::MAX_VALUE_BYTES + 1];
    assert!(platform.storage_put(&CALLER, "ns", "k", &over, None).await.is_err());
    assert!(stub.requests().is_empty());
}

#[tokio::test]
async fn a_crafted_install_id_is_refused_or_stays_one_segment() {
    let (stub, platform) = start().await;
    let long = "x".repeat(129);
    for install in
        ["", &long, ".", "..", "../../ext-clients/install/x", "%2e%2e", "x/..", "x\r\nhost: evil", "x\0"]
    {
        let error = platform.storage_get(&Caller { install, request_id: None }, "ns", "k").await.unwrap_err();
        assert!(matches!(error, PlatformError::InstallId(_)), "{install:?}");
        assert_eq!(StorageFault::from(&error), StorageFault::Denied);
    }
    assert!(stub.requests().is_empty());
    for (install, path) in [("a/b", "a%2Fb"), ("a?b=c#d", "a%3Fb%3Dc%23d"), ("a b", "a%20b"), ("ä", "%C3%A4")]
    {
        let caller = Caller { install, request_id: None };
        platform.storage_put(&caller, "ns", "k", install.as_bytes(), None).await.unwrap();
        assert_eq!(stub.requests().last().unwrap().path, format!("/api/internal/ext-storage/install/{path}"));
        assert_eq!(platform.storage_get(&caller, "ns", "k").await.unwrap().value, install.as_bytes());
    }
}

#[tokio::test]
async fn an_install_sees_its_own_records_only() {
    let (_stub, platform) = start().await;
    platform.storage_put(&CALLER, "ns", "k", b"mine", None).await.unwrap();
    let other = Caller { install: "another", request_id: None };
    assert!(matches!(platform.storage_get(&other, "ns", "k").await, Err(PlatformError::NotFound(_))));
}

#[tokio::test]
async fn the_33rd_namespace_is_over_the_quota_which_is_denied() {
    let (_stub, platform) = start().await;
    for n in 0..32 {
        platform.storage_put(&CALLER, &format!("ns{n}"), "k", b"v", None).await.unwrap();
    }
    let error = platform.storage_put(&CALLER, "one more", "k", b"v", None).await.unwrap_err();
    assert_eq!(StorageFault::from(&error), StorageFault::Denied);
    assert_eq!(error.problem().unwrap().code.as_deref(), Some("QUOTA_EXCEEDED"));
    platform.storage_delete(&CALLER, "ns0", "k").await.unwrap();
    platform.storage_put(&CALLER, "one more", "k", b"v", None).await.unwrap();
}
