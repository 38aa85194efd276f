//! UI assets, host dispatch, warm-up and the development host page, with a registry in memory and a folder as bundle store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: what goes wrong in them fails the test"
)]

mod assets;
mod chromium;
mod dev_host;
mod hints;
mod strict;
mod support;
mod tenants;
mod warm;
