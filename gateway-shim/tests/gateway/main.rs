//! `/api/ext` over real sockets, with hand-written registry, callers and dispatcher at its seams.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: what goes wrong in them fails the test"
)]

mod answers;
mod calls;
#[path = "../http/support.rs"]
#[allow(dead_code, reason = "shared with the tests of /v1/execute, which use the rest")]
mod http;
mod origins;
mod refusals;
mod support;
