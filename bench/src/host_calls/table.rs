//! What is printed of host calls.

use std::fmt::Write as _;

use super::{HostCalls, Measured, Round};
use crate::stats::Spread;

const WIDTH: usize = 22;

/// The two tables and the bar.
pub fn table(report: &HostCalls) -> String {
    let mut text = format!(
        "\nHost calls: {} of one function in a row; {} rounds, in turn: the median round (lowest - highest).\n\
         Nanoseconds of a call, by the clock\n",
        report.calls, report.rounds
    );
    text.push_str(&rows(report, |round| round.ns));
    text.push_str("\nNanoseconds of the guest's thread in a call\n");
    text.push_str(&rows(report, |round| round.cpu_ns));
    if report.events_lost > 0 {
        let _ = writeln!(
            text,
            "\n{} debug events found no room: fewer --host-calls lose none.",
            report.events_lost
        );
    }
    text.push_str(&verdict(report));
    text
}

fn rows(report: &HostCalls, what: fn(&Round) -> f64) -> String {
    let mut text = String::new();
    let mut row = |function: &str, cells: [String; 5]| {
        let _ = write!(text, "{function:<20}");
        for cell in cells {
            let _ = write!(text, "{cell:>WIDTH$}");
        }
        text.push('\n');
    };
    let titles = ["bare", "events off", "events on", "added, events off", "added, events on"];
    row("function", titles.map(str::to_owned));
    for measured in &report.functions {
        let Measured { function, bare, quiet, watched } = measured;
        let of = |side: &[Round]| cell(Spread::of(side.iter().map(what)));
        let added = |side: &[Round]| cell(measured.added(side, what));
        row(function, [of(bare), of(quiet), of(watched), added(quiet), added(watched)]);
    }
    text
}

/// The dearest function decides, by the clock. What its thread used is named beside it: publisher and Redis work at the
/// same time, and where cores are few the clock counts their turns too.
fn verdict(report: &HostCalls) -> String {
    let most = |what: fn(&Round) -> f64| {
        let added = report.functions.iter().map(|m| (m.added(&m.watched, what).median / 1e3, m.function));
        added.max_by(|a, b| a.0.total_cmp(&b.0))
    };
    let (Some((us, function)), Some((cpu_us, _))) = (most(|round| round.ns), most(|round| round.cpu_ns))
    else {
        return String::new();
    };
    let words = if us < report.bar_us { "met" } else { "NOT met" };
    format!(
        "\nadded to a host call, events on: at most {us:.2} us ({function}); under {} us: {words} ({cpu_us:.2} us of the \
         guest's thread)\n",
        report.bar_us
    )
}

fn cell(spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.0} ({min:.0} - {max:.0})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(watched_ns: f64) -> HostCalls {
        let side = |ns: f64| vec![Round { ns, cpu_ns: ns - 50.0 }; 3];
        let measured = |function, watched| Measured {
            function,
            bare: side(500.0),
            quiet: side(1_500.0),
            watched: side(watched),
        };
        HostCalls {
            calls: 10_000,
            rounds: 3,
            bar_us: 10.0,
            events_lost: 0,
            functions: vec![measured("context.get-context", 3_000.0), measured("storage.get", watched_ns)],
        }
    }

    #[test]
    fn the_table_has_each_side_and_what_it_adds() {
        let text = table(&report(8_500.0));
        for part in ["500 (500 - 500)", "8500 (8500 - 8500)", "1000 (1000 - 1000)", "450 (450 - 450)"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.contains("at most 8.00 us (storage.get); under 10 us: met"), "{text}");
        assert!(!text.contains("found no room"), "{text}");
    }

    #[test]
    fn a_bar_that_is_not_met_is_said_loudly() {
        assert!(table(&report(10_501.0)).contains("under 10 us: NOT met"));
    }

    #[test]
    fn lost_events_are_said() {
        let text = table(&HostCalls { events_lost: 7, ..report(1_000.0) });
        assert!(text.contains("7 debug events found no room"), "{text}");
    }
}
