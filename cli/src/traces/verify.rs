//! `longshore verify-replay`: which share of the newest recorded runs is had again bit for bit.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use futures::StreamExt as _;
use longshore_admin::api::{InstallList, InstallView};
use longshore_proto::{ContentHash, TenantId};
use longshore_replay::verify::Verified;
use longshore_replay::{Options, ReplayError, Report};

use super::list::{FilterArgs, newest};
use super::replay::{block_on, replayer};
use super::values::{parse_share, show_share};
use super::vault::Vault;
use super::{corpus, fetch};
use crate::exit::{Exit, Failure, ReplayExit};
use crate::fleet::client::Route;
use crate::fleet::{AdminClient, FleetArgs, TenantArgs};
use crate::output::Output;

/// Arguments of `longshore verify-replay`.
#[derive(clap::Args, Clone, Debug)]
pub struct VerifyReplayArgs {
    /// So many runs, the newest of the bundles in force
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub newest: u32,
    /// Below this share the exit code is 1
    #[arg(long, value_name = "SHARE", default_value = "100%", value_parser = parse_share)]
    pub min_share: f64,
    /// Only of this extension
    #[arg(long, value_name = "EXTENSION")]
    pub extension: Option<String>,
    /// Replays at once; unset: one for each core
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    #[command(flatten)]
    /// Whose.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Runs `longshore verify-replay`.
///
/// # Errors
/// Nothing could be verified.
pub fn run(args: &VerifyReplayArgs, output: &Output) -> Result<ExitCode, Failure> {
    block_on(verify(args, output)).map_err(fetch::as_replay)
}

async fn verify(args: &VerifyReplayArgs, output: &Output) -> Result<ExitCode, Failure> {
    let vault = Arc::new(Vault::open()?);
    let client = AdminClient::new(&args.fleet)?;
    let tenant = client.place().tenant(&args.tenant)?;
    let filter = FilterArgs { extension: args.extension.clone(), ..FilterArgs::default() };
    let limit = args.newest as usize;
    let mut cases = match in_force(&client, &tenant).await? {
        None => {
            output
                .note("note: this token may not see what is installed: runs of replaced bundles count, too");
            corpus::of_fleet(&client, &vault, &tenant, &filter, limit).await?
        }
        Some(hashes) => {
            // By bundle, so that runs of replaced ones do not crowd the others out.
            let mut cases = Vec::new();
            for hash in hashes {
                let filter = FilterArgs { content_hash: Some(hash), ..filter.clone() };
                cases.extend(newest(&client, &tenant, &filter, limit).await?);
            }
            cases.sort_by_key(|trace| std::cmp::Reverse(trace.started_at_ms));
            cases.truncate(limit);
            corpus::cases(&client, &vault, &tenant, cases)
        }
    };
    let replayer = replayer(&vault, args.jobs)?;
    let bar = corpus::bar(cases.len(), output);
    let (mut verified, options) = (Verified::default(), Options::default());
    let runs = cases.drain(..).map(|case| async {
        let outcome: Result<Report, ReplayError> = match case.load.await {
            Ok(recorded) => replayer.replay(&recorded, &options).await,
            Err(error) => Err(error),
        };
        (case.name, outcome)
    });
    {
        let runs = futures::stream::iter(runs).buffer_unordered(replayer.jobs());
        let mut runs = std::pin::pin!(runs);
        while let Some((name, outcome)) = runs.next().await {
            verified.add(&name, &outcome);
            bar.inc(1);
            bar.set_message(format!("{} exact", verified.exact));
        }
    }
    bar.finish_and_clear();
    replayer.idle().await;
    output.result(&verified, || verified.text());
    if let Some(share) = verified.share.filter(|share| *share < args.min_share) {
        let least = show_share(args.min_share);
        output.note(format!("the share of bit-exact runs is {}, below {least}", show_share(share)));
    }
    Ok(exit(&verified, args.min_share).into())
}

/// Bundles in force; none where the token may not see them.
async fn in_force(client: &AdminClient, tenant: &TenantId) -> Result<Option<BTreeSet<ContentHash>>, Failure> {
    let route = Route::new(["installs"]).with("tenant", tenant);
    let installs = client.pages(route, |page: InstallList| (page.installs, page.next)).await;
    match installs {
        Ok(installs) => {
            let hash = |install: &InstallView| install.version.content_hash.parse().ok();
            Ok(Some(installs.iter().filter_map(hash).collect()))
        }
        Err(failure) if failure.exit == Exit::NotPermitted => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The same, or below what was asked, or nothing that counts.
fn exit(verified: &Verified, least: f64) -> ReplayExit {
    match verified.share {
        Some(share) if share < least => ReplayExit::Diverged,
        // What could not be replayed would have counted.
        Some(_) if verified.failed > 0 => ReplayExit::ToolFailed,
        Some(_) => ReplayExit::Same,
        None => ReplayExit::ToolFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_decides_and_where_nothing_counts_there_is_none() {
        let verified = |share, failed| Verified { share, failed, ..Verified::default() };
        assert_eq!(exit(&verified(Some(1.0), 0), 1.0), ReplayExit::Same);
        assert_eq!(exit(&verified(Some(0.99), 0), 1.0), ReplayExit::Diverged);
        assert_eq!(exit(&verified(Some(0.99), 0), 0.95), ReplayExit::Same);
        assert_eq!(exit(&verified(Some(1.0), 1), 1.0), ReplayExit::ToolFailed);
        assert_eq!(exit(&verified(None, 0), 0.5), ReplayExit::ToolFailed);
    }
}
