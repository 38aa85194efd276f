//! The command line.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::echo::EchoArgs;

/// Measures warm calls to `hello-rust` beside the same HTTP and NATS hop with a worker that echoes, the gateway route beside
/// `/v1/execute`, lookups and changes of installs, host calls beside the bare
/// functions, and what it costs to publish and to record runs.
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
    /// Host calls of each measurement of a host function. What waits for Redis is bounded: above about 10,000 debug events
    /// may be lost.
    #[arg(long, value_name = "N", default_value = "10000")]
    pub host_calls: NonZeroU64,
    /// Measurements of each side of a host function.
    #[arg(long, value_name = "N", default_value = "21")]
    pub host_call_rounds: NonZeroUsize,
    /// Lookups in each measurement of the registry of installs.
    #[arg(long, value_name = "N", default_value = "100000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub lookups: u32,
    /// Changes of installs that are timed.
    #[arg(long, value_name = "N", default_value = "200", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub changes: u32,
    /// Seconds for which Redis stands still while runs are recorded; 0 leaves that out.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = stall)]
    pub stall: Duration,
    /// Only one of the parts.
    #[arg(long)]
    pub only: Option<Part>,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Calls through shim, NATS and worker.
    Calls,
    /// Calls by the gateway route beside `/v1/execute`.
    Gateway,
    /// Lookups and changes of installs.
    Installs,
    /// Host calls in this process.
    HostCalls,
    /// Calls of installs whose runs are published, recorded, and neither.
    Capture,
}

impl Options {
    /// Whether a part is wanted.
    pub fn measures(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
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

fn stall(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { seconds(text) }
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
    fn all_parts_are_measured_unless_one_is_named() {
        let parts = |args: &[&str]| {
            let options = parse(args).unwrap().options;
            [Part::Calls, Part::Gateway, Part::Installs, Part::HostCalls, Part::Capture]
                .map(|part| options.measures(part))
        };
        assert_eq!(parts(&[]), [true; 5]);
        assert_eq!(parts(&["--only", "calls"]), [true, false, false, false, false]);
        assert_eq!(parts(&["--only", "gateway"]), [false, true, false, false, false]);
        assert_eq!(parts(&["--only", "installs"]), [false, false, true, false, false]);
        assert_eq!(parts(&["--only", "host-calls"]), [false, false, false, true, false]);
        assert_eq!(parts(&["--only", "capture"]), [false, false, false, false, true]);
    }

    #[test]
    fn a_stall_may_be_left_out() {
        assert_eq!(parse(&["--stall", "0"]).unwrap().options.stall, Duration::ZERO);
        assert_eq!(parse(&[]).unwrap().options.stall, Duration::from_secs(30));
    }

    #[test]
    fn a_measurement_without_time_rounds_or_connections_is_refused() {
        for bad in [
            ["--seconds", "0"],
            ["--seconds", "NaN"],
            ["--rounds", "0"],
            ["--connections", "1,0"],
            ["--host-calls", "0"],
            ["--host-call-rounds", "0"],
            ["--lookups", "0"],
            ["--changes", "0"],
            ["--stall", "-1"],
            ["--only", "nothing"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }
}
