//! The cache against a store whose every answer the test decides.

mod disk;
mod failures;
mod rights;
mod signed;

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Semaphore;

use super::{BundleCache, CacheConfig};
use crate::archive::{content_hash, pack_files};
use crate::key::{BundleKey, ObjectKey};
use crate::store::{BundleStore, Content, Opened, StoreError};

/// How an object's body ends.
#[derive(Clone, Copy, PartialEq)]
enum Body {
    Whole,
    /// An error after half of it.
    Breaks,
    /// Nothing after half of it.
    Hangs,
}

struct FakeStore {
    objects: Mutex<HashMap<ObjectKey, Bytes>>,
    opens: AtomicUsize,
    asked: AtomicUsize,
    away: Mutex<bool>,
    bodies: Mutex<Vec<Body>>,
    /// An open waits for a permit here.
    gate: Semaphore,
    opened: tokio::sync::Notify,
}

impl FakeStore {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            objects: Mutex::default(),
            opens: 0.into(),
            asked: 0.into(),
            away: false.into(),
            bodies: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            opened: tokio::sync::Notify::new(),
        })
    }
    /// Opens wait until [`Self::let_through`].
    fn close_gate(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }
    fn let_through(&self) {
        self.gate.add_permits(1 << 20);
    }
    fn set_away(&self, away: bool) {
        *self.away.lock() = away;
    }
    fn opens(&self) -> usize {
        self.opens.load(SeqCst)
    }
    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
    async fn until_opens(&self, n: usize) {
        loop {
            let opened = self.opened.notified();
            if self.opens() >= n {
                return;
            }
            opened.await;
        }
    }
    fn upload(&self, key: &BundleKey, bytes: impl Into<Bytes>) {
        self.objects.lock().insert(key.object_key(), bytes.into());
    }
    fn delete(&self, key: &BundleKey) {
        self.objects.lock().remove(&key.object_key());
    }
    fn answer(&self) -> Result<(), StoreError> {
        if *self.away.lock() {
            return Err(StoreError::unreachable(io::Error::from(io::ErrorKind::ConnectionRefused)));
        }
        Ok(())
    }
}

struct Fake {
    rest: Bytes,
    left: usize,
    end: Body,
}

impl AsyncRead for Fake {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return match self.end {
                Body::Whole => Poll::Ready(Ok(())),
                Body::Breaks => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Body::Hangs => Poll::Pending,
            };
        }
        let n = self.left.min(buf.remaining());
        buf.put_slice(&self.rest.split_to(n));
        self.left -= n;
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl BundleStore for FakeStore {
    async fn exists_object(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        self.asked.fetch_add(1, SeqCst);
        self.answer()?;
        Ok(self.objects.lock().contains_key(key))
    }
    async fn open_object(&self, key: &ObjectKey) -> Result<Opened, StoreError> {
        self.opens.fetch_add(1, SeqCst);
        self.opened.notify_waiters();
        let _permit = self.gate.acquire().await.unwrap();
        self.answer()?;
        let rest = self.objects.lock().get(key).cloned().ok_or(StoreError::NotFound)?;
        let end = self.bodies.lock().pop().unwrap_or(Body::Whole);
        let left = if end == Body::Whole { rest.len() } else { rest.len() / 2 };
        Ok(Opened { len: Some(rest.len() as u64), body: Box::pin(Fake { rest, left, end }) })
    }
    async fn put_object(&self, key: &ObjectKey, content: Content) -> Result<(), StoreError> {
        let Content::Bytes(bytes) = content else { panic!("no files here") };
        self.objects.lock().insert(key.clone(), bytes);
        Ok(())
    }
    async fn probe(&self) -> Result<(), StoreError> {
        self.answer()
    }
    async fn ensure_bucket(&self) -> Result<(), StoreError> {
        self.answer()
    }
    fn describe(&self) -> String {
        "fake".into()
    }
    fn url(&self, key: &ObjectKey) -> String {
        format!("fake://{key}")
    }
}

/// A bundle of `content`, at a tenant's key.
fn bundle(tenant: &str, content: &str) -> (BundleKey, Vec<u8>) {
    let files = [("dist/main.wasm", content), ("ui/index.html", "page"), (".hidden", "x")];
    let archive = pack_files(files, 3).unwrap();
    (key(tenant, &archive), archive)
}

fn key(tenant: &str, archive: &[u8]) -> BundleKey {
    BundleKey {
        tenant: tenant.parse().unwrap(),
        extension: "e".parse().unwrap(),
        hash: content_hash(archive),
    }
}

struct Bench {
    store: Arc<FakeStore>,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { store: FakeStore::new(), dir: tempfile::tempdir().unwrap() }
    }
    fn config(&self) -> CacheConfig {
        CacheConfig::new(self.dir.path().join("cache"))
    }
    /// A cache as another process would open it.
    async fn cache(&self) -> BundleCache {
        self.cache_with(self.config()).await
    }
    async fn cache_with(&self, config: CacheConfig) -> BundleCache {
        BundleCache::open(config, self.store.clone()).await.unwrap()
    }
    fn uploaded(&self, tenant: &str, content: &str) -> BundleKey {
        let (key, archive) = bundle(tenant, content);
        self.store.upload(&key, archive);
        key
    }
    fn unfinished(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("cache/tmp")).unwrap().count()
    }
    fn locks(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("cache/locks")).unwrap().count()
    }
}
