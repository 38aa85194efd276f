//! What can be wrong with an install: nobody has it, another tenant has it, it is disabled, it declares nothing, it is in no menu.

use longshore_admin::api::{Fleet, InstallView};

use super::finding::Finding;
use super::servers::LastRun;
use crate::fleet::installs::is;

/// Finds the install that is meant: "Extension not found", and the one that another tenant has.
///
/// # Errors
/// What to say instead.
pub fn find<'a>(all: &'a [InstallView], tenant: &str, reference: &str) -> Result<&'a InstallView, Finding> {
    let named = || all.iter().filter(|install| is(install, reference));
    if let Some(install) = named().find(|install| install.tenant == tenant) {
        return Ok(install);
    }
    if let Some(other) = named().next() {
        return Err(Finding::wrong(
            "install",
            "other_tenant",
            format!(
                "{reference} is installed for tenant {}, not for {tenant}: its calls are 404, it is in no menu of {tenant}",
                other.tenant
            ),
            format!(
                "name the right tenant by --tenant {}, or install it here too: `longshore install {} --extension {} --move-from {} --tenant {tenant}`",
                other.tenant, other.version.content_hash, other.extension, other.tenant
            ),
        ));
    }
    let near: Vec<&str> = all
        .iter()
        .filter(|install| install.tenant == tenant)
        .map(|install| install.name.as_str())
        .take(10)
        .collect();
    let have = if near.is_empty() { "it has none".to_owned() } else { format!("it has {}", near.join(", ")) };
    Err(Finding::wrong(
        "install",
        "extension_not_found",
        format!("tenant {tenant} has no install {reference}; {have}"),
        "build and install it: `longshore build DIR && longshore install DIR`",
    ))
}

/// What can be said of an install without its bundle.
pub fn look(install: &InstallView) -> Vec<Finding> {
    let mut findings = vec![if install.enabled {
        Finding::ok(
            "install",
            format!("{} {} for tenant {}", install.name, install.version.version, install.tenant),
        )
    } else {
        Finding::wrong(
            "install",
            "disabled",
            format!("{} is disabled for tenant {}: its calls are refused", install.name, install.tenant),
            format!("`longshore enable {}`", install.name),
        )
    }];
    findings.push(endpoints(install));
    findings.extend(grants(install));
    findings.push(menu(install));
    findings
}

/// "404 on extension handler call" where it is installed.
fn endpoints(install: &InstallView) -> Finding {
    match install.version.endpoints.as_slice() {
        [] if install.version.ui_entry.is_some() => Finding::ok("endpoints", "none: it has pages alone"),
        [] => Finding::warning(
            "endpoints",
            "no_endpoints",
            "the manifest declares none: every call is 404 endpoint_not_found",
            "declare them in api.endpoints of manifest.json and install again",
        ),
        some => {
            Finding::ok("endpoints", format!("{} (anything else is 404 endpoint_not_found)", some.join(", ")))
        }
    }
}

/// Capabilities that are asked for and not granted: a handler that uses one is denied, and often traps.
fn grants(install: &InstallView) -> Option<Finding> {
    let missing: Vec<&str> = install
        .version
        .requested
        .iter()
        .filter(|asked| !install.granted.contains(asked))
        .map(String::as_str)
        .collect();
    (!missing.is_empty()).then(|| {
        Finding::warning(
            "grants",
            "not_granted",
            format!("asked for and not granted: {}", missing.join(", ")),
            "what uses them is denied; grant them with `longshore install HASH --grant CAPABILITY`",
        )
    })
}

/// "Extension not showing in the sidebar menu".
fn menu(install: &InstallView) -> Finding {
    if install.version.ui_entry.is_none() {
        return Finding::skipped("menu", "it has no pages");
    }
    let label = install
        .version
        .ui_hooks
        .get("appMenu")
        .and_then(|menu| menu.get("label"))
        .and_then(|label| label.as_str());
    match label {
        Some(label) => Finding::ok("menu", label),
        None => Finding::warning(
            "menu",
            "not_in_menu",
            "the manifest has no ui.hooks.appMenu.label: it is in no menu",
            "add the label to manifest.json and install again",
        ),
    }
}

/// "WASM component panics": what its last run said.
pub fn last_run(found: Result<Option<LastRun>, &str>) -> Finding {
    match found {
        Err(why) => Finding::skipped("last run", why),
        Ok(None) => Finding::skipped("last run", "none is among its debug events"),
        Ok(Some(LastRun::Answered(when))) => Finding::ok("last run", format!("{when} answered")),
        Ok(Some(LastRun::Failed(error))) => {
            let short: String = error.chars().take(600).collect();
            Finding::warning(
                "last run",
                "last_run_failed",
                short,
                "the worker's log has the whole backtrace with names; is every capability that it uses granted, and does the handler export what the SDK expects?",
            )
        }
    }
}

