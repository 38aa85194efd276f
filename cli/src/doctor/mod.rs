//! `longshore doctor`: each line ok, or what is wrong and what to do.
//!
//! It reads the variables that the programs read, or what a running `longshore dev` left, and looks at each part by itself, so that one that is away
//! hides as few others as possible. Nothing is changed and no handler is called.

mod bundles;
mod finding;
mod http;
mod installs;
mod servers;
mod settings;

use std::process::ExitCode;
use std::sync::Arc;

use chrono::Utc;
use longshore_admin::api::{Fleet, InstallList, InstallView};
use longshore_bundle::{BundleKey, BundleStore};
use longshore_service::errors::chain;
use longshore_service::upstream::Upstream;
use serde::Serialize;

pub use finding::{Finding, State};
pub use settings::Surroundings;

use crate::exit::{Exit, Failure};
use crate::fleet::client::Route;
use crate::fleet::place::Variables;
use crate::fleet::{AdminClient, FleetArgs, Place, TenantArgs, block_on};
use crate::output::Output;

/// Installs whose bundles are read where none is named.
const MAX_INSTALLS: usize = 20;

/// Arguments of `longshore doctor`.
#[derive(clap::Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Looks closely at this install: its bundle, endpoints, grants, pages, menu and last run
    #[arg(long, value_name = "EXTENSION")]
    pub extension: Option<String>,
    #[command(flatten)]
    /// Whose.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// All lines, for `--json`.
#[derive(Serialize)]
struct Report {
    healthy: bool,
    findings: Vec<Finding>,
}

/// Runs `longshore doctor`.
///
/// # Errors
/// Only for a command line that makes no sense: what is wrong is a finding.
pub fn run(args: &DoctorArgs, output: &Output) -> Result<ExitCode, Failure> {
    let place = Place::find(&args.fleet)?;
    let tenant = place.tenant_or(&args.tenant, &Variables::of_process())?.map(|tenant| tenant.to_string());
    if args.extension.is_some() && tenant.is_none() {
        return Err(Failure::usage("which tenant's install? name it by --tenant ID or LONGSHORE_TENANT=ID"));
    }
    let around = Surroundings::find(|name| std::env::var(name).ok(), place.dev.as_ref());
    let doctor = Doctor { place, around, tenant, extension: args.extension.clone() };
    let findings = block_on(doctor.look())?;
    let healthy = findings.iter().all(|finding| finding.state != State::Wrong);
    let report = Report { healthy, findings };
    output.result(&report, || {
        let mut lines: Vec<String> = report.findings.iter().map(Finding::text).collect();
        let wrong = report.findings.iter().filter(|finding| finding.state == State::Wrong).count();
        lines.push(if wrong == 0 { "\nnothing is wrong".to_owned() } else { format!("\n{wrong} wrong") });
        lines.join("\n")
    });
    Ok(if healthy { Exit::Ok.into() } else { Exit::Failed.into() })
}

/// What is looked at.
struct Doctor {
    place: Place,
    around: Surroundings,
    tenant: Option<String>,
    extension: Option<String>,
}

impl Doctor {
    async fn look(&self) -> Result<Vec<Finding>, Failure> {
        let http = Upstream::new()
            .map_err(|error| Failure::new(Exit::Failed, "failed", chain(&error).to_string()))?;
        let mut findings = vec![Finding::ok("longshore", env!("CARGO_PKG_VERSION"))];
        let ready_url = format!("{}/readyz", self.place.gateway_url);
        let ready = http::get(&http, &ready_url).await;
        // Where nobody answers, the question is why nothing starts.
        if ready.is_err() {
            let path: Vec<_> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
                .chain(std::env::current_dir().map(|dir| dir.join(".venv/bin")))
                .collect();
            findings.extend(servers::programs(&path));
            let read = |name: &str| std::env::var(name).ok();
            findings
                .extend(servers::all(servers::PORTS.iter().map(|port| servers::port(port.of(read)))).await);
        }
        findings.extend(servers::nats(&self.around).await);
        findings.push(servers::redis(&self.around).await);
        let store = self.store(&mut findings).await;
        findings.push(http::gateway(&self.place.gateway_url, &ready));
        findings.push(match &ready {
            Ok(answer) => http::clock(Utc::now(), answer),
            Err(_) => Finding::skipped("clock", "the gateway does not answer"),
        });
        let installs = self.admin(&mut findings).await;
        if let Some(installs) = installs {
            self.installs(&installs, store.as_deref(), &http, &mut findings).await;
        }
        Ok(findings)
    }

