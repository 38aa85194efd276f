//! A gateway's UI side without sockets.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use gateway_shim::ui::hints::{HintError, SharedHints};
use gateway_shim::ui::{AssetSettings, Signer, UiMetrics, UiParts, UiState, Warmer, router};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use longshore_bundle::archive::{content_hash, pack_files};
use longshore_bundle::store::DirStore;
use longshore_bundle::{BundleCache, BundleKey, BundleStore, CacheConfig, Content};
use longshore_proto::fleet::{Warm, Warmed};
use longshore_proto::install::Install;
use longshore_proto::{BootId, ContentHash, ExtensionId, PoolName, TenantId};
use longshore_registry::{Change, HostTarget, Lookup, Registry, RegistryError};
use longshore_service::metrics::Metrics;
use parking_lot::Mutex;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::broadcast;
use tower::ServiceExt as _;

pub const TENANT: &str = "t-1";
pub const EXTENSION: &str = "3b8b0204-25d9-57d0-951b-3ed518145469";
pub const INSTALL: &str = "11111111-2222-5333-8444-555555555555";

/// A registry in memory.
pub struct Memory {
    pub installs: Mutex<Vec<Arc<Install>>>,
    pub hosts: Mutex<HashMap<String, HostTarget>>,
    /// Set: no question is answered.
    pub silent: Mutex<Option<fn() -> RegistryError>>,
    pub validations: AtomicUsize,
    changes: broadcast::Sender<Change>,
}

impl Memory {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            installs: Mutex::default(),
            hosts: Mutex::default(),
            silent: Mutex::default(),
            validations: AtomicUsize::new(0),
            changes: broadcast::channel(4).0,
        })
    }

    /// Installs for [`TENANT`].
    pub fn install(&self, hash: ContentHash) -> Arc<Install> {
        let install: Install = serde_json::from_value(json!({
            "install_id": INSTALL, "tenant": TENANT, "extension": EXTENSION, "version_id": "v", "content_hash": hash,
            "name": "com.alga.hello", "publisher": "Alga", "version": "0.1.0",
            "ui": {"type": "iframe", "entry": "ui/index.html", "hooks": {"appMenu": {"label": "Hello <World>"}}},
        }))
        .unwrap();
        let install = Arc::new(install);
        *self.installs.lock() = vec![install.clone()];
        install
    }

    fn answers(&self) -> Result<(), RegistryError> {
        self.silent.lock().map_or(Ok(()), |error| Err(error()))
    }
}

#[async_trait]
impl Registry for Memory {
    async fn find(&self, tenant: &TenantId, reference: &str) -> Result<Lookup, RegistryError> {
        self.answers()?;
        let is = |install: &&Arc<Install>| {
            install.tenant == *tenant
                && (install.install_id == reference
                    || install.extension.as_str() == reference
                    || install.version.name == reference
                    || install.version.slug() == reference.to_lowercase())
        };
        Ok(self.installs.lock().iter().find(is).map_or(Lookup::Absent, |i| Lookup::Found(i.clone())))
    }

    async fn validate(
        &self,
        tenant: &TenantId,
        extension: &ExtensionId,
        hash: ContentHash,
    ) -> Result<bool, RegistryError> {
        self.validations.fetch_add(1, SeqCst);
        self.answers()?;
        let is = |install: &Arc<Install>| {
            install.tenant == *tenant
                && install.extension == *extension
                && install.version.content_hash == hash
        };
        Ok(self.installs.lock().iter().any(is))
    }

