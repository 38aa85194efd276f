//! Settings of what capabilities stand on, and how it is built from them.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use longshore_egress::{Egress, EgressConfig, EgressRules, SystemResolver};
use longshore_platform::{Platform, PlatformConfig, UiProxy};
use longshore_secrets::{CacheConfig, KeyRing, Opener, OpenerConfig, VaultConfig};
use longshore_service::config::{ByteSize, ConfigErrors, Millis, Secret};
use longshore_service::errors::chain;
use longshore_service::upstream::Upstream;
use longshore_storage::{BucketSettings, JetStreamSettings, Quotas, TTL_MAX, TTL_MIN};
use url::Url;

longshore_service::setting_enum! {
    /// What is done where nothing else is said.
    pub enum Permission {
        /// It is refused.
        Deny = "deny",
        /// It is allowed.
        Allow = "allow",
    }
}

longshore_service::setting_enum! {
    /// Who keeps what extensions store.
    pub enum Keeper {
        /// The fleet itself, in JetStream.
        Nats = "nats",
        /// The platform behind `STORAGE_API_BASE_URL`.
        Platform = "platform",
    }
}

longshore_service::settings! {
    /// What host capabilities reach.
    pub struct HostSettings, group "Host capabilities", validate check {
        /// Hosts that extensions may reach, separated by commas: `host` (with its subdomains), `*.host`, `host:port`, an address or a CIDR range.
        pub allowlist: Vec<String> = "", env "EXT_EGRESS_ALLOWLIST";
        /// What an empty allowlist means: `deny`, or `allow` as in the platform that Longshore replaces.
        pub default: Permission = "deny", env "LONGSHORE_EGRESS_DEFAULT";
        /// Whether allowed names may lead to addresses that are not on the public internet (loopback, private networks, link-local and metadata
        /// services): `deny` or `allow`. For development alone.
        pub private: Permission = "deny", env "LONGSHORE_EGRESS_PRIVATE";
        /// How long connecting may take, waiting for one of the tenant's connections included.
        pub connect_timeout: Millis = "5000", env "LONGSHORE_EGRESS_CONNECT_TIMEOUT_MS";
        /// How long one outbound request may take with its whole answer. The run's deadline ends it too.
        pub total_timeout: Millis = "30000", env "LONGSHORE_EGRESS_TIMEOUT_MS";
        /// Bytes of the body of one outbound request, and of its answer.
        pub body_bytes: ByteSize = "16MiB", env "LONGSHORE_EGRESS_BODY_BYTES";
        /// Connections that one tenant may have open from this process.
        pub connections: NonZeroUsize = "32", env "LONGSHORE_EGRESS_CONNECTIONS";
        /// Who keeps the entries of `storage`: `nats` or `platform`. Unset: the platform where its address is known, else NATS.
        pub storage: Option<Keeper>, env "LONGSHORE_STORAGE";
        /// Namespaces that an install may have in NATS, here and below.
        pub storage_namespaces: u64 = "32", env "LONGSHORE_STORAGE_NAMESPACES";
        /// Keys of one namespace.
        pub storage_keys: u64 = "5120", env "LONGSHORE_STORAGE_KEYS";
        /// Bytes of all keys and values of an install, each entry rounded up to 256.
        pub storage_bytes: ByteSize = "256MiB", env "LONGSHORE_STORAGE_BYTES";
        /// How long an entry lives after it was written. Unset: for ever.
        pub storage_ttl: Option<Millis>, env "LONGSHORE_STORAGE_TTL_MS";
        /// Copies of the entries in a cluster of NATS servers, 1 to 5; it counts when the bucket is made.
        pub storage_replicas: NonZeroUsize = "1", env "LONGSHORE_STORAGE_REPLICAS";
        /// The platform's internal API for storage, scheduler, invoicing, clients and services. Unset: `REGISTRY_BASE_URL`.
        pub storage_api: Option<Url>, env "STORAGE_API_BASE_URL";
        /// The platform; only the origin of the address is used.
        pub registry: Option<Url>, env "REGISTRY_BASE_URL", aliases ["RUNNER_REGISTRY_BASE_URL"];
        /// The token that the platform expects as `x-runner-auth`. Unset: `RUNNER_SERVICE_TOKEN`.
        pub storage_token: Option<Secret>, env "RUNNER_STORAGE_API_TOKEN", file "RUNNER_STORAGE_API_TOKEN_FILE";
        /// The same, where the token above is unset.
        pub service_token: Option<Secret>, env "RUNNER_SERVICE_TOKEN", file "RUNNER_SERVICE_TOKEN_FILE";
        /// Where `ui-proxy.call-route` goes. Unset: every route is unknown.
        pub ui_proxy: Option<Url>, env "UI_PROXY_BASE_URL";
        /// How long such a call may take.
        pub ui_proxy_timeout: Millis = "5000", env "UI_PROXY_TIMEOUT_MS";
        /// Vault, for envelopes sealed by its transit engine.
        pub vault: Option<Url>, env "VAULT_ADDR", aliases ["ALGA_VAULT_ADDR"];
        /// The file that holds Vault's token.
        pub vault_token_file: PathBuf = "/run/secrets/alga_vault_token", env "ALGA_VAULT_TOKEN_FILE";
        /// Vault's namespace.
        pub vault_namespace: Option<String>, env "VAULT_NAMESPACE";
        /// The transit mount, where an envelope names none.
        pub vault_mount: String = "transit", env "ALGA_VAULT_TRANSIT_MOUNT";
    }
}

