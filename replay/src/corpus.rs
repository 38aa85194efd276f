//! Many recorded runs against a candidate. First each is replayed with its own bundle (A/A): what differs there is a gap
//! of the recorder and no doing of the candidate's; it is subtracted and counted.

mod junit;

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use serde::Serialize;

use crate::compare::{Divergence, Fingerprint};
use crate::printable;
use crate::replayer::{Candidate, Options, Recorded, ReplayError, Replayer};
use crate::report::{Fuel, Report, Verdict};

/// Runs that are named in a cluster.
const MAX_EXAMPLES: usize = 5;

/// A run of the corpus, loaded when its turn comes, so that a large corpus needs no memory.
pub struct Case {
    /// The execution's id, or the file's name.
    pub name: String,
    /// Gives it.
    pub load: BoxFuture<'static, Result<Recorded, ReplayError>>,
}

/// What came of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseVerdict {
    /// The candidate does the same.
    Same,
    /// It does something else.
    Diverged,
    /// It does something else, and so does the recorded bundle: nothing that the candidate did.
    RecorderGap,
    /// The same, for a guest that had seen a secret.
    SecretDependent,
    /// The trace cannot be replayed.
    Unusable,
    /// The tool failed.
    Failed,
}

/// One run of the corpus.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// `GET /path`; empty where it could not be replayed.
    pub request: String,
    /// What came of it.
    pub verdict: CaseVerdict,
    /// In words; empty where it is the same.
    pub what: String,
    /// The first divergence that is the candidate's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<Divergence>,
    /// What both bundles compute for it, if that was asked for and could be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<Fuel>,
}

/// What both bundles compute for all runs of which that was counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CorpusFuel {
    /// How many runs these are.
    pub runs: u64,
    /// Of all together.
    #[serde(flatten)]
    pub sum: Fuel,
    /// The run in which the candidate's is the most for each unit of the recorded bundle's.
    pub most: String,
    /// How much it is there.
    pub most_ratio: f64,
}

/// Runs that differ in the same way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cluster {
    /// The way.
    #[serde(flatten)]
    pub fingerprint: Fingerprint,
    /// How many.
    pub runs: u64,
    /// Some of them.
    pub examples: Vec<String>,
    /// The first one's divergence.
    pub first: Divergence,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CorpusReport {
    /// Runs.
    pub total: u64,
    /// Those that are the same.
    pub same: u64,
    /// Those that differ.
    pub diverged: u64,
    /// Those that differ with their own bundle in the same way.
    pub recorder_gaps: u64,
    /// Those of guests that had seen a secret and differ with their own bundle.
    pub secret_dependent: u64,
    /// Traces that cannot be replayed.
    pub unusable: u64,
    /// Those that the tool did not replay.
    pub failed: u64,
    /// If it was asked for ([`Options::fuel`]) and counted of any run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<CorpusFuel>,
    /// The largest first.
    pub clusters: Vec<Cluster>,
    /// By name.
    pub cases: Vec<CaseReport>,
}

/// Replays all, as many at once as the replayer has jobs. `progress` is told after each how many are done. With
/// [`Candidate::Same`] there is no A/A: it would be the same question twice.
pub async fn run(
    replayer: &Replayer,
    cases: Vec<Case>,
    options: &Options,
    mut progress: impl FnMut(u64, &CaseReport),
) -> CorpusReport {
    let done = futures::stream::iter(cases).map(|case| one(replayer, case, options));
    let mut done = std::pin::pin!(done.buffer_unordered(replayer.jobs()));
    let mut report = CorpusReport::default();
    while let Some(case) = done.next().await {
        report.total += 1;
        progress(report.total, &case);
        report.add(case);
    }
    report.finish();
    report
}

async fn one(replayer: &Replayer, case: Case, options: &Options) -> CaseReport {
    let name = printable::line(&case.name, 200);
    let failed = |error: &ReplayError| CaseReport {
        name: name.clone(),
        request: String::new(),
        verdict: if error.exit_code() == 2 { CaseVerdict::Unusable } else { CaseVerdict::Failed },
        what: printable::line(&error.to_string(), 500),
        divergence: None,
        fuel: None,
    };
    let recorded = match case.load.await {
        Ok(recorded) => recorded,
        Err(error) => return failed(&error),
    };
    let report = match replayer.replay(&recorded, options).await {
        Ok(report) => report,
        Err(error) => return failed(&error),
    };
    if report.verdict == Verdict::Identical || matches!(options.bundle, Candidate::Same) {
        return judged(name, report, None);
    }
    // Only now: most candidates do the same in most runs, and then there is nothing to subtract.
    let own = Options { unmatched: options.unmatched, ..Options::default() };
    match replayer.replay(&recorded, &own).await {
        Ok(own) => judged(name, report, Some(own)),
        Err(error) => failed(&error),
    }
}

