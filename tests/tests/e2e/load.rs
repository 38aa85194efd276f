//! Many calls at a time, and what came of them.

use std::collections::BTreeMap;

use longshore_tests::call::{Call, Reply};
use longshore_tests::http::{Http, NoReply};
use longshore_tests::process::Lines;
use longshore_tests::wait;
use tokio::task::JoinSet;

/// The outcome of one call, with its number.
pub type Outcome = (usize, Result<Reply, NoReply>);

/// Calls that are under way.
pub struct Load {
    tasks: JoinSet<Outcome>,
}

impl Load {
    /// Sends all calls at once, each on a connection of its own.
    pub fn start(http: &Http, calls: impl IntoIterator<Item = Call>) -> Self {
        let mut tasks = JoinSet::new();
        for (number, call) in calls.into_iter().enumerate() {
            let http = http.clone();
            tasks.spawn(async move { (number, http.try_call(&call).await) });
        }
        Self { tasks }
    }

    /// The next outcome; none when all are there.
    pub async fn next(&mut self) -> Option<Outcome> {
        self.tasks.join_next().await.map(Result::unwrap)
    }

    /// All outcomes, by number.
    pub async fn all(mut self) -> Vec<Result<Reply, NoReply>> {
        let mut outcomes = BTreeMap::new();
        while let Some((number, outcome)) = self.next().await {
            outcomes.insert(number, outcome);
        }
        outcomes.into_values().collect()
    }
}

/// How often each outcome was seen: `ok`, an error, or why there was no reply.
pub fn counted<'o>(
    outcomes: impl IntoIterator<Item = &'o Result<Reply, NoReply>>,
) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for outcome in outcomes {
        let name = match outcome {
            Ok(reply) => reply.outcome(),
            Err(error) => error.why.clone(),
        };
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// How often the guest `count` ran, by the id of the call, as the workers' logs tell.
pub fn runs<'l>(workers: impl IntoIterator<Item = &'l Lines>) -> BTreeMap<String, usize> {
    let mut runs = BTreeMap::new();
    for lines in workers {
        for line in lines.of_guests() {
            if let Some(id) = line.strip_prefix("ran ") {
                *runs.entry(id.to_owned()).or_default() += 1;
            }
        }
    }
    runs
}

/// Waits until `enough` is content with the runs so far.
pub async fn runs_until(
    what: &str,
    workers: &[&Lines],
    enough: impl Fn(&BTreeMap<String, usize>) -> bool,
) -> BTreeMap<String, usize> {
    wait::until(what, wait::LIMIT, async || {
        let runs = runs(workers.iter().copied());
        if enough(&runs) { Ok(runs) } else { Err(format!("{} runs: {runs:?}", runs.len())) }
    })
    .await
}
