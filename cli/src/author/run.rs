//! `longshore call --bundle`: one call of a handler in this process, with the worker's own engine and host, and without any server: storage is a
//! map that ends with the call; schedules and the platform's own interfaces answer as where none is configured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::StatusCode;
use longshore_bundle::ArchiveLimits;
use longshore_bundle::archive::content_hash;
use longshore_bundle::author::{self, Severity};
use longshore_egress::{Egress, EgressConfig, EgressRules, SystemResolver};
use longshore_proto::call::{RunContext, RunHttp, SecretEnvelope};
use longshore_proto::event::{DebugEvent, Kind};
use longshore_proto::extension_ids::ExtensionIds;
use longshore_proto::limits::{MAX_BODY_BYTES, MAX_TIMEOUT_MS};
use longshore_proto::manifest::Manifest;
use longshore_proto::{
    CallError, Capability, CapabilitySet, ContentHash, ExecutionId, ExtensionId, Limits, Run, TenantId,
};
use longshore_secrets::{Opener, OpenerConfig};
use longshore_worker::engine::config::EngineConfig;
use longshore_worker::engine::source::{ComponentSource, SourceComponent};
use longshore_worker::events::EventSink;
use longshore_worker::execute::{Executor, ExecutorConfig};
use longshore_worker::host::backends::{Backends, HostMetrics};
use longshore_worker::job::{GuestResponse, Job, Outcome};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::{files, memory, pack};
use crate::exit::{Exit, Failure};
use crate::output::{Output, printable};

/// As an author sees it: nobody downloads the bundle.
const LEVEL: i32 = 1;
/// Compiling a component of 12 MB takes some 10 s of a core, and is no part of the call here.
const COMPILE_LIMIT: Duration = Duration::from_secs(300);
/// Events kept of one call; a worker stops long before.
const MAX_EVENTS: usize = 50_000;

/// What an install would say, for `call --bundle`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct InProcessArgs {
    /// With --bundle: a value of the install's configuration; may be given several times
    #[arg(long, value_name = "KEY=VALUE", requires = "bundle")]
    pub config: Vec<String>,
    /// With --bundle: a secret, KEY=@FILE, KEY=- (standard input) or KEY=env:NAME; may be given several times
    #[arg(long, value_name = "KEY=@FILE", requires = "bundle")]
    pub secret: Vec<String>,
    /// With --bundle: a granted capability; may be given several times. Unset: all that the manifest asks for
    #[arg(long, value_name = "CAPABILITY", requires = "bundle")]
    pub grant: Vec<String>,
    /// With --bundle: a host that may be reached, as in an install's list; may be given several times. Unset: none
    #[arg(long, value_name = "HOST", requires = "bundle")]
    pub egress: Vec<String>,
    /// With --bundle: the time that the handler has, in milliseconds
    #[arg(long, value_name = "MS", requires = "bundle", value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT_MS))]
    pub timeout_ms: Option<u64>,
}

/// A call, its parts read and checked.
#[derive(Clone, Debug)]
pub struct InProcessCall {
    /// A project's folder, which is packed first, or a bundle.
    pub bundle: PathBuf,
    /// Whose call it is.
    pub tenant: TenantId,
    /// In capitals.
    pub method: String,
    /// The path below the extension, with its query.
    pub path: String,
    /// In order; names may repeat.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<Bytes>,
    /// The install's secrets, name to value; see [`secrets`].
    pub secrets: BTreeMap<String, String>,
}

/// Reads the values of `--secret`, each by `read`.
///
/// # Errors
/// Text without a key, a key twice, or what `read` says.
pub fn secrets(
    given: &[String],
    read: impl Fn(&str, &str) -> Result<String, Failure>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut secrets = BTreeMap::new();
    for text in given {
        // The rest may be a value: it is not repeated.
        let (key, source) = pair(text, "--secret", "KEY=@FILE")?;
        let value = read(&format!("the secret {key}"), source)?;
        if secrets.insert(key.to_owned(), value).is_some() {
            return Err(Failure::usage(format!("--secret names {key} twice")));
        }
    }
    Ok(secrets)
}

