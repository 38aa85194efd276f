//! The command line: which commands there are, and what runs them.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::author;
use crate::exit::{Exit, Failure, ReplayExit};
use crate::fleet::{call, calls, install, installs, maintenance, pools, tokens};
use crate::output::Output;
use crate::{child, cli_docs, config_docs, dev, doctor, signing, traces};

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
    /// Starts NATS, Redis, a bundle store, workers, the shim and the admin service on this machine, installs and calls the examples, stays up until
    /// Ctrl-C; with --watch also rebuilds and reinstalls projects on each save
    Dev(dev::DevArgs),
    /// Makes a new extension's project
    New(author::new::NewArgs),
    /// Builds a project with its own command, and checks its component
    Build(author::build::BuildArgs),
    /// Packs a project into a bundle: the same files give the same bytes
    Pack(author::pack::PackArgs),
    /// Installs a project's folder, a bundle, or what was uploaded by hand
    Install(install::InstallArgs),
    /// Removes an install with its schedules, secrets, grants and access
    Uninstall(installs::UninstallArgs),
    /// Puts the version before in force again
    Rollback(installs::ReferenceArgs),
    /// Lets an install be called again
    Enable(installs::ReferenceArgs),
    /// Keeps an install and lets nobody call it: waiting calls are refused, running ones stopped
    Disable(installs::ReferenceArgs),
    /// Lists installs
    List(installs::ListArgs),
    /// Shows an install, or the files of a bundle
    Show(installs::ShowArgs),
    /// Calls an extension through the gateway, or a project's handler in this process
    Call(call::CallArgs),
    /// Tokens with which callers come to the gateway
    #[command(subcommand)]
    Token(tokens::TokenCommand),
    /// Calls that wait and run
    #[command(subcommand)]
    Calls(calls::CallsCommand),
    /// Whose runs are recorded, and for how long
    #[command(subcommand)]
    Record(traces::record::RecordCommand),
    /// Shows what runs do, live and historic: one run a block with its host calls, timings and output
    Tail(traces::tail::TailArgs),
    /// Lists recorded runs
    Traces(traces::list::TracesArgs),
    /// Runs a recorded run again, in this process and offline, and says what differs; with --corpus many of them
    Replay(traces::replay::ReplayArgs),
    /// Replays the newest recorded runs of the bundles in force, and prints the share that is bit-exact
    VerifyReplay(traces::verify::VerifyReplayArgs),
    /// Writes a recorded run with its payloads and its bundle into one file
    Export(traces::share::ExportArgs),
    /// Puts a run back that was exported
    Import(traces::share::ImportArgs),
    /// Workers and gateways
    Pools(pools::PoolsArgs),
    /// Tenants as a whole
    #[command(subcommand)]
    Tenant(maintenance::TenantCommand),
    /// Removes bundles, artifacts and recordings that nobody can use any more
    Gc(maintenance::GcArgs),
    /// Shows who changed what: installs, grants, tokens, rollbacks
    Audit(maintenance::AuditArgs),
    /// Looks at everything that a call needs, and says what is wrong and what to do
    Doctor(doctor::DoctorArgs),
    /// Makes a key pair for signatures of bundles
    Keygen(signing::KeygenArgs),
    /// Signs a bundle
    Sign(signing::SignArgs),
    /// Says whether a bundle's signature counts
    Verify(signing::VerifyArgs),
    /// Prints the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Prints the exit codes of all commands
    ExitCodes,
    /// Prints docs/configuration.md from the structs that read the settings
    ConfigDocs,
    /// Prints docs/cli.md from the commands
    #[command(hide = true)]
    CliDocs,
    /// Runs a program that ends when its parent ends; `dev` starts everything through it
    #[command(hide = true)]
    Child(child::ChildArgs),
}