fn check(settings: &HostSettings, errors: &mut ConfigErrors) {
    if let Err(error) = EgressRules::from_variable(&settings.allowlist) {
        errors.other(format!("EXT_EGRESS_ALLOWLIST: {}", chain(&error)));
    }
    let ttl = settings.storage_ttl.map(Millis::get);
    if ttl.is_some_and(|ttl| !(TTL_MIN..=TTL_MAX).contains(&ttl)) {
        let (min, max) = (TTL_MIN.as_secs(), TTL_MAX.as_secs());
        errors.other(format!("LONGSHORE_STORAGE_TTL_MS: an entry lives {min} s to {max} s"));
    }
    if settings.storage_replicas.get() > 5 {
        errors.other("LONGSHORE_STORAGE_REPLICAS: NATS keeps 5 copies at most");
    }
    if settings.storage == Some(Keeper::Platform) && settings.platform_base().is_none() {
        errors.other("LONGSHORE_STORAGE=platform needs STORAGE_API_BASE_URL: the platform's address");
    }
}

/// Something that is configured cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostSetupError {
    /// The allowlist.
    #[error("EXT_EGRESS_ALLOWLIST cannot be used")]
    Rules(#[from] longshore_egress::RuleError),
    /// Outbound requests.
    #[error("outbound requests cannot be set up")]
    Egress(#[from] longshore_egress::EgressSetupError),
    /// The HTTP client of configured servers.
    #[error("the HTTP client cannot be set up")]
    Upstream(#[from] longshore_service::upstream::UpstreamError),
    /// The platform's address.
    #[error("STORAGE_API_BASE_URL or UI_PROXY_BASE_URL cannot be used")]
    Base(#[from] longshore_platform::BaseError),
    /// The bucket of `storage`.
    #[error("the storage bucket cannot be named")]
    Bucket(#[from] longshore_storage::BucketError),
    /// The key file.
    #[error("LONGSHORE_SECRETS_KEY_FILE cannot be used")]
    Keys(#[from] longshore_secrets::KeyError),
    /// Vault.
    #[error("secrets cannot be set up")]
    Opener(#[from] longshore_secrets::OpenerError),
}

impl HostSettings {
    /// Where the platform's internal API is, if there is a platform.
    pub fn platform_base(&self) -> Option<Url> {
        self.storage_api.clone().or_else(|| {
            let mut origin = self.registry.clone()?;
            origin.set_path("");
            origin.set_query(None);
            origin.set_fragment(None);
            Some(origin)
        })
    }

    /// Who keeps what: as set, else the platform where there is one.
    pub fn keeper(&self, set: Option<Keeper>) -> Keeper {
        let known = if self.platform_base().is_some() { Keeper::Platform } else { Keeper::Nats };
        set.unwrap_or(known)
    }

    /// Storage in NATS.
    pub(super) fn jetstream(&self) -> JetStreamSettings {
        JetStreamSettings {
            quotas: Quotas {
                namespaces: self.storage_namespaces,
                keys: self.storage_keys,
                bytes: self.storage_bytes.bytes(),
            },
            bucket: BucketSettings { replicas: self.storage_replicas.get(), ..BucketSettings::default() },
            default_ttl: self.storage_ttl.map(Millis::get),
            ..JetStreamSettings::default()
        }
    }

    /// Outbound requests.
    pub(super) fn egress(&self) -> Result<Egress, HostSetupError> {
        let config = EgressConfig {
            rules: EgressRules::from_variable(&self.allowlist)?,
            allow_all_when_empty: self.default == Permission::Allow,
            allow_private: self.private == Permission::Allow,
            connect_timeout: self.connect_timeout.get(),
            total_timeout: self.total_timeout.get(),
            request_bytes: self.body_bytes.as_usize(),
            response_bytes: self.body_bytes.as_usize(),
            connections_per_tenant: self.connections.get(),
            ..EgressConfig::default()
        };
        Ok(Egress::new(config, Arc::new(SystemResolver))?)
    }

    /// Secret envelopes.
    pub(super) fn opener(&self, ring: Option<KeyRing>) -> Result<Opener, HostSetupError> {
        let vault = self.vault.clone().map(|addr| VaultConfig {
            addr,
            token_file: self.vault_token_file.clone(),
            namespace: self.vault_namespace.clone(),
            mount: self.vault_mount.clone(),
        });
        Ok(Opener::new(OpenerConfig { ring, vault, cache: CacheConfig::default() })?)
    }

    /// The platform's internal API, if there is a platform.
    pub(super) fn platform(&self, upstream: &Upstream) -> Result<Option<Platform>, HostSetupError> {
        let Some(base) = self.platform_base() else { return Ok(None) };
        let token = self.storage_token.clone().or_else(|| self.service_token.clone());
        Ok(Some(Platform::new(&PlatformConfig { base, token }, upstream.clone())?))
    }

    /// The platform's routes for user interfaces, if they are configured.
    pub(super) fn proxy(&self, upstream: &Upstream) -> Result<Option<UiProxy>, HostSetupError> {
        let proxy = |base| UiProxy::new(base, self.ui_proxy_timeout.get(), upstream.clone());
        Ok(self.ui_proxy.as_ref().map(proxy).transpose()?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<HostSettings, String> {
        let env: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        HostSettings::load(&env, ["worker".to_owned()]).map_err(|e| e.to_string())
    }

    #[test]
    fn of_the_registrys_address_only_the_origin_is_used() {
        let settings =
            load(&[("RUNNER_REGISTRY_BASE_URL", "http://platform:3000/api/registry?x=1")]).unwrap();
        assert_eq!(settings.platform_base().unwrap().as_str(), "http://platform:3000/");
        let settings = load(&[
            ("REGISTRY_BASE_URL", "http://platform:3000"),
            ("STORAGE_API_BASE_URL", "http://storage:1/api"),
        ]);
        assert_eq!(settings.unwrap().platform_base().unwrap().as_str(), "http://storage:1/api");
    }

    #[test]
    fn a_platform_keeps_what_is_stored_unless_told_otherwise() {
        let alone = load(&[]).unwrap();
        assert_eq!(alone.keeper(alone.storage), Keeper::Nats);
        let platform = load(&[("STORAGE_API_BASE_URL", "http://p")]).unwrap();
        assert_eq!(platform.keeper(platform.storage), Keeper::Platform);
        assert_eq!(platform.keeper(Some(Keeper::Nats)), Keeper::Nats);
    }

    #[test]
    fn the_storage_is_as_its_own_defaults_unless_it_is_set() {
        assert_eq!(load(&[]).unwrap().jetstream(), JetStreamSettings::default());
        let set = load(&[
            ("LONGSHORE_STORAGE_NAMESPACES", "2"),
            ("LONGSHORE_STORAGE_KEYS", "3"),
            ("LONGSHORE_STORAGE_BYTES", "4KiB"),
            ("LONGSHORE_STORAGE_TTL_MS", "1h"),
            ("LONGSHORE_STORAGE_REPLICAS", "3"),
        ]);
        let set = set.unwrap().jetstream();
        assert_eq!(set.quotas, Quotas { namespaces: 2, keys: 3, bytes: 4_096 });
        assert_eq!((set.default_ttl, set.bucket.replicas), (Some(std::time::Duration::from_secs(3_600)), 3));
        for (name, value) in [
            ("LONGSHORE_STORAGE_TTL_MS", "59s"),
            ("LONGSHORE_STORAGE_TTL_MS", "31d"),
            ("LONGSHORE_STORAGE_TTL_MS", "0"),
            ("LONGSHORE_STORAGE_REPLICAS", "6"),
            ("LONGSHORE_STORAGE_REPLICAS", "0"),
        ] {
            assert!(load(&[(name, value)]).unwrap_err().contains(name), "{name}={value}");
        }
    }

    #[test]
    fn a_bad_list_and_a_missing_platform_are_start_errors() {
        let error = load(&[("EXT_EGRESS_ALLOWLIST", "http://x/y"), ("LONGSHORE_STORAGE", "platform")]);
        let error = error.unwrap_err();
        assert!(error.contains("EXT_EGRESS_ALLOWLIST") && error.contains("STORAGE_API_BASE_URL"), "{error}");
    }
}
