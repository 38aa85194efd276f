//! The debug publisher: events of executions into Redis streams (interop 3.6 and 8), without ever holding up an
//! execution.
//!
//! ```text
//! emit (any thread) -> course of the run: entries -> queue (bounded, never waits) -> one task: batches of 500 events or 20 ms -> Redis
//! ```
//! What the queue cannot keep, or what was on its way when the connection broke, is counted for each stream and
//! announced in it (`kind` `dropped`). Nothing is sent twice: of a batch without an answer nobody knows how much was
//! written, and a consumer would take a repetition for a second event.

mod config;
mod course;
mod entry;
mod metrics;
mod publisher;
mod queue;
mod sink;
mod traces;

pub use config::DebugConfig;
pub use metrics::DebugMetrics;
pub use publisher::Publisher;
pub use traces::{RecordingConfig, TraceMetrics, TracePublisher};
