//! The table and the file.

use std::fmt::Write as _;

use serde::Serialize;

use crate::capture::Measured as Capture;
use crate::gateway;
use crate::host_calls::HostCalls;
use crate::installs::Measured as Installs;
use crate::options::Options;
use crate::stats::{Round, Spread, ratio};

/// The ratio of the medians at one connection that a worker should stay below: an engine that costs more than the way to
/// it is worth a look.
const EXPECTED_RATIO: f64 = 1.8;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of cargo.
    pub profile: String,
    /// That this process may use.
    pub cores: usize,
    /// Of each measurement.
    pub seconds: f64,
    /// Of each fleet at each number of connections.
    pub rounds: usize,
    /// The names of the worker's settings that are not the defaults.
    pub worker_settings: Vec<String>,
    /// See [`EXPECTED_RATIO`].
    pub expected_ratio: f64,
    /// By number of connections.
    pub levels: Vec<Level>,
    /// In words.
    pub first_failure: Option<String>,
    /// The gateway route, by number of connections.
    pub gateway: Vec<gateway::Level>,
    /// Lookups and changes of installs, if they were measured.
    pub installs: Option<Installs>,
    /// Host calls, if they were measured.
    pub host_calls: Option<HostCalls>,
    /// Levels of capture, if they were measured.
    pub capture: Option<Capture>,
}

/// All rounds at one number of connections.
#[derive(Debug, Serialize)]
pub struct Level {
    /// Connections.
    pub connections: usize,
    /// The floor.
    pub echo: Vec<Round>,
    /// The worker, in the same rounds.
    pub worker: Vec<Round>,
}

impl Report {
    /// Nothing measured yet.
    pub fn new(options: &Options) -> Self {
        Self {
            profile: profile(),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            seconds: options.seconds.as_secs_f64(),
            rounds: options.rounds.get(),
            worker_settings: options.set.iter().map(|setting| setting.name.clone()).collect(),
            expected_ratio: EXPECTED_RATIO,
            levels: Vec::new(),
            first_failure: None,
            gateway: Vec::new(),
            installs: None,
            host_calls: None,
            capture: None,
        }
    }

    /// Calls that failed in all.
    pub fn failures(&self) -> u64 {
        let of_calls = self.levels.iter().flat_map(|level| level.echo.iter().chain(&level.worker));
        let of_gateway = self.gateway.iter().flat_map(|level| level.execute.iter().chain(&level.route));
        let of_capture = self.capture.as_ref().map_or(0, Capture::failures);
        of_calls.chain(of_gateway).map(|round| round.failures).sum::<u64>() + of_capture
    }
}

/// Cargo's profile, by the name of the folder that it builds into: all three programs are of the same.
fn profile() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    match path.parent().and_then(|folder| folder.file_name()).and_then(|name| name.to_str()) {
        Some("debug") => "dev (this workspace opt-level 1, dependencies 2)".to_owned(),
        Some(name) => name.to_owned(),
        None => "unknown".to_owned(),
    }
}

/// A column: its title, its number, and how many decimals its spread has.
type Column = (&'static str, fn(&Round) -> f64);

const COLUMNS: [Column; 4] = [
    ("p50 us", |round| round.p50_us),
    ("p90 us", |round| round.p90_us),
    ("p99 us", |round| round.p99_us),
    ("calls/s", |round| round.calls_per_s),
];

const WIDTH: usize = 24;

/// What it was measured on.
pub fn machine(report: &Report) -> String {
    format!("Profile {}; {} cores.", report.profile, report.cores)
}

/// Two sides at one number of connections: their names and rounds, and the second is compared with the first.
pub struct Compared<'a> {
    /// Connections.
    pub connections: usize,
    /// Both sides.
    pub sides: [(&'static str, &'a [Round]); 2],
}

/// What is printed of calls.
pub fn table(report: &Report) -> String {
    let settings = match report.worker_settings.join(", ") {
        names if names.is_empty() => "default".to_owned(),
        names => names,
    };
    let mut text = format!("\nhello-rust beside an echo worker. Worker settings: {settings}.\n");
    let levels: Vec<_> = report
        .levels
        .iter()
        .map(|level| {
            let sides = [("echo (floor)", level.echo.as_slice()), ("hello-rust", level.worker.as_slice())];
            Compared { connections: level.connections, sides }
        })
        .collect();
    text.push_str(&comparison(report, "worker", &levels));
    text.push_str(&verdict(report));
    text
}

