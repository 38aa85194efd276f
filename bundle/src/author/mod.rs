//! What an author's tools need: the strict check of a manifest ([`manifest`]), of a component ([`component`]), and a bundle made of a project's
//! folder ([`project`]) or read back ([`contents`]). The CLI packs with it; the admin service looks at what is uploaded with it.
//!
//! The rules are stricter than those for running: a bundle that exists runs if it can, a bundle that is being made gets every mistake shown, with
//! line and field, all of them at once.

pub mod component;
pub mod contents;
mod imports;
pub mod manifest;
mod problem;
pub mod project;
mod stage;

pub use component::{Component, HandlerKind};
pub use contents::{ContentsError, Entry, Reviewed, file, list, review};
pub use manifest::Checked;
pub use problem::{Problem, Severity, Where};
pub use project::{PackOptions, Packed, ProjectError, pack_project};
pub use stage::{LeftOut, StageError, Why};
