//! `longshore token`: what callers of the gateway show.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use http::Method;
use longshore_access::Access;
use longshore_admin::api::{TokenCreated, TokenList, TokenRequest, TokenRevoked, TokenView};

use super::client::Route;
use super::spans::parse_span;
use super::{AdminClient, FleetArgs, TenantArgs, block_on};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table, printable};

/// What can be done with tokens.
#[derive(Subcommand, Clone, Debug)]
pub enum TokenCommand {
    /// Makes a token and prints it: the only time that it is shown
    Create(CreateArgs),
    /// Lists a tenant's tokens, without their texts
    List(TokenListArgs),
    /// Revokes a token: gateways refuse it within a second
    Revoke(RevokeArgs),
}

/// Arguments of `longshore token create`.
#[derive(clap::Args, Clone, Debug)]
pub struct CreateArgs {
    /// What it allows: `read` (GET, HEAD, OPTIONS) or `write` (every method); unset: write, with --traces read
    #[arg(long, value_name = "read|write", value_parser = access)]
    pub access: Option<Access>,
    /// It reads the tenant's recorded runs and debug events (`longshore tail`, `traces`, `replay`, `export`) through the admin service
    #[arg(long)]
    pub traces: bool,
    /// An extension that it may call, by registry id or name; may be given several times; unset: all of the tenant's
    #[arg(long, value_name = "EXTENSION")]
    pub extension: Vec<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// How long it holds, such as 12h or 30d; at most 366d
    #[arg(long, value_name = "SPAN", default_value = "90d", value_parser = parse_span)]
    pub expires: Duration,
    #[command(flatten)]
    /// Whose.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Arguments of `longshore token list`.
#[derive(clap::Args, Clone, Debug)]
pub struct TokenListArgs {
    #[command(flatten)]
    /// Whose.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

/// Arguments of `longshore token revoke`.
#[derive(clap::Args, Clone, Debug)]
pub struct RevokeArgs {
    /// The token's id, as `list` shows it
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    /// Whose.
    pub tenant: TenantArgs,
    #[command(flatten)]
    /// Where.
    pub fleet: FleetArgs,
}

fn access(text: &str) -> Result<Access, String> {
    match text {
        "read" => Ok(Access::Read),
        "write" => Ok(Access::Write),
        _ => Err("expected read or write".to_owned()),
    }
}

fn access_word(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "write",
    }
}

/// Runs `longshore token`.
///
/// # Errors
/// Those of the admin API.
pub fn run(command: &TokenCommand, output: &Output) -> Result<ExitCode, Failure> {
    block_on(async {
        match command {
            TokenCommand::Create(args) => create(args, output).await,
            TokenCommand::List(args) => list(args, output).await,
            TokenCommand::Revoke(args) => revoke(args, output).await,
        }
    })
}

async fn create(args: &CreateArgs, output: &Output) -> Result<ExitCode, Failure> {
    let client = AdminClient::new(&args.fleet)?;
    let tenant = client.place().tenant(&args.tenant)?;
    let request = request(args);
    let route = Route::of_tenant(&tenant, ["tokens"]);
    let created: TokenCreated = client.send(Method::POST, route, &request, Duration::ZERO).await?;
    if !output.json {
        let token = &created.token;
        // On stderr, so that `TOKEN=$(longshore token create)` is the token and nothing else.
        output.note(format!(
            "token {} for tenant {tenant}: {}, {}, until {}; it is not shown again",
            token.id,
            allows(token),
            extensions(token),
            token.expires_at
        ));
    }
    output.result(&created, || created.secret.clone());
    Ok(Exit::Ok.into())
}

fn request(args: &CreateArgs) -> TokenRequest {
    TokenRequest {
        access: args.access.unwrap_or(if args.traces { Access::Read } else { Access::Write }),
        extensions: (!args.extension.is_empty()).then(|| args.extension.clone()),
        traces: args.traces,
        label: args.label.clone(),
        expires_in_s: Some(args.expires.as_secs()),
    }
}

/// What it allows, in words.
fn allows(token: &TokenView) -> String {
    let more = if token.traces { ", traces" } else { "" };
    format!("{}{more}", access_word(token.access))
}

fn extensions(token: &TokenView) -> String {
    match &token.extensions {
        None => "all extensions".to_owned(),
        Some(some) => printable(some.join(", ")),
    }
}

async fn list(args: &TokenListArgs, output: &Output) -> Result<ExitCode, Failure> {
    let client = AdminClient::new(&args.fleet)?;
    let tenant = client.place().tenant(&args.tenant)?;
    let list: TokenList = client.get(Route::of_tenant(&tenant, ["tokens"])).await?;
    output.result(&list, || {
        let mut table = Table::new(["id", "access", "extensions", "until", "label"]);
        for token in &list.tokens {
            let until =
                if token.expired { format!("{} (over)", token.expires_at) } else { token.expires_at.clone() };
            let label = token.label.clone().unwrap_or_default();
            table.row([token.id.clone(), allows(token), extensions(token), until, label]);
        }
        if table.is_empty() { format!("tenant {tenant} has no tokens") } else { table.to_string() }
    });
    Ok(Exit::Ok.into())
}

async fn revoke(args: &RevokeArgs, output: &Output) -> Result<ExitCode, Failure> {
    let client = AdminClient::new(&args.fleet)?;
    let tenant = client.place().tenant(&args.tenant)?;
    // Somebody who pastes the token itself must not send it as part of an address, which is logged.
    if args.id.starts_with("lst_") {
        return Err(Failure::usage("that is a token, not its id: `longshore token list` shows the ids")
            .hint("a token that was shown to somebody should be revoked: its id is the part between the first two underscores"));
    }
    if args.id.len() != 32 || !args.id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Failure::usage(format!("{:?} is no token's id, which is 32 of 0-9 a-f", args.id))
            .hint("`longshore token list` shows the ids"));
    }
    let gone: TokenRevoked = client.delete(Route::of_tenant(&tenant, ["tokens", &args.id])).await?;
    output.result(&gone, || format!("revoked {} of tenant {tenant}", gone.id));
    Ok(Exit::Ok.into())
}
