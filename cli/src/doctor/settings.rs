//! Where `doctor` looks: the variables that the programs read, else what a running `longshore dev` left.

use longshore_bundle::StoreConfig;
use longshore_service::config::Secret;

use crate::dev::STREAM_PREFIX;
use crate::dev::s3::{ACCESS_KEY, SECRET_KEY};
use crate::fleet::place::DevFleet;

/// Addresses and keys.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `nats://host:port`, of the first server.
    pub nats_url: String,
    /// With a password: what the programs log in with.
    pub nats_user: Option<String>,
    /// The user's password.
    pub nats_password: Option<Secret>,
    /// Debug events; None: there are none.
    pub redis_url: Option<Secret>,
    /// What the streams' names begin with.
    pub stream_prefix: String,
    /// The bundle store, if it is known here.
    pub store: Option<StoreConfig>,
    /// A session of `longshore dev` runs.
    pub dev: bool,
}

/// The first of some variables that is set and not empty.
fn text(read: &impl Fn(&str) -> Option<String>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| read(name).filter(|value| !value.is_empty()))
}

impl Surroundings {
    /// From variables (`read` gives one) and the session that was found.
    pub fn find(read: impl Fn(&str) -> Option<String>, dev: Option<&DevFleet>) -> Self {
        let own = |names: &[&str]| text(&read, names);
        // A password may be in a file, as for the programs.
        let in_file = |name: &str| {
            let path = own(&[name])?;
            std::fs::read_to_string(path)
                .ok()
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty())
        };
        let secret = |value: Option<String>| value.map(Secret::new);
        let of_dev = |part: fn(&DevFleet) -> &String| dev.map(part).filter(|text| !text.is_empty()).cloned();
        let base = own(&["BUNDLE_STORE_BASE", "RUNNER_BUNDLE_STORE_BASE"]);
        let store = match base {
            Some(base) => Some(StoreConfig {
                base,
                endpoint: own(&["S3_ENDPOINT"]),
                access_key: own(&["S3_ACCESS_KEY", "MINIO_ACCESS_KEY"]),
                secret_key: own(&["S3_SECRET_KEY", "MINIO_SECRET_KEY"]),
                region: own(&["S3_REGION"]),
            }),
            None => of_dev(|fleet| &fleet.store).map(|base| StoreConfig {
                base,
                access_key: Some(ACCESS_KEY.to_owned()),
                secret_key: Some(SECRET_KEY.to_owned()),
                ..StoreConfig::default()
            }),
        };
        let nats_url =
            own(&["NATS_URL"]).and_then(|list| list.split(',').next().map(|url| url.trim().to_owned()));
        Self {
            nats_url: nats_url
                .or_else(|| of_dev(|fleet| &fleet.nats_url))
                .unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned()),
            nats_user: own(&["NATS_USER"]),
            nats_password: secret(own(&["NATS_PASSWORD"]).or_else(|| in_file("NATS_PASSWORD_FILE"))),
            redis_url: secret(own(&["RUNNER_DEBUG_REDIS_URL"]).or_else(|| of_dev(|fleet| &fleet.redis_url))),
            // Without a word, what workers take without one.
            stream_prefix: own(&["RUNNER_DEBUG_REDIS_STREAM_PREFIX"])
                .unwrap_or_else(|| if dev.is_some() { STREAM_PREFIX } else { "ext-debug:" }.to_owned()),
            store,
            dev: dev.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pairs: &[(&str, &str)], dev: Option<&DevFleet>) -> Surroundings {
        let read =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Surroundings::find(read, dev)
    }

    #[test]
    fn variables_come_before_the_session_and_the_session_before_defaults() {
        let dev = DevFleet {
            nats_url: "nats://127.0.0.1:1".into(),
            redis_url: "redis://127.0.0.1:2".into(),
            store: "http://127.0.0.1:3/extensions".into(),
            ..DevFleet::default()
        };
        assert_eq!(find(&[], None).nats_url, "nats://127.0.0.1:4222");
        let found = find(&[], Some(&dev));
        assert_eq!(found.nats_url, "nats://127.0.0.1:1");
        assert_eq!(found.store.unwrap().base, "http://127.0.0.1:3/extensions");
        assert_eq!(found.stream_prefix, "ext:debug");
        assert_eq!(find(&[], None).stream_prefix, "ext-debug:");
        let found =
            find(&[("NATS_URL", "nats://a:1,nats://b:2"), ("RUNNER_BUNDLE_STORE_BASE", "/srv")], Some(&dev));
        assert_eq!((found.nats_url.as_str(), found.store.unwrap().base.as_str()), ("nats://a:1", "/srv"));
    }

    #[test]
    fn passwords_come_from_files_too_and_are_not_printed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "canary\n").unwrap();
        let found = find(&[("NATS_USER", "control"), ("NATS_PASSWORD_FILE", path.to_str().unwrap())], None);
        assert_eq!(found.nats_password.as_ref().unwrap().expose(), "canary");
        assert!(!format!("{found:?}").contains("canary"));
    }
}
