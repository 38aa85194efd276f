//! A gateway whose tenants, installs and callers are known.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use gateway_shim::dispatch::{Answer, AnswerBody, Call, CallResult};
use gateway_shim::gateway::{self, Backends, Gateway, GatewayConfig, GatewayMetrics, InstallGate, Manifests};
use gateway_shim::http::{App, HttpConfig, HttpMetrics, Sealer, Server, router};
use longshore_access::{Access, Authenticate, Credential, Denied, Principal};
use longshore_proto::install::Install;
use longshore_proto::manifest::Endpoint;
use longshore_proto::{CallError, ContentHash, ExtensionId, TenantId};
use longshore_registry::{Change, HostTarget, Lookup, Registry, RegistryError};
use longshore_secrets::KeyRing;
use longshore_service::metrics::Metrics;
use longshore_service::readiness::Readiness;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::http::{Fake, Front};

/// Finds an install as a registry does.
pub struct Known {
    installs: Mutex<HashMap<(String, String), Arc<Install>>>,
    /// How often it was asked.
    pub asked: watch::Sender<u64>,
    trouble: Option<&'static str>,
    pub changes: broadcast::Sender<Change>,
}

impl Known {
    /// An install as it is from now on; None: there is none any more.
    pub fn set(&self, tenant: &str, extension: &str, now: Option<Install>) {
        let mut installs = self.installs.lock();
        installs.retain(|_, known| known.tenant.as_str() != tenant || known.extension.as_str() != extension);
        now.into_iter().for_each(|install| insert(&mut installs, install));
    }
}

/// By all that an install is called.
fn insert(installs: &mut HashMap<(String, String), Arc<Install>>, install: Install) {
    let install = Arc::new(install);
    let version = &install.version;
    let names = [
        install.install_id.clone(),
        install.extension.to_string(),
        version.name.to_lowercase(),
        version.slug(),
    ];
    for name in names {
        installs.insert((install.tenant.to_string(), name), Arc::clone(&install));
    }
}

#[async_trait]
impl Registry for Known {
    async fn find(&self, tenant: &TenantId, reference: &str) -> Result<Lookup, RegistryError> {
        if let Some(why) = self.trouble {
            return Err(RegistryError::NotReady(why.to_owned()));
        }
        let of =
            |reference: &str| self.installs.lock().get(&(tenant.to_string(), reference.to_owned())).cloned();
        let found = of(reference).or_else(|| of(&reference.to_lowercase()));
        self.asked.send_modify(|asked| *asked += 1);
        Ok(found.map_or(Lookup::Absent, Lookup::Found))
    }
    async fn validate(&self, _: &TenantId, _: &ExtensionId, _: ContentHash) -> Result<bool, RegistryError> {
        Ok(false)
    }
    async fn by_host(&self, _host: &str) -> Result<Option<HostTarget>, RegistryError> {
        Ok(None)
    }
    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

struct Callers;

#[async_trait]
impl Authenticate for Callers {
    async fn authenticate(&self, credential: &str) -> Result<Principal, Denied> {
        let of = |tenant: &str, access, extensions: Option<&[&str]>| {
            Ok(Principal {
                tenant: tenant.parse().unwrap(),
                access,
                extensions: extensions.map(|list| list.iter().map(|e| (*e).to_owned()).collect()),
                credential: Credential::Token("id".to_owned()),
            })
        };
        match credential {
            "writer" => of("t", Access::Write, None),
            "reader" => of("t", Access::Read, None),
            "other" => of("u", Access::Write, None),
            "narrow" => of("t", Access::Write, Some(&["com.a.other", "e2"])),
            "by-install" => of("t", Access::Write, Some(&["t-e"])),
            "away" => Err(Denied::Unavailable("reading".to_owned())),
            "expired" => Err(Denied::Expired),
            _ => Err(Denied::Invalid("unknown")),
        }
    }
}

struct Declared;

#[async_trait]
impl Manifests for Declared {
    async fn endpoints(
        &self,
        _: &TenantId,
        _: &ExtensionId,
        _: ContentHash,
    ) -> Result<Vec<Endpoint>, CallError> {
        Ok(vec![Endpoint { method: "GET".into(), path: "/from-manifest".into(), ..Endpoint::default() }])
    }
}

/// The install of `com.a.<name>` for a tenant; `changes` replace what is usual.
pub fn install(tenant: &str, extension: &str, name: &str, changes: &Value) -> Install {
    let mut json = json!({
        "install_id": format!("{tenant}-{extension}"), "tenant": tenant, "extension": extension, "name": format!("com.a.{name}"),
        "publisher": "Acme", "version_id": "v", "version": "1.0.0", "content_hash": "ab".repeat(32), "config": {"k": "v"},
        "capabilities": ["cap:http.fetch"], "pool": "fast", "weight": 2, "limits": {"memory_mb": 64},
        "endpoints": [
            {"method": "GET", "path": "/"}, {"method": "GET", "path": "/items/:id"}, {"method": "POST", "path": "/items"},
            {"method": "DELETE", "path": "/items/:id", "idempotent": true},
        ],
    });
    for (key, value) in changes.as_object().unwrap() {
        json[key] = value.clone();
    }
    serde_json::from_value(json).unwrap()
}

/// A gateway, and what reached its dispatcher.
pub struct World {
    pub front: Front,
    pub calls: Arc<Mutex<Vec<Call>>>,
    pub registry: Arc<Known>,
    pub gate: Arc<InstallGate>,
}

/// What a gateway is made of.
pub struct Setup {
    pub installs: Vec<Install>,
    pub trouble: Option<&'static str>,
    pub manifests: bool,
    pub settings: Vec<(&'static str, &'static str)>,
}

impl Default for Setup {
    /// Tenant `t` has `e`, the disabled `e1` and `e2`; tenant `u` has `u1`.
    fn default() -> Self {
        let installs = vec![
            install("t", "e", "App", &json!({})),
            install("t", "e1", "disabled", &json!({"enabled": false})),
            install("t", "e2", "other", &json!({})),
            install("u", "u1", "theirs", &json!({})),
        ];
        Self { installs, trouble: None, manifests: false, settings: vec![] }
    }
}

impl Setup {
    pub fn with(settings: &[(&'static str, &'static str)]) -> Self {
        Self { settings: settings.to_vec(), ..Self::default() }
    }

