//! What children are told.
//!
//! A child gets no variable by accident: what `longshore dev` decides (addresses, users, keys), what the user has set among the settings that the
//! child knows, and what any program needs. So a variable that is left from another project changes nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;

use longshore_service::config::Group;

/// What any program needs, and what makes a failure readable.
const COMMON: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Variables of the OpenTelemetry specification that the exporter reads by itself.
const TELEMETRY_PREFIX: &str = "OTEL_";

/// The variables of this process, taken once.
pub(super) struct Inherited(BTreeMap<String, OsString>);

impl Inherited {
    /// A snapshot.
    pub(super) fn snapshot() -> Self {
        Self(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect(),
        )
    }

    /// These variables alone.
    #[cfg(test)]
    pub(super) fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect())
    }

    /// A variable that is set and not empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|value| value.to_str()).filter(|value| !value.is_empty())
    }

    /// For a server that is not ours.
    pub(super) fn common(&self) -> BTreeMap<String, OsString> {
        self.0.iter().filter(|(name, _)| COMMON.contains(&name.as_str())).map(clone).collect()
    }

    /// For a process with the settings `groups`: the user's own among them, but for those that `decided` sets.
    pub(super) fn with_settings(
        &self,
        groups: &[Group],
        decided: &[(&str, String)],
    ) -> BTreeMap<String, OsString> {
        let mut env = self.common();
        env.extend(self.0.iter().filter(|(name, _)| name.starts_with(TELEMETRY_PREFIX)).map(clone));
        for names in groups.iter().flat_map(|group| group.settings).map(names) {
            // Another spelling of a decided setting with another value would stop the child's start.
            if !names.iter().any(|name| decided.iter().any(|(own, _)| own == name)) {
                env.extend(self.0.iter().filter(|(name, _)| names.contains(&name.as_str())).map(clone));
            }
        }
        env.extend(decided.iter().map(|(name, value)| ((*name).to_owned(), value.into())));
        env
    }

    /// The user's variables that `decided` overrules, to be told.
    pub(super) fn overruled(&self, groups: &[Group], decided: &[(&str, String)]) -> Vec<String> {
        let mut overruled = Vec::new();
        for names in groups.iter().flat_map(|group| group.settings).map(names) {
            let Some((_, value)) = decided.iter().find(|(own, _)| names.contains(own)) else { continue };
            let differs = |name: &&str| self.text(name).is_some_and(|user| user != value);
            overruled.extend(names.into_iter().filter(differs).map(str::to_owned));
        }
        overruled
    }
}

fn clone((name, value): (&String, &OsString)) -> (String, OsString) {
    (name.clone(), value.clone())
}

/// All spellings of a setting.
fn names(setting: &longshore_service::config::Setting) -> Vec<&'static str> {
    let file = setting.file.map(|file| file.name);
    std::iter::once(setting.name).chain(setting.aliases.iter().copied()).chain(file).collect()
}

#[cfg(test)]
mod tests {
    use longshore_service::config::Settings as _;

    use super::*;

    longshore_service::settings! {
        /// For the test.
        struct TestConfig, group "Some" {
            /// Decided.
            pub store: Option<String>, env "BUNDLE_STORE_BASE", aliases ["RUNNER_BUNDLE_STORE_BASE"];
            /// The user's.
            pub token: Option<String>, env "RUNNER_SERVICE_TOKEN", file "RUNNER_SERVICE_TOKEN_FILE";
        }
    }

    fn inherited(pairs: &[(&str, &str)]) -> Inherited {
        Inherited::of(pairs)
    }

    #[test]
    fn a_child_gets_what_it_knows_and_nothing_else() {
        let user = inherited(&[
            ("PATH", "/bin"),
            ("RUNNER_SERVICE_TOKEN_FILE", "/token"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "9"),
            ("DATABASE_URL", "postgres://"),
            ("NATS_URL", "nats://elsewhere"),
        ]);
        let env =
            user.with_settings(&TestConfig::groups(), &[("BUNDLE_STORE_BASE", "http://here".to_owned())]);
        let names: Vec<_> = env.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["BUNDLE_STORE_BASE", "OTEL_BSP_MAX_QUEUE_SIZE", "PATH", "RUNNER_SERVICE_TOKEN_FILE"]
        );
    }

    #[test]
    fn an_alias_of_what_is_decided_is_left_out_and_told() {
        let user = inherited(&[("RUNNER_BUNDLE_STORE_BASE", "http://there"), ("RUNNER_SERVICE_TOKEN", "x")]);
        let decided = [("BUNDLE_STORE_BASE", "http://here".to_owned())];
        let env = user.with_settings(&TestConfig::groups(), &decided);
        assert!(!env.contains_key("RUNNER_BUNDLE_STORE_BASE"));
        assert_eq!(user.overruled(&TestConfig::groups(), &decided), ["RUNNER_BUNDLE_STORE_BASE"]);
        let same = inherited(&[("RUNNER_BUNDLE_STORE_BASE", "http://here")]);
        assert!(same.overruled(&TestConfig::groups(), &decided).is_empty());
    }
}