/// Makes the call and prints what came of it: the guest's lines on stderr, the answer on stdout, all of it in one document with `--json`.
///
/// # Errors
/// The bundle is not valid, an argument is none, or the handler did not answer.
pub fn run(call: InProcessCall, args: &InProcessArgs, output: &Output) -> Result<StatusCode, Failure> {
    let guest = Guest::open(&call.bundle, output)?;
    let run = call_message(&call, args, &guest, output)?;
    if call.body.as_ref().is_some_and(|body| body.len() as u64 > MAX_BODY_BYTES) {
        return Err(Failure::usage(format!("the body is over {} MiB", MAX_BODY_BYTES >> 20)));
    }
    let events = Arc::new(Events { live: !output.json, kept: Mutex::default(), output: *output });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let cache = cache()?;
    let (outcome, took) =
        runtime.block_on(execute(&guest, run, call.body, args, Arc::clone(&events), cache.path()))?;
    runtime.shutdown_background();
    finish(outcome, took, &events, output)
}

/// A component on disk, as long as the call takes.
struct Guest {
    manifest: Arc<Manifest>,
    hash: ContentHash,
    path: PathBuf,
    sha256: [u8; 32],
    _folder: tempfile::TempDir,
}

impl Guest {
    fn open(bundle: &Path, output: &Output) -> Result<Self, Failure> {
        let limits = ArchiveLimits::default();
        let (archive, manifest) = if bundle.is_dir() {
            let packed = pack::project(bundle, LEVEL, output)?;
            (packed.archive, packed.manifest)
        } else {
            let archive = files::read(bundle, &limits)?;
            let told = |error| {
                let message =
                    format!("{} is no bundle: {}", bundle.display(), longshore_bundle::chain(&error));
                Failure::invalid("bundle_invalid", message)
            };
            let reviewed = author::review(&archive, &limits).map_err(told)?;
            let what = format!("the bundle {}", bundle.display());
            let invalid = || pack::invalid("bundle_invalid", &what, &reviewed.problems, output);
            let manifest = reviewed.manifest.clone().ok_or_else(invalid)?;
            for problem in reviewed.problems.iter().filter(|p| p.severity == Severity::Warning) {
                output.note(printable(problem.to_string()));
            }
            (archive, manifest)
        };
        let most = longshore_bundle::author::component::MAX_BYTES;
        let wasm = author::file(&archive, &limits, manifest.entry(), most)
            .map_err(|error| Failure::invalid("bundle_invalid", longshore_bundle::chain(&error)))?
            .ok_or_else(|| {
                let message =
                    format!("{} has pages and no component: there is nothing to call", bundle.display());
                Failure::invalid("extension_has_no_handler", message)
            })?;
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let path = folder.path().join("main.wasm");
        std::fs::write(&path, &wasm).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            manifest: Arc::new(manifest),
            hash: content_hash(&archive),
            path,
            sha256: Sha256::digest(&wasm).into(),
            _folder: folder,
        })
    }

    fn component(&self) -> SourceComponent {
        SourceComponent {
            path: self.path.clone(),
            sha256: self.sha256,
            manifest: Some(Arc::clone(&self.manifest)),
            lease: Arc::new(()),
        }
    }
}

/// One component, whoever asks.
struct One(SourceComponent);

#[async_trait::async_trait]
impl ComponentSource for One {
    async fn component(
        &self,
        _tenant: &TenantId,
        _extension: &ExtensionId,
        _bundle: &ContentHash,
    ) -> Result<Option<SourceComponent>, CallError> {
        Ok(Some(self.0.clone()))
    }
}

fn pair<'a>(text: &'a str, flag: &str, form: &str) -> Result<(&'a str, &'a str), Failure> {
    let (key, value) = text.split_once('=').unwrap_or_default();
    if key.is_empty() {
        return Err(Failure::usage(format!("{flag} expects {form}")));
    }
    Ok((key, value))
}

