//! What a component may import, and the capability that gates it. The interfaces of `alga:extension` are held to the WIT by a test; the names of
//! all times are in `worker/src/host/compat.rs`, and whether the types fit is decided there, when a component is linked.

use longshore_proto::Capability;

/// An interface of the world `runner`.
struct Interface {
    name: &'static str,
    capability: Capability,
    functions: &'static [&'static str],
    /// Older names of functions (interop 1.5).
    aliases: &'static [&'static str],
}

const PACKAGE: &str = "alga:extension/";
/// Only types.
const TYPES: &str = "types";

const INTERFACES: [Interface; 12] = [
    interface("context", Capability::ContextRead, &["get-context"], &[]),
    interface("secrets", Capability::SecretsGet, &["get", "list-keys"], &["list"]),
    interface("http", Capability::HttpFetch, &["fetch"], &[]),
    interface("storage", Capability::StorageKv, &["get", "put", "delete", "list-entries"], &["list"]),
    interface(
        "logging",
        Capability::LogEmit,
        &["log-info", "log-warn", "log-error"],
        &["info", "warn", "error"],
    ),
    interface("ui-proxy", Capability::UiProxy, &["call-route"], &["call"]),
    interface("user", Capability::UserRead, &["get-user"], &[]),
    interface("user-v2", Capability::UserRead, &["get-user"], &[]),
    interface(
        "scheduler",
        Capability::SchedulerManage,
        &[
            "list-schedules",
            "get-schedule",
            "create-schedule",
            "update-schedule",
            "delete-schedule",
            "get-endpoints",
        ],
        &[],
    ),
    interface("invoicing", Capability::InvoiceManualCreate, &["create-manual-invoice"], &[]),
    interface("clients", Capability::ClientRead, &["list-clients", "get-client"], &[]),
    interface("services", Capability::ServiceRead, &["list-services", "get-service"], &[]),
];

/// WASI 0.2 as the workers offer it.
const WASI_2: [(&str, &[&str]); 7] = [
    (
        "cli",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("clocks", &["monotonic-clock", "wall-clock"]),
    ("filesystem", &["types", "preopens"]),
    ("io", &["error", "poll", "streams"]),
    ("random", &["random", "insecure", "insecure-seed"]),
    (
        "sockets",
        &[
            "network",
            "instance-network",
            "ip-name-lookup",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
    ),
    ("http", &["types", "outgoing-handler"]),
];
/// WASI 0.3, where workers have `WORKER_WASI_P3`.
const WASI_3: [(&str, &[&str]); 6] = [
    (
        "cli",
        &[
            "environment",
            "exit",
            "types",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("clocks", &["types", "monotonic-clock", "system-clock"]),
    ("filesystem", &["types", "preopens"]),
    ("random", &["random", "insecure", "insecure-seed"]),
    ("sockets", &["types", "ip-name-lookup"]),
    ("http", &["types", "client"]),
];
const CONFIG: &str = "wasi:config/store@0.2.0-rc.1";

const fn interface(
    name: &'static str,
    capability: Capability,
    functions: &'static [&'static str],
    aliases: &'static [&'static str],
) -> Interface {
    Interface { name, capability, functions, aliases }
}

/// What the host says to an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Offered, and nothing has to be granted.
    Free,
    /// Offered, and its calls need this.
    Gated(Capability),
    /// Offered only by workers with `WORKER_WASI_P3`; a capability where its calls need one.
    Wasi3(Option<Capability>),
    /// Not offered.
    No,
}

/// What the host says to the import of this name.
pub(super) fn known(import: &str) -> Known {
    if let Some(interface) = find(import) {
        return Known::Gated(interface.capability);
    }
    if import.strip_prefix(PACKAGE) == Some(TYPES) || import == CONFIG {
        return Known::Free;
    }
    let Some((package, interface, version)) = wasi(import) else { return Known::No };
    let has = |table: &[(&str, &[&str])]| {
        table.iter().any(|(name, interfaces)| *name == package && interfaces.contains(&interface))
    };
    if version.starts_with("0.2.") && has(&WASI_2) {
        return match (package, interface) {
            ("http", "outgoing-handler") => Known::Gated(Capability::HttpFetch),
            _ => Known::Free,
        };
    }
    if version.starts_with("0.3.") && has(&WASI_3) {
        return Known::Wasi3((package == "http" && interface == "client").then_some(Capability::HttpFetch));
    }
    Known::No
}

/// The functions of an interface of `alga:extension`, those of older names last; `None` for others.
pub(super) fn functions(import: &str) -> Option<impl Iterator<Item = &'static str>> {
    find(import).map(|interface| interface.functions.iter().chain(interface.aliases).copied())
}

