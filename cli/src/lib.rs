//! The `longshore` command.
//!
//! - [`app`]: the commands; [`output`] and [`exit`]: how they print and end.
//! - [`author`]: what authors of extensions need, without a fleet.
//! - [`dev`]: everything on this machine, without containers: NATS, Redis, a bundle store, two workers, the shim.
//! - [`fleet`]: commands on a running fleet; [`doctor`]: what is wrong with one.
//! - [`signing`]: keys and signatures.
//! - [`cli_docs`], [`config_docs`]: the reference pages, from the declarations of commands and settings.

pub mod app;
pub mod author;
pub mod child;
pub mod cli_docs;
pub mod config_docs;
pub mod dev;
mod developer;
pub mod doctor;
pub mod exit;
pub mod fleet;
pub mod output;
pub mod signing;
pub mod traces;
