//! The folder: layout, eviction, leftovers, other people's folders.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use longshore_proto::ErrorCode;

use super::super::CacheError;
use super::super::disk::Disk;
use super::*;
use crate::CacheStats;
use crate::store::DirStore;

impl Bench {
    pub(super) fn entry(&self, key: &BundleKey) -> PathBuf {
        self.dir.path().join("cache").join(key.hash.hex())
    }
    fn is_kept(&self, key: &BundleKey) -> bool {
        self.entry(key).join("bundle/.ready").exists()
    }
    /// As if it had been used last so many minutes ago.
    fn used_ago(&self, key: &BundleKey, minutes: u64) {
        let then = SystemTime::now() - Duration::from_secs(60 * minutes);
        File::open(self.entry(key).join("meta.json")).unwrap().set_modified(then).unwrap();
    }
}

/// Room for two of the test bundles (two files of 4 KiB each), below the nine tenths that eviction aims at.
const TWO: u64 = 20_000;

#[tokio::test]
async fn a_bundle_is_laid_out_as_existing_tools_know_it() {
    let bench = Bench::new();
    let key = bench.uploaded("t", "wasm");
    let cache = bench.cache().await;
    let bundle = cache.get(&key).await.unwrap();
    let entry = bench.entry(&key).canonicalize().unwrap();
    assert_eq!(std::fs::read(entry.join("bundle/.ready")).unwrap(), b"ok");
    assert_eq!(bundle.root(), entry.join("bundle"));
    assert_eq!(bundle.ui_root(), Some(&*entry.join("ui")));
    let component = bundle.component().unwrap();
    assert_eq!(component.path, entry.join("bundle/dist/main.wasm"));
    assert_eq!((component.len, component.digest), (4, content_hash(b"wasm")));
    assert_eq!((bundle.hash(), bundle.bytes(), bundle.manifest()), (key.hash, 8192, None));
    let mode = bench.dir.path().join("cache").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let stats = cache.stats().snapshot();
    assert_eq!((stats.disk_bundles, stats.disk_bytes, stats.open_bundles), (1, 8192, 1));
}

#[tokio::test]
async fn hidden_entries_and_links_are_counted_also_after_a_restart() {
    let bench = Bench::new();
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), 3).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    tar.append_data(&mut header, ".DS_Store", &b"x"[..]).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "link", "/etc/passwd").unwrap();
    let archive = tar.into_inner().unwrap().finish().unwrap();
    let key = key("t", &archive);
    bench.store.upload(&key, archive);
    for _ in 0..2 {
        let bundle = bench.cache().await.get(&key).await.unwrap();
        assert_eq!((bundle.skipped().hidden, bundle.skipped().links), (1, 1));
        assert!(bundle.component().is_none() && bundle.ui_root().is_none());
    }
}

