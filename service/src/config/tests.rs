use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use url::Url;

use super::*;

crate::setting_enum! {
    /// Where installs come from.
    pub enum Backend {
        /// NATS.
        Nats = "nats",
        /// HTTP.
        Platform = "platform",
    }
}

crate::settings! {
    /// Settings of a worker,
    /// for tests.
    pub struct Worker, group "Worker", validate check {
        /// How many at once. More text | with a pipe.
        pub slots: NonZeroUsize = "8", env "WORKER_SLOTS";
        /// Where bundles are.
        pub store: String, env "BUNDLE_STORE_BASE", aliases ["RUNNER_BUNDLE_STORE_BASE", "OLD_STORE"];
        /// A key.
        pub key: Option<Secret>, env "AUTH_KEY", file "AUTH_KEY_FILE" = "/nonexistent/auth_key";
        /// Limit for a proxied request.
        pub timeout: Millis = "5000", env "UI_PROXY_TIMEOUT_MS";
        /// Cache size.
        pub cache: Option<ByteSize>, env "EXT_CACHE_MAX_BYTES";
        /// Strict or not.
        pub strict: bool = "true", env "STRICT";
        /// Hosts.
        pub hosts: Vec<String>, env "ALLOWLIST";
        /// Backend.
        pub backend: Backend = "nats", env "BACKEND";
        /// Redis.
        pub redis: Option<Url>, env "REDIS_URL";
        /// Cache folder.
        pub root: PathBuf = "/tmp/cache", env "EXT_CACHE_ROOT";
        pub nats: NatsConfig;
        pub telemetry: TelemetryConfig;
    }
}

fn check(worker: &Worker, errors: &mut ConfigErrors) {
    if worker.slots.get() > 64 {
        errors.invalid("WORKER_SLOTS", worker.slots, "at most 64");
    }
}

fn load(env: &[(&str, &str)], flags: &[&str]) -> Result<Worker, ConfigErrors> {
    let env: BTreeMap<_, _> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Worker::load(&env, std::iter::once(&"worker").chain(flags).map(|arg| (*arg).to_owned()))
}

const STORE: (&str, &str) = ("BUNDLE_STORE_BASE", "/bundles");

fn error(env: &[(&str, &str)], flags: &[&str]) -> String {
    load(env, flags).expect_err("accepted").to_string()
}

#[test]
fn defaults_apply_where_nothing_is_set_and_an_empty_string_is_nothing() {
    for env in [&[STORE][..], &[STORE, ("WORKER_SLOTS", ""), ("AUTH_KEY", ""), ("STRICT", "")]] {
        let worker = load(env, &[]).unwrap();
        assert_eq!((worker.slots.get(), worker.timeout.get().as_secs(), worker.strict), (8, 5, true));
        assert!(worker.key.is_none() && worker.cache.is_none() && worker.hosts.is_empty());
        assert_eq!(worker.backend, Backend::Nats);
        assert_eq!(worker.nats.servers.len(), 1);
        assert_eq!(worker.telemetry.format, LogFormat::Auto);
    }
}

#[test]
fn a_flag_wins_over_the_variable_in_both_spellings() {
    let env = [STORE, ("WORKER_SLOTS", "4"), ("NATS_URL", "a:1")];
    for flags in
        [&["--worker-slots", "2", "--nats-url", "b:2,c:3"][..], &["--worker-slots=2", "--nats-url=b:2,c:3"]]
    {
        let worker = load(&env, flags).unwrap();
        assert_eq!((worker.slots.get(), worker.nats.servers.len()), (2, 2));
    }
}

#[test]
fn a_boolean_flag_needs_no_value() {
    assert!(load(&[STORE, ("STRICT", "off")], &["--strict"]).unwrap().strict);
    assert!(!load(&[STORE], &["--strict", "no"]).unwrap().strict);
}

