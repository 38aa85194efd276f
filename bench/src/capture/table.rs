//! What is printed of capture.

use std::fmt::Write as _;

use super::stall::Stall;
use super::{Level, Measured};
use crate::report::{Report, cell};
use crate::stats::{Round, Spread};

const WIDTH: usize = 24;

/// The table, the bars, what was lost, and the stall.
pub fn table(report: &Report, measured: &Measured) -> String {
    let mut text = format!(
        "\nOne guest installed with capture off, events and record, by /api/ext on one shim and worker.\n\
         {} rounds of {} s each, in turn: the median round (lowest - highest).\n\n",
        report.rounds, report.seconds
    );
    let mut row = |guest: &str, connections: &str, capture: &str, cells: [String; 5]| {
        let _ = write!(text, "{guest:<11}{connections:>12}  {capture:<8}");
        for cell in cells {
            let _ = write!(text, "{cell:>WIDTH$}");
        }
        text.push('\n');
    };
    let titles = ["p50 us", "p99 us", "calls/s", "of off", "CPU us of the worker"];
    row("guest", "connections", "capture", titles.map(str::to_owned));
    for level in &measured.levels {
        let sides = [("off", &level.off), ("events", &level.events), ("record", &level.record)];
        for (capture, rounds) in sides {
            let of = |what: fn(&Round) -> f64| cell(Spread::of(rounds.iter().map(what)), 0);
            let cells = [
                of(|round| round.p50_us),
                of(|round| round.p99_us),
                of(|round| round.calls_per_s),
                cell(level.left(rounds), 2),
                of(|round| round.cpu_us_per_call.get("worker").copied().unwrap_or(0.0)),
            ];
            row(level.guest, &level.connections.to_string(), capture, cells);
        }
    }
    text.push_str(&verdict(measured));
    let written = measured.written;
    let _ = writeln!(
        text,
        "in Redis: {} events and {} traces; lost: {} events, {} traces",
        written.events, written.traces, written.events_lost, written.traces_lost
    );
    if let Some(stall) = &measured.stall {
        text.push_str(&stalled(stall));
    }
    text
}

/// Throughput is what the bars are about, and the worst guest at the worst number of connections decides.
fn verdict(measured: &Measured) -> String {
    let least = |side: fn(&Level) -> &[Round]| {
        let left = measured.levels.iter().map(|level| (level.left(side(level)).median, level));
        left.min_by(|a, b| a.0.total_cmp(&b.0))
    };
    let mut text = String::from("\n");
    let events: fn(&Level) -> &[Round] = |level| &level.events;
    let record: fn(&Level) -> &[Round] = |level| &level.record;
    for (name, side, bar) in
        [("events", events, measured.events_bar), ("record", record, measured.record_bar)]
    {
        let Some((left, level)) = least(side) else { continue };
        let words = if left >= bar { "met" } else { "NOT met" };
        let _ = writeln!(
            text,
            "{name}: at least {:.0} % of the calls by second of off ({} at {} connection(s)); {:.0} %: {words}",
            left * 100.0,
            level.guest,
            level.connections,
            bar * 100.0
        );
    }
    text
}

fn stalled(stall: &Stall) -> String {
    let mut text = format!(
        "\nRedis stands still for {} s; hello-rust with capture record at {} connections.\n\
         {:<8}{:>10}{:>10}{:>12}{:>10}{:>8}\n",
        stall.seconds, stall.connections, "", "p50 us", "p99 us", "longest us", "calls/s", "failed"
    );
    for (name, phase) in [("before", &stall.before), ("during", &stall.during), ("after", &stall.after)] {
        let _ = writeln!(
            text,
            "{name:<8}{:>10}{:>10}{:>12}{:>10.0}{:>8}",
            phase.p50_us, phase.p99_us, phase.longest_us, phase.calls_per_s, phase.failures
        );
    }
    let _ = writeln!(
        text,
        "{} events and {} traces found no room meanwhile and are counted; no call waited for either.",
        stall.events_lost, stall.traces_lost
    );
    text
}

#[cfg(test)]
mod tests {
    use super::super::Written;
    use super::super::stall::Phase;
    use super::*;
    use crate::options::Cli;
    use clap::Parser as _;

    fn measured(record: f64, traces_lost: u64) -> Measured {
        let rounds = |calls_per_s| vec![Round { calls_per_s, failures: 1, ..Round::default() }; 3];
        let phase = Phase { p50_us: 900, failures: 2, ..Phase::default() };
        Measured {
            events_bar: 0.9,
            record_bar: 0.75,
            levels: vec![Level {
                guest: "hello-rust",
                connections: 64,
                off: rounds(1_000.0),
                events: rounds(950.0),
                record: rounds(record),
            }],
            written: Written { events: 100, traces: 10, traces_lost, events_lost: 0 },
            stall: Some(Stall {
                seconds: 30.0,
                connections: 8,
                before: phase.clone(),
                during: phase.clone(),
                after: phase,
                first_failure: None,
                events_lost: 3,
                traces_lost: 4,
            }),
        }
    }

    fn shown(measured: &Measured) -> String {
        table(&Report::new(&Cli::parse_from(["longshore-bench"]).options), measured)
    }

    #[test]
    fn the_table_has_each_level_what_is_left_of_off_and_what_was_lost() {
        let text = shown(&measured(800.0, 0));
        for part in [
            "0.95 (0.95 - 0.95)",
            "0.80 (0.80 - 0.80)",
            "events: at least 95 % of the calls by second of off (hello-rust at 64 connection(s)); 90 %: met",
            "record: at least 80 %",
            "lost: 0 events, 0 traces",
            "stands still for 30 s",
            "3 events and 4 traces found no room",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("NOT met"), "{text}");
    }

    #[test]
    fn a_bar_that_is_not_met_and_lost_traces_are_said() {
        let text = shown(&measured(700.0, 7));
        assert!(text.contains("75 %: NOT met") && text.contains("lost: 0 events, 7 traces"), "{text}");
    }

    #[test]
    fn failures_of_all_sides_and_of_the_stall_count() {
        assert_eq!(measured(800.0, 0).failures(), 9 + 6);
    }
}
