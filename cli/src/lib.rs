//! The `longshore` command.
//!
//! - [`app`]: the commands; [`output`] and [`exit`]: how they print and end.
//! - [`author`]: what authors of extensions need, without a fleet.
//! - [`dev`]: everything on this machine, without containers: NATS, Redis, a bundle store, two workers, the shim.
//! - [`config_docs`]: the reference page of all settings, from the structs that read them.

pub mod app;
pub mod author;
pub mod child;
pub mod config_docs;
pub mod dev;
pub mod exit;
pub mod output;
