//! `longshore record`: whose runs are recorded, and for how long.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use http::Method;
use longshore_admin::api::{InstallList, InstallView, RecordingRequest, RecordingView};
use serde_json::Value;

use super::target::{Target, words};
use super::values::parse_share;
use crate::exit::{Exit, Failure};
use crate::fleet::client::Route;
use crate::fleet::spans::parse_span;
use crate::fleet::{AdminClient, FleetArgs, TenantArgs, block_on};
use crate::output::{Output, Table, printable};

/// The longest recording: whoever wants more installs with `--capture record`.
const MAX_FOR: Duration = Duration::from_secs(24 * 3_600);

/// What can be done with recordings.
#[derive(Subcommand, Clone, Debug)]
pub enum RecordCommand {
    /// Records an extension's runs for a while, on every worker within a second
    On(OnArgs),
    /// Ends it
    Off(OffArgs),
    /// Lists what is recorded, until when and by whose order
    List(RecordListArgs),
}

/// Arguments of `longshore record on`.
#[derive(clap::Args, Clone, Debug)]
pub struct OnArgs {
    /// Whose runs; the tenant may be left out where it is named otherwise
    #[arg(value_name = "TENANT/EXTENSION")]
    pub target: String,
    /// How long, such as 10m; at most 24h
    #[arg(long = "for", value_name = "SPAN", value_parser = span)]
    pub span: Duration,
    /// Only this share of runs, such as 5%; decided once a run
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub sample: Option<f64>,
    /// Only runs that fail are kept
    #[arg(long)]
    pub errors_only: bool,
    #[command(flatten)]
    /// Whose.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Arguments of `longshore record off`.
#[derive(clap::Args, Clone, Debug)]
pub struct OffArgs {
    /// Whose runs; the tenant may be left out where it is named otherwise
    #[arg(value_name = "TENANT/EXTENSION")]
    pub target: String,
    #[command(flatten)]
    /// Whose.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Arguments of `longshore record list`.
#[derive(clap::Args, Clone, Debug)]
pub struct RecordListArgs {
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

fn span(text: &str) -> Result<Duration, String> {
    let span = parse_span(text)?;
    if span <= MAX_FOR {
        return Ok(span);
    }
    Err(format!("{text:?} is over 24h: what is always to be recorded is installed with --capture record"))
}

/// Runs `longshore record`.
///
/// # Errors
/// Those of the admin API.
pub fn run(command: &RecordCommand, output: &Output) -> Result<ExitCode, Failure> {
    block_on(async {
        match command {
            RecordCommand::On(args) => on(args, output).await,
            RecordCommand::Off(args) => off(args, output).await,
            RecordCommand::List(args) => list(args, output).await,
        }
    })
}

async fn on(args: &OnArgs, output: &Output) -> Result<ExitCode, Failure> {
    let client = AdminClient::new(&args.fleet)?;
    let target = Target::of(&args.target, &client, &args.tenant)?;
    let request = RecordingRequest {
        for_ms: u64::try_from(args.span.as_millis()).unwrap_or(u64::MAX),
        sample: args.sample,
        errors_only: args.errors_only,
    };
    let route = Route::of_tenant(&target.tenant, ["installs", &target.extension, "recording"]);
    let answer: Value = client.send(Method::PUT, route, &request, Duration::ZERO).await?;
    output.result(&answer, || {
        let recording = recording(&answer).map_or_else(String::new, |words| format!(" {words}"));
        format!(
            "runs of {} of tenant {} are recorded{recording}",
            printable(&target.extension),
            target.tenant
        )
    });
    Ok(Exit::Ok.into())
}

/// The words of a recording in an answer, which is an install, or the change of one, or the recording itself.
fn recording(answer: &Value) -> Option<String> {
    let found = answer.get("install").unwrap_or(answer);
    let found = found.get("recording").unwrap_or(found);
    serde_json::from_value::<RecordingView>(found.clone()).ok().map(|recording| words(&recording))
}

async fn off(args: &OffArgs, output: &Output) -> Result<ExitCode, Failure> {
    let client = AdminClient::new(&args.fleet)?;
    let target = Target::of(&args.target, &client, &args.tenant)?;
    let route = Route::of_tenant(&target.tenant, ["installs", &target.extension, "recording"]);
    let answer: Value = client.delete(route).await?;
    output.result(&answer, || {
        format!("runs of {} of tenant {} are not recorded", printable(&target.extension), target.tenant)
    });
    Ok(Exit::Ok.into())
}

async fn list(args: &RecordListArgs, output: &Output) -> Result<ExitCode, Failure> {
    let client = AdminClient::new(&args.fleet)?;
    let tenant = if args.all_tenants { None } else { Some(client.place().tenant(&args.tenant)?) };
    let route = Route::new(["installs"]).with_some("tenant", tenant.as_ref());
    let all = client.pages(route, |page: InstallList| (page.installs, page.next)).await?;
    let recorded = |install: &InstallView| install.recording.is_some() || install.capture == "record";
    let installs: Vec<InstallView> = all.into_iter().filter(recorded).collect();
    let page = InstallList { installs, next: None };
    output.result(&page, || table(&page.installs));
    Ok(Exit::Ok.into())
}

fn table(installs: &[InstallView]) -> String {
    if installs.is_empty() {
        return "nothing is recorded".to_owned();
    }
    let mut table = Table::new(["tenant", "name", "extension", "recorded", "by"]);
    for install in installs {
        let recording = install.recording.as_ref();
        table.row([
            install.tenant.clone(),
            install.name.clone(),
            install.extension.clone(),
            recording.map_or_else(|| "always".to_owned(), words),
            recording.map(|recording| recording.by.clone()).unwrap_or_default(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_recording_is_at_most_a_day() {
        assert_eq!(span("24h").unwrap(), MAX_FOR);
        assert!(span("25h").unwrap_err().contains("--capture record"));
        assert!(span("soon").is_err());
    }

    #[test]
    fn the_end_of_a_recording_is_found_in_whatever_the_service_answers() {
        let recording =
            json!({ "until": "2026-01-31T12:00:00Z", "sample": 1.0, "errors_only": false, "by": "x" });
        for answer in [
            recording.clone(),
            json!({ "recording": recording }),
            json!({ "install": { "recording": recording } }),
        ] {
            assert_eq!(super::recording(&answer).as_deref(), Some("until 2026-01-31T12:00:00Z"), "{answer}");
        }
        assert_eq!(super::recording(&json!({})), None);
    }
}
