//! The admin service as it runs: its program, a real NATS server with the rights of `deploy/nats.conf`, a bundle store in a folder, Redis where
//! it matters. Workers and gateways are played: what they answer is the protocol's.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod access;
mod fleet;
mod installs;
mod maintenance;
#[path = "../../../trace/tests/support/mod.rs"]
mod run;
mod support;
mod traces;