#[test]
fn every_mistake_is_reported_at_once_with_name_value_and_expectation() {
    let text = error(
        &[
            ("WORKER_SLOTS", "0"),
            ("UI_PROXY_TIMEOUT_MS", "soon"),
            ("STRICT", "maybe"),
            ("BACKEND", "redis"),
            ("EXT_CACHE_MAX_BYTES", "10GB"),
            ("NATS_URL", "http://x"),
            ("LONGSHORE_LOG_FORMAT", "xml"),
        ],
        &[],
    );
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "WORKER_SLOTS: \"0\" is not valid: expected a whole number above 0",
            "BUNDLE_STORE_BASE or RUNNER_BUNDLE_STORE_BASE or OLD_STORE is not set: expected text",
            "UI_PROXY_TIMEOUT_MS: \"soon\" is not valid: expected milliseconds, or a duration such as 500ms, 10s or 2m",
            "EXT_CACHE_MAX_BYTES: \"10GB\" is not valid: expected bytes, or a size such as 512KiB, 64MiB or 10GiB",
            "STRICT: \"maybe\" is not valid: expected `true` or `false` (also 1/0, yes/no, on/off)",
            "BACKEND: \"redis\" is not valid: expected one of `nats`, `platform`",
            "NATS_URL: \"http://x\" is not valid: expected a comma-separated list, each item a server such as nats://127.0.0.1:4222 or tls://host:4222",
            "LONGSHORE_LOG_FORMAT: \"xml\" is not valid: expected one of `auto`, `human`, `json`",
        ]
    );
}

#[test]
fn an_alias_counts_and_a_contradiction_names_both() {
    assert_eq!(load(&[("RUNNER_BUNDLE_STORE_BASE", "/b")], &[]).unwrap().store, "/b");
    assert_eq!(load(&[STORE, ("RUNNER_BUNDLE_STORE_BASE", "/bundles")], &[]).unwrap().store, "/bundles");
    assert_eq!(load(&[STORE, ("OLD_STORE", "")], &[]).unwrap().store, "/bundles");
    let text = error(&[STORE, ("OLD_STORE", "/other")], &[]);
    assert!(text.starts_with("BUNDLE_STORE_BASE and OLD_STORE are both set, to different values"), "{text}");
    assert_eq!(load(&[STORE, ("OLD_STORE", "/other")], &["--bundle-store-base", "/f"]).unwrap().store, "/f");
}

#[test]
fn an_error_in_an_alias_or_a_flag_names_what_the_user_wrote() {
    let text = error(&[STORE], &["--worker-slots", "many"]);
    assert!(text.starts_with("--worker-slots: \"many\" is not valid"), "{text}");
}

#[test]
fn a_check_across_fields_runs_when_the_fields_are_readable() {
    assert_eq!(
        error(&[STORE, ("WORKER_SLOTS", "65")], &[]),
        "WORKER_SLOTS: \"65\" is not valid: expected at most 64"
    );
    let text = error(&[STORE, ("NATS_USER", "worker"), ("WORKER_SLOTS", "65")], &[]);
    assert_eq!(text, "NATS_USER and NATS_PASSWORD belong together: set both or none");
    let text = error(&[STORE, ("NATS_URL", "nats://u:hunter2@h:4222")], &[]);
    assert!(text.contains("NATS_USER") && !text.contains("hunter2"), "{text}");
    let text = error(&[STORE, ("RUST_LOG", "a=b=c")], &[]);
    assert!(text.starts_with("RUST_LOG: \"a=b=c\" is not valid"), "{text}");
}

#[test]
fn a_secret_comes_from_its_file_without_the_newline_and_the_variable_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "hunter2\n").unwrap();
    let path = path.to_str().unwrap();
    let key = |worker: Worker| worker.key.unwrap().expose().to_owned();
    assert_eq!(key(load(&[STORE, ("AUTH_KEY_FILE", path)], &[]).unwrap()), "hunter2");
    assert_eq!(key(load(&[STORE], &["--auth-key-file", path]).unwrap()), "hunter2");
    assert_eq!(key(load(&[STORE, ("AUTH_KEY_FILE", path), ("AUTH_KEY", "direct")], &[]).unwrap()), "direct");
}

#[test]
fn a_named_file_must_be_readable_and_small() {
    let folder = tempfile::tempdir().unwrap();
    let big = folder.path().join("big");
    std::fs::write(&big, vec![b'x'; 64 * 1024 + 1]).unwrap();
    let text = error(&[STORE, ("AUTH_KEY_FILE", "/nonexistent/other")], &[]);
    assert!(text.starts_with("AUTH_KEY_FILE: cannot read /nonexistent/other: "), "{text}");
    let text = error(&[STORE, ("AUTH_KEY_FILE", big.to_str().unwrap())], &[]);
    assert!(text.contains("larger than 65536 bytes"), "{text}");
    assert!(error(&[STORE, ("AUTH_KEY_FILE", folder.path().to_str().unwrap())], &[]).contains("cannot read"));
}

