//! `longshore replay --corpus`: all recorded runs that match, against a candidate.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use longshore_proto::{ContentHash, TenantId};
use longshore_replay::corpus::{Case, CorpusReport};
use longshore_replay::{Candidate, Options, Recorded, ReplayError};
use longshore_trace::Damage;

use super::fetch;
use super::list::{FilterArgs, newest};
use super::replay::{Local, ReplayArgs, local_bundle, replayer};
use super::vault::Vault;
use crate::exit::{Exit, Failure, ReplayExit};
use crate::fleet::AdminClient;
use crate::fleet::client::Route;
use crate::output::{Output, printable};

/// The end of a file of `longshore export`.
const EXTENSION: &str = "lstrace";

/// Runs it.
///
/// # Errors
/// There are no runs, or none could be had.
pub async fn run(args: &ReplayArgs, vault: &Arc<Vault>, output: &Output) -> Result<ExitCode, Failure> {
    if !args.overrides.is_empty() {
        return Err(Failure::usage("--override means calls of one run: not with --corpus"));
    }
    let local = args.bundle.as_deref().map(|named| local_bundle(named, output)).transpose()?;
    let mut fleet = None;
    let cases = match &args.run {
        Some(folder) => of_folder(Path::new(folder), args.limit as usize)?,
        None => {
            let client = AdminClient::new(&args.fleet)?;
            let tenant = client.place().tenant(&args.tenant)?;
            let cases = of_fleet(&client, vault, &tenant, &args.filter, args.limit as usize).await?;
            fleet = Some((client, tenant));
            cases
        }
    };
    if cases.is_empty() {
        return Err(Failure::not_found("no_runs", "no recorded run matches: nothing was compared")
            .hint("`longshore traces` lists what has been recorded; `longshore record on` records")
            .replay(ReplayExit::ToolFailed));
    }
    let bundle = match local {
        None => Candidate::Same,
        Some(Local::Archive(archive)) => Candidate::Archive(archive),
        Some(Local::Hash(hash)) => {
            let fleet = fleet.as_ref().map(|(client, tenant)| (client, tenant));
            Candidate::Archive(bundle_of(hash, vault, fleet).await?)
        }
    };
    let options = Options { bundle, unmatched: args.unmatched, fuel: args.fuel, ..Options::default() };
    let replayer = replayer(vault, args.jobs)?;
    let bar = bar(cases.len(), output);
    let mut diverged = 0_u64;
    let report = longshore_replay::corpus::run(&replayer, cases, &options, |done, case| {
        diverged += u64::from(case.divergence.is_some());
        bar.set_position(done);
        bar.set_message(format!("{diverged} diverged"));
    })
    .await;
    bar.finish_and_clear();
    replayer.idle().await;
    finish(args, &report, output)
}

fn finish(args: &ReplayArgs, report: &CorpusReport, output: &Output) -> Result<ExitCode, Failure> {
    if let Some(path) = &args.junit {
        let written = std::fs::write(path, report.junit());
        written.with_context(|| format!("{} cannot be written", path.display()))?;
    }
    output.result(report, || report.text());
    Ok(ReplayExit::of(report.exit_code()).into())
}

/// On stderr, so that stdout has the report alone; none where nobody looks.
pub(super) fn bar(length: usize, output: &Output) -> ProgressBar {
    let shown = !output.json && std::io::stderr().is_terminal();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(length as u64), target);
    // The template is ours: it holds.
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} replayed, {msg}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// Files of a folder, by name.
fn of_folder(folder: &Path, limit: usize) -> Result<Vec<Case>, Failure> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("{} is no folder of runs", folder.display()))?;
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == EXTENSION)).collect();
    paths.sort();
    paths.truncate(limit);
    let case = |path: std::path::PathBuf| Case {
        name: printable(path.file_stem().unwrap_or_default().to_string_lossy()),
        load: Box::pin(async move {
            let (exported, trace) = fetch::file(&path).map_err(|failure| unavailable(&failure))?;
            fetch::recorded(exported, trace).map_err(|failure| unavailable(&failure))
        }),
    };
    Ok(paths.into_iter().map(case).collect())
}

/// Runs of the fleet; each is fetched when its turn comes.
pub(super) async fn of_fleet(
    client: &AdminClient,
    vault: &Arc<Vault>,
    tenant: &TenantId,
    filter: &FilterArgs,
    limit: usize,
) -> Result<Vec<Case>, Failure> {
    let traces = newest(client, tenant, filter, limit).await?;
    Ok(cases(client, vault, tenant, traces))
}