    async fn by_host(&self, host: &str) -> Result<Option<HostTarget>, RegistryError> {
        self.answers()?;
        Ok(self.hosts.lock().get(host).cloned())
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

/// Hints that two gateways share.
#[derive(Default)]
pub struct Shared(pub Mutex<HashMap<String, TenantId>>);

#[async_trait]
impl SharedHints for Shared {
    async fn get(&self, key: &str) -> Result<Option<TenantId>, HintError> {
        Ok(self.0.lock().get(key).cloned())
    }
    async fn put(&self, key: &str, tenant: &TenantId) -> Result<(), HintError> {
        self.0.lock().insert(key.to_owned(), tenant.clone());
        Ok(())
    }
}

/// Workers that remember what they were told.
#[derive(Default)]
pub struct Workers(pub Mutex<Vec<(PoolName, Warm)>>);

#[async_trait]
impl Warmer for Workers {
    async fn warm(&self, pool: &PoolName, warm: Warm, _: Duration) -> Vec<Warmed> {
        self.0.lock().push((pool.clone(), warm));
        let answer = |byte, error| Warmed { v: 1, worker: BootId::from_bytes([byte; 16]), error, took_ms: 7 };
        let failed = answer(2, Some(longshore_proto::ErrorCode::BundleNotFound.into()));
        vec![answer(1, None), failed]
    }
}

/// What several gateways have in common.
pub struct World {
    pub registry: Arc<Memory>,
    pub shared: Arc<Shared>,
    pub workers: Arc<Workers>,
    pub store: Arc<dyn BundleStore>,
    pub files: TempDir,
}

impl World {
    pub fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        std::fs::create_dir(files.path().join("store")).unwrap();
        Self {
            registry: Memory::new(),
            shared: Arc::default(),
            workers: Arc::default(),
            store: Arc::new(DirStore::new(files.path().join("store"))),
            files,
        }
    }

    /// Puts a bundle of these files under the tenant's key.
    pub async fn put(&self, tenant: &str, files: &[(&str, Vec<u8>)]) -> ContentHash {
        let archive = pack_files(files.iter().map(|(name, bytes)| (*name, bytes.clone())), 1).unwrap();
        let hash = content_hash(&archive);
        self.put_archive(tenant, hash, archive).await;
        hash
    }

    pub async fn put_archive(&self, tenant: &str, hash: ContentHash, archive: Vec<u8>) {
        let key = BundleKey { tenant: tenant.parse().unwrap(), extension: EXTENSION.parse().unwrap(), hash };
        self.store.put(&key, Content::Bytes(archive.into())).await.unwrap();
    }

    pub fn cache(&self) -> std::path::PathBuf {
        self.files.path().join("cache")
    }

    pub async fn gateway(&self, settings: &[(&str, &str)]) -> Gateway {
        let cache = BundleCache::open(CacheConfig::new(self.cache()), self.store.clone()).await.unwrap();
        self.gateway_with(settings, Some(cache)).await
    }

    pub async fn gateway_with(&self, settings: &[(&str, &str)], bundles: Option<BundleCache>) -> Gateway {
        let root = self.cache().display().to_string();
        let mut env: std::collections::BTreeMap<String, String> =
            settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        env.insert("EXT_CACHE_ROOT".to_owned(), root);
        let settings = AssetSettings::load(&env, ["shim".to_owned()]).unwrap();
        let metrics = Metrics::new("shim");
        let state = UiState::open(UiParts {
            settings,
            registry: self.registry.clone(),
            bundles,
            hints: Some(self.shared.clone()),
            signer: Signer::new(None),
            warmer: self.workers.clone(),
            token_is_valid: Arc::new(|headers| {
                headers.get("x-runner-service-token").is_none_or(|token| token == "good")
            }),
            metrics: UiMetrics::register(&metrics),
        })
        .await;
        Gateway { router: router(state), metrics }
    }
}

/// The pages that most tests use.
pub fn pages() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("manifest.json", br#"{"name":"com.alga.hello","publisher":"Alga","version":"0.1.0"}"#.to_vec()),
        ("dist/main.wasm", b"\0asm".to_vec()),
        ("ui/index.html", b"<!doctype html><script type=module src=assets/app.js></script>".to_vec()),
        ("ui/assets/app.js", b"export const answer = 42; // and more\n".repeat(200)),
        ("ui/assets/app.js.br", b"planted".to_vec()),
        ("ui/assets/style.css", b"body { color: red }".to_vec()),
        ("ui/logo.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec()),
        ("ui/photo.png", vec![0x89; 3000]),
        ("ui/big.json", (0..300_000u32).flat_map(|n| (n % 251).to_le_bytes()).collect()),
        ("ui/empty.txt", Vec::new()),
        ("ui/LICENSE", b"free".to_vec()),
    ]
}

/// A gateway without sockets.
pub struct Gateway {
    pub router: Router,
    pub metrics: Metrics,
}

#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// Nobody may keep it.
    pub fn is_not_kept(&self) -> bool {
        self.header("cache-control") == "no-store"
    }
}

impl Gateway {
    pub async fn send(&self, request: Request<Body>) -> Reply {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: head.status, headers: head.headers, body }
    }

    pub async fn ask(&self, method: &str, uri: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub async fn get(&self, uri: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask("GET", uri, headers).await
    }

    /// The value of a metric's line.
    pub fn count(&self, line: &str) -> u64 {
        let page = self.metrics.render().unwrap();
        let found = page.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        found.map_or(0, |value| value.parse().unwrap())
    }
}

/// A gateway that is not strict, a bundle of [`pages`], and its address without tenant.
pub async fn loose() -> (World, Gateway, String) {
    let world = World::new();
    let hash = world.put(TENANT, &pages()).await;
    let gateway = world.gateway(&[("EXT_STATIC_STRICT_VALIDATION", "false")]).await;
    (world, gateway, format!("/ext-ui/{EXTENSION}/{hash}"))
}

/// How a browser asks for a page, and how it asks for what the page loads.
pub const NAVIGATION: &[(&str, &str)] = &[
    ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "iframe"),
];
pub const SCRIPT: &[(&str, &str)] =
    &[("accept", "*/*"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "script"), ("origin", "null")];

pub fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
