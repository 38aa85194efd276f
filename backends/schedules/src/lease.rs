//! Which gateway fires: whoever holds the one lease. Pure; the caller reads and writes the lease's key and passes in its
//! own monotonic clock.
//!
//! No clock is compared with another's. The holder counts from before it sent a renewal and stops early; whoever waits counts the
//! whole time from when it first saw the last renewal. So as long as clocks run equally fast (a fifth of the lease is
//! spare), two never hold it together, however far apart their clocks stand.

use serde::{Deserialize, Serialize};

/// The key of the lease.
pub const KEY: &str = "scheduler";

/// How long a lease lasts without being renewed.
pub const TTL_MS: u64 = 15_000;

/// How often it is renewed by its holder, and looked at by the others. Five renewals may fail before it is lost.
pub const TURN_MS: u64 = 2_000;

/// A lease as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The holder; nobody when empty, after one has left.
    pub holder: String,
    /// How long it lasts.
    pub ttl_ms: u64,
}

/// One gateway's view of the lease.
#[derive(Debug)]
pub struct Lease {
    me: String,
    /// The last revision seen, what it says, and when it was first seen.
    seen: Option<(u64, Stored, u64)>,
    /// Whether there is no lease at all.
    absent: bool,
    held_until: Option<u64>,
}

impl Lease {
    /// Nothing is known yet.
    pub fn new(me: impl Into<String>) -> Self {
        Self { me: me.into(), seen: None, absent: false, held_until: None }
    }

    /// The key was read.
    pub fn read(&mut self, now_ms: u64, found: Option<(Stored, u64)>) {
        self.absent = found.is_none();
        match found {
            None => self.seen = None,
            // Reads may come from a replica that is behind.
            Some((_, revision)) if self.seen.as_ref().is_some_and(|(known, ..)| *known >= revision) => {}
            Some((stored, revision)) => {
                if stored.holder != self.me {
                    self.held_until = None;
                }
                self.seen = Some((revision, stored, now_ms));
            }
        }
    }

    /// The revision at which it should be written now, to renew or to take it; `None` if it is somebody else's.
    pub fn wants(&self, now_ms: u64) -> Option<u64> {
        let Some((revision, stored, since)) = &self.seen else { return self.absent.then_some(0) };
        // Bounded: a lease for a year was written by nobody's build.
        let over = || now_ms >= since.saturating_add(stored.ttl_ms.min(10 * TTL_MS));
        (stored.holder == self.me || stored.holder.is_empty() || over()).then_some(*revision)
    }

    /// What to write.
    pub fn value(&self) -> Stored {
        Stored { holder: self.me.clone(), ttl_ms: TTL_MS }
    }

    /// It was written, by an attempt that began at `sent_ms`.
    pub fn written(&mut self, sent_ms: u64, now_ms: u64, revision: u64) {
        self.absent = false;
        self.seen = Some((revision, self.value(), now_ms));
        self.held_until = Some(sent_ms + TTL_MS - TTL_MS / 5);
    }

    /// Somebody else was first: it must be read again.
    pub fn conflict(&mut self) {
        // It may be our own writing, whose answer got lost, or anybody's: reading tells.
        (self.seen, self.absent, self.held_until) = (None, false, None);
    }

    /// What to write, and at which revision, to give it up at once; it is not held any more.
    pub fn give_up(&mut self) -> Option<(Stored, u64)> {
        let held = self.held_until.take().is_some();
        let revision = self.seen.as_ref().map(|(revision, ..)| *revision)?;
        held.then(|| (Stored { holder: String::new(), ttl_ms: TTL_MS }, revision))
    }

    /// Until when it is held, by the caller's monotonic clock.
    pub fn held_until(&self) -> Option<u64> {
        self.held_until
    }

    /// Whether it is held.
    pub fn is_held(&self, now_ms: u64) -> bool {
        self.held_until.is_some_and(|until| now_ms < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(holder: &str) -> Stored {
        Stored { holder: holder.into(), ttl_ms: TTL_MS }
    }

    #[test]
    fn an_absent_lease_and_one_given_up_are_taken_at_once() {
        let mut lease = Lease::new("a");
        assert_eq!(lease.wants(0), None, "nothing is known yet");
        lease.read(0, None);
        assert_eq!(lease.wants(0), Some(0));
        lease.read(0, Some((stored(""), 7)));
        assert_eq!(lease.wants(0), Some(7));
    }

    #[test]
    fn anothers_lease_is_taken_only_when_it_has_not_moved_for_its_whole_time() {
        let mut lease = Lease::new("a");
        lease.read(1_000, Some((stored("b"), 1)));
        assert_eq!(lease.wants(1_000 + TTL_MS - 1), None);
        lease.read(14_000, Some((stored("b"), 2)));
        assert_eq!(lease.wants(1_000 + TTL_MS), None, "it was renewed");
        lease.read(15_000, Some((stored("b"), 1)));
        lease.read(16_000, Some((stored("b"), 2)));
        assert_eq!(lease.wants(14_000 + TTL_MS - 1), None);
        assert_eq!(lease.wants(14_000 + TTL_MS), Some(2));
    }

    #[test]
    fn the_holder_stops_by_its_own_clock_before_anybody_may_take_it() {
        let mut lease = Lease::new("a");
        lease.read(0, None);
        lease.written(100, 900, 1);
        assert!(lease.is_held(100 + TTL_MS / 5 * 4 - 1));
        assert!(!lease.is_held(100 + TTL_MS / 5 * 4), "counted from before the renewal was sent");
        // It may renew later all the same: by compare-and-set, if nobody has taken it.
        assert_eq!(lease.wants(100_000), Some(1));
    }

    #[test]
    fn a_lease_that_another_has_taken_is_not_held_any_more() {
        let mut lease = Lease::new("a");
        lease.written(0, 0, 1);
        lease.conflict();
        assert!(!lease.is_held(1));
        lease.written(0, 0, 3);
        lease.read(10, Some((stored("b"), 4)));
        assert!(!lease.is_held(11));
        assert_eq!(lease.wants(11), None);
    }

    #[test]
    fn a_renewal_whose_answer_was_lost_is_renewed_again() {
        let mut lease = Lease::new("a");
        lease.written(0, 0, 1);
        lease.conflict();
        lease.read(20, Some((stored("a"), 2)));
        assert!(!lease.is_held(20), "nobody knows when it was written");
        assert_eq!(lease.wants(20), Some(2));
    }

    #[test]
    fn giving_up_is_one_write_by_the_holder() {
        let mut lease = Lease::new("a");
        lease.read(0, Some((stored("b"), 1)));
        assert_eq!(lease.give_up(), None);
        lease.written(0, 0, 2);
        assert_eq!(lease.give_up(), Some((stored(""), 2)));
        assert!(!lease.is_held(1));
        assert_eq!(lease.give_up(), None);
    }
}
