//! `longshore pools`: workers and gateways that announce themselves.

use std::process::ExitCode;

use longshore_admin::api::{Fleet, WorkerView};

use super::client::Route;
use super::spans::show_millis;
use super::{AdminClient, FleetArgs, block_on};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table};

/// Arguments of `longshore pools`.
#[derive(clap::Args, Clone, Debug)]
pub struct PoolsArgs {
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Runs `longshore pools`.
///
/// # Errors
/// Those of the admin API.
pub fn run(args: &PoolsArgs, output: &Output) -> Result<ExitCode, Failure> {
    block_on(async {
        let client = AdminClient::new(&args.fleet)?;
        let fleet: Fleet = client.get(Route::new(["pools"])).await?;
        output.result(&fleet, || text(&fleet));
        Ok(Exit::Ok.into())
    })
}

fn text(fleet: &Fleet) -> String {
    let mut table = Table::new(["pool", "worker", "version", "slots", "free", "state", "heard"]);
    for pool in &fleet.pools {
        for worker in &pool.workers {
            table.row([
                pool.name.clone(),
                worker.name.clone(),
                worker.version.clone().unwrap_or_default(),
                worker.slots.to_string(),
                worker.free.to_string(),
                state(worker).to_owned(),
                format!("{} ago", show_millis(worker.age_ms)),
            ]);
        }
    }
    let workers = if table.is_empty() { "no worker is heard\n".to_owned() } else { table.to_string() };
    format!("{workers}{} gateways, listening for {}", fleet.shims.len(), show_millis(fleet.listening_ms))
}

fn state(worker: &WorkerView) -> &'static str {
    match (worker.leaving, worker.unwell) {
        (true, _) => "leaving",
        (false, true) => "unwell",
        (false, false) => "well",
    }
}
