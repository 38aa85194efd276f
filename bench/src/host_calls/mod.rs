//! What a host call costs over the bare function that it ends in: gate, budget, span, metrics, event.
//!
//! One guest, `tests/guests/behaviours/callbench.rs`, calls one host function some thousand times in a row, in this
//! process and on a runtime like that for guests in `worker`. Three sides take turns: [`bare`], where wasmtime calls the
//! function's body and nothing else is there; and the worker's own executor without and with debug events ([`gated`]).
//! Everything else is the same, the values too, so what is between the sides is what the worker adds.

mod bare;
mod gated;
mod subject;
mod table;

use std::sync::Arc;

use anyhow::Context as _;
use serde::Serialize;
use tokio::runtime::Handle;

use crate::options::Options;
use crate::stats::Spread;
use bare::Bare;
use gated::Gated;
use subject::Subject;
pub use table::table;

/// What gate, budget, span, metrics and event of one host call may add to it, in microseconds.
const BAR_US: f64 = 10.0;

/// The functions: one that copies a small record, one that copies a larger one behind a `result`, one with an argument,
/// and one with two whose body awaits a trait object. None leaves the process.
const FUNCTIONS: [&str; 4] = ["context.get-context", "user.get-user", "secrets.get", "storage.get"];

/// One measurement: many calls of one function by one guest, by their number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Round {
    /// Nanoseconds of a call, by the clock.
    pub ns: f64,
    /// Nanoseconds of the guest's thread in a call: what others take away is not in it.
    pub cpu_ns: f64,
}

/// One function, all rounds.
#[derive(Debug, Default, Serialize)]
pub struct Measured {
    /// Its name in the interface.
    pub function: &'static str,
    /// The function's body alone.
    pub bare: Vec<Round>,
    /// Without debug events.
    pub quiet: Vec<Round>,
    /// With them.
    pub watched: Vec<Round>,
}

impl Measured {
    /// What a side has on top of the bare function, round by round: what slows the machine down for a while slows both.
    fn added(&self, side: &[Round], what: impl Fn(&Round) -> f64) -> Spread {
        Spread::of(side.iter().zip(&self.bare).map(|(side, bare)| what(side) - what(bare)))
    }
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct HostCalls {
    /// Calls of each measurement.
    pub calls: u64,
    /// Measurements of each side.
    pub rounds: usize,
    /// See [`BAR_US`].
    pub bar_us: f64,
    /// Debug events that found no room: cheaper than those that did, so there should be none.
    pub events_lost: u64,
    /// By function.
    pub functions: Vec<Measured>,
}

/// One of the three.
#[derive(Debug, Clone, Copy)]
enum Side {
    Bare,
    Quiet,
    Watched,
}

/// Measures on `guests`; debug events are written by the runtime that this is called on.
pub async fn measure(options: &Options, guests: &Handle) -> anyhow::Result<HostCalls> {
    log_nowhere()?;
    let subject = Arc::new(Subject::new(options.host_calls.get())?);
    let bare = Arc::new(Bare::new(Arc::clone(&subject)).context("the bare functions")?);
    let gated = Arc::new(Gated::start(Arc::clone(&subject)).await.context("the executor")?);
    let mut functions = Vec::new();
    for function in FUNCTIONS {
        let one = async |side| {
            gated.written().await?;
            let (bare, gated) = (Arc::clone(&bare), Arc::clone(&gated));
            let run = async move {
                match side {
                    Side::Bare => bare.run(function).await,
                    Side::Quiet => gated.run(function, false).await,
                    Side::Watched => gated.run(function, true).await,
                }
            };
            guests.spawn(run).await?.with_context(|| format!("{function}, {side:?}"))
        };
        eprintln!("host calls: {function}, {} rounds", options.host_call_rounds);
        let mut sides = [Side::Bare, Side::Quiet, Side::Watched];
        for side in sides {
            one(side).await?;
        }
        let mut measured = Measured { function, ..Measured::default() };
        for _ in 0..options.host_call_rounds.get() {
            // Whoever comes after the events finds the machine busier: that is not always the same.
            sides.rotate_left(1);
            for side in sides {
                let round = one(side).await?;
                match side {
                    Side::Bare => measured.bare.push(round),
                    Side::Quiet => measured.quiet.push(round),
                    Side::Watched => measured.watched.push(round),
                }
            }
        }
        functions.push(measured);
    }
    let events_lost = gated.end().await?;
    Ok(HostCalls {
        calls: options.host_calls.get(),
        rounds: options.host_call_rounds.get(),
        bar_us: BAR_US,
        events_lost,
        functions,
    })
}

/// As a worker logs, but for the last step, which would write into the table: with nobody who wants them spans would be
/// free, which they are not.
fn log_nowhere() -> anyhow::Result<()> {
    use tracing_subscriber::prelude::*;
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
    let filter = tracing_subscriber::EnvFilter::new("info");
    let layers = vec![lines.with_writer(std::io::sink).boxed()];
    tracing_subscriber::registry().with(layers).with(filter).try_init().context("logging was set up before")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_taken_of_the_measurements_of_one_round() {
        let rounds = |ns: [f64; 3]| ns.map(|ns| Round { ns, cpu_ns: 0.0 }).to_vec();
        let measured = Measured {
            bare: rounds([100.0, 900.0, 100.0]),
            watched: rounds([300.0, 1_100.0, 310.0]),
            ..Measured::default()
        };
        let added = measured.added(&measured.watched, |round| round.ns);
        assert_eq!(added, Spread { median: 200.0, min: 200.0, max: 210.0 });
    }
}