#[tokio::test]
async fn the_manifest_names_the_component_unless_it_is_no_manifest() {
    let bench = Bench::new();
    let cache = bench.cache().await;
    let get = async |manifest: &str, component: &str| {
        let archive = pack_files([("manifest.json", manifest), (component, "wasm")], 3).unwrap();
        let key = key("t", &archive);
        bench.store.upload(&key, archive);
        cache.get(&key).await
    };
    let named = |entry: &str| format!(r#"{{"name":"a.b","version":"1.0.0","entry":"{entry}"}}"#);
    let bundle = get(&named("out/m.wasm"), "out/m.wasm").await.unwrap();
    assert_eq!(bundle.component().unwrap().path, bundle.root().join("out/m.wasm"));
    assert_eq!(bundle.manifest().unwrap().name, "a.b");
    assert!(get(&named("out/m.wasm"), "dist/main.wasm").await.unwrap().component().is_none());
    let in_ui = get(&named("ui/m.wasm"), "ui/m.wasm").await.unwrap();
    assert_eq!(in_ui.component().unwrap().path, in_ui.ui_root().unwrap().join("m.wasm"));
    let no_json = get("{not json", "dist/main.wasm").await.unwrap();
    assert!(no_json.manifest().is_none() && no_json.component().is_some());
    let outside = get(&named("../../../etc/passwd"), "dist/main.wasm").await.unwrap_err();
    assert_eq!(outside.code(), ErrorCode::ArchiveRefused);
}

#[tokio::test]
async fn what_was_used_longest_ago_goes_first() {
    let bench = Bench::new();
    let cache = bench.cache_with(CacheConfig { max_bytes: TWO, ..bench.config() }).await;
    let [a, b, c] = ["a", "b", "c"].map(|content| bench.uploaded("t", content));
    cache.get(&a).await.unwrap();
    cache.get(&b).await.unwrap();
    bench.used_ago(&a, 5);
    bench.used_ago(&b, 10);
    cache.get(&c).await.unwrap();
    assert_eq!([&a, &b, &c].map(|key| bench.is_kept(key)), [true, false, true]);
    let stats = cache.stats().snapshot();
    assert_eq!((stats.evictions, stats.disk_bundles, stats.disk_bytes), (1, 2, 4 * 4096));
    assert_eq!((bench.unfinished(), bench.locks()), (0, 0));
    cache.get(&b).await.unwrap();
    assert_eq!(bench.store.opens(), 4, "an evicted bundle is fetched again");
}

#[tokio::test]
async fn what_any_process_uses_is_never_evicted() {
    let bench = Bench::new();
    let config = CacheConfig { max_bytes: 1, ..bench.config() };
    let (one, two) = (bench.cache_with(config.clone()).await, bench.cache_with(config).await);
    let [a, b, c] = ["a", "b", "c"].map(|content| bench.uploaded("t", content));
    let held_here = one.get(&a).await.unwrap();
    let held_there = two.get(&b).await.unwrap();
    bench.used_ago(&a, 10);
    bench.used_ago(&b, 20);
    drop(one.get(&c).await.unwrap());
    assert!(bench.is_kept(&a) && bench.is_kept(&b));
    assert_eq!(std::fs::read(&held_there.component().unwrap().path).unwrap(), b"b");
    drop((held_here, held_there));
    two.tidy().await;
    assert!(!bench.is_kept(&b), "memory's own hold does not protect it");
    assert!(bench.is_kept(&a), "another process's memory does, until it has been idle");
    one.tidy().await;
    assert!(!bench.is_kept(&a) && !bench.is_kept(&c));
}

#[tokio::test]
async fn memory_lets_go_of_what_is_idle_and_not_of_what_is_held() {
    let bench = Bench::new();
    let config = CacheConfig { idle_release: Duration::ZERO, ..bench.config() };
    let cache = bench.cache_with(config).await;
    let (a, b) = (bench.uploaded("t", "a"), bench.uploaded("t", "b"));
    let held = cache.get(&a).await.unwrap();
    cache.get(&b).await.unwrap();
    assert_eq!(cache.stats().snapshot().open_bundles, 2);
    cache.tidy().await;
    assert_eq!(cache.stats().snapshot().open_bundles, 1);
    assert!(cache.is_hot(a.hash).await && !cache.is_hot(b.hash).await);
    drop(held);
    cache.tidy().await;
    assert_eq!(cache.stats().snapshot().open_bundles, 0);
    cache.get(&b).await.unwrap();
    assert_eq!(bench.store.opens(), 2, "opened from disk again");
}

#[tokio::test]
async fn leftovers_of_a_crash_are_cleaned_and_work_in_progress_is_not() {
    let bench = Bench::new();
    drop(bench.cache().await);
    let tmp = bench.dir.path().join("cache/tmp");
    let (dead, alive) = ("11".repeat(32), "22".repeat(32));
    std::fs::create_dir_all(tmp.join(format!("{dead}.0123/out/bundle"))).unwrap();
    std::fs::write(tmp.join(format!("{dead}.abcdef.tar.zst")), "from the existing runner").unwrap();
    std::fs::create_dir(tmp.join(format!("{alive}.0123"))).unwrap();
    std::fs::create_dir(tmp.join("somebody-elses")).unwrap();
    let root = bench.dir.path().join("cache");
    let other = Disk::open(&root, Arc::new(CacheStats::default()));
    let other = other.unwrap();
    std::fs::create_dir_all(tmp.join(format!("{alive}.0123"))).unwrap();
    let lock = other.try_lock(alive.parse().unwrap()).unwrap().unwrap();
    drop(bench.cache().await);
    let mut left: Vec<_> =
        std::fs::read_dir(&tmp).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, [format!("{alive}.0123"), "somebody-elses".to_owned()]);
    drop(lock);
    drop(bench.cache().await);
    assert_eq!(bench.unfinished(), 1);
    assert_eq!(bench.locks(), 0);
}

