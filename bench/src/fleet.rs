//! A nats-server with `deploy/nats.conf`, a shim and one worker, on free ports and in a folder of their own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use longshore_bundle::BundleKey;
use longshore_bundle::archive::{content_hash, pack_files};
use longshore_proto::execute::ExecuteResponse;
use longshore_proto::{Body, RunResponse, wire};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cpu;
use crate::load::{Connection, Route, Target};
use crate::nats::Server;
use crate::options::Setting;
use crate::process::{Process, ours};

/// What is packed of `examples/hello-rust`: what its author would pack.
pub const MANIFEST: &[u8] = include_bytes!("../../examples/hello-rust/manifest.json");
/// Its component.
pub const COMPONENT: &[u8] = include_bytes!("../../examples/hello-rust/dist/main.wasm");

/// Whose calls they are.
pub const TENANT: &str = "bench";
/// What they call.
pub const EXTENSION: &str = "hello-rust";
/// The install that calls by `/v1/execute` name.
pub const INSTALL: &str = "bench";
/// Of either worker: the default of `worker`.
const SLOTS: u32 = 8;
/// The folder that is the bundle store, in that of the fleet.
const STORE: &str = "store";
/// Packed once, so the level does not matter.
const PACK_LEVEL: i32 = 3;

/// The worker of a fleet.
pub enum Kind<'a> {
    /// The real one, with these settings on top.
    Worker(&'a [Setting]),
    /// The floor, which answers this.
    Echo(&'a RunResponse),
}

/// On whose behalf a call by `/v1/execute` is.
#[derive(Clone, Copy, Debug)]
pub enum User {
    /// Somebody, whose name the guest greets.
    One,
    /// Nobody, as with a token.
    None,
}

/// All processes of one side of the comparison. They end in this order when it is dropped.
pub struct Fleet {
    shim: Process,
    worker: Process,
    nats: Process,
    address: SocketAddr,
    key: BundleKey,
    server: Server,
    folder: TempDir,
}

impl Fleet {
    /// Starts one and waits for the answer to its first call, which fetches and compiles whatever there is to be.
    pub async fn start(kind: Kind<'_>) -> anyhow::Result<(Self, ExecuteResponse)> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let (mut nats, server) = Server::start(folder.path()).await?;
        let key = store_bundle(&folder.path().join(STORE), EXTENSION, MANIFEST, COMPONENT)?;
        let mut worker = match &kind {
            Kind::Worker(settings) => real_worker(folder.path(), &server, settings)?,
            Kind::Echo(answer) => echo_worker(folder.path(), &server, answer)?,
        };
        // Without a limit: how fast calls are is what is asked.
        let settings =
            [("LONGSHORE_HTTP_ADDR", "127.0.0.1:0".to_owned()), ("LONGSHORE_GATEWAY_RATE", "0".to_owned())];
        let mut command = ours_with("gateway-shim", &server, "shim", settings)?;
        let mut shim = Process::start("gateway-shim", folder.path(), &mut command)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, shim.port().await?));
        // A call waits for the first worker to announce itself, so this is also the wait for readiness.
        let first = Connection::open(execute(address, &key, User::One)).await?.call().await;
        for process in [&mut nats, &mut worker, &mut shim] {
            process.check_runs()?;
        }
        let first = first.context("the first call")?;
        let error = first.error.as_deref().unwrap_or("none");
        anyhow::ensure!(first.status == 200, "the first call: status {}, error {error}", first.status);
        Ok((Self { shim, worker, nats, address, key, server, folder }, first))
    }

    /// Calls by `/v1/execute`.
    pub fn execute(&self, user: User) -> Target {
        execute(self.address, &self.key, user)
    }

    /// Where its shim listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is called.
    pub fn key(&self) -> &BundleKey {
        &self.key
    }

    /// Puts one more bundle into its store.
    pub fn store(&self, extension: &str, manifest: &[u8], component: &[u8]) -> anyhow::Result<BundleKey> {
        store_bundle(&self.folder.path().join(STORE), extension, manifest, component)
    }

    /// Where its worker shows its metrics.
    pub async fn worker_address(&mut self) -> anyhow::Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, self.worker.port().await?)))
    }

    /// Its NATS.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// CPU time so far, by process.
    pub fn cpu(&self) -> BTreeMap<&'static str, Duration> {
        let processes = [("nats", &self.nats), ("shim", &self.shim), ("worker", &self.worker)];
        let used = processes.into_iter().filter_map(|(name, process)| Some((name, cpu::used(process.id())?)));
        used.collect()
    }
}

/// What the guest answered, out of the envelope around it: the echo worker answers the same.
///
/// # Errors
/// A body that is not base64.
pub fn answer_in(envelope: &ExecuteResponse) -> anyhow::Result<RunResponse> {
    let body = envelope.body_b64.as_deref().map(|text| BASE64.decode(text)).transpose()?;
    let own = |name: &str| name.starts_with("x-longshore-");
    let headers = envelope.headers.iter().filter(|(name, _)| !own(name));
    Ok(RunResponse {
        status: envelope.status,
        headers: headers
            .filter_map(|(name, value)| value.one().map(|v| (name.clone(), v.to_owned())))
            .collect(),
        body: Body::inline(body.map(Bytes::from)),
        trailers: Vec::new(),
    })
}