#[test]
fn no_print_shows_a_secret() {
    let worker = load(
        &[
            STORE,
            ("AUTH_KEY", "hunter2"),
            ("REDIS_URL", "redis://u:hunter2@h/0"),
            ("NATS_USER", "w"),
            ("NATS_PASSWORD", "hunter2"),
        ],
        &[],
    )
    .unwrap();
    let printed = format!("{worker}\n{worker:?}\n{worker:#?}");
    assert!(!printed.contains("hunter2"), "{printed}");
    for line in [
        "AUTH_KEY=[redacted]",
        "REDIS_URL=redis://[redacted]@h/0",
        "WORKER_SLOTS=8",
        "NATS_PASSWORD=[redacted]",
    ] {
        assert!(printed.lines().any(|l| l == line), "{line} is missing in\n{printed}");
    }
    let text = error(&[STORE, ("REDIS_URL", "//u:hunter2@h"), ("NATS_URL", "ftp://u:hunter2@h")], &[]);
    assert!(!text.contains("hunter2") && text.contains("REDIS_URL") && text.contains("NATS_URL"), "{text}");
}

#[test]
fn an_unknown_flag_or_argument_is_an_error() {
    for flags in [&["--worker-slot", "2"][..], &["extra"], &["--worker-slots"]] {
        let errors = load(&[STORE], flags).unwrap_err();
        assert!(errors.answer().is_none() && errors.len() == 1, "{errors}");
    }
}

#[test]
fn help_and_version_are_answers_and_not_mistakes() {
    let errors = load(&[], &["--help"]).unwrap_err();
    let help = errors.answer().unwrap();
    assert!(
        help.contains("--worker-slots <VALUE>") && help.contains("[env: WORKER_SLOTS] [default: 8]"),
        "{help}"
    );
    assert!(help.contains("--nats-password-file"), "{help}");
    let errors = load(&[], &["--version"]).unwrap_err();
    assert_eq!(errors.answer().unwrap(), format!("longshore-service {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_documentation_has_a_row_for_every_setting() {
    let page = markdown(&Worker::groups());
    for heading in ["## Worker\n\nSettings of a worker, for tests.\n", "## NATS\n", "## Telemetry\n"] {
        assert!(page.contains(heading), "{page}");
    }
    for row in [
        "| `WORKER_SLOTS` | `--worker-slots` | a whole number above 0 | `8` | How many at once. More text \\| with a pipe. |",
        "| `BUNDLE_STORE_BASE`, `RUNNER_BUNDLE_STORE_BASE`, `OLD_STORE` | `--bundle-store-base` | text | required | Where bundles are. |",
        "| `AUTH_KEY`, `AUTH_KEY_FILE` | `--auth-key` | a secret | unset | A key. `AUTH_KEY_FILE` names a file that holds it (default `/nonexistent/auth_key`). |",
    ] {
        assert!(page.lines().any(|line| line == row), "{row} is missing in\n{page}");
    }
    let rows = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, Worker::groups().iter().map(|group| group.settings.len()).sum::<usize>());
}

#[test]
fn redaction_finds_credentials_in_broken_urls_and_lists() {
    for (raw, shown) in [
        ("redis://h/0", "redis://h/0"),
        ("redis://:p@h/0", "redis://[redacted]@h/0"),
        ("redis://u:p@s@h", "redis://[redacted]@h"),
        ("u:p@h:4222", "[redacted]@h:4222"),
        ("nats://u:p@a,nats://b", "nats://[redacted]@a,nats://b"),
    ] {
        assert_eq!(parse::redact_url(raw), shown);
    }
}

#[test]
fn signatures_are_required_where_keys_are_trusted_and_never_without_them() {
    let load = |pairs: &[(&str, &str)]| {
        let env: BTreeMap<_, _> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        SignatureSettings::load(&env, ["x".to_owned()]).map(|settings| settings.policy())
    };
    let (file, policy) = ("SIGNING_TRUST_BUNDLE", "LONGSHORE_SIGNATURE_POLICY");
    assert_eq!(load(&[]).unwrap(), SignaturePolicy::Off);
    assert_eq!(load(&[(file, "/keys.pem")]).unwrap(), SignaturePolicy::Require);
    assert_eq!(load(&[(file, "/keys.pem"), (policy, "")]).unwrap(), SignaturePolicy::Require);
    assert_eq!(load(&[(file, "/keys.pem"), (policy, "off")]).unwrap(), SignaturePolicy::Off);
    assert_eq!(load(&[(policy, "warn")]).unwrap(), SignaturePolicy::Warn);
    for bad in [&[(policy, "require")][..], &[(policy, "on"), (file, "/keys.pem")], &[(policy, "required")]] {
        let error = load(bad).unwrap_err().to_string();
        assert!(error.contains("LONGSHORE_SIGNATURE_POLICY"), "{error}");
    }
}
