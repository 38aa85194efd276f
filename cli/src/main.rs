//! The `longshore` command.

use std::process::ExitCode;

use longshore_cli::app::Cli;

fn main() -> ExitCode {
    Cli::from_command_line().run()
}
