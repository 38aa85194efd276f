//! What a change makes of an install. No I/O, no clock.

use longshore_proto::install::{Install, InstalledVersion, MAX_PREVIOUS};
use longshore_proto::{Capability, CapabilitySet, ContentHash};

use super::{InstallsError, MAX_CONFIG_BYTES, MAX_HOSTS, MAX_RECORD_BYTES, Next};
use crate::record;

/// Entries of an install's egress list.
const MAX_EGRESS: usize = 256;
/// The largest weight: a tenant's turns relative to others'.
const MAX_WEIGHT: u32 = 1_000;
/// The longest name, publisher, version, id.
const MAX_TEXT: usize = 256;

/// Why an install is refused before anything is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No host name.
    #[error("`{0}` is no host name: letters, digits, `-` and dots, without port")]
    Host(String),
    /// Too many host names.
    #[error("{0} hosts; an install has at most {MAX_HOSTS}")]
    Hosts(usize),
    /// A grant beyond what the manifest asks for.
    #[error("the manifest does not ask for {0}, so it cannot be granted")]
    NotRequested(String),
    /// Too many entries.
    #[error("{0} entries in the egress list; at most {MAX_EGRESS} are allowed")]
    Egress(usize),
    /// Outside its range.
    #[error("a weight is 1 to {MAX_WEIGHT}, not {0}")]
    Weight(u32),
    /// Empty or too long.
    #[error("{0} must have 1 to {MAX_TEXT} bytes")]
    Text(&'static str),
}

