//! From a component's file to something that can be instantiated, once: in memory, on disk, compiled.
//!
//! Concurrent requests for one component wait for the same load. The load is a task of its own: it goes on when the
//! call that started it has run out of time, so that the next call finds it done.

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::artifacts::{ArtifactStore, Digest, Found, Loaded};
use super::config::EngineConfig;
use super::handler::{Handler, Kind};
use super::runtime::Runtime;
use super::source::SourceComponent;
use super::stats::{Counters, EngineStats, count};
use super::trusted;
use crate::host::compat::{LinkError, Linkers};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use longshore_proto::{CallError, ErrorCode};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;

/// Components remembered as unusable.
const FAILURES: u64 = 1_024;
/// How much of a compiler's message the caller sees.
const MESSAGE_BYTES: usize = 400;

/// A component that is linked and can be instantiated at once.
pub struct Prepared {
    /// Imports resolved, the handler's kind and place known.
    pub handler: Handler,
    /// Length of its artifact.
    pub artifact_bytes: u64,
    component: wasmtime::component::Component,
    linkers: Arc<Linkers>,
    /// The same for runs with a tape; linked when the first one comes.
    taped: OnceLock<Result<Handler, String>>,
}

impl Prepared {
    /// The handler for runs with a tape.
    ///
    /// # Errors
    /// It does not link, which the other did: a bug.
    pub fn taped(&self) -> Result<&Handler, CallError> {
        let made = self.taped.get_or_init(|| {
            let kind = Kind::of(&self.component).ok_or_else(|| PrepareError::NoHandler.to_string())?;
            let pre = self.linkers.instantiate_pre_taped(&self.component).map_err(|e| e.to_string())?;
            Handler::new(kind, pre).map_err(|e| shown(&e))
        });
        made.as_ref().map_err(|words| CallError::new(ErrorCode::Link, words.clone()))
    }
}

/// Why a component cannot be instantiated.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Not a component, or one that the compiler refuses.
    #[error("{0}")]
    Compile(String),
    /// It imports what this host does not have, or has with another type.
    #[error("{0}")]
    Link(String),
    /// It exports nothing that answers calls.
    #[error("the component exports neither a function `handler` nor `wasi:http/incoming-handler@0.2`")]
    NoHandler,
    /// It is over the limit.
    #[error("the component has {bytes} bytes; {limit} are allowed")]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Its file cannot be read.
    #[error("the component file cannot be read")]
    Read(#[source] std::io::Error),
    /// Its file is not what its digest says.
    #[error("the component file does not have its digest")]
    Digest,
    /// The load ended without a result: a panic, or the process is stopping.
    #[error("the load was abandoned")]
    Abandoned,
}

impl PrepareError {
    /// What the caller is told.
    pub fn call_error(&self) -> CallError {
        match self {
            Self::Compile(message) => CallError::new(ErrorCode::Compile, message.clone()),
            Self::Link(message) => CallError::new(ErrorCode::Link, message.clone()),
            Self::NoHandler => ErrorCode::ExtensionHasNoHandler.into(),
            Self::TooLarge { .. } => CallError::new(ErrorCode::Compile, self.to_string()),
            Self::Read(_) | Self::Digest => CallError::new(ErrorCode::BundleCacheFailed, self.to_string()),
            Self::Abandoned => ErrorCode::Internal.into(),
        }
    }

    /// Whether another try with the same bytes would end the same way.
    fn is_final(&self) -> bool {
        matches!(self, Self::Compile(_) | Self::Link(_) | Self::NoHandler | Self::TooLarge { .. })
    }
}

/// What a load gives to everybody who waits for it.
pub type PrepareResult = Result<Arc<Prepared>, Arc<PrepareError>>;

/// All components of the process.
#[derive(Clone)]
pub struct Components(Arc<Inner>);

struct Inner {
    runtime: Arc<Runtime>,
    linkers: Arc<Linkers>,
    artifacts: ArtifactStore,
    ready: moka::sync::Cache<Digest, Arc<Prepared>>,
    failed: moka::sync::Cache<Digest, Arc<PrepareError>>,
    loading: Mutex<HashMap<Digest, Shared<BoxFuture<'static, PrepareResult>>>>,
    compile_turn: Semaphore,
    compilers: rayon::ThreadPool,
    component_bytes: u64,
    counters: Counters,
    tasks: TaskTracker,
}

/// The compile cache cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ComponentsError {
    /// The artifact folder.
    #[error(transparent)]
    Artifacts(#[from] super::artifacts::ArtifactError),
    /// The compiler's threads.
    #[error("the compile threads cannot be started")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The host functions contradict each other: a bug.
    #[error("the host functions cannot be linked: {0:#}")]
    Linker(wasmtime::Error),
}

