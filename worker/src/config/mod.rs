//! Settings of a worker, read once.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod host;

pub use host::{HostSettings, HostSetupError, Keeper, Permission};

use longshore_bundle::signature::{TrustError, Verifier};
use longshore_bundle::{ArchiveLimits, CacheConfig, StoreConfig};
use longshore_proto::limits::MAX_MEMORY_MB;
use longshore_proto::{BootId, PoolName};
use longshore_schedules::{NatsSchedules, PlatformSchedules, Schedules, StandaloneConfig};
use longshore_secrets::KeyRing;
use longshore_service::config::{
    ByteSize, ConfigErrors, LifecycleConfig, Millis, NatsConfig, ScheduleKeeper, ScheduleSettings,
    SecretsConfig, SignatureSettings, StoreSettings, TelemetryConfig,
};
use longshore_service::nats::Watcher;
use longshore_service::upstream::Upstream;
use longshore_trace::TraceSettings;

use crate::admit::AdmitConfig;
use crate::admit::table::TableConfig;
use crate::debug::{DebugConfig, RecordingConfig};
use crate::engine::config::{Compiler, EngineConfig};
use crate::execute::ExecutorConfig;
use crate::host::backends::{Backends, HostMetrics};
use crate::limits::WorkerMaxima;

longshore_service::setting_enum! {
    /// Where guest output appears besides the debug stream.
    pub enum GuestLog {
        /// Nowhere else.
        Off = "off",
        /// As lines of the worker's own log, with tenant, extension and request.
        Stdout = "stdout",
    }
}

