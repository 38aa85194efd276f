//! Settings of the admin service, read once.

use std::net::SocketAddr;
use std::time::Duration;

use longshore_bundle::StoreConfig;
use longshore_service::config::{
    AdminTokenSettings, ConfigErrors, KvSettings, LifecycleConfig, NatsConfig, Seconds, Secret,
    SecretsConfig, SignatureSettings, StoreSettings, TelemetryConfig,
};
use longshore_trace::TraceSettings;
use url::Url;

longshore_service::settings! {
    /// Settings of the admin service: one process a fleet, which keeps installs and tokens and is what `longshore install` and the other
    /// commands talk to.
    pub struct AdminConfig, group "Admin service", validate check {
        /// Where the admin API is served, and the service's health and metrics: its own listener, never the gateway's. Whoever reaches it still
        /// needs `LONGSHORE_ADMIN_TOKEN`; put TLS in front of it where the network is not your own.
        pub listen: SocketAddr = "127.0.0.1:8090", env "LONGSHORE_ADMIN_ADDR";
        /// How often bundles and other objects that nobody can use any more are removed; 0: only when somebody asks (`longshore gc`).
        pub gc_interval: Seconds = "86400", env "LONGSHORE_GC_INTERVAL";
        /// How old an object must be before it is removed, in days: a bundle may be uploaded long before it is installed.
        pub retention_days: u32 = "30", env "LONGSHORE_BUNDLE_RETENTION_DAYS";
        /// Who may use the API.
        pub token: AdminTokenSettings;
        /// The bundle store, which this service writes.
        pub store: StoreSettings;
        /// The keys that seal secrets of installs.
        pub secrets: SecretsConfig;
        /// Whose signatures count.
        pub signatures: SignatureSettings;
        /// Debug events, which a purge removes.
        pub events: EventSettings;
        /// Recorded runs in the same Redis, with the workers' values.
        pub traces: TraceSettings;
        /// The buckets that this service makes.
        pub buckets: KvSettings;
        /// The connection to NATS, as user `control`.
        pub nats: NatsConfig;
        /// Logs and traces.
        pub telemetry: TelemetryConfig;
        /// Start and stop.
        pub lifecycle: LifecycleConfig;
    }
}

longshore_service::settings! {
    /// Where workers keep debug events, so that a purge finds them: the values of the workers' settings.
    pub struct EventSettings, group "Debug events to purge", validate check_events {
        /// The Redis server. Unset: there are none.
        pub url: Option<Secret>, env "RUNNER_DEBUG_REDIS_URL", file "RUNNER_DEBUG_REDIS_URL_FILE";
        /// Its password, if it is not in the address.
        pub password: Option<Secret>, env "RUNNER_DEBUG_REDIS_PASSWORD", file "RUNNER_DEBUG_REDIS_PASSWORD_FILE";
        /// What the streams' names begin with.
        pub prefix: String = "ext-debug:", env "RUNNER_DEBUG_REDIS_STREAM_PREFIX";
    }
}

fn check_events(config: &EventSettings, errors: &mut ConfigErrors) {
    // The address may hold a password and the library's error may hold the address: neither is shown.
    if let Some(Err(_)) = config.client() {
        errors.other("RUNNER_DEBUG_REDIS_URL is no address of a Redis server: expected redis://host:6379 or rediss://host:6379");
    }
}

fn check(config: &AdminConfig, errors: &mut ConfigErrors) {
    if config.token.token.is_none() {
        errors.other(
            "LONGSHORE_ADMIN_TOKEN (or LONGSHORE_ADMIN_TOKEN_FILE) is not set: choose a random one (openssl rand -hex 32)",
        );
    }
    match config.store() {
        None => errors.other("BUNDLE_STORE_BASE is not set: installs and uploads need the bundle store"),
        Some(store) => {
            if let Err(error) = store.open() {
                errors.other(error.to_string());
            }
        }
    }
    // Shorter than an upload and the install behind it would remove what is about to be installed.
    if config.retention_days == 0 {
        errors.invalid("LONGSHORE_BUNDLE_RETENTION_DAYS", 0, "at least 1");
    }
    let interval = config.gc_interval.get();
    if !interval.is_zero() && interval < Duration::from_secs(60) {
        errors.invalid(
            "LONGSHORE_GC_INTERVAL",
            format!("{}s", interval.as_secs()),
            "0, or at least a minute",
        );
    }
}

