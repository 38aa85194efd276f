//! The `longshore` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
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

fn main() -> ExitCode {
    let result = match Cli::parse().command {
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
