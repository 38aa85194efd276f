//! How long it takes until two gateways and two workers have heard of a change.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use longshore_proto::ContentHash;
use longshore_proto::install::Install;
use longshore_registry::{Change, InstallFollower, Installs, NatsRegistry, Registry as _};
use serde::Serialize;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use super::subject::{Subject, hash_of};
use crate::stats::percentile;

/// Who listens.
pub const LISTENERS: [&str; 4] = ["shim 1", "shim 2", "worker 1", "worker 2"];
/// Kinds of changes.
const KINDS: u32 = 4;
/// A change that somebody has not heard of by then is lost.
const LOST: Duration = Duration::from_secs(10);

/// Milliseconds of many changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Times {
    /// The median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Times {
    fn of(mut us: Vec<u32>) -> Self {
        us.sort_unstable();
        let at = |percent| f64::from(percentile(&us, percent)) / 1e3;
        Self { p50_ms: at(50), p99_ms: at(99), max_ms: at(100) }
    }
}

/// When changes were heard, from the moment at which the admin service begins to make them.
#[derive(Debug, Default, Serialize)]
pub struct Heard {
    /// How many: a quarter each another bundle, disabled, removed, installed again.
    pub count: u32,
    /// Until the admin service says that it is done.
    pub written: Times,
    /// By listener.
    pub by: BTreeMap<&'static str, Times>,
    /// The last of them, change by change.
    pub all: Times,
}

/// What a listener must come to know.
#[derive(Clone, Copy)]
enum Want {
    Bundle(ContentHash),
    Disabled,
    Removed,
    Enabled,
}

impl Want {
    fn is(self, change: &Change) -> bool {
        match (self, &change.now) {
            (Self::Bundle(hash), Some(install)) => install.version.content_hash == hash,
            (Self::Disabled, Some(install)) => !install.enabled,
            (Self::Enabled, Some(install)) => install.enabled,
            (Self::Removed, None) => true,
            _ => false,
        }
    }
}

type Report = (&'static str, Instant, Change);

/// Makes `count` changes (the next multiple of four), each when all have heard of the one before. Afterwards the installs are as
/// they were, but for their earlier versions.
pub async fn measure(
    subject: &Subject,
    writer: &Installs,
    shims: &[NatsRegistry; 2],
    workers: &[InstallFollower; 2],
    count: u32,
) -> anyhow::Result<Heard> {
    let count = count.next_multiple_of(KINDS);
    let (heard, mut reports) = mpsc::channel(1024);
    let [first, second] = shims;
    let [third, fourth] = workers;
    let receivers = [first.changes(), second.changes(), third.changes(), fourth.changes()];
    // They end with this set.
    let mut listeners: JoinSet<()> = LISTENERS
        .into_iter()
        .zip(receivers)
        .map(|(name, changes)| listen(name, changes, heard.clone()))
        .collect();
    drop(heard);
    let mut written = Vec::new();
    let mut by: BTreeMap<&'static str, Vec<u32>> = BTreeMap::new();
    let mut all = Vec::new();
    for number in 0..count {
        let began = Instant::now();
        let (want, install) =
            change(subject, writer, number).await.with_context(|| format!("change {number}"))?;
        written.push(us(began.elapsed()));
        let mut waiting = LISTENERS.to_vec();
        let mut last = 0;
        while !waiting.is_empty() {
            let next = tokio::time::timeout(LOST, reports.recv()).await;
            let next =
                next.with_context(|| format!("change {number} is not heard of by {}", waiting.join(", ")))?;
            let (name, at, change) = next.context("a listener has missed changes")?;
            let is_this =
                change.tenant == install.tenant && change.extension == install.extension && want.is(&change);
            if is_this && waiting.contains(&name) {
                waiting.retain(|other| *other != name);
                let took = us(at.saturating_duration_since(began));
                by.entry(name).or_default().push(took);
                last = last.max(took);
            }
        }
        all.push(last);
    }
    listeners.abort_all();
    let by = by.into_iter().map(|(name, us)| (name, Times::of(us))).collect();
    Ok(Heard { count, written: Times::of(written), by, all: Times::of(all) })
}

/// The four kinds in turn, of one install: the last makes it as it was.
async fn change<'s>(
    subject: &'s Subject,
    writer: &Installs,
    number: u32,
) -> anyhow::Result<(Want, &'s Install)> {
    let install = subject.at((number / KINDS) as usize)?;
    let (tenant, extension) = (&install.tenant, &install.extension);
    let want = match number % KINDS {
        0 => {
            let hash = hash_of(number as usize, 2);
            let put = |install: &mut Install| {
                install.version.content_hash = hash;
                Ok(())
            };
            writer.update(tenant, extension, put).await?;
            Want::Bundle(hash)
        }
        1 => {
            writer.set_enabled(tenant, extension, false).await?;
            Want::Disabled
        }
        2 => {
            writer.remove(tenant, extension).await?;
            Want::Removed
        }
        _ => {
            writer.create_or_update(install.clone()).await?;
            Want::Enabled
        }
    };
    Ok((want, install))
}

/// Notes when each change is heard; ends when it has missed some, or nobody wants to know any more.
async fn listen(name: &'static str, mut changes: broadcast::Receiver<Change>, heard: mpsc::Sender<Report>) {
    while let Ok(change) = changes.recv().await {
        if heard.send((name, Instant::now(), change)).await.is_err() {
            return;
        }
    }
}

fn us(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_change_is_recognised_by_what_it_did() {
        let subject = Subject::new().unwrap();
        let install = subject.at(0).unwrap();
        let change = |enabled| {
            let now = Install { enabled, ..install.clone() };
            Change { tenant: now.tenant.clone(), extension: now.extension.clone(), now: Some(Arc::new(now)) }
        };
        let removed = Change { now: None, ..change(true) };
        let hash = install.version.content_hash;
        for (want, of_enabled, of_disabled, of_removed) in [
            (Want::Bundle(hash), true, true, false),
            (Want::Bundle(hash_of(0, 9)), false, false, false),
            (Want::Enabled, true, false, false),
            (Want::Disabled, false, true, false),
            (Want::Removed, false, false, true),
        ] {
            let is = [change(true), change(false), removed.clone()].map(|change| want.is(&change));
            assert_eq!(is, [of_enabled, of_disabled, of_removed]);
        }
    }

    #[test]
    fn times_are_in_milliseconds_and_the_longest_is_the_last() {
        let times = Times::of((1..=200).map(|n| n * 1_000).collect());
        assert_eq!(times, Times { p50_ms: 100.0, p99_ms: 198.0, max_ms: 200.0 });
    }
}