impl Components {
    /// Opens the artifacts and starts the compile threads.
    pub fn new(runtime: Arc<Runtime>, config: &EngineConfig) -> Result<Self, ComponentsError> {
        let artifacts =
            ArtifactStore::open(&config.cache_root, runtime.fingerprint(), config.artifact_bytes)?;
        let linkers = crate::host::linker(runtime.engine(), config.wasi_p3)
            .and_then(Linkers::new)
            .map_err(ComponentsError::Linker)?;
        let compilers = rayon::ThreadPoolBuilder::new()
            .num_threads(config.compile_threads.max(1))
            .thread_name(|i| format!("compile-{i}"))
            .stack_size(8 << 20)
            .start_handler(|_| lower_priority())
            .build()?;
        Ok(Self(Arc::new(Inner {
            runtime,
            linkers: Arc::new(linkers),
            artifacts,
            ready: moka::sync::Cache::builder()
                .max_capacity(config.ready_bytes)
                .weigher(|_, p: &Arc<Prepared>| u32::try_from(p.artifact_bytes).unwrap_or(u32::MAX))
                .build(),
            failed: moka::sync::Cache::builder()
                .max_capacity(FAILURES)
                .time_to_live(config.failure_memory)
                .build(),
            loading: Mutex::default(),
            compile_turn: Semaphore::new(config.compile_jobs.max(1)),
            compilers,
            component_bytes: config.component_bytes,
            counters: Counters::default(),
            tasks: TaskTracker::new(),
        })))
    }

    /// The component, from wherever it is quickest. Needs a tokio runtime. Dropping the future does not stop the load.
    pub async fn get(&self, source: &SourceComponent) -> PrepareResult {
        let inner = &self.0;
        if let Some(known) = inner.known(&source.sha256) {
            return known;
        }
        let load = {
            let mut loading = inner.loading.lock();
            // A load leaves the map after it has filled the cache: look again, under the lock.
            if let Some(known) = inner.known(&source.sha256) {
                return known;
            }
            loading.entry(source.sha256).or_insert_with(|| Inner::start(inner, source.clone())).clone()
        };
        load.await
    }

    /// The counters.
    pub fn stats(&self) -> EngineStats {
        self.0.counters.read()
    }

    /// Resolves when no load is running: before the process ends.
    pub async fn idle(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Inner {
    fn known(&self, digest: &Digest) -> Option<PrepareResult> {
        match self.ready.get(digest) {
            Some(prepared) => Some(Ok(prepared)),
            None => self.failed.get(digest).map(Err),
        }
    }

    fn start(inner: &Arc<Self>, source: SourceComponent) -> Shared<BoxFuture<'static, PrepareResult>> {
        let (done, result) = oneshot::channel();
        let entry = Entry { inner: Arc::clone(inner), digest: source.sha256 };
        inner.tasks.spawn(async move {
            let result = Self::load(&entry.inner, source).await.map(Arc::new).map_err(Arc::new);
            match &result {
                Ok(prepared) => entry.inner.ready.insert(entry.digest, Arc::clone(prepared)),
                Err(e) => {
                    count(&entry.inner.counters.failures);
                    tracing::warn!(
                        component = hex::encode(entry.digest),
                        error = &**e as &dyn std::error::Error,
                        "the component cannot be used"
                    );
                    if e.is_final() {
                        entry.inner.failed.insert(entry.digest, Arc::clone(e));
                    }
                }
            }
            drop(entry);
            let _ = done.send(result);
        });
        result.map(|r| r.unwrap_or_else(|_| Err(Arc::new(PrepareError::Abandoned)))).boxed().shared()
    }

    /// The artifact if there is one (not waiting for anybody's compilation), otherwise in turn with others: compile.
    async fn load(inner: &Arc<Self>, source: SourceComponent) -> Result<Prepared, PrepareError> {
        let look = Arc::clone(inner);
        let digest = source.sha256;
        let found = blocking(move || look.on_disk(&digest).map(|l| look.link(l)).transpose()).await?;
        if let Some(prepared) = found {
            return Ok(prepared);
        }
        let _turn = inner.compile_turn.acquire().await.map_err(|_| PrepareError::Abandoned)?;
        let compile = Arc::clone(inner);
        blocking(move || compile.compile(&source).and_then(|l| compile.link(l))).await
    }

    fn on_disk(&self, digest: &Digest) -> Option<Loaded> {
        let component = || hex::encode(digest);
        match self.artifacts.load(self.runtime.engine(), digest) {
            Ok(Found::Yes(loaded)) => {
                count(&self.counters.artifact_hits);
                return Some(loaded);
            }
            Ok(Found::No) => {}
            Ok(Found::Refused(why)) => {
                count(&self.counters.artifacts_refused);
                tracing::warn!(component = component(), why, "compiled artifact refused; compiling again");
            }
            Err(e) => {
                tracing::warn!(
                    component = component(),
                    error = &e as &dyn std::error::Error,
                    "compiled artifact cannot be read; compiling again"
                );
            }
        }
        None
    }

    fn compile(&self, source: &SourceComponent) -> Result<Loaded, PrepareError> {
        let digest = &source.sha256;
        // Without the lock two processes may both compile: slower, not wrong.
        let lock = self.artifacts.lock(digest);
        if let Err(e) = &lock {
            tracing::warn!(error = e as &dyn std::error::Error, "no lock for compiling");
        } else if let Some(loaded) = self.on_disk(digest) {
            return Ok(loaded);
        }
        let bytes = self.read(source)?;
        let started = Instant::now();
        let engine = self.runtime.engine();
        let artifact = self
            .compilers
            .install(|| engine.precompile_component(&bytes))
            .map_err(|e| PrepareError::Compile(shown(&e)))?;
        drop(bytes);
        count(&self.counters.compiles);
        let took = started.elapsed();
        self.counters.compile_ms.fetch_add(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), Relaxed);
        tracing::info!(component = hex::encode(digest), ms = took.as_millis(), "component compiled");
        match self.artifacts.save(digest, &artifact) {
            Ok(evicted) => {
                self.counters.artifacts_evicted.fetch_add(evicted.0, Relaxed);
                // Mapped from the file, its pages are shared with other processes.
                if let Ok(Found::Yes(loaded)) = self.artifacts.load(engine, digest) {
                    return Ok(loaded);
                }
            }
            Err(e) => {
                count(&self.counters.artifact_write_failures);
                tracing::warn!(error = &e as &dyn std::error::Error, "compiled artifact cannot be kept");
            }
        }
        let component = trusted::load(engine, &artifact).map_err(|e| PrepareError::Compile(shown(&e)))?;
        Ok(Loaded { component, bytes: artifact.len() as u64 })
    }

