//! Real guests through the executor: what they get, what they may use, what they leave behind.

mod artifacts;
mod limits;
mod output;
mod runs;
mod support;
