//! What the end-to-end tests stand on: a real nats-server with `deploy/nats.conf`, a real redis-server, an S3 endpoint, and the built programs
//! `worker` and `gateway-shim` as child processes, each on a free port and with folders of its own.
//!
//! Everything is ended and removed when it is dropped; what the processes printed is shown when a test fails. Waiting is by readiness, by events and
//! by lines of a log; where nothing announces itself, by asking again until a limit ([`wait::until`]).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

pub mod admin;
pub mod browser;
pub mod call;
pub mod collector;
pub mod gateway;
pub mod http;
pub mod nats;
pub mod paths;
pub mod process;
pub mod redis;
pub mod service;
pub mod shell;
pub mod stack;
pub mod store;
pub mod wait;

pub use admin::Admin;
pub use browser::Browser;
pub use call::{Call, Extension, Reply};
pub use gateway::Caller;
pub use service::Service;
pub use shell::Shell;
pub use stack::Stack;
