//! Readiness as named conditions: a process is ready when every one of them holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// All conditions of a process. Cheap to clone.
#[derive(Clone)]
pub struct Readiness(Arc<watch::Sender<Conditions>>);

type Conditions = BTreeMap<&'static str, State>;

#[derive(Clone, PartialEq, Eq)]
struct State {
    ready: bool,
    why: String,
}

/// One condition, held by whoever knows whether it holds.
#[derive(Clone)]
pub struct Condition {
    all: Arc<watch::Sender<Conditions>>,
    name: &'static str,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Without conditions: ready.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Conditions::new())))
    }

    /// Adds a condition, which does not hold until it is set. The same name is the same condition.
    pub fn condition(&self, name: &'static str) -> Condition {
        self.0.send_modify(|all| {
            all.entry(name).or_insert_with(|| State { ready: false, why: "starting".to_owned() });
        });
        Condition { all: self.0.clone(), name }
    }

    /// Whether every condition holds.
    pub fn is_ready(&self) -> bool {
        self.0.borrow().values().all(|state| state.ready)
    }

    /// The conditions that do not hold, each with its reason.
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let all = self.0.borrow();
        all.iter().filter(|(_, state)| !state.ready).map(|(name, state)| (*name, state.why.clone())).collect()
    }

    /// Waits until every condition holds.
    pub async fn ready(&self) {
        let mut changes = self.0.subscribe();
        // An error would mean that the sender is gone, which `self` holds.
        let _ = changes.wait_for(|all| all.values().all(|state| state.ready)).await;
    }
}

impl Condition {
    /// Says whether the condition holds; `why` is shown while it does not. A change is logged, a repetition is not.
    pub fn set(&self, ready: bool, why: impl Into<String>) {
        // What held before is no reason once it holds.
        let why = if ready { String::new() } else { why.into() };
        self.all.send_if_modified(|all| {
            let state = State { ready, why };
            match all.get_mut(self.name) {
                Some(known) if *known == state => false,
                Some(known) => {
                    if known.ready != ready {
                        tracing::info!(condition = self.name, ready, why = state.why, "readiness changed");
                    }
                    *known = state;
                    true
                }
                None => all.insert(self.name, state).is_none(),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_means_that_every_condition_holds() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let nats = readiness.condition("nats");
        let store = readiness.condition("store");
        assert_eq!(readiness.missing(), [("nats", "starting".to_owned()), ("store", "starting".to_owned())]);
        nats.set(true, "");
        store.set(false, "connection refused");
        assert_eq!(readiness.missing(), [("store", "connection refused".to_owned())]);
        store.set(true, "");
        readiness.ready().await;
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_condition_can_fail_again_and_keeps_its_state_when_asked_for_twice() {
        let readiness = Readiness::new();
        readiness.condition("nats").set(true, "");
        let same = readiness.condition("nats");
        assert!(readiness.is_ready());
        same.set(false, "disconnected");
        assert_eq!(readiness.missing(), [("nats", "disconnected".to_owned())]);
    }
}
