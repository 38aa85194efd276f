//! Settings of the debug publisher.

use std::num::NonZeroUsize;

use longshore_proto::event::DebugEvent;
use longshore_service::config::{ByteSize, ConfigErrors, Millis, Secret};
use url::Url;

longshore_service::settings! {
    /// Where debug events go, and how much of them is kept.
    pub struct DebugConfig, group "Debug events", validate check {
        /// The Redis server, `redis://` or `rediss://`. Unset: no debug events.
        pub url: Option<Secret>, env "RUNNER_DEBUG_REDIS_URL", file "RUNNER_DEBUG_REDIS_URL_FILE";
        /// Its password, for an address that has none in it.
        pub password: Option<Secret>, env "RUNNER_DEBUG_REDIS_PASSWORD", file "RUNNER_DEBUG_REDIS_PASSWORD_FILE";
        /// What the keys of streams begin with; tenant, `:` and extension follow verbatim.
        pub prefix: String = "ext-debug:", env "RUNNER_DEBUG_REDIS_STREAM_PREFIX";
        /// Events kept in the stream of one tenant's extension, approximately.
        pub maxlen: NonZeroUsize = "2000", env "RUNNER_DEBUG_REDIS_MAXLEN";
        /// Bytes of one event's message and data; longer ones are cut.
        pub max_event_bytes: ByteSize = "8192", env "RUNNER_DEBUG_MAX_EVENT_BYTES";
        /// Whether every event also goes to one stream, named by the prefix without its trailing colon.
        pub firehose: bool = "false", env "LONGSHORE_DEBUG_FIREHOSE";
        /// Events kept in that stream, approximately.
        pub firehose_maxlen: NonZeroUsize = "10000", env "LONGSHORE_DEBUG_FIREHOSE_MAXLEN";
        /// Events that wait for Redis at most; more are dropped, counted and announced.
        pub queue_events: NonZeroUsize = "20000", env "LONGSHORE_DEBUG_QUEUE_EVENTS";
        /// Bytes of waiting events at most.
        pub queue_bytes: ByteSize = "16MiB", env "LONGSHORE_DEBUG_QUEUE_BYTES";
        /// How long Redis may take to accept a connection or to answer a batch.
        pub timeout: Millis = "5000", env "LONGSHORE_DEBUG_REDIS_TIMEOUT_MS";
    }
}

impl DebugConfig {
    /// The address with the password in it; `None` where debug events are off.
    pub(super) fn address(&self) -> Option<Result<redis::Client, redis::RedisError>> {
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
}

fn check(config: &DebugConfig, errors: &mut ConfigErrors) {
    // The address may hold a password and the library's error may hold the address: neither is shown.
    if let Some(Err(_)) = config.address() {
        errors.other("RUNNER_DEBUG_REDIS_URL is no address of a Redis server: expected redis://host:6379 or rediss://host:6379");
    }
    if config.firehose && DebugEvent::firehose_key(&config.prefix).is_empty() {
        errors.other("LONGSHORE_DEBUG_FIREHOSE names its stream by RUNNER_DEBUG_REDIS_STREAM_PREFIX, which is empty: set it");
    }
    if config.max_event_bytes.bytes() < 256 {
        errors.invalid("RUNNER_DEBUG_MAX_EVENT_BYTES", config.max_event_bytes, "at least 256");
    }
    if config.timeout.get().is_zero() {
        errors.invalid("LONGSHORE_DEBUG_REDIS_TIMEOUT_MS", 0, "more than 0");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<DebugConfig, String> {
        let env: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        DebugConfig::load(&env, ["worker".to_owned()]).map_err(|e| e.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_reference_and_off() {
        let config = load(&[]).unwrap();
        assert!(config.address().is_none());
        assert_eq!((config.prefix.as_str(), config.maxlen.get()), ("ext-debug:", 2000));
        assert_eq!((config.max_event_bytes.bytes(), config.firehose), (8192, false));
    }

    #[test]
    fn the_password_is_put_into_an_address_without_one() {
        let password = |url: &str| {
            let config =
                load(&[("RUNNER_DEBUG_REDIS_URL", url), ("RUNNER_DEBUG_REDIS_PASSWORD", "p@ss/w")]).unwrap();
            let client = config.address().unwrap().unwrap();
            client.get_connection_info().redis_settings().password().map(str::to_owned)
        };
        assert_eq!(password("redis://h:1/2").as_deref(), Some("p@ss/w"));
        assert_eq!(password("redis://:own@h").as_deref(), Some("own"));
        assert_eq!(password("redis://user:own@h").as_deref(), Some("own"));
    }

    #[test]
    fn a_wrong_address_is_refused_without_being_shown() {
        let error = load(&[("RUNNER_DEBUG_REDIS_URL", "http://:hunter2@host")]).unwrap_err();
        assert!(error.contains("RUNNER_DEBUG_REDIS_URL"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_firehose_needs_a_name() {
        let error = load(&[("RUNNER_DEBUG_REDIS_STREAM_PREFIX", ":"), ("LONGSHORE_DEBUG_FIREHOSE", "true")])
            .unwrap_err();
        assert!(error.contains("LONGSHORE_DEBUG_FIREHOSE"), "{error}");
    }
}
