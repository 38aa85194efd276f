//! A tenant gets a cached bundle only if its own key exists.

use std::time::Duration;

use longshore_proto::ErrorCode;

use super::super::Memory;
use super::*;

/// Rights run out at once, and nothing else is remembered.
fn asking(bench: &Bench) -> CacheConfig {
    let memory = Memory {
        right: Duration::ZERO,
        right_on_trust: Duration::ZERO,
        right_patience: Duration::from_millis(50),
        not_found: Duration::ZERO,
        unreachable: Duration::ZERO,
        refused: Duration::ZERO,
        unsigned: Duration::ZERO,
    };
    CacheConfig { memory, ..bench.config() }
}

#[tokio::test]
async fn a_tenant_without_its_own_key_does_not_get_what_another_has_cached() {
    let bench = Bench::new();
    let owner = bench.uploaded("a", "wasm");
    let (stranger, archive) = bundle("b", "wasm");
    assert_eq!(owner.hash, stranger.hash);
    let config =
        CacheConfig { memory: Memory { not_found: Duration::ZERO, ..Memory::default() }, ..bench.config() };
    let cache = bench.cache_with(config).await;
    let held = cache.get(&owner).await.unwrap();
    assert_eq!(cache.get(&stranger).await.unwrap_err().code(), ErrorCode::BundleNotFound);
    let other_extension = BundleKey { extension: "f".parse().unwrap(), ..owner.clone() };
    assert_eq!(cache.get(&other_extension).await.unwrap_err().code(), ErrorCode::BundleNotFound);
    cache.get(&owner).await.unwrap();

    bench.store.upload(&stranger, archive);
    assert!(Arc::ptr_eq(&held, &cache.get(&stranger).await.unwrap()));
    assert_eq!(bench.store.opens(), 1, "asked for, not fetched again");
}

#[tokio::test]
async fn a_right_is_asked_for_once_and_remembered() {
    let bench = Bench::new();
    let key = bench.uploaded("t", "wasm");
    bench.cache().await.get(&key).await.unwrap();
    let restarted = bench.cache().await;
    for _ in 0..10 {
        restarted.get(&key).await.unwrap();
    }
    assert_eq!((bench.store.opens(), bench.store.asked()), (1, 1));
    let stats = restarted.stats().snapshot();
    assert_eq!((stats.disk_hits, stats.hits, stats.fetches), (1, 9, 0));
}

#[tokio::test]
async fn a_remembered_right_holds_while_the_store_is_silent() {
    let bench = Bench::new();
    let key = bench.uploaded("t", "wasm");
    let (unknown, _) = bundle("u", "wasm");
    let cache = bench.cache_with(asking(&bench)).await;
    cache.get(&key).await.unwrap();
    bench.store.set_away(true);
    for _ in 0..3 {
        cache.get(&key).await.unwrap();
    }
    assert_eq!(cache.stats().snapshot().rights_on_trust, 3);
    assert_eq!(cache.get(&unknown).await.unwrap_err().code(), ErrorCode::BundleStoreUnreachable);
    bench.store.set_away(false);
    assert_eq!(cache.get(&unknown).await.unwrap_err().code(), ErrorCode::BundleNotFound);
}

#[tokio::test]
async fn a_definite_no_ends_a_right_at_once() {
    let bench = Bench::new();
    let key = bench.uploaded("t", "wasm");
    let cache = bench.cache_with(asking(&bench)).await;
    cache.get(&key).await.unwrap();
    bench.store.delete(&key);
    assert_eq!(cache.get(&key).await.unwrap_err().code(), ErrorCode::BundleNotFound);
    bench.store.set_away(true);
    let error = cache.get(&key).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::BundleStoreUnreachable, "a right that ended does not come back");
}

#[tokio::test(start_paused = true)]
async fn a_warm_call_never_waits_for_the_store() {
    let bench = Bench::new();
    let key = bench.uploaded("t", "wasm");
    let cache = bench.cache().await;
    let _held = cache.get(&key).await.unwrap();
    let minutes = |n: u64| tokio::time::advance(Duration::from_secs(60 * n));
    minutes(7).await;
    cache.get(&key).await.unwrap();
    assert_eq!(bench.store.asked(), 0);
    minutes(2).await;
    cache.get(&key).await.unwrap();
    while bench.store.asked() == 0 {
        tokio::task::yield_now().await;
    }
    // Renewed beside the call: eleven minutes after the first answer, nobody has to wait.
    minutes(2).await;
    cache.get(&key).await.unwrap();
    assert_eq!(bench.store.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_store_is_asked_again_now_and_then_and_believed_when_it_speaks() {
    let bench = Bench::new();
    let key = bench.uploaded("t", "wasm");
    let cache = bench.cache().await;
    let _held = cache.get(&key).await.unwrap();
    bench.store.set_away(true);
    tokio::time::advance(Duration::from_secs(9 * 60)).await;
    for _ in 0..100 {
        cache.get(&key).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.store.asked(), 1, "not by every get");
    tokio::time::advance(Duration::from_secs(3600)).await;
    cache.get(&key).await.unwrap();
    assert_eq!(bench.store.asked(), 2);
    bench.store.set_away(false);
    bench.store.delete(&key);
    tokio::time::advance(Duration::from_secs(16)).await;
    assert_eq!(cache.get(&key).await.unwrap_err().code(), ErrorCode::BundleNotFound);
}