    /// The bytes are checked against the digest once more: the artifact made from them will be trusted under that
    /// name by every later start.
    fn read(&self, source: &SourceComponent) -> Result<Vec<u8>, PrepareError> {
        let file = std::fs::File::open(&source.path).map_err(PrepareError::Read)?;
        let length = file.metadata().map_err(PrepareError::Read)?.len();
        if length > self.component_bytes {
            return Err(PrepareError::TooLarge { bytes: length, limit: self.component_bytes });
        }
        let mut bytes = Vec::new();
        file.take(self.component_bytes).read_to_end(&mut bytes).map_err(PrepareError::Read)?;
        if Sha256::digest(&bytes)[..] != source.sha256 {
            return Err(PrepareError::Digest);
        }
        Ok(bytes)
    }

    fn link(&self, loaded: Loaded) -> Result<Prepared, PrepareError> {
        let Loaded { component, bytes } = loaded;
        let kind = Kind::of(&component).ok_or(PrepareError::NoHandler)?;
        let pre = self.linkers.instantiate_pre(&component).map_err(|e| match e {
            LinkError::Shape(message) => PrepareError::Link(message),
            LinkError::Wasmtime(e) => {
                let message = shown(&e);
                // wasmtime names the import between backticks: "component imports instance `a:b/c`, but ...".
                let name = message.split('`').nth(1).map(str::to_owned);
                PrepareError::Link(name.unwrap_or(message))
            }
        })?;
        let handler = Handler::new(kind, pre).map_err(|e| PrepareError::Link(shown(&e)))?;
        Ok(Prepared {
            handler,
            artifact_bytes: bytes,
            component,
            linkers: Arc::clone(&self.linkers),
            taped: OnceLock::new(),
        })
    }
}

/// Takes the load out of the map, also when its task panics or is dropped with the runtime.
struct Entry {
    inner: Arc<Inner>,
    digest: Digest,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.inner.loading.lock().remove(&self.digest);
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrepareError> + Send + 'static,
) -> Result<T, PrepareError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        tracing::error!(error = &e as &dyn std::error::Error, "preparing a component ended early");
        Err(PrepareError::Abandoned)
    })
}

/// What the compiler says about the tenant's own bytes, on one line.
fn shown(error: &wasmtime::Error) -> String {
    let mut text = format!("{error:#}").replace(char::is_control, " ");
    longshore_proto::event::truncate(&mut text, MESSAGE_BYTES);
    text
}

fn lower_priority() {
    // On Linux this is the calling thread's own niceness.
    if let Err(e) = rustix::process::setpriority_process(None, 10) {
        tracing::warn!(error = &e as &dyn std::error::Error, "compile threads keep their priority");
    }
}