impl Cli {
    /// The command line of this process; ends it where that is no command, as clap does. A variable that is set and empty counts as not set, as in
    /// all our programs.
    pub fn from_command_line() -> Self {
        let command = unset_if_empty(definition());
        let matches = command.try_get_matches().unwrap_or_else(|error| {
            let word = std::env::args().skip(1).find(|word| !word.starts_with('-'));
            if error.use_stderr() && word.is_some_and(|word| COMPARE.contains(&word.as_str())) {
                // clap's own code would say that the trace is unusable.
                let _ = error.print();
                std::process::exit(ReplayExit::ToolFailed.number().into());
            }
            error.exit()
        });
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Does it.
    pub fn run(self) -> ExitCode {
        let output = Output::new(self.json);
        self.command.run(&output).unwrap_or_else(|failure| {
            output.failure(&failure);
            failure.number().into()
        })
    }
}

/// Commands with exit codes of their own.
const COMPARE: [&str; 2] = ["replay", "verify-replay"];

/// All commands.
pub fn definition() -> clap::Command {
    let codes = cli_docs::exit_codes();
    Cli::command().mut_subcommand("exit-codes", |command| command.after_long_help(codes))
}

impl Command {
    fn run(self, output: &Output) -> Result<ExitCode, Failure> {
        match self {
            Self::Dev(args) => Ok(dev::run(&args)?),
            Self::New(args) => author::new::run(&args, output),
            Self::Build(args) => author::build::run(&args, output),
            Self::Pack(args) => author::pack::run(&args, output),
            Self::Install(args) => install::run(&args, output),
            Self::Uninstall(args) => installs::uninstall(&args, output),
            Self::Rollback(args) => installs::rollback(&args, output),
            Self::Enable(args) => installs::set_enabled(&args, true, output),
            Self::Disable(args) => installs::set_enabled(&args, false, output),
            Self::List(args) => installs::list(&args, output),
            Self::Show(args) => installs::show(&args, output),
            Self::Call(args) => call::run(&args, output),
            Self::Token(command) => tokens::run(&command, output),
            Self::Calls(command) => calls::run(&command, output),
            Self::Record(command) => traces::record::run(&command, output),
            Self::Tail(args) => traces::tail::run(&args, output),
            Self::Traces(args) => traces::list::run(&args, output),
            Self::Replay(args) => traces::replay::run(&args, output),
            Self::VerifyReplay(args) => traces::verify::run(&args, output),
            Self::Export(args) => traces::share::export(&args, output),
            Self::Import(args) => traces::share::import(&args, output),
            Self::Pools(args) => pools::run(&args, output),
            Self::Tenant(command) => maintenance::tenant(&command, output),
            Self::Gc(args) => maintenance::gc(&args, output),
            Self::Audit(args) => maintenance::audit(&args, output),
            Self::Doctor(args) => doctor::run(&args, output),
            Self::Keygen(args) => signing::keygen(&args, output),
            Self::Sign(args) => signing::sign(&args, output),
            Self::Verify(args) => signing::verify(&args, output),
            Self::Completions { shell } => Ok(completions(shell, output)),
            Self::ExitCodes => Ok(cli_docs::print_exit_codes(output)),
            Self::ConfigDocs => Ok(print(output, &config_docs::page())),
            Self::CliDocs => Ok(print(output, &cli_docs::page())),
            Self::Child(args) => Err(child::become_program(&args).into()),
        }
    }
}

fn print(output: &Output, page: &str) -> ExitCode {
    output.bytes(page.as_bytes());
    Exit::Ok.into()
}

fn completions(shell: clap_complete::Shell, output: &Output) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition(), "longshore", &mut script);
    output.bytes(&script);
    Exit::Ok.into()
}

/// The same command, and all below it, without the variables that are set and empty.
fn unset_if_empty(command: clap::Command) -> clap::Command {
    let arg = |arg: clap::Arg| {
        let empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if empty { arg.env(None::<&'static str>) } else { arg }
    };
    command.mut_args(arg).mut_subcommands(unset_if_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn every_command_takes_json_and_says_what_it_does() {
        fn look(command: &clap::Command, path: &str) {
            for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
                let path = format!("{path} {}", below.get_name());
                assert!(below.get_about().is_some(), "{path} has no description");
                for arg in below.get_arguments() {
                    assert!(arg.get_help().is_some(), "{path}: {} has no description", arg.get_id());
                }
                look(below, &path);
            }
        }
        let definition = definition();
        look(&definition, "longshore");
        for line in [
            &["longshore", "list", "--json"][..],
            &["longshore", "--json", "token", "list"],
            &["longshore", "pools", "--json"],
            &["longshore", "tail", "--json", "--no-follow"],
            &["longshore", "verify-replay", "--newest", "6", "--min-share", "100%"],
        ] {
            assert!(definition.clone().try_get_matches_from(line).is_ok(), "{line:?}");
        }
    }

    #[test]
    fn no_option_takes_a_secret_from_the_command_line_or_shows_one() {
        let secret = ["LONGSHORE_ADMIN_TOKEN", "LONGSHORE_TOKEN", "RUNNER_SERVICE_TOKEN", "NATS_PASSWORD"];
        fn look(command: &clap::Command, secret: &[&str]) {
            for arg in command.get_arguments() {
                let env = arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                assert!(!secret.contains(&env.as_str()), "{}: --help would show {env}", command.get_name());
            }
            command.get_subcommands().for_each(|below| look(below, secret));
        }
        look(&definition(), &secret);
    }

    #[test]
    fn a_purge_needs_its_confirmation_and_a_cancel_its_filter() {
        let parse = |line: &[&str]| definition().try_get_matches_from([&["longshore"], line].concat());
        assert!(parse(&["tenant", "purge", "t"]).is_err());
        assert!(parse(&["tenant", "purge", "t", "--confirm", "t"]).is_ok());
        assert!(parse(&["calls", "cancel"]).is_err());
        assert!(parse(&["calls", "cancel", "--tenant", "t"]).is_ok());
        assert!(parse(&["replay"]).is_err());
        assert!(parse(&["replay", "--corpus", "--bundle", "x", "--since", "7d", "--junit", "y"]).is_ok());
        assert!(parse(&["replay", "x", "--junit", "y"]).is_err());
        assert!(
            parse(&["replay", "x", "--override", "0=error:timeout", "--override", "3=result:{}", "--step"])
                .is_ok()
        );
        assert!(parse(&["record", "on", "t/e"]).is_err());
        assert!(parse(&["record", "on", "t/e", "--for", "10m", "--sample", "5%", "--errors-only"]).is_ok());
        assert!(parse(&["call"]).is_err());
        assert!(parse(&["call", "--bundle", "x"]).is_ok());
    }
}
