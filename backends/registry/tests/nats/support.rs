//! Readers, writers and followers as the processes have them.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_proto::install::Install;
use longshore_proto::{ContentHash, ExtensionId, TenantId};
use longshore_registry::{Change, InstallFollower, Installs, Lookup, NatsRegistry, Registry};
use longshore_service::config::NatsConfig;
use longshore_service::lifecycle::Tasks;
use longshore_service::metrics::Metrics;
use longshore_service::nats::{self, Options, Watcher};
use longshore_tests::nats::Nats;
use longshore_tests::wait;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

pub async fn connect(server: &Nats, user: &str) -> (async_nats::Client, Watcher) {
    let env = BTreeMap::from([
        ("NATS_URL".to_owned(), server.url()),
        ("NATS_USER".to_owned(), user.to_owned()),
        ("NATS_PASSWORD".to_owned(), server.password(user).to_owned()),
    ]);
    let config = NatsConfig::load(&env, ["test".to_owned()]).unwrap();
    // As the processes have it: the admin service's inboxes are below `_R.admin`.
    let place = if user == "control" { "admin" } else { user };
    let options = Options { inbox_prefix: Some(format!("_R.{place}.js")), ..Options::default() };
    let (client, mut link) = nats::connect("test", &config, options).await.unwrap();
    wait::within("a connection", wait::LIMIT, link.connected(1)).await.unwrap();
    (client, link)
}

/// A registry of `user`; not yet ready.
pub async fn watching(server: &Nats, user: &str) -> NatsRegistry {
    let (client, link) = connect(server, user).await;
    NatsRegistry::start(client, link, &Tasks::new(), &Metrics::new("test"), None)
}

/// A gateway's registry that knows the bucket.
pub async fn reader(server: &Nats) -> NatsRegistry {
    let registry = watching(server, "shim").await;
    wait::within("a registry that is ready", wait::LIMIT, registry.ready()).await;
    registry
}

/// The admin service's writer, with the bucket made.
pub async fn writer(server: &Nats) -> Installs {
    let (client, link) = connect(server, "control").await;
    let registry =
        NatsRegistry::start(client.clone(), link.clone(), &Tasks::new(), &Metrics::new("test"), None);
    let installs = Installs::new(client, link, registry.clone(), 1);
    installs.prepare().await.unwrap();
    wait::within("the writer's own registry", wait::LIMIT, registry.ready()).await;
    installs
}

type Held = Arc<Mutex<Vec<(TenantId, ExtensionId)>>>;

/// A worker's follower, and the list of what it asks about.
pub async fn follower(server: &Nats) -> (InstallFollower, Held) {
    let (client, link) = connect(server, "worker").await;
    let held: Held = Arc::default();
    let asks = held.clone();
    let follower =
        InstallFollower::start(client.clone(), link, &Tasks::new(), CancellationToken::new(), move || {
            asks.lock().clone()
        });
    // The server has seen the subscription.
    nats::round_trip(&client, "fleet.sync.test", wait::LIMIT).await.unwrap();
    (follower, held)
}

pub fn tenant(id: &str) -> TenantId {
    id.parse().unwrap()
}

pub fn extension(id: &str) -> ExtensionId {
    id.parse().unwrap()
}

pub fn hash(byte: u8) -> ContentHash {
    ContentHash::from_bytes([byte; 32])
}

/// An install of the extension `name` of the publisher `alga`.
pub fn install(of: &str, name: &str, byte: u8) -> Install {
    let json = serde_json::json!({
        "install_id": format!("install-{of}-{name}"), "tenant": of, "extension": format!("ext-{name}"),
        "version_id": format!("version-{byte}"), "version": format!("{byte}.0.0"), "content_hash": hash(byte),
        "name": name, "publisher": "alga", "requested": ["cap:storage.kv"],
    });
    serde_json::from_value(json).unwrap()
}

/// The bundle that a registry finds.
pub async fn found(registry: &NatsRegistry, of: &str, reference: &str) -> Option<ContentHash> {
    match registry.find(&tenant(of), reference).await.unwrap() {
        Lookup::Found(install) => Some(install.version.content_hash),
        Lookup::Absent => None,
    }
}

/// The next change of a tenant's extension.
pub async fn change(changes: &mut broadcast::Receiver<Change>, of: &str, name: &str) -> Change {
    let wanted = (tenant(of), extension(&format!("ext-{name}")));
    let next = async {
        loop {
            let change = changes.recv().await.unwrap();
            if (change.tenant.clone(), change.extension.clone()) == wanted {
                return change;
            }
        }
    };
    wait::within("a change", wait::LIMIT, next).await
}

/// Waits until a registry finds this.
pub async fn until_found(registry: &NatsRegistry, of: &str, reference: &str, expected: Option<ContentHash>) {
    wait::until("the registry to follow", wait::LIMIT, async || {
        let now = found(registry, of, reference).await;
        if now == expected { Ok(()) } else { Err(format!("{reference} is {now:?} and not {expected:?}")) }
    })
    .await;
}

/// JetStream as an operator has it.
pub async fn operator(server: &Nats) -> async_nats::jetstream::Context {
    async_nats::jetstream::new(connect(server, "admin").await.0)
}
