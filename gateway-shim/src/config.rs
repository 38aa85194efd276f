//! Settings of the gateway, read once.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use longshore_access::AccessSettings;
use longshore_bundle::StoreConfig;
use longshore_bundle::signature::{TrustError, Verifier};
use longshore_proto::PoolName;
use longshore_service::config::{
    ConfigErrors, LifecycleConfig, Millis, NatsConfig, ScheduleKeeper, ScheduleSettings, Secret,
    SecretsConfig, SignatureSettings, StoreSettings, TelemetryConfig,
};
use url::Url;

use crate::dev_host::DevHostSettings;
use crate::dispatch::machine::MachineConfig;
use crate::gateway::GatewayConfig;
use crate::http::HttpConfig;
use crate::ui::AssetSettings;

longshore_service::setting_enum! {
    /// Where installs come from.
    pub enum RegistryBackend {
        /// From NATS: standalone.
        Nats = "nats",
        /// From the platform's HTTP API.
        Platform = "platform",
    }
}

longshore_service::settings! {
    /// Settings of a gateway process.
    pub struct ShimConfig, group "Gateway", validate check {
        /// Calls of one tenant and extension that may wait for a slot; one more is answered 429 `queue_full`.
        pub max_waiting_per_extension: NonZeroUsize = "256", env "LONGSHORE_MAX_WAITING_PER_EXTENSION";
        /// Calls that may wait for a slot in all; a tenant may hold a quarter of these places.
        pub max_waiting: NonZeroUsize = "4096", env "LONGSHORE_MAX_WAITING";
        /// Pools that scale from zero: their calls wait for a worker instead of being answered `no_workers`.
        pub hold_pools: Vec<PoolName> = "", env "LONGSHORE_HOLD_POOLS";
        /// The HTTP side.
        pub http: HttpConfig;
        /// Calls by browsers and API clients.
        pub gateway: GatewayConfig;
        /// Who may make them.
        pub access: AccessSettings;
        /// Installs.
        pub registry: RegistrySettings;
        /// Secrets on their way to a worker.
        pub secrets: SecretsConfig;
        /// Schedules.
        pub schedules: ScheduleSettings;
        /// Their firing.
        pub firing: FiringSettings;
        /// UI assets.
        pub assets: AssetSettings;
        /// The host page of development.
        pub dev_host: DevHostSettings;
        /// The bundle store.
        pub store: StoreSettings;
        /// Whose bundles are served.
        pub signatures: SignatureSettings;
        /// The connection to NATS.
        pub nats: NatsConfig;
        /// Logs and traces.
        pub telemetry: TelemetryConfig;
        /// Start and stop.
        pub lifecycle: LifecycleConfig;
    }
}

longshore_service::settings! {
    /// Where installs come from. `/v1/execute` names the bundle itself and needs none.
    pub struct RegistrySettings, group "Installs" {
        /// `nats` (standalone) or `platform`.
        pub backend: RegistryBackend = "nats", env "LONGSHORE_REGISTRY";
        /// The platform; only the origin of the address is used. Needed with `platform`.
        pub base_url: Option<Url>, env "REGISTRY_BASE_URL", aliases ["RUNNER_REGISTRY_BASE_URL"];
        /// What the platform expects as `x-api-key`. Needed with `platform`.
        pub auth_key: Option<Secret>, env "ALGA_AUTH_KEY", aliases ["RUNNER_ALGA_AUTH_KEY"], file "ALGA_AUTH_KEY_FILE" = "/vault/secrets/alga_auth_key";
        /// What the platform expects as `x-runner-auth` of who asks for an install. Unset: the next, and then `RUNNER_SERVICE_TOKEN`.
        pub config_token: Option<Secret>, env "RUNNER_CONFIG_API_TOKEN", file "RUNNER_CONFIG_API_TOKEN_FILE";
        /// The same, where the token above is unset.
        pub storage_token: Option<Secret>, env "RUNNER_STORAGE_API_TOKEN", file "RUNNER_STORAGE_API_TOKEN_FILE";
        /// How long an install that the platform has told is believed.
        pub install_cache: Millis = "5000", env "EXT_INSTALL_CONFIG_CACHE_MS";
    }
}

longshore_service::settings! {
    /// How schedules are fired, by the one gateway of all that holds the lease. A run's time is the timeout of the call that made the schedule.
    pub struct FiringSettings, group "Firing of schedules" {
        /// Scheduled runs at a time; what else is due waits, tenant by tenant.
        pub runs: NonZeroUsize = "8", env "LONGSHORE_SCHEDULE_RUNS";
    }
}

