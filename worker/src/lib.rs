//! The worker: admission -> engine -> host -> answer, and the debug publisher.

pub mod admit;
pub mod job;