/// Puts a bundle into the folder that is the bundle store.
fn store_bundle(
    store: &Path,
    extension: &str,
    manifest: &[u8],
    component: &[u8],
) -> anyhow::Result<BundleKey> {
    let archive = pack_files([("manifest.json", manifest), ("dist/main.wasm", component)], PACK_LEVEL)?;
    let key =
        BundleKey { tenant: TENANT.parse()?, extension: extension.parse()?, hash: content_hash(&archive) };
    let path = store.join(key.object_key().as_str());
    std::fs::create_dir_all(path.parent().unwrap_or(store))?;
    std::fs::write(&path, archive)?;
    Ok(key)
}

fn execute(address: SocketAddr, key: &BundleKey, user: User) -> Target {
    let body = request(key, user);
    Target { address, route: Route::Execute { tenant: TENANT, extension: EXTENSION, body } }
}

/// The request of every call.
fn request(key: &BundleKey, user: User) -> Bytes {
    let user = match user {
        User::None => Value::Null,
        User::One => json!({
            "user_id": "1",
            "user_email": "bench@example.com",
            "user_name": "Bench",
            "user_type": "internal",
            "client_name": "Longshore",
        }),
    };
    let request = json!({
        "context": {
            "request_id": "bench",
            "tenant_id": TENANT,
            "extension_id": EXTENSION,
            "install_id": INSTALL,
            "version_id": "bench",
            "content_hash": key.hash,
            "config": {},
        },
        "http": { "method": "GET", "path": "/hello", "query": {}, "headers": { "accept": "application/json" } },
        "limits": { "timeout_ms": 30_000, "memory_mb": 64 },
        "providers": ["cap:context.read", "cap:log.emit", "cap:user.read"],
        "user": user,
    });
    Bytes::from(request.to_string())
}

fn ours_with(
    program: &str,
    server: &Server,
    user: &str,
    settings: impl IntoIterator<Item = (&'static str, String)>,
) -> anyhow::Result<Command> {
    let mut command = Command::new(ours(program)?);
    command
        .env_clear()
        .env("NATS_URL", &server.url)
        .env("NATS_USER", user)
        .env("NATS_PASSWORD", server.password(user))
        .env("LONGSHORE_LOG_FORMAT", "json")
        .envs(settings);
    Ok(command)
}

fn real_worker(folder: &Path, server: &Server, more: &[Setting]) -> anyhow::Result<Process> {
    let folder_setting = |name: &str| folder.join(name).display().to_string();
    let settings = [
        ("WORKER_HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ("WORKER_SLOTS", SLOTS.to_string()),
        ("BUNDLE_STORE_BASE", folder_setting(STORE)),
        ("EXT_CACHE_ROOT", folder_setting("cache")),
    ];
    let mut command = ours_with("worker", server, "worker", settings)?;
    command.envs(more.iter().map(|setting| (&setting.name, &setting.value)));
    Process::start("worker", folder, &mut command)
}

fn echo_worker(folder: &Path, server: &Server, answer: &RunResponse) -> anyhow::Result<Process> {
    let file = folder.join("answer");
    std::fs::write(&file, wire::encode(answer)?)?;
    let itself = std::env::current_exe().context("this program's own path is unknown")?;
    let mut command = Command::new(itself);
    command
        .env_clear()
        .env("NATS_PASSWORD", server.password("worker"))
        .arg("echo-worker")
        .args(["--nats-url", &server.url, "--slots", &SLOTS.to_string()])
        .arg("--answer")
        .arg(&file);
    Process::start("echo-worker", folder, &mut command)
}

#[cfg(test)]
mod tests {
    use longshore_proto::execute::{ExecuteRequest, RoutingHeaders};

    use super::*;

    #[test]
    fn the_request_is_one_that_the_shim_takes() {
        let store = tempfile::tempdir().unwrap();
        let key = store_bundle(store.path(), EXTENSION, MANIFEST, COMPONENT).unwrap();
        for (user, has_one) in [(User::One, true), (User::None, false)] {
            let request: ExecuteRequest = serde_json::from_slice(&request(&key, user)).unwrap();
            let routing = RoutingHeaders { tenant: Some(TENANT), extension: Some(EXTENSION) };
            let (run, _) = request.into_run(routing).unwrap();
            assert_eq!((run.context.content_hash, run.user.is_some()), (key.hash, has_one));
        }
        assert!(store.path().join(key.object_key().as_str()).is_file());
    }

    #[test]
    fn the_echo_answers_what_the_guest_did_without_what_the_shim_added() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let envelope = ExecuteResponse {
            status: 200,
            headers: [
                ("content-type".to_owned(), "text/plain".into()),
                ("x-longshore-execution-id".to_owned(), "0".into()),
            ]
            .into(),
            body_b64: Some(BASE64.encode("hello")),
            error: None,
            trailers: Default::default(),
        };
        let answer = answer_in(&envelope).unwrap();
        assert_eq!(answer.headers, [header("content-type", "text/plain")]);
        assert_eq!(answer.body, Body::Inline(Bytes::from_static(b"hello")));
    }
}