fn call_message(
    call: &InProcessCall,
    args: &InProcessArgs,
    guest: &Guest,
    output: &Output,
) -> Result<Run, Failure> {
    let ids = ExtensionIds::of(&guest.manifest);
    let config = args.config.iter().map(|text| {
        let (key, value) = pair(text, "--config", "KEY=VALUE")?;
        Ok((key.to_owned(), value.to_owned()))
    });
    let config = config.collect::<Result<BTreeMap<_, _>, Failure>>()?;
    let capabilities = granted(args, &guest.manifest, output)?;
    let slash = if call.path.starts_with('/') { "" } else { "/" };
    let mut limits = Limits::from_request(&guest.manifest.limits)
        .map_err(|error| Failure::invalid("project_invalid", error.to_string()))?;
    if let Some(timeout_ms) = args.timeout_ms {
        limits.timeout_ms = timeout_ms;
    }
    Ok(Run {
        context: RunContext {
            request_id: Some(format!("call-{:08x}", rand::random::<u32>())),
            tenant: call.tenant.clone(),
            extension: ids.extension.to_string().parse().map_err(|error| anyhow::anyhow!("{error}"))?,
            install_id: Some(ids.install(call.tenant.as_str()).to_string()),
            version_id: Some(ids.version.to_string()),
            content_hash: guest.hash,
            config,
            trigger: None,
        },
        http: RunHttp {
            method: call.method.clone(),
            url: format!("{slash}{}", call.path),
            headers: call.headers.clone(),
            scheme: Some("http".to_owned()),
            authority: Some("localhost".to_owned()),
        },
        limits,
        capabilities,
        user: Some(crate::developer::developer()),
        secret_envelope: (!call.secrets.is_empty()).then(|| SecretEnvelope {
            ciphertext_b64: BASE64.encode(json!(call.secrets).to_string()),
            algorithm: Some("inline/base64".to_owned()),
            version: None,
            expires_at: None,
            key_path: None,
            mount: None,
        }),
        egress: None,
        capture: Default::default(),
    })
}

/// What is granted: a part of what the manifest asks for, as in an install.
fn granted(args: &InProcessArgs, manifest: &Manifest, output: &Output) -> Result<CapabilitySet, Failure> {
    let asked = CapabilitySet::parse(&manifest.capabilities).unwrap_or_default();
    if args.grant.is_empty() {
        if !manifest.capabilities.is_empty() {
            output.note(format!("granted: {}", manifest.capabilities.join(", ")));
        }
        return Ok(asked);
    }
    let mut set = CapabilitySet::default();
    for text in &args.grant {
        let capability = Capability::from_manifest(text)
            .ok_or_else(|| Failure::usage(format!("--grant: {:?} is no capability", printable(text))))?;
        if !asked.has(capability) {
            let message =
                format!("--grant: the manifest does not ask for {capability}, so no install could grant it");
            return Err(Failure::usage(message));
        }
        set.insert(capability);
    }
    Ok(set)
}

async fn execute(
    guest: &Guest,
    run: Run,
    body: Option<Bytes>,
    args: &InProcessArgs,
    events: Arc<Events>,
    cache: &Path,
) -> Result<(Outcome, Duration), Failure> {
    let rules = EgressRules::from_install(&args.egress)
        .map_err(|error| Failure::usage(format!("--egress: {}", longshore_bundle::chain(&error))))?;
    // Addresses that are not public are the author's own servers, and only what is listed is reached.
    let egress = EgressConfig { rules, allow_private: true, ..EgressConfig::default() };
    let failed = |error: &dyn std::error::Error| {
        Failure::new(
            Exit::Failed,
            "failed",
            format!("the engine cannot be made: {}", longshore_bundle::chain(error)),
        )
    };
    let backends = Backends {
        egress: Egress::new(egress, Arc::new(SystemResolver)).map_err(|e| failed(&e))?,
        secrets: Opener::new(OpenerConfig::default()).map_err(|e| failed(&e))?,
        storage: Some(memory::storage()),
        schedules: None,
        platform: None,
        ui_proxy: None,
        metrics: HostMetrics::default(),
    };
    let engine = EngineConfig { slots: 1, ..EngineConfig::new(cache) };
    let source = Arc::new(One(guest.component()));
    let executor =
        Executor::new(ExecutorConfig::new(engine), source, Arc::clone(&events) as _, Arc::new(backends))
            .map_err(|error| failed(&error))?;
    let timeout = Duration::from_millis(run.limits.timeout_ms);
    let run = Arc::new(run);
    // The deadline is that of compiling too. The handler's own is the run's `timeout_ms`, which the manifest may lower.
    let started = Instant::now();
    let outcome = executor
        .execute(Job {
            execution: ExecutionId::from_bytes(rand::random()),
            attempt: 1,
            run: Arc::clone(&run),
            body,
            deadline: started + COMPILE_LIMIT + timeout,
            cancel: CancellationToken::new(),
            player: None,
        })
        .await;
    executor.idle().await;
    Ok((outcome, started.elapsed()))
}

/// Where compiled components are kept: the user's cache folder, so that the second call of the same component does not compile.
enum Cache {
    Kept(PathBuf),
    Gone(tempfile::TempDir),
}

impl Cache {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Gone(folder) => folder.path(),
        }
    }
}

/// Where this user's commands keep what can be had again.
pub(crate) fn cache_root() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let root = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    root.map(|root| root.join("longshore"))
}

