//! What a tenant has installed: `list`, `show`, `uninstall`, `rollback`, `enable`, `disable`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use http::Method;
use longshore_admin::api::{
    InstallList, InstallPatch, InstallResponse, InstallView, Removed, RollbackRequest, UninstallResponse,
    VersionView,
};

use super::client::Route;
use super::install::{list_or, page_url, report};
use super::place::Variables;
use super::{AdminClient, FleetArgs, Place, TenantArgs, block_on};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table, printable};
use crate::traces::target::words;

/// How long a change waits for the workers.
const WAIT_MS: u64 = longshore_admin::api::DEFAULT_WAIT_MS;

/// An install that is named.
#[derive(clap::Args, Clone, Debug)]
pub struct ReferenceArgs {
    /// Its id, the extension's registry id or name, or `publisher.name`
    #[arg(value_name = "EXTENSION")]
    pub reference: String,
    #[command(flatten)]
    /// Whose.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Arguments of `longshore show`.
#[derive(clap::Args, Clone, Debug)]
pub struct ShowArgs {
    /// Its id, the extension's registry id or name, or `publisher.name`
    #[arg(value_name = "EXTENSION", required_unless_present = "files")]
    pub reference: Option<String>,
    /// Lists the files of this bundle instead, without a fleet
    #[arg(long, value_name = "BUNDLE", conflicts_with = "reference")]
    pub files: Option<PathBuf>,
    #[command(flatten)]
    /// Whose.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Arguments of `longshore uninstall`.
#[derive(clap::Args, Clone, Debug)]
pub struct UninstallArgs {
    #[command(flatten)]
    /// Which.
    pub which: ReferenceArgs,
    /// Also removes what it has stored, its bundles and its traces
    #[arg(long)]
    pub purge: bool,
}

/// Arguments of `longshore list`.
#[derive(clap::Args, Clone, Debug)]
pub struct ListArgs {
    /// Of all tenants
    #[arg(long)]
    pub all_tenants: bool,
    #[command(flatten)]
    /// Whose.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Runs `longshore list`.
///
/// # Errors
/// Those of the admin API.
pub fn list(args: &ListArgs, output: &Output) -> Result<ExitCode, Failure> {
    block_on(async {
        let client = AdminClient::new(&args.fleet)?;
        let tenant = if args.all_tenants { None } else { Some(client.place().tenant(&args.tenant)?) };
        let route = Route::new(["installs"]).with_some("tenant", tenant.as_ref());
        let part = |page: InstallList| (page.installs, page.next);
        let installs: Vec<InstallView> = client.pages(route, part).await?;
        let list = InstallList { installs, next: None };
        output.result(&list, || table(&list.installs, tenant.as_ref().map(ToString::to_string)));
        Ok(Exit::Ok.into())
    })
}

fn table(installs: &[InstallView], tenant: Option<String>) -> String {
    if installs.is_empty() {
        return match tenant {
            Some(tenant) => {
                format!("nothing is installed for tenant {tenant} (`--all-tenants` shows the others)")
            }
            None => "nothing is installed".to_owned(),
        };
    }
    let mut table =
        Table::new(["name", "version", "tenant", "extension", "enabled", "bundle", "capture", "recorded"]);
    for install in installs {
        let hash = install.version.content_hash.trim_start_matches("sha256:");
        table.row([
            install.name.clone(),
            install.version.version.clone(),
            install.tenant.clone(),
            install.extension.clone(),
            if install.enabled { "yes" } else { "no" }.to_owned(),
            hash.chars().take(12).collect(),
            install.capture.clone(),
            install.recording.as_ref().map(words).unwrap_or_default(),
        ]);
    }
    table.to_string()
}

/// Runs `longshore show`.
///
/// # Errors
/// Those of the admin API, or a bundle that cannot be read.
pub fn show(args: &ShowArgs, output: &Output) -> Result<ExitCode, Failure> {
    if let Some(bundle) = &args.files {
        return crate::author::files::run(bundle, output);
    }
    let reference = args.reference.as_deref().unwrap_or_default();
    block_on(async {
        let client = AdminClient::new(&args.fleet)?;
        let tenant = client.place().tenant(&args.tenant)?;
        let found: InstallView = client.get(Route::of_tenant(&tenant, ["installs", reference])).await?;
        output.result(&found, || describe(&found, client.place()));
        Ok(Exit::Ok.into())
    })
}

/// Everything that is known of an install, a line each.
fn describe(install: &InstallView, place: &Place) -> String {
    let mut lines: Vec<(&str, String)> = vec![
        ("name", printable(&install.name)),
        ("version", printable(&install.version.version)),
        ("publisher", printable(&install.publisher)),
        ("tenant", install.tenant.clone()),
        ("install", install.install_id.clone()),
        ("extension", install.extension.clone()),
        ("version id", install.version.version_id.clone()),
        ("bundle", install.version.content_hash.clone()),
        ("enabled", if install.enabled { "yes" } else { "no" }.to_owned()),
        (
            "signed by",
            printable(install.version.signed_by.as_deref().unwrap_or("nobody whose key was known")),
        ),
        ("asks for", list_or(&install.version.requested, "nothing")),
        ("granted", list_or(&install.granted, "nothing")),
        ("secrets", list_or(&install.secret_names, "none")),
        ("pool", install.pool.clone()),
        ("capture", install.capture.clone()),
    ];
    if let Some(recording) = &install.recording {
        lines.push(("recorded", format!("{}, by {}", words(recording), printable(&recording.by))));
    }
    if let Some(egress) = &install.egress {
        lines.push(("egress", list_or(egress, "nothing")));
    }
    if !install.hosts.is_empty() {
        lines.push(("hosts", list_or(&install.hosts, "")));
    }
    lines.extend(limit_lines(install));
    lines.extend(install.config.iter().map(|(key, value)| ("config", printable(format!("{key} = {value}")))));
    lines.extend(install.version.endpoints.iter().map(|endpoint| ("endpoint", printable(endpoint))));
    if install.version.ui_entry.is_some() {
        lines.push(("pages", page_url(place, install)));
    }
    lines.extend(install.previous.iter().map(|version| ("before", version_line(version))));
    lines.push(("installed", install.created_at.clone()));
    lines.push(("changed", install.updated_at.clone()));
    lines.iter().map(|(name, text)| format!("{name:<11} {text}\n")).collect()
}

fn limit_lines(install: &InstallView) -> Vec<(&'static str, String)> {
    let limits = serde_json::to_value(install.limits).unwrap_or_default();
    let limits = limits.as_object().cloned().unwrap_or_default();
    limits.into_iter().map(|(name, value)| ("limit", format!("{name} = {value}"))).collect()
}

fn version_line(version: &VersionView) -> String {
    format!("{} {} of {}", printable(&version.version), version.content_hash, version.installed_at)
}

/// Runs `longshore uninstall`.
///
/// # Errors
/// Those of the admin API.
pub fn uninstall(args: &UninstallArgs, output: &Output) -> Result<ExitCode, Failure> {
    block_on(async {
        let client = AdminClient::new(&args.which.fleet)?;
        let tenant = client.place().tenant(&args.which.tenant)?;
        let mut route = Route::of_tenant(&tenant, ["installs", &args.which.reference]);
        if args.purge {
            route = route.with("purge", true);
        }
        let gone: UninstallResponse = match client.delete(route).await {
            Err(failure) if failure.code == "install_not_found" => {
                return Err(elsewhere(&client, &args.which.reference, tenant.as_str(), failure).await);
            }
            other => other?,
        };
        output.result(&gone, || {
            let mut lines = vec![format!(
                "uninstalled {} for tenant {tenant}: {}",
                printable(&gone.name),
                removed(&gone.removed)
            )];
            lines.extend(gone.warnings.iter().map(|warning| format!("  note: {}", printable(warning))));
            lines.join("\n")
        });
        Ok(if gone.warnings.is_empty() { Exit::Ok.into() } else { Exit::Failed.into() })
    })
}

/// A refusal that names the tenants that do have it.
async fn elsewhere(client: &AdminClient, reference: &str, tenant: &str, failure: Failure) -> Failure {
    let part = |page: InstallList| (page.installs, page.next);
    let Ok(all) = client.pages::<InstallList, InstallView>(Route::new(["installs"]), part).await else {
        return failure;
    };
    let has = |install: &&InstallView| install.tenant != tenant && is(install, reference);
    let others: Vec<String> = all.iter().filter(has).map(|install| install.tenant.clone()).take(5).collect();
    if others.is_empty() {
        failure
    } else {
        failure.hint(format!("it is installed for tenant {}", others.join(", ")))
    }
}

/// Whether a reference names an install.
pub fn is(install: &InstallView, reference: &str) -> bool {
    install.install_id == reference
        || install.extension == reference
        || install.name.eq_ignore_ascii_case(reference)
        || install.slug == reference.to_lowercase()
}

/// `1 install, 2 secrets`.
pub fn removed(removed: &Removed) -> String {
    let counts = serde_json::to_value(removed).unwrap_or_default();
    let counts = counts.as_object().cloned().unwrap_or_default();
    let parts: Vec<String> = counts
        .iter()
        .filter_map(|(name, count)| count.as_u64().filter(|count| *count > 0).map(|count| (name, count)))
        .map(|(name, count)| match name.as_str() {
            "bytes" => crate::output::bytes(count),
            name => format!("{count} {}", name.replace('_', " ")),
        })
        .collect();
    if parts.is_empty() { "nothing to remove".to_owned() } else { format!("removed {}", parts.join(", ")) }
}

/// Runs `longshore rollback`.
///
/// # Errors
/// Those of the admin API.
pub fn rollback(args: &ReferenceArgs, output: &Output) -> Result<ExitCode, Failure> {
    block_on(async {
        let client = AdminClient::new(&args.fleet)?;
        let tenant = client.place().tenant(&args.tenant)?;
        let route = Route::of_tenant(&tenant, ["installs", &args.reference, "rollback"]);
        let request = RollbackRequest { wait_ms: Some(WAIT_MS) };
        let wait = Duration::from_millis(WAIT_MS);
        let response: InstallResponse = client.send(Method::POST, route, &request, wait).await?;
        output.result(&response, || report(&response, client.place()));
        Ok(Exit::Ok.into())
    })
}

/// Runs `longshore enable` and `longshore disable`.
///
/// # Errors
/// Those of the admin API.
pub fn set_enabled(args: &ReferenceArgs, enabled: bool, output: &Output) -> Result<ExitCode, Failure> {
    block_on(async {
        let client = AdminClient::new(&args.fleet)?;
        let tenant = client.place().tenant_or(&args.tenant, &Variables::of_process())?;
        let tenant = tenant
            .ok_or_else(|| Failure::usage("which tenant? name it by --tenant ID or LONGSHORE_TENANT=ID"))?;
        let route = Route::of_tenant(&tenant, ["installs", &args.reference]);
        let patch = InstallPatch { enabled: Some(enabled), wait_ms: Some(0), ..InstallPatch::default() };
        let response: InstallResponse = client.send(Method::PATCH, route, &patch, Duration::ZERO).await?;
        output.result(&response, || {
            let (word, name) =
                (if enabled { "enabled" } else { "disabled" }, printable(&response.install.name));
            match enabled {
                true => format!("{word} {name} for tenant {tenant}"),
                false => format!(
                    "{word} {name} for tenant {tenant}: waiting calls are refused, running ones stopped"
                ),
            }
        });
        Ok(Exit::Ok.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install() -> InstallView {
        serde_json::from_value(serde_json::json!({
            "install_id": "i-1", "tenant": "t-1", "extension": "e-1", "name": "com.a.B", "publisher": "Alga",
            "slug": "alga.com.a.b", "enabled": true, "previous": [], "granted": ["cap:log.emit"], "config": {"k": "v\u{1b}[2J"},
            "secret_names": ["api_key"], "limits": {"timeout_ms": 500}, "pool": "default", "weight": 1, "capture": "events",
            "hosts": [], "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-02T00:00:00Z",
            "version": {
                "content_hash": format!("sha256:{}", "ab".repeat(32)), "version_id": "v-1", "version": "1.0.0",
                "requested": [], "endpoints": ["GET /x"], "installed_at": "2026-01-01T00:00:00Z"
            }
        }))
        .unwrap()
    }

    #[test]
    fn an_install_is_named_by_any_of_its_names() {
        for name in ["i-1", "e-1", "com.a.B", "com.a.b", "Alga.com.a.B"] {
            assert!(is(&install(), name), "{name}");
        }
        assert!(!is(&install(), "com.a") && !is(&install(), "t-1"));
    }

    #[test]
    fn what_is_shown_holds_every_part_and_no_control_characters() {
        let dir = tempfile::tempdir().unwrap();
        let variables = Variables { dev_data: Some(dir.path().to_owned()), ..Variables::default() };
        let place = Place::find_in(&FleetArgs::default(), &variables, dir.path()).unwrap();
        let text = describe(&install(), &place);
        for part in [
            "com.a.B",
            "e-1",
            "limit       timeout_ms = 500",
            "api_key",
            "endpoint    GET /x",
            "cap:log.emit",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn an_empty_list_says_where_to_look() {
        assert!(table(&[], Some("t".into())).contains("--all-tenants"));
        assert!(table(&[install()], None).contains("abababababab  "));
    }

    #[test]
    fn what_was_removed_is_counted_by_kind() {
        assert_eq!(removed(&Removed::default()), "nothing to remove");
        let some = Removed { installs: 1, storage_entries: 2, bytes: 2048, ..Removed::default() };
        let text = removed(&some);
        assert!(
            text.contains("1 installs") && text.contains("2 storage entries") && text.contains("2.0 KiB"),
            "{text}"
        );
    }
}
