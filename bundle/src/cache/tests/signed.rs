//! The signature policy on gets.

use std::time::Duration;

use longshore_proto::ErrorCode;

use super::super::Memory;
use super::*;
use crate::error::BundleError;
use crate::signature::tests::{Author, manifest};
use crate::signature::{Policy, Verifier};

/// A fleet with a trust bundle that changes.
struct Signing {
    bench: Bench,
    author: Author,
    verifier: Arc<Verifier>,
}

impl Signing {
    fn new(policy: Policy) -> Self {
        let (bench, author) = (Bench::new(), Author::new("release"));
        let path = bench.dir.path().join("trust.pem");
        std::fs::write(&path, author.trusted("")).unwrap();
        let verifier = Verifier::open(policy, Some(&path)).unwrap().unwrap();
        Self { bench, author, verifier }
    }
    fn trust(&self, text: &str) {
        std::fs::write(self.bench.dir.path().join("trust.pem"), text).unwrap();
        self.verifier.refresh();
    }
    async fn cache(&self) -> BundleCache {
        self.cache_that_remembers(Duration::ZERO).await
    }
    async fn cache_that_remembers(&self, unsigned: Duration) -> BundleCache {
        let memory = Memory { unsigned, unreachable: Duration::ZERO, ..Memory::default() };
        let config = CacheConfig { memory, ..self.bench.config() };
        let verifier = Some(self.verifier.clone());
        BundleCache::open_verified(config, self.bench.store.clone(), verifier).await.unwrap()
    }
    /// A bundle with a manifest at a tenant's key, unsigned.
    fn uploaded(&self, tenant: &str) -> BundleKey {
        let json = serde_json::to_string(&manifest("Alga", "com.alga.hello", "1.0.0")).unwrap();
        let archive = pack_files([("manifest.json", json.as_str()), ("dist/main.wasm", "wasm")], 3).unwrap();
        let key = key(tenant, &archive);
        self.bench.store.upload(&key, archive);
        key
    }
    fn signed_by(&self, author: &Author, key: &BundleKey) {
        let signature = author.sign(key.hash, &manifest("Alga", "com.alga.hello", "1.0.0"));
        self.put(key, signature);
    }
    fn put(&self, key: &BundleKey, signature: impl Into<Bytes>) {
        self.bench.store.objects.lock().insert(key.signature_key(), signature.into());
    }
    fn unsign(&self, key: &BundleKey) {
        self.bench.store.objects.lock().remove(&key.signature_key());
    }
}

fn reason(error: &BundleError) -> &'static str {
    match error {
        BundleError::SignatureRefused { reason } => reason.kind(),
        other => panic!("{other:?}"),
    }
}

async fn refused(cache: &BundleCache, key: &BundleKey) -> &'static str {
    reason(&cache.get(key).await.unwrap_err())
}

#[tokio::test]
async fn with_require_a_signed_bundle_is_had_and_the_store_is_asked_once() {
    let signing = Signing::new(Policy::Require);
    let key = signing.uploaded("t");
    signing.signed_by(&signing.author, &key);
    let cache = signing.cache().await;
    for _ in 0..5 {
        cache.get(&key).await.unwrap();
    }
    assert_eq!(signing.bench.store.opens(), 2, "the bundle and its signature");
}

#[tokio::test]
async fn with_require_an_unsigned_bundle_is_refused_with_what_to_do() {
    let signing = Signing::new(Policy::Require);
    let key = signing.uploaded("t");
    let cache = signing.cache().await;
    let error = cache.get(&key).await.unwrap_err();
    assert_eq!((error.code(), reason(&error)), (ErrorCode::SignatureRefused, "unsigned"));
    assert!(crate::chain(&*error).contains("sign it"), "{}", crate::chain(&*error));
    assert_eq!(cache.stats().snapshot().signatures_refused, 1);
}

#[tokio::test]
async fn without_a_policy_nothing_is_asked() {
    let signing = Signing::new(Policy::Warn);
    let key = signing.uploaded("t");
    assert!(Verifier::open(Policy::Off, None).unwrap().is_none());
    let cache = BundleCache::open_verified(signing.bench.config(), signing.bench.store.clone(), None).await;
    cache.unwrap().get(&key).await.unwrap();
    assert_eq!(signing.bench.store.opens(), 1);
}

