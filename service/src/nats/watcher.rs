//! The state of a connection, as others see it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::readiness::Condition;

/// A connection as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Whether there is a connection. A silent loss shows up to 3 s late.
    pub connected: bool,
    /// Counts connections: 0 before the first, then one more for each. What was heard in another generation may have gaps.
    pub generation: u64,
    /// When `connected` last changed.
    pub since: Instant,
    /// How many messages were dropped because a subscription's buffer was full; any is an alarm.
    pub slow_consumers: u64,
    /// Why there is no connection, as far as the client tells.
    pub problem: Option<Arc<str>>,
}

/// Watches a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watcher(watch::Receiver<LinkState>);

impl Watcher {
    pub(super) fn new(receiver: watch::Receiver<LinkState>) -> Self {
        Self(receiver)
    }

    /// The state now.
    pub fn state(&self) -> LinkState {
        self.0.borrow().clone()
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.0.borrow().connected
    }

    /// The channel itself, for `select!`. It closes when the client has gone.
    pub fn receiver(&self) -> watch::Receiver<LinkState> {
        self.0.clone()
    }

    /// Waits for a connection of at least this generation (1 for any) and returns its state; `None` when the client has gone.
    pub async fn connected(&mut self, generation: u64) -> Option<LinkState> {
        let wanted = |state: &LinkState| state.connected && state.generation >= generation;
        self.0.wait_for(wanted).await.ok().map(|state| state.clone())
    }

    /// Keeps a readiness condition up to date until the client has gone.
    pub async fn report_to(mut self, condition: Condition) {
        loop {
            {
                let state = self.0.borrow_and_update();
                condition.set(state.connected, state.problem.as_deref().unwrap_or("not connected"));
            }
            if self.0.changed().await.is_err() {
                condition.set(false, "the client has ended");
                return;
            }
        }
    }
}
