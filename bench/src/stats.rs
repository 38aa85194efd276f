//! From latencies to the few numbers that are shown.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::load::Load;

/// One measurement of one fleet.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Round {
    /// Median, in microseconds.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// Calls answered.
    pub calls: u64,
    /// Those by seconds.
    pub calls_per_s: f64,
    /// Calls that failed.
    pub failures: u64,
    /// CPU microseconds of each process by calls; empty where the system does not tell.
    pub cpu_us_per_call: BTreeMap<&'static str, f64>,
}

impl Round {
    /// Of a load and what the processes used meanwhile.
    pub fn new(mut load: Load, cpu: BTreeMap<&'static str, Duration>) -> Self {
        load.latencies_us.sort_unstable();
        let calls = load.latencies_us.len() as u64;
        let at = |percent| f64::from(percentile(&load.latencies_us, percent));
        let by_call = |used: Duration| used.as_secs_f64() * 1e6 / calls.max(1) as f64;
        Self {
            p50_us: at(50),
            p90_us: at(90),
            p99_us: at(99),
            calls,
            calls_per_s: calls as f64 / load.elapsed.as_secs_f64().max(1e-9),
            failures: load.failures,
            cpu_us_per_call: cpu.into_iter().map(|(name, used)| (name, by_call(used))).collect(),
        }
    }
}

/// The nearest rank: a latency that was measured, never one between two. 0 of none.
pub fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// A number over all rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one; of an even count the mean of the two middle ones.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// Zeros of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Self::default() };
        let middle = |index: usize| values.get(index).copied().unwrap_or(min);
        let median = (middle((values.len() - 1) / 2) + middle(values.len() / 2)) / 2.0;
        Self { median, min, max }
    }
}

/// The spread of `what` of the first by that of the second, round by round: what slows the machine down for a while slows
/// both measurements of a round.
pub fn ratio(of: &[Round], to: &[Round], what: impl Fn(&Round) -> f64) -> Spread {
    Spread::of(of.iter().zip(to).map(|(of, to)| what(of) / what(to).max(f64::MIN_POSITIVE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_latencies_that_were_measured() {
        let sorted: Vec<u32> = (1..=200).collect();
        assert_eq!([50, 90, 99].map(|p| percentile(&sorted, p)), [100, 180, 198]);
        assert_eq!([50, 99].map(|p| percentile(&[7], p)), [7, 7]);
        assert_eq!(percentile(&[], 50), 0);
    }

    #[test]
    fn a_round_counts_by_calls_and_seconds() {
        let load = Load {
            latencies_us: vec![30, 10, 20, 40],
            elapsed: Duration::from_secs(2),
            failures: 1,
            first_failure: Some("x".to_owned()),
        };
        let round = Round::new(load, BTreeMap::from([("shim", Duration::from_micros(100))]));
        assert_eq!((round.p50_us, round.p99_us, round.calls, round.failures), (20.0, 40.0, 4, 1));
        assert_eq!((round.calls_per_s, round.cpu_us_per_call["shim"]), (2.0, 25.0));
    }

    #[test]
    fn a_round_without_an_answer_is_no_division_by_zero() {
        let round = Round::new(Load::default(), BTreeMap::from([("shim", Duration::from_secs(1))]));
        assert!(round.calls_per_s == 0.0 && round.cpu_us_per_call["shim"].is_finite());
    }

    #[test]
    fn a_spread_is_the_median_with_both_ends() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of([]), Spread::default());
    }

    #[test]
    fn a_ratio_compares_the_two_measurements_of_the_same_round() {
        let rounds = |values: [f64; 3]| values.map(|p50_us| Round { p50_us, ..Round::default() });
        // The machine was twice as slow in the second round, and the ratio does not move.
        let spread = ratio(&rounds([15.0, 30.0, 15.0]), &rounds([10.0, 20.0, 10.0]), |round| round.p50_us);
        assert_eq!(spread, Spread { median: 1.5, min: 1.5, max: 1.5 });
    }
}