#[tokio::test]
async fn an_incomplete_copy_is_replaced() {
    let bench = Bench::new();
    let [unmarked, foreign, cleaned] = ["a", "b", "c"].map(|content| bench.uploaded("t", content));
    let cache = bench.cache().await;
    for key in [&unmarked, &cleaned] {
        cache.get(key).await.unwrap();
    }
    drop(cache);
    let remove = |path: PathBuf| std::fs::remove_file(path).unwrap();
    remove(bench.entry(&unmarked).join("bundle/.ready"));
    remove(bench.entry(&cleaned).join("bundle/dist/main.wasm"));
    std::fs::create_dir_all(bench.entry(&foreign).join("bundle/dist")).unwrap();
    std::fs::write(bench.entry(&foreign).join("bundle/.ready"), "ok").unwrap();
    std::fs::write(bench.entry(&foreign).join("bundle/dist/main.wasm"), "unverified").unwrap();

    let cache = bench.cache().await;
    for (key, content) in [(&unmarked, "a"), (&foreign, "b"), (&cleaned, "c")] {
        let bundle = cache.get(key).await.unwrap();
        assert_eq!(std::fs::read_to_string(&bundle.component().unwrap().path).unwrap(), content);
    }
    assert_eq!(bench.store.opens(), 5);
}

#[tokio::test]
async fn a_read_only_folder_is_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("store");
    let (key, archive) = bundle("t", "wasm");
    let writable = DirStore::new(&base);
    assert!(matches!(writable.probe().await, Err(StoreError::Folder { .. })));
    assert!(matches!(writable.exists(&key).await, Err(StoreError::Folder { .. })), "unmounted is no `no`");
    writable.ensure_bucket().await.unwrap();
    writable.put(&key, Content::Bytes(archive.into())).await.unwrap();
    for folder in base.join(key.object_key().as_str()).ancestors().take(7) {
        let mode = if folder.is_dir() { 0o555 } else { 0o444 };
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let store = crate::StoreConfig { base: base.to_str().unwrap().into(), ..Default::default() };
    let store = store.open().unwrap();
    store.probe().await.unwrap();
    let cache = BundleCache::open(CacheConfig::new(dir.path().join("cache")), store.clone()).await.unwrap();
    assert!(cache.get(&key).await.unwrap().component().is_some());
    let (missing, _) = bundle("t", "missing");
    assert!(!store.exists(&missing).await.unwrap());
    assert!(matches!(store.open(&missing).await, Err(StoreError::NotFound)));
    assert_eq!(cache.get(&missing).await.unwrap_err().code(), ErrorCode::BundleNotFound);
    for folder in base.join(key.object_key().as_str()).ancestors().take(7) {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[tokio::test]
async fn a_root_that_cannot_be_used_says_so_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    for root in [dir.path().join("file"), dir.path().join("file/below"), "/proc/no-cache-here".into()] {
        let error = BundleCache::open(CacheConfig::new(&root), FakeStore::new()).await.unwrap_err();
        assert!(matches!(error, CacheError::Folder { .. }), "{error:?}");
        assert!(error.to_string().contains("EXT_CACHE_ROOT"), "{error}");
    }
}

#[tokio::test]
async fn a_disk_that_fails_is_the_caches_fault() {
    let bench = Bench::new();
    let key = bench.uploaded("t", "wasm");
    let cache = bench.cache().await;
    std::fs::remove_dir_all(bench.dir.path().join("cache")).unwrap();
    assert_eq!(cache.get(&key).await.unwrap_err().code(), ErrorCode::BundleCacheFailed);
}
