//! Bundles: whose they are, whether they are what they say, and what becomes of bad ones.

use std::io::Write as _;

use longshore_bundle::archive::{content_hash, pack_files};
use longshore_tests::{Service, Stack, paths, store, wait};
use tar::{Builder, EntryType, Header};

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_those_of_the_hash_are_refused_with_both_hashes() {
    let (stack, [worker], shim) = Stack::with_workers(&[]).await;
    let (good, other) = (store::bundle("echo"), store::bundle("count"));
    let extension = stack.install_archive("tenant-1", "swapped", &good);
    stack.store.put("tenant-1", "swapped", extension.hash, &other);
    let (status, error) = shim.call(&extension.get("/")).await.failure();
    assert!(status == 502 && error.starts_with("bundle_fetch_failed: archive_hash_mismatch"), "{error}");
    assert!(error.contains(&extension.hash.hex()) && error.contains(&content_hash(&other).hex()), "{error}");
    let log = worker.lines().with("HASH_MISMATCH");
    assert!(!log.is_empty() && log[0].contains("tenants/tenant-1/extensions/swapped"), "{log:?}");

    // Nothing of it was kept: with the right bytes at the same key it runs.
    stack.store.put("tenant-1", "swapped", extension.hash, &good);
    runs_soon(&shim, &extension.get("/")).await;
}

