//! Redis stands still while runs are recorded.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::Written;
use crate::load::{self, Load, Plan, Target};
use crate::redis::Redis;
use crate::stats::percentile;

/// As many as a worker has slots: more would measure the waiting room.
const CONNECTIONS: usize = 8;
/// Before and after it.
const BESIDE: Duration = Duration::from_secs(5);
/// Connections are new.
const DISCARD: Duration = Duration::from_millis(300);

/// Calls of a recorded install before, while and after Redis answers nothing.
#[derive(Debug, Serialize)]
pub struct Stall {
    /// For how long it stood still.
    pub seconds: f64,
    /// Connections.
    pub connections: usize,
    /// Redis works.
    pub before: Phase,
    /// It stands still.
    pub during: Phase,
    /// It works again, and gets what has waited.
    pub after: Phase,
    /// In words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<String>,
    /// What found no room meanwhile.
    pub events_lost: u64,
    /// The same.
    pub traces_lost: u64,
}

/// One of the three.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Phase {
    /// Median, microseconds.
    pub p50_us: u32,
    /// 99th percentile.
    pub p99_us: u32,
    /// The longest.
    pub longest_us: u32,
    /// Calls answered by seconds.
    pub calls_per_s: f64,
    /// Calls that failed.
    pub failures: u64,
}

impl Phase {
    fn of(load: &mut Load) -> Self {
        load.latencies_us.sort_unstable();
        let sorted = &load.latencies_us;
        Self {
            p50_us: percentile(sorted, 50),
            p99_us: percentile(sorted, 99),
            longest_us: sorted.last().copied().unwrap_or_default(),
            calls_per_s: sorted.len() as f64 / load.elapsed.as_secs_f64().max(1e-9),
            failures: load.failures,
        }
    }
}

impl Stall {
    /// Calls that failed.
    pub fn failures(&self) -> u64 {
        [&self.before, &self.during, &self.after].map(|phase| phase.failures).iter().sum()
    }
}

/// See the module.
pub async fn measure(
    target: &Target,
    redis: &Redis,
    worker: SocketAddr,
    seconds: Duration,
) -> anyhow::Result<Stall> {
    let mut first_failure = None;
    let mut phase = async |measure| {
        let plan = Plan { connections: CONNECTIONS, discard: DISCARD, measure };
        let mut load = load::run(target.clone(), plan).await?;
        if let Some(failure) = load.first_failure.take() {
            first_failure.get_or_insert(failure);
        }
        anyhow::Ok(Phase::of(&mut load))
    };
    eprintln!(
        "{CONNECTIONS} connections: Redis works, stands still for {} s, works again",
        seconds.as_secs_f64()
    );
    let counted = Written::now(worker).await?;
    let before = phase(BESIDE.min(seconds)).await?;
    let stalled = redis.stall()?;
    let during = phase(seconds).await?;
    drop(stalled);
    let after = phase(BESIDE.min(seconds)).await?;
    let now = Written::now(worker).await?;
    Ok(Stall {
        seconds: seconds.as_secs_f64(),
        connections: CONNECTIONS,
        before,
        during,
        after,
        first_failure,
        events_lost: now.events_lost.saturating_sub(counted.events_lost),
        traces_lost: now.traces_lost.saturating_sub(counted.traces_lost),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_told_by_its_calls() {
        let mut load = Load {
            latencies_us: vec![30, 10, 20, 40],
            elapsed: Duration::from_secs(2),
            failures: 1,
            first_failure: None,
        };
        let expected = Phase { p50_us: 20, p99_us: 40, longest_us: 40, calls_per_s: 2.0, failures: 1 };
        assert_eq!(Phase::of(&mut load), expected);
        assert_eq!(Phase::of(&mut Load::default()), Phase::default());
    }
}
