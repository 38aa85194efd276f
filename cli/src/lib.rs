//! The `longshore` command.
//!
//! - [`dev`]: everything on this machine, without containers: NATS, Redis, a bundle store, two workers, the shim.
//! - [`config_docs`]: the reference page of all settings, from the structs that read them.

pub mod child;
pub mod config_docs;
pub mod dev;
