//! `longshore tenant purge`, `gc` and `audit`.

use std::process::ExitCode;

use clap::Subcommand;
use longshore_admin::api::{AuditList, GcRequest, GcResponse, PurgeRequest, PurgeResponse};
use longshore_proto::TenantId;

use super::client::Route;
use super::installs::removed;
use super::spans::parse_since;
use super::{AdminClient, FleetArgs, block_on};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table, printable};
use crate::traces::vault::Vault;

/// What can be done with tenants.
#[derive(Subcommand, Clone, Debug)]
pub enum TenantCommand {
    /// Removes everything of a tenant: installs, secrets, tokens, schedules, storage, bundles, traces
    Purge(PurgeArgs),
}

/// Arguments of `longshore tenant purge`.
#[derive(clap::Args, Clone, Debug)]
pub struct PurgeArgs {
    /// The tenant. Never taken from the environment: nothing of it is left afterwards
    #[arg(value_name = "TENANT")]
    pub tenant: TenantId,
    /// The tenant's id once more
    #[arg(long, value_name = "TENANT")]
    pub confirm: String,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Arguments of `longshore gc`.
#[derive(clap::Args, Clone, Debug)]
pub struct GcArgs {
    /// Only says what would be removed
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Arguments of `longshore audit`.
#[derive(clap::Args, Clone, Debug)]
pub struct AuditArgs {
    /// From when on: a time such as 2026-01-31T12:00:00Z, or a span before now such as 12h
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse_since)]
    pub since: Option<String>,
    /// Only events of this kind, such as install.created
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Only events of this tenant
    #[arg(long, value_name = "ID")]
    pub tenant: Option<TenantId>,
    /// At most so many, the newest
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Runs `longshore tenant`.
///
/// # Errors
/// The confirmation is another tenant; those of the admin API.
pub fn tenant(command: &TenantCommand, output: &Output) -> Result<ExitCode, Failure> {
    let TenantCommand::Purge(args) = command;
    if args.confirm != args.tenant.as_str() {
        return Err(Failure::usage(format!(
            "--confirm {} is not {}: nothing was removed",
            printable(&args.confirm),
            args.tenant
        )));
    }
    block_on(async {
        let client = AdminClient::new(&args.fleet)?;
        let request = PurgeRequest { confirm: args.confirm.clone() };
        let purged: PurgeResponse = client.work(Route::of_tenant(&args.tenant, ["purge"]), &request).await?;
        // What `longshore replay` keeps of it on this machine goes, too; on others it goes after 7 days.
        let kept = Vault::forget(&args.tenant);
        Ok(report(purged, kept, output).into())
    })
}

/// Says what was removed, and after it what this machine could not remove: the fleet's part is done, whatever became of the copies here.
fn report(mut purged: PurgeResponse, kept: std::io::Result<()>, output: &Output) -> Exit {
    let text = told(&purged);
    if let Err(error) = &kept {
        purged.left.push(format!("copies of its runs on this machine: {error}"));
    }
    output.result(&purged, || text);
    if let Err(error) = &kept {
        output.note(format!(
            "warning: what `longshore replay` has kept of it on this machine is left: remove it by hand: {error}"
        ));
    }
    if purged.left.is_empty() { Exit::Ok } else { Exit::Failed }
}

/// What the fleet has removed, and what it could not.
fn told(purged: &PurgeResponse) -> String {
    let mut lines = vec![format!("tenant {}: {}", purged.tenant, removed(&purged.removed))];
    lines.extend(purged.left.iter().map(|left| format!("  left: {}", printable(left))));
    if !purged.left.is_empty() {
        lines.push("purge again to remove what is left".to_owned());
    }
    lines.join("\n")
}

/// Runs `longshore gc`.
///
/// # Errors
/// Those of the admin API.
pub fn gc(args: &GcArgs, output: &Output) -> Result<ExitCode, Failure> {
    block_on(async {
        let client = AdminClient::new(&args.fleet)?;
        let done: GcResponse = client.work(Route::new(["gc"]), &GcRequest { dry_run: args.dry_run }).await?;
        output.result(&done, || {
            let mut lines: Vec<String> = done.keys.iter().map(printable).collect();
            if done.more > 0 {
                lines.push(format!("and {} more", done.more));
            }
            let word = if done.dry_run { "dry run: would have " } else { "" };
            lines.push(format!("looked at {} objects; {word}{}", done.seen, removed(&done.removed)));
            lines.extend(done.left.iter().map(|left| format!("left: {}", printable(left))));
            lines.join("\n")
        });
        Ok(if done.left.is_empty() { Exit::Ok.into() } else { Exit::Failed.into() })
    })
}

/// The longest text of an event's details; `--json` has all of it.
const MAX_DETAILS: usize = 120;

/// An event's details on a line.
fn what(details: &serde_json::Value) -> String {
    // The state afterwards says what is meant to be; the one before is in the document.
    let after = details.get("after").filter(|after| !after.is_null()).unwrap_or(details);
    let text = if after.is_null() { String::new() } else { after.to_string() };
    match text.char_indices().nth(MAX_DETAILS) {
        Some((at, _)) => format!("{} ...", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

/// Runs `longshore audit`.
///
/// # Errors
/// Those of the admin API.
pub fn audit(args: &AuditArgs, output: &Output) -> Result<ExitCode, Failure> {
    block_on(async {
        let client = AdminClient::new(&args.fleet)?;
        let route = Route::new(["audit"])
            .with("limit", args.limit)
            .with_some("since", args.since.as_ref())
            .with_some("kind", args.kind.as_ref())
            .with_some("tenant", args.tenant.as_ref());
        let list: AuditList = client.get(route).await?;
        output.result(&list, || {
            let mut table = Table::new(["time", "kind", "tenant", "extension", "who", "what"]);
            for event in &list.events {
                table.row([
                    event.time.clone(),
                    event.kind.clone(),
                    event.tenant.clone().unwrap_or_default(),
                    event.extension.clone().unwrap_or_default(),
                    event.actor.clone(),
                    what(&event.details),
                ]);
            }
            if table.is_empty() { "no such event".to_owned() } else { table.to_string() }
        });
        Ok(Exit::Ok.into())
    })
}

#[cfg(test)]
mod tests {
    use longshore_admin::api::Removed;

    use super::*;

    #[test]
    fn a_purge_is_reported_whatever_became_of_the_copies_here() {
        let purged =
            || PurgeResponse { tenant: "t-1".to_owned(), removed: Removed::default(), left: Vec::new() };
        let denied = || Err(std::io::Error::other("/home/a/traces/b: permission denied"));
        for output in [Output::new(false), Output::new(true)] {
            assert_eq!(report(purged(), Ok(()), &output), Exit::Ok);
            assert_eq!(report(purged(), denied(), &output), Exit::Failed);
        }
        let text = told(&PurgeResponse { left: vec!["a: b".to_owned()], ..purged() });
        assert!(text.starts_with("tenant t-1: ") && text.contains("  left: a: b"), "{text}");
    }
}
