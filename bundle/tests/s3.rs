//! The S3 store against a real S3 server in this process.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;

use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use longshore_bundle::archive::{content_hash, pack_files};
use longshore_bundle::{
    BundleCache, BundleError, BundleKey, BundleStore, CacheConfig, Content, ObjectKey, StoreConfig,
    StoreError,
};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

struct Server {
    dir: tempfile::TempDir,
    base: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// With `auth`, requests must be signed; without, they may be plain.
    async fn start(auth: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).unwrap());
        if auth {
            service.set_auth(SimpleAuth::from_single("the-access-key", "the-secret-key"));
        }
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let service = service.clone();
                tokio::spawn(async move {
                    let server = Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Self { dir, base, task }
    }

    fn config(&self, path: &str) -> StoreConfig {
        StoreConfig { base: format!("{}{path}", self.base), ..StoreConfig::default() }
    }

    fn signed(&self, secret: &str) -> Arc<dyn BundleStore> {
        let config = StoreConfig {
            access_key: Some("the-access-key".into()),
            secret_key: Some(secret.into()),
            ..self.config("/extensions/pre/fix")
        };
        config.open().unwrap()
    }
}

fn bundle() -> (BundleKey, Bytes) {
    let archive = pack_files([("dist/main.wasm", "wasm"), ("ui/index.html", "hello")], 3).unwrap();
    let hash = content_hash(&archive);
    let key = BundleKey { tenant: "t".parse().unwrap(), extension: "e".parse().unwrap(), hash };
    (key, archive.into())
}

#[tokio::test]
async fn what_was_put_is_found_and_read_back() {
    let server = Server::start(true).await;
    let store = server.signed("the-secret-key");
    assert!(matches!(store.probe().await, Err(StoreError::Refused { status: 404, .. })), "no bucket yet");
    store.ensure_bucket().await.unwrap();
    store.ensure_bucket().await.unwrap();
    store.probe().await.unwrap();

    let (key, archive) = bundle();
    assert!(!store.exists(&key).await.unwrap());
    assert!(matches!(store.open(&key).await, Err(StoreError::NotFound)));
    store.put(&key, Content::Bytes(archive.clone())).await.unwrap();
    assert!(store.exists(&key).await.unwrap());
    let mut opened = store.open(&key).await.unwrap();
    let mut read = Vec::new();
    opened.body.read_to_end(&mut read).await.unwrap();
    assert_eq!((opened.len, read), (Some(archive.len() as u64), archive.to_vec()));
    let url = store.url(&key.object_key());
    assert_eq!(url, format!("{}/extensions/pre/fix/{key}", server.base));

    let file = server.dir.path().join("upload");
    std::fs::write(&file, vec![7; 3 << 20]).unwrap();
    store.put(&key, Content::File(file)).await.unwrap();
    assert_eq!(store.open(&key).await.unwrap().len, Some(3 << 20));
}

#[tokio::test]
async fn wrong_keys_are_refused_and_never_printed() {
    let server = Server::start(true).await;
    server.signed("the-secret-key").ensure_bucket().await.unwrap();
    let store = server.signed("wrong-secret-key");
    let (key, archive) = bundle();
    let mut said = store.describe();
    for error in [
        store.exists(&key).await.unwrap_err(),
        store.open(&key).await.unwrap_err(),
        store.put(&key, Content::Bytes(archive)).await.unwrap_err(),
        store.probe().await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Refused { status: 403, .. }), "{error:?}");
        said += &format!("{error:?} {error}");
    }
    assert!(!said.contains("-secret-key"), "{said}");
}

#[tokio::test]
async fn plain_http_without_keys_is_read_unsigned() {
    let server = Server::start(false).await;
    let store = server.config("/extensions").open().unwrap();
    store.ensure_bucket().await.unwrap();
    store.probe().await.unwrap();
    let (key, archive) = bundle();
    store.put(&key, Content::Bytes(archive.clone())).await.unwrap();
    assert!(store.exists(&key).await.unwrap());
    let cache_root = tempfile::tempdir().unwrap();
    let cache = BundleCache::open(CacheConfig::new(cache_root.path()), store).await.unwrap();
    let bundle = cache.get(&key).await.unwrap();
    let component = bundle.component().unwrap();
    assert_eq!((component.len, component.digest), (4, content_hash(b"wasm")));
    assert_eq!(std::fs::read(bundle.ui_root().unwrap().join("index.html")).unwrap(), b"hello");
}

#[tokio::test]
async fn a_base_without_a_bucket_is_read_at_base_and_key() {
    let server = Server::start(false).await;
    let (key, archive) = bundle();
    server.config("/tenants").open().unwrap().ensure_bucket().await.unwrap();
    let path = server.dir.path().join(key.object_key().as_str());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, &archive).unwrap();
    let store = server.config("/").open().unwrap();
    assert!(store.exists(&key).await.unwrap());
    assert_eq!(store.open(&key).await.unwrap().len, Some(archive.len() as u64));
}

#[tokio::test]
async fn a_store_that_is_away_is_unreachable_and_no_not_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/extensions", listener.local_addr().unwrap());
    drop(listener);
    let store = StoreConfig { base, ..StoreConfig::default() }.open().unwrap();
    let (key, _) = bundle();
    assert!(matches!(store.exists(&key).await, Err(StoreError::Unreachable { .. })));
    let cache_root = tempfile::tempdir().unwrap();
    let cache = BundleCache::open(CacheConfig::new(cache_root.path()), store).await.unwrap();
    let error = cache.get(&key).await.unwrap_err();
    assert!(matches!(&*error, BundleError::StoreUnreachable { .. }));
    let chain = longshore_bundle::chain(&*error);
    assert!(chain.to_lowercase().contains("connection refused"), "{chain}");
}

#[tokio::test]
async fn objects_are_listed_without_the_configured_prefix_and_removed_one_by_one() {
    let server = Server::start(true).await;
    let store = server.signed("the-secret-key");
    store.ensure_bucket().await.unwrap();
    let keys = ["tenants/a/1", "tenants/a/2", "tenants/b/1"];
    for key in keys {
        let content = Content::Bytes(Bytes::from_static(b"four"));
        store.put_object(&ObjectKey::new(key).unwrap(), content).await.unwrap();
    }
    let listed = async |prefix: &str, after: Option<&str>| {
        let page = store.list_objects(prefix, after).await.unwrap();
        assert_eq!(page.next, None);
        assert!(page.objects.iter().all(|object| object.size == 4 && object.modified.is_some()));
        page.objects.iter().map(|object| object.key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed("tenants/", None).await, keys);
    assert_eq!(listed("tenants/a/", None).await, keys[..2]);
    assert_eq!(listed("tenants/", Some("tenants/a/1")).await, keys[1..]);
    for _ in 0..2 {
        store.delete_object(&ObjectKey::new("tenants/a/1").unwrap()).await.unwrap();
    }
    assert_eq!(listed("tenants/", None).await, keys[1..]);
}
