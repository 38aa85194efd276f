//! What changes.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::Value;

use crate::answer::Answer;
use crate::scheduler::Schedule;
use crate::seed::Seed;
use crate::storage::Storage;

/// Most installs that are kept: more are a test's mistake.
const MAX_INSTALLS: usize = 10_000;

/// Everything, behind one lock: a stub need not be fast.
pub(crate) struct State {
    pub(crate) seed: Seed,
    pub(crate) next_invoice: u32,
    pub(crate) rest: std::collections::BTreeMap<String, Vec<Value>>,
    installs: HashMap<String, Install>,
}

/// What belongs to an install.
pub(crate) struct Install {
    pub(crate) storage: Storage,
    pub(crate) schedules: Vec<Schedule>,
    /// When the current minute of schedule changes began, and how many there were.
    pub(crate) changes: Option<(Instant, u32)>,
}

impl State {
    pub(crate) fn new(seed: Seed) -> Self {
        let (next_invoice, rest) = (seed.first_invoice_number, seed.rest.clone());
        Self { seed, next_invoice, rest, installs: HashMap::new() }
    }

    /// The install, if there is one.
    pub(crate) fn install(&mut self, id: &str) -> Result<&mut Install, Answer> {
        self.known(id)?;
        if self.installs.len() >= MAX_INSTALLS && !self.installs.contains_key(id) {
            return Err(Answer::error(500, "INTERNAL_ERROR", "Internal error"));
        }
        let seed = &self.seed;
        Ok(self.installs.entry(id.to_owned()).or_insert_with(|| Install {
            storage: Storage::seeded(&seed.storage),
            schedules: Vec::new(),
            changes: None,
        }))
    }

    /// Whether the install exists.
    pub(crate) fn known(&self, id: &str) -> Result<(), Answer> {
        if id.is_empty() || !(self.seed.installs.is_empty() || self.seed.installs.iter().any(|i| i == id)) {
            return Err(Answer::error(404, "NOT_FOUND", "Install not found"));
        }
        Ok(())
    }
}