/// Failures are remembered for a moment.
async fn runs_soon(shim: &Service, call: &longshore_tests::Call) {
    wait::until("a good answer", wait::LIMIT, async || {
        let reply = shim.call(call).await;
        if reply.error().is_none() { Ok(()) } else { Err(reply.outcome()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_gets_no_bundle_that_only_another_has() {
    let (stack, [worker], shim) = Stack::with_workers(&[]).await;
    let owner = stack.install("owner", "echo");
    assert_eq!(shim.call(&owner.get("/")).await.status(), 200);
    let thief = longshore_tests::Extension { tenant: "thief".to_owned(), ..owner.clone() };
    let (status, error) = shim.call(&thief.get("/")).await.failure();
    assert!(status == 502 && error.starts_with("bundle_fetch_failed: not_found"), "{error}");
    assert!(!error.contains("owner"), "{error}");
    assert!(
        !worker.lines().with("cause=not_found").is_empty() || !worker.lines().with("not_found").is_empty()
    );
    // With a key of its own it runs, and nothing is fetched or compiled for it.
    stack.install("thief", "echo");
    runs_soon(&shim, &thief.get("/")).await;
    worker.metric_until("longshore_worker_bundle_hits", |hits| hits >= 1.0).await;
    assert_eq!(worker.metric("longshore_worker_bundle_fetches").await, 1.0);
    assert_eq!(worker.metric("longshore_worker_compiles").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_named_and_costs_only_what_needs_it() {
    let stack = Stack::start().await;
    let echo = stack.install("tenant-1", "echo");
    let nowhere = format!("http://127.0.0.1:{}/extensions", paths::free_port());
    let (worker, shim) = tokio::join!(stack.worker(&[]), stack.shim(&[]));
    assert_eq!(shim.call(&echo.get("/")).await.status(), 200);
    drop(worker);
    // The next worker shares the cache folder, and its store does not answer.
    let worker = stack.worker(&[("BUNDLE_STORE_BASE", &nowhere)]).await;
    let other = stack.install("tenant-1", "count");
    let unreachable = wait::until("the new worker's answer", wait::LIMIT, async || {
        let reply = shim.call(&other.get("/").timeout_ms(60_000)).await;
        match reply.failure() {
            (502, error) if error.starts_with("bundle_fetch_failed") => Ok(error),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(unreachable.starts_with("bundle_fetch_failed: store_unreachable"), "{unreachable}");
    assert!(!worker.lines().with("store_unreachable").is_empty());
    let health = worker.http().get("/healthz").await;
    assert_eq!(health.transport, 200);
    assert!(String::from_utf8_lossy(&health.bytes).contains("bundle_store_unreachable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_compiles_nothing_and_workers_share_what_one_has_compiled() {
    let (stack, [mut first], shim) = Stack::with_workers(&[]).await;
    let extensions = ["echo", "count", "stdio"].map(|guest| stack.install("tenant-1", guest));
    for extension in &extensions {
        assert_eq!(shim.call(&extension.get("/")).await.status(), 200);
    }
    first.metric_until("longshore_worker_compiles", |compiles| compiles == 3.0).await;
    let second = stack.worker(&[]).await;
    first.terminate();
    first.drained(wait::LIMIT).await;
    for extension in &extensions {
        assert_eq!(shim.call(&extension.get("/")).await.status(), 200);
    }
    second.metric_until("longshore_worker_artifacts_loaded", |loaded| loaded == 3.0).await;
    assert_eq!(second.metric("longshore_worker_compiles").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn twelve_hostile_archives_are_refused_and_a_good_one_still_runs() {
    let (stack, [worker], shim) = Stack::with_workers(&[]).await;
    let good = stack.install("tenant-1", "echo");
    let archives = hostile();
    assert_eq!(archives.len(), 12);
    for (name, archive, words) in &archives {
        let extension = stack.install_archive("tenant-1", name, archive);
        let (status, error) = shim.call(&extension.get("/").timeout_ms(60_000)).await.failure();
        assert!(
            status == 502 && error.starts_with("bundle_fetch_failed: archive_refused"),
            "{name}: {error}"
        );
        assert!(error.contains(words), "{name}: {error}");
        assert_eq!(shim.call(&good.get("/")).await.status(), 200, "after {name}");
    }
    // Nothing was written outside, and nothing was left behind.
    let cache = stack.cache();
    for outside in [cache.join("evil"), cache.join("../evil"), "/tmp/longshore-evil".into()] {
        assert!(!outside.exists(), "{}", outside.display());
    }
    let bundles =
        std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let bundles: Vec<_> = bundles.filter(|name| name.len() == 64).collect();
    assert_eq!(bundles, [good.hash.hex()]);
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_entries_and_links_are_left_out_and_the_rest_runs() {
    let (stack, [_worker], shim) = Stack::with_workers(&[]).await;
    let mut tar = tar_with(&[("./manifest.json", store::manifest("echo").as_bytes())]);
    for (path, link) in [("./ui/passwd", "/etc/passwd"), ("dist/other", "../../../../evil")] {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, path, link).unwrap();
    }
    add(&mut tar, "./.DS_Store", b"x");
    add(&mut tar, "./ui/._page", b"x");
    add(&mut tar, "./dist/main.wasm", &paths::guest("echo"));
    let extension = stack.install_archive("tenant-1", "plain-tar", &compressed(tar));
    assert_eq!(shim.call(&extension.get("/")).await.status(), 200);
    let unpacked = stack.cache().join(extension.hash.hex());
    for absent in ["ui/passwd", "bundle/dist/other", "bundle/.DS_Store", "ui/._page"] {
        assert!(unpacked.join(absent).symlink_metadata().is_err(), "{absent}");
    }
}

type Tar = Builder<Vec<u8>>;

/// An entry whose name nobody has checked.
fn add(tar: &mut Tar, name: &str, content: &[u8]) {
    add_kind(tar, name, EntryType::Regular, content);
}

fn add_kind(tar: &mut Tar, name: &str, kind: EntryType, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    tar.append(&header, content).unwrap();
}

fn tar_with(files: &[(&str, &[u8])]) -> Tar {
    let mut tar = Builder::new(Vec::new());
    for (name, content) in files {
        add(&mut tar, name, content);
    }
    tar
}

fn compressed(tar: Tar) -> Vec<u8> {
    zstd::encode_all(tar.into_inner().unwrap().as_slice(), 3).unwrap()
}

/// A good bundle's files, for what is added to them.
fn bundle() -> Tar {
    let (manifest, wasm) = (store::manifest("echo"), paths::guest("echo"));
    tar_with(&[("manifest.json", manifest.as_bytes()), ("dist/main.wasm", &wasm)])
}

/// Name, archive, and words of the refusal.
fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let with = |change: &dyn Fn(&mut Tar)| {
        let mut tar = bundle();
        change(&mut tar);
        compressed(tar)
    };
    let whole = compressed(bundle());
    let mut trailing = bundle().into_inner().unwrap();
    trailing.extend_from_slice(b"#!/bin/sh\nrm -rf /\n");
    let mut bomb = zstd::Encoder::new(Vec::new(), 3).unwrap();
    let mut huge = Header::new_gnu();
    huge.as_old_mut().name[..4].copy_from_slice(b"zero");
    huge.set_entry_type(EntryType::Regular);
    huge.set_size(256 << 20);
    huge.set_cksum();
    bomb.write_all(huge.as_bytes()).unwrap();
    for _ in 0..256 {
        bomb.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let entry = r#"{"name":"com.longshore.test","version":"1.0.0","entry":"../../main.wasm"}"#;
    vec![
        ("climbing", with(&|tar| add(tar, "ui/../../evil", b"x")), "evil"),
        ("absolute", with(&|tar| add(tar, "/tmp/longshore-evil", b"x")), "absolute"),
        ("device", with(&|tar| add_kind(tar, "dist/null", EntryType::Char, b"")), "character device"),
        ("fifo", with(&|tar| add_kind(tar, "dist/pipe", EntryType::Fifo, b"")), "fifo"),
        ("twice", with(&|tar| add(tar, "./dist//main.wasm", b"other")), "twice"),
        ("file-as-folder", with(&|tar| add(tar, "manifest.json/x", b"x")), "twice"),
        ("deep", with(&|tar| add(tar, &format!("{}x", "d/".repeat(40)), b"x")), "deeper"),
        ("many", with(&|tar| (0..20_001).for_each(|n| add(tar, &format!("ui/{n}"), b""))), "entries"),
        ("bomb", bomb.finish().unwrap(), "times its size"),
        ("cut", whole[..whole.len() / 2].to_vec(), "damaged"),
        ("trailing", zstd::encode_all(trailing.as_slice(), 3).unwrap(), "after the end"),
        ("entry", pack_files([("manifest.json", entry), ("dist/main.wasm", "x")], 3).unwrap(), "manifest"),
    ]
}
