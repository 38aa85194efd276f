//! wasmtime: the engine, what a run may use, and the way from a component's file to an instance.

pub mod artifacts;
mod bundles;
pub mod components;
pub mod config;
pub mod fault;
pub mod handler;
pub mod limits;
pub mod meter;
pub mod response;
pub mod runtime;
pub mod source;
pub mod stats;
pub mod ticker;
mod trusted;
