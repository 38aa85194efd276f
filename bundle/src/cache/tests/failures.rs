//! What fails, how long it is remembered, and what is said about it.

use std::io::Write;
use std::time::Duration;

use futures::future::join_all;
use longshore_proto::ErrorCode;

use super::super::Memory;
use super::*;
use crate::{BundleError, chain};

const FORGET: Memory = Memory {
    right: Duration::from_secs(600),
    right_on_trust: Duration::ZERO,
    right_patience: Duration::from_secs(1),
    not_found: Duration::ZERO,
    unreachable: Duration::ZERO,
    refused: Duration::ZERO,
    unsigned: Duration::ZERO,
};

#[tokio::test]
async fn fifty_gets_at_once_fetch_once() {
    let bench = Bench::new();
    let key = bench.uploaded("t", "wasm");
    let cache = bench.cache().await;
    bench.store.close_gate();
    let gets = join_all((0..50).map(|_| cache.get(&key)));
    let (results, ()) = tokio::join!(gets, async {
        bench.store.until_opens(1).await;
        bench.store.let_through();
    });
    assert!(results.iter().all(Result::is_ok));
    assert_eq!((bench.store.opens(), bench.store.asked()), (1, 0), "the open is the proof of the right");
    assert_eq!((bench.unfinished(), bench.locks()), (0, 0));
}

#[tokio::test]
async fn two_processes_that_share_a_folder_fetch_once() {
    let bench = Bench::new();
    let key = bench.uploaded("t", "wasm");
    let (one, two) = (bench.cache().await, bench.cache().await);
    bench.store.close_gate();
    let (a, b, ()) = tokio::join!(one.get(&key), two.get(&key), async {
        bench.store.until_opens(1).await;
        bench.store.let_through();
    });
    assert_eq!(a.unwrap().root(), b.unwrap().root());
    assert_eq!(bench.store.opens(), 1);
}

#[tokio::test]
async fn a_fetch_outlives_the_caller_that_started_it() {
    let bench = Bench::new();
    let key = bench.uploaded("t", "wasm");
    let cache = bench.cache().await;
    bench.store.close_gate();
    tokio::select! {
        biased;
        _ = cache.get(&key) => panic!("the gate is closed"),
        () = bench.store.until_opens(1) => {}
    }
    bench.store.let_through();
    cache.get(&key).await.unwrap();
    assert_eq!(bench.store.opens(), 1);
}

#[tokio::test]
async fn wrong_bytes_are_refused_with_both_hashes_and_leave_nothing() {
    let bench = Bench::new();
    let (key, _) = bundle("t", "wasm");
    let (_, other) = bundle("t", "other");
    bench.store.upload(&key, other.clone());
    let cache = bench.cache().await;
    let error = cache.get(&key).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ArchiveHashMismatch);
    let text = error.to_string();
    assert!(text.contains(&key.hash.hex()) && text.contains(&content_hash(&other).hex()), "{text}");
    assert!(!bench.dir.path().join("cache").join(key.hash.hex()).exists());
    assert_eq!(bench.unfinished(), 0);
}

#[tokio::test]
async fn not_found_is_remembered_briefly_and_then_the_upload_is_seen() {
    let bench = Bench::new();
    let (key, archive) = bundle("t", "wasm");
    let cache = bench.cache().await;
    assert_eq!(cache.get(&key).await.unwrap_err().code(), ErrorCode::BundleNotFound);
    bench.store.upload(&key, archive);
    assert_eq!(cache.get(&key).await.unwrap_err().code(), ErrorCode::BundleNotFound);
    assert_eq!((bench.store.opens(), cache.stats().snapshot().remembered_failures), (1, 1));

    let forgetful = bench.cache_with(CacheConfig { memory: FORGET, ..bench.config() }).await;
    forgetful.get(&key).await.unwrap();
}

#[tokio::test]
async fn a_failure_keeps_its_cause_chain_for_everyone_who_waited() {
    let bench = Bench::new();
    let (key, _) = bundle("t", "wasm");
    bench.store.set_away(true);
    let cache = bench.cache().await;
    for error in join_all((0..3).map(|_| cache.get(&key))).await.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.code(), ErrorCode::BundleStoreUnreachable);
        let chain = chain(&*error);
        let expected = format!(
            "the bundle store did not deliver fake://{key}: the store is unreachable: connection refused"
        );
        assert_eq!(chain, expected);
    }
    assert_eq!(bench.store.opens(), 1);
}