fn check(config: &ShimConfig, errors: &mut ConfigErrors) {
    config.gateway.check_listener(config.http.address(), errors);
    let registry = &config.registry;
    if registry.backend == RegistryBackend::Platform {
        if registry.base_url.is_none() {
            errors.other("LONGSHORE_REGISTRY=platform needs REGISTRY_BASE_URL: the platform's address");
        }
        if registry.auth_key.is_none() {
            errors.other("LONGSHORE_REGISTRY=platform needs ALGA_AUTH_KEY (or ALGA_AUTH_KEY_FILE): the platform's API key");
        }
    }
    if let Some(store) = config.store()
        && let Err(error) = store.open()
    {
        errors.other(error.to_string());
    }
}

impl ShimConfig {
    /// Checks signatures of bundles whose pages are served, if the policy says so.
    ///
    /// # Errors
    /// A trust bundle that cannot be used.
    pub fn verifier(&self) -> Result<Option<Arc<Verifier>>, TrustError> {
        Verifier::open(self.signatures.policy().as_str().parse()?, self.signatures.trust_bundle.as_deref())
    }

    /// The bundle store, if one is set: pages and manifests come from there.
    pub fn store(&self) -> Option<StoreConfig> {
        let exposed = |key: &Option<Secret>| key.as_ref().map(|k| k.expose().to_owned());
        Some(StoreConfig {
            base: self.store.base.clone()?,
            endpoint: self.store.endpoint.clone(),
            access_key: exposed(&self.store.access_key),
            secret_key: exposed(&self.store.secret_key),
            region: Some(self.store.region.clone()),
        })
    }

    /// Scheduled runs at a time, if this gateway takes part in their firing: the platform fires its own.
    pub fn max_scheduled_runs(&self) -> Option<usize> {
        match self.schedules.keeper.unwrap_or(ScheduleKeeper::Nats) {
            ScheduleKeeper::Nats => Some(self.firing.runs.get()),
            ScheduleKeeper::Platform | ScheduleKeeper::Off => None,
        }
    }

    /// The dispatcher.
    pub fn machine(&self) -> MachineConfig {
        MachineConfig {
            max_waiting_per_extension: self.max_waiting_per_extension.get(),
            max_waiting: self.max_waiting.get(),
            hold_pools: self.hold_pools.iter().cloned().collect::<HashSet<_>>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<ShimConfig, String> {
        let env: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ShimConfig::load(&env, ["gateway-shim".to_owned()]).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_needs_to_be_set() {
        let config = load(&[]).unwrap();
        assert_eq!(config.machine().max_waiting_per_extension, 256);
        assert!(config.assets.strict);
    }

    #[test]
    fn the_platform_backend_names_all_that_it_misses() {
        let error = load(&[("LONGSHORE_REGISTRY", "platform")]).unwrap_err();
        assert!(error.contains("REGISTRY_BASE_URL") && error.contains("ALGA_AUTH_KEY"), "{error}");
    }

    #[test]
    fn schedules_are_fired_here_only_when_they_are_kept_in_nats() {
        let runs = |pairs: &[(&str, &str)]| load(pairs).unwrap().max_scheduled_runs();
        assert_eq!(runs(&[]), Some(8));
        assert_eq!(runs(&[("LONGSHORE_SCHEDULER", "nats"), ("LONGSHORE_SCHEDULE_RUNS", "2")]), Some(2));
        assert_eq!(runs(&[("LONGSHORE_SCHEDULER", "platform")]), None);
        assert_eq!(runs(&[("LONGSHORE_SCHEDULER", "off")]), None);
        assert!(load(&[("LONGSHORE_SCHEDULE_RUNS", "0")]).is_err());
    }

    #[test]
    fn a_development_tenant_starts_on_loopback_only() {
        let error = load(&[("LONGSHORE_DEV_TENANT", "t")]).unwrap_err();
        assert!(error.contains("LONGSHORE_HTTP_ADDR=127.0.0.1:8080"), "{error}");
        load(&[("LONGSHORE_DEV_TENANT", "t"), ("LONGSHORE_HTTP_ADDR", "127.0.0.1:8085")]).unwrap();
    }

    #[test]
    fn the_platforms_key_is_never_printed() {
        let config = load(&[("RUNNER_ALGA_AUTH_KEY", "canary-7c1")]).unwrap();
        assert!(!format!("{config} {config:?}").contains("canary-7c1"));
    }
}
