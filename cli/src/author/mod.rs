//! Commands for authors, which need no fleet: [`new`], [`build`], [`pack`], [`files`] (`show --files`) and [`run`] (`call --bundle`).

pub mod build;
pub mod files;
mod memory;
pub mod new;
pub mod pack;
pub mod run;
