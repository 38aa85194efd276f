//! Which share of recorded runs is had again bit for bit: a number to alarm on.

use serde::Serialize;

use crate::printable;
use crate::replayer::ReplayError;
use crate::report::{Report, Verdict};

/// Runs that are named with what is wrong; the rest is counted.
const MAX_NAMED: usize = 100;

/// A run that was not had again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Which.
    pub execution: String,
    /// `diverged`, `secret_dependent`, `unusable` or `failed`.
    pub verdict: &'static str,
    /// In words.
    pub what: String,
}

/// The number and what it is made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Verified {
    /// Traces that were looked at.
    pub total: u64,
    /// Bit-exact to their end.
    pub exact: u64,
    /// Bit-exact up to where their recording ends. Not in the share.
    pub partial: u64,
    /// Something differs.
    pub diverged: u64,
    /// Not in the share: see [`Verdict::SecretDependent`].
    pub secret_dependent: u64,
    /// Traces that cannot be replayed. Not in the share.
    pub unusable: u64,
    /// Replays that the tool did not bring about. Not in the share.
    pub failed: u64,
    /// `exact / (exact + diverged)`; none when there was neither.
    pub share: Option<f64>,
    /// What is wrong, for the first of those that are not exact.
    pub named: Vec<Named>,
}

impl Verified {
    /// Counts one run.
    pub fn add(&mut self, execution: &str, outcome: &Result<Report, ReplayError>) {
        self.total += 1;
        let (verdict, what) = match outcome {
            Ok(report) if report.verdict == Verdict::Identical && report.partial.is_some() => {
                self.partial += 1;
                return;
            }
            Ok(report) if report.verdict == Verdict::Identical => {
                self.exact += 1;
                self.count();
                return;
            }
            Ok(report) => {
                let first = report.divergences.first();
                let what = first.map_or_else(String::new, |d| {
                    format!("{} in {}: {}", d.class.as_str(), d.function, d.what)
                });
                if report.verdict == Verdict::SecretDependent {
                    self.secret_dependent += 1;
                } else {
                    self.diverged += 1;
                }
                (report.verdict.as_str(), what)
            }
            Err(error) if error.exit_code() == 2 => {
                self.unusable += 1;
                ("unusable", error.to_string())
            }
            Err(error) => {
                self.failed += 1;
                ("failed", error.to_string())
            }
        };
        if self.named.len() < MAX_NAMED {
            let (execution, what) = (printable::line(execution, 100), printable::line(&what, 300));
            self.named.push(Named { execution, verdict, what });
        }
        self.count();
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of runs are far below 2^52")]
    fn count(&mut self) {
        let of = self.exact + self.diverged;
        self.share = (of > 0).then(|| self.exact as f64 / of as f64);
    }

    /// 0: all that count are exact. 1: some diverged. 3: there was nothing to count, or the tool failed.
    pub const fn exit_code(&self) -> u8 {
        if self.diverged > 0 {
            1
        } else if self.failed > 0 || self.exact == 0 {
            3
        } else {
            0
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let share =
            self.share.map_or_else(|| "no run counts".to_owned(), |share| format!("{:.2} %", share * 100.0));
        let mut text = format!(
            "bit-exact: {share} ({} of {}); {} partial, {} secret-dependent, {} unusable, {} failed; {} looked at\n",
            self.exact,
            self.exact + self.diverged,
            self.partial,
            self.secret_dependent,
            self.unusable,
            self.failed,
            self.total,
        );
        for named in &self.named {
            text.push_str(&format!("  {} {}: {}\n", named.execution, named.verdict, named.what));
        }
        text
    }
}