/// Takes away what the recorded bundle does as well.
fn judged(name: String, report: Report, own: Option<Report>) -> CaseReport {
    let secret = report.verdict == Verdict::SecretDependent
        || own.as_ref().is_some_and(|own| own.verdict == Verdict::SecretDependent);
    let gaps: BTreeSet<Fingerprint> =
        own.iter().flat_map(|own| &own.divergences).map(Divergence::fingerprint).collect();
    let identical = report.verdict == Verdict::Identical;
    let fuel = report.resources.fuel;
    let first = report.divergences.into_iter().find(|divergence| !gaps.contains(&divergence.fingerprint()));
    let verdict = match (identical, &first) {
        (true, _) => CaseVerdict::Same,
        (false, Some(_)) if secret => CaseVerdict::SecretDependent,
        (false, None) if secret => CaseVerdict::SecretDependent,
        (false, Some(_)) => CaseVerdict::Diverged,
        (false, None) => CaseVerdict::RecorderGap,
    };
    let what = match (&first, verdict) {
        (Some(first), _) => format!("{} in {}: {}", first.class.as_str(), first.function, first.what),
        (None, CaseVerdict::RecorderGap) => "it differs with its own bundle in the same way".to_owned(),
        (None, _) => String::new(),
    };
    CaseReport { name, request: report.request, verdict, what, divergence: first, fuel }
}

impl CorpusFuel {
    fn of(cases: &[CaseReport]) -> Option<Self> {
        let counted = || cases.iter().filter_map(|case| Some((&case.name, case.fuel?)));
        let (most, at) = counted().max_by(|(_, one), (_, other)| one.ratio.total_cmp(&other.ratio))?;
        let sum = |of: fn(Fuel) -> u64| counted().fold(0_u64, |sum, (_, fuel)| sum.saturating_add(of(fuel)));
        let sum = Fuel::new(sum(|fuel| fuel.recorded_bundle), sum(|fuel| fuel.candidate));
        Some(Self { runs: counted().count() as u64, sum, most: most.clone(), most_ratio: at.ratio })
    }
}

impl CorpusReport {
    fn add(&mut self, case: CaseReport) {
        let count = match case.verdict {
            CaseVerdict::Same => &mut self.same,
            CaseVerdict::Diverged => &mut self.diverged,
            CaseVerdict::RecorderGap => &mut self.recorder_gaps,
            CaseVerdict::SecretDependent => &mut self.secret_dependent,
            CaseVerdict::Unusable => &mut self.unusable,
            CaseVerdict::Failed => &mut self.failed,
        };
        *count += 1;
        self.cases.push(case);
    }

    fn finish(&mut self) {
        self.cases.sort_by(|one, other| one.name.cmp(&other.name));
        self.fuel = CorpusFuel::of(&self.cases);
        let mut clusters: BTreeMap<Fingerprint, Cluster> = BTreeMap::new();
        for case in self.cases.iter().filter(|case| case.verdict == CaseVerdict::Diverged) {
            let Some(first) = &case.divergence else { continue };
            let fingerprint = first.fingerprint();
            let cluster = clusters.entry(fingerprint.clone()).or_insert_with(|| Cluster {
                fingerprint,
                runs: 0,
                examples: Vec::new(),
                first: first.clone(),
            });
            cluster.runs += 1;
            if cluster.examples.len() < MAX_EXAMPLES {
                cluster.examples.push(case.name.clone());
            }
        }
        self.clusters = clusters.into_values().collect();
        self.clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.runs));
    }

    /// 0: no run diverged. 1: some did. 2: no trace could be used. 3: the tool failed.
    pub const fn exit_code(&self) -> u8 {
        if self.diverged > 0 {
            1
        } else if self.failed > 0 {
            3
        } else if self.total > 0 && self.unusable == self.total {
            2
        } else {
            0
        }
    }

    /// For people: the counts and a line for each cluster.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} runs: {} the same, {} diverged, {} recorder gaps (subtracted), {} secret-dependent, {} unusable, {} failed\n",
            self.total,
            self.same,
            self.diverged,
            self.recorder_gaps,
            self.secret_dependent,
            self.unusable,
            self.failed,
        );
        if let Some(CorpusFuel { runs, sum, most, most_ratio }) = &self.fuel {
            text.push_str(&format!(
                "fuel (recorded bundle -> candidate): {} -> {} (x{:.3}) in {runs} runs; the most x{most_ratio:.3}, in {most}\n",
                sum.recorded_bundle, sum.candidate, sum.ratio,
            ));
        }
        if !self.clusters.is_empty() {
            text.push_str(&format!(
                "\n{:>6}  {:<18}  {:<28}  {:<24}  e.g.\n",
                "RUNS", "CLASS", "WHERE", "PATH"
            ));
        }
        for cluster in &self.clusters {
            let Fingerprint { class, function, place } = &cluster.fingerprint;
            let example = cluster.examples.first().map_or("", String::as_str);
            text.push_str(&format!(
                "{:>6}  {:<18}  {function:<28}  {place:<24}  {example}\n",
                cluster.runs,
                class.as_str()
            ));
        }
        let others =
            |verdict| self.cases.iter().filter(move |case| case.verdict == verdict).take(MAX_EXAMPLES);
        for case in others(CaseVerdict::Unusable).chain(others(CaseVerdict::Failed)) {
            text.push_str(&format!("  {}: {}\n", case.name, case.what));
        }
        text
    }

    /// For a CI server: one test case a run.
    pub fn junit(&self) -> String {
        junit::render(self)
    }
}
