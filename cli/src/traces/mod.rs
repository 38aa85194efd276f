//! Recorded runs: switched on and off, watched, listed, had again, handed on.
//!
//! - [`record`]: what is recorded; [`tail`]: what happens now; [`list`]: what has been recorded.
//! - [`replay`]: a run again, with [`step`] by step and [`corpus`] for many; [`verify`]: which share is bit-exact.
//! - [`share`]: a run as a file, and back; [`fetch`]: a run from the fleet, kept by [`vault`].

pub mod corpus;
pub mod fetch;
pub mod list;
pub mod record;
pub mod replay;
pub mod share;
pub mod step;
pub mod tail;
pub mod target;
pub mod values;
pub mod vault;
pub mod verify;
