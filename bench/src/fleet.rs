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
use longshore_proto::{Body, RunResponse, Token, wire};
use serde_json::json;
use tempfile::TempDir;

use crate::cpu;
use crate::load::{Connection, Target};
use crate::options::Setting;
use crate::process::{Process, nats_server, ours};

/// The same rights and pings as everywhere.
const NATS_CONF: &str = include_str!("../../deploy/nats.conf");
/// What is packed of `examples/hello-rust`: what its author would pack.
const MANIFEST: &[u8] = include_bytes!("../../examples/hello-rust/manifest.json");
const COMPONENT: &[u8] = include_bytes!("../../examples/hello-rust/dist/main.wasm");

const TENANT: &str = "bench";
const EXTENSION: &str = "hello-rust";
/// Of either worker: the default of `worker`.
const SLOTS: u32 = 8;
/// Packed once, so the level does not matter.
const PACK_LEVEL: i32 = 3;

/// The worker of a fleet.
pub enum Kind<'a> {
    /// The real one, with these settings on top.
    Worker(&'a [Setting]),
    /// The floor, which answers this.
    Echo(&'a RunResponse),
}

/// All processes of one side of the comparison. They end in this order when it is dropped.
pub struct Fleet {
    shim: Process,
    worker: Process,
    nats: Process,
    target: Target,
    _folder: TempDir,
}

impl Fleet {
    /// Starts one and waits for the answer to its first call, which fetches and compiles whatever there is to be.
    pub async fn start(kind: Kind<'_>) -> anyhow::Result<(Self, ExecuteResponse)> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let (mut nats, server) = start_nats(folder.path()).await?;
        let key = store_bundle(&folder.path().join("store"))?;
        let mut worker = match &kind {
            Kind::Worker(settings) => real_worker(folder.path(), &server, settings)?,
            Kind::Echo(answer) => echo_worker(folder.path(), &server, answer)?,
        };
        let settings = [("LONGSHORE_HTTP_ADDR", "127.0.0.1:0".to_owned())];
        let mut command = ours_with("gateway-shim", &server, "shim", settings)?;
        let mut shim = Process::start("gateway-shim", folder.path(), &mut command)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, shim.port().await?));
        let target = Target { address, tenant: TENANT, extension: EXTENSION, body: request(&key) };
        // A call waits for the first worker to announce itself, so this is also the wait for readiness.
        let first = Connection::open(target.clone()).await?.call().await;
        for process in [&mut nats, &mut worker, &mut shim] {
            process.check_runs()?;
        }
        let first = first.context("the first call")?;
        let error = first.error.as_deref().unwrap_or("none");
        anyhow::ensure!(first.status == 200, "the first call: status {}, error {error}", first.status);
        Ok((Self { shim, worker, nats, target, _folder: folder }, first))
    }

    /// Whom to load.
    pub fn target(&self) -> Target {
        self.target.clone()
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

struct Server {
    url: String,
    passwords: BTreeMap<&'static str, String>,
}

async fn start_nats(folder: &Path) -> anyhow::Result<(Process, Server)> {
    let config = folder.join("nats.conf");
    std::fs::write(&config, NATS_CONF)?;
    // A letter first: the server reads a password as it reads its configuration, where `123` is a number.
    let password = |user| (user, format!("p{}", Token::random()));
    let passwords: BTreeMap<_, _> = ["shim", "worker", "caller", "admin"].map(password).into();
    let mut command = Command::new(nats_server()?);
    command.env_clear().arg("-c").arg(&config).args(["-a", "127.0.0.1", "-p", "-1"]);
    command.arg("--ports_file_dir").arg(folder);
    command.env("NATS_STORE_DIR", format!("\"{}\"", folder.join("jetstream").display()));
    for (user, password) in &passwords {
        command.env(format!("NATS_{}_PASSWORD", user.to_uppercase()), password);
    }
    let mut process = Process::start("nats-server", folder, &mut command)?;
    let ports = folder.join(format!("nats-server_{}.ports", process.id()));
    // Written when it listens.
    let url = process.until("the port", || client_url(&std::fs::read(&ports).ok()?)).await?;
    Ok((process, Server { url, passwords }))
}

fn client_url(ports: &[u8]) -> Option<String> {
    let ports: serde_json::Value = serde_json::from_slice(ports).ok()?;
    Some(ports.pointer("/nats/0")?.as_str()?.to_owned())
}

/// A folder as bundle store, with the example in it.
fn store_bundle(store: &Path) -> anyhow::Result<BundleKey> {
    let archive = pack_files([("manifest.json", MANIFEST), ("dist/main.wasm", COMPONENT)], PACK_LEVEL)?;
    let key =
        BundleKey { tenant: TENANT.parse()?, extension: EXTENSION.parse()?, hash: content_hash(&archive) };
    let path = store.join(key.object_key().as_str());
    std::fs::create_dir_all(path.parent().unwrap_or(store))?;
    std::fs::write(&path, archive)?;
    Ok(key)
}

/// The request of every call.
fn request(key: &BundleKey) -> Bytes {
    let request = json!({
        "context": {
            "request_id": "bench",
            "tenant_id": TENANT,
            "extension_id": EXTENSION,
            "install_id": "bench",
            "version_id": "bench",
            "content_hash": key.hash,
            "config": {},
        },
        "http": { "method": "GET", "path": "/hello", "query": {}, "headers": { "accept": "application/json" } },
        "limits": { "timeout_ms": 30_000, "memory_mb": 64 },
        "providers": ["cap:context.read", "cap:log.emit", "cap:user.read"],
        "user": {
            "user_id": "1",
            "user_email": "bench@example.com",
            "user_name": "Bench",
            "user_type": "internal",
            "client_name": "Longshore",
        },
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
        .env("NATS_PASSWORD", server.passwords.get(user).map_or("", String::as_str))
        .env("LONGSHORE_LOG_FORMAT", "json")
        .envs(settings);
    Ok(command)
}

fn real_worker(folder: &Path, server: &Server, more: &[Setting]) -> anyhow::Result<Process> {
    let folder_setting = |name: &str| folder.join(name).display().to_string();
    let settings = [
        ("WORKER_HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ("WORKER_SLOTS", SLOTS.to_string()),
        ("BUNDLE_STORE_BASE", folder_setting("store")),
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
        .env("NATS_PASSWORD", server.passwords.get("worker").map_or("", String::as_str))
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
        let key = store_bundle(store.path()).unwrap();
        let request: ExecuteRequest = serde_json::from_slice(&request(&key)).unwrap();
        let (run, _) =
            request.into_run(RoutingHeaders { tenant: Some(TENANT), extension: Some(EXTENSION) }).unwrap();
        assert_eq!(run.context.content_hash, key.hash);
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

    #[test]
    fn the_servers_address_is_read_from_its_ports_file_once_it_is_whole() {
        assert_eq!(client_url(br#"{"nats":["nats://127.0.0.1:4711"]}"#).unwrap(), "nats://127.0.0.1:4711");
        assert_eq!(client_url(br#"{"nats":["nats://127"#), None);
        assert_eq!(client_url(br#"{"nats":[]}"#), None);
    }
}
