//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::echo::EchoArgs;

/// Measures warm calls to `hello-rust` beside the same HTTP and NATS hop with a worker that echoes.
#[derive(Debug, Parser)]
#[command(name = "longshore-bench", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else this program is.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The worker of the floor, started by the benchmark itself.
    #[command(hide = true)]
    EchoWorker(EchoArgs),
}

/// Options of the benchmark.
#[derive(Debug, Args)]
pub struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value = "3", value_parser = seconds)]
    pub seconds: Duration,
    /// Measurements of each fleet at each number of connections; the fleets take turns.
    #[arg(long, default_value = "5")]
    pub rounds: NonZeroUsize,
    /// Connections, each with one call at a time.
    #[arg(long, default_value = "1,64", value_delimiter = ',')]
    pub connections: Vec<NonZeroUsize>,
    /// Also writes everything that was measured, each round by itself, to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// A setting of the real worker, such as `RUNNER_DEBUG_REDIS_URL=redis://127.0.0.1:6379` for debug events (which are
    /// off otherwise). May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    pub set: Vec<Setting>,
}

/// An environment variable of the worker. Only its name is ever shown: the value may be a password.
#[derive(Clone)]
pub struct Setting {
    pub name: String,
    pub value: String,
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setting").field("name", &self.name).finish_non_exhaustive()
    }
}

fn setting(text: &str) -> Result<Setting, &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok(Setting { name: name.to_owned(), value: value.to_owned() })
        }
        _ => Err("expected NAME=VALUE"),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected 0.1 to 600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, String> {
        let args = std::iter::once("longshore-bench").chain(args.iter().copied());
        Cli::try_parse_from(args).map_err(|error| error.to_string())
    }

    #[test]
    fn without_arguments_one_and_sixty_four_connections_are_measured() {
        let options = parse(&[]).unwrap().options;
        let connections: Vec<usize> = options.connections.iter().map(|c| c.get()).collect();
        assert_eq!((connections, options.rounds.get()), (vec![1, 64], 5));
    }

    #[test]
    fn a_setting_has_a_name_and_its_value_is_not_printed() {
        let cli =
            parse(&["--set", "RUNNER_DEBUG_REDIS_URL=redis://:canary@host?a=b", "--set", "A="]).unwrap();
        assert_eq!(cli.options.set[0].value, "redis://:canary@host?a=b");
        assert!(!format!("{cli:?}").contains("canary"));
        assert!(parse(&["--set", "A"]).is_err() && parse(&["--set", "=b"]).is_err());
    }

    #[test]
    fn a_measurement_without_time_rounds_or_connections_is_refused() {
        for bad in [["--seconds", "0"], ["--seconds", "NaN"], ["--rounds", "0"], ["--connections", "1,0"]] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }
}