#[tokio::test]
async fn a_key_revoked_while_the_bundle_is_in_memory_counts_no_more_for_the_next_get() {
    let signing = Signing::new(Policy::Require);
    let key = signing.uploaded("t");
    signing.signed_by(&signing.author, &key);
    let cache = signing.cache().await;
    let _held = cache.get(&key).await.unwrap();
    let next = Author::new("next");
    signing.trust(&format!("{}{}", signing.author.trusted("Revoked: yes"), next.trusted("")));
    assert_eq!(refused(&cache, &key).await, "revoked");
    // Nor for a process that starts now, although the signature is kept on this machine and the store is silent.
    signing.bench.store.set_away(true);
    assert_eq!(refused(&cache, &key).await, "revoked");
    signing.bench.store.set_away(false);
    assert_eq!(refused(&signing.cache().await, &key).await, "revoked");
    // Signed again with another key, it is had without a restart.
    signing.signed_by(&next, &key);
    cache.get(&key).await.unwrap();
    // And the revocation taken back changes nothing for that one.
    signing.trust(&next.trusted(""));
    cache.get(&key).await.unwrap();
}

#[tokio::test]
async fn a_trust_bundle_replaced_by_garbage_refuses_nobody() {
    let signing = Signing::new(Policy::Require);
    let key = signing.uploaded("t");
    signing.signed_by(&signing.author, &key);
    let cache = signing.cache().await;
    cache.get(&key).await.unwrap();
    signing.trust("garbage");
    cache.get(&key).await.unwrap();
    signing.cache().await.get(&key).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_signature_that_is_added_is_noticed_after_seconds_and_not_asked_for_by_every_get() {
    let signing = Signing::new(Policy::Require);
    let key = signing.uploaded("t");
    let cache = signing.cache_that_remembers(Duration::from_secs(5)).await;
    for _ in 0..10 {
        assert_eq!(refused(&cache, &key).await, "unsigned");
    }
    assert_eq!(signing.bench.store.opens(), 2);
    signing.signed_by(&signing.author, &key);
    assert_eq!(refused(&cache, &key).await, "unsigned", "remembered");
    tokio::time::advance(Duration::from_secs(6)).await;
    cache.get(&key).await.unwrap();
}

#[tokio::test]
async fn a_signature_that_was_seen_holds_while_the_store_is_silent_and_over_a_restart() {
    let signing = Signing::new(Policy::Require);
    let key = signing.uploaded("t");
    signing.signed_by(&signing.author, &key);
    drop(signing.cache().await.get(&key).await.unwrap());
    signing.unsign(&key);
    let restarted = signing.cache().await;
    restarted.get(&key).await.unwrap();
    signing.bench.store.set_away(true);
    restarted.get(&key).await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_silent_about_the_signature_is_unreachable_and_not_unsigned() {
    let signing = Signing::new(Policy::Require);
    let key = signing.uploaded("t");
    let cache = signing.cache().await;
    assert_eq!(refused(&cache, &key).await, "unsigned");
    signing.bench.store.set_away(true);
    let error = cache.get(&key).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::BundleStoreUnreachable);
    assert!(error.to_string().contains("bundle.sig"), "{error}");
}

#[tokio::test]
async fn a_tenants_copy_needs_no_signature_of_its_own_once_the_bytes_are_vouched_for() {
    let signing = Signing::new(Policy::Require);
    let (owner, copy) = (signing.uploaded("a"), signing.uploaded("b"));
    signing.signed_by(&signing.author, &owner);
    let cache = signing.cache().await;
    assert_eq!(refused(&cache, &copy).await, "unsigned", "nothing is known of these bytes yet");
    cache.get(&owner).await.unwrap();
    cache.get(&copy).await.unwrap();
    // Copied with the bundle it holds as well.
    let elsewhere = Signing { author: Author::new("x"), ..Signing::new(Policy::Require) };
    let copy = elsewhere.uploaded("b");
    elsewhere.trust(&signing.author.trusted(""));
    elsewhere.signed_by(&signing.author, &copy);
    elsewhere.cache().await.get(&copy).await.unwrap();
}

#[tokio::test]
async fn rubbish_at_one_tenants_key_refuses_that_tenant_alone() {
    let signing = Signing::new(Policy::Require);
    let (owner, other) = (signing.uploaded("a"), signing.uploaded("b"));
    signing.signed_by(&signing.author, &owner);
    signing.put(&other, vec![b'x'; 1 << 20]);
    let cache = signing.cache().await;
    assert_eq!(refused(&cache, &other).await, "malformed", "and no more than 4 KiB of it are read");
    cache.get(&owner).await.unwrap();
    // A right to the bundle comes first: a stranger learns nothing of its signature.
    let stranger = BundleKey { tenant: "c".parse().unwrap(), ..owner };
    assert_eq!(cache.get(&stranger).await.unwrap_err().code(), ErrorCode::BundleNotFound);
}

#[tokio::test]
async fn the_signature_of_another_bundle_or_version_is_refused() {
    let signing = Signing::new(Policy::Require);
    let key = signing.uploaded("t");
    let cache = signing.cache().await;
    let hello = manifest("Alga", "com.alga.hello", "1.0.0");
    signing.put(&key, signing.author.sign(longshore_proto::ContentHash::from_bytes([9; 32]), &hello));
    assert_eq!(refused(&cache, &key).await, "wrong_hash");
    signing.put(&key, signing.author.sign(key.hash, &manifest("Alga", "com.alga.hello", "2.0.0")));
    assert_eq!(refused(&cache, &key).await, "wrong_identity");
    let nameless = signing.bench.uploaded("t", "no manifest");
    signing.put(&nameless, signing.author.sign(nameless.hash, &hello));
    assert_eq!(refused(&cache, &nameless).await, "no_identity");
}

#[tokio::test]
async fn what_lies_beside_the_unpacked_bundle_is_verified_too_and_no_link_is_followed() {
    let signing = Signing::new(Policy::Require);
    let key = signing.uploaded("t");
    assert_eq!(refused(&signing.cache().await, &key).await, "unsigned");
    let beside = signing.bench.entry(&key).join("bundle.sig");
    let forged = Author::new("release").sign(key.hash, &manifest("Alga", "com.alga.hello", "1.0.0"));
    std::fs::write(&beside, forged).unwrap();
    assert_eq!(refused(&signing.cache().await, &key).await, "unsigned");
    std::fs::remove_file(&beside).unwrap();
    let real = signing.bench.dir.path().join("real.sig");
    let valid = signing.author.sign(key.hash, &manifest("Alga", "com.alga.hello", "1.0.0"));
    std::fs::write(&real, valid).unwrap();
    std::os::unix::fs::symlink(&real, &beside).unwrap();
    assert_eq!(refused(&signing.cache().await, &key).await, "unsigned", "a link is nothing that we made");
    // A real one takes the link's place, not that of what it points to.
    std::fs::write(&real, "untouched").unwrap();
    signing.signed_by(&signing.author, &key);
    signing.cache().await.get(&key).await.unwrap();
    assert_eq!(std::fs::read_to_string(&real).unwrap(), "untouched");
    assert!(std::fs::symlink_metadata(&beside).unwrap().is_file());
}

#[tokio::test]
async fn with_warn_every_bundle_is_had_at_once_and_warned_of_once_for_each_trust_bundle() {
    let signing = Signing::new(Policy::Warn);
    let key = signing.uploaded("t");
    let cache = signing.cache().await;
    let warned = async |n: u64| {
        while cache.stats().snapshot().signatures_warned < n {
            cache.get(&key).await.unwrap();
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            cache.get(&key).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(cache.stats().snapshot().signatures_warned, n);
    };
    warned(1).await;
    signing.trust(&Author::new("other").trusted(""));
    warned(2).await;
    assert_eq!(cache.stats().snapshot().signatures_refused, 0);
}

#[tokio::test]
async fn with_warn_a_silent_store_holds_up_nobody() {
    let signing = Signing::new(Policy::Warn);
    let key = signing.uploaded("t");
    let cache = signing.cache().await;
    let _held = cache.get(&key).await.unwrap();
    signing.bench.store.close_gate();
    // The signature's answer never comes; these do.
    for _ in 0..10 {
        cache.get(&key).await.unwrap();
    }
}