fn cache() -> anyhow::Result<Cache> {
    match cache_root().filter(|path| std::fs::create_dir_all(path).is_ok()) {
        Some(path) => Ok(Cache::Kept(path)),
        // A read-only home, as in CI: it compiles each time.
        None => Ok(Cache::Gone(tempfile::tempdir().context("no temporary folder")?)),
    }
}

/// What the guest did: its lines go out as they come, the rest is kept for `--json`.
struct Events {
    live: bool,
    kept: Mutex<Vec<DebugEvent>>,
    output: Output,
}

impl EventSink for Events {
    fn emit(&self, event: DebugEvent) {
        let line = matches!(event.kind, Kind::Log | Kind::Stdout | Kind::Stderr | Kind::Dropped);
        if self.live && line {
            self.output.note(format!("{} {}", event.level.as_str(), printable(&event.message)));
        }
        let mut kept = self.kept.lock();
        if kept.len() < MAX_EVENTS {
            kept.push(event);
        }
    }
}

impl Events {
    fn lines(&self) -> Vec<Value> {
        let kept = self.kept.lock();
        let lines = kept.iter().filter(|e| matches!(e.kind, Kind::Log | Kind::Stdout | Kind::Stderr));
        lines
            .map(|e| json!({ "level": e.level.as_str(), "stream": e.stream.as_str(), "message": e.message }))
            .collect()
    }

    fn host_calls(&self) -> Vec<Value> {
        let kept = self.kept.lock();
        kept.iter()
            .filter(|e| e.kind == Kind::HostCall)
            .filter_map(|e| Some(e.whole_data()?.value()))
            .collect()
    }
}

fn finish(outcome: Outcome, took: Duration, events: &Events, output: &Output) -> Result<StatusCode, Failure> {
    let usage = outcome.usage;
    let usage = json!({
        "prepare_us": usage.prepare_us, "handler_us": usage.handler_us, "cpu_us": usage.cpu_us,
        "peak_memory_bytes": usage.peak_memory_bytes, "host_calls": usage.host_calls, "outbound_requests": usage.outbound_requests,
    });
    let response = outcome.result.map_err(|error| {
        let failure = Failure::new(Exit::Failed, error.code.as_str(), error.to_string());
        failure.details(json!({ "logs": events.lines(), "host_calls": events.host_calls(), "usage": usage }))
    })?;
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if output.json {
        output.result(&document(&response, events, &usage), String::new);
        return Ok(status);
    }
    output.note(format!("HTTP {status} in {} ms", took.as_millis()));
    for (name, value) in &response.headers {
        output.note(format!("{}: {}", printable(name), printable(value)));
    }
    let body = response.body.unwrap_or_default();
    output.bytes(&body);
    if output.is_terminal() && !body.ends_with(b"\n") {
        output.bytes(b"\n");
    }
    Ok(status)
}

