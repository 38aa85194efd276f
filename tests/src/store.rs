//! An S3 endpoint over a folder.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use longshore_bundle::BundleKey;
use longshore_bundle::archive::{content_hash, pack_dir, pack_files};
use longshore_proto::ContentHash;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::paths;

/// The user of the endpoint.
pub const ACCESS_KEY: &str = "test-access";
/// Its key.
pub const SECRET_KEY: &str = "test-secret";
const BUCKET: &str = "extensions";

/// A running endpoint.
pub struct Store {
    folder: TempDir,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Store {
    /// Starts one on a free port, with an empty bucket.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(accept(listener, builder.build()));
        Self { folder, address, task }
    }

    /// What `BUNDLE_STORE_BASE` must be.
    pub fn base(&self) -> String {
        format!("http://{}/{BUCKET}", self.address)
    }

    /// Puts an object at the key of a bundle. Straight into the endpoint's folder, for it keeps attributes in a file named by the base64 of the key,
    /// which is too long a name for the key of a bundle; reading needs no such file.
    pub fn put(&self, tenant: &str, extension: &str, hash: ContentHash, bytes: &[u8]) {
        let path = self.path(tenant, extension, hash);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let beside = path.with_extension("new");
        std::fs::write(&beside, bytes).unwrap();
        std::fs::rename(beside, path).unwrap();
    }

    /// Puts an archive under the hash of its bytes.
    pub fn upload(&self, tenant: &str, extension: &str, archive: &[u8]) -> ContentHash {
        let hash = content_hash(archive);
        self.put(tenant, extension, hash, archive);
        hash
    }

    fn path(&self, tenant: &str, extension: &str, hash: ContentHash) -> PathBuf {
        let key = BundleKey { tenant: tenant.parse().unwrap(), extension: extension.parse().unwrap(), hash };
        self.folder.path().join(BUCKET).join(key.object_key().as_str())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, service: S3Service) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        if let Ok((socket, _)) = listener.accept().await {
            connections.spawn(serve(socket, service.clone()));
        }
    }
}

async fn serve(socket: TcpStream, service: S3Service) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let answered = Service::call(&service, request);
        async { Ok::<_, Infallible>(answered.await.unwrap()) }
    });
    // A client that goes away is no news.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), answer).await;
}

/// The manifest of a bundle of one guest.
pub fn manifest(name: &str) -> String {
    serde_json::json!({
        "name": format!("com.longshore.test.{name}"),
        "publisher": "Longshore",
        "version": "1.0.0",
        "runtime": "wasm-js@1",
        "capabilities": ["cap:log.emit"],
        "api": { "endpoints": [{ "method": "GET", "path": "/", "handler": "dist/main" }] },
    })
    .to_string()
}

/// A bundle of one guest made for tests.
pub fn bundle(guest: &str) -> Vec<u8> {
    let files = [("manifest.json", manifest(guest).into_bytes()), ("dist/main.wasm", paths::guest(guest))];
    pack_files(files, 3).unwrap()
}

/// A bundle of an example: what its author would pack. Not every example has a user interface.
pub fn example(name: &str) -> Vec<u8> {
    let (source, staged) = (paths::example(name), tempfile::tempdir().unwrap());
    let files = ["manifest.json", "dist/main.wasm", "ui/index.html"];
    for file in files.into_iter().filter(|file| !file.starts_with("ui/") || source.join(file).is_file()) {
        let to = staged.path().join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(source.join(file), &to).unwrap_or_else(|error| panic!("{name}/{file}: {error}"));
    }
    pack_dir(staged.path(), 3).unwrap()
}