longshore_service::settings! {
    /// Settings of a worker process.
    pub struct WorkerConfig, group "Worker", validate check {
        /// Executions at a time in this process.
        pub slots: NonZeroU32 = "8", env "WORKER_SLOTS";
        /// The pool that this worker belongs to.
        pub pool: PoolName = "default", env "WORKER_POOL";
        /// A label in announcements and logs. Unset: the host's name.
        pub name: Option<String>, env "WORKER_NAME";
        /// Where health and metrics are served.
        pub http_addr: SocketAddr = "127.0.0.1:8081", env "WORKER_HTTP_ADDR";
        /// Threads that run guests. More than two contend on the memory map of the process (1,648 calls/s at one connection, 951 at sixteen):
        /// start more processes instead.
        pub guest_threads: NonZeroUsize = "2", env "WORKER_GUEST_THREADS";
        /// Bytes of answers kept until their shim has acknowledged them; a tenant gets a quarter.
        pub answer_bytes: ByteSize = "256MiB", env "WORKER_ANSWER_BYTES";
        /// Where bundles are unpacked and compiled artifacts kept. Processes of one user may share it.
        pub cache_root: PathBuf = "/tmp/alga-ext-cache", env "EXT_CACHE_ROOT";
        /// Unpacked bytes kept there; the least recently used bundles go first, those in use never.
        pub cache_max_bytes: ByteSize = "8GiB", env "EXT_CACHE_MAX_BYTES";
        /// Bytes of compiled artifacts kept there.
        pub artifact_bytes: ByteSize = "8GiB", env "WORKER_ARTIFACT_BYTES";
        /// The largest bundle that is fetched, compressed. The existing platform accepts 200 MiB.
        pub max_archive_bytes: ByteSize = "200MiB", env "WORKER_MAX_ARCHIVE_BYTES";
        /// Instances that the pooling allocator reserves address space for; at least `WORKER_SLOTS`. Unset: four times the slots.
        pub pool_total_components: Option<u32>, env "WASM_POOL_TOTAL_COMPONENTS";
        /// Whether components of WASI 0.3 (`wasi:http/handler@0.3`) run. wasmtime calls its implementation experimental, and it costs every execution some microseconds.
        pub wasi_p3: bool = "false", env "WORKER_WASI_P3";
        /// What compiles components: `cranelift`, or `winch` for development (an eighth of the time; slower code; x86-64 with AVX alone).
        pub compiler: Compiler = "cranelift", env "WORKER_COMPILER";
        /// Memory and tables of one execution, in MiB; at most 1024.
        pub memory_mb: u64 = "1024", env "WORKER_MAX_MEMORY_MB";
        /// Host calls of one execution.
        pub host_calls: u64 = "10000", env "WORKER_MAX_HOST_CALLS";
        /// Requests that one execution sends with `http.fetch` and `wasi:http`.
        pub outbound_requests: u64 = "50", env "WORKER_MAX_OUTBOUND_REQUESTS";
        /// CPU time of one execution. Unset or 0: bounded by its wall time alone.
        pub cpu_time: Option<Millis>, env "WORKER_MAX_CPU_MS";
        /// Bytes that one execution may log; what is over is dropped and counted.
        pub log_bytes: ByteSize = "1MiB", env "WORKER_MAX_LOG_BYTES";
        /// Lines that one execution may log; what is over is dropped and counted.
        pub log_lines: u64 = "10000", env "WORKER_MAX_LOG_LINES";
        /// Bytes of one answer.
        pub response_bytes: ByteSize = "16MiB", env "WORKER_MAX_RESPONSE_BYTES";
        /// Where guest output appears besides the debug stream: `off` or `stdout`.
        pub guest_log: GuestLog = "off", env "LONGSHORE_GUEST_LOG";
        /// Host capabilities.
        pub host: HostSettings;
        /// Sealed secrets.
        pub secrets: SecretsConfig;
        /// Schedules.
        pub schedules: ScheduleSettings;
        /// Whose bundles run.
        pub signatures: SignatureSettings;
        /// The bundle store.
        pub store: StoreSettings;
        /// The connection to NATS.
        pub nats: NatsConfig;
        /// Debug events.
        pub debug: DebugConfig;
        /// Recording runs.
        pub recording: RecordingConfig;
        /// Recorded runs in Redis.
        pub traces: TraceSettings;
        /// Logs and traces.
        pub telemetry: TelemetryConfig;
        /// Start and stop.
        pub lifecycle: LifecycleConfig;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn check(config: &WorkerConfig, errors: &mut ConfigErrors) {
    if config.memory_mb == 0 || config.memory_mb > MAX_MEMORY_MB {
        errors.other(format!("WORKER_MAX_MEMORY_MB is {}: expected 1 to {MAX_MEMORY_MB}", config.memory_mb));
    }
    if config.store.base.is_none() {
        errors
            .other("BUNDLE_STORE_BASE is not set: expected http://host:port/bucket, s3://bucket or a folder");
    } else if let Err(error) = config.store().open() {
        errors.other(error.to_string());
    }
    if config.schedules.keeper == Some(ScheduleKeeper::Platform) && config.host.platform_base().is_none() {
        errors.other("LONGSHORE_SCHEDULER=platform needs STORAGE_API_BASE_URL: the platform's address");
    }
    if let Err(error) = config.verifier() {
        errors.other(longshore_service::errors::chain(&error).to_string());
    }
    if let Err(error) = config.engine().pool_instances() {
        errors.other(error.to_string());
    }
}

impl WorkerConfig {
    /// The name in announcements.
    pub fn display_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
    }

    /// The bundle store.
    pub fn store(&self) -> StoreConfig {
        let exposed =
            |key: &Option<longshore_service::config::Secret>| key.as_ref().map(|k| k.expose().to_owned());
        StoreConfig {
            base: self.store.base.clone().unwrap_or_default(),
            endpoint: self.store.endpoint.clone(),
            access_key: exposed(&self.store.access_key),
            secret_key: exposed(&self.store.secret_key),
            region: Some(self.store.region.clone()),
        }
    }

    /// Who checks signatures; None when nothing is looked at.
    ///
    /// # Errors
    /// A trust bundle that cannot be used.
    pub fn verifier(&self) -> Result<Option<Arc<Verifier>>, TrustError> {
        Verifier::open(self.signatures.policy().as_str().parse()?, self.signatures.trust_bundle.as_deref())
    }

    /// The bundle cache.
    pub fn cache(&self) -> CacheConfig {
        let mut cache = CacheConfig::new(&self.cache_root);
        cache.max_bytes = self.cache_max_bytes.bytes();
        cache.limits =
            ArchiveLimits { archive_bytes: self.max_archive_bytes.bytes(), ..ArchiveLimits::default() };
        cache
    }

    fn engine(&self) -> EngineConfig {
        EngineConfig {
            slots: self.slots.get(),
            pool_total_components: self.pool_total_components,
            artifact_bytes: self.artifact_bytes.bytes(),
            wasi_p3: self.wasi_p3,
            compiler: self.compiler,
            ..EngineConfig::new(&self.cache_root)
        }
    }

    /// The engine and what one run may use.
    pub fn executor(&self) -> ExecutorConfig {
        ExecutorConfig {
            maxima: WorkerMaxima {
                memory_mb: self.memory_mb,
                cpu_ms: self.cpu_time.map(|t| millis(t.get())).filter(|ms| *ms > 0),
                host_calls: self.host_calls,
                outbound_requests: self.outbound_requests,
                log_bytes: self.log_bytes.bytes(),
                log_lines: self.log_lines,
                response_bytes: self.response_bytes.bytes(),
            },
            guest_log: self.guest_log == GuestLog::Stdout,
            ..ExecutorConfig::new(self.engine())
        }
    }

    /// What capabilities stand on. Nothing is asked of NATS or a platform yet: their absence costs the calls that need them.
    ///
    /// # Errors
    /// Something that is configured cannot be used.
    pub async fn backends(
        &self,
        client: async_nats::Client,
        link: Watcher,
        metrics: HostMetrics,
    ) -> Result<Backends, HostSetupError> {
        let host = &self.host;
        let upstream = Upstream::new()?;
        let platform = host.platform(&upstream)?;
        let storage = match (host.keeper(host.storage), &platform) {
            (Keeper::Platform, Some(platform)) => longshore_storage::on_platform(platform.clone()),
            _ => longshore_storage::on_jetstream(client.clone(), host.jetstream()).await?,
        };
        let standalone = || {
            let config =
                StandaloneConfig { min_interval: self.schedules.min_interval.get(), pool: self.pool.clone() };
            Arc::new(NatsSchedules::new(client.clone(), link.clone(), config)) as Arc<dyn Schedules>
        };
        let schedules = match (self.schedules.keeper, &platform) {
            (Some(ScheduleKeeper::Off), _) => None,
            (Some(ScheduleKeeper::Nats), _) | (_, None) => Some(standalone()),
            (_, Some(platform)) => Some(Arc::new(PlatformSchedules::new(platform.clone())) as _),
        };
        let ring = self.secrets.key_file.as_deref().map(KeyRing::load).transpose()?;
        Ok(Backends {
            egress: host.egress()?,
            secrets: host.opener(ring)?,
            storage: Some(storage),
            schedules,
            ui_proxy: host.proxy(&upstream)?,
            platform,
            metrics,
        })
    }

    /// Admission.
    pub fn admit(&self) -> AdmitConfig {
        AdmitConfig {
            boot: BootId::random(),
            pool: self.pool.clone(),
            name: self.display_name(),
            table: TableConfig {
                slots: self.slots.get(),
                max_answer_bytes: self.answer_bytes.as_usize(),
                ..TableConfig::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use longshore_service::config::Settings as _;

    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<WorkerConfig, String> {
        let env: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        WorkerConfig::load(&env, ["worker".to_owned()]).map_err(|e| e.to_string())
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let error =
            load(&[("WORKER_SLOTS", "0"), ("WORKER_POOL", "shim"), ("S3_ACCESS_KEY", "k")]).unwrap_err();
        for name in ["WORKER_SLOTS", "WORKER_POOL", "S3_SECRET_KEY"] {
            assert!(error.contains(name), "{name} in {error}");
        }
    }

    #[test]
    fn a_pool_smaller_than_the_slots_is_a_start_error() {
        let error = load(&[("BUNDLE_STORE_BASE", "/tmp"), ("WASM_POOL_TOTAL_COMPONENTS", "4")]).unwrap_err();
        assert!(error.contains("WASM_POOL_TOTAL_COMPONENTS"), "{error}");
    }

    #[test]
    fn an_alias_with_another_value_is_a_start_error_that_names_both() {
        let error = load(&[("BUNDLE_STORE_BASE", "/a"), ("RUNNER_BUNDLE_STORE_BASE", "/b")]).unwrap_err();
        assert!(error.contains("BUNDLE_STORE_BASE") && error.contains("RUNNER_BUNDLE_STORE_BASE"), "{error}");
        assert!(load(&[("BUNDLE_STORE_BASE", "/a"), ("RUNNER_BUNDLE_STORE_BASE", "/a")]).is_ok());
    }

    #[test]
    fn a_trust_bundle_that_cannot_be_used_is_a_start_error_that_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust.pem");
        let with = |path: &std::path::Path| {
            load(&[("BUNDLE_STORE_BASE", "/tmp"), ("SIGNING_TRUST_BUNDLE", path.to_str().unwrap())])
        };
        let error = with(&path).unwrap_err();
        assert!(error.contains("SIGNING_TRUST_BUNDLE") && error.contains("No such file"), "{error}");
        std::fs::write(&path, "Revokd: yes\n").unwrap();
        let error = with(&path).unwrap_err();
        assert!(error.contains("trust.pem") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn the_documented_defaults_are_what_runs() {
        let config = load(&[("BUNDLE_STORE_BASE", "/tmp")]).unwrap();
        assert_eq!((config.slots.get(), config.pool.as_str()), (8, "default"));
        assert!(!WorkerConfig::groups().is_empty());
    }
}
