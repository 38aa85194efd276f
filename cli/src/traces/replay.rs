//! `longshore replay`: a recorded run once more, in this process and offline. Its exit codes are its own: [`ReplayExit`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use longshore_bundle::ArchiveLimits;
use longshore_proto::{ContentHash, ExecutionId};
use longshore_replay::player::parse_override;
use longshore_replay::{
    Candidate, Options, Override, Recorded, ReplayError, Replayer, ReplayerConfig, Unmatched,
};

use super::list::FilterArgs;
use super::step::Prompt;
use super::vault::Vault;
use super::{corpus, fetch};
use crate::author::{files, pack};
use crate::exit::{Exit, Failure, ReplayExit};
use crate::fleet::{AdminClient, FleetArgs, TenantArgs};
use crate::output::Output;

/// As an author sees it: nobody downloads the bundle.
const LEVEL: i32 = 1;

/// Arguments of `longshore replay`.
#[derive(clap::Args, Clone, Debug)]
pub struct ReplayArgs {
    /// The run's id, which is fetched first; or a file of `longshore export`; with --corpus a folder of such files
    #[arg(value_name = "ID|FILE", required_unless_present = "corpus")]
    pub run: Option<String>,
    /// Which attempt of the run; unset: the last
    #[arg(long, value_name = "NUMBER", requires = "run")]
    pub attempt: Option<u32>,
    /// What if: this bundle instead of the recorded one, a project's folder, a file, or a hash
    #[arg(long, value_name = "DIR|FILE|HASH")]
    pub bundle: Option<String>,
    /// What host calls are answered that were not recorded: an error, the recorded result that fits best, or any success recorded of the function
    #[arg(long, value_name = "error|nearest|stub", default_value = "error", value_parser = unmatched)]
    pub unmatched: Unmatched,
    /// What if recorded call N had answered otherwise, N=error:CASE or N=result:JSON; may be given several times
    #[arg(long = "override", value_name = "N=...", value_parser = wished)]
    pub overrides: Vec<(u32, Override)>,
    /// Stops before each host call and asks: n(ext), c(ontinue), p(rint), o(verride), q(uit)
    #[arg(long, conflicts_with = "corpus")]
    pub step: bool,
    /// All recorded runs that match, in parallel
    #[arg(long)]
    pub corpus: bool,
    /// With --corpus and --bundle: counts what both bundles compute, in fuel; takes about three times as long
    #[arg(long, requires_all = ["corpus", "bundle"])]
    pub fuel: bool,
    /// With --corpus: at most so many runs, the newest
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// With --corpus: a report for a CI server
    #[arg(long, value_name = "FILE", requires = "corpus")]
    pub junit: Option<PathBuf>,
    /// With --corpus: replays at once; unset: one for each core
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    #[command(flatten)]
    /// With --corpus.
    pub filter: FilterArgs,
    #[command(flatten)]
    /// Whose.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

fn unmatched(text: &str) -> Result<Unmatched, String> {
    match text {
        "error" => Ok(Unmatched::Error),
        "nearest" => Ok(Unmatched::Nearest),
        "stub" => Ok(Unmatched::Stub),
        _ => Err("expected error, nearest or stub".to_owned()),
    }
}

fn wished(text: &str) -> Result<(u32, Override), String> {
    parse_override(text).map_err(|error| error.to_string())
}

/// Overrides by call.
fn by_call(given: &[(u32, Override)]) -> Result<BTreeMap<u32, Override>, Failure> {
    let mut overrides = BTreeMap::new();
    for (number, wished) in given {
        if overrides.insert(*number, wished.clone()).is_some() {
            return Err(Failure::usage(format!("--override names call {number} twice")));
        }
    }
    Ok(overrides)
}

/// Where the run is.
pub(super) enum Source {
    /// In the fleet.
    Fleet(ExecutionId),
    /// Here.
    File(PathBuf),
}

/// An id, unless a file is called so.
pub(super) fn source(text: &str) -> Source {
    match text.parse::<ExecutionId>() {
        Ok(execution) if text.len() == 32 && !Path::new(text).exists() => Source::Fleet(execution),
        _ => Source::File(text.into()),
    }
}

/// Why there is no report.
pub(super) fn failed(error: &ReplayError) -> Failure {
    let exit = ReplayExit::of(error.exit_code());
    let code = if exit == ReplayExit::Unusable { "trace_unusable" } else { "replay_failed" };
    Failure::new(Exit::Failed, code, error.to_string()).replay(exit)
}

/// The replayer of this machine.
pub(super) fn replayer(vault: &Vault, jobs: Option<u16>) -> Result<Replayer, Failure> {
    let mut config = ReplayerConfig::new(vault.compiled());
    if let Some(jobs) = jobs {
        config.jobs = usize::from(jobs);
    }
    Replayer::new(config).map_err(|error| failed(&error))
}

/// Runs what computes on all cores.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new(Exit::Failed, "failed", format!("no runtime: {error}")))?;
    let result = runtime.block_on(work);
    // A blocking task that never ends must not keep the process.
    runtime.shutdown_background();
    result
}

/// Runs `longshore replay`.
///
/// # Errors
/// There is no report; each says by its code whose doing that is.
pub fn run(args: &ReplayArgs, output: &Output) -> Result<ExitCode, Failure> {
    let work = async {
        let vault = Arc::new(Vault::open()?);
        if args.corpus { corpus::run(args, &vault, output).await } else { one(args, &vault, output).await }
    };
    block_on(work).map_err(fetch::as_replay)
}

