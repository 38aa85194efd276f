//! The `longshore` command.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use longshore_cli::{child, config_docs, dev};

/// Runs tenants' WebAssembly extensions: development, bundles, installs, calls and their traces.
#[derive(Parser)]
#[command(name = "longshore", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts NATS, Redis, a bundle store, workers and the shim on this machine, calls the examples, stays up until Ctrl-C
    Dev(dev::DevArgs),
    /// Prints docs/configuration.md from the structs that read the settings
    ConfigDocs,
    /// Runs a program that ends when its parent ends; `dev` starts everything through it
    #[command(hide = true)]
    Child(child::ChildArgs),
}

/// The command line. A variable that is set and empty counts as not set, as in all our programs.
fn command_line() -> Cli {
    let unset_if_empty = |arg: clap::Arg| {
        let empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if empty { arg.env(None::<&'static str>) } else { arg }
    };
    let command = Cli::command().mut_subcommand("dev", |dev| dev.mut_args(unset_if_empty));
    Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
}

fn main() -> ExitCode {
    let result = match command_line().command {
        Command::Dev(args) => dev::run(&args),
        Command::ConfigDocs => config_docs::print().map(|()| ExitCode::SUCCESS),
        Command::Child(args) => Err(child::become_program(&args)),
    };
    result.unwrap_or_else(|error| {
        // A closed pipe is no reason to panic, so no `eprintln!`.
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("longshore: {error:#}\n"));
        ExitCode::FAILURE
    })
}
