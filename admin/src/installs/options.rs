//! What a request says of an install, checked and applied: no I/O, so that every rule can be tested by itself.

use std::collections::BTreeMap;

use longshore_egress::EgressRules;
use longshore_proto::capability::Capability;
use longshore_proto::install::{Install, InstalledVersion};
use longshore_proto::limits::{LimitSet, MAX_MEMORY_MB, MAX_TIMEOUT_MS};
use longshore_proto::{CapabilitySet, Token};
use longshore_registry::{MAX_CONFIG_BYTES, MAX_HOSTS};
use longshore_secrets::{KeyRing, Scope, SecretTexts};

use crate::api::{ApiCode, Grant, InstallPatch, Plain};
use crate::http::Failure;

/// Turns of one tenant for each of another: more would starve the others.
const MAX_WEIGHT: u32 = 100;

/// What the other limits may be at most: above it a number is a typing error.
const MAX_OTHER: u64 = 1_000_000_000;

/// Puts what `options` say into `install`, whose version is set already. `before` is the version that was in force.
///
/// # Errors
/// A value outside its range, or a grant that is missing or too large.
pub fn apply(
    install: &mut Install,
    before: Option<&InstalledVersion>,
    options: &InstallPatch,
    ring: Option<&KeyRing>,
) -> Result<(), Failure> {
    install.capabilities = granted(install, before, options.grant.as_ref())?;
    if let Some(config) = &options.config {
        install.config = checked_config(config)?;
    }
    if let Some(secrets) = &options.secrets {
        seal(install, secrets, options.secret_hosts.as_ref(), ring)?;
    } else if options.secret_hosts.is_some() {
        return Err(Failure::invalid("secret_hosts is for the secrets of the same request: send both"));
    }
    if let Some(limits) = options.limits {
        install.limits = checked_limits(limits.into())?;
    }
    match (&options.egress, options.any_egress) {
        (Some(_), true) => return Err(Failure::invalid("egress and any_egress exclude each other")),
        (Some(egress), false) => {
            EgressRules::from_install(egress)
                .map_err(|error| Failure::invalid(format!("egress: {error}")))?;
            install.egress = Some(egress.clone());
        }
        (None, true) => install.egress = None,
        (None, false) => {}
    }
    if let Some(pool) = &options.pool {
        install.pool = pool.clone();
    }
    if let Some(weight) = options.weight {
        if !(1..=MAX_WEIGHT).contains(&weight) {
            return Err(Failure::invalid(format!("weight is {weight}; it must be 1 to {MAX_WEIGHT}")));
        }
        install.weight = weight;
    }
    if let Some(hosts) = &options.hosts {
        install.hosts = checked_hosts(hosts)?;
    }
    if let Some(capture) = options.capture {
        install.capture = capture;
    }
    if let Some(enabled) = options.enabled {
        install.enabled = enabled;
    }
    Ok(())
}

/// What a manifest asks for, as far as this host has it, beside what everybody has.
fn asked(version: &InstalledVersion) -> CapabilitySet {
    let mut set = CapabilitySet::default();
    for text in &version.requested {
        // Unknown ones are dropped, as the existing platform does when it installs (interop 9.1).
        if let Ok(known) = CapabilitySet::parse([text]) {
            known.iter().for_each(|capability| set.insert(capability));
        }
    }
    set
}

fn names(capabilities: impl IntoIterator<Item = Capability>) -> String {
    let names: Vec<&str> = capabilities.into_iter().map(Capability::as_str).collect();
    names.join(", ")
}