    async fn store(&self, findings: &mut Vec<Finding>) -> Option<Arc<dyn BundleStore>> {
        let Some(config) = &self.around.store else {
            findings.push(Finding::skipped(
                "store",
                "BUNDLE_STORE_BASE is not set here; see gateway and workers",
            ));
            return None;
        };
        match bundles::open(config) {
            Ok(store) => {
                let finding = bundles::store(&*store).await;
                let usable = finding.state == State::Ok;
                findings.push(finding);
                usable.then_some(store)
            }
            Err(finding) => {
                findings.push(finding);
                None
            }
        }
    }

    /// The admin service, its token, workers; gives all installs.
    async fn admin(&self, findings: &mut Vec<Finding>) -> Option<Vec<InstallView>> {
        let asking = async {
            let client = AdminClient::at(self.place.clone())?;
            let fleet: Fleet = client.get(Route::new(["pools"])).await?;
            let part = |page: InstallList| (page.installs, page.next);
            let installs = client.pages::<InstallList, InstallView>(Route::new(["installs"]), part).await;
            Ok::<_, Failure>((fleet, installs))
        };
        match asking.await {
            Ok((fleet, installs)) => {
                findings.push(Finding::ok("admin", format!("answers on {}", self.place.admin_url)));
                findings.extend(installs::fleet(&fleet, env!("CARGO_PKG_VERSION")));
                installs.map_err(|failure| findings.push(of_failure("installs", &failure))).ok()
            }
            Err(failure) => {
                findings.push(of_failure("admin", &failure));
                None
            }
        }
    }

    async fn installs(
        &self,
        all: &[InstallView],
        store: Option<&dyn BundleStore>,
        http: &Upstream,
        findings: &mut Vec<Finding>,
    ) {
        let Some(tenant) = &self.tenant else {
            findings.push(Finding::skipped("installs", "no tenant is named (--tenant, LONGSHORE_TENANT)"));
            return;
        };
        let Some(reference) = &self.extension else {
            let own: Vec<&InstallView> = all.iter().filter(|install| install.tenant == *tenant).collect();
            findings.push(Finding::ok("installs", format!("{} for tenant {tenant}", own.len())));
            for install in own.into_iter().take(MAX_INSTALLS) {
                if let Some(store) = store {
                    findings.extend(bundle(install, store).await);
                }
            }
            return;
        };
        let install = match installs::find(all, tenant, reference) {
            Ok(install) => install,
            Err(finding) => return findings.push(finding),
        };
        findings.extend(installs::look(install));
        if let Some(store) = store {
            findings.extend(bundle(install, store).await);
            if let Some(key) = key(install) {
                findings.push(bundles::signature(store, &key, install.version.signed_by.as_deref()).await);
            }
        }
        if install.version.ui_entry.is_some() {
            let (gateway, hash) = (&self.place.gateway_url, &install.version.content_hash);
            let url = format!("{gateway}/ext-ui/{}/{hash}/?tenant={tenant}", install.extension);
            findings.push(http::pages(&url, &http::get(http, &url).await));
        }
        let run = servers::last_run(&self.around, tenant, &install.extension).await;
        findings.push(installs::last_run(run));
    }
}

async fn bundle(install: &InstallView, store: &dyn BundleStore) -> Option<Finding> {
    Some(bundles::bundle(store, &key(install)?).await)
}

fn key(install: &InstallView) -> Option<BundleKey> {
    Some(BundleKey {
        tenant: install.tenant.parse().ok()?,
        extension: install.extension.parse().ok()?,
        hash: install.version.content_hash.parse().ok()?,
    })
}

fn of_failure(what: &'static str, failure: &Failure) -> Finding {
    Finding::wrong(
        what,
        failure.code,
        &failure.message,
        failure.hint.as_deref().unwrap_or("the service's log says more"),
    )
}
