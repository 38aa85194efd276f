//! What a lookup costs, alone and while installs change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use longshore_proto::TenantId;
use longshore_proto::install::Install;
use longshore_registry::{Installs, Lookup, NatsRegistry, Registry};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use tokio::runtime::Handle;

use super::Plan;
use super::subject::Subject;
use crate::stats::percentile;

/// One measurement: many lookups, each timed by itself. The two looks at the clock are in each time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Round {
    /// The median, in nanoseconds.
    pub p50_ns: f64,
    /// 99th percentile.
    pub p99_ns: f64,
    /// The longest: mostly a thread that had to give up its core.
    pub max_ns: f64,
    /// CPU time of the thread by lookups.
    pub cpu_ns: f64,
}

/// All rounds of one kind of reference.
#[derive(Debug, Default, Serialize)]
pub struct LookedUp {
    /// What callers have said.
    pub by: &'static str,
    /// Nothing else was going on.
    pub quiet: Vec<Round>,
    /// Installs changed as fast as one writer can change them.
    pub changing: Vec<Round>,
    /// Changes by second meanwhile.
    pub changes_per_s: Vec<f64>,
}

/// A name for it, the text of an install, and whether it finds anything.
type Kind = (&'static str, fn(&Install) -> String, bool);

/// What callers say.
const KINDS: [Kind; 5] = [
    ("registry id", |install| install.extension.as_str().to_owned(), true),
    ("install id", |install| install.install_id.clone(), true),
    ("name", |install| install.version.name.clone(), true),
    // Callers may write it as they like.
    ("SLUG", |install| install.version.slug().to_uppercase(), true),
    ("none such", |install| format!("{}-x", install.version.name), false),
];

/// Looks up in `shim`, on a thread of its own, as a thread of a gateway does.
pub async fn measure(
    subject: &Subject,
    writer: &Installs,
    shim: NatsRegistry,
    plan: Plan,
    threads: &Handle,
) -> anyhow::Result<Vec<LookedUp>> {
    let shim: Arc<dyn Registry> = Arc::new(shim);
    let mut kinds = Vec::new();
    for (by, reference, finds) in KINDS {
        eprintln!("installs: lookups by {by}, {} rounds", plan.rounds);
        let asked = subject.installs().iter().map(|install| (install.tenant.clone(), reference(install)));
        let asked: Arc<Vec<_>> = Arc::new(asked.collect());
        let round = || look_up(&shim, &asked, finds, plan.lookups, threads);
        // Not counted.
        round().await?;
        let mut kind = LookedUp { by, ..LookedUp::default() };
        for _ in 0..plan.rounds {
            kind.quiet.push(round().await?);
            let (changed, per_s) = while_changing(subject, writer, round()).await?;
            kind.changing.push(changed);
            kind.changes_per_s.push(per_s);
        }
        kinds.push(kind);
    }
    Ok(kinds)
}

/// Runs `round` beside a writer that changes one install after the other; the changes by second too.
async fn while_changing(
    subject: &Subject,
    writer: &Installs,
    round: impl Future<Output = anyhow::Result<Round>>,
) -> anyhow::Result<(Round, f64)> {
    // Another value than any before, or nothing would be written.
    static VALUE: AtomicU64 = AtomicU64::new(1);
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let write = async {
        let mut count = 0_u32;
        while !stop.load(Ordering::Relaxed) {
            let value = VALUE.fetch_add(1, Ordering::Relaxed);
            let install = subject.at(usize::try_from(value)?)?;
            let put = move |install: &mut Install| {
                install.config.insert("bench".to_owned(), value.to_string());
                Ok(())
            };
            writer.update(&install.tenant, &install.extension, put).await?;
            count += 1;
        }
        anyhow::Ok(f64::from(count) / began.elapsed().as_secs_f64().max(1e-9))
    };
    let round = async {
        let round = round.await;
        stop.store(true, Ordering::Relaxed);
        round
    };
    let (round, per_s) = tokio::join!(round, write);
    Ok((round?, per_s.context("the writer")?))
}

async fn look_up(
    shim: &Arc<dyn Registry>,
    asked: &Arc<Vec<(TenantId, String)>>,
    finds: bool,
    count: u32,
    threads: &Handle,
) -> anyhow::Result<Round> {
    let (shim, asked, handle) = (Arc::clone(shim), Arc::clone(asked), threads.clone());
    let all = threads.spawn_blocking(move || handle.block_on(timed(&*shim, &asked, finds, count)));
    all.await.context("the lookups broke off")?
}

async fn timed(
    shim: &dyn Registry,
    asked: &[(TenantId, String)],
    finds: bool,
    count: u32,
) -> anyhow::Result<Round> {
    // Everything is there before the first: nothing but lookups happens between the two looks at the CPU's time.
    let mut ns: Vec<u32> = Vec::with_capacity(count as usize);
    let mut wrong = 0_u64;
    let cpu = cpu_ns();
    for (tenant, reference) in asked.iter().cycle().take(count as usize) {
        let began = Instant::now();
        let found = shim.find(tenant, reference).await;
        let took = began.elapsed();
        let right = match found? {
            Lookup::Found(install) => finds && install.tenant == *tenant,
            Lookup::Absent => !finds,
        };
        wrong += u64::from(!right);
        ns.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
    }
    let cpu = cpu_ns().saturating_sub(cpu);
    anyhow::ensure!(wrong == 0, "{wrong} of {count} lookups found something else than expected");
    Ok(round(ns, cpu))
}

fn round(mut ns: Vec<u32>, cpu: u64) -> Round {
    ns.sort_unstable();
    let at = |percent| f64::from(percentile(&ns, percent));
    Round { p50_ns: at(50), p99_ns: at(99), max_ns: at(100), cpu_ns: cpu as f64 / ns.len().max(1) as f64 }
}

/// Of this thread.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_its_percentiles_and_the_mean_of_its_cpu_time() {
        let round = round((1..=100).rev().collect(), 5_000);
        assert_eq!(round, Round { p50_ns: 50.0, p99_ns: 99.0, max_ns: 100.0, cpu_ns: 50.0 });
    }

    #[test]
    fn the_threads_cpu_time_grows_with_work() {
        let before = cpu_ns();
        let sum = (0..1_000_000_u64).fold(0_u64, |sum, n| std::hint::black_box(sum ^ n));
        assert!(cpu_ns() > before, "{sum}");
    }
}
