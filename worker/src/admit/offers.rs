//! Whom a full worker has bounced, and to whom it has promised a freed slot.

use std::collections::VecDeque;
use std::sync::Arc;

use longshore_proto::{BootId, TenantId};

/// A promised slot is kept this long: some tens of round trips in a data centre, and little enough that a shim which
/// no longer needs it costs nothing (design, step 3).
const RESERVED_MS: u64 = 20;
/// Whoever was bounced longer ago has found another worker, or waits for an announcement.
const REMEMBERED_MS: u64 = 2_000;
/// More than (shims x tenants) that can wait at one worker at a time in any sane fleet.
const MAX_BOUNCED: usize = 1_024;

/// Somebody who was told `busy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounced {
    /// The shim.
    pub shim: BootId,
    /// For which tenant: a shim is remembered once for each, so that the turn goes over tenants too.
    pub tenant: TenantId,
    /// Where the offer goes.
    pub inbox: Arc<str>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Offers {
    bounced: VecDeque<(Bounced, u64)>,
    reserved: Vec<(BootId, u64)>,
}

impl Offers {
    /// Somebody was told `busy`. Its place in the line is that of its first refusal.
    pub(super) fn remember(&mut self, now_ms: u64, who: Bounced) {
        if let Some((_, at)) =
            self.bounced.iter_mut().find(|(b, _)| b.shim == who.shim && b.tenant == who.tenant)
        {
            *at = now_ms;
        } else if self.bounced.len() < MAX_BOUNCED {
            self.bounced.push_back((who, now_ms));
        }
    }

    /// The next in line that `may_take` one of the slots left (its tenant, and how many are free and not promised yet), if there is one; a slot is
    /// then promised to it. Who could not be admitted keeps its place: an offer would only come back, and keep the slot from those who could.
    pub(super) fn next(
        &mut self,
        now_ms: u64,
        free: u32,
        may_take: impl Fn(&TenantId, u32) -> bool,
    ) -> Option<Bounced> {
        self.reserved.retain(|(_, until)| now_ms < *until);
        self.bounced.retain(|(_, at)| now_ms < at + REMEMBERED_MS);
        let left = free.saturating_sub(u32::try_from(self.reserved.len()).unwrap_or(u32::MAX));
        if left == 0 {
            return None;
        }
        let position = self.bounced.iter().position(|(who, _)| may_take(&who.tenant, left))?;
        let (who, _) = self.bounced.remove(position)?;
        self.reserved.push((who.shim, now_ms + RESERVED_MS));
        Some(who)
    }

    /// Slots promised to others than this shim.
    pub(super) fn reserved_for_others(&self, now_ms: u64, shim: Option<BootId>) -> u32 {
        let others =
            self.reserved.iter().filter(|(who, until)| now_ms < *until && Some(*who) != shim).count();
        u32::try_from(others).unwrap_or(u32::MAX)
    }

    /// A shim has come for its slot.
    pub(super) fn used(&mut self, shim: BootId) {
        if let Some(at) = self.reserved.iter().position(|(who, _)| *who == shim) {
            self.reserved.swap_remove(at);
        }
    }

    /// When the earliest promise ends.
    pub(super) fn next_end(&self) -> Option<u64> {
        self.reserved.iter().map(|(_, until)| *until).min()
    }
}