fn granted(
    install: &Install,
    before: Option<&InstalledVersion>,
    grant: Option<&Grant>,
) -> Result<CapabilitySet, Failure> {
    let asked = asked(&install.version);
    match grant {
        Some(Grant::All(_)) => Ok(asked),
        Some(Grant::Only(texts)) => {
            let given =
                CapabilitySet::parse(texts).map_err(|error| Failure::invalid(format!("grant: {error}")))?;
            let over: Vec<Capability> = given.iter().filter(|capability| !asked.has(*capability)).collect();
            if over.is_empty() {
                return Ok(given);
            }
            let message = format!(
                "{} does not ask for {}: grant a subset of what its manifest asks for ({})",
                install.version.name,
                names(over),
                names(asked.iter())
            );
            Err(Failure::new(ApiCode::GrantNotRequested, message))
        }
        None => {
            // What was asked before was decided on: granted, or left out on purpose.
            let decided = before.map(self::asked).unwrap_or_default();
            let open: Vec<Capability> = asked.iter().filter(|capability| !decided.has(*capability)).collect();
            if open.is_empty() {
                let kept = install.capabilities.iter().filter(|capability| asked.has(*capability));
                let mut set = CapabilitySet::default();
                kept.for_each(|capability| set.insert(capability));
                return Ok(set);
            }
            let message = format!(
                "{} {} asks for {}: grant what it may have (`--grant CAPABILITY ...`, or `--grant-all`)",
                install.version.name,
                install.version.version,
                names(open)
            );
            Err(Failure::new(ApiCode::GrantRequired, message))
        }
    }
}

