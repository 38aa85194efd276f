//! `longshore dev --watch DIR`: on each save the project's own build, then packed, uploaded and installed again; its events as they come.
//!
//! The time that counts is from the end of the build to the moment when every worker has the new component compiled: it is printed each time.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use longshore_admin::api::{DEFAULT_WAIT_MS, Grant, InstallResponse, WarmState};
use longshore_proto::TenantId;
use longshore_service::lifecycle::Signals;

use super::sources::{Changes, Sources};
use super::tail::Tail;
use super::ui::Ui;
use super::{DevArgs, paths};
use crate::author;
use crate::exit::Failure;
use crate::fleet::install::{self, Bundle, Wanted};
use crate::fleet::place::{DevFolder, FLEET_FILE, Variables};
use crate::fleet::{AdminClient, FleetArgs, Place, TenantArgs};
use crate::output::{Output, printable};

/// Projects that are watched, and the fleet that they are installed into.
pub(super) struct Watch {
    /// The admin service.
    pub(super) client: AdminClient,
    /// For whom.
    pub(super) tenant: TenantId,
    /// The projects' folders.
    pub(super) dirs: Vec<PathBuf>,
    /// The Redis that has the events.
    pub(super) redis_url: String,
    /// Where it is told.
    pub(super) ui: Ui,
}

/// Watches for a `longshore dev` that runs already, until a signal.
pub(super) async fn attached(args: &DevArgs, ui: Ui, mut signals: Signals) -> anyhow::Result<ExitCode> {
    let watch = attach(args, ui.clone())?;
    tokio::select! {
        ended = watch.run() => ended.map(|()| ExitCode::SUCCESS),
        // Nothing has to be undone: what was installed stays.
        _ = signals.next() => Ok(ExitCode::SUCCESS),
    }
}

fn attach(args: &DevArgs, ui: Ui) -> anyhow::Result<Watch> {
    let variables = Variables { dev_data: Some(args.data.clone()), ..Variables::of_process() };
    let variables = Variables { admin_token: None, gateway_url: None, ..variables };
    let place = Place::find_in(&FleetArgs::default(), &variables, Path::new("."))?;
    let Some(fleet) = place.dev.clone() else {
        anyhow::bail!(
            "another `longshore dev` holds {} and has not left its addresses in {FLEET_FILE} yet: wait until it is up",
            args.data.display()
        );
    };
    let tenant = place.tenant_or(&TenantArgs { tenant: args.tenant.clone() }, &variables)?;
    let tenant = tenant.context("the running `longshore dev` names no tenant")?;
    ui.line(format!(
        "Attached to the `longshore dev` on {} (tenant {tenant}). Ctrl-C ends only this.",
        fleet.gateway_url
    ));
    let client = AdminClient::at(place)?;
    Ok(Watch { client, tenant, dirs: args.watch.clone(), redis_url: fleet.redis_url, ui })
}

/// Whether another process is the `longshore dev` of this folder.
pub(super) fn is_running(args: &DevArgs) -> bool {
    paths::is_held(&args.data) && DevFolder::find(Some(&args.data), Path::new(".")).is_some()
}

impl Watch {
    /// Until a folder can no longer be watched.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let tail = Tail::new(self.ui.clone());
        let mut projects = Vec::new();
        for dir in &self.dirs {
            projects.push(Project { sources: Sources::open(dir)?, name: name_of(dir), tail: tail.clone() });
        }
        let working = futures::future::try_join_all(projects.into_iter().map(|project| self.follow(project)));
        tokio::select! {
            ended = working => ended.map(|_| ()),
            failed = tail.run(&self.redis_url) => failed,
        }
    }

    async fn follow(&self, mut project: Project) -> anyhow::Result<()> {
        let mut changed = Changes::default();
        loop {
            self.turn(&mut project, &changed).await;
            self.ui.item(&project.name, "waiting for a save");
            changed = project.sources.next().await?;
        }
    }

    /// Builds and installs once. What goes wrong is told, and the next save is the next try.
    async fn turn(&self, project: &mut Project, changed: &Changes) {
        if let Some(first) = changed.first() {
            let more =
                if changed.len() > 1 { format!(" and {} more", changed.len() - 1) } else { String::new() };
            self.ui.item(&project.name, format!("{} was saved{more}", first.display()));
        }
        let dir = project.sources.dir().to_owned();
        project.sources.build_begins();
        let built = build(&dir).await;
        project.sources.build_ends();
        if let Err(failure) = built {
            self.ui.item(&project.name, format!("not built, what was installed stays: {}", failure.message));
            return;
        }
        let started = Instant::now();
        match self.install(&dir).await {
            Ok(response) => {
                project.tail.add(&response.install.extension, &project.name);
                self.ui.item(&project.name, live(&response, started, &self.client.place().gateway_url));
            }
            Err(failure) => {
                let hint = failure.hint.map(|hint| format!("\n    {hint}")).unwrap_or_default();
                self.ui.item(&project.name, format!("not installed: {}{hint}", failure.message));
            }
        }
    }

    async fn install(&self, dir: &Path) -> Result<InstallResponse, Failure> {
        let output = Output::new(false);
        let dir = dir.to_owned();
        let packing = tokio::task::spawn_blocking(move || {
            crate::author::pack::project(&dir, install::FAST_LEVEL, &output)
        });
        let packed = packing.await.map_err(|error| Failure::from(anyhow::Error::new(error)))??;
        let bundle = Bundle { bytes: packed.archive.into(), signature: None };
        // All that the manifest asks for: a capability that was just added is meant.
        let wanted = Wanted { grant: Some(Grant::ALL), wait_ms: DEFAULT_WAIT_MS, ..Wanted::default() };
        install::upload_and_install(&self.client, &self.tenant, bundle, &wanted, &output).await
    }
}

/// A project that is watched.
struct Project {
    name: String,
    sources: Sources,
    tail: Tail,
}

fn name_of(dir: &Path) -> String {
    let path = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    path.file_name().map_or_else(|| "project".to_owned(), |name| printable(name.to_string_lossy()))
}

/// Builds with the project's own command, as `longshore build` does; pages alone are ready as they are.
async fn build(dir: &Path) -> Result<(), Failure> {
    let dir = dir.to_owned();
    let building = tokio::task::spawn_blocking(move || author::build::build(&dir, None, &Output::new(false)));
    building.await.map_err(|error| Failure::from(anyhow::Error::new(error)))?.map(|_| ())
}

fn live(response: &InstallResponse, started: Instant, gateway: &str) -> String {
    let install = &response.install;
    let failed =
        response.warm.iter().flat_map(|warm| &warm.workers).find(|worker| worker.state == WarmState::Error);
    if let Some(worker) = failed {
        return format!(
            "installed, and workers cannot run it: {}",
            printable(worker.error.as_deref().unwrap_or_default())
        );
    }
    format!(
        "{} {} is live {} ms after the build's end: {gateway}/api/ext/{}/",
        printable(&install.name),
        printable(&install.version.version),
        started.elapsed().as_millis(),
        install.name
    )
}
