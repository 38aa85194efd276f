//! The guests, installed with each level of capture.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hyper::header::HeaderValue;
use longshore_access::{Access, NewToken, TokenStore};
use longshore_proto::call::CaptureLevel;
use longshore_proto::install::{Install, InstalledVersion};
use longshore_proto::manifest::Manifest;
use longshore_registry::{Installs, NatsRegistry};
use longshore_service::lifecycle::Tasks;
use longshore_service::metrics::Metrics;
use serde_json::{Value, json};

use crate::fleet::{self, Fleet, MANIFEST, TENANT};
use crate::load::{Connection, Route, Target};

/// Calls the host as often as its query says and does nothing else.
const CALLBENCH: &[u8] = include_bytes!("../../../tests/guests/built/callbench.wasm");
/// An extension in TypeScript, as most are: its component carries a JavaScript engine, so that a run computes for a while. Built by `make`, not
/// committed.
const HELLO_JS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello-js/dist/main.wasm");
const HELLO_JS_MANIFEST: &[u8] = include_bytes!("../../../examples/hello-js/manifest.json");
/// Host calls of each of its runs: a busy handler's.
const HOST_CALLS: u32 = 20;
/// In the order of [`super::Level`]'s sides.
const LEVELS: [CaptureLevel; 3] = [CaptureLevel::Off, CaptureLevel::Events, CaptureLevel::Record];
/// A shim hears of installs and tokens within a second, once their buckets are there; a worker compiles on the first call.
const KNOWN: Duration = Duration::from_secs(60);
/// Between two looks whether it has.
const POLL: Duration = Duration::from_millis(50);

/// One guest.
pub struct Installed {
    /// Its name in the tables.
    pub name: &'static str,
    /// Off, events, record.
    pub targets: [Target; 3],
}

/// Installs them and waits until each answers at each level.
pub async fn install(fleet: &Fleet) -> anyhow::Result<Vec<Installed>> {
    let (client, link) = fleet.server().connect("control").await?;
    let tokens = TokenStore::new(client.clone(), link.clone(), 1);
    tokens.prepare().await?;
    let registry =
        NatsRegistry::start(client.clone(), link.clone(), &Tasks::new(), &Metrics::new("bench"), None);
    let installs = Installs::new(client, link, registry.clone(), 1);
    installs.prepare().await?;
    tokio::time::timeout(KNOWN, registry.ready()).await.context("the bucket was not read")?;
    let new = NewToken {
        tenant: TENANT.parse().context("tenant")?,
        access: Access::Read,
        extensions: None,
        label: "bench".to_owned(),
        lifetime: None,
        created_by: "longshore-bench".to_owned(),
        traces: false,
    };
    let (token, _) = tokens.create(new).await?;
    let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.expose()))?;
    authorization.set_sensitive(true);

    let hello: Value = serde_json::from_slice(MANIFEST)?;
    let mut guests = vec![
        ("hello-rust", hello, Cow::Borrowed(fleet::COMPONENT), "/hello".to_owned()),
        (
            "20 calls",
            callbench(),
            Cow::Borrowed(CALLBENCH),
            format!("/?fn=context.get-context&n={HOST_CALLS}"),
        ),
    ];
    match std::fs::read(HELLO_JS) {
        Ok(component) => {
            let manifest: Value = serde_json::from_slice(HELLO_JS_MANIFEST)?;
            guests.push(("hello-js", manifest, Cow::Owned(component), "/hello".to_owned()));
        }
        Err(error) => eprintln!("hello-js is left out: {HELLO_JS}: {error} (make hello-js builds it)"),
    }
    let mut installed = Vec::new();
    for (index, (name, manifest, component, path)) in guests.into_iter().enumerate() {
        let mut targets = Vec::new();
        for level in LEVELS {
            let extension = format!("guest-{index}-{}", level.as_str());
            let install = install_of(fleet, &extension, manifest.clone(), &component, level)?;
            installs.create_or_update(install).await?;
            let path = format!("/api/ext/{extension}{path}");
            let route = Route::Extension { path, authorization: authorization.clone() };
            let target = Target { address: fleet.address(), route };
            answers(&target).await.with_context(|| extension)?;
            targets.push(target);
        }
        let targets: Result<[Target; 3], _> = targets.try_into();
        let targets = targets.map_err(|_| anyhow::anyhow!("a level is missing"))?;
        installed.push(Installed { name, targets });
    }
    Ok(installed)
}

fn callbench() -> Value {
    json!({
        "name": "com.longshore.bench.calls", "publisher": "Longshore", "version": "1.0.0", "runtime": "wasm-js@1",
        "capabilities": ["cap:context.read", "cap:log.emit", "cap:secrets.get", "cap:storage.kv", "cap:user.read"],
        "api": { "endpoints": [{ "method": "GET", "path": "/", "handler": "dist/main" }] },
    })
}

/// The levels differ in nothing else: manifest name, registry id and so the bundle have the level in them, the component is the same.
fn install_of(
    fleet: &Fleet,
    extension: &str,
    mut manifest: Value,
    component: &[u8],
    level: CaptureLevel,
) -> anyhow::Result<Install> {
    let fields = manifest.as_object_mut().context("the manifest is no object")?;
    fields.insert("name".to_owned(), json!(format!("com.longshore.bench.{extension}")));
    let manifest = serde_json::to_vec(&manifest)?;
    let key = fleet.store(extension, &manifest, component)?;
    let manifest = Manifest::parse(&manifest)?;
    let base = json!({
        "install_id": extension, "tenant": TENANT, "extension": extension, "version_id": "bench",
        "content_hash": key.hash, "capabilities": manifest.capabilities, "capture": level,
    });
    let mut install: Install = serde_json::from_value(base)?;
    install.version = InstalledVersion::of(&manifest, key.hash);
    Ok(install)
}

async fn answers(target: &Target) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        match Connection::open(target.clone()).await?.exchange().await {
            Ok(_) => return Ok(()),
            Err(error) if began.elapsed() > KNOWN => {
                return Err(error.context("the shim does not know the install"));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
