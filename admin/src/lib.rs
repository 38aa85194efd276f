//! The admin service: installs, tokens, bundles and pools, for operators' programs, behind a token and on a listener of
//! its own.
//!
//! ```text
//! longshore install ... --HTTP--> routes --> installs --> registry (NATS), audit (NATS), warm (all workers of a pool)
//!                                       +--> bundles  --> bundle store, signatures
//!                                       +--> fleet    --> announcements, calls of all gateways
//!                                       +--> traces, events: recorded runs and debug events, in Redis
//!                                       +--> maintenance: uninstall, purge, collection
//! ```
//! One process a fleet: it alone writes installs and tokens, one change at a time. A second one harms nothing (every write is a
//! compare-and-set), but two operators' changes of the same install could then meet. Nothing serves calls through it: while it is away, the
//! fleet goes on as it is.
//!
//! Nothing is changed that is not in the audit stream. What cannot be taken back (a removal) is recorded before it is done, so an event may
//! stand for a removal that broke off and is done again; anything else is recorded after it is done, and undone if that fails.

pub mod api;
mod app;
mod bundles;
pub mod config;
mod events;
mod fleet;
mod http;
mod installs;
mod ledger;
mod maintenance;
pub mod openapi;
pub mod process;
mod routes;
mod traces;

pub use http::register_metrics;
