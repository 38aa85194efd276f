//! An S3 endpoint over a folder.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use longshore_bundle::BundleKey;
use longshore_bundle::archive::{content_hash, pack_dir, pack_files};
pub use longshore_dev_store::{ACCESS_KEY, SECRET_KEY};
use longshore_dev_store::{BUCKET, S3Endpoint};
use longshore_proto::ContentHash;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::paths;

/// A running endpoint.
pub struct Store {
    /// Before the folder: it ends first.
    endpoint: S3Endpoint,
    folder: TempDir,
}

impl Store {
    /// Starts one on a free port, with an empty bucket.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = S3Endpoint::start(listener, folder.path()).unwrap();
        Self { endpoint, folder }
    }

    /// What `BUNDLE_STORE_BASE` must be.
    pub fn base(&self) -> String {
        self.endpoint.base()
    }

    /// Puts an object at the key of a bundle. Straight into the endpoint's folder, so that a test may put there what no client would.
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

    /// Where the endpoint keeps a tenant's objects.
    pub fn folder(&self, tenant: &str) -> PathBuf {
        self.bucket().join("tenants").join(tenant)
    }

    /// Dates every object of a tenant back, as if it had been put so long ago.
    pub fn make_older(&self, tenant: &str, age: Duration) {
        let date = SystemTime::now() - age;
        let mut folders = vec![self.folder(tenant)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    std::fs::File::options().write(true).open(path).unwrap().set_modified(date).unwrap();
                }
            }
        }
    }

    fn bucket(&self) -> PathBuf {
        self.folder.path().join("buckets").join(BUCKET)
    }

    /// Where the endpoint keeps a bundle.
    pub fn path(&self, tenant: &str, extension: &str, hash: ContentHash) -> PathBuf {
        let key = BundleKey { tenant: tenant.parse().unwrap(), extension: extension.parse().unwrap(), hash };
        self.bucket().join(key.object_key().as_str())
    }
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

/// A bundle of one guest as an extension `com.longshore.test.<name>` with these capabilities and endpoints (`POST /items/:id`, with ` idempotent`
/// behind it where that is declared).
pub fn extension(
    name: &str,
    guest: &str,
    version: &str,
    capabilities: &[&str],
    endpoints: &[&str],
) -> Vec<u8> {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|endpoint| {
            let mut words = endpoint.split(' ');
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let idempotent = words.next() == Some("idempotent");
            serde_json::json!({ "method": method, "path": path, "handler": "dist/main", "idempotent": idempotent })
        })
        .collect();
    let manifest = serde_json::json!({
        "name": format!("com.longshore.test.{name}"),
        "publisher": "Longshore",
        "version": version,
        "runtime": "wasm-js@1",
        "capabilities": capabilities,
        "api": { "endpoints": endpoints },
    });
    let files =
        [("manifest.json", manifest.to_string().into_bytes()), ("dist/main.wasm", paths::guest(guest))];
    pack_files(files, 3).unwrap()
}

/// Every capability: what the guests `driver` and `hostcalls` import.
pub const EVERYTHING: [&str; 11] = [
    "cap:context.read",
    "cap:secrets.get",
    "cap:http.fetch",
    "cap:storage.kv",
    "cap:log.emit",
    "cap:ui.proxy",
    "cap:user.read",
    "cap:scheduler.manage",
    "cap:invoice.manual.create",
    "cap:client.read",
    "cap:service.read",
];

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
