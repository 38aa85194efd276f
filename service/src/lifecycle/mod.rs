//! How a process lives and ends: every task has a name and an owner, and nothing ends unseen.
//!
//! Draining has two steps. `drain`: take nothing new, finish what runs. `force`: the grace period is over, end now.
//! A second signal ends the process at once.

mod outcome;
mod shutdown;
mod tasks;

pub use outcome::Outcome;
pub use shutdown::{Signal, Signals, run_until_shutdown};
pub use tasks::Tasks;