/// Puts fields into their one form and checks them.
pub(super) fn checked(mut install: Install) -> Result<Install, InstallsError> {
    for (what, text) in [("install_id", &install.install_id), ("version_id", &install.version.version_id)] {
        if text.is_empty() || text.len() > MAX_TEXT {
            return Err(Refused::Text(what).into());
        }
    }
    let version = &install.version;
    for (what, text) in
        [("name", &version.name), ("publisher", &version.publisher), ("version", &version.version)]
    {
        if text.len() > MAX_TEXT {
            return Err(Refused::Text(what).into());
        }
    }
    if !(1..=MAX_WEIGHT).contains(&install.weight) {
        return Err(Refused::Weight(install.weight).into());
    }
    if install.egress.as_ref().is_some_and(|list| list.len() > MAX_EGRESS) {
        return Err(Refused::Egress(install.egress.map_or(0, |list| list.len())).into());
    }
    for host in &mut install.hosts {
        *host = host.trim().trim_end_matches('.').to_ascii_lowercase();
        if !is_host(host) {
            return Err(Refused::Host(host.chars().take(64).collect()).into());
        }
    }
    install.hosts.sort();
    install.hosts.dedup();
    if install.hosts.len() > MAX_HOSTS {
        return Err(Refused::Hosts(install.hosts.len()).into());
    }
    install.secret_names.sort();
    install.secret_names.dedup();
    let may = grantable(&install.version);
    if let Some(capability) = install.capabilities.iter().find(|capability| !may.has(*capability)) {
        return Err(Refused::NotRequested(capability.to_string()).into());
    }
    let bytes = config_bytes(&install);
    if bytes > MAX_CONFIG_BYTES {
        let what = "configuration and sealed secrets";
        return Err(InstallsError::TooLarge { what, bytes, limit: MAX_CONFIG_BYTES });
    }
    Ok(install)
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

fn config_bytes(install: &Install) -> usize {
    let config: usize = install.config.iter().map(|(key, value)| key.len() + value.len()).sum();
    let names: usize = install.secret_names.iter().map(String::len).sum();
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let secrets = install.secrets.as_ref().map_or(0, |sealed| {
        sealed.ciphertext_b64.len()
            + [&sealed.algorithm, &sealed.version, &sealed.expires_at, &sealed.key_path, &sealed.mount]
                .into_iter()
                .map(text)
                .sum::<usize>()
    });
    config + names + secrets
}

/// What a version asks for, and what everybody has. Old manifests leave `cap:` out; what this build does not know cannot be granted.
fn grantable(version: &InstalledVersion) -> CapabilitySet {
    let asked: Vec<String> = version.requested.iter().map(|text| text.trim().to_ascii_lowercase()).collect();
    let mut set = CapabilitySet::default();
    for capability in Capability::ALL {
        let name = capability.as_str();
        let short = name.trim_start_matches("cap:");
        if asked.iter().any(|text| text == name || text == short) {
            set.insert(*capability);
        }
    }
    set
}

/// The first of its kind.
pub(super) fn create(wanted: &Install, now: &str) -> Install {
    let mut install = wanted.clone();
    install.previous = Vec::new();
    install.version.installed_at = now.to_owned();
    (install.created_at, install.updated_at) = (now.to_owned(), now.to_owned());
    install
}

/// `wanted` over `current`.
pub(super) fn replace(current: &Install, wanted: &Install, now: &str) -> Next {
    let mut install = wanted.clone();
    let same_bundle = install.version.content_hash == current.version.content_hash
        && install.version.version_id == current.version.version_id;
    install.previous = current.previous.clone();
    if same_bundle {
        install.version.installed_at = current.version.installed_at.clone();
    } else {
        install.version.installed_at = now.to_owned();
        install.previous.insert(0, current.version.clone());
        let hash = install.version.content_hash;
        install.previous.retain(|earlier| earlier.content_hash != hash);
        install.previous.truncate(MAX_PREVIOUS);
    }
    (install.created_at, install.updated_at) = (current.created_at.clone(), current.updated_at.clone());
    if install == *current {
        return Next::Keep;
    }
    install.updated_at = now.to_owned();
    Next::Put(Box::new(install))
}

/// An earlier version in force again; `None` without one.
pub(super) fn rollback(current: Install, to: Option<ContentHash>, now: &str) -> Option<Next> {
    let mut install = current;
    let at = match to {
        Some(hash) if hash == install.version.content_hash => return Some(Next::Keep),
        Some(hash) => install.previous.iter().position(|earlier| earlier.content_hash == hash)?,
        None if install.previous.is_empty() => return None,
        None => 0,
    };
    let earlier = install.previous.remove(at);
    let left = std::mem::replace(&mut install.version, earlier);
    install.previous.push(left);
    install.version.installed_at = now.to_owned();
    install.updated_at = now.to_owned();
    let may = grantable(&install.version);
    let mut kept = CapabilitySet::default();
    install.capabilities.iter().filter(|capability| may.has(*capability)).for_each(|c| kept.insert(c));
    install.capabilities = kept;
    Some(Next::Put(Box::new(install)))
}

/// The record's bytes; the oldest versions are dropped while it is too large.
pub(super) fn fitted(mut install: Install) -> Result<(Install, Vec<u8>), InstallsError> {
    loop {
        let bytes = record::encode(&install).map_err(InstallsError::Encode)?;
        if bytes.len() <= MAX_RECORD_BYTES {
            return Ok((install, bytes));
        }
        if install.previous.pop().is_none() {
            let what = "the record";
            return Err(InstallsError::TooLarge { what, bytes: bytes.len(), limit: MAX_RECORD_BYTES });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::install;

    fn version(byte: u8) -> Install {
        let mut install = install("t", "e", "a", "b");
        install.version.content_hash = ContentHash::from_bytes([byte; 32]);
        install.version.version_id = format!("v{byte}");
        install
    }

    fn put(next: Next) -> Install {
        match next {
            Next::Put(install) => *install,
            Next::Keep => panic!("nothing has changed"),
        }
    }

    fn bytes(install: &Install) -> (u8, Vec<u8>) {
        let first = |v: &InstalledVersion| v.content_hash.as_bytes()[0];
        (first(&install.version), install.previous.iter().map(first).collect())
    }

    #[test]
    fn each_new_bundle_puts_the_one_before_first_and_ten_are_remembered() {
        let mut install = create(&version(1), "2026-01-01T00:00:00Z");
        for byte in 2..=12 {
            install = put(replace(&install, &version(byte), "2026-01-02T00:00:00Z"));
        }
        assert_eq!(bytes(&install), (12, (2..=11).rev().collect()));
        assert_eq!(
            (install.created_at.as_str(), install.updated_at.as_str()),
            ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
        );
        // One that comes back is in the list once.
        install = put(replace(&install, &version(5), "2026-01-03T00:00:00Z"));
        assert_eq!(bytes(&install), (5, vec![12, 11, 10, 9, 8, 7, 6, 4, 3, 2]));
    }

    #[test]
    fn the_same_install_twice_changes_nothing() {
        let install = create(&version(1), "2026-01-01T00:00:00Z");
        assert!(matches!(replace(&install, &version(1), "2026-01-02T00:00:00Z"), Next::Keep));
        let mut other = version(1);
        other.config.insert("k".into(), "v".into());
        let changed = put(replace(&install, &other, "2026-01-02T00:00:00Z"));
        assert!(changed.previous.is_empty(), "the bundle is the same");
        assert_eq!(changed.version.installed_at, "2026-01-01T00:00:00Z");
    }

    #[test]
    fn rolling_back_again_goes_further_back_and_loses_nothing() {
        let mut install = create(&version(1), "2026-01-01T00:00:00Z");
        for byte in [2, 3] {
            install = put(replace(&install, &version(byte), "2026-01-02T00:00:00Z"));
        }
        for expected in [(2, vec![1, 3]), (1, vec![3, 2]), (3, vec![2, 1])] {
            install = put(rollback(install, None, "2026-01-03T00:00:00Z").unwrap());
            assert_eq!(bytes(&install), expected);
        }
        let hash = |byte| Some(ContentHash::from_bytes([byte; 32]));
        install = put(rollback(install, hash(1), "2026-01-04T00:00:00Z").unwrap());
        assert_eq!(bytes(&install), (1, vec![2, 3]));
        assert!(rollback(install.clone(), hash(9), "").is_none());
        assert!(matches!(rollback(install, hash(1), ""), Some(Next::Keep)));
        assert!(rollback(version(1), None, "").is_none());
    }

    #[test]
    fn rolling_back_takes_away_what_the_earlier_version_does_not_ask_for() {
        let mut first = version(1);
        first.version.requested = vec!["cap:storage.kv".into()];
        let mut second = version(2);
        second.version.requested = vec!["storage.kv".into(), "cap:http.fetch".into()];
        second.capabilities = CapabilitySet::parse(["cap:storage.kv", "cap:http.fetch"]).unwrap();
        let second = checked(second).unwrap();
        let install = put(replace(&create(&first, ""), &second, ""));
        let back = put(rollback(install, None, "").unwrap());
        assert_eq!(back.capabilities, CapabilitySet::parse(["cap:storage.kv"]).unwrap());
    }

    #[test]
    fn a_grant_beyond_the_manifest_is_refused() {
        let mut install = version(1);
        install.capabilities = CapabilitySet::parse(["cap:http.fetch"]).unwrap();
        let error = checked(install).unwrap_err();
        assert!(error.to_string().contains("cap:http.fetch"), "{error}");
        assert!(checked(version(1)).is_ok(), "the three that everybody has need not be asked for");
    }

    #[test]
    fn hosts_are_lower_cased_and_each_is_checked() {
        let with = |hosts: &[&str]| {
            checked(Install { hosts: hosts.iter().map(|h| (*h).to_owned()).collect(), ..version(1) })
        };
        assert_eq!(
            with(&["B.example.", "a.example", "b.EXAMPLE"]).unwrap().hosts,
            ["a.example", "b.example"]
        );
        for bad in [
            "",
            "a:80",
            "a/b",
            "*.example",
            "-a.example",
            "a..b",
            "ä.example",
            "a b",
            &"x".repeat(64),
            &"a.".repeat(200),
        ] {
            assert!(matches!(with(&[bad]), Err(InstallsError::Refused(Refused::Host(_)))), "{bad}");
        }
        let many: Vec<String> = (0..=MAX_HOSTS).map(|n| format!("h{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(matches!(with(&many), Err(InstallsError::Refused(Refused::Hosts(_)))));
    }

    #[test]
    fn too_much_configuration_is_refused_and_old_versions_make_room() {
        let mut install = version(1);
        install.config.insert("k".into(), "x".repeat(MAX_CONFIG_BYTES));
        assert!(matches!(checked(install), Err(InstallsError::TooLarge { .. })));
        let mut install = version(1);
        for byte in 2..=9 {
            let mut earlier = version(byte).version;
            earlier.requested = vec!["x".repeat(60_000)];
            install.previous.push(earlier);
        }
        let (install, bytes) = fitted(install).unwrap();
        assert!(bytes.len() <= MAX_RECORD_BYTES && install.previous.len() == 4, "{}", install.previous.len());
        let mut large = version(1);
        large.version.requested = vec!["x".repeat(MAX_RECORD_BYTES)];
        assert!(matches!(fitted(large), Err(InstallsError::TooLarge { .. })));
    }

    #[test]
    fn fields_outside_their_range_are_refused() {
        for bad in [
            Install { weight: 0, ..version(1) },
            Install { weight: MAX_WEIGHT + 1, ..version(1) },
            Install { install_id: String::new(), ..version(1) },
            Install { egress: Some(vec!["h".to_owned(); MAX_EGRESS + 1]), ..version(1) },
        ] {
            assert!(matches!(checked(bad), Err(InstallsError::Refused(_))));
        }
    }
}