/// Workers, gateways and their versions, as the admin service hears them.
pub fn fleet(fleet: &Fleet, version: &str) -> Vec<Finding> {
    let workers: Vec<_> = fleet.pools.iter().flat_map(|pool| &pool.workers).collect();
    let mut findings = Vec::new();
    if workers.is_empty() {
        findings.push(Finding::wrong(
            "workers",
            "no_workers",
            "no worker is heard: every call ends with no_workers",
            "start one, or look into its log: NATS, the bundle store and EXT_CACHE_ROOT must be usable",
        ));
    } else {
        let slots: u64 = workers.iter().map(|worker| worker.slots).sum();
        findings.push(Finding::ok("workers", format!("{} with {slots} slots", workers.len())));
    }
    for worker in &workers {
        if worker.unwell {
            findings.push(Finding::wrong(
                "workers",
                "unwell",
                format!("{} calls itself unwell: its runs fail for reasons of its own", worker.name),
                "its log says why; often its disk or the bundle store",
            ));
        }
    }
    let others: Vec<String> = workers
        .iter()
        .filter_map(|worker| worker.version.as_ref().filter(|theirs| *theirs != version))
        .cloned()
        .collect();
    findings.push(match others.first() {
        None => Finding::ok("versions", version),
        Some(theirs) => Finding::warning(
            "versions",
            "versions",
            format!("this command is {version}, {} workers are {theirs}", others.len()),
            "they work together; update the older",
        ),
    });
    if fleet.shims.is_empty() && fleet.listening_ms > 3_000 {
        findings.push(Finding::wrong(
            "gateways",
            "no_gateways",
            "no gateway is heard",
            "start one: nobody can call",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    fn install(tenant: &str) -> InstallView {
        serde_json::from_value(serde_json::json!({
            "install_id": format!("i-{tenant}"), "tenant": tenant, "extension": "e-1", "name": "com.a.b", "publisher": "P",
            "slug": "p.com.a.b", "enabled": true, "previous": [], "granted": [], "config": {}, "secret_names": [], "limits": {},
            "pool": "default", "weight": 1, "capture": "events", "hosts": [], "created_at": "", "updated_at": "",
            "version": {
                "content_hash": format!("sha256:{}", "ab".repeat(32)), "version_id": "v", "version": "1.0.0", "requested": [],
                "endpoints": ["GET /x"], "installed_at": ""
            }
        }))
        .unwrap()
    }

    fn codes(install: &InstallView) -> Vec<&'static str> {
        look(install).iter().filter(|f| f.state > State::Skipped).map(|f| f.code).collect()
    }

    #[test]
    fn an_install_of_another_tenant_is_told_from_none_with_the_command_that_moves_it() {
        let all = [install("t-1")];
        assert!(find(&all, "t-1", "com.a.b").is_ok());
        let other = find(&all, "t-2", "com.a.b").map(|_| ()).unwrap_err();
        assert_eq!(other.code, "other_tenant");
        assert!(other.hint.unwrap().contains("--move-from t-1"));
        let none = find(&all, "t-1", "com.a.c").map(|_| ()).unwrap_err();
        assert!(none.code == "extension_not_found" && none.message.contains("it has com.a.b"), "{none:?}");
        assert!(find(&[], "t", "x").map(|_| ()).unwrap_err().message.contains("it has none"));
    }

    #[test]
    fn each_reason_for_a_404_or_a_missing_menu_is_found() {
        assert_eq!(codes(&install("t")), [""; 0]);
        let mut disabled = install("t");
        disabled.enabled = false;
        assert_eq!(codes(&disabled), ["disabled"]);
        let mut silent = install("t");
        silent.version.endpoints.clear();
        assert_eq!(codes(&silent), ["no_endpoints"]);
        silent.version.ui_entry = Some("ui/index.html".into());
        assert_eq!(codes(&silent), ["not_in_menu"]);
        silent.version.ui_hooks = serde_json::json!({"appMenu": {"label": "Hello"}});
        assert_eq!(codes(&silent), [""; 0]);
        let mut denied = install("t");
        denied.version.requested = vec!["cap:http.fetch".into()];
        assert_eq!(codes(&denied), ["not_granted"]);
    }

    #[test]
    fn a_trap_of_the_last_run_is_shown_short() {
        assert_eq!(last_run(Ok(Some(LastRun::Answered("12:00".into())))).state, State::Ok);
        assert_eq!(last_run(Ok(None)).state, State::Skipped, "nothing is known, so nothing is well");
        assert_eq!(last_run(Err("why")).state, State::Skipped);
        let failed = LastRun::Failed(format!("wasm trap: unreachable {}", "x".repeat(5_000)));
        let finding = last_run(Ok(Some(failed)));
        assert!(finding.code == "last_run_failed" && finding.message.len() < 700);
    }

    #[test]
    fn a_fleet_without_workers_or_with_unwell_or_older_ones_is_told() {
        let heard = |json: serde_json::Value| -> Vec<&'static str> {
            let fleet_view: Fleet = serde_json::from_value(json).unwrap();
            fleet(&fleet_view, "1.0.0").iter().filter(|f| f.state > State::Skipped).map(|f| f.code).collect()
        };
        let none = serde_json::json!({"pools": [], "shims": [], "listening_ms": 9000});
        assert_eq!(heard(none), ["no_workers", "no_gateways"]);
        let worker = serde_json::json!({"worker": "w", "name": "n", "version": "0.9.0", "slots": 8, "free": 8, "leaving": false, "unwell": true, "age_ms": 1});
        let shim = serde_json::json!({"shim": "s", "leaving": false, "age_ms": 1});
        let some = serde_json::json!({
            "pools": [{"name": "default", "slots": 8, "free": 8, "workers": [worker]}], "shims": [shim], "listening_ms": 9000
        });
        assert_eq!(heard(some), ["unwell", "versions"]);
    }
}
