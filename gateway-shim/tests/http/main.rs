//! The HTTP side over real sockets, with a hand-written dispatcher at its seam.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: what goes wrong in them fails the test"
)]

mod execute;
mod server;
mod streams;
mod support;