async fn one(args: &ReplayArgs, vault: &Vault, output: &Output) -> Result<ExitCode, Failure> {
    only_of_corpus(args)?;
    let overrides = by_call(&args.overrides)?;
    // Before anything is fetched: a folder that does not build is known at once.
    let local = args.bundle.as_deref().map(|named| local_bundle(named, output)).transpose()?;
    let mut fleet = None;
    let recorded = match source(args.run.as_deref().unwrap_or_default()) {
        Source::File(path) => {
            let (exported, trace) = fetch::file(&path)?;
            fetch::recorded(exported, trace)?
        }
        Source::Fleet(execution) => {
            let client = AdminClient::new(&args.fleet)?;
            let tenant = client.place().tenant(&args.tenant)?;
            let (exported, trace) =
                fetch::run(&client, Some(vault), &tenant, execution, args.attempt).await?;
            fleet = Some((client, tenant));
            fetch::recorded(exported, trace)?
        }
    };
    let bundle = match local {
        None => Candidate::Same,
        Some(Local::Archive(archive)) => Candidate::Archive(archive),
        Some(Local::Hash(hash)) if hash == recorded.trace.header().run.context.content_hash => {
            Candidate::Same
        }
        Some(Local::Hash(hash)) => {
            let fleet = fleet.as_ref().map(|(client, tenant)| (client, tenant));
            Candidate::Archive(corpus::bundle_of(hash, vault, fleet).await?)
        }
    };
    // What another bundle computes is of interest; for the same it is the same.
    let fuel = matches!(bundle, Candidate::Archive(_)) && !args.step;
    let mut options = Options { bundle, unmatched: args.unmatched, overrides, stepper: None, fuel };
    if args.step {
        let input = std::io::BufReader::new(std::io::stdin());
        options.stepper = Some(Arc::new(Prompt::new(input, std::io::stderr())));
    }
    let report = replay(&replayer(vault, Some(1))?, &recorded, &options).await?;
    let color = output.is_terminal() && !no_color();
    output.result(&report, || report.text(color));
    Ok(ReplayExit::of(report.exit_code()).into())
}

async fn replay(
    replayer: &Replayer,
    recorded: &Recorded,
    options: &Options,
) -> Result<longshore_replay::Report, Failure> {
    let report = replayer.replay(recorded, options).await.map_err(|error| failed(&error));
    // A compiled component that is half written is of no use to the next command.
    replayer.idle().await;
    report
}

/// Whether the user wants no colours.
pub(super) fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// What only chooses among many runs must not be lost in silence.
fn only_of_corpus(args: &ReplayArgs) -> Result<(), Failure> {
    let filter = &args.filter;
    let given = [
        ("--extension", filter.extension.is_some()),
        ("--since", filter.since.is_some()),
        ("--until", filter.until.is_some()),
        ("--request", filter.request.is_some()),
        ("--outcome", filter.outcome.is_some()),
        ("--failed", filter.failed),
        ("--content-hash", filter.content_hash.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((name, _)) => {
            Err(Failure::usage(format!("{name} chooses runs of a corpus: give --corpus, too")))
        }
        None => Ok(()),
    }
}

/// A bundle that was named.
pub(super) enum Local {
    /// It is here.
    Archive(Bytes),
    /// It has this hash.
    Hash(ContentHash),
}

/// A folder is packed, a file read; what is neither is a hash.
pub(super) fn local_bundle(named: &str, output: &Output) -> Result<Local, Failure> {
    let path = Path::new(named);
    if path.is_dir() {
        let packed =
            pack::project(path, LEVEL, output).map_err(|failure| failure.replay(ReplayExit::ToolFailed))?;
        return Ok(Local::Archive(Bytes::from(packed.archive)));
    }
    if !path.exists()
        && let Ok(hash) = named.parse()
    {
        return Ok(Local::Hash(hash));
    }
    // The candidate is no trace: whatever is wrong with it is no doing of the trace's.
    let archive = files::read(path, &ArchiveLimits::default());
    archive
        .map(|archive| Local::Archive(archive.into()))
        .map_err(|failure| failure.replay(ReplayExit::ToolFailed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_fetched_and_everything_else_is_a_file() {
        assert!(matches!(source(&"0af".repeat(11)[..32]), Source::Fleet(_)));
        for file in ["run.lstrace", "./x", "", "0af", &"0".repeat(33)] {
            assert!(matches!(source(file), Source::File(_)), "{file}");
        }
    }

    #[test]
    fn one_call_has_one_answer() {
        let error = |case: &str| Override::Error(case.to_owned());
        assert_eq!(by_call(&[(1, error("a")), (2, error("b"))]).unwrap().len(), 2);
        assert_eq!(by_call(&[(1, error("a")), (1, error("b"))]).unwrap_err().exit, Exit::Usage);
        assert!(wished("3=error:timeout").is_ok());
        assert!(wished("timeout").unwrap_err().contains("N=error:CASE"));
        assert!(unmatched("guess").is_err());
    }

    #[test]
    fn a_candidate_is_a_folder_a_file_or_a_hash() {
        let output = Output::new(true);
        assert!(matches!(local_bundle(&"ab".repeat(32), &output), Ok(Local::Hash(_))));
        let Err(failure) = local_bundle("/no/such/bundle", &output) else { panic!("a bundle") };
        assert_eq!(failure.number(), 3);
        let empty = tempfile::tempdir().unwrap();
        let Err(failure) = local_bundle(empty.path().to_str().unwrap(), &output) else { panic!("a bundle") };
        assert_eq!(failure.number(), 3);
    }
}
