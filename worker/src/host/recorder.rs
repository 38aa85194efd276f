//! Writes a run's trace.

/// The trace of one run, as it grows.
pub struct Recorder {}