impl AdminConfig {
    /// The bundle store.
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

    /// How old an object must be before it is removed.
    pub fn retention(&self) -> Duration {
        Duration::from_secs(u64::from(self.retention_days) * 86_400)
    }
}

impl EventSettings {
    /// A client for the server, the password in its address; none where there is no server.
    pub fn client(&self) -> Option<Result<redis::Client, redis::RedisError>> {
        let raw = self.url.as_ref()?.expose();
        let address = match (Url::parse(raw), &self.password) {
            (Ok(mut url), Some(password)) if url.username().is_empty() && url.password().is_none() => {
                // Percent-encodes what needs it. An address without a host has no password either, and does not open.
                let _ = url.set_password(Some(password.expose()));
                url.to_string()
            }
            _ => raw.to_owned(),
        };
        Some(redis::Client::open(address))
    }

    /// The names of one tenant's streams as a pattern of Redis: prefix and key are joined verbatim, ids lower-cased, as workers do it.
    pub fn pattern(&self, tenant: &str, extension: Option<&str>) -> String {
        let tenant = escaped(&tenant.to_ascii_lowercase());
        let extension = extension.map_or_else(|| "*".to_owned(), |id| escaped(&id.to_ascii_lowercase()));
        format!("{}{tenant}:{extension}", escaped(&self.prefix))
    }
}

/// A text as a pattern of Redis that matches nothing else.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const TOKEN: (&str, &str) = ("LONGSHORE_ADMIN_TOKEN", "0123456789abcdef");
    const STORE: (&str, &str) = ("BUNDLE_STORE_BASE", "/srv/bundles");

    fn load(pairs: &[(&str, &str)]) -> Result<AdminConfig, String> {
        let env: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        AdminConfig::load(&env, ["longshore-admin".to_owned()]).map_err(|e| e.to_string())
    }

    #[test]
    fn token_and_store_are_all_that_must_be_set_and_each_missing_one_is_named() {
        let config = load(&[TOKEN, STORE]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8090");
        assert_eq!(config.retention(), Duration::from_secs(30 * 86_400));
        let error = load(&[]).unwrap_err();
        assert!(error.contains("LONGSHORE_ADMIN_TOKEN") && error.contains("BUNDLE_STORE_BASE"), "{error}");
    }

    #[test]
    fn a_retention_of_nothing_and_a_collection_each_second_are_refused() {
        for (name, value) in [("LONGSHORE_BUNDLE_RETENTION_DAYS", "0"), ("LONGSHORE_GC_INTERVAL", "1")] {
            let error = load(&[TOKEN, STORE, (name, value)]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
        assert!(load(&[TOKEN, STORE, ("LONGSHORE_GC_INTERVAL", "0")]).is_ok());
    }

    #[test]
    fn the_pattern_of_a_tenants_streams_matches_no_other_tenants() {
        let config = load(&[TOKEN, STORE]).unwrap();
        assert_eq!(config.events.pattern("T.1", None), "ext\\-debug:t.1:*");
        let config = load(&[TOKEN, STORE, ("RUNNER_DEBUG_REDIS_STREAM_PREFIX", "a*:")]).unwrap();
        assert_eq!(config.events.pattern("t", Some("E*")), "a\\*:t:e\\*");
    }

    #[test]
    fn neither_token_nor_password_is_printed() {
        let config = load(&[
            STORE,
            ("LONGSHORE_ADMIN_TOKEN", "canary-0123456789"),
            ("RUNNER_DEBUG_REDIS_URL", "redis://:canary@localhost"),
        ])
        .unwrap();
        assert!(!format!("{config} {config:?}").contains("canary"));
    }
}
