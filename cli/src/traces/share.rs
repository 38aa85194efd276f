//! `longshore export` and `import`: a recorded run as one file, and back.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bytes::Bytes;
use longshore_proto::ExecutionId;
use serde_json::{Value, json};

use super::fetch;
use super::values::show_time;
use crate::exit::{Exit, Failure};
use crate::fleet::client::Route;
use crate::fleet::{AdminClient, FleetArgs, TenantArgs, block_on};
use crate::output::{Output, bytes, printable};

/// Arguments of `longshore export`.
#[derive(clap::Args, Clone, Debug)]
pub struct ExportArgs {
    /// The run
    #[arg(value_name = "ID")]
    pub execution: ExecutionId,
    /// Where to; a file that is there is replaced
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Which attempt of the run; unset: the last
    #[arg(long, value_name = "NUMBER")]
    pub attempt: Option<u32>,
    #[command(flatten)]
    /// Whose.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Arguments of `longshore import`.
#[derive(clap::Args, Clone, Debug)]
pub struct ImportArgs {
    /// A file of `longshore export`
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Runs `longshore export`.
///
/// # Errors
/// The run is gone or damaged, the file cannot be written, or those of the admin API.
pub fn export(args: &ExportArgs, output: &Output) -> Result<ExitCode, Failure> {
    block_on(async {
        let client = AdminClient::new(&args.fleet)?;
        let tenant = client.place().tenant(&args.tenant)?;
        let (exported, trace) =
            fetch::run(&client, None, &tenant, args.execution, args.attempt).await.map_err(without_replay)?;
        let folder = args.output.parent().filter(|folder| !folder.as_os_str().is_empty());
        let cannot = || format!("{} cannot be written", args.output.display());
        // Whole or not at all, and readable by its owner alone: it has what callers sent.
        let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or_else(|| std::path::Path::new(".")))
            .with_context(cannot)?;
        longshore_trace::file::write(&exported, &mut file).with_context(cannot)?;
        let size = file.as_file().metadata().map(|about| about.len()).unwrap_or_default();
        file.persist(&args.output).with_context(cannot)?;
        let header = trace.header();
        let document = json!({
            "execution": header.execution.to_string(),
            "attempt": header.attempt,
            "file": args.output.display().to_string(),
            "bytes": size,
            "payloads": exported.payloads.len(),
        });
        output.result(&document, || {
            format!(
                "{}: {} of {}, {}; secrets in it are tokens, everything else is what was sent",
                printable(args.output.display().to_string()),
                header.execution,
                show_time(header.started_at_ms),
                bytes(size)
            )
        });
        Ok(Exit::Ok.into())
    })
}

/// Runs `longshore import`.
///
/// # Errors
/// The file cannot be used, or those of the admin API.
pub fn import(args: &ImportArgs, output: &Output) -> Result<ExitCode, Failure> {
    // What is damaged is told here, with the reason, before anything is sent.
    let (exported, trace) = fetch::file(&args.file).map_err(without_replay)?;
    let mut file = Vec::new();
    longshore_trace::file::write(&exported, &mut file).context("the file cannot be put together")?;
    block_on(async {
        let client = AdminClient::new(&args.fleet)?;
        // The run's own tenant: a trace names whose it is, and is nobody else's.
        let route = Route::of_tenant(trace.tenant(), ["traces"]);
        let answer: Value = client.put(route, "application/octet-stream", Bytes::from(file)).await?;
        output.result(&answer, || format!("imported {} of tenant {}", trace.execution(), trace.tenant()));
        Ok(Exit::Ok.into())
    })
}

/// These commands compare nothing, and end as all others do.
fn without_replay(mut failure: Failure) -> Failure {
    failure.replay = None;
    failure
}
