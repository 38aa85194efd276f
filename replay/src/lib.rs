//! Runs a recorded call again, in process and without any server: every host call, clock, random number and stream
//! read is answered from the trace, and what the guest does otherwise than recorded is found, classified and shown.
//!
//! The way of a replay: [`script::Script`] takes a trace apart and checks it against its payloads; [`guest`] unpacks
//! the bundle; [`player::TracePlayer`] answers the worker's own host functions and writes down what was asked;
//! [`compare`] puts what was recorded beside what was asked; [`report::Report`] tells it. [`corpus`] and [`verify`] do
//! that for many.

pub mod compare;
pub mod corpus;
pub mod diff;
pub mod guest;
pub mod player;
mod printable;
pub mod replayer;
pub mod report;
pub mod script;
pub mod value;
pub mod verify;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use compare::{Class, Divergence};
pub use player::{Override, Step, StepAnswer, Stepper, Unmatched, parse_override};
pub use replayer::{Candidate, Options, Recorded, ReplayError, Replayer, ReplayerConfig};
pub use report::{Report, Verdict};