/// How many interfaces with functions `alga:extension` has.
pub(super) const COUNT: usize = INTERFACES.len();

/// All names that `alga:extension` has, to suggest one.
pub(super) fn names() -> impl Iterator<Item = String> {
    INTERFACES.iter().map(|interface| format!("{PACKAGE}{}", interface.name))
}

fn find(import: &str) -> Option<&'static Interface> {
    let name = import.strip_prefix(PACKAGE)?;
    INTERFACES.iter().find(|interface| interface.name == name)
}

/// `wasi:<package>/<interface>@<version>`.
fn wasi(import: &str) -> Option<(&str, &str, &str)> {
    let (name, version) = import.strip_prefix("wasi:")?.split_once('@')?;
    let (package, interface) = name.split_once('/')?;
    Some((package, interface, version))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use wit_parser::{Resolve, WorldItem};

    use super::*;

    #[test]
    fn the_table_is_the_world_of_the_wit() {
        let mut resolve = Resolve::default();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/wit");
        let (package, _) = resolve.push_path(path).unwrap();
        let world = resolve.select_world(&[package], Some("runner")).unwrap();
        let mut of_wit = BTreeMap::new();
        for item in resolve.worlds[world].imports.values() {
            let WorldItem::Interface { id, .. } = item else { continue };
            let interface = &resolve.interfaces[*id];
            let functions: BTreeSet<&str> = interface.functions.keys().map(String::as_str).collect();
            if !functions.is_empty() {
                of_wit.insert(interface.name.as_deref().unwrap(), functions);
            }
        }
        let of_table = INTERFACES
            .iter()
            .map(|i| (i.name, i.functions.iter().copied().collect()))
            .collect::<BTreeMap<_, _>>();
        assert_eq!(of_table, of_wit);
    }

    #[test]
    fn imports_are_told_apart_by_package_interface_and_version() {
        for (import, expected) in [
            ("alga:extension/types", Known::Free),
            ("alga:extension/http", Known::Gated(Capability::HttpFetch)),
            ("alga:extension/http@0.1.0", Known::No),
            ("alga:extension/metrics", Known::No),
            ("wasi:http/outgoing-handler@0.2.3", Known::Gated(Capability::HttpFetch)),
            ("wasi:http/outgoing-handler@0.2.99", Known::Gated(Capability::HttpFetch)),
            ("wasi:http/outgoing-handler@0.3.0", Known::No),
            ("wasi:http/outgoing-handler", Known::No),
            ("wasi:http/types@0.2.0", Known::Free),
            ("wasi:http/client@0.3.0", Known::Wasi3(Some(Capability::HttpFetch))),
            ("wasi:clocks/system-clock@0.3.0", Known::Wasi3(None)),
            ("wasi:clocks/system-clock@0.2.0", Known::No),
            ("wasi:keyvalue/store@0.2.0", Known::No),
            ("wasi:config/store@0.2.0-rc.1", Known::Free),
            ("wasi:config/store@0.2.0", Known::No),
            ("env", Known::No),
        ] {
            assert_eq!(known(import), expected, "{import}");
        }
    }
}
