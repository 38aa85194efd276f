//! Longshore end to end: real servers, the built programs as child processes, real guests. Every test brings its own set (`longshore_tests`).
//!
//! `cargo nextest run -p longshore-tests -E 'binary(e2e)'`, or `cargo test -p longshore-tests --test e2e`; `cargo build --workspace` first.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

mod bodies;
mod bundles;
mod canary;
mod cli;
mod control;
mod errors;
mod every_example;
mod examples;
mod faults;
mod gateway;
mod leaving;
mod limits;
mod load;
mod output;
mod queueing;
mod record;
mod redaction;
mod replay;
mod rights;
mod schedules;
mod services;
mod signatures;
mod tenants;
mod tracing;
mod walkthrough;
