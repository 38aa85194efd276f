//! How traces are kept in Redis.

use longshore_service::config::{ByteSize, ConfigErrors, Millis, Seconds};
use std::num::NonZeroU64;

longshore_service::settings! {
    /// How recorded runs are kept. They are in the Redis of the debug events; workers and the control service have the same values.
    pub struct TraceSettings, group "Recorded runs", validate check {
        /// What the names of a tenant's four keys begin with.
        pub prefix: String = "longshore-trace:", env "LONGSHORE_TRACE_PREFIX";
        /// Entries of 64 KiB at most in one tenant's stream; most runs take one. The oldest runs make room.
        pub max_entries: NonZeroU64 = "20000", env "LONGSHORE_TRACE_MAX_ENTRIES";
        /// Bytes of one tenant's recorded runs. The oldest runs make room; a run that alone is larger is not kept.
        pub max_bytes: ByteSize = "64MiB", env "LONGSHORE_TRACE_MAX_BYTES";
        /// How long a run is kept.
        pub ttl: Seconds = "7d", env "LONGSHORE_TRACE_TTL";
        /// How long Redis may take to accept a connection or to answer.
        pub timeout: Millis = "5000", env "LONGSHORE_TRACE_REDIS_TIMEOUT_MS";
    }
}

fn check(settings: &TraceSettings, errors: &mut ConfigErrors) {
    if settings.prefix.is_empty() || settings.prefix.contains(['{', '}']) {
        errors.invalid("LONGSHORE_TRACE_PREFIX", &settings.prefix, "some text without braces");
    }
    if settings.max_bytes.bytes() < 1 << 20 {
        errors.invalid("LONGSHORE_TRACE_MAX_BYTES", settings.max_bytes, "at least 1MiB");
    }
    if settings.ttl.get().as_secs() < 60 {
        errors.invalid(
            "LONGSHORE_TRACE_TTL",
            format!("{}s", settings.ttl.get().as_secs()),
            "at least a minute",
        );
    }
    if settings.timeout.get().is_zero() {
        errors.invalid("LONGSHORE_TRACE_REDIS_TIMEOUT_MS", 0, "more than 0");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<TraceSettings, String> {
        let env: BTreeMap<String, String> =
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        TraceSettings::load(&env, ["worker".to_owned()]).map_err(|e| e.to_string())
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let settings = load(&[]).unwrap();
        assert_eq!(settings.prefix, "longshore-trace:");
        assert_eq!((settings.max_entries.get(), settings.max_bytes.bytes()), (20_000, 64 << 20));
        assert_eq!(settings.ttl.get().as_secs(), 7 * 24 * 3_600);
    }

    #[test]
    fn values_that_would_keep_nothing_are_refused_by_name() {
        for (name, value) in [
            ("LONGSHORE_TRACE_PREFIX", "a{b}"),
            ("LONGSHORE_TRACE_MAX_BYTES", "10KiB"),
            ("LONGSHORE_TRACE_MAX_ENTRIES", "0"),
            ("LONGSHORE_TRACE_TTL", "1s"),
            ("LONGSHORE_TRACE_REDIS_TIMEOUT_MS", "0"),
        ] {
            let error = load(&[(name, value)]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }
}
