//! What is printed of installs.

use std::fmt::Write as _;

use super::Measured;
use super::changes::{LISTENERS, Times};
use super::lookups::Round;
use crate::report::cell;
use crate::stats::Spread;

const WIDTH: usize = 30;

/// The tables and the bars.
pub fn table(measured: &Measured) -> String {
    let mut text = format!(
        "\nInstalls: {} of {} bundles, for {} tenants. A record has {:.0} bytes; in a registry it takes {}.\n\
         A gateway's registry that starts knows all after {} ms.\n",
        measured.installs,
        measured.bundles,
        measured.tenants,
        measured.record_bytes,
        measured
            .memory_bytes
            .map_or_else(|| "memory that the system does not tell".to_owned(), |b| format!("{b:.0}")),
        cell(Spread::of(measured.start_ms.iter().copied()), 0),
    );
    text.push_str(&lookups(measured));
    text.push_str(&changes(measured));
    text.push_str(&verdicts(measured));
    text
}

fn lookups(measured: &Measured) -> String {
    let rounds = measured.looked_up.first().map_or(0, |kind| kind.quiet.len());
    let mut text = format!(
        "\nMicroseconds of one lookup: {} in each of {rounds} rounds, the median round (lowest - highest)\n",
        measured.lookups
    );
    let mut row = |by: &str, meanwhile: &str, cells: [String; 4]| {
        let _ = write!(text, "{by:<13}{meanwhile:<22}");
        for cell in cells {
            let _ = write!(text, "{cell:>WIDTH$}");
        }
        text.push('\n');
    };
    row("looked up by", "meanwhile", ["p50", "p99", "longest", "CPU of the thread"].map(str::to_owned));
    for kind in &measured.looked_up {
        let per_s = Spread::of(kind.changes_per_s.iter().copied()).median;
        for (rounds, meanwhile) in
            [(&kind.quiet, "nothing".to_owned()), (&kind.changing, format!("{per_s:.0} changes/s"))]
        {
            let of =
                |what: fn(&Round) -> f64| cell(Spread::of(rounds.iter().map(|round| what(round) / 1e3)), 2);
            row(
                kind.by,
                &meanwhile,
                [of(|r| r.p50_ns), of(|r| r.p99_ns), of(|r| r.max_ns), of(|r| r.cpu_ns)],
            );
        }
    }
    text
}

fn changes(measured: &Measured) -> String {
    let heard = &measured.changes;
    let mut text = format!(
        "\nMilliseconds from the begin of a change until it is heard of: {} changes, one after the other\n",
        heard.count
    );
    let mut row = |name: &str, cells: [String; 3]| {
        let _ = write!(text, "{name:<22}");
        for cell in cells {
            let _ = write!(text, "{cell:>10}");
        }
        text.push('\n');
    };
    let times = |times: &Times| [times.p50_ms, times.p99_ms, times.max_ms].map(|ms| format!("{ms:.1}"));
    row("", ["p50", "p99", "longest"].map(str::to_owned));
    row("the admin's answer", times(&heard.written));
    for name in LISTENERS {
        row(name, times(&heard.by.get(name).copied().unwrap_or_default()));
    }
    row("the last of the four", times(&heard.all));
    text
}

/// The worst round's 99th percentile decides: the longest single lookup is that of a thread without a core.
fn verdicts(measured: &Measured) -> String {
    let rounds = measured
        .looked_up
        .iter()
        .flat_map(|kind| kind.quiet.iter().chain(&kind.changing).map(|round| (round.p99_ns / 1e3, kind.by)));
    let Some((us, by)) = rounds.max_by(|a, b| a.0.total_cmp(&b.0)) else { return String::new() };
    let words = |met| if met { "met" } else { "NOT met" };
    let ms = measured.changes.all.max_ms;
    format!(
        "\na lookup: p99 at most {us:.2} us in any round ({by}); under {} us: {}\n\
         a change: heard of by two shims and two workers within {ms:.1} ms at most; under {} ms: {}\n",
        measured.lookup_bar_us,
        words(us < measured.lookup_bar_us),
        measured.change_bar_ms,
        words(ms < measured.change_bar_ms),
    )
}

#[cfg(test)]
mod tests {
    use super::super::changes::Heard;
    use super::super::lookups::LookedUp;
    use super::*;

    fn measured(p99_ns: f64, max_ms: f64) -> Measured {
        let round = |p99_ns| Round { p50_ns: 400.0, p99_ns, max_ns: 90_000.0, cpu_ns: 450.0 };
        let times = |max_ms| Times { p50_ms: 2.0, p99_ms: 7.0, max_ms };
        Measured {
            installs: 1_000,
            bundles: 100,
            tenants: 50,
            record_bytes: 2_000.0,
            memory_bytes: Some(4_321.0),
            start_ms: vec![40.0, 50.0, 60.0],
            lookups: 10,
            looked_up: vec![
                LookedUp {
                    by: "name",
                    quiet: vec![round(900.0); 2],
                    changing: vec![round(900.0), round(p99_ns)],
                    changes_per_s: vec![300.0, 300.0],
                },
                LookedUp { by: "SLUG", quiet: vec![round(1_000.0)], ..LookedUp::default() },
            ],
            changes: Heard {
                count: 200,
                written: times(3.0),
                by: LISTENERS.into_iter().map(|name| (name, times(8.0))).collect(),
                all: times(max_ms),
            },
            lookup_bar_us: 50.0,
            change_bar_ms: 1_000.0,
        }
    }

    #[test]
    fn the_tables_have_every_kind_every_listener_and_both_bars() {
        let text = table(&measured(1_500.0, 12.5));
        for part in [
            "1000 of 100 bundles, for 50 tenants",
            "takes 4321",
            "50 (40 - 60) ms",
            "300 changes/s",
            "0.40 (0.40 - 0.40)",
            "worker 2",
            "p99 at most 1.50 us in any round (name); under 50 us: met",
            "within 12.5 ms at most; under 1000 ms: met",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn bars_that_are_not_met_are_said_loudly() {
        let text = table(&measured(50_000.0, 1_000.0));
        assert_eq!(text.matches("NOT met").count(), 2, "{text}");
    }
}