/// The same of runs that were chosen.
pub(super) fn cases(
    client: &AdminClient,
    vault: &Arc<Vault>,
    tenant: &TenantId,
    traces: Vec<longshore_proto::trace::Summary>,
) -> Vec<Case> {
    let case = |trace: longshore_proto::trace::Summary| {
        let (client, vault, tenant) = (client.clone(), Arc::clone(vault), tenant.clone());
        let (execution, attempt) = (trace.execution, trace.attempt);
        let name = if attempt > 1 { format!("{execution}.{attempt}") } else { execution.to_string() };
        let load = async move { load(&client, &vault, &tenant, execution, attempt).await };
        Case { name, load: Box::pin(load) }
    };
    traces.into_iter().map(case).collect()
}

async fn load(
    client: &AdminClient,
    vault: &Vault,
    tenant: &TenantId,
    execution: longshore_proto::ExecutionId,
    attempt: u32,
) -> Result<Recorded, ReplayError> {
    let fetched = fetch::run(client, Some(vault), tenant, execution, Some(attempt)).await;
    let (exported, trace) = fetched.map_err(|failure| unavailable(&failure))?;
    fetch::recorded(exported, trace).map_err(|failure| unavailable(&failure))
}

/// Why one run of many could not be had.
fn unavailable(failure: &Failure) -> ReplayError {
    let reason = failure.message.clone();
    if fetch::as_replay(failure.clone()).replay == Some(ReplayExit::Unusable) {
        ReplayError::Damage(Damage::File { reason })
    } else {
        ReplayError::Engine { reason }
    }
}

/// A bundle by its hash: kept from an earlier run, or that of a run that was recorded with it.
pub(super) async fn bundle_of(
    hash: ContentHash,
    vault: &Vault,
    fleet: Option<(&AdminClient, &TenantId)>,
) -> Result<Bytes, Failure> {
    if let Some(kept) = vault.object(hash) {
        return Ok(kept);
    }
    let missing = |hint: &str| {
        Failure::not_found("bundle_not_found", format!("the bundle {hash} is not on this machine"))
            .hint(hint)
            .replay(ReplayExit::ToolFailed)
    };
    // A file is replayed without asking anybody.
    let Some((client, tenant)) = fleet else { return Err(missing("name its file or its folder instead")) };
    let filter = FilterArgs { content_hash: Some(hash), ..FilterArgs::default() };
    let traces = newest(client, tenant, &filter, 1).await?;
    let Some(trace) = traces.first() else {
        return Err(missing("no recorded run has it either: name its file or its folder instead"));
    };
    let id = trace.execution.to_string();
    let route = Route::of_tenant(tenant, ["traces", &id, "bundle"]).with("attempt", trace.attempt);
    let most = usize::try_from(longshore_admin::api::MAX_ARCHIVE_BYTES).unwrap_or(usize::MAX);
    let bytes = client.bytes(route, most).await?;
    if longshore_trace::digest(&bytes) != hash {
        let message = format!("the service gave another bundle than {hash}");
        return Err(Failure::new(Exit::Failed, "hash_mismatch", message).replay(ReplayExit::ToolFailed));
    }
    vault.keep_object(hash, &bytes);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_its_files_by_name_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.lstrace", "a.lstrace", "notes.txt"] {
            std::fs::write(dir.path().join(name), b"x").unwrap();
        }
        let names = |limit| -> Vec<String> {
            of_folder(dir.path(), limit).unwrap().into_iter().map(|case| case.name).collect()
        };
        assert_eq!((names(10), names(1)), (vec!["a".to_owned(), "b".to_owned()], vec!["a".to_owned()]));
        assert!(of_folder(&dir.path().join("none"), 1).is_err());
    }

    #[tokio::test]
    async fn a_file_of_a_corpus_that_is_none_is_unusable_and_no_failure_of_the_tool() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.lstrace"), b"x").unwrap();
        let case = of_folder(dir.path(), 1).unwrap().remove(0);
        assert_eq!(case.load.await.unwrap_err().exit_code(), 2);
        assert_eq!(unavailable(&Failure::new(Exit::Unreachable, "x", "x")).exit_code(), 3);
    }
}
