//! Whether this worker should be chosen last: a machine that fails fast would otherwise attract every call.

use std::collections::VecDeque;

const WINDOW: usize = 20;

/// The last outcomes, and whether a run is overdue.
#[derive(Debug, Default)]
pub(super) struct Health {
    platform_faults: VecDeque<bool>,
    overdue: bool,
}

impl Health {
    /// A run ended; `platform_fault` if neither caller nor extension is to blame.
    pub(super) fn outcome(&mut self, platform_fault: bool) {
        if self.platform_faults.len() == WINDOW {
            self.platform_faults.pop_front();
        }
        self.platform_faults.push_back(platform_fault);
    }

    /// A run is a second past its deadline: the engine or the machine is stuck.
    pub(super) fn set_overdue(&mut self, overdue: bool) {
        self.overdue = overdue;
    }

    /// Half of the last 20 outcomes were platform faults, or a run is overdue.
    pub(super) fn unwell(&self) -> bool {
        self.overdue || self.platform_faults.iter().filter(|fault| **fault).count() >= WINDOW / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_platform_faults_among_the_last_twenty_make_it_unwell_and_successes_heal_it() {
        let mut health = Health::default();
        for _ in 0..9 {
            health.outcome(true);
        }
        assert!(!health.unwell());
        health.outcome(true);
        assert!(health.unwell());
        for _ in 0..11 {
            health.outcome(false);
        }
        assert!(!health.unwell());
    }
}