    pub async fn start(self) -> World {
        self.answering(|call| async move {
            let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
            Ok(Answer { status: 200, headers, body: AnswerBody::Full(call.body), trailers: vec![] })
        })
        .await
    }

    /// With a dispatcher that answers so.
    pub async fn answering<F, Fut>(self, answer: F) -> World
    where
        F: Fn(Seen) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CallResult> + Send + 'static,
    {
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let noted = Arc::clone(&calls);
        let fake = Fake::new(move |call: Call| {
            let seen = Seen { body: call.body.clone() };
            noted.lock().push(call);
            answer(seen)
        });
        let env: BTreeMap<String, String> =
            self.settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let http = HttpConfig::load(&env, ["shim".to_owned()]).unwrap();
        let config = GatewayConfig::load(&env, ["shim".to_owned()]).unwrap();
        let (metrics, readiness) = (Metrics::new("shim"), Readiness::new());
        let mut installs = HashMap::new();
        for install in self.installs {
            insert(&mut installs, install);
        }
        let registry = Arc::new(Known {
            installs: Mutex::new(installs),
            asked: watch::Sender::new(0),
            trouble: self.trouble,
            changes: broadcast::Sender::new(8),
        });
        let gate = InstallGate::new(registry.clone());
        let sealer = Sealer::new(Some(KeyRing::generate()));
        let http_metrics = HttpMetrics::register(&metrics);
        let app =
            App::with_gate(Arc::new(fake), http.clone(), http_metrics.clone(), sealer, Some(gate.clone()));
        let backends = Backends {
            registry: registry.clone(),
            access: Arc::new(Callers),
            manifests: self.manifests.then(|| Arc::new(Declared) as Arc<dyn Manifests>),
        };
        let gateway = Gateway::new(Arc::clone(&app), &config, backends, GatewayMetrics::register(&metrics));
        let router = router(app, gateway::router(gateway));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, force) = (CancellationToken::new(), CancellationToken::new());
        let server = tokio::spawn(Server::new(router, &http, http_metrics).run(
            listener,
            drain.clone(),
            force.clone(),
        ));
        let front = Front { address, drain, force, metrics, readiness, server };
        World { front, calls, registry, gate }
    }
}

/// What an answer may depend on.
pub struct Seen {
    pub body: Option<bytes::Bytes>,
}

/// A request line, a token (none if empty), more headers and a body.
pub fn request(line: &str, token: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        text.push_str("host: shim\r\n");
    }
    if !token.is_empty() {
        text.push_str(&format!("authorization: Bearer {token}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// An answer of these.
pub fn answer(status: u16, headers: &[(&str, &str)], body: Option<&'static str>) -> Answer {
    let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Answer { status, headers, body: AnswerBody::Full(body.map(Into::into)), trailers: vec![] }
}