fn document(response: &GuestResponse, events: &Events, usage: &Value) -> Value {
    let body = response.body.as_deref();
    let text = body.and_then(|body| std::str::from_utf8(body).ok());
    let mut document = json!({
        "status": response.status,
        "headers": response.headers,
        "logs": events.lines(),
        "host_calls": events.host_calls(),
        "usage": usage,
    });
    if let Some(object) = document.as_object_mut() {
        match (text, body) {
            (Some(text), _) => object.insert("body".to_owned(), text.into()),
            (None, Some(body)) => object.insert("body_base64".to_owned(), BASE64.encode(body).into()),
            (None, None) => None,
        };
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
    }

    fn call(bundle: PathBuf, method: &str, path: &str) -> InProcessCall {
        InProcessCall {
            bundle,
            tenant: "t-1".parse().unwrap(),
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
            secrets: BTreeMap::new(),
        }
    }

    /// Runs it without printing and gives the document.
    fn document_of(call: InProcessCall, args: &InProcessArgs) -> Value {
        let output = Output::new(true);
        let guest = Guest::open(&call.bundle, &output).unwrap();
        let run = call_message(&call, args, &guest, &output).unwrap();
        let events = Arc::new(Events { live: false, kept: Mutex::default(), output });
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let cache = tempfile::tempdir().unwrap();
        let running = execute(&guest, run, call.body, args, Arc::clone(&events), cache.path());
        let (outcome, _) = runtime.block_on(running).unwrap();
        document(&outcome.result.unwrap(), &events, &Value::Null)
    }

    #[test]
    fn a_projects_handler_answers_without_any_server() {
        let document =
            document_of(call(example("hello-rust"), "GET", "/hello?x=1"), &InProcessArgs::default());
        assert_eq!(document["status"], 200);
        let body: Value = serde_json::from_str(document["body"].as_str().unwrap()).unwrap();
        assert_eq!((&body["hello"], &body["tenant"]), (&json!("developer"), &json!("t-1")));
        assert_eq!(document["logs"][0]["message"], "GET /hello?x=1");
        let nowhere = call(example("hello-rust"), "GET", "/nowhere");
        assert_eq!(document_of(nowhere, &InProcessArgs::default())["status"], 404);
    }

    #[test]
    fn a_packed_bundle_answers_as_its_project_does() {
        let packed = pack::project(&example("hello-rust"), 1, &Output::new(true)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.tar.zst");
        std::fs::write(&path, packed.archive).unwrap();
        assert_eq!(document_of(call(path, "GET", "/hello"), &InProcessArgs::default())["status"], 200);
    }

    #[test]
    fn storage_keeps_what_was_written_within_the_call_and_denies_what_was_not_granted() {
        let manifest: Value =
            serde_json::from_slice(&std::fs::read(example("storage-rust").join("manifest.json")).unwrap())
                .unwrap();
        let path = manifest["api"]["endpoints"][0]["path"].as_str().unwrap().replace(":key", "k");
        let method = manifest["api"]["endpoints"][0]["method"].as_str().unwrap().to_owned();
        let document = document_of(call(example("storage-rust"), &method, &path), &InProcessArgs::default());
        assert!(!document["host_calls"].as_array().unwrap().is_empty(), "{document}");
        assert!(document["status"].as_u64().unwrap() < 500, "{document}");
        let none = InProcessArgs { grant: vec!["cap:log.emit".to_owned()], ..InProcessArgs::default() };
        let output = Output::new(true);
        let guest = Guest::open(&example("storage-rust"), &output).unwrap();
        let asked = granted(&none, &guest.manifest, &output);
        assert!(asked.is_err() || !asked.unwrap().has(Capability::StorageKv));
    }

    #[test]
    fn config_and_secrets_reach_the_handler_and_secrets_no_output() {
        let mut with_secret = call(example("secrets-rust"), "GET", "/");
        with_secret.secrets = BTreeMap::from([("api_key".to_owned(), "hunter2-of-tests".to_owned())]);
        let document = document_of(with_secret, &InProcessArgs::default());
        assert!(!document["logs"].to_string().contains("hunter2-of-tests"));
        assert!(!document["host_calls"].to_string().contains("hunter2-of-tests"));
        let args = InProcessArgs { config: vec!["greeting=hi".to_owned()], ..InProcessArgs::default() };
        assert!(
            document_of(call(example("config-rust"), "GET", "/"), &args)["status"].as_u64().unwrap() < 500
        );
    }

    #[test]
    fn pages_without_a_component_and_bundles_that_are_none_are_refused() {
        let failed = |path: PathBuf| {
            run(call(path, "GET", "/"), &InProcessArgs::default(), &Output::new(true)).unwrap_err()
        };
        assert_eq!(failed(example("hello-ui")).code, "extension_has_no_handler");
        assert_eq!(failed(example("nowhere")).exit, Exit::NotFound);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        std::fs::write(&path, "text").unwrap();
        assert_eq!(failed(path).exit, Exit::Invalid);
    }

    #[test]
    fn a_grant_that_the_manifest_does_not_ask_for_is_refused() {
        let manifest = Manifest { capabilities: vec!["cap:http.fetch".to_owned()], ..Manifest::default() };
        let grant = |text: &str| {
            let args = InProcessArgs { grant: vec![text.to_owned()], ..InProcessArgs::default() };
            granted(&args, &manifest, &Output::new(true))
        };
        assert!(grant("http.fetch").unwrap().has(Capability::HttpFetch));
        assert_eq!(grant("cap:storage.kv").unwrap_err().exit, Exit::Usage);
        assert_eq!(grant("cap:nothing").unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn secrets_are_read_by_key_and_their_text_is_never_repeated() {
        let read = |_: &str, source: &str| Ok(format!("value of {source}"));
        let secrets = super::secrets;
        assert_eq!(secrets(&["a=@f".to_owned()], read).unwrap()["a"], "value of @f");
        assert_eq!(secrets(&["a=@f".to_owned(), "a=-".to_owned()], read).unwrap_err().exit, Exit::Usage);
        let failure = secrets(&["hunter2".to_owned()], read).unwrap_err();
        assert!(!format!("{failure:?}").contains("hunter2"));
    }
}
