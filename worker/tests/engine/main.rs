//! Real guests through the executor: what they get, what they may use, what they leave behind.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers outside of test functions are tests too: a failure there shall stop the test"
)]

mod artifacts;
mod http_guests;
mod limit_sources;
mod limits;
mod output;
mod runs;
mod shapes;
mod support;
mod world;
