//! What the platform's answers become (interop 6.3).

mod support;

use longshore_storage::{PutEntry, StorageCase, StorageError, TTL_MIN};
use longshore_stub_platform::Fault;
use support::{Install, OnPlatform};

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_answer_becomes_the_case_of_the_guest_interface() {
    let backend = OnPlatform::start().await;
    let install = Install::new(&backend.storage);
    let body = r#"{"error":"words of the platform","code":"X"}"#.to_owned();
    let status = |status| Fault::Status(status, body.clone());
    for (fault, case) in [
        (status(400), StorageCase::Internal),
        (status(401), StorageCase::Denied),
        (status(403), StorageCase::Denied),
        (status(404), StorageCase::Missing),
        (status(409), StorageCase::Conflict),
        (status(429), StorageCase::Denied),
        (status(500), StorageCase::Internal),
        (status(501), StorageCase::Internal),
        (Fault::Malformed, StorageCase::Internal),
        (Fault::Empty, StorageCase::Internal),
        (Fault::DropConnection, StorageCase::Internal),
        (Fault::Redirect(format!("{}/elsewhere", backend.stub.base_url())), StorageCase::Internal),
    ] {
        for operation in ["get", "put", "delete", "list"] {
            backend.stub.fail_next("storage", operation, fault.clone());
            let result = match operation {
                "get" => install.get("n", "k").await.map(|_| ()),
                "put" => install.put("n", "k", "v", None).await.map(|_| ()),
                "delete" => install.delete("n", "k").await,
                _ => install.list("n", None).await.map(|_| ()),
            };
            assert_eq!(result.unwrap_err().wit_case(), case, "{operation}: {fault:?}");
        }
    }
    assert!(backend.stub.requests().iter().all(|request| !request.path.contains("elsewhere")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_platform_cannot_take_is_not_sent() {
    let backend = OnPlatform::start().await;
    let install = Install::new(&backend.storage);
    let error = install.put("n", "k", vec![0; 49_150], None).await.unwrap_err();
    assert_eq!(error.to_string(), "the value has 49150 bytes, 49149 are allowed");
    let entry = PutEntry {
        namespace: "n".to_owned(),
        key: "k".to_owned(),
        value: "v".into(),
        revision: None,
        ttl: Some(TTL_MIN),
    };
    let error = install.put_entry(&entry).await.unwrap_err();
    assert_eq!(error.to_string(), "this storage cannot give an entry a time to live");
    for (namespace, key) in [("", "k"), ("n", ""), ("n", "../k"), ("n\n", "k")] {
        assert!(matches!(install.get(namespace, key).await, Err(StorageError::Invalid(_))));
    }
    for id in ["", "i".repeat(257).as_str()] {
        assert!(install.named(id).get("n", "k").await.is_err());
    }
    assert_eq!(backend.stub.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_install_id_stays_one_segment_of_the_address() {
    let backend = OnPlatform::start().await;
    let install = Install::new(&backend.storage);
    for id in ["../../other", "a/b", "a?b=c", "a#b", "a%2fb", "a b", "é", "a\r\nx: y"] {
        // Refused before it is sent, or escaped: never another address.
        let _ = install.named(id).put("n", "k", "v", None).await;
    }
    for request in backend.stub.requests() {
        let rest = request.path.strip_prefix("/api/internal/ext-storage/install/").unwrap();
        assert!(!rest.contains('/') && !rest.contains('?'), "{}", request.path);
    }
}
