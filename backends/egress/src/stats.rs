//! Counters for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::Refusal;

/// What has happened so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressStats {
    /// Connections open now, idle ones included.
    pub open: u64,
    /// Connections made since the start.
    pub opened: u64,
    /// Requests that were given a connection made for an earlier one.
    pub reused: u64,
    /// Refused requests since the start, by reason.
    pub refused: Vec<(Refusal, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    open: AtomicU64,
    opened: AtomicU64,
    reused: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

impl Counters {
    pub(crate) fn refused(&self, refusal: Refusal) {
        for (known, count) in Refusal::ALL.iter().zip(&self.refused) {
            if *known == refusal {
                count.fetch_add(1, Relaxed);
            }
        }
    }

    pub(crate) fn reused(&self) {
        self.reused.fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> EgressStats {
        EgressStats {
            open: self.open.load(Relaxed),
            opened: self.opened.load(Relaxed),
            reused: self.reused.load(Relaxed),
            refused: Refusal::ALL.iter().zip(&self.refused).map(|(r, n)| (*r, n.load(Relaxed))).collect(),
        }
    }
}

/// Counts a connection for as long as it is open.
#[derive(Debug)]
pub(crate) struct Open(Arc<Counters>);

impl Open {
    pub(crate) fn new(counters: &Arc<Counters>) -> Self {
        counters.open.fetch_add(1, Relaxed);
        counters.opened.fetch_add(1, Relaxed);
        Self(counters.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