fn checked_config(config: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Failure> {
    let bytes: usize = config.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_CONFIG_BYTES {
        return Err(Failure::new(
            ApiCode::LimitReached,
            format!("config has {bytes} bytes; at most {MAX_CONFIG_BYTES} are kept, secrets included"),
        ));
    }
    Ok(config.clone())
}

fn seal(
    install: &mut Install,
    secrets: &BTreeMap<String, Plain>,
    hosts: Option<&BTreeMap<String, Vec<String>>>,
    ring: Option<&KeyRing>,
) -> Result<(), Failure> {
    if let Some(stray) = hosts.and_then(|hosts| hosts.keys().find(|name| !secrets.contains_key(*name))) {
        return Err(Failure::invalid(format!(
            "secret_hosts names {stray:?}, which is not among the secrets"
        )));
    }
    install.secret_names = secrets.keys().cloned().collect();
    if secrets.is_empty() {
        install.secrets = None;
        return Ok(());
    }
    let Some(ring) = ring else {
        let message = "the admin service has no key to seal secrets with: set LONGSHORE_SECRETS_KEY_FILE for it and for the workers";
        return Err(Failure::new(ApiCode::SecretsUnavailable, message));
    };
    let refused = |error: &dyn std::fmt::Display| Failure::invalid(format!("secrets: {error}"));
    let mut texts = SecretTexts::new();
    for (name, value) in secrets {
        let added = match hosts.and_then(|hosts| hosts.get(name)) {
            None => texts.insert(name, value.expose()),
            Some(hosts) => {
                let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
                texts.insert_for_hosts(name, value.expose(), &hosts)
            }
        };
        added.map_err(|error| refused(&error))?;
    }
    // As the gateway opens them for a run: the install's own, and a version of its own so that no cached value outlives a change.
    let version = Token::random().to_string();
    let scope = Scope {
        tenant: &install.tenant,
        extension: &install.extension,
        install: Some(&install.install_id),
        version: Some(&version),
    };
    let sealed = ring.seal(&scope, &texts).map_err(|error| refused(&error))?;
    install.secrets = Some(sealed);
    Ok(())
}

fn checked_limits(limits: LimitSet) -> Result<LimitSet, Failure> {
    let maxima = [
        ("timeout_ms", limits.timeout_ms, MAX_TIMEOUT_MS),
        ("memory_mb", limits.memory_mb, MAX_MEMORY_MB),
        ("cpu_ms", limits.cpu_ms, MAX_TIMEOUT_MS),
        ("host_calls", limits.host_calls, MAX_OTHER),
        ("outbound_requests", limits.outbound_requests, MAX_OTHER),
        ("log_bytes", limits.log_bytes, MAX_OTHER),
        ("log_lines", limits.log_lines, MAX_OTHER),
        ("response_bytes", limits.response_bytes, MAX_OTHER),
    ];
    for (name, value, max) in maxima {
        if value.is_some_and(|value| !(1..=max).contains(&value)) {
            let value = value.unwrap_or_default();
            return Err(Failure::invalid(format!("limits.{name} is {value}; it must be 1 to {max}")));
        }
    }
    Ok(limits)
}

/// Host names as browsers send them: lower case, no port, no dot at the end.
fn checked_hosts(hosts: &[String]) -> Result<Vec<String>, Failure> {
    if hosts.len() > MAX_HOSTS {
        return Err(Failure::invalid(format!(
            "an install has at most {MAX_HOSTS} hosts, not {}",
            hosts.len()
        )));
    }
    let mut checked = Vec::new();
    for host in hosts {
        let lower = host.trim_end_matches('.').to_ascii_lowercase();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if lower.len() > 253 || !lower.split('.').all(label) {
            let shown: String = host.chars().take(64).collect();
            return Err(Failure::invalid(format!(
                "hosts: {shown:?} is no host name: letters, digits, `-` and dots, without port (punycode for others)"
            )));
        }
        if !checked.contains(&lower) {
            checked.push(lower);
        }
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use longshore_proto::ContentHash;
    use longshore_proto::manifest::Manifest;

    use super::*;
    use crate::api::LimitView;

    fn version(capabilities: &[&str]) -> InstalledVersion {
        let manifest = Manifest {
            name: "a.b".to_owned(),
            version: "1.0.0".to_owned(),
            capabilities: capabilities.iter().map(|c| (*c).to_owned()).collect(),
            ..Manifest::default()
        };
        InstalledVersion::of(&manifest, ContentHash::from_bytes([1; 32]))
    }

    fn install(capabilities: &[&str]) -> Install {
        let json = serde_json::json!({
            "install_id": "i", "tenant": "t", "extension": "e", "version_id": "v", "content_hash": "00".repeat(32)
        });
        let mut install: Install = serde_json::from_value(json).unwrap();
        install.version = version(capabilities);
        install
    }

    fn only(capabilities: &[&str]) -> InstallPatch {
        let list = capabilities.iter().map(|c| (*c).to_owned()).collect();
        InstallPatch { grant: Some(Grant::Only(list)), ..InstallPatch::default() }
    }

    fn refused(options: &InstallPatch) -> Failure {
        apply(&mut install(&[]), None, options, None).unwrap_err()
    }

    #[test]
    fn what_nobody_has_decided_on_is_refused_and_named() {
        let failure = apply(
            &mut install(&["cap:http.fetch", "cap:log.emit", "cap:storage.kv"]),
            None,
            &InstallPatch::default(),
            None,
        )
        .unwrap_err();
        assert_eq!(failure.code, ApiCode::GrantRequired);
        assert!(failure.message.contains("asks for cap:http.fetch, cap:storage.kv:"), "{}", failure.message);
        apply(&mut install(&["cap:log.emit"]), None, &InstallPatch::default(), None).unwrap();
    }

    #[test]
    fn only_what_the_manifest_asks_for_can_be_granted() {
        let mut asks = install(&["cap:http.fetch", "cap:storage.kv"]);
        let failure = apply(&mut asks, None, &only(&["cap:secrets.get"]), None).unwrap_err();
        assert_eq!(failure.code, ApiCode::GrantNotRequested);
        apply(&mut asks, None, &only(&["cap:storage.kv"]), None).unwrap();
        assert!(
            asks.capabilities.has(Capability::StorageKv) && !asks.capabilities.has(Capability::HttpFetch)
        );
        let all = InstallPatch { grant: Some(Grant::ALL), ..InstallPatch::default() };
        apply(&mut asks, None, &all, None).unwrap();
        assert!(
            asks.capabilities.has(Capability::HttpFetch) && !asks.capabilities.has(Capability::SecretsGet)
        );
        assert_eq!(
            apply(&mut asks, None, &only(&["cap:nonsense"]), None).unwrap_err().code,
            ApiCode::InvalidRequest
        );
    }

    #[test]
    fn an_upgrade_keeps_what_was_decided_and_asks_only_about_what_is_new() {
        let mut installed = install(&["cap:http.fetch", "cap:storage.kv"]);
        apply(&mut installed, None, &only(&["cap:storage.kv"]), None).unwrap();
        let before = installed.version.clone();
        // The same, and less.
        installed.version = version(&["cap:http.fetch"]);
        apply(&mut installed, Some(&before), &InstallPatch::default(), None).unwrap();
        assert_eq!(installed.capabilities, CapabilitySet::default());
        // More.
        installed.version = version(&["cap:http.fetch", "cap:secrets.get"]);
        let failure = apply(&mut installed, Some(&before), &InstallPatch::default(), None).unwrap_err();
        assert!(failure.message.contains("asks for cap:secrets.get:"), "{}", failure.message);
    }

    #[test]
    fn secrets_are_sealed_for_this_install_and_their_names_kept() {
        let ring = KeyRing::generate();
        let mut installed = install(&[]);
        let secrets = BTreeMap::from([("api_key".to_owned(), Plain::new("canary-5"))]);
        let options = InstallPatch { secrets: Some(secrets), ..InstallPatch::default() };
        apply(&mut installed, None, &options, Some(&ring)).unwrap();
        let json = serde_json::to_string(&installed).unwrap();
        assert!(!json.contains("canary") && json.contains("api_key"), "{json}");
        assert!(!format!("{options:?}").contains("canary"));
        let first = installed.secrets.clone().unwrap();
        apply(&mut installed, None, &options, Some(&ring)).unwrap();
        assert_ne!(installed.secrets.clone().unwrap().version, first.version);
        let none = InstallPatch { secrets: Some(BTreeMap::new()), ..InstallPatch::default() };
        apply(&mut installed, None, &none, None).unwrap();
        assert!(installed.secrets.is_none() && installed.secret_names.is_empty());
        assert_eq!(refused(&options).code, ApiCode::SecretsUnavailable);
    }

    #[test]
    fn values_outside_their_range_are_refused_by_name() {
        let limits = |limits: LimitView| InstallPatch { limits: Some(limits), ..InstallPatch::default() };
        let config = |name: String, value: String| InstallPatch {
            config: Some(BTreeMap::from([(name, value)])),
            ..InstallPatch::default()
        };
        let egress =
            |text: &str| InstallPatch { egress: Some(vec![text.to_owned()]), ..InstallPatch::default() };
        let hosts =
            |text: &str| InstallPatch { hosts: Some(vec![text.to_owned()]), ..InstallPatch::default() };
        let stray = BTreeMap::from([("x".to_owned(), Vec::new())]);
        let cases = [
            (limits(LimitView { timeout_ms: Some(0), ..LimitView::default() }), "limits.timeout_ms is 0"),
            (limits(LimitView { memory_mb: Some(4096), ..LimitView::default() }), "limits.memory_mb is 4096"),
            (limits(LimitView { log_lines: Some(u64::MAX), ..LimitView::default() }), "limits.log_lines"),
            (InstallPatch { weight: Some(0), ..InstallPatch::default() }, "weight is 0"),
            (InstallPatch { weight: Some(101), ..InstallPatch::default() }, "weight is 101"),
            (config("k".to_owned(), "v".repeat(MAX_CONFIG_BYTES + 1)), "config has"),
            (egress("http://x"), "egress entry"),
            (InstallPatch { any_egress: true, ..egress("x.example") }, "exclude each other"),
            (hosts("a b"), "no host name"),
            (hosts("x.example:80"), "no host name"),
            (hosts(""), "no host name"),
            (hosts("-x.example"), "no host name"),
            (
                InstallPatch { hosts: Some(vec!["a.b".to_owned(); 1000]), ..InstallPatch::default() },
                "at most",
            ),
            (InstallPatch { secret_hosts: Some(stray.clone()), ..InstallPatch::default() }, "send both"),
            (
                InstallPatch {
                    secrets: Some(BTreeMap::new()),
                    secret_hosts: Some(stray),
                    ..InstallPatch::default()
                },
                "not among the secrets",
            ),
        ];
        for (options, words) in cases {
            let failure = refused(&options);
            assert!(failure.message.contains(words), "{words}: {}", failure.message);
        }
    }

    #[test]
    fn hosts_are_kept_as_browsers_send_them() {
        let mut installed = install(&[]);
        let hosts = ["App.Example.", "app.example", "b.example"].map(str::to_owned).to_vec();
        apply(&mut installed, None, &InstallPatch { hosts: Some(hosts), ..InstallPatch::default() }, None)
            .unwrap();
        assert_eq!(installed.hosts, ["app.example", "b.example"]);
    }
}
