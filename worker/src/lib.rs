//! The worker: admission -> engine -> host -> answer, and the debug publisher.

pub mod admit;
pub mod config;
pub mod debug;
pub mod engine;
pub mod events;
pub mod execute;
pub mod health;
pub mod host;
pub mod job;
pub mod limits;
pub mod metrics;
pub mod process;
pub mod recording;
