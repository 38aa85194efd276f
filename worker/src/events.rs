//! Where debug events go. The Redis publisher implements the trait; tests collect.

use std::sync::Arc;

use longshore_proto::event::DebugEvent;

/// Takes debug events. Called from host functions on the threads that run guests: an implementation must not block
/// and must not fail; what it cannot keep it counts.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn emit(&self, event: DebugEvent);

    /// Whether anything becomes of the events: if not, costly details are not made.
    fn is_watched(&self) -> bool {
        true
    }

    /// Where the events of one run, and of no other, are better sent; none: here.
    fn for_run(&self) -> Option<Arc<dyn EventSink>> {
        None
    }
}

/// Drops everything: for a worker without a debug store.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn emit(&self, _event: DebugEvent) {}

    fn is_watched(&self) -> bool {
        false
    }
}
