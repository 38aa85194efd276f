//! `longshore traces`: which runs have been recorded.

use std::process::ExitCode;

use longshore_proto::trace::Summary;
use longshore_proto::{ContentHash, TenantId};
use serde::{Deserialize, Serialize};

use super::target::{Target, extension_id};
use super::values::{millis, show_micros, show_time};
use crate::exit::{Exit, Failure};
use crate::fleet::client::Route;
use crate::fleet::spans::parse_since;
use crate::fleet::{AdminClient, FleetArgs, TenantArgs, block_on};
use crate::output::{Output, Table, bytes, printable};

/// A page of the service holds so many.
const PAGE: usize = 1_000;
/// Pages that are asked for: a filter that matches nothing walks through everything that a tenant has.
const MAX_PAGES: usize = 10_000;

/// Which recorded runs.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct FilterArgs {
    /// Only of this extension
    #[arg(long, value_name = "EXTENSION")]
    pub extension: Option<String>,
    /// Only those begun since: a time such as 2026-01-31T12:00:00Z, or a span before now such as 7d
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse_since)]
    pub since: Option<String>,
    /// Only those begun until then
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse_since)]
    pub until: Option<String>,
    /// Only that of this request
    #[arg(long, value_name = "ID")]
    pub request: Option<String>,
    /// Only those with this outcome: `ok` or an error's code
    #[arg(long, value_name = "OUTCOME", conflicts_with = "failed")]
    pub outcome: Option<String>,
    /// Only those that have failed
    #[arg(long)]
    pub failed: bool,
    /// Only those of this bundle
    #[arg(long, value_name = "HASH")]
    pub content_hash: Option<ContentHash>,
}

/// Arguments of `longshore traces`.
#[derive(clap::Args, Clone, Debug)]
pub struct TracesArgs {
    #[command(flatten)]
    /// Which.
    pub filter: FilterArgs,
    /// At most so many, the newest
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    #[command(flatten)]
    /// Whose.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// A page of the service.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TracePage {
    /// Newest first.
    pub traces: Vec<Summary>,
    /// Where the next page begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Recorded runs that match, the newest first, at most `limit`.
///
/// # Errors
/// Those of the admin API.
pub async fn newest(
    client: &AdminClient,
    tenant: &TenantId,
    filter: &FilterArgs,
    limit: usize,
) -> Result<Vec<Summary>, Failure> {
    let extension = match &filter.extension {
        Some(named) => {
            let target = Target { tenant: tenant.clone(), extension: named.clone() };
            Some(extension_id(client, &target).await?)
        }
        None => None,
    };
    let route = Route::of_tenant(tenant, ["traces"])
        .with_some("extension", extension)
        .with_some("since_ms", filter.since.as_deref().and_then(millis))
        .with_some("until_ms", filter.until.as_deref().and_then(millis))
        .with_some("request_id", filter.request.as_ref())
        .with_some("outcome", filter.outcome.as_ref())
        .with_some("failed", filter.failed.then_some(true))
        .with_some("content_hash", filter.content_hash);
    let mut found: Vec<Summary> = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let left = limit.saturating_sub(found.len());
        if left == 0 {
            break;
        }
        let route = route.clone().with("limit", left.min(PAGE)).with_some("cursor", cursor.as_ref());
        let page: TracePage = client.get(route).await?;
        found.extend(page.traces);
        match page.next {
            Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
            _ => break,
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// Runs `longshore traces`.
///
/// # Errors
/// Those of the admin API.
pub fn run(args: &TracesArgs, output: &Output) -> Result<ExitCode, Failure> {
    block_on(async {
        let client = AdminClient::new(&args.fleet)?;
        let tenant = client.place().tenant(&args.tenant)?;
        let limit = args.limit as usize;
        let traces = newest(&client, &tenant, &args.filter, limit).await?;
        let full = traces.len() == limit;
        let page = TracePage { traces, next: None };
        output.result(&page, || {
            if page.traces.is_empty() {
                return format!(
                    "no such run of tenant {tenant} has been recorded (`longshore record list` shows what is)"
                );
            }
            table(&page.traces)
        });
        if full {
            output.note(format!("note: these are the newest {limit}; there may be more (--limit, --since)"));
        }
        Ok(Exit::Ok.into())
    })
}

fn table(traces: &[Summary]) -> String {
    let mut table =
        Table::new(["execution", "time", "request", "outcome", "took", "calls", "size", "replay"]);
    for trace in traces {
        let mut execution = trace.execution.to_string();
        if trace.attempt > 1 {
            execution.push_str(&format!(" (attempt {})", trace.attempt));
        }
        let outcome = match trace.status {
            Some(status) => format!("{} {status}", trace.outcome),
            None => trace.outcome.clone(),
        };
        table.row([
            execution,
            show_time(trace.started_at_ms),
            super::values::cut(&printable(&trace.request), 60),
            outcome,
            show_micros(trace.handler_us),
            trace.host_calls.to_string(),
            bytes(trace.bytes),
            match (trace.replayable, trace.secrets_read) {
                (false, _) => "in part",
                (true, true) => "yes, has read secrets",
                (true, false) => "yes",
            }
            .to_owned(),
        ]);
    }
    table.to_string()
}
