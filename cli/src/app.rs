//! The command line: which commands there are, and what runs them.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::{child, config_docs, dev};

/// Runs tenants' WebAssembly extensions: development, bundles, installs, calls and their traces.
#[derive(Parser)]
#[command(name = "longshore", version, arg_required_else_help = true)]
pub struct Cli {
    /// Print one JSON document instead of text; a failure is one too
    #[arg(long, global = true)]
    json: bool,
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

impl Cli {
    /// The command line of this process; ends it where that is no command, as clap does. A variable that is set and empty counts as not set, as in
    /// all our programs.
    pub fn from_command_line() -> Self {
        let command = unset_if_empty(Self::command());
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// Does it.
    pub fn run(self) -> ExitCode {
        let output = Output::new(self.json);
        self.command.run(&output).unwrap_or_else(|failure| {
            output.failure(&failure);
            failure.exit.into()
        })
    }
}

impl Command {
    fn run(self, output: &Output) -> Result<ExitCode, Failure> {
        match self {
            Self::Dev(args) => Ok(dev::run(&args)?),
            Self::ConfigDocs => {
                output.bytes(config_docs::page().as_bytes());
                Ok(Exit::Ok.into())
            }
            Self::Child(args) => Err(child::become_program(&args).into()),
        }
    }
}

/// The same command, and all below it, without the variables that are set and empty.
fn unset_if_empty(command: clap::Command) -> clap::Command {
    let arg = |arg: clap::Arg| {
        let empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if empty { arg.env(None::<&'static str>) } else { arg }
    };
    command.mut_args(arg).mut_subcommands(unset_if_empty)
}