/// The table of latencies with ratios, and that of CPU time.
pub fn comparison(report: &Report, title: &str, levels: &[Compared<'_>]) -> String {
    let mut text = format!(
        "{} rounds of {} s each, in turn: the median round (lowest - highest).\n\n",
        report.rounds, report.seconds
    );
    let mut row = |first: &str, name: &str, cells: &[String], failures: &str| {
        let _ = write!(text, "{first:>11}  {name:<12}");
        for cell in cells {
            let _ = write!(text, "{cell:>WIDTH$}");
        }
        let _ = writeln!(text, "{failures:>8}");
    };
    let titles = COLUMNS.map(|(title, _)| title.to_owned());
    row("connections", title, &titles, "failed");
    for Compared { connections, sides } in levels {
        for (name, rounds) in sides {
            let cells = COLUMNS.map(|(_, what)| cell(Spread::of(rounds.iter().map(what)), 0));
            let failures: u64 = rounds.iter().map(|round| round.failures).sum();
            row(&connections.to_string(), name, &cells, &failures.to_string());
        }
        let [(_, first), (_, second)] = sides;
        let cells = COLUMNS.map(|(_, what)| cell(ratio(second, first, what), 2));
        row("", "ratio", &cells, "");
    }
    text.push_str(&cpu_table(levels));
    text
}

/// CPU by call, in microseconds; empty where the system does not tell.
fn cpu_table(levels: &[Compared<'_>]) -> String {
    let mut text = String::new();
    for Compared { connections, sides } in levels {
        for (name, rounds) in sides {
            let Some(first) = rounds.first().filter(|round| !round.cpu_us_per_call.is_empty()) else {
                continue;
            };
            let _ = write!(text, "{connections:>11}  {name:<12}");
            for process in first.cpu_us_per_call.keys() {
                let of = |round: &Round| round.cpu_us_per_call.get(process).copied().unwrap_or(0.0);
                let _ = write!(text, "  {process} {}", cell(Spread::of(rounds.iter().map(of)), 0));
            }
            text.push('\n');
        }
    }
    if text.is_empty() { text } else { format!("\nCPU microseconds by call, of each process\n{text}") }
}

fn verdict(report: &Report) -> String {
    let Some(level) = report.levels.iter().find(|level| level.connections == 1) else { return String::new() };
    let p50 = ratio(&level.worker, &level.echo, |round| round.p50_us).median;
    let words = if p50 <= report.expected_ratio { "as expected" } else { "MORE than expected" };
    format!("\np50 at 1 connection: {p50:.2} times the floor; {words} (at most {}).\n", report.expected_ratio)
}

/// A spread as it is printed.
pub fn cell(spread: Spread, decimals: usize) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.decimals$} ({min:.decimals$} - {max:.decimals$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(worker_p50: f64) -> Report {
        let round = |p50_us: f64, failures| Round {
            p50_us,
            calls_per_s: 1e6 / p50_us,
            failures,
            cpu_us_per_call: [("shim", 50.0), ("worker", p50_us / 2.0)].into(),
            ..Round::default()
        };
        Report {
            profile: "dev".to_owned(),
            cores: 2,
            seconds: 3.0,
            rounds: 2,
            worker_settings: Vec::new(),
            expected_ratio: EXPECTED_RATIO,
            levels: vec![Level {
                connections: 1,
                echo: vec![round(100.0, 0), round(110.0, 0)],
                worker: vec![round(worker_p50, 1), round(worker_p50 * 1.1, 2)],
            }],
            first_failure: None,
            gateway: Vec::new(),
            installs: None,
            host_calls: None,
            capture: None,
        }
    }

    #[test]
    fn the_table_shows_both_sides_their_ratio_and_failures() {
        let text = table(&report(150.0));
        for part in ["100", "1.50 (1.50 - 1.50)", "as expected", "worker 79 (75 - 82)"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(machine(&report(150.0)), "Profile dev; 2 cores.");
        assert_eq!(report(150.0).failures(), 3);
    }

    #[test]
    fn a_ratio_above_the_expected_is_said_loudly() {
        assert!(table(&report(181.0)).contains("1.81 times the floor; MORE than expected"));
    }

    #[test]
    fn the_file_holds_every_round() {
        let json = serde_json::to_value(report(150.0)).unwrap();
        assert_eq!(json.pointer("/levels/0/worker/1/failures"), Some(&serde_json::json!(2)));
        assert_eq!(json.pointer("/levels/0/echo/0/p50_us"), Some(&serde_json::json!(100.0)));
    }
}
