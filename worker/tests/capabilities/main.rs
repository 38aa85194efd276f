//! Every host function through the sandbox, from the guest's call to what the other side records: what guests get for each
//! answer of an upstream (docs/capabilities.md is made from it), and hostile calls, of which nothing may leave.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers outside of test functions are tests too: a failure there shall stop the test"
)]

mod behaviour;
mod edges;
mod functions;
mod hostile;
mod names;
mod sizes;
#[path = "../taped/player.rs"]
mod strict;
mod support;
mod taped;
mod upstream;