#[tokio::test]
async fn a_refused_archive_leaves_nothing_and_is_remembered() {
    let bench = Bench::new();
    let archive = b"no zstd at all".to_vec();
    let key = key("t", &archive);
    bench.store.upload(&key, archive);
    let cache = bench.cache().await;
    for _ in 0..2 {
        assert_eq!(cache.get(&key).await.unwrap_err().code(), ErrorCode::ArchiveRefused);
    }
    assert_eq!((bench.store.opens(), bench.unfinished()), (1, 0));
    assert!(!bench.dir.path().join("cache").join(key.hash.hex()).exists());
}

#[tokio::test]
async fn an_archive_over_the_limit_is_refused_before_it_is_read() {
    let bench = Bench::new();
    let key = bench.uploaded("t", "wasm");
    let mut config = bench.config();
    config.limits.archive_bytes = 10;
    let cache = bench.cache_with(config).await;
    assert_eq!(cache.get(&key).await.unwrap_err().code(), ErrorCode::ArchiveRefused);
    assert_eq!(cache.stats().snapshot().fetched_bytes, 0);
}

#[tokio::test]
async fn a_download_that_breaks_off_starts_again_once() {
    let bench = Bench::new();
    let key = bench.uploaded("t", "wasm");
    let cache = bench.cache_with(CacheConfig { memory: FORGET, ..bench.config() }).await;
    *bench.store.bodies.lock() = vec![Body::Breaks, Body::Breaks];
    let error = cache.get(&key).await.unwrap_err();
    assert!(chain(&*error).contains("the download broke off: connection reset"), "{}", chain(&*error));
    assert_eq!(bench.store.opens(), 2);
    *bench.store.bodies.lock() = vec![Body::Breaks];
    cache.get(&key).await.unwrap();
    assert_eq!(bench.store.opens(), 4);
}

#[tokio::test]
async fn a_download_that_stands_still_ends() {
    let bench = Bench::new();
    let key = bench.uploaded("t", "wasm");
    let config = CacheConfig { idle_timeout: Duration::from_millis(20), ..bench.config() };
    let cache = bench.cache_with(config).await;
    *bench.store.bodies.lock() = vec![Body::Hangs, Body::Hangs];
    let error = cache.get(&key).await.unwrap_err();
    assert!(chain(&*error).contains("the download stood still"));
    assert!(matches!(&*error, BundleError::StoreUnreachable { .. }));
}

#[tokio::test]
async fn a_fetch_as_a_whole_has_a_limit() {
    let bench = Bench::new();
    let key = bench.uploaded("t", "wasm");
    bench.store.close_gate();
    let config = CacheConfig { fetch_timeout: Duration::from_millis(20), ..bench.config() };
    let cache = bench.cache_with(config).await;
    assert_eq!(cache.get(&key).await.unwrap_err().code(), ErrorCode::BundleStoreUnreachable);
    assert_eq!((bench.unfinished(), bench.locks()), (0, 0));
}

#[tokio::test]
async fn a_tenant_with_slow_bundles_leaves_room_for_others() {
    let bench = Bench::new();
    let slow: Vec<_> = (0..20).map(|n| bench.uploaded("slow", &format!("wasm{n}"))).collect();
    let quick = bench.uploaded("quick", "wasm");
    let cache = bench.cache().await;
    bench.store.close_gate();
    let waiting = join_all(slow.iter().map(|key| cache.get(key)));
    let others = async {
        bench.store.until_opens(4).await;
        let get = cache.get(&quick);
        let (result, ()) = tokio::join!(get, async {
            bench.store.until_opens(5).await;
            bench.store.let_through();
        });
        result
    };
    let (slow, quick) = tokio::join!(waiting, others);
    assert!(quick.is_ok() && slow.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_failed_fetch_is_one_log_line_with_cause_url_key_and_hashes() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let bench = Bench::new();
    let cache = bench.cache().await;
    let (missing, _) = bundle("t", "missing");
    cache.get(&missing).await.unwrap_err();
    cache.get(&missing).await.unwrap_err();
    let (wrong, _) = bundle("t", "wrong");
    bench.store.upload(&wrong, Bytes::from_static(b"x"));
    cache.get(&wrong).await.unwrap_err();
    bench.store.set_away(true);
    let (away, _) = bundle("t", "away");
    cache.get(&away).await.unwrap_err();

    let text = String::from_utf8(log.0.lock().clone()).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("bundle fetch failed")).collect();
    assert_eq!(lines.len(), 3, "{text}");
    for (line, cause, key) in [
        (lines[0], "cause=\"not_found\"", &missing),
        (lines[1], "cause=\"HASH_MISMATCH\"", &wrong),
        (lines[2], "cause=\"store_unreachable\"", &away),
    ] {
        let (url, expected) = (format!("fake://{key}"), format!("expected={}", key.hash));
        for part in [cause, &url, &format!("key={key}"), &expected] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
    assert!(lines[1].contains(&format!("computed=\"{}\"", content_hash(b"x"))), "{}", lines[1]);
}
