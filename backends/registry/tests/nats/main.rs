//! Installs in a real nats-server, with the rights that admin service, gateways and workers have in production.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod audit;
mod buckets;
mod follow;
mod installs;
mod reader;
mod support;
