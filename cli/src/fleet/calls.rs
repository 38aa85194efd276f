//! `longshore calls`: what waits and runs, and its end.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use http::Method;
use longshore_admin::api::{CallList, CallsCancelled, CancelRequest};
use longshore_proto::{ExecutionId, ExtensionId, TenantId};

use super::client::Route;
use super::spans::show_millis;
use super::{AdminClient, FleetArgs, block_on};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table};

/// What can be done with calls.
#[derive(Subcommand, Clone, Debug)]
pub enum CallsCommand {
    /// Lists calls that have no answer yet, of all tenants unless one is named
    Ls(LsArgs),
    /// Stops calls: waiting ones are refused, running ones stopped
    Cancel(CancelArgs),
}

/// Arguments of `longshore calls ls`.
#[derive(clap::Args, Clone, Debug)]
pub struct LsArgs {
    /// Of this tenant alone
    #[arg(long, value_name = "ID")]
    pub tenant: Option<TenantId>,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Arguments of `longshore calls cancel`.
#[derive(clap::Args, Clone, Debug)]
#[group(required = true, multiple = true, args = ["execution", "tenant", "extension"])]
pub struct CancelArgs {
    /// This call, as `ls` shows it
    #[arg(value_name = "EXECUTION")]
    pub execution: Option<ExecutionId>,
    /// All calls of this tenant. Never taken from the environment: it stops more than one call
    #[arg(long, value_name = "ID")]
    pub tenant: Option<TenantId>,
    /// All calls of this extension, by its registry id
    #[arg(long, value_name = "ID")]
    pub extension: Option<ExtensionId>,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Runs `longshore calls`.
///
/// # Errors
/// Those of the admin API.
pub fn run(command: &CallsCommand, output: &Output) -> Result<ExitCode, Failure> {
    block_on(async {
        match command {
            CallsCommand::Ls(args) => ls(args, output).await,
            CallsCommand::Cancel(args) => cancel(args, output).await,
        }
    })
}

async fn ls(args: &LsArgs, output: &Output) -> Result<ExitCode, Failure> {
    let client = AdminClient::new(&args.fleet)?;
    let list: CallList = client.get(Route::new(["calls"]).with_some("tenant", args.tenant.as_ref())).await?;
    for shim in &list.silent_shims {
        output.note(format!("note: the gateway {shim} has not answered; its calls are not listed"));
    }
    output.result(&list, || {
        let mut table =
            Table::new(["execution", "state", "tenant", "extension", "method", "age", "left", "worker"]);
        for call in &list.calls {
            let worker = call.worker.clone().unwrap_or_default();
            table.row([
                call.execution.clone(),
                call.state.clone(),
                call.tenant.clone(),
                call.extension.clone(),
                call.method.clone(),
                show_millis(call.age_ms),
                show_millis(call.left_ms),
                worker,
            ]);
        }
        let more = if list.more > 0 { format!("and {} more\n", list.more) } else { String::new() };
        if table.is_empty() { "no call waits or runs".to_owned() } else { format!("{table}{more}") }
    });
    Ok(Exit::Ok.into())
}

async fn cancel(args: &CancelArgs, output: &Output) -> Result<ExitCode, Failure> {
    let client = AdminClient::new(&args.fleet)?;
    let request = CancelRequest {
        execution: args.execution,
        tenant: args.tenant.clone(),
        extension: args.extension.clone(),
    };
    let route = Route::new(["calls", "cancel"]);
    let done: CallsCancelled = client.send(Method::POST, route, &request, Duration::ZERO).await?;
    for shim in &done.silent_shims {
        output.note(format!("note: the gateway {shim} has not answered; its calls may go on"));
    }
    output.result(&done, || {
        format!("refused {} waiting calls, stopped {} running ones", done.waiting, done.running)
    });
    Ok(if done.silent_shims.is_empty() { Exit::Ok.into() } else { Exit::Failed.into() })
}
