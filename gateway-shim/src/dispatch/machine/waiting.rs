//! The waiting room of one pool: one queue a tenant, served round robin by weight.

use std::collections::{HashMap, VecDeque};

use longshore_proto::{ExecutionId, ExtensionId, TenantId};

#[derive(Debug)]
struct Queue {
    calls: VecDeque<(ExecutionId, ExtensionId)>,
    weight: u32,
    /// Turns left before the next tenant is served.
    credit: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct WaitingRoom {
    queues: HashMap<TenantId, Queue>,
    /// Whose turn it is: the front. Every tenant with a queue is in it once.
    turns: VecDeque<TenantId>,
    by_extension: HashMap<(TenantId, ExtensionId), usize>,
    len: usize,
}

impl WaitingRoom {
    /// A call takes a place: behind its tenant's others, or before them if it had a place already and was bounced.
    pub(super) fn push(&mut self, who: (&TenantId, &ExtensionId), id: ExecutionId, weight: u32, front: bool) {
        let (tenant, extension) = who;
        let weight = weight.max(1);
        let queue = self.queues.entry(tenant.clone()).or_insert_with(|| {
            self.turns.push_back(tenant.clone());
            Queue { calls: VecDeque::new(), weight, credit: weight }
        });
        queue.weight = weight;
        if front {
            queue.calls.push_front((id, extension.clone()));
        } else {
            queue.calls.push_back((id, extension.clone()));
        }
        *self.by_extension.entry((tenant.clone(), extension.clone())).or_default() += 1;
        self.len += 1;
    }

    /// The next call by turn, of the tenants that `eligible` accepts for their first call. The tenant's turn counts
    /// only when a call is taken, so a tenant that cannot be placed now loses nothing.
    pub(super) fn next(
        &mut self,
        mut eligible: impl FnMut(&TenantId, ExecutionId) -> bool,
    ) -> Option<(TenantId, ExecutionId)> {
        let position = self.turns.iter().position(|tenant| {
            self.queues.get(tenant).and_then(|q| q.calls.front()).is_some_and(|(id, _)| eligible(tenant, *id))
        })?;
        let tenant = self.turns.get(position)?.clone();
        let queue = self.queues.get_mut(&tenant)?;
        let (id, extension) = queue.calls.pop_front()?;
        queue.credit = queue.credit.saturating_sub(1);
        let (empty, spent) = (queue.calls.is_empty(), queue.credit == 0);
        if spent {
            queue.credit = queue.weight;
        }
        if empty {
            self.queues.remove(&tenant);
            self.turns.remove(position);
        } else if spent {
            self.turns.remove(position);
            self.turns.push_back(tenant.clone());
        }
        self.uncount(&tenant, &extension);
        Some((tenant, id))
    }

    /// A call gives up its place.
    pub(super) fn remove(&mut self, tenant: &TenantId, id: ExecutionId) -> bool {
        let Some(queue) = self.queues.get_mut(tenant) else { return false };
        let Some(position) = queue.calls.iter().position(|(other, _)| *other == id) else { return false };
        let removed = queue.calls.remove(position);
        if queue.calls.is_empty() {
            self.queues.remove(tenant);
            self.turns.retain(|t| t != tenant);
        }
        if let Some((_, extension)) = removed {
            self.uncount(tenant, &extension);
        }
        true
    }

    /// Calls of one tenant and extension that wait here.
    pub(super) fn of_extension(&self, tenant: &TenantId, extension: &ExtensionId) -> usize {
        self.by_extension.get(&(tenant.clone(), extension.clone())).copied().unwrap_or(0)
    }

    /// Calls of one tenant that wait here.
    pub(super) fn of_tenant(&self, tenant: &TenantId) -> usize {
        self.queues.get(tenant).map_or(0, |q| q.calls.len())
    }

    /// All calls that wait here.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All of them, in no order.
    pub(super) fn all(&self) -> Vec<ExecutionId> {
        self.queues.values().flat_map(|q| q.calls.iter().map(|(id, _)| *id)).collect()
    }

    fn uncount(&mut self, tenant: &TenantId, extension: &ExtensionId) {
        self.len = self.len.saturating_sub(1);
        let key = (tenant.clone(), extension.clone());
        if let Some(n) = self.by_extension.get_mut(&key) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.by_extension.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ExecutionId {
        ExecutionId::from_bytes([n; 16])
    }

    fn room(calls: &[(&str, u8, u32)]) -> WaitingRoom {
        let mut room = WaitingRoom::default();
        for (tenant, n, weight) in calls {
            room.push((&tenant.parse().unwrap(), &"e".parse().unwrap()), id(*n), *weight, false);
        }
        room
    }

    fn order(room: &mut WaitingRoom) -> Vec<String> {
        std::iter::from_fn(|| room.next(|_, _| true)).map(|(tenant, _)| tenant.to_string()).collect()
    }

    #[test]
    fn a_flood_of_one_tenant_and_a_trickle_of_another_are_served_in_turns() {
        let mut room = room(&[("a", 1, 1), ("a", 2, 1), ("a", 3, 1), ("b", 4, 1)]);
        assert_eq!(order(&mut room), ["a", "b", "a", "a"]);
        assert_eq!(room.len(), 0);
    }

    #[test]
    fn a_weight_of_two_is_two_calls_a_turn() {
        let mut room = room(&[("a", 1, 2), ("a", 2, 2), ("a", 3, 2), ("b", 4, 1), ("b", 5, 1)]);
        assert_eq!(order(&mut room), ["a", "a", "b", "a", "b"]);
    }

    #[test]
    fn a_tenant_that_cannot_be_placed_is_passed_over_and_keeps_its_turn() {
        let mut room = room(&[("a", 1, 1), ("b", 2, 1), ("b", 3, 1)]);
        assert_eq!(room.next(|t, _| t.as_str() != "a").unwrap().0.as_str(), "b");
        assert_eq!(order(&mut room), ["a", "b"]);
    }

    #[test]
    fn a_bounced_call_goes_before_its_tenants_others() {
        let mut room = room(&[("a", 1, 1), ("a", 2, 1)]);
        let (tenant, first) = room.next(|_, _| true).unwrap();
        room.push((&tenant, &"e".parse().unwrap()), first, 1, true);
        assert_eq!(room.next(|_, _| true).unwrap().1, id(1));
    }

    #[test]
    fn counts_follow_what_leaves() {
        let mut room = room(&[("a", 1, 1), ("a", 2, 1), ("b", 3, 1)]);
        let (a, e) = ("a".parse().unwrap(), "e".parse().unwrap());
        assert!(room.remove(&a, id(1)));
        assert!(!room.remove(&a, id(1)));
        assert_eq!((room.of_tenant(&a), room.of_extension(&a, &e), room.len()), (1, 1, 2));
    }
}
