//! Schedules by the time at which they are due, and those that are due by tenant.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// See the module. A schedule is in it at most once; the caller remembers under which time.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// (time, tenant, key)
    later: BTreeSet<(i64, String, String)>,
    /// Of each tenant: (time, key). No tenant without any.
    due: BTreeMap<String, BTreeSet<(i64, String)>>,
    /// Whose turn it was last.
    last: String,
}

impl Queue {
    pub(super) fn add(&mut self, tenant: &str, at_ms: i64, key: &str) {
        self.later.insert((at_ms, tenant.to_owned(), key.to_owned()));
    }

    pub(super) fn remove(&mut self, tenant: &str, at_ms: i64, key: &str) {
        self.later.remove(&(at_ms, tenant.to_owned(), key.to_owned()));
        if let Some(keys) = self.due.get_mut(tenant) {
            keys.remove(&(at_ms, key.to_owned()));
            if keys.is_empty() {
                self.due.remove(tenant);
            }
        }
    }

    /// Moves what is due at `now_ms` to its tenant's queue.
    pub(super) fn ripen(&mut self, now_ms: i64) {
        while self.later.first().is_some_and(|(at, ..)| *at <= now_ms) {
            if let Some((at, tenant, key)) = self.later.pop_first() {
                self.due.entry(tenant).or_default().insert((at, key));
            }
        }
    }

    /// The one that has been due for longest, of the next tenant in turn that `may` have one.
    pub(super) fn take(&mut self, may: impl Fn(&str) -> bool) -> Option<(String, i64, String)> {
        let after = (Bound::Excluded(self.last.as_str()), Bound::Unbounded);
        let up_to = (Bound::Unbounded, Bound::Included(self.last.as_str()));
        let turns = self.due.range::<str, _>(after).chain(self.due.range::<str, _>(up_to));
        let tenant = { turns }.map(|(tenant, _)| tenant).find(|tenant| may(tenant))?.clone();
        let keys = self.due.get_mut(&tenant)?;
        let (at, key) = keys.pop_first()?;
        if keys.is_empty() {
            self.due.remove(&tenant);
        }
        self.last.clone_from(&tenant);
        Some((tenant, at, key))
    }

    /// When the next one becomes due that is not yet.
    pub(super) fn next_ms(&self) -> Option<i64> {
        self.later.first().map(|(at, ..)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_take_turns_and_each_begins_with_what_waits_longest() {
        let mut queue = Queue::default();
        for (tenant, at, key) in
            [("a", 3, "a3"), ("a", 1, "a1"), ("a", 2, "a2"), ("b", 9, "b9"), ("c", 11, "c11")]
        {
            queue.add(tenant, at, key);
        }
        queue.ripen(10);
        let mut order = Vec::new();
        while let Some((.., key)) = queue.take(|_| true) {
            order.push(key);
        }
        assert_eq!(order, ["a1", "b9", "a2", "a3"]);
        assert_eq!(queue.next_ms(), Some(11));
    }

    #[test]
    fn a_tenant_that_may_not_is_passed_over() {
        let mut queue = Queue::default();
        queue.add("a", 1, "a1");
        queue.add("b", 1, "b1");
        queue.ripen(1);
        assert_eq!(queue.take(|tenant| tenant == "b").unwrap().2, "b1");
        assert_eq!(queue.take(|tenant| tenant == "b"), None);
        queue.remove("a", 1, "a1");
        assert_eq!(queue.take(|_| true), None);
    }
}
