//! Installs in a real nats-server, with the rights that admin service, gateways and workers have in production.

mod audit;
mod buckets;
mod follow;
mod installs;
mod reader;
mod support;
