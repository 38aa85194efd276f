//! A thousand installs such as a fleet has: a hundred extensions, each with ten tenants, each tenant with twenty of them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use longshore_proto::ContentHash;
use longshore_proto::extension_ids::ExtensionIds;
use longshore_proto::install::{Install, InstalledVersion};
use longshore_proto::manifest::Manifest;
use longshore_registry::Installs;
use serde_json::json;

/// Extensions, each with one bundle in force.
pub const BUNDLES: usize = 100;
/// Tenants that have an extension.
const TENANTS_EACH: usize = 10;
/// All of them.
pub const INSTALLS: usize = BUNDLES * TENANTS_EACH;
/// Tenants.
pub const TENANTS: usize = 50;
/// Groups of tenants that have the same extensions.
const GROUPS: usize = TENANTS / TENANTS_EACH;

/// See the module.
pub struct Subject {
    installs: Vec<Install>,
}

impl Subject {
    /// Makes them; nothing is written.
    pub fn new() -> anyhow::Result<Self> {
        let installs = (0..INSTALLS).map(|n| {
            let (bundle, one) = (n % BUNDLES, n / BUNDLES);
            install(bundle, (bundle % GROUPS) * TENANTS_EACH + one)
        });
        Ok(Self { installs: installs.collect::<anyhow::Result<_>>()? })
    }

    /// All, in the order of their making.
    pub fn installs(&self) -> &[Install] {
        &self.installs
    }

    /// The one that change `number` is of: another tenant's and bundle's each time.
    pub fn at(&self, number: usize) -> anyhow::Result<&Install> {
        // 37 has no divisor in common with 1000: each comes once before one comes again.
        self.installs.get((number * 37) % INSTALLS).context("no installs")
    }

    /// Writes all; the revision of the last.
    pub async fn install_all(&self, writer: &Installs) -> anyhow::Result<u64> {
        let mut last = 0;
        for install in &self.installs {
            last = writer.create_or_update(install.clone()).await?.revision;
        }
        Ok(last)
    }

    /// Bytes of one record, the mean.
    pub fn record_bytes(&self) -> anyhow::Result<f64> {
        let mut bytes = 0;
        for install in &self.installs {
            bytes += serde_json::to_vec(install)?.len();
        }
        Ok(bytes as f64 / self.installs.len().max(1) as f64)
    }
}

/// A bundle of an extension: `version` 1 is what is installed, others come by changes.
pub fn hash_of(bundle: usize, version: u8) -> ContentHash {
    let mut bytes = [version; 32];
    for (byte, of) in bytes.iter_mut().zip(bundle.to_be_bytes()) {
        *byte = of;
    }
    ContentHash::from_bytes(bytes)
}

fn manifest(bundle: usize) -> anyhow::Result<Manifest> {
    let endpoints = [
        ("GET", "/projects"),
        ("POST", "/projects"),
        ("GET", "/projects/:project"),
        ("PUT", "/projects/:project"),
        ("DELETE", "/projects/:project"),
        ("GET", "/projects/:project/tasks"),
        ("POST", "/projects/:project/tasks"),
        ("GET", "/health"),
    ];
    let endpoints =
        endpoints.map(|(method, path)| json!({"method": method, "path": path, "handler": "dist/main"}));
    let manifest = json!({
        "name": format!("com.example.extension-{bundle:03}"), "publisher": "Example", "version": "1.4.2",
        "runtime": "wasm-js@1",
        "capabilities": ["cap:context.read", "cap:log.emit", "cap:user.read", "cap:storage.kv", "cap:http.fetch", "cap:secrets.get"],
        "ui": {"type": "iframe", "entry": "ui/index.html"},
        "api": {"endpoints": endpoints},
    });
    Ok(Manifest::parse(manifest.to_string().as_bytes())?)
}

fn install(bundle: usize, tenant: usize) -> anyhow::Result<Install> {
    let manifest = manifest(bundle)?;
    let ids = ExtensionIds::of(&manifest);
    let hash = hash_of(bundle, 1);
    let tenant = format!("6f1c2a54-5b7e-4d0f-9f53-{tenant:012}");
    let base = json!({
        "install_id": ids.install(&tenant).to_string(), "tenant": tenant, "extension": ids.extension.to_string(),
        "version_id": ids.version.to_string(), "content_hash": hash,
        "config": {"base_url": "https://projects.example.com/api/v2", "page_size": "50", "locale": "en-GB", "bench": "0"},
        "capabilities": ["cap:context.read", "cap:log.emit", "cap:user.read", "cap:storage.kv", "cap:http.fetch"],
        "egress": ["projects.example.com", "*.files.example.com"],
    });
    let mut install: Install = serde_json::from_value(base)?;
    install.version = InstalledVersion::of(&manifest, hash);
    // A secret's envelope is as long as this.
    install.config =
        BTreeMap::from_iter(install.config.into_iter().chain([("note".to_owned(), "x".repeat(300))]));
    Ok(install)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn a_thousand_installs_are_of_a_hundred_bundles_and_spread_over_fifty_tenants() {
        let subject = Subject::new().unwrap();
        let mut tenants: BTreeMap<_, usize> = BTreeMap::new();
        let (mut bundles, mut ids, mut keys) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for install in subject.installs() {
            *tenants.entry(install.tenant.clone()).or_default() += 1;
            bundles.insert(install.version.content_hash);
            ids.insert(install.install_id.clone());
            keys.insert((install.tenant.clone(), install.extension.clone()));
        }
        assert_eq!((bundles.len(), ids.len(), keys.len()), (BUNDLES, INSTALLS, INSTALLS));
        assert_eq!((tenants.len(), tenants.values().copied().max()), (TENANTS, Some(INSTALLS / TENANTS)));
    }

    #[test]
    fn changes_are_of_all_installs_in_turn() {
        let subject = Subject::new().unwrap();
        let changed: BTreeSet<_> = (0..INSTALLS).map(|n| subject.at(n).unwrap().install_id.clone()).collect();
        assert_eq!(changed.len(), INSTALLS);
        assert_ne!(hash_of(1, 2), hash_of(1, 1));
        assert_ne!(hash_of(1, 2), hash_of(2, 2));
    }
}
